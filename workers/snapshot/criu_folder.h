/*
 * What criu leaves in its folder, and the gate at which it waits with the
 * container stopped (keeper/criu.h). For children.
 */
#pragma once

#include "base/fault.h"
#include "tar/write.h"

#define CRIU_IMAGES "checkpoint"

/* A word (enum GateWord) of the other side's; ABORTED: it has gone away, and why
 * is the keeper's to say. */
int criu_gate_wait(int gate, char word, struct fault *fault) NODISCARD;
/* Lets the container go on. */
int criu_gate_go(int gate) NODISCARD;

/* A regular file of the folder, as name. -ENOENT: there is none. */
int criu_file_write(struct tar_writer *w, int folder, const char *file, const char *name) NODISCARD;
/* All images; their names begin with prefix, "" or a folder's "NAME/". */
int criu_images_write(struct tar_writer *w, int folder, const char *prefix) NODISCARD;
