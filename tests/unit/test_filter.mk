OBJ_test_filter := $(O)/workers/api/containerd/filter.o
LIBS_test_filter := -lpcre2-8
