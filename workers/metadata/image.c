/*
 * ListImages, the same in parts, ImageStatus, RemoveImage, ImageFsInfo, and the records of images.
 *
 *   remove  record deleted -> layers and blobs that nothing else needs removed
 *           -> answer: the disk is free when the client hears it
 */
#include "workers/metadata/image.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/info.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/object/collect.h"
#include "workers/metadata/object/image_news.h"
#include "workers/metadata/parts.h"
#include "workers/metadata/pull.h"
#include "workers/metadata/view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define INDEX_DELAY_NS (100 * NS_PER_MS)

void image_key(const char *id, char ret_key[IMAGE_KEY_SIZE]) {
	snprintf(ret_key, IMAGE_KEY_SIZE, "i/%s", id);
}

void layer_key(const char *chain_id, char ret_key[IMAGE_KEY_SIZE]) {
	snprintf(ret_key, IMAGE_KEY_SIZE, "l/%s", chain_id);
}

int image_find(struct metadata *m, const char *name, struct image **ret_image, struct fault *fault) {
	struct image *i = model_find_image(&m->model, name);
	if (!i || i->broken)
		return fault_set(fault, FAULT_NOT_FOUND, "image \"%.256s\": not found: pull it first", name);
	*ret_image = i;
	return 0;
}

int image_save(struct metadata *m, struct image *i) {
	char key[IMAGE_KEY_SIZE];
	image_key(i->record->id, key);
	return store_put(m->store, STORE_IMAGES, key, RECORD_IMAGE, &i->record->base);
}

int layer_save(struct metadata *m, struct layer *l) {
	char key[IMAGE_KEY_SIZE];
	if (!l)
		return -ENOENT;
	layer_key(l->record->chain_id, key);
	return store_put(m->store, STORE_IMAGES, key, RECORD_LAYER, &l->record->base);
}

/* --- the layout's index ----------------------------------------------------- */

static void on_index_timer(void *ctx) {
	struct metadata *m = ctx;
	struct arena a;
	Bulkhead__ContentIndexRequest q = BULKHEAD__CONTENT_INDEX_REQUEST__INIT;
	loop_source_free(m->index_timer);
	m->index_timer = NULL;
	arena_init(&a, 0);
	q.entries = arena_alloc(&a, (m->model.image_names.n_nodes + 1) * sizeof(*q.entries));
	list_for_each (n, &m->model.images) {
		const struct image *i = list_entry(n, struct image, node);
		for (size_t k = 0; q.entries && k < i->record->n_names + i->record->n_digests; k++) {
			Bulkhead__ContentIndexRequest__Entry *e = ARENA_NEW(
			    &a, Bulkhead__ContentIndexRequest__Entry, BULKHEAD__CONTENT_INDEX_REQUEST__ENTRY__INIT);
			if (!e)
				break;
			e->name = k < i->record->n_names ? i->record->names[k]
							 : i->record->digests[k - i->record->n_names];
			e->target = i->record->target;
			q.entries[q.n_entries++] = e;
		}
	}
	content_index_send(m->image, NULL, &q, NULL, 0, NULL, NULL);
	arena_deinit(&a);
}

void index_later(struct metadata *m) {
	if (m->index_timer)
		return;
	if (loop_timer(m->loop, clock_mono() + INDEX_DELAY_NS, on_index_timer, m, &m->index_timer) < 0)
		m->index_timer = NULL;
}

/* --- reading ---------------------------------------------------------------- */

static size_t list_images(struct metadata *m, struct arena *arena, const Runtime__V1__ImageFilter *filter,
			  Runtime__V1__Image ***ret_images) {
	const char *only = filter && filter->image ? filter->image->image : "";
	const struct image *wanted = *only ? model_find_image(&m->model, only) : NULL;
	Runtime__V1__Image **images =
	    arena_alloc(arena, (m->model.image_ids.n_nodes + 1) * sizeof(Runtime__V1__Image *));
	size_t count = 0;
	list_for_each (n, &m->model.images) {
		const struct image *i = list_entry(n, struct image, node);
		Runtime__V1__Image *v = i->broken || (*only && i != wanted) ? NULL : view_image(m, arena, i);
		if (v && images)
			images[count++] = v;
	}
	*ret_images = images;
	return count;
}

