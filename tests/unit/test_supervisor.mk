OBJ_test_supervisor := $(patsubst %,$(O)/%.o,tests/unit/fake_workers \
			 $(addprefix workers/skeleton/,worker control confine root))
$(O)/tests/test_supervisor: | $(O)/bulkheadd
