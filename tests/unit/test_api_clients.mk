OBJ_test_api_clients := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_api_clients := $(LIBS_api)
