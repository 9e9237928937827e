OBJ_fuzz_http2 := $(patsubst %,$(O)/workers/api/%.o,http2 head frame fields grpc resolve services cri/cri)
LIBS_fuzz_http2 := -lnghttp2
