OBJ_fuzz_spdy := $(patsubst %,$(O)/workers/stream/%.o,spdy spdy_headers)
LIBS_fuzz_spdy := -lz
