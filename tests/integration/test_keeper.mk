OBJ_test_keeper := $(O)/tests/integration/keeper_lab.o
OBJ_test_keeper_adopt := $(O)/tests/integration/keeper_lab.o
OBJ_test_keeper_ends := $(O)/tests/integration/keeper_lab.o
OBJ_test_keeper_volumes := $(O)/tests/integration/keeper_lab.o
