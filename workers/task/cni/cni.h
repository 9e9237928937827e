/*
 * Which network pods get: the first configuration in the CNI folder, read once
 * and again whenever the folder changes, and turned into one NetworkPlan per
 * pod for the pod's keeper.
 *
 * The first *.conflist, *.conf or *.json in lexical order decides. When it is
 * broken there is no network, and cni_message says which file and why: taking
 * the next file silently would put pods into another network.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "internal/keeper.pb-c.h"

#include <stdbool.h>

struct cni;

/* All are copied. */
struct cni_options {
	const char *conf_dir;
	const char *bin_dirs; /* colon-separated */
	const char *cache_dir;
};

/* A folder that is missing or broken is no error: cni_ready says so. */
int cni_new(const struct cni_options *options, struct cni **ret_cni) NODISCARD;
void cni_free(struct cni *c);

/* Reads the folder again when it changed (two or three stat calls when not).
 * cni_ready and cni_plan begin with it. */
void cni_refresh(struct cni *c);

/* Is there a network for the next pod? The texts below are valid until the
 * next call that takes c. */
bool cni_ready(struct cni *c);
const char *cni_name(const struct cni *c);    /* of the network; "" when not ready */
const char *cni_reason(const struct cni *c);  /* "" or "NetworkPluginNotReady" */
const char *cni_message(const struct cni *c); /* "" or a sentence with what to do */

/* The plan for one pod, in the arena, which also must hold what sandbox points
 * to until the plan was sent. Valid until the next call that takes c. */
int cni_plan(struct cni *c, const Bulkhead__SandboxStartRequest *sandbox, struct arena *arena,
	     Bulkhead__NetworkPlan **ret_plan, struct fault *fault);
