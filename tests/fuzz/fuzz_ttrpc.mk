OBJ_fuzz_ttrpc := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_ttrpc := $(LIBS_api)
