/*
 * The names that an archive gives its images count where the client has a prefix
 * for them; other names are the index's. As core/transfer/image of containerd,
 * Store.Store, has it.
 */
#include "workers/api/containerd/import_names.h"

#include <errno.h>
#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define NAMES_MAX 1024

struct naming {
	struct arena *arena;
	const T(ImageStore) * to;
	struct import_names *names;
	struct fault *fault;
};

bool import_keeps_index(const T(ImageStore) * to) {
	for (size_t i = 0; i < to->n_extra_references; i++)
		if (!to->extra_references[i]->is_prefix || to->extra_references[i]->add_digest)
			return true;
	return *to->name;
}

static int add(struct naming *n, const char *name, const struct archive_image *image) {
	if (n->names->n == NAMES_MAX)
		return fault_set(n->fault, FAULT_INVALID_ARGUMENT, "import: the images have more than %d names",
				 NAMES_MAX);
	n->names->v[n->names->n++] = (struct import_name){ .name = (char *)(uintptr_t)name, .image = image };
	return 0;
}

static int add_digest(struct naming *n, const T(ImageReference) * r, const char *digest,
		      const struct archive_image *image) {
	const char *name = arena_printf(n->arena, "%s@%s", r->name, digest);
	return name ? add(n, name, image) : fault_errno(n->fault, ENOMEM, "import");
}

/* "example.org/a" is one of "example.org/a:1", and none of "example.org/ab:1". */
static bool is_prefix(const char *prefix, const char *name) {
	size_t n = strlen(prefix);
	return strncmp(name, prefix, n) == 0 && (!name[n] || strchr("/:@", name[n]));
}

/* What the archive calls it, as far as that fits the client's prefix; "": nothing
 * does. NULL: out of memory. */
static const char *name_of(struct naming *n, const T(ImageReference) * r, const struct archive_image *i) {
	if (!*r->name || (!i->name && !i->ref))
		return "";
	if (!i->name)
		return arena_printf(n->arena, "%s:%s", r->name, i->ref);
	/* A whole one is taken as it is, another one isn't completed. */
	bool whole = strpbrk(i->name, "/:@");
	return whole && (r->allow_overwrite || is_prefix(r->name, i->name)) ? i->name : "";
}

static int add_image(struct naming *n, const struct archive_image *i) {
	size_t before = n->names->n;
	int e = 0;
	for (size_t k = 0; e == 0 && k < n->to->n_extra_references; k++) {
		const T(ImageReference) *r = n->to->extra_references[k];
		const char *name = r->is_prefix ? name_of(n, r, i) : "";
		if (!name)
			e = fault_errno(n->fault, ENOMEM, "import");
		else if (*name)
			e = add(n, name, i);
		if (e == 0 && r->is_prefix && r->add_digest && (!*name || !r->skip_named_digest))
			e = add_digest(n, r, i->target.digest, i);
	}
	return e == 0 && n->names->n == before && import_keeps_index(n->to) ? add(n, NULL, i) : e;
}

static int add_index(struct naming *n, const char *digest) {
	int e = *n->to->name ? add(n, n->to->name, NULL) : 0;
	for (size_t k = 0; e == 0 && k < n->to->n_extra_references; k++) {
		const T(ImageReference) *r = n->to->extra_references[k];
		if (!r->is_prefix)
			e = add(n, r->name, NULL);
		else if (r->add_digest)
			e = add_digest(n, r, digest, NULL);
	}
	return e;
}

int import_names(struct arena *a, const T(ImageStore) * to, const struct archive_images *images,
		 struct import_names *ret_names, struct fault *fault) {
	struct import_names names = { .v = arena_alloc(a, NAMES_MAX * sizeof(*names.v)) };
	struct naming n = { .arena = a, .to = to, .names = &names, .fault = fault };
	int e = names.v ? 0 : fault_errno(fault, ENOMEM, "import");
	for (size_t k = 0; e == 0 && k < images->n; k++)
		e = add_image(&n, &images->v[k]);
	if (e == 0 && images->index)
		e = add_index(&n, images->index->digest);
	if (e == 0)
		*ret_names = names;
	return e;
}
