/*
 * The families of metrics that ListMetricDescriptors names and
 * ListPodSandboxMetrics fills: what kubelet's metrics endpoint shows in place
 * of cAdvisor's, under the same names and labels.
 */
#pragma once

#include "workers/metadata/gather.h"

struct metric_set;

#define METRIC_BASE_LABELS 6 /* container, id, image, name, namespace, pod */
#define METRIC_LABELS_MAX 10

struct metric_family {
	const char *name, *help;
	Runtime__V1__MetricType type;
	/* Behind the base labels; ends with NULL. */
	const char *labels[METRIC_LABELS_MAX - METRIC_BASE_LABELS + 1];
	/* Where the one value is, and what it is divided by; or add. */
	enum metric_source {
		METRIC_BY_FUNCTION,
		METRIC_STATS,	/* Bulkhead__TaskStats, uint64_t */
		METRIC_DETAIL,	/* Bulkhead__TaskDetail, uint64_t */
		METRIC_SPEC,	/* Runtime__V1__LinuxContainerResources, int64_t */
		METRIC_NETWORK, /* Bulkhead__InterfaceUsage, uint64_t; of pods, once per interface */
	} source;
	size_t offset;
	uint64_t divisor; /* 0: 1 */
	void (*add)(struct metric_set *s, const struct metric_family *f);
};

/* The metrics of one container, or of one pod (c == NULL), as they are made. */
struct metric_set {
	struct arena *arena;
	const struct metadata *m;
	const struct container *c;
	const Bulkhead__TaskStats *stats; /* with detail; of the container */
	int64_t now;
	char *base[METRIC_BASE_LABELS];
	Runtime__V1__Metric **list;
	size_t n, room;
};

extern const struct metric_family metric_families[]; /* ends with name NULL */
extern const char *const metric_base_labels[METRIC_BASE_LABELS];

/* One more metric, with the values of its own labels in their order. */
void metric_add(struct metric_set *s, const struct metric_family *f, uint64_t value, const char *const *labels);
/* All families of the container; for METRIC_NETWORK see metric_add_network. */
void metric_add_container(struct metric_set *s);
void metric_add_network(struct metric_set *s, const Bulkhead__InterfaceUsage *i);
