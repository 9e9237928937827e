/*
 *   bytes of the stream, decompressed if they are compressed (inflate.h) ->
 *   entries (tar/push.h) -> a file's into its blob
 *   (blob.h), or into the memory of a document -> the stream's end -> images ->
 *   the manifests made for docker's -> the index, if it is to be kept -> done
 *
 * The client's window opens as its bytes are taken, so nothing piles up.
 */
#include "workers/api/containerd/archive.h"

#include "base/id.h"
#include "base/sha256.h"
#include "tar/push.h"
#include "workers/api/containerd/archive_files.h"
#include "workers/api/containerd/blob.h"
#include "workers/api/containerd/index_json.h"
#include "workers/api/containerd/inflate.h"

#include "containerd/transfer_types.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define T_INIT(name) CONTAINERD__TYPES__TRANSFER__##name##__INIT
#define WINDOW (128 * 1024)
#define PATH_LENGTH_MAX 1024
#define BLOBS "blobs/sha256/"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define LAYER "application/vnd.docker.image.rootfs.diff.tar"

struct ctd_archive {
	struct grpc_call *call;
	struct ctd_archive_order order;
	void (*done)(void *ctx, const struct fault *fault);
	void *ctx;
	struct ctd_stream *stream; /* NULL: the client has ended it */
	bool sniffed;
	struct ctd_inflate *inflate; /* NULL: it isn't compressed */
	struct buffer packed;	     /* for inflate */
	struct buffer in;
	size_t window; /* what the client may send yet */
	bool over, pumping;

	struct arena arena;
	struct tar_push tar;
	struct archive_files files;
	unsigned n_blobs;
	struct ctd_blob *blob;	 /* of the last file, or of a manifest made here */
	struct buffer *document; /* where the entry's bytes go instead; or NULL */
	struct buffer index, docker;
	struct archive_images images;
	bool read; /* all entries are; images are known */
	size_t image_at;
};

void ctd_archive_free(struct ctd_archive *x) {
	if (!x)
		return;
	ctd_stream_leave(x->stream);
	ctd_blob_free(x->blob);
	ctd_inflate_free(x->inflate);
	buffer_deinit(&x->packed);
	tar_push_deinit(&x->tar);
	archive_images_deinit(&x->images);
	buffer_deinit(&x->in);
	buffer_deinit(&x->index);
	buffer_deinit(&x->docker);
	arena_deinit(&x->arena);
	free(x);
}

const struct archive_images *ctd_archive_images(const struct ctd_archive *x) {
	return &x->images;
}

/* The last look at it from here. */
static int end(struct ctd_archive *x, const struct fault *fault) {
	x->over = true;
	x->done(x->ctx, fault);
	return -ECANCELED;
}

static int fail(struct ctd_archive *x, struct fault *fault) {
	fault_prefix(fault, 0, "import");
	return end(x, fault);
}

static int no_memory(struct ctd_archive *x) {
	struct fault fault;
	fault_errno(&fault, ENOMEM, "read the archive");
	return fail(x, &fault);
}

static void pump(struct ctd_archive *x);

static void moved(void *ctx, const struct fault *fault) {
	struct ctd_archive *x = ctx;
	struct fault f;
	if (!fault) {
		pump(x);
		return;
	}
	f = *fault;
	fail(x, &f);
}

/* --- files ------------------------------------------------------------------ */

static int blob_begin(struct ctd_archive *x, const char *expected, uint64_t size) {
	char ref[128];
	snprintf(ref, sizeof(ref), "%s-%u", x->order.lease, x->n_blobs++);
	struct ctd_blob_order order = { .ref = ref, .lease = x->order.lease, .expected = expected, .size = size };
	x->blob = ctd_blob_new(x->call, &order, moved, x);
	return x->blob ? 1 : no_memory(x);
}

