/*
 * Which program a container gets, and the programs made so far.
 *
 * Owns: up to CACHE_MAX programs, the least recently used one goes.
 * Invariant: the key is everything that the program depends on: the profile's
 * text (or the message's bytes), and the capabilities as far as they count. A
 * file is read for each container; only its compilation is saved, so an edited
 * file is never served stale.
 * Failure: a profile that can't be read or understood refuses its container.
 */
#include "profile.h"

#include "base/buffer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CACHE_MAX 32

#define PREFIX_LOCALHOST "localhost/"

struct seccomp_cached {
	struct list node; /* most recently used first */
	struct buffer key;
	struct seccomp_program program;
};

struct seccomp_cache {
	char *localhost_dir;
	struct list programs;
	size_t n;
};

/* What a profile comes from. key: its kind, capabilities, and text. */
enum source_kind { SOURCE_DEFAULT, SOURCE_JSON, SOURCE_OCI };

struct source {
	enum source_kind kind;
	uint64_t capabilities;
	struct buffer text;
	const Grpc__LinuxSeccomp *oci;
};

int seccomp_cache_new(const char *localhost_dir, struct seccomp_cache **ret_cache) {
	struct seccomp_cache *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	list_init(&c->programs);
	c->localhost_dir = strdup(localhost_dir);
	if (!c->localhost_dir) {
		free(c);
		return -ENOMEM;
	}
	*ret_cache = c;
	return 0;
}

static void cached_free(struct seccomp_cached *e) {
	list_unlink(&e->node);
	buffer_deinit(&e->key);
	free(e->program.filter);
	free(e);
}

void seccomp_cache_free(struct seccomp_cache *c) {
	if (!c)
		return;
	list_for_each_safe (it, &c->programs)
		cached_free(list_entry(it, struct seccomp_cached, node));
	free(c->localhost_dir);
	free(c);
}

static struct seccomp_cached *cache_find(struct seccomp_cache *c, const struct buffer *key) {
	list_for_each (it, &c->programs) {
		struct seccomp_cached *e = list_entry(it, struct seccomp_cached, node);
		if (e->key.size == key->size && memcmp(e->key.data, key->data, key->size) == 0)
			return e;
	}
	return NULL;
}

static void cache_front(struct seccomp_cache *c, struct seccomp_cached *e) {
	list_unlink(&e->node);
	e->node.next = c->programs.next;
	e->node.prev = &c->programs;
	c->programs.next->prev = &e->node;
	c->programs.next = &e->node;
}

static int source_profile(const struct source *s, struct seccomp_profile *p, struct fault *fault) {
	if (s->kind == SOURCE_OCI)
		return profile_from_oci(p, s->oci, fault);
	if (s->kind == SOURCE_JSON)
		return profile_from_json(p, (const char *)s->text.data, s->text.size, s->capabilities, fault);
	profile_default(p, s->capabilities);
	return 0;
}

static int source_compile(const struct source *s, struct seccomp_program *ret_program, struct fault *fault) {
	struct seccomp_profile p CLEANUP_PROFILE;
	profile_init(&p);
	int r = source_profile(s, &p, fault);
	return r < 0 ? r : profile_compile(&p, ret_program, fault);
}

static int cache_get(struct seccomp_cache *c, const struct source *s, const struct seccomp_program **ret_program,
		     struct fault *fault) {
	struct buffer key CLEANUP_BUFFER = { 0 };
	buffer_add(&key, &s->kind, sizeof(s->kind));
	buffer_add(&key, &s->capabilities, sizeof(s->capabilities));
	buffer_add(&key, s->text.data, s->text.size);
	if (key.failed || s->text.failed)
		return fault_errno(fault, ENOMEM, "find a seccomp profile");
	struct seccomp_cached *e = cache_find(c, &key);
	if (!e) {
		struct seccomp_program program;
		int r = source_compile(s, &program, fault);
		if (r < 0)
			return r;
		e = calloc(1, sizeof(*e));
		if (!e) {
			free(program.filter);
			return fault_errno(fault, ENOMEM, "keep a seccomp profile");
		}
		list_init(&e->node);
		e->program = program;
		e->key = buffer_take(&key);
		if (c->n == CACHE_MAX)
			cached_free(list_entry(c->programs.prev, struct seccomp_cached, node));
		else
			c->n++;
	}
	cache_front(c, e);
	*ret_program = &e->program;
	return 0;
}

/* --- which source --- */

/* What the container can have at all: the bounding set. */
static uint64_t spec_capabilities(const Grpc__Spec *spec) {
	const Grpc__LinuxCapabilities *caps = spec->process ? spec->process->capabilities : NULL;
	uint64_t set = 0;
	for (size_t i = 0; caps && i < caps->n_bounding; i++)
		set |= seccomp_capability(caps->bounding[i]);
	return set;
}

static const char *spec_annotation(const Grpc__Spec *spec, const char *key) {
	for (size_t i = 0; i < spec->n_annotations; i++)
		if (strcmp(spec->annotations[i]->key, key) == 0)
			return spec->annotations[i]->value;
	return NULL;
}

