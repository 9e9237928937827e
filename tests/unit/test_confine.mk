OBJ_test_confine := $(patsubst %,$(O)/%.o,supervisor/privileges supervisor/print supervisor/filter supervisor/config \
		      workers/skeleton/confine workers/skeleton/root)
LIBS_test_confine := -lseccomp
