/* Messages as JSON: names and what is left out, in both styles, and what text can hold. */
#include "msg/message_json.h"

#include "base/utf8.h"
#include "base/macros.h"
#include "cri/runtime.pb-c.h"
#include "oci/oci.pb-c.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

static void check(const ProtobufCMessage *m, enum message_style style, const char *wanted, const char *name) {
	struct json j = { 0 };
	message_json(&j, NULL, m, style);
	char *text = buffer_take_text(&j.text);
	tap_check(text && strcmp(text, wanted) == 0, "%s", name);
	if (!text || strcmp(text, wanted) != 0)
		printf("#   got    %s\n#   wanted %s\n", text ? text : "nothing", wanted);
	free(text);
}

#define S(text) ((char *)(text))

static void test_plain(void) {
	Runtime__V1__ContainerConfig c = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	check(&c.base, MESSAGE_PLAIN, "{}", "defaults are left out");

	Runtime__V1__ContainerMetadata metadata = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__KeyValue env = RUNTIME__V1__KEY_VALUE__INIT, *envs[] = { &env };
	Runtime__V1__ContainerConfig__LabelsEntry one = RUNTIME__V1__CONTAINER_CONFIG__LABELS_ENTRY__INIT, two = one;
	Runtime__V1__ContainerConfig__LabelsEntry *labels[] = { &one, &two };
	char *command[] = { S("sh"), S("-c"), S("") };
	metadata.name = S("web");
	env.key = S("FOO");
	env.value = (ProtobufCBinaryData){ 3, (uint8_t *)"bar+" };
	one.key = S("a/b");
	one.value = S("\"quoted\"");
	two.key = S("empty");
	c.metadata = &metadata;
	c.command = command;
	c.n_command = 3;
	c.envs = envs;
	c.n_envs = 1;
	c.labels = labels;
	c.n_labels = 2;
	c.tty = true;
	check(&c.base, MESSAGE_PLAIN,
	      "{\"metadata\":{\"name\":\"web\"},\"command\":[\"sh\",\"-c\",\"\"],"
	      "\"envs\":[{\"key\":\"FOO\",\"value\":\"bar\"}],"
	      "\"labels\":{\"a/b\":\"\\\"quoted\\\"\",\"empty\":\"\"},\"tty\":true}",
	      "lists, maps, bytes and messages in messages");

	Runtime__V1__NamespaceOption o = RUNTIME__V1__NAMESPACE_OPTION__INIT;
	o.pid = RUNTIME__V1__NAMESPACE_MODE__NODE;
	o.target_id = S("x");
	check(&o.base, MESSAGE_PLAIN, "{\"pid\":2,\"target_id\":\"x\"}", "enums are numbers");
}

static void test_oci_process(void) {
	Grpc__Spec spec = GRPC__SPEC__INIT;
	Grpc__Process process = GRPC__PROCESS__INIT;
	Grpc__User user = GRPC__USER__INIT;
	uint32_t groups[] = { 5, 0 };
	spec.version = S("1.1.0");
	spec.process = &process;
	process.user = &user;
	process.cwd = S("/");
	process.oomscoreadj = -5;
	process.nonewprivileges = true;
	user.additionalgids = groups;
	user.n_additionalgids = 2;
	check(&spec.base, MESSAGE_OCI,
	      "{\"ociVersion\":\"1.1.0\",\"process\":{\"user\":{\"uid\":0,\"gid\":0,\"additionalGids\":[5,0]},"
	      "\"cwd\":\"/\",\"noNewPrivileges\":true,\"oomScoreAdj\":-5}}",
	      "the specification's names; ids that are 0 are there");
}

static void test_oci_linux(void) {
	Grpc__Linux linux_ = GRPC__LINUX__INIT;
	Grpc__LinuxResources r = GRPC__LINUX_RESOURCES__INIT;
	Grpc__LinuxDeviceCgroup d = GRPC__LINUX_DEVICE_CGROUP__INIT, *devices[] = { &d };
	Grpc__LinuxCPU cpu = GRPC__LINUX_CPU__INIT;
	Grpc__LinuxHugepageLimit huge = GRPC__LINUX_HUGEPAGE_LIMIT__INIT, *limits[] = { &huge };
	Grpc__LinuxIDMapping map = GRPC__LINUX_IDMAPPING__INIT, *maps[] = { &map };
	map.hostid = 1000;
	map.size = UINT32_MAX;
	linux_.uidmappings = maps;
	linux_.n_uidmappings = 1;
	linux_.resources = &r;
	d.access = S("rwm");
	r.devices = devices;
	r.n_devices = 1;
	cpu.shares = UINT64_MAX;
	cpu.quota = -1;
	r.cpu = &cpu;
	huge.pagesize = S("2MB");
	r.hugepagelimits = limits;
	r.n_hugepagelimits = 1;
	check(&linux_.base, MESSAGE_OCI,
	      "{\"uidMappings\":[{\"hostID\":1000,\"size\":4294967295}],\"resources\":{"
	      "\"devices\":[{\"allow\":false,\"access\":\"rwm\"}],"
	      "\"cpu\":{\"shares\":18446744073709551615,\"quota\":-1},\"hugepageLimits\":[{\"pageSize\":\"2MB\"}]}}",
	      "names of several words, numbers at their ends, rules that forbid");
}

