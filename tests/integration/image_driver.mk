# All of the image worker but its main, driven by test_image_registry.py.
OBJ_image_driver := $(filter-out $(O)/workers/image/main.o,$(patsubst %.c,$(O)/%.o,$(wildcard workers/image/*.c)))

$(O)/tests/image_driver: $(O)/tests/integration/image_driver.o $(OBJ_image_driver) $(LIBIPC)
	@mkdir -p $(dir $@)
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_image) $(LIBS)

tests: $(O)/tests/image_driver
