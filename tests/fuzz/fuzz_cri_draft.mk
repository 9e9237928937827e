OBJ_fuzz_cri_draft := $(O)/tests/fuzz/dialect.o $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_cri_draft := $(LIBS_api)
