OBJ_test_hostlocal := $(patsubst %,$(O)/workers/keeper/network/%.o,hostlocal)
