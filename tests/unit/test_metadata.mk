METADATA_TEST_O := $(filter-out $(O)/workers/metadata/main.o,$(call objects,$(call sources,metadata))) $(O)/tests/unit/metadata_lab.o
OBJ_test_metadata := $(METADATA_TEST_O)
LIBS_test_metadata := -ltdb
OBJ_test_object := $(METADATA_TEST_O)
LIBS_test_object := -ltdb
OBJ_test_metadata_units := $(METADATA_TEST_O)
LIBS_test_metadata_units := -ltdb
