OBJ_test_netlink := $(patsubst %,$(O)/workers/keeper/network/%.o,netlink address)
