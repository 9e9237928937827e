OBJ_test_ttrpc_client := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_ttrpc_client := $(LIBS_api)
