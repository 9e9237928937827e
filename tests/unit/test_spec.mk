SPEC_TEST_O := $(patsubst %,$(O)/workers/metadata/%.o,check userns signal spec/spec spec/process spec/caps spec/mounts spec/linux spec/resources)
OBJ_test_spec := $(SPEC_TEST_O)
