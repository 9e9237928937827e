LAB_O := $(O)/tests/integration/keeper_lab.o
OBJ_test_keeper := $(LAB_O)
OBJ_test_keeper_adopt := $(LAB_O)
OBJ_test_keeper_ends := $(LAB_O)
OBJ_test_keeper_bare := $(LAB_O) $(O)/tests/integration/bare_lab.o
OBJ_test_keeper_stdio := $(LAB_O) $(O)/tests/integration/bare_lab.o
OBJ_test_keeper_process := $(LAB_O) $(O)/tests/integration/bare_lab.o
OBJ_test_keeper_volumes := $(LAB_O)
