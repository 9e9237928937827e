# bulkhead: build, test, install. `make help` lists what a person looks for.
#
#   VARIANT=plain|asan|ubsan|debug   CC=gcc|clang   V=1 shows the commands
#
# One plain Makefile: each folder of workers/ is one executable, bulkhead-NAME;
# ipc/ and the generated protobuf code are one archive that all of them link.

VARIANT ?= plain
CC      ?= gcc
O       := build/$(VARIANT)$(if $(findstring clang,$(CC)),-clang)
PREFIX  ?= /usr
DESTDIR ?=

CFLAGS_plain := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong
CFLAGS_debug := -O0 -g3
CFLAGS_agent := -Os -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -ffunction-sections -fdata-sections \
		-fno-asynchronous-unwind-tables
CFLAGS_asan  := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
CFLAGS_fuzz  := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
# protobuf-c's initialisers name each field, deprecated ones too.
WARN    := -Wno-unknown-warning-option -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
	   -Wno-unused-parameter -Wno-missing-field-initializers -Wno-format-truncation -Wno-deprecated-declarations -Werror
CFLAGS  := -std=c11 -D_GNU_SOURCE $(CFLAGS_$(VARIANT)) $(EXTRA_CFLAGS)
CPPFLAGS := -Iipc -I. -I$(O)/proto
comma   := ,
LDFLAGS := $(if $(filter asan fuzz,$(VARIANT)),-fsanitize=address$(comma)undefined) -Wl,-z,relro,-z,now
Q       := $(if $(V),,@)
# What a person asks for by one word is built by all processors.
BUILD   := $(MAKE) --no-print-directory -j$(shell nproc)

# --- what is built ---------------------------------------------------------

PROTOS   := $(wildcard proto/*/*.proto)
# Google's own messages, that others' APIs use, come with Debian's libprotobuf-dev.
GOOGLE   := any duration empty field_mask timestamp
PROTO_C  := $(PROTOS:proto/%.proto=$(O)/proto/%.pb-c.c) $(GOOGLE:%=$(O)/proto/google/protobuf/%.pb-c.c)
PROTO_O  := $(PROTO_C:.c=.o)
IPC_O    := $(patsubst %.c,$(O)/%.o,$(wildcard ipc/*/*.c))
SKEL_O   := $(patsubst %.c,$(O)/%.o,$(wildcard workers/skeleton/*.c))
LIBIPC   := $(O)/libbulkhead.a

WORKERS  := api metadata image snapshot task stream systemd guest keeper
# Those of a guest's agent, which are in one executable there.
AGENT_WORKERS := api metadata task guest keeper
TOOLS    := bulkhead churn
PROGRAMS := $(O)/bulkheadd $(WORKERS:%=$(O)/bulkhead-%) $(O)/bulkhead $(O)/bulkhead-churn

# Sanitizers bring an allocator of their own.
JEMALLOC := $(if $(filter asan,$(VARIANT)),,-ljemalloc)
# liburing's shared object of Debian 12 lacks io_uring_register_restrictions.
LIBS     := -lprotobuf-c -l:liburing.a -lcap
LIBS_supervisor := -lseccomp
LIBS_api      := -lnghttp2 -lpcre2-8 -ljson-c
LIBS_metadata := -ltdb
LIBS_image    := -lcurl -lcrypto -ljson-c
LIBS_snapshot := -lisal -lzstd -l:libcrypto.a
LIBS_task     := -lseccomp -ljson-c
LIBS_systemd  := -lsystemd
LIBS_stream   := -lwslay -lz
LIBS_keeper   := -ljson-c
LIBS_tools    := -lnghttp2 -lpthread
# Keepers are many and must be small: static, and glibc's allocator.
LDFLAGS_keeper := $(if $(filter asan,$(VARIANT)),,-static)

.PHONY: all
all: $(PROGRAMS)

# Each table of services is another program's.
sources = $(filter-out workers/api/services_agent.c,$(wildcard workers/$(1)/*.c workers/$(1)/*/*.c))
objects = $(patsubst %.c,$(O)/%.o,$(1))

define WORKER
OBJ_$(1) := $$(call objects,$$(call sources,$(1))) $$(SKEL_O)
$$(O)/bulkhead-$(1): $$(OBJ_$(1)) $$(LIBIPC)
	@echo "  LD   $$@"
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) $$(LDFLAGS_$(1)) -o $$@ $$^ $$(LIBS_$(1)) $$(LIBS) $$(if $$(LDFLAGS_$(1)),,$$(JEMALLOC))
endef
$(foreach w,$(WORKERS),$(eval $(call WORKER,$(w))))

