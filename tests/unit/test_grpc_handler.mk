OBJ_test_grpc_handler := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_grpc_handler := $(LIBS_api)