static void test_oneof(void) {
	Grpc__LinuxSyscall s = GRPC__LINUX_SYSCALL__INIT;
	s.action = S("SCMP_ACT_ERRNO");
	check(&s.base, MESSAGE_OCI, "{\"action\":\"SCMP_ACT_ERRNO\"}", "an alternative that isn't chosen is left out");
	s.errno_ret_case = GRPC__LINUX_SYSCALL__ERRNO_RET_ERRNORET;
	check(&s.base, MESSAGE_OCI, "{\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":0}",
	      "one that is is there, even with 0");
}

static void test_text(void) {
	Runtime__V1__KeyValue v = RUNTIME__V1__KEY_VALUE__INIT;
	v.key = S("\t\\\x7f");
	v.value = (ProtobufCBinaryData){ 9, (uint8_t *)"\xc3\xa4|\xff|\xc3|\xe2\x82" };
	check(&v.base, MESSAGE_PLAIN,
	      "{\"key\":\"\\u0009\\\\\\u007f\",\"value\":\"\xc3\xa4|\\ufffd|\\ufffd|\\ufffd\\ufffd\"}",
	      "bytes that are no text are replaced");
	static const struct {
		const char *bytes;
		unsigned length;
	} rows[] = {
		{ "", 1 },
		{ "a", 1 },
		{ "\x7f", 1 },
		{ "\x80", 0 },
		{ "\xc2\x80", 2 },
		{ "\xc1\xbf", 0 },
		{ "\xdf\xbf", 2 },
		{ "\xe0\xa0\x80", 3 },
		{ "\xe0\x9f\xbf", 0 },
		{ "\xed\x9f\xbf", 3 },
		{ "\xed\xa0\x80", 0 },
		{ "\xef\xbf\xbf", 3 },
		{ "\xf0\x90\x80\x80", 4 },
		{ "\xf0\x8f\xbf\xbf", 0 },
		{ "\xf4\x8f\xbf\xbf", 4 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\xf5\x80\x80\x80", 0 },
		{ "\xf0\x90\x80", 0 },
		{ "\xc3(", 0 },
		{ "\xe2\x82", 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		tap_check(utf8_length(rows[i].bytes, 4) == rows[i].length, "a character of UTF-8, or none, %zu", i);
	tap_check(utf8_valid("", 0) && utf8_valid("\xe2\x82\xac!", 4), "text");
	tap_check(!utf8_valid("\xe2\x82\xac!", 2) && !utf8_valid("a\0", 2), "a character that is cut, a NUL");
}

static void test_same(void) {
	Runtime__V1__ContainerConfig a = RUNTIME__V1__CONTAINER_CONFIG__INIT, b = a;
	Runtime__V1__ContainerConfig__LabelsEntry one = RUNTIME__V1__CONTAINER_CONFIG__LABELS_ENTRY__INIT, two = one,
						  other;
	Runtime__V1__ContainerConfig__LabelsEntry *some[] = { &one, &two }, *turned[] = { &two, &one },
						  *others[] = { &one, &other };
	char *first[] = { S("x"), S("y") }, *second[] = { S("y"), S("x") };
	one.key = S("k1");
	one.value = S("v");
	two.key = S("k2");
	two.value = S("v");
	other = two;
	other.value = S("w");
	a.n_labels = b.n_labels = 2;
	a.labels = some;
	b.labels = turned;
	tap_check(message_same(&a.base, &b.base), "maps are the same in any order");
	b.labels = others;
	tap_check(!message_same(&a.base, &b.base), "but not with another value");
	b.n_labels = 1;
	tap_check(!message_same(&a.base, &b.base), "nor with less");
	b = a;
	a.n_command = b.n_command = 2;
	a.command = first;
	b.command = second;
	tap_check(!message_same(&a.base, &b.base), "lists have an order");
}

int main(void) {
	test_same();
	test_plain();
	test_oci_process();
	test_oci_linux();
	test_oneof();
	test_text();
	return tap_done();
}
