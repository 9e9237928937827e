/*
 * The default seccomp profile in the kernel: a child installs the program and
 * makes the calls for real. Says what each call answered, so that a filter
 * that forbids too much is seen as well as one that forbids too little.
 */
#include "tap.h"

#include "workers/task/seccomp/seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a call's errno must be: a number, ANY_BUT_EPERM, or 0 for success. */
enum { ANY_BUT_EPERM = -1 };

static const struct row {
	const char *name;
	long nr;
	unsigned long args[3];
	int expect, expect_admin; /* without and with CAP_SYS_ADMIN in the set */
} rows[] = {
	{ .name = "getpid", .nr = SYS_getpid },
	{ .name = "socket AF_UNIX", .nr = SYS_socket, .args = { AF_UNIX, SOCK_STREAM } },
	{ .name = "socket AF_INET", .nr = SYS_socket, .args = { AF_INET, SOCK_DGRAM } },
	{ .name = "socket AF_ALG", .nr = SYS_socket, .args = { AF_ALG, SOCK_SEQPACKET }, EPERM, EPERM },
	{ .name = "socket AF_ALG with a high half",
	  .nr = SYS_socket,
	  .args = { 0x100000000ul | AF_ALG, SOCK_SEQPACKET },
	  EPERM,
	  EPERM },
	{ .name = "socket AF_VSOCK", .nr = SYS_socket, .args = { AF_VSOCK, SOCK_STREAM }, EPERM, EPERM },
	{ .name = "personality (query)", .nr = SYS_personality, .args = { 0xffffffff } },
	{ .name = "personality without randomised addresses",
	  .nr = SYS_personality,
	  .args = { ADDR_NO_RANDOMIZE },
	  EPERM,
	  EPERM },
	{ .name = "unshare of a user namespace", .nr = SYS_unshare, .args = { CLONE_NEWUSER }, EPERM, 0 },
	{ .name = "clone with a new network",
	  .nr = SYS_clone,
	  .args = { CLONE_NEWNET | CLONE_NEWUSER | SIGCHLD },
	  EPERM,
	  ANY_BUT_EPERM },
	{ .name = "clone3", .nr = SYS_clone3, .args = { 0, 0 }, ENOSYS, EINVAL },
	{ .name = "io_uring_setup", .nr = SYS_io_uring_setup, .args = { 1, 0 }, EPERM, EPERM },
	{ .name = "keyctl", .nr = SYS_keyctl, .args = { 0 }, EPERM, EPERM },
	{ .name = "add_key", .nr = SYS_add_key, .args = { 0 }, EPERM, EPERM },
	{ .name = "bpf", .nr = SYS_bpf, .args = { 9999, 0, 0 }, EPERM, ANY_BUT_EPERM },
	{ .name = "mount", .nr = SYS_mount, .args = { 1, 1, 1 }, EPERM, EFAULT },
	{ .name = "kexec_load", .nr = SYS_kexec_load, .args = { 0, 0, 0 }, EPERM, EPERM },
	{ .name = "init_module", .nr = SYS_init_module, .args = { 0, 0, 0 }, EPERM, EPERM },
	{ .name = "userfaultfd", .nr = SYS_userfaultfd, .args = { 0 }, EPERM, EPERM },
	{ .name = "a call of the future", .nr = 1999, .expect = ENOSYS, .expect_admin = ENOSYS },
};

/* A clone may succeed: the new process leaves at once. */
static int call(const struct row *r) {
	errno = 0;
	pid_t self = getpid();
	long v = syscall(r->nr, r->args[0], r->args[1], r->args[2], 0, 0);
	if (v == 0 && r->nr == SYS_clone && syscall(SYS_getppid) != 0 && getpid() != self)
		_exit(0);
	return v < 0 ? errno : 0;
}

static bool install(const struct seccomp_program *p) {
	struct sock_fprog f = { .len = (unsigned short)p->length, .filter = p->filter };
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, p->flags, &f) == 0;
}

