OBJ_test_grpc_parts := $(O)/workers/api/head.o $(O)/workers/api/fields.o $(O)/workers/api/frame.o
