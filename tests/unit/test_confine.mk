OBJ_test_confine := $(patsubst %,$(O)/%.o,supervisor/account supervisor/privileges supervisor/print \
		      supervisor/filter supervisor/config supervisor/endpoint \
		      workers/skeleton/confine workers/skeleton/root)
LIBS_test_confine := -lseccomp
