/*
 * containerd's filters, as clients send them with lists and subscriptions:
 *
 *   filter    = selector *( "," selector )          all of them
 *   selector  = path [ ( "==" / "!=" / "~=" ) value ]   alone: the field is there
 *   path      = field *( "." field )
 *   field     = letter *( letter / digit / "_" ) / quoted
 *   value     = quoted / anything but blanks and commas
 *
 * Several filters: any of them. None, or an empty one: everything. "~=" takes a
 * regular expression, which may stand between slashes or bars instead of
 * quotes; it runs with a bound on its steps.
 *
 * Filters are evaluated here and not in the metadata worker: what a client can
 * make slow is its own API worker.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"

#include <stdbool.h>

#define FILTERS_MAX 64
#define FILTER_SIZE_MAX 8192

struct filters;

/* In the arena but for compiled expressions: filters_free. */
int filters_parse(struct arena *a, char *const *texts, size_t n, struct filters **ret_filters,
		  struct fault *fault) NODISCARD;
void filters_free(struct filters *f);

/* The values of which the field must have one, when every filter demands one
 * with "=="; else false: it may have any. */
bool filters_demand(const struct filters *f, const char *field, const char *ret_values[FILTERS_MAX], size_t *ret_n);

/* The value of a field; NULL when the object hasn't got it. */
typedef const char *(*filter_field_fn)(const void *object, const char *const *path, size_t n_path);
/* f NULL: everything matches. */
bool filters_match(const struct filters *f, filter_field_fn field, const void *object);
