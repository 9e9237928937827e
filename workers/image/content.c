/*
 * The folders, and what is done with complete blobs. Listing and unlinking are
 * system calls of microseconds; what waits for the disk (fsync) is the loop's.
 */
#include "content.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/list.h"
#include "digest.h"
#include "json.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define PARTIAL_LIFE_S 3600
#define WRITE_LIFE_S (2 * 24 * 3600)

struct content {
	struct loop *loop;
	char path[PATH_MAX];
	int root, blobs, ingest, writes;
	uint64_t serial;
	struct list index_calls; /* struct content_call; the first is under way */
};

/* Something that ends with a sync. */
struct content_call {
	struct list node;
	struct content *content;
	struct buffer data; /* index.json to be */
	int fd;
	struct loop_source *step;
	content_done_fn done;
	void *ctx;
};

const char *content_path(const struct content *c) {
	return c->path;
}
struct loop *content_loop(const struct content *c) {
	return c->loop;
}
int content_ingest_dir(const struct content *c) {
	return c->ingest;
}
int content_blobs_dir(const struct content *c) {
	return c->blobs;
}
int content_writes_dir(const struct content *c) {
	return c->writes;
}
uint64_t content_serial(struct content *c) {
	return ++c->serial;
}

/* --- opening --------------------------------------------------------------- */

