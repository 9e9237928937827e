OBJ_test_http2_floods := $(O)/workers/api/http2.o $(O)/workers/api/head.o
LIBS_test_http2_floods := -lnghttp2
