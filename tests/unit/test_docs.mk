OBJ_test_docs := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_docs := $(LIBS_api)
