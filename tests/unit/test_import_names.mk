OBJ_test_import_names := $(addprefix $(O)/workers/api/containerd/,import_names.o)
