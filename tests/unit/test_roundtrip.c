/*
 * Names, labels and annotations come back byte for byte, from statuses and
 * lists, and from a successor that reads them from the disk: text from every
 * plane of Unicode, the empty string, a quarter of a mebibyte.
 */
#include "base/log.h"
#include "metadata_lab.h"
#include "tap.h"

#include <string.h>

#define PLANES 17
#define NAME_MAX_BYTES 1024
#define LARGE (256u << 10)
#define ENTRIES (PLANES + 3)

static struct lab l;

/* --- generated text --------------------------------------------------------- */

/* xorshift64*: the same sequence everywhere. */
static uint32_t next(uint32_t below) {
	static uint64_t state = 0x9e3779b97f4a7c15;
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * UINT64_C(2685821657736338717)) >> 33) % below;
}

static size_t encode(uint32_t c, char *to) {
	static const uint8_t leads[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = n; i-- > 1; c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(leads[n] | c);
	return n;
}

/* Any code point but NUL and surrogates, which no string has; noncharacters and
 * those that are unassigned are text, too. A name has no control characters. */
static uint32_t code_point(unsigned plane, bool name) {
	for (;;) {
		uint32_t c = plane << 16 | next(0x10000);
		if (plane == 0 && next(2))
			c = next(0x100);
		if (c == 0 || (c >= 0xd800 && c < 0xe000) || (name && (c < 0x20 || c == 0x7f)))
			continue;
		return c;
	}
}

/* size: at most, with the final NUL. From malloc. */
static char *generate(unsigned plane, size_t size, bool name) {
	char *text = malloc(size);
	size_t n = 0;
	if (!text)
		abort();
	while (n + 4 < size)
		n += encode(code_point(plane, name), text + n);
	text[n] = '\0';
	return text;
}

/* --- maps ------------------------------------------------------------------- */

/* What all map entries of strings look like, in memory and on the wire. */
struct entry {
	ProtobufCMessage base;
	char *key, *value;
};

struct pairs {
	struct entry entries[ENTRIES], *list[ENTRIES];
};

/* A key and a value of each plane, an empty key, an empty value, a large one. */
static void pairs_init(struct pairs *m) {
	for (unsigned i = 0; i < ENTRIES; i++) {
		struct entry *e = m->list[i] = &m->entries[i];
		protobuf_c_message_init(&runtime__v1__pod_sandbox_config__labels_entry__descriptor, e);
		e->key = i < PLANES ? generate(i, 64, false) : strdup(i == PLANES ? "" : i == PLANES + 1 ? "e" : "l");
		e->value = i == PLANES + 1 ? strdup("")
			   : i < PLANES	   ? generate(i, 256, false)
					   : generate(next(PLANES), i == PLANES ? 16 : LARGE, false);
	}
}

static void pairs_deinit(struct pairs *m) {
	for (unsigned i = 0; i < ENTRIES; i++) {
		free(m->entries[i].key);
		free(m->entries[i].value);
	}
}

static bool pairs_same(const struct pairs *m, size_t n, void *entries) {
	struct entry **seen = entries;
	size_t found = 0;
	for (unsigned i = 0; n == ENTRIES && i < ENTRIES; i++)
		for (size_t k = 0; k < n; k++)
			found += strcmp(seen[k]->key, m->list[i]->key) == 0 &&
				 strcmp(seen[k]->value, m->list[i]->value) == 0;
	return found == ENTRIES;
}

/* --- pods and containers ---------------------------------------------------- */

static struct lab_call last;

static void *call(uint16_t number, const ProtobufCMessage *request) {
	lab_call_end(&last);
	lab_call(&l, number, request, &last);
	if (last.fault.code)
		printf("# %s\n", last.fault.text);
	return last.fault.code ? NULL : last.reply;
}

struct subject {
	char *name, *namespace, *uid;
	struct pairs labels, annotations;
	char pod[80], container[80];
};

static bool metadata_same(const struct subject *s, const Runtime__V1__PodSandboxMetadata *m) {
	return strcmp(m->name, s->name) == 0 && strcmp(m->namespace_, s->namespace) == 0 &&
	       strcmp(m->uid, s->uid) == 0 && m->attempt == 7;
}

static bool run_pod(struct subject *s) {
	Runtime__V1__RunPodSandboxRequest q = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxMetadata metadata = RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
	metadata.name = s->name;
	metadata.namespace_ = s->namespace;
	metadata.uid = s->uid;
	metadata.attempt = 7;
	config.metadata = &metadata;
	config.n_labels = config.n_annotations = ENTRIES;
	config.labels = (void *)s->labels.list;
	config.annotations = (void *)s->annotations.list;
	q.config = &config;
	Runtime__V1__RunPodSandboxResponse *a = call(MSG_cri_run_pod_sandbox, &q.base);
	snprintf(s->pod, sizeof(s->pod), "%s", a ? a->pod_sandbox_id : "");
	return a != NULL;
}

static bool create_container(struct subject *s) {
	Runtime__V1__CreateContainerRequest q = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	Runtime__V1__ContainerConfig config = RUNTIME__V1__CONTAINER_CONFIG__INIT;
	Runtime__V1__ContainerMetadata metadata = RUNTIME__V1__CONTAINER_METADATA__INIT;
	Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
	metadata.name = s->name;
	metadata.attempt = 7;
	image.image = (char *)"busybox";
	config.metadata = &metadata;
	config.image = &image;
	config.n_labels = config.n_annotations = ENTRIES;
	config.labels = (void *)s->labels.list;
	config.annotations = (void *)s->annotations.list;
	q.pod_sandbox_id = s->pod;
	q.config = &config;
	Runtime__V1__CreateContainerResponse *a = call(MSG_cri_create_container, &q.base);
	snprintf(s->container, sizeof(s->container), "%s", a ? a->container_id : "");
	return a != NULL;
}

static bool pod_status_same(const struct subject *s) {
	Runtime__V1__PodSandboxStatusRequest q = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
	q.pod_sandbox_id = (char *)(uintptr_t)s->pod;
	const Runtime__V1__PodSandboxStatusResponse *a = call(MSG_cri_pod_sandbox_status, &q.base);
	return a && metadata_same(s, a->status->metadata) &&
	       pairs_same(&s->labels, a->status->n_labels, a->status->labels) &&
	       pairs_same(&s->annotations, a->status->n_annotations, a->status->annotations);
}

static bool pod_list_same(const struct subject *s) {
	Runtime__V1__ListPodSandboxRequest q = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	const Runtime__V1__ListPodSandboxResponse *a = call(MSG_cri_list_pod_sandbox, &q.base);
	for (size_t i = 0; a && i < a->n_items; i++)
		if (strcmp(a->items[i]->id, s->pod) == 0)
			return metadata_same(s, a->items[i]->metadata) &&
			       pairs_same(&s->labels, a->items[i]->n_labels, a->items[i]->labels) &&
			       pairs_same(&s->annotations, a->items[i]->n_annotations, a->items[i]->annotations);
	return false;
}

static bool container_status_same(const struct subject *s) {
	Runtime__V1__ContainerStatusRequest q = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	q.container_id = (char *)(uintptr_t)s->container;
	const Runtime__V1__ContainerStatusResponse *a = call(MSG_cri_container_status, &q.base);
	return a && strcmp(a->status->metadata->name, s->name) == 0 && a->status->metadata->attempt == 7 &&
	       pairs_same(&s->labels, a->status->n_labels, a->status->labels) &&
	       pairs_same(&s->annotations, a->status->n_annotations, a->status->annotations);
}

static bool container_list_same(const struct subject *s) {
	Runtime__V1__ListContainersRequest q = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
	Runtime__V1__ContainerFilter f = RUNTIME__V1__CONTAINER_FILTER__INIT;
	f.id = (char *)(uintptr_t)s->container;
	q.filter = &f;
	const Runtime__V1__ListContainersResponse *a = call(MSG_cri_list_containers, &q.base);
	return a && a->n_containers == 1 && strcmp(a->containers[0]->metadata->name, s->name) == 0 &&
	       pairs_same(&s->labels, a->containers[0]->n_labels, a->containers[0]->labels) &&
	       pairs_same(&s->annotations, a->containers[0]->n_annotations, a->containers[0]->annotations);
}

static void compare(const struct subject *s, unsigned plane, const char *when) {
	tap_check(pod_status_same(s) && pod_list_same(s), "plane %u: the pod's metadata, labels and annotations %s",
		  plane, when);
	tap_check(container_status_same(s) && container_list_same(s), "plane %u: the container's %s", plane, when);
}

static void remove_pod(const struct subject *s) {
	if (lab_key(&l, MSG_cri_stop_pod_sandbox, s->pod) || lab_key(&l, MSG_cri_remove_pod_sandbox, s->pod))
		abort();
}

static void test_plane(unsigned plane) {
	struct subject s = {
		.name = generate(plane, NAME_MAX_BYTES + 1, true),
		.namespace = generate(plane, 64, true),
		.uid = plane % 2 ? generate(plane, 64, true) : strdup(""),
	};
	pairs_init(&s.labels);
	pairs_init(&s.annotations);
	bool made = run_pod(&s);
	tap_check(made && create_container(&s), "plane %u: a pod and a container with all of it", plane);
	compare(&s, plane, "come back");
	if (plane % 8 == 0) {
		lab_restart(&l);
		compare(&s, plane, "come back from the disk");
	}
	remove_pod(&s);
	pairs_deinit(&s.labels);
	pairs_deinit(&s.annotations);
	free(s.name);
	free(s.namespace);
	free(s.uid);
}

/* What no name may be is refused, and leaves nothing. */
static void test_refused(void) {
	static const char *const names[] = { "", "a\nb", "a\x7f" };
	struct fault fault;
	char *large = generate(1, NAME_MAX_BYTES + 6, true);
	bool good = true;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		good &= !*lab_run(&l, names[i], &fault) && fault.code == FAULT_INVALID_ARGUMENT;
	tap_check(good, "no name, and names with control characters, are refused");
	tap_check(!*lab_run(&l, large, &fault) && fault.code == FAULT_INVALID_ARGUMENT && strstr(fault.text, "1024"),
		  "a name of more than 1024 bytes is refused: %s", fault.text);
	free(large);
	Runtime__V1__ListPodSandboxRequest q = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
	const Runtime__V1__ListPodSandboxResponse *a = call(MSG_cri_list_pod_sandbox, &q.base);
	tap_check(a && a->n_items == 0, "and no pod came of them");
}

int main(void) {
	log_init("test", LOG_ERROR + 1);
	lab_init(&l);
	if (lab_pull(&l, "busybox", NULL))
		abort();
	for (unsigned plane = 0; plane < PLANES; plane++)
		test_plane(plane);
	test_refused();
	lab_call_end(&last);
	lab_deinit(&l);
	return tap_done();
}
