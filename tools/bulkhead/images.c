/* pull, images, rmi */
#include "tools/bulkhead/cli.h"

#include "base/clock.h"

#include <string.h>
#include <unistd.h>

struct progress {
	bool terminal;
	unsigned lines;
	char image_ref[128];
};

static void progress_draw(struct progress *p, const Bulkhead__V1__PullEvent *e) {
	if (!p->terminal)
		return;
	if (p->lines)
		printf("\x1b[%uA", p->lines);
	p->lines = 0;
	for (size_t i = 0; i < e->n_layers; i++, p->lines++) {
		const Bulkhead__V1__PullEvent__Layer *l = e->layers[i];
		char id[32], done[32], total[32], bar[31];
		size_t filled = l->total ? (size_t)(l->offset * (sizeof(bar) - 1) / l->total) : 0;
		filled = MIN(filled, sizeof(bar) - 1);
		memset(bar, '-', sizeof(bar) - 1);
		memset(bar, '#', filled);
		bar[sizeof(bar) - 1] = '\0';
		printf("\x1b[K  %s [%s] %s of %s%s\n", text_id(l->digest, id), bar, text_size(l->offset, done),
		       text_size(l->total, total), l->unpacked ? ", unpacked" : "");
	}
	fflush(stdout);
}

static int pull_event(void *ctx, ProtobufCMessage *m) {
	struct progress *p = ctx;
	const Bulkhead__V1__PullEvent *e = (Bulkhead__V1__PullEvent *)m;
	progress_draw(p, e);
	if (e->image_ref && e->image_ref[0])
		snprintf(p->image_ref, sizeof(p->image_ref), "%s", e->image_ref);
	protobuf_c_message_free_unpacked(m, NULL);
	return 0;
}

int command_pull(struct cli *c, int argc, char **argv) {
	Bulkhead__V1__PullRequest r = BULKHEAD__V1__PULL_REQUEST__INIT;
	char user[256] = "";
	int i = 1;
	if (i + 1 < argc && strcmp(argv[i], "--user") == 0) {
		snprintf(user, sizeof(user), "%s", argv[i + 1]);
		char *colon = strchr(user, ':');
		if (!colon)
			return cli_fail("pull", "--user takes NAME:PASSWORD");
		*colon = '\0';
		r.username = user;
		r.password = colon + 1;
		i += 2;
	}
	if (i + 1 != argc)
		return cli_fail("pull", "give one IMAGE, for example docker.io/library/busybox:latest");
	r.image = argv[i];
	struct progress p = { .terminal = isatty(STDOUT_FILENO) };
	struct fault fault;
	if (cli_connect(c) < 0)
		return 1;
	if (client_stream(c->client, ADMIN "Pull", &r.base, &bulkhead__v1__pull_event__descriptor, 0, pull_event, &p,
			  &fault) < 0)
		return cli_fail("pull", "%s", fault.text);
	printf("%s\n", p.image_ref);
	return 0;
}

int command_images(struct cli *c, int argc, char **argv) {
	Runtime__V1__ListImagesRequest r = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
	CLEANUP_REPLY ProtobufCMessage *m =
	    cli_call(c, IMAGES "ListImages", &r.base, &runtime__v1__list_images_response__descriptor, 30 * NS_PER_SEC);
	if (!m)
		return 1;
	const Runtime__V1__ListImagesResponse *list = (Runtime__V1__ListImagesResponse *)m;
	printf("%-60s %-14s %10s\n", "IMAGE", "ID", "SIZE");
	for (size_t i = 0; i < list->n_images; i++) {
		const Runtime__V1__Image *image = list->images[i];
		char id[32], size[32];
		const char *name = image->n_repo_tags	   ? image->repo_tags[0]
				   : image->n_repo_digests ? image->repo_digests[0]
							   : "<none>";
		printf("%-60s %-14s %10s\n", name, text_id(image->id, id), text_size(image->size, size));
		for (size_t t = 1; t < image->n_repo_tags; t++)
			printf("%-60s %-14s\n", image->repo_tags[t], id);
	}
	return 0;
}

int command_rmi(struct cli *c, int argc, char **argv) {
	int status = argc > 1 ? 0 : cli_fail("rmi", "give at least one IMAGE");
	for (int i = 1; i < argc; i++) {
		Runtime__V1__RemoveImageRequest r = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;
		Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
		spec.image = argv[i];
		r.image = &spec;
		CLEANUP_REPLY ProtobufCMessage *m = cli_call(c, IMAGES "RemoveImage", &r.base,
							     &runtime__v1__remove_image_response__descriptor,
							     120 * NS_PER_SEC);
		if (!m)
			status = 1;
	}
	return status;
}
