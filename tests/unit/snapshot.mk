# The snapshot worker's modules.
SNAP := $(O)/workers/snapshot
SNAP_UNPACK := $(patsubst %,$(SNAP)/%.o,decode/decode decode/gzip decode/zstd decode/digest unpack/unpack \
	unpack/extract unpack/folders unpack/attributes unpack/path unpack/report jail)
OBJ_test_unpack := $(SNAP_UNPACK)
LIBS_test_unpack := $(LIBS_snapshot)
OBJ_test_jail := $(SNAP)/jail.o
OBJ_test_snapshot := $(filter-out $(SNAP)/main.o,$(patsubst %.c,$(O)/%.o,$(wildcard workers/snapshot/*.c workers/snapshot/*/*.c)))
OBJ_test_snapshot += $(patsubst %,$(O)/%.o,supervisor/account supervisor/privileges supervisor/filter supervisor/config \
	supervisor/endpoint workers/skeleton/confine workers/skeleton/root)
LIBS_test_snapshot := $(LIBS_snapshot) -lseccomp

$(O)/bench_snapshot: $(filter-out $(SNAP)/main.o,$(patsubst %.c,$(O)/%.o,$(wildcard workers/snapshot/*.c workers/snapshot/*/*.c)))
$(O)/bench_snapshot: LIBS := $(LIBIPC) $(LIBS_snapshot) $(LIBS)
OBJ_test_commit := $(filter-out $(SNAP)/main.o,$(patsubst %.c,$(O)/%.o,$(wildcard workers/snapshot/*.c workers/snapshot/*/*.c)))
LIBS_test_commit := $(LIBS_snapshot)
OBJ_test_encode := $(SNAP_UNPACK) $(SNAP)/encode.o
LIBS_test_encode := $(LIBS_snapshot)
