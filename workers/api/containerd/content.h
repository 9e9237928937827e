/* What the files about content share. */
#pragma once

#include "workers/api/containerd/containerd.h"

#include "containerd/content.pb-c.h"

#include <string.h>

#define C(name) Containerd__Services__Content__V1__##name
#define C_INIT(name) CONTAINERD__SERVICES__CONTENT__V1__##name##__INIT

extern const struct grpc_handler ctd_content_read, ctd_content_write;
