# The image worker's pure modules.
IMG := $(O)/workers/image
OBJ_test_image_reference := $(IMG)/reference.o
OBJ_test_image_hosts := $(IMG)/hosts.o $(IMG)/toml.o
OBJ_test_image_challenge := $(IMG)/challenge.o
OBJ_test_image_platform := $(IMG)/platform.o
OBJ_test_image_manifest := $(IMG)/manifest.o $(IMG)/image_config.o $(IMG)/platform.o $(IMG)/json.o
LIBS_test_image_manifest := -ljson-c
