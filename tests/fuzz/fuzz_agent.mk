OBJ_fuzz_agent := $(O)/tests/fuzz/dialect.o $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_agent := $(LIBS_api)
