OBJ_fuzz_tar := $(patsubst %,$(O)/workers/snapshot/%.o,unpack/path)
