/*
 * What a request may say: the checks that stand between a client's values and
 * paths, line formats and kernel settings. Each fills fault and returns a
 * negative errno.
 */
#pragma once

#include "base/fault.h"
#include "cri/runtime.pb-c.h"

#include <stdbool.h>

/* No control characters; what names the value in the error. */
int check_text(const char *what, const char *text, struct fault *fault) NODISCARD;
/* Absolute, without ".." and control characters. */
int check_path(const char *what, const char *path, struct fault *fault) NODISCARD;
int check_relative_path(const char *what, const char *path, struct fault *fault) NODISCARD;
/* host_network, host_ipc: the pod shares them, so what belongs to them is the host's. */
int check_sysctl(const char *name, const char *value, bool host_network, bool host_ipc, struct fault *fault) NODISCARD;

int check_sandbox_config(const Runtime__V1__PodSandboxConfig *c, struct fault *fault) NODISCARD;
int check_container_config(const Runtime__V1__ContainerConfig *c, struct fault *fault) NODISCARD;

/* The namespace options, never NULL: defaults where the client sent none. */
const Runtime__V1__NamespaceOption *sandbox_namespaces(const Runtime__V1__PodSandboxConfig *c);
