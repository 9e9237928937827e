OBJ_test_grpc := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_grpc := $(LIBS_api)
