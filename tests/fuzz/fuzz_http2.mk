OBJ_fuzz_http2 := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_http2 := $(LIBS_api)
