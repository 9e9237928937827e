OBJ_test_guest_setup := $(filter-out $(O)/workers/guest/main.o $(O)/workers/guest/job.o,$(call objects,$(call sources,guest)))