/* What a layout names its blobs by is what they have to be. */
static int add_blob(struct ctd_archive *x, const char *path, uint64_t size) {
	char digest[PATH_LENGTH_MAX + 16] = "";
	if (strncmp(path, BLOBS, strlen(BLOBS)) == 0)
		snprintf(digest, sizeof(digest), "sha256:%s", path + strlen(BLOBS));
	struct fault fault;
	if (size == 0)
		return 1;
	struct archive_file *f = archive_files_add(&x->files, path, &fault);
	if (!f)
		return fail(x, &fault);
	f->blob.size = size;
	f->blob.media_type = LAYER;
	return blob_begin(x, digest_valid(digest) ? digest : "", size);
}

static int entry(struct ctd_archive *x, const struct tar_entry *e) {
	char path[PATH_LENGTH_MAX + 1];
	struct fault fault;
	if (snprintf(path, sizeof(path), "%s", e->path) > PATH_LENGTH_MAX) {
		fault_set(&fault, FAULT_INVALID_ARGUMENT, "a name in the archive is longer than %d bytes",
			  PATH_LENGTH_MAX);
		return fail(x, &fault);
	}
	archive_path_normalise(path);
	if (e->type == TAR_SYMLINK || e->type == TAR_LINK) {
		int r = archive_files_add_link(&x->files, path, e->link, e->type == TAR_SYMLINK, &fault);
		return r < 0 ? fail(x, &fault) : 1;
	}
	if (e->type != TAR_FILE)
		return 1;
	x->document = strcmp(path, "index.json") == 0	   ? &x->index
		      : strcmp(path, "manifest.json") == 0 ? &x->docker
							   : NULL;
	if (!x->document)
		return strcmp(path, "oci-layout") == 0 ? 1 : add_blob(x, path, e->size);
	if (e->size <= ARCHIVE_DOCUMENT_MAX && x->document->size == 0)
		return 1;
	fault_set(&fault, FAULT_INVALID_ARGUMENT, "%s is longer than %d bytes, or there twice", path,
		  ARCHIVE_DOCUMENT_MAX);
	return fail(x, &fault);
}

/* --- bytes ------------------------------------------------------------------ */

static const char *compression(const struct buffer *in) {
	static const uint8_t gzip[] = { 0x1f, 0x8b }, zstd[] = { 0x28, 0xb5, 0x2f, 0xfd };
	if (in->size >= sizeof(gzip) && memcmp(in->data, gzip, sizeof(gzip)) == 0)
		return "gzip";
	return in->size >= sizeof(zstd) && memcmp(in->data, zstd, sizeof(zstd)) == 0 ? "zstd" : NULL;
}

/* Docker's names don't say how a layer is compressed. */
static int sniff(struct ctd_archive *x, struct archive_file *f) {
	const char *how = compression(&x->in);
	if (how)
		f->blob.media_type = arena_printf(&x->arena, LAYER ".%s", how);
	return f->blob.media_type ? 0 : no_memory(x);
}

/* Bytes of the entry: 1, or 0 when its blob takes none now. */
static int take(struct ctd_archive *x) {
	size_t n = (size_t)MIN((uint64_t)x->in.size, x->tar.stored);
	if (x->blob && x->tar.stored == x->files.v[x->files.n - 1].blob.size) {
		/* Four bytes, unless it has no more. */
		if (n < 4 && n < x->tar.stored)
			return 0;
		if (sniff(x, &x->files.v[x->files.n - 1]) < 0)
			return -ECANCELED;
	}
	if (x->blob)
		n = ctd_blob_push(x->blob, x->in.data, n);
	else if (x->document)
		buffer_add(x->document, x->in.data, n);
	buffer_consume(&x->in, n);
	tar_push_took(&x->tar, n);
	return n > 0;
}

static int next_entry(struct ctd_archive *x) {
	struct tar_entry e;
	struct fault fault;
	x->document = NULL;
	int r = tar_push(&x->tar, &x->in, &e, &fault);
	if (r < 0)
		return fail(x, &fault);
	return r > 0 ? entry(x, &e) : 0;
}

/* --- the archive's end ------------------------------------------------------ */

