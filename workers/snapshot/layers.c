/* The layers that are there: the table, its place on disk, its loading. */
#include "workers/snapshot/state.h"

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "tree/remove.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_MIN 12
#define RECORD "layer"
#define RECORD_MAX 4096

struct layer *layer_find(const struct snapshot_worker *s, const char *chain) {
	struct map_node *n = map_find(&s->layers, chain);
	return n ? container_of(n, struct layer, node) : NULL;
}

static bool name_taken(const struct snapshot_worker *s, const char *name) {
	size_t pos;
	for (struct map_node *n = map_first(&s->layers, &pos); n; n = map_next(&s->layers, &pos, n))
		if (strcmp(container_of(n, struct layer, node)->name, name) == 0)
			return true;
	return false;
}

static struct layer *layer_add(struct snapshot_worker *s, const char *chain) {
	struct layer *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	snprintf(l->chain, sizeof(l->chain), "%s", chain);
	if (map_insert(&s->layers, &l->node, l->chain) < 0) {
		free(l);
		return NULL;
	}
	return l;
}

struct layer *layer_new(struct snapshot_worker *s, const char *chain) {
	char name[LAYER_NAME_SIZE];
	size_t n = NAME_MIN;
	do
		snprintf(name, sizeof(name), "%.*s", (int)n, chain + strlen("sha256:"));
	while (name_taken(s, name) && ++n < LAYER_NAME_SIZE);
	struct layer *l = layer_add(s, chain);
	if (l)
		memcpy(l->name, name, sizeof(name));
	return l;
}

void layer_free(struct snapshot_worker *s, struct layer *l) {
	map_remove(&s->layers, &l->node);
	free(l);
}

void layer_staging_discard(struct snapshot_worker *s, const struct layer *l) {
	int r = trash_put(s->rooms.layers_trash, s->rooms.layers_staging, l->name);
	if (r < 0 && r != -ENOENT)
		log_event(LOG_WARN, "a layer's leftovers stay in .staging until the next start", "layer", l->chain,
			  "error", strerror(-r), NULL);
	else
		reaper_soon(&s->reaper);
}

void layers_abandon(struct snapshot_worker *s) {
	size_t pos;
	struct map_node *next;
	for (struct map_node *n = map_first(&s->layers, &pos); n; n = next) {
		struct layer *l = container_of(n, struct layer, node);
		next = map_next(&s->layers, &pos, n);
		if (l->state != LAYER_UNPACKED)
			continue;
		layer_staging_discard(s, l);
		layer_free(s, l);
	}
}

/* --- the record on disk --- */

int layer_record_write(int dir, const struct layer *l) {
	char text[256];
	int n = snprintf(text, sizeof(text), "chain %s\nsize %llu\ninodes %llu\n", l->chain,
			 (unsigned long long)l->usage.size, (unsigned long long)l->usage.inodes);
	CLEANUP_FD int fd = openat(dir, RECORD, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd_write_all(fd, text, (size_t)n);
}

static int layer_record_read(int layers, const char *name, char chain[CHAIN_SIZE], struct usage *ret_usage) {
	char path[LAYER_NAME_SIZE + 16];
	CLEANUP_FREE char *text = NULL;
	unsigned long long size, inodes;
	snprintf(path, sizeof(path), "%.64s/" RECORD, name);
	CLEANUP_FD int fd = openat(layers, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = fd_read_all(fd, RECORD_MAX, &text, NULL);
	if (r < 0)
		return r;
	if (sscanf(text, "chain %71s\nsize %llu\ninodes %llu\n", chain, &size, &inodes) != 3 || !layer_id_valid(chain))
		return -EBADMSG;
	*ret_usage = (struct usage){ .size = size, .inodes = inodes };
	return 0;
}

int layer_root_read(struct snapshot_worker *s, struct layer *l) {
	char path[LAYER_NAME_SIZE + 4];
	struct stat st;
	snprintf(path, sizeof(path), "%s/fs", l->name);
	if (fstatat(s->rooms.layers, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	l->mode = st.st_mode & 07777;
	l->uid = st.st_uid;
	l->gid = st.st_gid;
	return 0;
}

static int layer_load(struct snapshot_worker *s, const char *name) {
	char chain[CHAIN_SIZE];
	struct usage usage;
	int r = layer_record_read(s->rooms.layers, name, chain, &usage);
	if (r < 0)
		return r;
	if (layer_find(s, chain) || strlen(name) >= LAYER_NAME_SIZE)
		return -EEXIST;
	struct layer *l = layer_add(s, chain);
	if (!l)
		return -ENOMEM;
	snprintf(l->name, sizeof(l->name), "%s", name);
	l->usage = usage;
	l->state = LAYER_COMMITTED;
	r = layer_root_read(s, l);
	if (r < 0)
		layer_free(s, l);
	return r;
}

/* A folder that makes no sense is set aside into the trash and doesn't keep the
 * others from being used. */
int layers_load(struct snapshot_worker *s, struct fault *fault) {
	int fd = openat(s->rooms.layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return fault_errno(fault, errno, "read the folder of layers");
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		int r = layer_load(s, e->d_name);
		if (r == 0)
			continue;
		log_event(LOG_WARN, "removing a layer that can't be read", "folder", e->d_name, "error", strerror(-r),
			  NULL);
		if (r != -ENOMEM && trash_put(s->rooms.layers_trash, s->rooms.layers, e->d_name) == 0)
			s->rooms.leftovers = true;
	}
	closedir(d);
	return 0;
}

int layers_resolve(struct snapshot_worker *s, struct msg_request *r, char *const *chains, size_t n,
		   const struct layer ***ret_layers) {
	if (n > OVERLAY_LAYERS_MAX - 1) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%zu layers: at most %d can be stacked", n,
			  OVERLAY_LAYERS_MAX - 1);
		return -EINVAL;
	}
	const struct layer **layers = arena_alloc(&r->arena, (n + 1) * sizeof(*layers));
	if (!layers) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "no memory for %zu layers", n);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		const struct layer *l = layer_find(s, chains[i]);
		if (!l || l->state != LAYER_COMMITTED) {
			msg_failf(r, FAULT_FAILED_PRECONDITION, "layer %.80s isn't there%s", chains[i],
				  l ? " yet (it isn't committed)" : ": the image must be pulled again");
			return -ENOENT;
		}
		layers[n - 1 - i] = l;
	}
	*ret_layers = layers;
	return 0;
}
