STORE_TEST_O := $(patsubst %,$(O)/workers/metadata/store/%.o,store database record salvage aside)
OBJ_test_store := $(STORE_TEST_O)
LIBS_test_store := -ltdb
