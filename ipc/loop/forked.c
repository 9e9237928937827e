/*
 * What a fork leaves of the rings in the child. Regular kernels leave nothing
 * (MADV_DONTFORK). User-mode Linux (6.1) begins a child as a copy of its parent's
 * host process, with what isn't the child's still mapped there: what the child
 * maps at such an address later would be its parent's ring, read and written
 * without a fault. There what has pages is unmapped for good, so a child maps pages
 * of its own at these places and takes them away.
 */
#include "loop/internal.h"

#include <pthread.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static struct list rings = LIST_INIT(rings);

static void sweep(void *at, size_t size) {
	void *ours = mmap(at, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_FIXED_NOREPLACE, -1, 0);
	/* Not where something is: in a child that shares its parent's memory. */
	if (ours != MAP_FAILED)
		munmap(ours, size);
}

void loop_forked(void) {
	list_for_each (n, &rings) {
		const struct io_uring *r = &list_entry(n, struct loop, known)->ring;
		sweep(r->sq.ring_ptr, r->sq.ring_sz);
		sweep(r->cq.ring_ptr, r->cq.ring_sz);
		sweep(r->sq.sqes, r->sq.ring_entries * sizeof(struct io_uring_sqe));
	}
}

int loop_known(struct loop *l) {
	static bool once;
	int r = once ? 0 : pthread_atfork(NULL, NULL, loop_forked);
	once = true;
	if (r == 0)
		list_append(&rings, &l->known);
	return -r;
}
