OBJ_fuzz_vhost := $(addprefix $(O)/workers/keeper/vm/,vhost.o packet.o)
