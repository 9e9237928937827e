OBJ_test_grpc := $(patsubst %,$(O)/workers/api/%.o,http2 head frame fields grpc resolve services cri/cri)
LIBS_test_grpc := -lnghttp2
