OBJ_fuzz_export_children := $(O)/workers/api/containerd/export_children.o
LIBS_fuzz_export_children := -ljson-c
