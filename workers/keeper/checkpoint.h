/*
 * Checkpoints of containers: criu saves the processes into a folder of this
 * machine's own, and the archive begins as a file without a name. Both go to
 * whoever writes it, with the gate that the container waits at (criu.h); when
 * all is done the file gets its name. So there is never half an archive.
 *
 *   keeper_checkpoint      the folder, the file, criu; the answer has the descriptors
 *   keeper_checkpoint_end  waits for criu's end; names the file or forgets it
 *
 * Crash: a folder is locked (flock) as long as the keeper, criu or the writer
 * has it open. Whoever makes one, and the zygote at its start, removes those
 * that nobody holds. The rest has no name.
 */
#pragma once

#include "base/fault.h"

struct checkpoint;
struct keeper_config;

/* Gives it up at once; NULL does nothing. */
void checkpoint_drop(struct checkpoint *c);
void checkpoint_sweep(const struct keeper_config *config);
/* A locked folder for criu, named as the container, with a folder in it. */
int checkpoint_folder(const struct keeper_config *config, const char *id, const char *content, int *ret_folder,
		      struct fault *fault);
void checkpoint_folder_remove(const struct keeper_config *config, const char *id, int folder);
