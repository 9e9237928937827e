OBJ_fuzz_filter := $(O)/workers/api/containerd/filter.o
LIBS_fuzz_filter := -lpcre2-8
