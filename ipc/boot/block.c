#include "boot/block.h"

#include "base/fd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int boot_block_write(struct boot_block *block) {
	block->magic = BOOT_MAGIC;
	block->size = sizeof(*block);
	CLEANUP_FD int fd = memfd_create("bulkhead-boot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	int r = fd_write_all(fd, block, sizeof(*block));
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	return take_fd(&fd);
}

int boot_block_map(int fd, const struct boot_block **ret_block) {
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size != sizeof(struct boot_block) || fcntl(fd, F_GET_SEALS) != SEALS)
		return -EBADMSG;
	const struct boot_block *block = mmap(NULL, sizeof(*block), PROT_READ, MAP_SHARED, fd, 0);
	if (block == MAP_FAILED)
		return -errno;
	if (block->magic != BOOT_MAGIC || block->size != sizeof(*block)) {
		boot_block_unmap(block);
		return -EBADMSG;
	}
	*ret_block = block;
	return 0;
}

void boot_block_unmap(const struct boot_block *block) {
	if (block)
		munmap((void *)block, sizeof(*block));
}
