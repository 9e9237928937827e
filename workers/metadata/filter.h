/* What List* asks for. A NULL filter lets everything through. */
#pragma once

#include "workers/metadata/model.h"

bool filter_sandbox(const Runtime__V1__PodSandboxFilter *f, const struct sandbox *s);
bool filter_container(const Runtime__V1__ContainerFilter *f, const struct container *c);
bool filter_sandbox_stats(const Runtime__V1__PodSandboxStatsFilter *f, const struct sandbox *s);
bool filter_stats(const Runtime__V1__ContainerStatsFilter *f, const struct container *c);
