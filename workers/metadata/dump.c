#include "workers/metadata/dump.h"

#include "base/clock.h"
#include "msg/message_json.h"
#include "workers/metadata/view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXTS 3
/* How Go writes that there is no time. */
#define NO_TIME "0001-01-01T00:00:00Z"

static void time_text(struct json *j, const char *key, int64_t ns) {
	time_t seconds = ns / NS_PER_SEC;
	char text[64], day[32];
	struct tm tm;
	gmtime_r(&seconds, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%09dZ", day, (int)(ns % NS_PER_SEC));
	json_text(j, key, ns ? text : NO_TIME);
}

static void config_json(struct json *j, const Runtime__V1__ContainerStatus *s, const struct container *c) {
	const char *handler = c->sandbox->record->runtime_handler;
	json_open(j, NULL, '{');
	json_text(j, "id", s->id);
	json_text(j, "name", s->metadata->name);
	json_text(j, "rootfsImage", c->record->config->image->image);
	json_text(j, "rootfsImageRef", s->image_id);
	json_text(j, "rootfsImageName", s->image->image);
	json_text(j, "runtime", *handler ? handler : "native");
	time_text(j, "createdTime", s->created_at);
	time_text(j, "checkpointedTime", clock_real());
	time_text(j, "restoredTime", 0);
	json_bool(j, "restored", false);
	json_close(j, '}');
}

static int text_add(struct arena *a, const char *name, struct json *j, Bulkhead__ArchiveWriteRequest *to) {
	Bulkhead__ArchiveWriteRequest__Text *t =
	    ARENA_NEW(a, Bulkhead__ArchiveWriteRequest__Text, BULKHEAD__ARCHIVE_WRITE_REQUEST__TEXT__INIT);
	uint8_t *copy = j->text.failed ? NULL : arena_alloc(a, j->text.size);
	if (t && copy) {
		memcpy(copy, j->text.data, j->text.size);
		t->name = (char *)name;
		t->content = (ProtobufCBinaryData){ .len = j->text.size, .data = copy };
		to->texts[to->n_texts++] = t;
	}
	buffer_deinit(&j->text);
	*j = (struct json){ .first = true };
	return t && copy ? 0 : -ENOMEM;
}

int dump_texts(struct metadata *m, struct arena *a, struct container *c, Bulkhead__ArchiveWriteRequest *to,
	       struct fault *fault) {
	Runtime__V1__ContainerStatus *status = view_container_status(m, a, c);
	struct json j = { .first = true };
	Grpc__Spec *spec;
	int r = view_container_spec(m, a, c, &spec, fault);
	if (r < 0)
		return r;
	to->texts = arena_alloc(a, TEXTS * sizeof(*to->texts));
	r = status && to->texts ? 0 : -ENOMEM;
	if (r == 0) {
		config_json(&j, status, c);
		r = text_add(a, "config.dump", &j, to);
	}
	if (r == 0) {
		message_json(&j, NULL, &spec->base, MESSAGE_OCI);
		r = text_add(a, "spec.dump", &j, to);
	}
	if (r == 0) {
		message_json(&j, NULL, &status->base, MESSAGE_PLAIN);
		r = text_add(a, "status.dump", &j, to);
	}
	return r < 0 ? fault_errno(fault, r, "describe the container") : 0;
}
