OBJ_test_task := $(patsubst %,$(O)/workers/task/%.o,sandbox rundir keeper ahead start stop create cdi container list info stream handlers stream update process) \
		 $(patsubst %,$(O)/workers/task/seccomp/%.o,profile capability names compile default oci message json cache)
LIBS_test_task := -lseccomp -ljson-c
