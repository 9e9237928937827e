/*
 * What a module needs it says itself (.modinfo: "depends=a,b"), so neither
 * depmod nor its files are wanted.
 */
#include "tools/initrd/initrd.h"

#include "base/fd.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MODULE_MAX ((size_t)64 << 20)
#define NAME_MAX_LENGTH 64
#define DEPTH_MAX 16

/* nftw has no context. */
static const char *wanted;
static char *found;

/* A file's "-" is the kernel's "_". */
static void name_of(const char *path, char name[NAME_MAX_LENGTH]) {
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	snprintf(name, NAME_MAX_LENGTH, "%.*s", (int)strcspn(base, "."), base);
	for (char *p = name; *p; p++)
		*p = *p == '-' ? '_' : *p;
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *at) {
	char name[NAME_MAX_LENGTH];
	if (type != FTW_F || !strstr(path + at->base, ".ko"))
		return 0;
	name_of(path, name);
	if (strcmp(name, wanted) != 0)
		return 0;
	found = strdup(path);
	return 1;
}

/* NULL: built in, or not there. */
static char *module_find(const char *folder, const char *name) {
	wanted = name;
	found = NULL;
	nftw(folder, visit, 16, FTW_PHYS);
	return found;
}

/* "a,b" of depends=; NULL when the file isn't a module that can be read here. */
static char *depends_read(const char *path) {
	static const char key[] = "\0depends=";
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *data = NULL;
	size_t size;
	if (fd < 0 || fd_read_all(fd, MODULE_MAX, &data, &size) < 0)
		return NULL;
	char *at = memmem(data, size, key, sizeof(key) - 1);
	/* fd_read_all ends what it read with a NUL. */
	return at ? strdup(at + sizeof(key) - 1) : NULL;
}

static bool has(const struct modules *m, const char *file) {
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->files[i], file) == 0)
			return true;
	return false;
}

static int add(const char *folder, const char *name, unsigned depth, struct modules *m, struct fault *fault) {
	CLEANUP_FREE char *file = module_find(folder, name), *depends = NULL;
	if (!file || has(m, file))
		return 0;
	depends = depends_read(file);
	if (!depends)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s says not what it depends on: modules that are compressed can't be packed", file);
	int r = 0;
	char *rest = depends, *word;
	while (r == 0 && depth < DEPTH_MAX && (word = strsep(&rest, ",")))
		if (*word)
			r = add(folder, word, depth + 1, m, fault);
	if (r == 0 && m->n == MODULES_MAX)
		r = fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "more than %d modules", MODULES_MAX);
	if (r == 0)
		m->files[m->n++] = take_ptr(file);
	return r;
}

int modules_order(const char *folder, char *const *names, struct modules *ret_modules, struct fault *fault) {
	int r = access(folder, R_OK) < 0 ? fault_errno(fault, errno, "look for modules in %s", folder) : 0;
	*ret_modules = (struct modules){ 0 };
	for (; r == 0 && *names; names++) {
		char name[NAME_MAX_LENGTH];
		name_of(*names, name);
		r = add(folder, name, 0, ret_modules, fault);
	}
	return r;
}
