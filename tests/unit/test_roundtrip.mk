OBJ_test_roundtrip := $(filter-out $(O)/workers/metadata/main.o,$(call objects,$(call sources,metadata))) $(O)/tests/unit/metadata_lab.o
LIBS_test_roundtrip := -ltdb
