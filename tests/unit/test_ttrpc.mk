OBJ_test_ttrpc := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_ttrpc := $(LIBS_api)
