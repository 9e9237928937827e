/* Folders, locks and listening sockets, below a private folder. Needs root. */
#include "base/clock.h"
#include "base/fd.h"
#include "supervisor/folders.h"
#include "supervisor/privileges.h"
#include "tap.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char base[] = "/tmp/bulkhead-folders-XXXXXX";
static struct fault fault;

static const char *below(const char *name) {
	static char paths[4][160];
	static unsigned turn;
	char *path = paths[turn++ % 4];
	snprintf(path, sizeof(paths[0]), "%s/%s", base, name);
	return path;
}

static void configure(struct config *c, const char *more) {
	char state[160], run[160], cni[160], certs[160], networks[160], plugins[160];
	snprintf(state, sizeof(state), "state_root=%s/state", base);
	snprintf(run, sizeof(run), "run_root=%s/run", base);
	snprintf(cni, sizeof(cni), "cni_cache_dir=%s/a/b/cni", base);
	snprintf(certs, sizeof(certs), "certs_dir=%s/a/certs.d", base);
	snprintf(networks, sizeof(networks), "cni_conf_dir=%s/a/net.d", base);
	snprintf(plugins, sizeof(plugins), "cni_bin_dirs=%s/a/bin:/nonexistent/bin", base);
	const char *options[] = { state, run, cni, certs, networks, plugins, more };
	struct config_source source = { .file = "/nonexistent", .options = options, .n_options = more ? 7 : 6 };
	if (config_load(&source, c, &fault) < 0)
		printf("# %s\n", fault.text);
}

static bool is(const char *name, mode_t mode, uid_t uid) {
	struct stat st;
	return lstat(below(name), &st) == 0 && (st.st_mode & 07777) == mode && st.st_uid == uid;
}

static uid_t owner(enum role role, const struct config *c) {
	uid_t uid;
	gid_t gid;
	privileges_owner(role, c, &uid, &gid);
	return uid;
}

static void test_make(struct config *c) {
	tap_check(folders_make(c, &fault) == 0 && is("state", 0711, 0) && is("run", 0711, 0), "roots: 0711, root's");
	tap_check(is("state/metadata", 0700, owner(ROLE_METADATA, c)) &&
		      is("state/content", 0700, owner(ROLE_IMAGE, c)) &&
		      is("state/layers", 0700, owner(ROLE_SNAPSHOT, c)) && is("run/pods", 0700, owner(ROLE_TASK, c)),
		  "each worker's folder: 0700, its own");
	tap_check(is("a/b/cni", 0755, 0), "a folder with those above it");
	tap_check(is("a/certs.d", 0755, 0) && is("a/net.d", 0755, 0) && is("a/bin", 0755, 0),
		  "folders that others fill later are there from the start");
	chmod(below("state/metadata"), 0777);
	chmod(below("run"), 0777);
	tap_check(folders_make(c, &fault) == 0 && is("state/metadata", 0700, owner(ROLE_METADATA, c)) &&
		      is("run", 0711, 0),
		  "wrong modes are corrected");
	rmdir(below("state/layers"));
	tap_check(symlink("/tmp", below("state/layers")) == 0 && folders_make(c, &fault) < 0 &&
		      strstr(fault.text, "layers"),
		  "a link in a folder's place is refused");
	unlink(below("state/layers"));
}

static void test_users_change(struct config *c) {
	uid_t old = owner(ROLE_METADATA, c);
	mkdir(below("state/metadata/sub"), 0700);
	close(open(below("state/metadata/sub/file"), O_CREAT | O_WRONLY, 0600));
	close(open(below("outside"), O_CREAT | O_WRONLY, 0600));
	if (symlink(below("outside"), below("state/metadata/link")) < 0 ||
	    chown(below("state/metadata/sub/file"), old, old) < 0)
		perror("set up");
	struct config other;
	configure(&other, "uid_base=70000");
	uid_t new = owner(ROLE_METADATA, &other);
	tap_check(folders_make(&other, &fault) == 0 && new != old &&is("state/metadata", 0700, new) &&
		      is("state/metadata/sub/file", 0600, new),
		  "when the users change, files go with them");
	tap_check(is("outside", 0600, 0), "and nothing that a link points to");
}

