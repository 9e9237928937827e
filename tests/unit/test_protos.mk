# Every generated object, so that two of one name can't go unnoticed in the archive.
OBJ_test_protos := $(PROTO_O)
