#include "workers/api/containerd/archive_files.h"

#include <errno.h>
#include <string.h>

void archive_path_normalise(char *path) {
	char *out = path;
	for (char *p = path, *next; *p; p = next) {
		size_t n = strcspn(p, "/");
		next = p + n + (p[n] == '/');
		if (n == 0 || (n == 1 && p[0] == '.'))
			continue;
		if (n == 2 && memcmp(p, "..", 2) == 0) {
			while (out > path && *--out != '/')
				;
			continue;
		}
		if (out > path)
			*out++ = '/';
		memmove(out, p, n);
		out += n;
	}
	*out = '\0';
}

int archive_files_init(struct archive_files *f, struct arena *a) {
	*f = (struct archive_files){ .arena = a, .v = arena_alloc(a, ARCHIVE_FILES_MAX * sizeof(*f->v)) };
	return f->v ? 0 : -ENOMEM;
}

struct archive_file *archive_files_add(struct archive_files *f, const char *path, struct fault *fault) {
	if (f->n == ARCHIVE_FILES_MAX) {
		fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "there are more than %d files in the archive",
			  ARCHIVE_FILES_MAX);
		return NULL;
	}
	char *copy = arena_strdup(f->arena, path);
	if (!copy) {
		fault_errno(fault, ENOMEM, "read the archive");
		return NULL;
	}
	f->v[f->n] = (struct archive_file){ .path = copy };
	return &f->v[f->n++];
}

int archive_files_add_link(struct archive_files *f, const char *path, const char *to, bool symbolic,
			   struct fault *fault) {
	const char *slash = symbolic ? strrchr(path, '/') : NULL;
	struct archive_file *link = archive_files_add(f, path, fault);
	if (!link)
		return -ECANCELED;
	char *target = arena_printf(f->arena, "%.*s/%s", slash ? (int)(slash - path) : 0, path, to);
	if (!target)
		return fault_errno(fault, ENOMEM, "read the archive");
	archive_path_normalise(target);
	link->link = target;
	return 0;
}

static const struct archive_file *file_of(const struct archive_files *f, const char *path) {
	for (size_t i = 0; i < f->n; i++)
		if (strcmp(f->v[i].path, path) == 0)
			return &f->v[i];
	return NULL;
}

const struct archive_blob *archive_files_find(void *files, const char *path) {
	const struct archive_file *f = file_of(files, path);
	/* docker's links lead to files, never on. */
	if (f && f->link)
		f = file_of(files, f->link);
	return f && f->blob.digest ? &f->blob : NULL;
}
