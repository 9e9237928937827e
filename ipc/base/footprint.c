#include "base/footprint.h"

#include "base/macros.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

/* jemalloc's, where it is linked. 4096 is all arenas. */
extern int mallctl(const char *name, void *old, size_t *old_size, void *value, size_t size) __attribute__((weak));
#define PURGE_ALL "arena.4096.purge"

#define RANGES_MAX 256

struct ranges {
	size_t n;
	struct {
		void *begin;
		size_t size;
	} list[RANGES_MAX];
};

/* Segments that were never writable hold nothing but what the file holds. The
 * others do: relocated tables are read-only only afterwards. */
static int find_clean(struct dl_phdr_info *info, size_t size, void *ctx) {
	struct ranges *r = ctx;
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		if (p->p_type != PT_LOAD || (p->p_flags & PF_W) || r->n == RANGES_MAX)
			continue;
		uintptr_t begin = (info->dlpi_addr + p->p_vaddr) & ~(page - 1);
		uintptr_t end = (info->dlpi_addr + p->p_vaddr + p->p_filesz + page - 1) & ~(page - 1);
		r->list[r->n].begin = (void *)begin;
		r->list[r->n++].size = end - begin;
	}
	return 0;
}

void footprint_trim(void) {
	if (mallctl)
		mallctl(PURGE_ALL, NULL, NULL, NULL, 0);
	else
		malloc_trim(0);
	/* Found first, as the look at a library brings its pages back. Advice: the
	 * kernel's own pages among them refuse it. */
	struct ranges r = { 0 };
	dl_iterate_phdr(find_clean, &r);
	for (size_t i = 0; i < r.n; i++)
		madvise(r.list[i].begin, r.list[i].size, MADV_DONTNEED);
}
