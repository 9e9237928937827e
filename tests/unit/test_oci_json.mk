OBJ_test_oci_json := $(O)/workers/api/containerd/oci_json.o
LIBS_test_oci_json := -ljson-c
