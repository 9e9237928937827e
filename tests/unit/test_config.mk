OBJ_test_config := $(patsubst %,$(O)/supervisor/%.o,config endpoint account)
