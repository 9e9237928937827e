/* Which names an import keeps an archive's images and its index under: as containerd's image store. */
#include "workers/api/containerd/import_names.h"

#include "tap.h"

#include <string.h>

#define T(name) Containerd__Types__Transfer__##name
#define DIGEST "sha256:1"
#define INDEX "sha256:9"

static struct arena arena;
static T(ImageStore) store;
static T(ImageReference) refs[3], *ref_list[] = { &refs[0], &refs[1], &refs[2] };
static struct archive_image image;
static Bulkhead__Descriptor index_of_all;

static T(ImageReference) * ref(char *name, bool is_prefix) {
	T(ImageReference) *r = &refs[store.n_extra_references++];
	containerd__types__transfer__image_reference__init(r);
	r->name = name;
	r->is_prefix = is_prefix;
	store.extra_references = ref_list;
	return r;
}

static void begin(const char *name, const char *tag, char *index_name) {
	containerd__types__transfer__image_store__init(&store);
	store.name = index_name;
	bulkhead__descriptor__init(&image.target);
	image.target.digest = (char *)DIGEST;
	image.name = name;
	image.ref = tag;
}

/* The names, each with a space before; "-" for a part of the index, "[]" around the index's. */
static const char *named(void) {
	static char text[FAULT_TEXT_MAX];
	struct archive_images images = { .v = &image, .n = 1 };
	struct import_names names;
	struct fault fault;
	size_t n = 0;
	bulkhead__descriptor__init(&index_of_all);
	index_of_all.digest = (char *)INDEX;
	if (import_keeps_index(&store))
		images.index = &index_of_all;
	if (import_names(&arena, &store, &images, &names, &fault) < 0)
		return strcpy(text, fault.text);
	text[0] = '\0';
	for (size_t i = 0; i < names.n; i++) {
		const struct import_name *x = &names.v[i];
		n += (size_t)snprintf(text + n, sizeof(text) - n, x->image ? " %s" : " [%s]", x->name ? x->name : "-");
	}
	return text;
}

#define IS(expected, what)                                                                \
	do {                                                                              \
		const char *names_ = named();                                             \
		tap_check(strcmp(names_, (expected)) == 0, "%s: \"%s\"", (what), names_); \
	} while (0)

static void test_prefix(void) {
	begin("example.org/a:1", NULL, (char *)"");
	IS("", "without a prefix an image has no name");
	ref((char *)"example.org/a", true);
	IS(" example.org/a:1", "a name that begins with the prefix");
	refs[0].name = (char *)"example.org";
	IS(" example.org/a:1", "or with folders of it");
	refs[0].name = (char *)"example.org/";
	IS("", "which end where a part ends");
	image.name = "example.org/ab:1";
	refs[0].name = (char *)"example.org/a";
	IS("", "another one isn't wanted");
	refs[0].allow_overwrite = true;
	IS(" example.org/ab:1", "unless any whole name is");
	image.name = "alpine";
	IS("", "one that isn't whole is none");
	image.name = NULL;
	image.ref = "1";
	IS(" example.org/a:1", "a tag is put behind the prefix");
	ref((char *)"other", true);
	IS(" example.org/a:1 other:1", "behind each");
	image.ref = NULL;
	IS("", "what has nothing has no name");
}

static void test_digest(void) {
	begin("example.org/a:1", NULL, (char *)"");
	ref((char *)"in", true)->add_digest = true;
	IS(" in@" DIGEST " [in@" INDEX "]", "by its digest, and so is the index");
	refs[0].allow_overwrite = true;
	IS(" example.org/a:1 in@" DIGEST " [in@" INDEX "]", "beside its name");
	refs[0].skip_named_digest = true;
	IS(" example.org/a:1 [in@" INDEX "]", "unless it has one");
}

static void test_index(void) {
	begin("example.org/a:1", NULL, (char *)"all:1");
	IS(" - [all:1]", "a name is the index's, of which the image is a part");
	ref((char *)"more:1", false);
	IS(" - [all:1] [more:1]", "and any that is no prefix");
	ref((char *)"none", true)->allow_overwrite = true;
	IS(" example.org/a:1 [all:1] [more:1]", "beside the image's own");
	store.name = (char *)"";
	store.n_extra_references = 0;
	ref((char *)"none", true);
	tap_check(!import_keeps_index(&store), "nobody wants the index");
}

int main(void) {
	arena_init(&arena, 0);
	test_prefix();
	test_digest();
	test_index();
	arena_deinit(&arena);
	return tap_done();
}
