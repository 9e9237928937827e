/*
 * Checkpoints of containers: criu saves the processes into a folder of this
 * machine's own, and the archive begins as a file without a name. Both go to
 * whoever writes it, with the gate that the container waits at (criu.h); when
 * all is done the file gets its name. So there is never half an archive.
 *
 *   keeper_checkpoint      the folder, the file, criu; the answer has the descriptors
 *   keeper_checkpoint_end  waits for criu's end; names the file or forgets it
 *
 * Those of a cut (cut.h) end together.
 *
 * Crash: a folder is locked (flock) as long as the keeper, criu or the writer
 * has it open. Whoever makes one, and the zygote at its start, removes those
 * that nobody holds. The rest has no name.
 */
#pragma once

#include "base/fault.h"

#include <stdbool.h>

struct checkpoint;
struct keeper_config;

/* Gives it up at once; NULL does nothing. */
void checkpoint_drop(struct checkpoint *c);
/* What a cut does with its own. criu fails when it gets to the gate. */
void checkpoint_stop(const struct checkpoint *c);
/* Has criu ended? If it has failed, *fault says why. */
bool checkpoint_saved(const struct checkpoint *c, struct fault *fault);
/* The archive gets its name, and loses it again. */
int checkpoint_name(const struct checkpoint *c, struct fault *fault);
void checkpoint_unname(const struct checkpoint *c);
/* Whether criu may be at work for a container: its folder is held. */
bool checkpoint_held(const struct keeper_config *config, const char *id);
void checkpoint_sweep(const struct keeper_config *config);
/* A locked folder for criu, named as the container, with a folder in it. */
int checkpoint_folder(const struct keeper_config *config, const char *id, const char *content, int *ret_folder,
		      struct fault *fault);
void checkpoint_folder_remove(const struct keeper_config *config, const char *id, int folder);
