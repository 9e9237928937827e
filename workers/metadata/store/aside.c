#include "workers/metadata/store/aside.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* What is listed; more may lie in the folder. */
#define ENTRIES_MAX 256
#define SUFFIX ".record"

static void entry_add(struct aside *a, const char *key, const char *reason) {
	if (a->n_entries >= ENTRIES_MAX)
		return;
	struct aside_entry *e = calloc(1, sizeof(*e));
	if (!e)
		return;
	e->key = strdup(key);
	e->reason = strdup(reason);
	list_append(&a->entries, &e->node);
	a->n_entries++;
}

/* The two lines that aside_record wrote in front of the bytes. */
static void entry_read(struct aside *a, const char *path) {
	char line[2][512] = { "", "" };
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	for (int i = 0; i < 2; i++)
		if (fgets(line[i], sizeof(line[i]), f))
			line[i][strcspn(line[i], "\n")] = '\0';
	fclose(f);
	if (strncmp(line[0], "key: ", 5) == 0 && strncmp(line[1], "reason: ", 8) == 0)
		entry_add(a, line[0] + 5, line[1] + 8);
}

int aside_init(struct aside *a, const char *dir) {
	*a = (struct aside){ 0 };
	list_init(&a->entries);
	if (asprintf(&a->dir, "%s/set-aside", dir) < 0) {
		a->dir = NULL;
		return -ENOMEM;
	}
	if (mkdir(a->dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	DIR *d = opendir(a->dir);
	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d));) {
		size_t n = strlen(e->d_name);
		char path[4096];
		if (n < sizeof(SUFFIX) || strcmp(e->d_name + n - (sizeof(SUFFIX) - 1), SUFFIX) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", a->dir, e->d_name);
		entry_read(a, path);
	}
	closedir(d);
	return 0;
}

void aside_deinit(struct aside *a) {
	struct list *n;
	while (a->entries.next && (n = list_pop(&a->entries))) {
		struct aside_entry *e = list_entry(n, struct aside_entry, node);
		free(e->key);
		free(e->reason);
		free(e);
	}
	free(a->dir);
}

/* A name that can't be there yet. */
static void aside_path(const struct aside *a, const char *suffix, char *ret_path, size_t size) {
	static unsigned count;
	snprintf(ret_path, size, "%s/%lld-%u%s", a->dir, (long long)clock_real(), count++, suffix);
}

static int write_entry(struct aside *a, const char *key, const char *reason, const void *bytes, size_t size) {
	char path[4096], head[1024];
	aside_path(a, SUFFIX, path, sizeof(path));
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int n = snprintf(head, sizeof(head), "key: %.400s\nreason: %.400s\n\n", key, reason);
	int r = fd_write_all(fd, head, (size_t)n);
	return r < 0 ? r : fd_write_all(fd, bytes, size);
}

void aside_record(struct aside *a, const char *key, const char *reason, const void *bytes, size_t size) {
	char clean[257];
	size_t n = 0;
	for (; n < sizeof(clean) - 1 && key[n]; n++)
		clean[n] = key[n] < 0x20 || key[n] == 0x7f ? '?' : key[n];
	clean[n] = '\0';
	int r = write_entry(a, clean, reason, bytes, size);
	log_event(LOG_ERROR, "record set aside", "key", clean, "reason", reason, "kept",
		  r < 0 ? strerrordesc_np(-r) : a->dir, NULL);
	entry_add(a, clean, reason);
}

int aside_file(struct aside *a, const char *path, const char *reason) {
	char to[4096], suffix[128];
	const char *name = strrchr(path, '/');
	snprintf(suffix, sizeof(suffix), "-%.100s", name ? name + 1 : path);
	aside_path(a, suffix, to, sizeof(to));
	int r = rename(path, to) < 0 ? -errno : 0;
	log_event(LOG_ERROR, "database set aside", "file", path, "reason", reason, "kept",
		  r < 0 ? strerrordesc_np(-r) : to, NULL);
	if (r == 0)
		/* The sentence beside the file, so that the list names it after a restart. */
		write_entry(a, path, reason, "", 0);
	entry_add(a, path, reason);
	return r;
}