static struct buffer index_made(const struct archive_images *images) {
	struct json j = { 0 };
	index_json_begin(&j);
	for (size_t i = 0; i < images->n; i++) {
		const Bulkhead__Descriptor *t = &images->v[i].target;
		index_json_add(&j, t->media_type, t->digest, t->size, images->v[i].name);
	}
	index_json_end(&j);
	return buffer_take(&j.text);
}

/* As a blob like any other; docker's archive has none, and gets what containerd gives it. */
static int describe_index(struct ctd_archive *x, struct fault *fault) {
	Bulkhead__Descriptor *d = ARENA_NEW(&x->arena, Bulkhead__Descriptor, BULKHEAD__DESCRIPTOR__INIT);
	char digest[DIGEST_SIZE];
	if (x->index.size == 0)
		x->index = index_made(&x->images);
	sha256_digest(x->index.data, x->index.size, digest);
	if (!d || x->index.failed || !(d->digest = arena_strdup(&x->arena, digest)))
		return fault_errno(fault, ENOMEM, "import");
	d->media_type = (char *)INDEX;
	d->size = x->index.size;
	x->images.index = d;
	return 0;
}

static int read_images(struct ctd_archive *x) {
	struct fault fault;
	int r;
	x->read = true;
	if (x->tar.stored > 0 || !tar_push_whole(&x->tar) || (x->in.size > 0 && !x->tar.ended))
		r = fault_set(&fault, FAULT_DATA_LOSS, "import: the archive is cut short at byte %llu",
			      (unsigned long long)x->tar.position);
	else if (x->index.size > 0)
		r = archive_index_read(&x->arena, &x->index, archive_files_find, &x->files, &x->images, &fault);
	else if (x->docker.size > 0)
		r = archive_docker_read(&x->arena, &x->docker, archive_files_find, &x->files, &x->images, &fault);
	else
		r = fault_set(&fault, FAULT_INVALID_ARGUMENT,
			      "import: the archive has neither an index.json nor a manifest.json");
	if (r == 0 && x->images.n == 0)
		r = fault_set(&fault, FAULT_INVALID_ARGUMENT, "import: the archive has no image");
	if (r == 0 && x->order.keep_index)
		r = describe_index(x, &fault);
	return r < 0 ? end(x, &fault) : 1;
}

/* The manifests that were made here, and the index, one by one; then it is done. */
static int next_document(struct ctd_archive *x) {
	while (x->image_at < x->images.n && x->images.v[x->image_at].document.size == 0)
		x->image_at++;
	if (x->image_at < x->images.n) {
		const struct archive_image *i = &x->images.v[x->image_at];
		return blob_begin(x, i->target.digest, i->document.size);
	}
	bool index = x->images.index && x->index.size > 0;
	return index ? blob_begin(x, x->images.index->digest, x->index.size) : end(x, NULL);
}

static int document_step(struct ctd_archive *x) {
	struct buffer *b = x->image_at < x->images.n ? &x->images.v[x->image_at].document : &x->index;
	size_t n = ctd_blob_push(x->blob, b->data, b->size);
	buffer_consume(b, n);
	return n > 0;
}

/* --- where the bytes come from ---------------------------------------------- */

/* More than what is in the buffer may come yet. */
static bool more_comes(const struct ctd_archive *x) {
	return x->inflate ? !ctd_inflate_over(x->inflate) : x->stream != NULL;
}

static int inflate_begin(struct ctd_archive *x) {
	struct fault fault;
	x->sniffed = true;
	if (!compression(&x->in))
		return 1;
	x->inflate = ctd_inflate_new(x->call, moved, x, &fault);
	if (!x->inflate)
		return fail(x, &fault);
	x->packed = buffer_take(&x->in);
	return 1;
}

/* As step. */
static int feed(struct ctd_archive *x) {
	if (!x->sniffed)
		return x->in.size >= 4 || !x->stream ? inflate_begin(x) : 0;
	if (!x->inflate)
		return 0;
	bool moves = ctd_inflate_push(x->inflate, &x->packed);
	if (!x->stream && x->packed.size == 0)
		ctd_inflate_end(x->inflate);
	moves |= ctd_inflate_read(x->inflate, &x->in, WINDOW);
	return x->in.failed ? no_memory(x) : moves;
}

