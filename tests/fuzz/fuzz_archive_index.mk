OBJ_fuzz_archive_index := $(O)/workers/api/containerd/archive_index.o
LIBS_fuzz_archive_index := -ljson-c
