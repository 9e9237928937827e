OBJ_fuzz_cri_v1 := $(O)/tests/fuzz/dialect.o $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_cri_v1 := $(LIBS_api)
