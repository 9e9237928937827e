OBJ_test_network := $(patsubst %.c,$(O)/%.o,$(wildcard workers/keeper/network/*.c workers/task/cni/*.c)) \
		    $(O)/tests/integration/network_lab.o
LIBS_test_network := -ljson-c
