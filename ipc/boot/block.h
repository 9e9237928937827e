/* The boot block on its way: a sealed memfd that nobody can change any more. */
#pragma once

#include "base/macros.h"
#include "boot/boot.h"

/* Writes *block into a new memfd and seals it; returns the descriptor
 * (close-on-exec) or a negative errno. Sets magic and size. */
int boot_block_write(struct boot_block *block) NODISCARD;
/* Maps a boot block read-only, for good. Checks seals, size and magic: -EBADMSG
 * when it isn't one. The descriptor stays the caller's. */
int boot_block_map(int fd, const struct boot_block **ret_block) NODISCARD;
void boot_block_unmap(const struct boot_block *block);
