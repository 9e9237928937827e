SECCOMP_TEST_O := $(patsubst %,$(O)/workers/task/seccomp/%.o,profile capability names compile default oci message json cache)
OBJ_test_seccomp := $(SECCOMP_TEST_O)
LIBS_test_seccomp := -lseccomp -ljson-c
OBJ_test_seccomp_behaviour := $(SECCOMP_TEST_O)
LIBS_test_seccomp_behaviour := -lseccomp -ljson-c
