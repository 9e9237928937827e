/*
 * QEMU: a kernel and an initrd, the agent on a port of virtio-serial, what it and
 * the guest say by the first serial line. It has its own system call filter.
 */
#include "workers/keeper/vm/machine.h"

#include "base/fd.h"
#include "workers/keeper/sys.h"

#include <stdio.h>
#include <sys/stat.h>

#define LINE "console=ttyS0 tsc=reliable no_timer_check " MACHINE_LINE "/dev/virtio-ports/" VM_PORT

struct qemu {
	const struct machine_birth *birth;
	int kernel, initrd, files, relay;
};

static void accel_add(struct arguments *a, uint32_t accel) {
	bool kvm = accel == BOOT_ACCEL_KVM || (accel == BOOT_ACCEL_AUTO && access("/dev/kvm", R_OK | W_OK) == 0);
	if (kvm)
		arguments_add_all(a, (const char *const[]){ "-accel", "kvm", NULL });
	/* The next one is tried when one can't be had. */
	if (!kvm || accel == BOOT_ACCEL_AUTO)
		arguments_add_all(a, (const char *const[]){ "-accel", "tcg", NULL });
}

static void qemu_arguments(const struct qemu *q, struct arguments *a) {
	const struct machine_birth *b = q->birth;
	const struct boot_vm *c = b->config;
	arguments_add(a, "%s", c->qemu);
	arguments_add_all(
	    a, (const char *const[]){ "-M", "q35,memory-backend=mem", "-cpu", "max", "-nodefaults", "-no-user-config",
				      "-no-reboot", "-display", "none", "-sandbox",
				      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
				      "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", NULL });
	accel_add(a, c->accel);
	arguments_add_all(a, (const char *const[]){ "-name", b->id, "-smp", NULL });
	arguments_add(a, "%u", c->cpus);
	arguments_add(a, "-m");
	arguments_add(a, "%uM", c->memory_mb);
	arguments_add(a, "-object");
	arguments_add(a, "memory-backend-memfd,id=mem,size=%uM,share=on", c->memory_mb);
	arguments_add(a, "-kernel");
	arguments_add(a, "/proc/self/fd/%d", q->kernel);
	arguments_add(a, "-initrd");
	arguments_add(a, "/proc/self/fd/%d", q->initrd);
	arguments_add(a, "-append");
	arguments_add(a, LINE " %s", c->parameters);
	arguments_add(a, "-chardev");
	arguments_add(a, "socket,id=agent,fd=%d%s", b->agent, b->listens ? ",server=on,wait=off" : "");
	arguments_add_all(a, (const char *const[]){ "-device", "virtio-serial-pci", "-device",
						    "virtserialport,chardev=agent,name=" VM_PORT, "-chardev", NULL });
	arguments_add(a, "socket,id=files,fd=%d", q->files);
	arguments_add_all(
	    a, (const char *const[]){ "-device", "vhost-user-fs-pci,chardev=files,tag=" VM_SHARE_TAG, NULL });
	for (size_t i = 0; i < b->network->n_links; i++) {
		arguments_add(a, "-netdev");
		arguments_add(a, "tap,id=net%zu,fd=%d", i, b->network->taps[i]);
		arguments_add(a, "-device");
		arguments_add(a, "virtio-net-pci,netdev=net%zu,mac=%s,romfile=", i, b->network->links[i].hwaddr);
	}
}

/* KVM's node belongs to a group on most machines. */
static int user_become(const struct boot_vm *c) {
	struct stat st;
	bool has = stat("/dev/kvm", &st) == 0;
	return machine_user(c, &st.st_gid, has);
}

static _Noreturn void qemu_body(const struct qemu *q) {
	const struct machine_birth *b = q->birth;
	struct arguments a = { .n = 0 };
	qemu_arguments(q, &a);
	/* Its devices are descriptors; it needs no namespace's network or mounts. */
	int r = unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) < 0 ? -errno : user_become(b->config);
	machine_child_begin(q->relay, b->console);
	for (size_t i = 0; i < b->network->n_links; i++)
		machine_stay_open(b->network->taps[i]);
	for (const int *fd = (const int[]){ q->kernel, q->initrd, b->agent, q->files, -1 }; *fd >= 0; fd++)
		machine_stay_open(*fd);
	if (r < 0)
		machine_child_fail("become QEMU's user", -r);
	machine_execute(&a);
}

static int qemu_check(const struct boot_vm *c, struct fault *fault) {
	int r = machine_file_check("vm_qemu", c->qemu, X_OK, fault);
	return r < 0 ? r : machine_file_check("vm_kernel", c->kernel, R_OK, fault);
}

static int qemu_start(const struct machine_birth *b, struct vm_machine *m, struct fault *fault) {
	CLEANUP_FD int kernel = -1;
	CLEANUP_FD int initrd = -1;
	CLEANUP_FD int files = -1;
	CLEANUP_FD int relay = (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t pid = -1;
	int r = machine_file_open("vm_kernel", b->config->kernel, &kernel, fault);
	if (r == 0)
		r = machine_file_open("vm_initrd", b->config->initrd, &initrd, fault);
	if (r == 0)
		r = machine_connect(b->folder, MACHINE_FILES, &files, fault);
	if (r == 0)
		r = machine_child_make(0, &pid, &m->vmm, fault);
	if (r == 0 && pid == 0)
		qemu_body(
		    &(struct qemu){ .birth = b, .kernel = kernel, .initrd = initrd, .files = files, .relay = relay });
	return r;
}

const struct vmm vmm_qemu = {
	.name = "QEMU",
	.headers = true,
	.listens = true,
	.check = qemu_check,
	.start = qemu_start,
};
