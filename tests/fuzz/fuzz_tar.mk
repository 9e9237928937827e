OBJ_fuzz_tar := $(patsubst %,$(O)/workers/snapshot/%.o,tar/tar tar/entry tar/header tar/pax tar/sparse unpack/path)
