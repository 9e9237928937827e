/*
 * Names of systemd's units, as far as control groups need them: made from ids
 * and checked names alone, so that nothing of a client's gets into a unit.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>

/* With the NUL; systemd's own bound. */
#define UNIT_NAME_SIZE 256

/* "a-b.slice", "-.slice": one that systemd takes. */
bool slice_valid(const char *name);
/* Where it is in the tree of control groups: dashes nest, so "a-b.slice" is
 * "/a.slice/a-b.slice", and "-.slice" the root, "". -EINVAL for a name that is
 * no slice's, -ENAMETOOLONG. */
int slice_path(const char *name, char *ret_path, size_t size) NODISCARD;
/* "a-*.slice": all below "a.slice", as a pattern. */
int slice_pattern(const char *parent, char ret_pattern[UNIT_NAME_SIZE]) NODISCARD;
/* The id that slice_below was given, or false. */
bool slice_id(const char *parent, const char *name, char ret_id[UNIT_NAME_SIZE]);
/* The slice of a pod of our own: "a.slice" and "4f1c" give "a-4f1c.slice". */
int slice_below(const char *parent, const char *id, char ret_name[UNIT_NAME_SIZE]) NODISCARD;
/* "bulkhead-4f1c.scope", of a pod or a container. -EINVAL for an id that isn't
 * letters and digits alone: a dash or an escape would mean something. */
int scope_name(const char *id, char ret_name[UNIT_NAME_SIZE]) NODISCARD;
/* The id in such a name, or false: somebody else's. */
bool scope_id(const char *name, char ret_id[UNIT_NAME_SIZE]);
