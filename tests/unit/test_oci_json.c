/* OCI specifications in JSON: what a real client sends, each kind of value, and what is refused with which words. */
#include "tests/unit/tap.h"
#include "workers/api/containerd/oci_json.h"

#include <string.h>

static struct arena arena;
static struct fault fault;

static Grpc__Spec *parse(const char *json) {
	Grpc__Spec *spec = NULL;
	arena_deinit(&arena);
	arena_init(&arena, 0);
	fault = (struct fault){ 0 };
	return oci_json_spec(&arena, json, strlen(json), &spec, &fault) < 0 ? NULL : spec;
}

static void test_values(void) {
	const Grpc__Spec *s =
	    parse("{\"ociVersion\":\"1.1.0\",\"hostname\":\"h\",\"unknown\":{\"x\":[1]},"
		  "\"process\":{\"terminal\":true,\"consoleSize\":{\"height\":24,\"width\":80},"
		  "\"user\":{\"uid\":1000,\"gid\":1001,\"additionalGids\":[5,6]},\"args\":[\"sh\",\"-c\",\"true\"],"
		  "\"env\":[\"A=b\"],\"cwd\":\"/\",\"capabilities\":{\"bounding\":[\"CAP_KILL\"]},"
		  "\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":512}],\"noNewPrivileges\":true,"
		  "\"oomScoreAdj\":-5},\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
		  "\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\",\"options\":null}],"
		  "\"annotations\":{\"a.b/c\":\"d\"},"
		  "\"linux\":{\"sysctl\":{\"net.x\":\"1\"},\"uidMappings\":[{\"containerID\":0,\"hostID\":65536,"
		  "\"size\":10}],"
		  "\"namespaces\":[{\"type\":\"network\",\"path\":\"/run/netns/x\"}],\"cgroupsPath\":\"/a/b\","
		  "\"resources\":{\"memory\":{\"limit\":1048576,\"swappiness\":0},\"cpu\":{\"shares\":2,\"quota\":-1},"
		  "\"pids\":{\"limit\":32},\"devices\":[{\"allow\":false,\"access\":\"rwm\"}],"
		  "\"unified\":{\"memory.high\":\"123\"}},"
		  "\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"ptrace\"],"
		  "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":1,\"args\":[{\"index\":0,\"value\":18446744073709551615,"
		  "\"valueTwo\":0,\"op\":\"SCMP_CMP_EQ\"}]}]}}}");
	tap_check(s != NULL, "a whole specification is read %s", fault.text);
	if (!s)
		return;
	const Grpc__Process *p = s->process;
	tap_check(strcmp(s->version, "1.1.0") == 0 && strcmp(s->hostname, "h") == 0, "its version and host name");
	tap_check(p->terminal && p->consolesize->height == 24 && p->consolesize->width == 80, "the terminal");
	tap_check(p->user->uid == 1000 && p->user->gid == 1001 && p->user->n_additionalgids == 2 &&
		      p->user->additionalgids[1] == 6,
		  "the user");
	tap_check(p->n_args == 3 && strcmp(p->args[2], "true") == 0 && p->n_env == 1 && p->nonewprivileges &&
		      p->oomscoreadj == -5,
		  "the command");
	tap_check(p->n_rlimits == 1 && p->rlimits[0]->hard == 1024 && p->rlimits[0]->soft == 512, "limits");
	tap_check(s->root->readonly && s->n_mounts == 1 && s->mounts[0]->n_options == 0, "the root; null is nothing");
	const Grpc__Linux *l = s->linux;
	tap_check(l->n_uidmappings == 1 && l->uidmappings[0]->hostid == 65536 && l->n_sysctl == 1 &&
		      strcmp(l->sysctl[0]->value, "1") == 0 && strcmp(l->namespaces[0]->path, "/run/netns/x") == 0 &&
		      strcmp(l->cgroupspath, "/a/b") == 0,
		  "what is Linux's");
	tap_check(l->resources->memory->limit == 1048576 && l->resources->cpu->quota == -1 &&
		      l->resources->pids->limit == 32 && l->resources->n_devices == 1 &&
		      strcmp(l->resources->devices[0]->access, "rwm") == 0,
		  "resources");
	const Grpc__LinuxSyscall *c = l->seccomp->syscalls[0];
	tap_check(c->errno_ret_case == GRPC__LINUX_SYSCALL__ERRNO_RET_ERRNORET && c->errnoret == 1 &&
		      c->args[0]->value == UINT64_MAX,
		  "seccomp, with the largest number and an optional one");
	tap_check(s->n_annotations == 2 && strcmp(s->annotations[0]->key, "a.b/c") == 0 &&
		      strcmp(s->annotations[1]->key, "bulkhead.io/unified/memory.high") == 0 &&
		      strcmp(s->annotations[1]->value, "123") == 0,
		  "annotations, and what cgroup v2 is told verbatim");
}

