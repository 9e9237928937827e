OBJ_test_config := $(O)/supervisor/config.o