static int open_dir(int at, const char *path, int *ret_fd) {
	if (mkdirat(at, path, 0700) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int write_layout(struct content *c) {
	CLEANUP_FD int fd = openat(c->root, "oci-layout", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	return fd_write_all(fd, LAYOUT, strlen(LAYOUT));
}

static int open_dirs(struct content *c) {
	CLEANUP_FD int blobs = -1;
	int r = open_dir(AT_FDCWD, c->path, &c->root);
	if (r == 0)
		r = open_dir(c->root, "blobs", &blobs);
	if (r == 0)
		r = open_dir(blobs, "sha256", &c->blobs);
	if (r == 0)
		r = open_dir(c->root, "ingest", &c->ingest);
	if (r == 0)
		r = open_dir(c->root, "writes", &c->writes);
	return r < 0 ? r : write_layout(c);
}

int content_open(struct loop *loop, const char *state_root, struct content **ret_content, struct fault *fault) {
	struct content *c = calloc(1, sizeof(*c));
	if (!c)
		return fault_errno(fault, ENOMEM, "open the content store");
	c->loop = loop;
	c->root = c->blobs = c->ingest = c->writes = -1;
	list_init(&c->index_calls);
	snprintf(c->path, sizeof(c->path), "%s/content", state_root);
	int r = open_dirs(c);
	if (r < 0) {
		fault_errno(fault, r, "open the content store \"%s\"", c->path);
		content_free(c);
		return r;
	}
	content_sweep(c);
	*ret_content = c;
	return 0;
}

static void call_free(struct content_call *call) {
	loop_source_free(call->step);
	list_unlink(&call->node);
	buffer_deinit(&call->data);
	fd_close(call->fd);
	free(call);
}

void content_free(struct content *c) {
	if (!c)
		return;
	list_for_each_safe (n, &c->index_calls)
		call_free(list_entry(n, struct content_call, node));
	fd_close(c->root);
	fd_close(c->blobs);
	fd_close(c->ingest);
	fd_close(c->writes);
	free(c);
}

/* A directory stream of its own over an open folder. */
static DIR *list_dir(int dir) {
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		fd_close(fd);
	return d;
}

static void sweep(struct content *c, int dir, int64_t life_s) {
	DIR *d = list_dir(dir);
	int64_t now = clock_real() / NS_PER_SEC;
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat st;
		if (e->d_name[0] == '.' || fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		/* Documents are never gone on with; before the first one of ours,
		 * all that are there are a predecessor's. */
		bool orphan = strchr(e->d_name, '.') && c->serial == 0;
		if (orphan || now - st.st_mtim.tv_sec > life_s)
			unlinkat(dir, e->d_name, 0);
	}
	if (d)
		closedir(d);
}

void content_sweep(struct content *c) {
	sweep(c, c->ingest, PARTIAL_LIFE_S);
	sweep(c, c->writes, WRITE_LIFE_S);
}

/* --- blobs ----------------------------------------------------------------- */

int content_blob_open(struct content *c, const char *digest, uint64_t size, int *ret_fd) {
	struct stat st;
	if (!digest_valid(digest))
		return -ENOENT;
	CLEANUP_FD int fd = openat(c->blobs, digest + strlen("sha256:"), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (size != UINT64_MAX && (uint64_t)st.st_size != size))
		return -ENOENT;
	*ret_fd = take_fd(&fd);
	return 0;
}

int content_blob_read(struct content *c, const char *digest, size_t max, struct buffer *ret_data) {
	CLEANUP_FD int fd = -1;
	CLEANUP_FREE char *data = NULL;
	char have[DIGEST_SIZE];
	size_t size;
	int r = content_blob_open(c, digest, UINT64_MAX, &fd);
	if (r == 0)
		r = fd_read_all(fd, max, &data, &size);
	if (r < 0)
		return -ENOENT;
	digest_of(data, size, have);
	if (strcmp(have, digest) != 0)
		return -ENOENT;
	*ret_data = (struct buffer){ .data = (uint8_t *)take_ptr(data), .size = size, .room = size };
	return 0;
}

static Bulkhead__Descriptor *describe(struct content *c, const char *name, struct arena *arena) {
	struct stat st;
	char digest[DIGEST_SIZE + NAME_MAX];
	snprintf(digest, sizeof(digest), "sha256:%s", name);
	if (!digest_valid(digest) || fstatat(c->blobs, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	Bulkhead__Descriptor *d = arena_alloc(arena, sizeof(*d));
	if (!d)
		return NULL;
	bulkhead__descriptor__init(d);
	d->digest = arena_strdup(arena, digest);
	d->size = (uint64_t)st.st_size;
	return d->digest ? d : NULL;
}

int content_list_blobs(struct content *c, struct arena *arena, Bulkhead__ContentListReply *ret_list,
		       struct fault *fault) {
	CLEANUP_BUFFER struct buffer list = { 0 };
	DIR *d = list_dir(c->blobs);
	if (!d)
		return fault_errno(fault, errno, "list \"%s/blobs/sha256\"", c->path);
	for (struct dirent *e; (e = readdir(d));) {
		Bulkhead__Descriptor *blob = describe(c, e->d_name, arena);
		if (blob)
			buffer_add(&list, &blob, sizeof(blob));
	}
	closedir(d);
	Bulkhead__Descriptor **blobs = arena_alloc(arena, list.size + 1);
	if (!blobs || list.failed)
		return fault_errno(fault, ENOMEM, "list \"%s/blobs/sha256\"", c->path);
	if (list.size > 0)
		memcpy(blobs, list.data, list.size);
	ret_list->blobs = blobs;
	ret_list->n_blobs = list.size / sizeof(*blobs);
	return 0;
}

/* --- removing -------------------------------------------------------------- */

static struct content_call *call_new(struct content *c, content_done_fn done, void *ctx) {
	struct content_call *call = calloc(1, sizeof(*call));
	if (!call)
		return NULL;
	list_init(&call->node);
	call->content = c;
	call->fd = -1;
	call->done = done;
	call->ctx = ctx;
	return call;
}

static void call_end(struct content_call *call, int result, const char *what) {
	struct fault fault;
	content_done_fn done = call->done;
	void *ctx = call->ctx;
	if (result < 0)
		fault_errno(&fault, result, "%s \"%s\"", what, call->content->path);
	call_free(call);
	done(ctx, result < 0 ? &fault : NULL);
}

static void remove_done(void *ctx, int result) {
	call_end(ctx, result, "remove blobs from");
}

int content_remove_blobs(struct content *c, char *const *digests, size_t n, content_done_fn done, void *ctx,
			 struct fault *fault) {
	for (size_t i = 0; i < n; i++)
		if (!digest_valid(digests[i]))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.100s\" is no sha256 digest", digests[i]);
	for (size_t i = 0; i < n; i++)
		if (unlinkat(c->blobs, digests[i] + strlen("sha256:"), 0) < 0 && errno != ENOENT)
			return fault_errno(fault, errno, "remove blob %s from \"%s\"", digests[i], c->path);
	struct content_call *call = call_new(c, done, ctx);
	int r = call ? loop_fsync(c->loop, c->blobs, false, remove_done, call, &call->step) : -ENOMEM;
	if (r < 0) {
		if (call)
			call_free(call);
		return fault_errno(fault, r, "remove blobs from \"%s\"", c->path);
	}
	return 0;
}

/* --- index.json ------------------------------------------------------------ */

static void index_next(struct content *c);

/* Ends the first call and begins the one that waited for it. */
static void index_end(struct content_call *call, int result) {
	struct content *c = call->content;
	if (result < 0)
		unlinkat(c->root, "index.json.new", 0);
	list_unlink(&call->node);
	index_next(c);
	call_end(call, result, "write index.json to");
}

static void index_folder_synced(void *ctx, int result) {
	index_end(ctx, result);
}

static void index_synced(void *ctx, int result) {
	struct content_call *call = ctx;
	struct content *c = call->content;
	loop_source_free_p(&call->step);
	if (result == 0 && renameat(c->root, "index.json.new", c->root, "index.json") < 0)
		result = -errno;
	if (result == 0)
		result = loop_fsync(c->loop, c->root, false, index_folder_synced, call, &call->step);
	if (result < 0)
		index_end(call, result);
}

static void index_written(void *ctx, int result) {
	struct content_call *call = ctx;
	loop_source_free_p(&call->step);
	if (result == 0)
		result = loop_fsync(call->content->loop, call->fd, false, index_synced, call, &call->step);
	if (result < 0)
		index_end(call, result);
}

static void index_begin(void *ctx) {
	struct content_call *call = ctx;
	struct content *c = call->content;
	loop_source_free_p(&call->step);
	call->fd = openat(c->root, "index.json.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	int r = call->fd < 0 ? -errno : loop_write(c->loop, call->fd, 0, &call->data, index_written, call, &call->step);
	if (r < 0)
		index_end(call, r);
}

static void index_next(struct content *c) {
	if (list_empty(&c->index_calls))
		return;
	struct content_call *call = list_entry(c->index_calls.next, struct content_call, node);
	if (loop_defer(c->loop, index_begin, call, &call->step) < 0)
		index_end(call, -ENOMEM);
}

static int index_entry(struct buffer *out, const Bulkhead__ContentIndexRequest__Entry *e, struct fault *fault) {
	const Bulkhead__Descriptor *d = e->target;
	const char *colon = strrchr(e->name, ':');
	if (!d || !digest_valid(d->digest))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "index entry \"%.200s\" has no valid digest", e->name);
	buffer_addf(out, "{\"mediaType\":");
	json_quote(out, d->media_type);
	buffer_addf(out, ",\"digest\":\"%s\",\"size\":%llu,\"annotations\":{\"io.containerd.image.name\":", d->digest,
		    (unsigned long long)d->size);
	json_quote(out, e->name);
	if (colon && !strchr(colon, '/') && !strchr(e->name, '@')) {
		buffer_addf(out, ",\"org.opencontainers.image.ref.name\":");
		json_quote(out, colon + 1);
	}
	buffer_addf(out, "}}");
	return 0;
}

int content_write_index(struct content *c, const Bulkhead__ContentIndexRequest *index, content_done_fn done, void *ctx,
			struct fault *fault) {
	CLEANUP_BUFFER struct buffer text = { 0 };
	buffer_addf(&text,
		    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[");
	for (size_t i = 0; i < index->n_entries; i++) {
		buffer_add(&text, ",", i > 0);
		int r = index_entry(&text, index->entries[i], fault);
		if (r < 0)
			return r;
	}
	buffer_addf(&text, "]}\n");
	struct content_call *call = text.failed ? NULL : call_new(c, done, ctx);
	if (!call)
		return fault_errno(fault, ENOMEM, "write index.json");
	call->data = buffer_take(&text);
	bool first = list_empty(&c->index_calls);
	list_append(&c->index_calls, &call->node);
	if (first && loop_defer(c->loop, index_begin, call, &call->step) < 0) {
		call_free(call);
		return fault_errno(fault, ENOMEM, "write index.json");
	}
	return 0;
}
