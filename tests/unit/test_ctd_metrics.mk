OBJ_test_ctd_metrics := $(filter-out $(O)/workers/api/main.o,$(call objects,$(call sources,api)))
LIBS_test_ctd_metrics := $(LIBS_api)
