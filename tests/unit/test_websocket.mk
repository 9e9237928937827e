OBJ_test_websocket := $(patsubst %,$(O)/workers/stream/%.o,websocket base64 sha1 json http upgrade)
LIBS_test_websocket := -lwslay
