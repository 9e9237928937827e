OBJ_test_api_clients := $(patsubst %,$(O)/workers/api/%.o,http2 server head frame fields grpc resolve services cri/cri)
LIBS_test_api_clients := -lnghttp2
