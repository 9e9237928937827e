OBJ_fuzz_cdi := $(O)/workers/task/cdi.o
LIBS_fuzz_cdi := -ljson-c
