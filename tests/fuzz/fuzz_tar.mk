OBJ_fuzz_tar := $(O)/tests/fuzz/archive.o $(patsubst %,$(O)/workers/snapshot/%.o,unpack/path)