/* --- steps ------------------------------------------------------------------ */

static int blob_end(struct ctd_archive *x) {
	const char *digest = arena_strdup(&x->arena, ctd_blob_done(x->blob));
	if (!digest)
		return no_memory(x);
	ctd_blob_free(take_ptr(x->blob));
	if (!x->read)
		x->files.v[x->files.n - 1].blob.digest = digest;
	return 1;
}

/* 1: there may be more to do; 0: not now; negative: it is over. */
static int step(struct ctd_archive *x) {
	if (x->blob && ctd_blob_done(x->blob))
		return blob_end(x);
	if (x->read)
		return x->blob ? document_step(x) : next_document(x);
	int fed = feed(x);
	if (fed != 0 || !x->sniffed)
		return fed;
	if (x->tar.stored > 0 && x->in.size > 0) {
		int r = take(x);
		if (r != 0 || more_comes(x))
			return r;
	} else if (!x->blob && !x->tar.ended && x->in.size > 0) {
		int r = next_entry(x);
		if (r != 0 || more_comes(x))
			return r;
	}
	if (x->tar.ended)
		buffer_consume(&x->in, x->in.size);
	/* A blob that waits for bytes which won't come any more ends here, too. */
	bool starved = x->tar.stored > x->in.size;
	return !more_comes(x) && (!x->blob || starved) ? read_images(x) : 0;
}

static void open_window(struct ctd_archive *x) {
	T(WindowUpdate) u = T_INIT(WINDOW_UPDATE);
	size_t waiting = x->inflate ? x->packed.size : x->in.size;
	if (!x->stream || waiting + x->window > WINDOW / 2)
		return;
	u.update = WINDOW - (int)(waiting + x->window);
	x->window += (size_t)u.update;
	ctd_stream_send(x->stream, &u.base);
}

static void pump(struct ctd_archive *x) {
	int r = 1;
	if (x->over)
		return;
	while (r > 0)
		r = step(x);
	if (r == 0)
		open_window(x);
}

static void message(void *ctx, const Google__Protobuf__Any *m) {
	struct ctd_archive *x = ctx;
	struct fault fault;
	struct arena a;
	if (x->over)
		return;
	arena_init(&a, 0);
	const T(Data) *d = ctd_any_open(m, &containerd__types__transfer__data__descriptor, &a);
	bool fits = d && d->data.len <= x->window;
	if (fits) {
		x->window -= d->data.len;
		buffer_add(x->inflate ? &x->packed : &x->in, d->data.data, d->data.len);
	}
	arena_deinit(&a);
	if (!fits) {
		fault_set(&fault, FAULT_INVALID_ARGUMENT, "a message of the stream is no Data, or exceeds the window");
		fail(x, &fault);
	} else if (x->in.failed || x->packed.failed) {
		no_memory(x);
	} else {
		pump(x);
	}
}

static void gone(void *ctx) {
	struct ctd_archive *x = ctx;
	x->stream = NULL;
	pump(x);
}

static const struct ctd_stream_user archive_user = { .message = message, .gone = gone };

struct ctd_archive *ctd_archive_begin(struct grpc_call *call, const struct ctd_archive_order *order,
				      void (*done)(void *ctx, const struct fault *fault), void *ctx,
				      struct fault *fault) {
	struct ctd_archive *x = calloc(1, sizeof(*x));
	if (x) {
		*x = (struct ctd_archive){ .call = call, .order = *order, .done = done, .ctx = ctx };
		arena_init(&x->arena, 0);
	}
	if (!x || archive_files_init(&x->files, &x->arena) < 0) {
		ctd_archive_free(x);
		fault_errno(fault, ENOMEM, "import");
		return NULL;
	}
	x->stream = ctd_stream_use(call, order->stream, &archive_user, x);
	if (!x->stream) {
		ctd_archive_free(x);
		fault_set(fault, FAULT_NOT_FOUND, "import: there is no stream \"%.100s\"", order->stream);
		return NULL;
	}
	open_window(x);
	return x;
}
