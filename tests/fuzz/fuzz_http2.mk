OBJ_fuzz_http2 := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_http2 := -lnghttp2 -lpcre2-8 -ljson-c
