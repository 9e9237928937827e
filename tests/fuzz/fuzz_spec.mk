OBJ_fuzz_spec := $(patsubst %,$(O)/workers/metadata/%.o,check userns signal spec/spec spec/process spec/caps spec/mounts spec/linux spec/resources)