/* No way out of the folder for a relative name. */
static bool climbs(const char *path) {
	for (const char *at = path; *at; at += strcspn(at, "/"), at += strspn(at, "/"))
		if (strcspn(at, "/") == 2 && at[0] == '.' && at[1] == '.')
			return true;
	return false;
}

int seccomp_profile_path(const struct seccomp_cache *c, const Grpc__Spec *spec, char ret_path[static PATH_MAX],
			 struct fault *fault) {
	const char *name = spec && !(spec->linux && spec->linux->seccomp) ? spec_annotation(spec, SECCOMP_ANNOTATION)
									  : NULL;
	if (!name || strncmp(name, PREFIX_LOCALHOST, strlen(PREFIX_LOCALHOST)) != 0)
		return 0;
	name += strlen(PREFIX_LOCALHOST);
	const char *folder = name[0] == '/' ? "" : c->localhost_dir;
	if (climbs(name) || snprintf(ret_path, PATH_MAX, "%s%s%s", folder, *folder ? "/" : "", name) >= PATH_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.200s\" is no name of a seccomp profile", name);
	return 1;
}

static int for_localhost(struct seccomp_cache *c, const char *name, const void *data, size_t size,
			 uint64_t capabilities, const struct seccomp_program **ret_program, struct fault *fault) {
	struct buffer text CLEANUP_BUFFER = { 0 };
	if (!data)
		return fault_set(fault, FAULT_INTERNAL, "seccomp profile \"%.300s\" was not read", name);
	buffer_add(&text, data, size);
	struct source s = { .kind = SOURCE_JSON, .capabilities = capabilities, .text = text };
	int r = cache_get(c, &s, ret_program, fault);
	return r < 0 ? fault_prefix(fault, r, "seccomp profile \"%.300s\"", name) : 0;
}

static int for_message(struct seccomp_cache *c, const Grpc__LinuxSeccomp *m, const struct seccomp_program **ret_program,
		       struct fault *fault) {
	struct buffer packed CLEANUP_BUFFER = { 0 };
	size_t size = grpc__linux_seccomp__get_packed_size(m);
	uint8_t *room = buffer_reserve(&packed, size ? size : 1);
	if (!room)
		return fault_errno(fault, ENOMEM, "find a seccomp profile");
	packed.size = grpc__linux_seccomp__pack(m, room);
	struct source s = { .kind = SOURCE_OCI, .text = packed, .oci = m };
	return cache_get(c, &s, ret_program, fault);
}

int seccomp_program_for(struct seccomp_cache *c, const Grpc__Spec *spec, const void *file, size_t file_size,
			const struct seccomp_program **ret_program, struct fault *fault) {
	*ret_program = NULL;
	if (!spec)
		return 0;
	if (spec->linux && spec->linux->seccomp)
		return for_message(c, spec->linux->seccomp, ret_program, fault);
	const char *which = spec_annotation(spec, SECCOMP_ANNOTATION);
	if (!which || strcmp(which, "unconfined") == 0)
		return 0;
	uint64_t capabilities = spec_capabilities(spec);
	if (strcmp(which, "runtime/default") == 0) {
		struct source s = { .kind = SOURCE_DEFAULT,
				    .capabilities = capabilities & profile_default_capabilities() };
		return cache_get(c, &s, ret_program, fault);
	}
	if (strncmp(which, PREFIX_LOCALHOST, strlen(PREFIX_LOCALHOST)) == 0)
		return for_localhost(c, which + strlen(PREFIX_LOCALHOST), file, file_size, capabilities, ret_program,
				     fault);
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "seccomp profile \"%.100s\" is neither runtime/default, unconfined nor localhost/<file>",
			 which);
}

int seccomp_message_for(const Grpc__Spec *spec, const void *file, size_t file_size, struct arena *a,
			Grpc__LinuxSeccomp **ret_message, struct fault *fault) {
	*ret_message = spec->linux ? spec->linux->seccomp : NULL;
	const char *which = spec_annotation(spec, SECCOMP_ANNOTATION);
	if (*ret_message || !which || strcmp(which, "unconfined") == 0)
		return 0;
	struct source s = { .kind = SOURCE_DEFAULT, .capabilities = spec_capabilities(spec) };
	struct seccomp_profile p CLEANUP_PROFILE;
	profile_init(&p);
	if (strcmp(which, "runtime/default") != 0) {
		if (!file)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp profile \"%.100s\" was not read",
					 which);
		s.kind = SOURCE_JSON;
		s.text.data = (uint8_t *)(uintptr_t)file;
		s.text.size = file_size;
	}
	int r = source_profile(&s, &p, fault);
	if (r == 0 && p.failed)
		r = fault_errno(fault, ENOMEM, "read a seccomp profile");
	if (r == 0)
		r = profile_to_oci(&p, a, ret_message, fault);
	return r < 0 ? fault_prefix(fault, r, "seccomp profile \"%.100s\"", which) : 0;
}

/* Of the capabilities that count, containers usually have this one. */
void seccomp_cache_warm(struct seccomp_cache *c) {
	struct source s = { .kind = SOURCE_DEFAULT, .capabilities = seccomp_capability("CAP_SYS_CHROOT") };
	const struct seccomp_program *program;
	struct fault fault = { 0 };
	(void)cache_get(c, &s, &program, &fault); /* who needs it gets the error */
}