SUP_O := $(call objects,$(wildcard supervisor/*.c))
$(O)/bulkheadd: $(SUP_O) $(LIBIPC)
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_supervisor) $(LIBS) $(JEMALLOC)

# --- the guest's agent -----------------------------------------------------
# The same processes in one small static executable, that has no dialect but the
# agent's. Each is linked by itself first, and all names but its main's are made
# its own. What nobody leads to is left out.

AGENT_PARTS := supervisor $(AGENT_WORKERS)
AGENT_SRC_api := $(wildcard workers/api/*.c workers/api/agent/*.c)
OBJ_agent_supervisor := $(SUP_O)
OBJ_agent_api := $(call objects,$(filter-out workers/api/services.c workers/api/%http2.c workers/api/%http2_stream.c,$(AGENT_SRC_api)))
$(foreach w,$(filter-out api,$(AGENT_WORKERS)),$(eval OBJ_agent_$(w) := $(call objects,$(call sources,$(w)))))

define AGENT_PART
$(O)/agent/$(1).o: $$(OBJ_agent_$(1))
	@mkdir -p $$(dir $$@)
	$$(Q)$$(LD) -r -o $$@ $$^
	$$(Q)objcopy --redefine-sym main=$(1)_program --keep-global-symbol=$(1)_program $$@
endef
$(foreach p,$(AGENT_PARTS),$(eval $(call AGENT_PART,$(p))))

$(O)/bulkhead-agent: $(AGENT_PARTS:%=$(O)/agent/%.o) $(call objects,$(wildcard workers/init/*.c)) $(SKEL_O) $(LIBIPC)
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -static -Wl,--gc-sections -o $@.debug $^ \
		-lseccomp -ljson-c -ltdb $(LIBS)
	$(Q)strip -o $@ $@.debug

# The guest's first file system: the agent as its init, and modules of its kernel.
KERNEL_MODULES ?= $(firstword $(wildcard build/guest/lib/modules/*))
GUEST_MODULES  := virtio_pci virtio_mmio virtio_console virtio_blk virtio_net virtiofs overlay erofs \
		  vmw_vsock_virtio_transport
UML_MODULES    ?= $(firstword $(wildcard build/uml/usr/lib/uml/modules/*))
$(O)/bulkhead-initrd: $(call objects,$(wildcard tools/initrd/*.c)) $(LIBIPC)
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(O)/initrd.cpio: $(O)/bulkhead-agent $(O)/bulkhead-initrd
	$(Q)$(O)/bulkhead-initrd $(if $(KERNEL_MODULES),-m $(KERNEL_MODULES) -l "$(GUEST_MODULES)") $(O)/bulkhead-agent $@

$(O)/initrd-uml.cpio: $(O)/bulkhead-agent $(O)/bulkhead-initrd
	$(Q)$(O)/bulkhead-initrd -m $(UML_MODULES) -l "$(GUEST_MODULES)" $(O)/bulkhead-agent $@

.PHONY: agent initrd
agent:
	@$(BUILD) VARIANT=agent build/agent/bulkhead-agent build/agent/bulkhead-initrd

initrd: agent
	@rm -f build/agent/initrd*.cpio
	@$(BUILD) VARIANT=agent build/agent/initrd.cpio $(if $(UML_MODULES),build/agent/initrd-uml.cpio)

CLIENT_O := $(call objects,$(wildcard tools/client/*.c))
$(O)/bulkhead: $(call objects,$(wildcard tools/bulkhead/*.c)) $(CLIENT_O) $(LIBIPC)
$(O)/bulkhead-churn: $(call objects,$(wildcard tools/churn/*.c)) $(CLIENT_O) $(LIBIPC)
$(O)/bulkhead $(O)/bulkhead-churn:
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_tools) $(LIBS)

$(LIBIPC): $(IPC_O) $(PROTO_O)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(O)/proto/%.pb-c.c $(O)/proto/%.pb-c.h: proto/%.proto
	@mkdir -p $(dir $@)
	$(Q)protoc-c -Iproto -I/usr/include --c_out=$(O)/proto $*.proto

$(O)/proto/google/%.pb-c.c $(O)/proto/google/%.pb-c.h: /usr/include/google/%.proto
	@mkdir -p $(dir $@)
	$(Q)protoc-c -I/usr/include --c_out=$(O)/proto google/$*.proto
.PRECIOUS: $(O)/proto/%.pb-c.c $(O)/proto/%.pb-c.h

$(O)/proto/%.pb-c.o: $(O)/proto/%.pb-c.c | $(PROTO_C)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# protobuf-c names types and descriptors differently; this maps one to the other.
DESCRIPTORS := $(O)/proto/descriptors.h
$(DESCRIPTORS): $(PROTO_C) tools/descriptors.awk
	$(Q)awk -f tools/descriptors.awk $(PROTO_C:.c=.h) > $@

# Generated headers first, for everything that may include them.
$(O)/%.o: %.c | $(PROTO_C) $(DESCRIPTORS)
	@mkdir -p $(dir $@)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -MMD -MP -c -o $@ $<

# --- tests -----------------------------------------------------------------
# tests/unit/test_X.c and tests/integration/test_X.c are programs, and so are
# the .py files beside them; LIBS_test_X and OBJ_test_X (in a .mk file beside
# them) add what a program needs beyond ipc/. All print TAP.

-include $(wildcard tests/unit/*.mk tests/integration/*.mk)
TEST_C    := $(wildcard tests/unit/test_*.c tests/integration/test_*.c)
TESTS     := $(patsubst %.c,$(O)/tests/%,$(notdir $(TEST_C)))
TESTS_PY  := $(wildcard tests/unit/test_*.py tests/integration/test_*.py tests/clients/test_*.py)
CRASH     := $(wildcard tests/crash/test_*.py)

define TEST
$(O)/tests/$(notdir $(1:.c=)): $(1:%.c=$(O)/%.o) $(OBJ_$(notdir $(1:.c=))) $(LIBIPC)
	@mkdir -p $$(dir $$@)
	@echo "  LD   $$@"
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(LIBS_$(notdir $(1:.c=))) $$(LIBS)
endef
$(foreach t,$(TEST_C),$(eval $(call TEST,$(t))))

# tests/fuzz/fuzz_X.c is a harness; its program replays tests/fuzz/corpus/fuzz_X.
# With CC=clang VARIANT=fuzz it is libFuzzer's, which `make fuzz-run` runs.
-include $(wildcard tests/fuzz/*.mk)
FUZZ_C      := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ        := $(FUZZ_C:tests/fuzz/%.c=$(O)/fuzz/%)
FUZZ_REPLAY := $(if $(filter fuzz,$(VARIANT)),,$(O)/tests/fuzz/replay.o)
FUZZ_RUN    := tests/fuzz/run.py

define FUZZER
$(O)/fuzz/$(1): $(O)/tests/fuzz/$(1).o $(FUZZ_REPLAY) $(OBJ_$(1)) $(LIBIPC)
	@mkdir -p $$(dir $$@)
	@echo "  LD   $$@"
	$$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) $(if $(FUZZ_REPLAY),,-fsanitize=fuzzer) -o $$@ $$^ $$(LIBS_$(1)) $$(LIBS)
endef
$(foreach f,$(FUZZ_C:tests/fuzz/%.c=%),$(eval $(call FUZZER,$(f))))

.PHONY: fuzz fuzzers fuzz-run fuzz-merge
fuzz: $(FUZZ)

fuzzers:
	@$(BUILD) fuzz CC=clang VARIANT=fuzz

# SECONDS=60 for each, ONLY=name picks some.
fuzz-run: fuzzers
	@/usr/bin/python3 $(FUZZ_RUN)

# What fuzz-run found goes into the committed corpora, as few inputs as keep the coverage.
fuzz-merge: fuzzers
	@/usr/bin/python3 $(FUZZ_RUN) --merge

$(O)/bench_%: $(O)/tests/bench/bench_%.o $(LIBIPC)
	@echo "  LD   $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

export SECONDS ONLY

.PHONY: setup setup-demo tests test check crash demo bench
setup:
	@tools/setup test

setup-demo:
	@tools/setup demo

tests: all $(TESTS) $(FUZZ) $(O)/bulkhead-initrd

# Everything, from nothing: installs, builds, runs, and fuzzes for a while.
test: setup
	@$(MAKE) --no-print-directory fuzzers
	@$(BUILD) check ALSO=$(FUZZ_RUN)

# Runs the tests of what is installed already. ONLY=name picks some of them.
check: tests $(if $(ONLY),$(if $(findstring $(ONLY),test_vm_agent test_vm_pod test_vm_sandbox test_vm_uml test_hypervisor),initrd),initrd)
	@BULKHEAD_BUILD=$(abspath $(O)) tests/run $(foreach t,$(TESTS) $(FUZZ) $(TESTS_PY) $(CRASH) $(ALSO),$(if $(ONLY),$(if $(findstring $(ONLY),$(t)),$(t)),$(t)))

crash: tests
	@BULKHEAD_BUILD=$(abspath $(O)) tests/run $(CRASH)

demo: setup-demo
	@$(BUILD) all
	@BULKHEAD_BUILD=$(abspath $(O)) tools/demo

bench: setup-demo
	@$(BUILD) all $(O)/bench_ring
	@BULKHEAD_BUILD=$(abspath $(O)) tools/bench

# --- care ------------------------------------------------------------------

C_FILES = $(shell find ipc supervisor workers tools tests -name '*.[ch]')
SH_FILES = $(shell grep -lsE '^#!.*(bash|/sh)$$' tools/* tests/* .ci/*) tools/sandbox.sh

# It doesn't know what is freed at a block's end, nor that the table of messages is read with several MSG.
UNSURE := missingInclude varFuncNullUB resourceLeak unknownMacro:ipc/msg/messages.def

.PHONY: lint format
lint:
	@tools/setup lint
	@tools/check-direction
	@clang-format --dry-run -Werror $(C_FILES)
	@shellcheck -x -S warning $(SH_FILES)
	@cppcheck --quiet --error-exitcode=1 -j$(shell nproc) --inline-suppr --std=c11 $(UNSURE:%=--suppress=%) \
		--enable=warning,portability -Iipc -I. ipc supervisor workers tools

format:
	@tools/setup lint
	@clang-format -i $(C_FILES)

# --- install ---------------------------------------------------------------

LIBEXEC := $(PREFIX)/libexec/bulkhead
UNITDIR ?= $(PREFIX)/lib/systemd/system

# The unit has the paths of this PREFIX; an existing configuration stays.
.PHONY: install
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBEXEC) $(DESTDIR)$(UNITDIR) $(DESTDIR)/etc/bulkhead/certs.d
	install -m 0755 $(O)/bulkheadd $(O)/bulkhead $(DESTDIR)$(PREFIX)/bin/
	install -m 0755 $(WORKERS:%=$(O)/bulkhead-%) $(DESTDIR)$(LIBEXEC)/
	sed 's|/usr/|$(PREFIX)/|g' packaging/bulkhead.service >$(DESTDIR)$(UNITDIR)/bulkhead.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/bulkhead.service
	install -D -m 0644 packaging/bulkhead.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/bulkhead.conf
	install -D -m 0644 README.md $(DESTDIR)$(PREFIX)/share/doc/bulkhead/README.md
	[ -e $(DESTDIR)/etc/bulkhead/bulkhead.conf ] || \
		install -m 0644 packaging/bulkhead.conf $(DESTDIR)/etc/bulkhead/bulkhead.conf

.PHONY: privs
privs: $(O)/bulkheadd
	@$(O)/bulkheadd -c packaging/bulkhead.conf --print-privileges

.PHONY: help
help:
	@echo "make               build everything into build/plain"
	@echo "make demo          install, build, and run a pod before your eyes"
	@echo "make test          install, build and run every test; ONLY=name with make check picks some"
	@echo "tests/fresh-machine  both of them on a minimal Debian in a scratch folder"
	@echo "make check         run the tests without installing anything"
	@echo "make crash         only the test that kills each process at each step"
	@echo "make fuzz-run      every fuzzer for SECONDS=60, from tests/fuzz/corpus;  make fuzz-merge keeps what they found"
	@echo "make bench         figures beside their targets"
	@echo "make agent         the agent of a guest as one small static executable, in build/agent"
	@echo "make initrd        that as a guest's first file system; KERNEL_MODULES=.../lib/modules/VERSION, UML_MODULES=..."
	@echo "make privs         print the privilege table for review"
	@echo "make install       DESTDIR=... PREFIX=/usr"
	@echo "make lint          direction of includes, format, static checks;  make format rewrites"
	@echo "make clean"
	@echo
	@echo "VARIANT=asan       address and undefined-behaviour sanitisers (build/asan); debug: no optimisation"
	@echo "CC=clang           the other compiler;  V=1 shows the commands"

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(O) -name '*.d' 2>/dev/null)
