OBJ_test_folders := $(patsubst %,$(O)/supervisor/%.o,folders vsock_listener serial_listener account privileges filter config endpoint)
LIBS_test_folders := -lseccomp
