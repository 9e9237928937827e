OBJ_fuzz_containerd_seed := $(O)/tests/fuzz/dialect.o $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_containerd_seed := $(LIBS_api)
