OBJ_test_cni := $(patsubst %.c,$(O)/%.o,$(wildcard workers/task/cni/*.c))
LIBS_test_cni := -ljson-c
