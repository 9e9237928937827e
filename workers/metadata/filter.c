#include "workers/metadata/filter.h"

#include "workers/metadata/lifecycle.h"
#include "workers/metadata/view.h"

#include <string.h>

/* The generated map entries have one layout; this is it. */
struct entry {
	ProtobufCMessage base;
	char *key, *value;
};

static bool labels_match(void *wanted, size_t n_wanted, void *labels, size_t n_labels) {
	struct entry **want = wanted, **have = labels;
	for (size_t i = 0; i < n_wanted; i++) {
		size_t k = 0;
		while (k < n_labels &&
		       (strcmp(have[k]->key, want[i]->key) != 0 || strcmp(have[k]->value, want[i]->value) != 0))
			k++;
		if (k == n_labels)
			return false;
	}
	return true;
}

/* A whole id, or the beginning of one. */
static bool id_matches(const char *wanted, const char *id) {
	return strncmp(wanted, id, strlen(wanted)) == 0;
}

bool filter_sandbox(const Runtime__V1__PodSandboxFilter *f, const struct sandbox *s) {
	if (!sandbox_visible(s))
		return false;
	if (!f)
		return true;
	return id_matches(f->id, s->record->id) && (!f->state || f->state->state == sandbox_state(s)) &&
	       labels_match(f->label_selector, f->n_label_selector, s->record->config->labels,
			    s->record->config->n_labels);
}

bool filter_sandbox_stats(const Runtime__V1__PodSandboxStatsFilter *f, const struct sandbox *s) {
	if (!sandbox_visible(s))
		return false;
	if (!f)
		return true;
	return id_matches(f->id, s->record->id) && labels_match(f->label_selector, f->n_label_selector,
								s->record->config->labels, s->record->config->n_labels);
}

bool filter_container(const Runtime__V1__ContainerFilter *f, const struct container *c) {
	if (!container_visible(c))
		return false;
	if (!f)
		return true;
	return id_matches(f->id, c->record->id) && id_matches(f->pod_sandbox_id, c->record->sandbox_id) &&
	       (!f->state || f->state->state == container_state(c)) &&
	       labels_match(f->label_selector, f->n_label_selector, c->record->config->labels,
			    c->record->config->n_labels);
}

bool filter_stats(const Runtime__V1__ContainerStatsFilter *f, const struct container *c) {
	if (!container_visible(c))
		return false;
	if (!f)
		return true;
	return id_matches(f->id, c->record->id) && id_matches(f->pod_sandbox_id, c->record->sandbox_id) &&
	       labels_match(f->label_selector, f->n_label_selector, c->record->config->labels,
			    c->record->config->n_labels);
}
