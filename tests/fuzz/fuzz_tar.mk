OBJ_fuzz_tar := $(patsubst %,$(O)/workers/snapshot/%.o,tar/tar tar/header tar/pax tar/sparse unpack/path)
