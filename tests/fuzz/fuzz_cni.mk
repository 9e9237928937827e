OBJ_fuzz_cni := $(patsubst %.c,$(O)/%.o,$(wildcard workers/task/cni/*.c)) \
		$(patsubst %,$(O)/workers/keeper/network/%.o,result)
LIBS_fuzz_cni := -ljson-c
