OBJ_fuzz_image := $(patsubst %,$(O)/workers/image/%.o,reference challenge hosts toml manifest image_config platform json)
LIBS_fuzz_image := -ljson-c
