#include "workers/metadata/object/image_news.h"

#include "workers/metadata/metadata.h"
#include "workers/metadata/object/object.h"

#include <stdio.h>
#include <string.h>

struct image_news {
	size_t n;
	struct {
		const char *what, *key;
	} list[];
};

size_t image_n_keys(const Bulkhead__ImageRecord *r) {
	return r->n_names + r->n_digests + !r->id_unnamed;
}

const char *image_key_at(const Bulkhead__ImageRecord *r, size_t k) {
	if (k < r->n_names)
		return r->names[k];
	k -= r->n_names;
	return k < r->n_digests ? r->digests[k] : r->id;
}

/* NULL: it leads to that already. */
static const char *becomes(struct metadata *m, const char *key, const Bulkhead__ImageRecord *r) {
	const struct image *had = view_image_named(m, key);
	if (!had)
		return "create";
	bool same = strcmp(had->record->id, r->id) == 0 && strcmp(had->record->target->digest, r->target->digest) == 0;
	return same ? NULL : "update";
}

struct image_news *image_news_of(struct metadata *m, struct arena *a, const Bulkhead__ImageRecord *r) {
	size_t n = image_n_keys(r);
	struct image_news *news = bus_followed(&m->bus) ? arena_zalloc(a, sizeof(*news) + n * sizeof(news->list[0]))
							: NULL;
	for (size_t k = 0; news && k < n; k++) {
		const char *key = image_key_at(r, k), *what = becomes(m, key, r);
		if (!what)
			continue;
		news->list[news->n].what = what;
		news->list[news->n++].key = key;
	}
	return news;
}

void image_key_tell(struct metadata *m, const char *what, const char *key) {
	Bulkhead__ObjectKey id = object_key_of(BULKHEAD__OBJECT_KIND__OBJECT_IMAGE, NAMESPACE_CRI, key);
	Bulkhead__BusEvent e = BULKHEAD__BUS_EVENT__INIT;
	char topic[32];
	struct arena a;
	if (!bus_followed(&m->bus))
		return;
	arena_init(&a, 0);
	snprintf(topic, sizeof(topic), "/images/%s", what);
	e.topic = topic;
	e.namespace_ = (char *)NAMESPACE_CRI;
	e.id = (char *)(uintptr_t)key;
	e.object = (Bulkhead__Object *)(uintptr_t)object_look(m, &a, &id); /* NULL when it is gone */
	bus_tell_committed(&m->bus, STORE_IMAGES, &e);
	arena_deinit(&a);
}

void image_news_tell(struct metadata *m, const struct image_news *news) {
	for (size_t k = 0; news && k < news->n; k++)
		image_key_tell(m, news->list[k].what, news->list[k].key);
}

void image_gone_tell(struct metadata *m, const Bulkhead__ImageRecord *r) {
	for (size_t k = 0; k < image_n_keys(r); k++)
		image_key_tell(m, "delete", image_key_at(r, k));
}
