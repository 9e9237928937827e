OBJ_fuzz_tar_push := $(O)/tests/fuzz/archive.o