static void test_lock(const struct config *c) {
	int lock, workers;
	tap_check(folders_lock(c, &lock, &workers, &fault) == 0, "the lock is free");
	int again = -1, again_workers = -1;
	tap_check(folders_lock(c, &again, &again_workers, &fault) < 0 && strstr(fault.text, "another bulkheadd"),
		  "then it isn't");
	/* A worker of a killed supervisor lives on for a moment. */
	int ready[2];
	char byte;
	if (pipe(ready) < 0)
		return;
	pid_t worker = fork();
	if (worker == 0) {
		close(lock);
		close(ready[0]);
		close(ready[1]);
		usleep(200 * 1000);
		_exit(0);
	}
	close(lock);
	close(workers);
	close(ready[1]);
	tap_check(read(ready[0], &byte, 1) == 0, "a worker holds its lock only");
	close(ready[0]);
	int64_t begin = clock_mono();
	tap_check(folders_lock(c, &lock, &workers, &fault) == 0 && clock_mono() - begin > 100 * NS_PER_MS,
		  "its successor waits for the workers of a killed one");
	waitpid(worker, NULL, 0);
	close(lock);
	close(workers);
}

static void test_listener(struct config *c) {
	char *path = c->boot.endpoints[0].socket;
	int fd = -1, second = -1;
	tap_check(c->boot.n_endpoints == 2 && strcmp(path, below("run/bulkhead.sock")) == 0 &&
		      strcmp(c->boot.endpoints[1].socket, below("run/containerd.sock")) == 0,
		  "two sockets by default");
	tap_check(listener_open(c, 0, &fd, &fault) == 0 && is("run/bulkhead.sock", 0660, 0), "it is root's, 0660");
	close(fd);
	tap_check(listener_open(c, 0, &fd, &fault) == 0, "one that a dead daemon left is replaced");
	close(fd);
	snprintf(path, BOOT_SOCKET_MAX, "%s", below("x/y.sock"));
	tap_check(listener_open(c, 0, &fd, &fault) == 0, "elsewhere, with the folder");
	tap_check(listener_open(c, 0, &second, &fault) < 0 && strstr(fault.text, "another process"),
		  "where somebody listens it isn't taken away");
	close(fd);
	snprintf(path, BOOT_SOCKET_MAX, "%s", below("outside"));
	tap_check(listener_open(c, 0, &second, &fault) < 0 && strstr(fault.text, "not a socket"), "nor is a file");
	configure(c, "endpoint.cri.group=no-such-group");
	tap_check(listener_open(c, 0, &fd, &fault) < 0 && strstr(fault.text, "no-such-group"), "an unknown group");
	configure(c, "endpoint.cri.owner=no-such-user");
	tap_check(listener_open(c, 0, &fd, &fault) < 0 && strstr(fault.text, "no-such-user"), "an unknown user");
	configure(c, "endpoint.cri.group=4242");
	struct stat st;
	tap_check(listener_open(c, 0, &fd, &fault) == 0 && stat(path, &st) == 0 && st.st_gid == 4242,
		  "a group by number");
	close(fd);
	configure(c, "endpoint.cri.mode=0606");
	c->listeners[0].owner[0] = '7';
	c->listeners[0].owner[1] = '\0';
	tap_check(listener_open(c, 0, &fd, &fault) == 0 && is("run/bulkhead.sock", 0606, 7), "an owner and a mode");
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	return remove(path);
}

int main(void) {
	if (geteuid() != 0) {
		tap_skip("folders", "needs root");
		return tap_done();
	}
	struct config c;
	if (!mkdtemp(base))
		return 1;
	configure(&c, NULL);
	test_make(&c);
	test_users_change(&c);
	test_lock(&c);
	test_listener(&c);
	nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return tap_done();
}
