OBJ_test_api_clients := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_api_clients := -lnghttp2 -lpcre2-8 -ljson-c