static void test_refused(void) {
	static const struct {
		const char *json, *text;
	} rows[] = {
		{ "", "the JSON has no end" },
		{ "{", "the JSON has no end" },
		{ "[]", "it: an object is expected" },
		{ "{\"process\":[]}", "process: an object is expected" },
		{ "{\"process\":{\"args\":\"x\"}}", "process.args: a list is expected" },
		{ "{\"process\":{\"args\":[1]}}", "process.args: a string is expected" },
		{ "{\"process\":{\"args\":[null]}}", "process.args: a string is expected" },
		{ "{\"process\":{\"terminal\":1}}", "process.terminal: true or false is expected" },
		{ "{\"process\":{\"cwd\":\"a\\u0000b\"}}", "process.cwd: a string with a NUL byte" },
		{ "{\"process\":{\"user\":{\"uid\":-1}}}", "process.user.uid: the number doesn't fit" },
		{ "{\"process\":{\"user\":{\"uid\":4294967296}}}", "process.user.uid: the number doesn't fit" },
		{ "{\"process\":{\"user\":{\"uid\":1.5}}}", "process.user.uid: a whole number is expected" },
		{ "{\"process\":{\"user\":{\"uid\":\"0\"}}}", "process.user.uid: a whole number is expected" },
		{ "{\"linux\":{\"resources\":{\"cpu\":{\"shares\":-1}}}}",
		  "linux.resources.cpu.shares: the number is negative" },
		{ "{\"linux\":{\"sysctl\":{\"a.b\":1}}}", "linux.sysctl.a.b: a string is expected" },
		{ "{\"linux\":{\"resources\":{\"unified\":{\"a\":1}}}}", "unified: a string is expected" },
		{ "{\"annotations\":{\"bulkhead.io/privileged\":\"true\"}}", "are reserved" },
		{ "{\"hooks\":{\"createRuntime\":[{\"path\":\"/bin/x\"}]}}", "hooks.createRuntime isn't supported" },
		{ "{\"hostname\":\"\xff\"}", "the JSON isn't UTF-8" },
		{ "{\"hostname\":\"\xc0\x80\"}", "the JSON isn't UTF-8" },
		{ "{\"annotations\":{\"\xed\xa0\x80\":\"\"}}", "the JSON isn't UTF-8" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		tap_check(!parse(rows[i].json) && strcasestr(fault.text, rows[i].text), "refused: %s", fault.text);
	char deep[200];
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	tap_check(!parse(deep) && fault.code == FAULT_INVALID_ARGUMENT, "refused, too deep: %s", fault.text);
}

/* What Debian's ctr would run. */
static void test_client(void) {
	static char json[OCI_JSON_MAX];
	FILE *f = popen("ctr oci spec 2>/dev/null", "r");
	size_t n = f ? fread(json, 1, sizeof(json) - 1, f) : 0;
	if (!f || pclose(f) != 0 || n == 0) {
		tap_skip("the specification that ctr makes", "there is no ctr here");
		return;
	}
	json[n] = '\0';
	const Grpc__Spec *s = parse(json);
	tap_check(s && s->n_mounts >= 6 && s->linux->n_namespaces >= 5 && s->linux->n_maskedpaths >= 5 &&
		      s->process->capabilities->n_bounding >= 10,
		  "the specification that ctr makes");
}

int main(void) {
	arena_init(&arena, 0);
	test_values();
	test_refused();
	test_client();
	arena_deinit(&arena);
	return tap_done();
}
