OBJ_fuzz_export_children := $(addprefix $(O)/workers/api/containerd/,export_children.o json_read.o)
LIBS_fuzz_export_children := -ljson-c
