OBJ_test_init := $(O)/workers/init/parameters.o
