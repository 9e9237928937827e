#include "ring/ring.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

struct ring_page {
	_Alignas(64) _Atomic uint32_t head;
	_Alignas(64) _Atomic uint32_t tail;
	_Atomic uint32_t asleep;
	_Atomic uint32_t full;
	_Alignas(64) uint8_t data[RING_DATA_SIZE];
};

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int ring_memory_new(int *ret_rw, int *ret_ro) {
	CLEANUP_FD int rw = memfd_create("bulkhead-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (rw < 0)
		return -errno;
	if (ftruncate(rw, sizeof(struct ring_page)) < 0 || fcntl(rw, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	/* A read-only open file of the same memory: no mapping of it can be
	 * made writable. */
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", rw);
	int ro = open(path, O_RDONLY | O_CLOEXEC);
	if (ro < 0)
		return -errno;
	*ret_rw = take_fd(&rw);
	*ret_ro = ro;
	return 0;
}

static int page_map(int fd, int protection, struct ring_page **ret_page) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	int seals = fcntl(fd, F_GET_SEALS);
	if (st.st_size != sizeof(struct ring_page) || seals < 0 || (seals & SEALS) != SEALS)
		return -EINVAL;
	void *p = mmap(NULL, sizeof(struct ring_page), protection, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret_page = p;
	return 0;
}

int ring_init(struct ring *r, int ours_rw, int theirs_ro) {
	*r = (struct ring){ 0 };
	int e = page_map(ours_rw, PROT_READ | PROT_WRITE, &r->ours);
	if (e == 0)
		e = page_map(theirs_ro, PROT_READ, &r->theirs);
	if (e < 0)
		ring_deinit(r);
	return e;
}

void ring_deinit(struct ring *r) {
	if (r->ours)
		munmap(r->ours, sizeof(struct ring_page));
	if (r->theirs)
		munmap(r->theirs, sizeof(struct ring_page));
	*r = (struct ring){ 0 };
}

static void copy_in(struct ring_page *page, uint32_t at, const void *from, size_t n) {
	uint32_t offset = at & (RING_DATA_SIZE - 1);
	size_t first = MIN(n, (size_t)RING_DATA_SIZE - offset);
	if (first > 0)
		memcpy(page->data + offset, from, first);
	if (n > first)
		memcpy(page->data, (const uint8_t *)from + first, n - first);
}

static void copy_out(const struct ring_page *page, uint32_t at, void *to, size_t n) {
	uint32_t offset = at & (RING_DATA_SIZE - 1);
	size_t first = MIN(n, (size_t)RING_DATA_SIZE - offset);
	memcpy(to, page->data + offset, first);
	if (n > first)
		memcpy((uint8_t *)to + first, page->data, n - first);
}

static size_t padded(size_t n) {
	return (sizeof(uint32_t) + n + 7) & ~(size_t)7;
}

/* Room left in our ring, as far as the peer says; -EBADMSG when it lies. */
static int room(const struct ring *r, size_t *ret_room) {
	uint32_t used = r->head - atomic_load_explicit(&r->theirs->tail, memory_order_acquire);
	if (used > RING_DATA_SIZE)
		return -EBADMSG;
	*ret_room = RING_DATA_SIZE - used;
	return 0;
}

int ring_push(struct ring *r, const void *head, size_t head_size, const void *body, size_t body_size) {
	uint32_t size = (uint32_t)(head_size + body_size);
	if (head_size + body_size > RING_RECORD_MAX)
		return -EMSGSIZE;
	size_t need = padded(size), have;
	int e = room(r, &have);
	if (e < 0)
		return e;
	if (have < need) {
		/* Say that we wait, then look again: the peer may just have made room. */
		atomic_store_explicit(&r->ours->full, 1, memory_order_relaxed);
		atomic_thread_fence(memory_order_seq_cst);
		e = room(r, &have);
		if (e < 0)
			return e;
		if (have < need)
			return -EAGAIN;
	}
	atomic_store_explicit(&r->ours->full, 0, memory_order_relaxed);
	copy_in(r->ours, r->head, &size, sizeof(size));
	copy_in(r->ours, r->head + (uint32_t)sizeof(size), head, head_size);
	copy_in(r->ours, r->head + (uint32_t)(sizeof(size) + head_size), body, body_size);
	r->head += (uint32_t)need;
	atomic_store_explicit(&r->ours->head, r->head, memory_order_release);
	/* Pairs with the fence in ring_sleep: either the peer sees the record,
	 * or we see that it sleeps. */
	atomic_thread_fence(memory_order_seq_cst);
	uint32_t sleep = atomic_load_explicit(&r->theirs->asleep, memory_order_relaxed);
	if (!sleep || sleep == r->woken)
		return 0; /* awake, or on the way since an earlier record */
	r->woken = sleep;
	return 1;
}

int ring_pop(struct ring *r, struct buffer *ret_record) {
	uint32_t available = atomic_load_explicit(&r->theirs->head, memory_order_acquire) - r->tail;
	if (available == 0)
		return 0;
	atomic_store_explicit(&r->ours->asleep, 0, memory_order_relaxed);
	if (available > RING_DATA_SIZE || available < 8)
		return -EBADMSG;
	uint32_t size;
	copy_out(r->theirs, r->tail, &size, sizeof(size));
	if (size > RING_RECORD_MAX || padded(size) > available)
		return -EBADMSG;
	ret_record->size = 0;
	if (!buffer_reserve(ret_record, size + 1))
		return -ENOMEM;
	copy_out(r->theirs, r->tail + (uint32_t)sizeof(size), ret_record->data, size);
	ret_record->size = size;
	r->tail += (uint32_t)padded(size);
	r->batch++;
	atomic_store_explicit(&r->ours->tail, r->tail, memory_order_release);
	return 1;
}

/* About a microsecond: a producer that is busy publishes within it, and going
 * to sleep would cost both sides a system call. Whether it is busy is told by
 * how it went last: records that came in batches, or within the last look. */
#define SPINS 64

static bool record_comes(struct ring *r) {
	unsigned spins = r->batch > 1 ? SPINS : r->spins;
	r->batch = 0;
	r->spins = spins;
	for (unsigned i = 0; i < spins; i++) {
		if (atomic_load_explicit(&r->theirs->head, memory_order_relaxed) != r->tail)
			return true;
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#elif defined(__aarch64__)
		__asm__ volatile("yield");
#endif
	}
	r->spins = spins / 2;
	return false;
}

bool ring_sleep(struct ring *r) {
	if (record_comes(r))
		return false;
	r->sleeps = r->sleeps == UINT32_MAX ? 1 : r->sleeps + 1;
	atomic_store_explicit(&r->ours->asleep, r->sleeps, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&r->theirs->head, memory_order_relaxed) == r->tail)
		return true;
	atomic_store_explicit(&r->ours->asleep, 0, memory_order_relaxed);
	return false;
}

bool ring_peer_waits(struct ring *r) {
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&r->theirs->full, memory_order_relaxed) != 0;
}
