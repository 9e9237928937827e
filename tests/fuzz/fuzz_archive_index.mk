OBJ_fuzz_archive_index := $(addprefix $(O)/workers/api/containerd/,archive_index.o json_read.o)
LIBS_fuzz_archive_index := -ljson-c