/* The errno of one call under the filter; 1000 + signal when it was killed. */
static int in_child(const struct seccomp_program *p, const struct row *r) {
	pid_t pid = fork();
	if (pid == 0)
		_exit(install(p) ? call(r) : 255);
	int status;
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static bool fits(int got, int expect) {
	return expect == ANY_BUT_EPERM ? got != EPERM && got < 255 : got == expect;
}

static struct seccomp_cache *cache;

static const struct seccomp_program *program(const char *capability) {
	Grpc__Spec spec = GRPC__SPEC__INIT;
	Grpc__Process process = GRPC__PROCESS__INIT;
	Grpc__LinuxCapabilities capabilities = GRPC__LINUX_CAPABILITIES__INIT;
	Grpc__Spec__AnnotationsEntry entry = GRPC__SPEC__ANNOTATIONS_ENTRY__INIT, *entries[] = { &entry };
	char *bounding[] = { (char *)capability };
	entry.key = (char *)SECCOMP_ANNOTATION;
	entry.value = (char *)"runtime/default";
	spec.annotations = entries;
	spec.n_annotations = 1;
	capabilities.bounding = bounding;
	capabilities.n_bounding = capability ? 1 : 0;
	process.capabilities = &capabilities;
	spec.process = &process;
	const struct seccomp_program *p = NULL;
	struct fault fault = { 0 };
	if (seccomp_program_for(cache, &spec, NULL, 0, &p, &fault) < 0)
		printf("# %s\n", fault.text);
	return p;
}

static void test_calls(const char *capability) {
	const struct seccomp_program *p = program(capability);
	tap_check(p != NULL, "a program");
	for (size_t i = 0; p && i < ARRAY_SIZE(rows); i++) {
		int expect = capability ? rows[i].expect_admin : rows[i].expect;
		int got = in_child(p, &rows[i]);
		tap_check(fits(got, expect), "%s%s%s: %d (%s)", rows[i].name, capability ? ", with " : "",
			  capability ? capability : "", got, got < 255 ? strerror(got) : "?");
	}
}

#ifdef __x86_64__
static long call32(long nr, long a, long b) {
	long v;
	__asm__ volatile("int $0x80" : "=a"(v) : "a"(nr), "b"(a), "c"(b) : "memory", "r8", "r9", "r10", "r11");
	return v;
}

/* i386's own entry must not lead around the filter. */
static void test_compat(void) {
	const struct seccomp_program *p = program(NULL);
	static const struct {
		const char *name;
		long nr, a, b, expect;
	} compat[] = {
		{ .name = "getppid", .nr = 64, .expect = 0 },
		{ .name = "socket AF_ALG", .nr = 359, .a = AF_ALG, .b = SOCK_SEQPACKET, .expect = EPERM },
		{ .name = "socketcall socket", .nr = 102, .a = 1, .expect = ENOSYS },
		{ .name = "unshare", .nr = 310, .a = CLONE_NEWUSER, .expect = EPERM },
		{ .name = "io_uring_setup", .nr = 425, .expect = EPERM },
	};
	for (size_t i = 0; i < ARRAY_SIZE(compat); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			long v = install(p) ? call32(compat[i].nr, compat[i].a, compat[i].b) : -255;
			_exit(v < 0 ? (int)-v : 0);
		}
		int status;
		waitpid(pid, &status, 0);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
			tap_skip(compat[i].name, "this kernel has no i386 calls");
		else
			tap_check(WIFEXITED(status) && WEXITSTATUS(status) == compat[i].expect, "i386: %s: %d",
				  compat[i].name, WEXITSTATUS(status));
	}
}
#endif

static void tell_cost(void) {
	const struct seccomp_program *p = program(NULL);
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	struct seccomp_cache *fresh;
	seccomp_cache_free(cache);
	if (seccomp_cache_new("/nonexistent", &fresh) < 0)
		abort();
	cache = fresh;
	p = program(NULL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("# compiled in %ld us, %zu instructions\n",
	       (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000, p->length);
}

int main(void) {
	if (seccomp_cache_new("/nonexistent", &cache) < 0)
		abort();
	test_calls(NULL);
	test_calls("CAP_SYS_ADMIN");
#ifdef __x86_64__
	test_compat();
#endif
	tell_cost();
	seccomp_cache_free(cache);
	return tap_done();
}
