OBJ_test_spdy := $(patsubst %,$(O)/workers/stream/%.o,spdy spdy_headers)
LIBS_test_spdy := -lz
