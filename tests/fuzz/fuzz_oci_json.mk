OBJ_fuzz_oci_json := $(O)/workers/api/containerd/oci_json.o
LIBS_fuzz_oci_json := -ljson-c
