OBJ_fuzz_dialect := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_fuzz_dialect := -lnghttp2 -lpcre2-8 -ljson-c