void cri_list_images(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ListImagesRequest *q = (const Runtime__V1__ListImagesRequest *)request;
	Runtime__V1__ListImagesResponse a = RUNTIME__V1__LIST_IMAGES_RESPONSE__INIT;
	struct arena arena;
	arena_init(&arena, 0);
	a.n_images = list_images(m, &arena, q->filter, &a.images);
	cri_list_images_reply(r, &a, NULL, 0);
	arena_deinit(&arena);
}

void cri_stream_images(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__StreamImagesRequest *q = (const Runtime__V1__StreamImagesRequest *)request;
	Runtime__V1__Image **images;
	struct arena arena;
	arena_init(&arena, 0);
	size_t n = list_images(m, &arena, q->filter, &images);
	PARTS_REPLY(cri_stream_images, r, Runtime__V1__StreamImagesResponse, RUNTIME__V1__STREAM_IMAGES_RESPONSE__INIT,
		    images, images, n);
	arena_deinit(&arena);
}

/* An image that isn't there is an empty answer, not an error. */
void cri_image_status(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ImageStatusRequest *q = (const Runtime__V1__ImageStatusRequest *)request;
	Runtime__V1__ImageStatusResponse a = RUNTIME__V1__IMAGE_STATUS_RESPONSE__INIT;
	Runtime__V1__ImageStatusResponse__InfoEntry info = RUNTIME__V1__IMAGE_STATUS_RESPONSE__INFO_ENTRY__INIT;
	Runtime__V1__ImageStatusResponse__InfoEntry *infos[] = { &info };
	struct arena arena;
	if (!q->image || !*q->image->image) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "status of image: the request names no image");
		return;
	}
	const struct image *i = model_find_image(&m->model, q->image->image);
	arena_init(&arena, 0);
	if (i && !i->broken) {
		a.image = view_image(m, &arena, i);
		if (q->verbose) {
			info.key = (char *)"info";
			info.value = info_image(m, &arena, i);
			a.n_info = info.value ? 1 : 0;
			a.info = infos;
		}
	}
	cri_image_status_reply(r, &a, NULL, 0);
	arena_deinit(&arena);
}

/* --- removing --------------------------------------------------------------- */

struct image_op {
	struct op op;
	struct image *image;
	struct arena arena; /* the record's copy: what may be garbage */
	Bulkhead__ImageRecord *record;
};

static struct image_op *image_op_of(struct op *op) {
	return container_of(op, struct image_op, op);
}

static void remove_record(struct op *op) {
	char key[IMAGE_KEY_SIZE];
	image_key(image_op_of(op)->record->id, key);
	int r = store_delete(op->m->store, STORE_IMAGES, key);
	if (r < 0) {
		fault_errno(&op->fault, r, "delete the record");
		op_fail(op);
		return;
	}
	/* From here on no new container finds it. */
	model_free_image(&op->m->model, image_op_of(op)->image);
	image_gone_tell(op->m, image_op_of(op)->record);
	index_later(op->m);
	op_commit(op, STORE_IMAGES);
}

static void collected(void *ctx) {
	op_next(ctx);
}

static void remove_layers(struct op *op) {
	const Bulkhead__ImageRecord *r = image_op_of(op)->record;
	/* A lease is for a pull that failed: nobody waits for these. */
	for (size_t i = 0; i < r->n_layers; i++) {
		struct layer *l = model_find_layer(&op->m->model, r->layers[i]);
		if (l)
			l->lease_until = 0;
	}
	gc_layers(op->m, collected, op);
}

/* What clients have added to it: labels of its blobs. */
static void remove_objects(struct op *op) {
	collect(op->m, collected, op);
}

static void remove_blobs(struct op *op) {
	struct image_op *io = image_op_of(op);
	const Bulkhead__ImageRecord *r = io->record;
	char **digests = arena_alloc(&io->arena, (r->n_blobs + 3) * sizeof(char *));
	size_t n = 0;
	const Bulkhead__Descriptor *three[] = { r->target, r->manifest, r->config };
	for (size_t i = 0; digests && i < ARRAY_SIZE(three); i++)
		if (three[i])
			digests[n++] = three[i]->digest;
	for (size_t i = 0; digests && i < r->n_blobs; i++)
		digests[n++] = r->blobs[i]->digest;
	gc_blobs(op->m, digests, n, collected, op);
}

