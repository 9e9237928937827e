/*
 * CDI files, which vendors' tools write. Invariants beyond the sanitisers':
 * what became of one is mounted from and to absolute paths, each variable has a
 * name, and a device's annotation has three lines.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/task/cdi.h"

#include <string.h>

static void check_annotation(const Grpc__Spec__AnnotationsEntry *a) {
	const char *one = strchr(a->value, '\n'), *two = one ? strchr(one + 1, '\n') : NULL;
	if (strncmp(a->key, "bulkhead.io/device/", 19) != 0)
		return;
	require(a->value[0] == '/' && two && one[1] == '/' && !strchr(two + 1, '\n'));
	require(two[1] && strspn(two + 1, "rwm") == strlen(two + 1));
}

static void check(const Grpc__Spec *s) {
	for (size_t i = 0; i < s->n_mounts; i++)
		require(s->mounts[i]->source[0] == '/' && s->mounts[i]->destination[0] == '/' &&
			strcmp(s->mounts[i]->options[0], "rbind") == 0);
	for (size_t i = 0; i < s->process->n_env; i++)
		require(strchr(s->process->env[i], '=') > s->process->env[i]);
	for (size_t i = 0; i < s->n_annotations; i++)
		check_annotation(s->annotations[i]);
	for (size_t i = 0; i < s->process->user->n_additionalgids; i++)
		require(s->process->user->additionalgids[i] <= INT32_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	Grpc__Spec__AnnotationsEntry wanted = GRPC__SPEC__ANNOTATIONS_ENTRY__INIT, *annotations[] = { &wanted };
	Grpc__Spec spec = GRPC__SPEC__INIT;
	Grpc__Process process = GRPC__PROCESS__INIT;
	Bulkhead__HostFile file = BULKHEAD__HOST_FILE__INIT, *files[] = { &file };
	char *env[] = { (char *)"PATH=/bin" };
	const Grpc__Spec *edited;
	struct fault fault = { 0 };
	struct arena arena;
	arena_init(&arena, 0);
	process.env = env;
	process.n_env = 1;
	spec.process = &process;
	spec.annotations = annotations;
	spec.n_annotations = 1;
	wanted.key = (char *)"bulkhead.io/cdi/0";
	wanted.value = (char *)"a.org/b=c";
	file.path = (char *)"/etc/cdi/a.json";
	file.data = (ProtobufCBinaryData){ .len = size, .data = (uint8_t *)data };
	require(cdi_wanted(&spec));
	if (cdi_apply(&arena, &spec, files, 1, &edited, &fault) == 0)
		check(edited);
	else
		require(fault.code != FAULT_NONE && *fault.text);
	arena_deinit(&arena);
	return 0;
}
