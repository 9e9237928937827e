/*
 * The root of a container whose client brings its own: what it wants mounted
 * on one another, or a folder of the host. Made detached, in the container's
 * mount namespace once that is cut off: nothing of it is ever in the host's.
 */
#include "base/buffer.h"
#include "base/fd.h"
#include "base/mountopt.h"
#include "workers/keeper/rootfs.h"
#include "workers/keeper/sys.h"

#include <stdio.h>
#include <string.h>

/* fsconfig takes no longer strings; mount takes a page of them. */
#define OPTION_MAX 255
#define PAGE_MAX 4095

static bool is_bind(const Grpc__Mount *m, const struct mount_options *o) {
	return o->bind || strcmp(m->type, "bind") == 0 || strcmp(m->type, "rbind") == 0;
}

static int bind_make(const Grpc__Mount *m, const struct mount_options *o, int *ret_tree, struct fault *fault) {
	if (m->source[0] != '/')
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is not an absolute path", m->source);
	if (o->n_data > 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "unknown option \"%s\"", o->data[0]);
	int e = rootfs_clone(m->source, o->recursive || strcmp(m->type, "rbind") == 0, ret_tree);
	return e < 0 ? fault_errno(fault, e, "open it") : 0;
}

static bool options_long(const struct mount_options *o) {
	for (size_t i = 0; i < o->n_data; i++) {
		const char *value = strchr(o->data[i], '=');
		if (value && strlen(value + 1) > OPTION_MAX)
			return true;
	}
	return false;
}

/* On the pod's folder for a moment, which nobody else sees. */
static int old_way_make(const struct rootfs *r, const Grpc__Mount *m, const struct mount_options *o, int *ret_tree,
			struct fault *fault) {
	CLEANUP_BUFFER struct buffer page = { 0 };
	for (size_t i = 0; i < o->n_data; i++)
		buffer_addf(&page, "%s%s", i ? "," : "", o->data[i]);
	if (page.size > PAGE_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "its options take %zu bytes; the kernel takes %d",
				 page.size, PAGE_MAX);
	CLEANUP_FREE char *text = buffer_take_text(&page);
	if (!text)
		return fault_errno(fault, ENOMEM, "mount it");
	if (mount(m->source, r->run_dir, m->type, o->set & MOUNT_ATTR_RDONLY ? MS_RDONLY : 0, text) < 0)
		return fault_errno(fault, errno, "mount it");
	int e = rootfs_clone(r->run_dir, false, ret_tree);
	umount2(r->run_dir, MNT_DETACH);
	return e < 0 ? fault_errno(fault, e, "take it off again") : 0;
}

static int fs_make(const struct rootfs *r, const Grpc__Mount *m, struct mount_options *o, int *ret_tree,
		   struct fault *fault) {
	for (size_t i = 0; i < o->n_data; i++)
		if (strcmp(o->data[i], "loop") == 0)
			return fault_set(fault, FAULT_UNIMPLEMENTED,
					 "loop devices are not set up; give the device itself");
	if (options_long(o))
		return old_way_make(r, m, o, ret_tree, fault);
	/* A device that can't be written isn't opened for that either. */
	if (o->set & MOUNT_ATTR_RDONLY && o->n_data < MOUNT_DATA_MAX && strcmp(m->type, "tmpfs") != 0)
		o->data[o->n_data++] = "ro";
	return rootfs_new_fs(m->type, m->source, o, 0, ret_tree, fault);
}

static int one_make(const struct rootfs *r, const Grpc__Mount *m, int *ret_tree, struct fault *fault) {
	struct mount_options o;
	CLEANUP_FD int tree = -1;
	int e = mount_options_parse(m->options, m->n_options, &o, fault);
	if (e < 0)
		return e;
	bool bind = is_bind(m, &o);
	e = bind ? bind_make(m, &o, &tree, fault) : fs_make(r, m, &o, &tree, fault);
	if (e < 0)
		return e;
	o.propagation = 0;
	e = rootfs_options(tree, &o, true);
	if (e < 0)
		return fault_errno(fault, e, "set its options");
	*ret_tree = take_fd(&tree);
	return 0;
}

static bool is_top(const Grpc__Mount *m) {
	return m->destination[strspn(m->destination, "/")] == '\0';
}

/* The last one on top hides those below it. */
int rootfs_bare_make(struct rootfs *r, struct fault *fault) {
	Grpc__Mount folder = GRPC__MOUNT__INIT, *m = NULL;
	for (size_t i = 0; i < r->n_mounts; i++)
		if (is_top(r->mounts[i]))
			m = r->mounts[i];
	if (!m && r->n_mounts > 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "none of the container's mounts is its root");
	if (!m) {
		if (!r->spec->root || r->spec->root->path[0] != '/')
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "the container has neither mounts for its root nor an absolute path of it");
		m = &folder;
		m->type = (char *)"rbind";
		m->source = r->spec->root->path;
	}
	int e = one_make(r, m, &r->root, fault);
	if (e < 0)
		return fault_prefix(fault, e, "mount %s \"%s\" as the container's root", m->type, m->source);
	if (!rootfs_is_directory(r->root))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the container's root \"%s\" is not a folder",
				 m->source);
	return 0;
}

int rootfs_bare_rest(const struct rootfs *r, struct fault *fault) {
	for (size_t i = 0; i < r->n_mounts; i++) {
		const Grpc__Mount *m = r->mounts[i];
		CLEANUP_FD int tree = -1;
		if (is_top(m))
			continue;
		int e = one_make(r, m, &tree, fault);
		if (e < 0)
			return fault_prefix(fault, e, "mount %s \"%s\" at \"%s\" of the container's root", m->type,
					    m->source, m->destination);
		e = rootfs_attach(r->root, tree, m->destination, rootfs_is_directory(tree), fault);
		if (e < 0)
			return e;
	}
	return 0;
}