static const struct op_step remove_steps[] = {
	{ .name = "delete the record", .run = remove_record },
	{ .name = "remove its layers", .run = remove_layers },
	{ .name = "remove what was added to it", .run = remove_objects },
	{ .name = "remove its blobs", .run = remove_blobs },
	{ .name = NULL },
};

static void remove_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__RemoveImageResponse a = RUNTIME__V1__REMOVE_IMAGE_RESPONSE__INIT;
	cri_remove_image_reply(r, &a, NULL, 0);
}

static void remove_free(struct op *op) {
	arena_deinit(&image_op_of(op)->arena);
	free(image_op_of(op));
}

static const struct op_class remove_class = {
	.name = "remove image",
	.steps = remove_steps,
	.answer = remove_answer,
	.free = remove_free,
};

/* Not started. NULL: out of memory. */
static struct image_op *remove_new(struct metadata *m, struct msg_request *r, struct image *i) {
	struct image_op *io = calloc(1, sizeof(*io));
	if (!io)
		return NULL;
	arena_init(&io->arena, 0);
	io->image = i;
	io->record = message_copy(&io->arena, &i->record->base);
	if (!io->record) {
		arena_deinit(&io->arena);
		free(io);
		return NULL;
	}
	op_init(&io->op, &remove_class, m, NULL, i->record->id, r);
	return io;
}

void cri_remove_image(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__RemoveImageRequest *q = (const Runtime__V1__RemoveImageRequest *)request;
	if (metadata_gate(m, r, request, cri_remove_image))
		return;
	if (!q->image || !*q->image->image) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "remove image: the request names no image");
		return;
	}
	struct image *i = model_find_image(&m->model, q->image->image);
	if (!i) {
		remove_answer(NULL, r);
		return;
	}
	struct image_op *io = remove_new(m, r, i);
	if (!io) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "remove image: out of memory");
		return;
	}
	op_join(&io->op, r);
	op_start(&io->op);
}

bool image_remove(struct metadata *m, struct msg_request *r, struct image *i, struct op_after *after) {
	struct image_op *io = remove_new(m, r, i);
	if (!io)
		return false;
	op_wait(&io->op, after);
	op_start(&io->op);
	return true;
}

/* --- file system ------------------------------------------------------------ */

static void fs_done(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	Runtime__V1__ImageFsInfoResponse a = RUNTIME__V1__IMAGE_FS_INFO_RESPONSE__INIT;
	Runtime__V1__FilesystemUsage u = RUNTIME__V1__FILESYSTEM_USAGE__INIT, *us[] = { &u };
	Runtime__V1__FilesystemIdentifier id = RUNTIME__V1__FILESYSTEM_IDENTIFIER__INIT;
	Runtime__V1__UInt64Value bytes = RUNTIME__V1__UINT64_VALUE__INIT, inodes = bytes;
	if (answer->fault) {
		struct fault fault = *answer->fault;
		fault_prefix(&fault, 0, "usage of the image file system");
		msg_fail(r, &fault);
		return;
	}
	const Bulkhead__SnapshotInfoReply *s = snapshot_info_answer(answer);
	struct metadata *m = link_worker(r->link);
	id.mountpoint = s->mountpoint;
	bytes.value = s->used_bytes;
	inodes.value = s->used_inodes;
	/* The blobs lie beside the layers. */
	list_for_each (n, &m->model.images) {
		const Bulkhead__ImageRecord *i = list_entry(n, struct image, node)->record;
		for (size_t k = 0; k < i->n_blobs; k++)
			bytes.value += i->blobs[k]->size;
	}
	u.timestamp = clock_real();
	u.fs_id = &id;
	u.used_bytes = &bytes;
	u.inodes_used = &inodes;
	/* One and the same holds what containers write. */
	a.n_image_filesystems = a.n_container_filesystems = 1;
	a.image_filesystems = a.container_filesystems = us;
	cri_image_fs_info_reply(r, &a, NULL, 0);
}

void cri_image_fs_info(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	snapshot_info_send(m->snapshot, &r->context, &q, NULL, 0, fs_done, r);
}
