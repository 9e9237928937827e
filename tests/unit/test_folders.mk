OBJ_test_folders := $(patsubst %,$(O)/supervisor/%.o,folders privileges filter config)
LIBS_test_folders := -lseccomp
