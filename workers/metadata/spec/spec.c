#include "workers/metadata/spec/spec.h"

#include "workers/metadata/signal.h"
#include "workers/metadata/spec/parts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OCI_VERSION "1.0.2"
#define SIGNAL_TERM 15

void *builder_alloc(struct builder *b, size_t size) {
	void *p = arena_zalloc(b->arena, size);
	if (!p)
		b->failed = true;
	return p;
}

char *builder_text(struct builder *b, const char *format, ...) {
	va_list ap, again;
	va_start(ap, format);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	char *text = n < 0 ? NULL : builder_alloc(b, (size_t)n + 1);
	if (text)
		vsnprintf(text, (size_t)n + 1, format, again);
	else
		b->failed = true;
	va_end(again);
	return text ? text : (char *)"";
}

void *builder_grow(struct builder *b, void *list, size_t n) {
	/* Full at each power of two. */
	if (n != 0 && (n & (n - 1)) != 0)
		return list;
	void *bigger = builder_alloc(b, (n ? n * 2 : 1) * sizeof(void *));
	if (bigger && n)
		memcpy(bigger, list, n * sizeof(void *));
	return bigger;
}

void strings_add(struct builder *b, struct strings *s, const char *text) {
	APPEND(b, s->v, s->n, (char *)(uintptr_t)text);
}

void builder_annotate(struct builder *b, const char *key, const char *value) {
	Grpc__Spec__AnnotationsEntry *e = builder_alloc(b, sizeof(*e));
	if (!e)
		return;
	*e = (Grpc__Spec__AnnotationsEntry)GRPC__SPEC__ANNOTATIONS_ENTRY__INIT;
	e->key = (char *)(uintptr_t)key;
	e->value = (char *)(uintptr_t)value;
	APPEND(b, b->spec->annotations, b->spec->n_annotations, e);
}

static void builder_init(struct builder *b, struct arena *a, const struct spec_input *in, struct fault *fault) {
	const Runtime__V1__LinuxContainerConfig *l = in->container->config->linux;
	*b = (struct builder){ .arena = a, .in = in, .fault = fault };
	runtime__v1__linux_container_security_context__init(&b->absent.security);
	runtime__v1__namespace_option__init(&b->absent.namespaces);
	runtime__v1__linux_container_resources__init(&b->absent.resources);
	bulkhead__image_config__init(&b->absent.image);
	b->config = in->container->config;
	b->pod = in->sandbox->config;
	b->security = l && l->security_context ? l->security_context : &b->absent.security;
	b->namespaces = b->security->namespace_options ? b->security->namespace_options : &b->absent.namespaces;
	b->resources = l && l->resources ? l->resources : &b->absent.resources;
	b->image = in->container->image_config ? in->container->image_config : &b->absent.image;
	b->privileged = b->security->privileged;
}

static int check_privileged(const struct builder *b) {
	const Runtime__V1__LinuxPodSandboxConfig *l = b->pod->linux;
	if (b->privileged && !(l && l->security_context && l->security_context->privileged))
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "a privileged container needs a privileged pod sandbox");
	return 0;
}

int spec_build(struct arena *a, const struct spec_input *in, Grpc__Spec **ret_spec, struct fault *fault) {
	struct builder b;
	builder_init(&b, a, in, fault);
	NEW(&b, spec, Spec, SPEC);
	NEW(&b, process, Process, PROCESS);
	NEW(&b, root, Root, ROOT);
	NEW(&b, linux, Linux, LINUX);
	NEW(&b, resources, LinuxResources, LINUX_RESOURCES);
	if (b.failed)
		return fault_errno(fault, ENOMEM, "build the runtime spec");
	spec->version = (char *)OCI_VERSION;
	spec->process = process;
	spec->root = root;
	root->readonly = b.security->readonly_rootfs;
	spec->linux = linux;
	linux->resources = resources;
	b.spec = spec;
	int r = check_privileged(&b);
	if (r == 0)
		r = spec_process(&b);
	if (r == 0)
		r = spec_capabilities(&b);
	if (r == 0)
		r = spec_mounts(&b);
	if (r == 0)
		r = spec_linux(&b);
	if (r == 0)
		r = spec_resources(&b);
	if (r == 0 && b.failed)
		r = fault_errno(fault, ENOMEM, "build the runtime spec");
	if (r == 0)
		*ret_spec = spec;
	return r;
}

unsigned spec_stop_signal(const Bulkhead__ContainerRecord *c) {
	unsigned n = signal_from_cri(c->config->stop_signal);
	if (n == 0 && c->image_config)
		n = signal_parse(c->image_config->stop_signal);
	return n ? n : SIGNAL_TERM;
}

char *spec_log_path(struct arena *a, const Bulkhead__SandboxRecord *s, const Bulkhead__ContainerRecord *c) {
	const char *dir = s->config->log_directory;
	if (!*dir || !*c->config->log_path)
		return NULL;
	size_t n = strlen(dir);
	return arena_printf(a, "%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", c->config->log_path);
}
