/*
 * Programs of the guest's own system: executed with a list of arguments, never
 * by a shell, with text on their input and a bound on their time and output.
 */
#pragma once

#include "guest.h"

/* argv[0] is a plain name, looked for where system administrators' programs are.
 * Its output in *ret_data, in the work's arena; an exit status other than 0 is
 * INTERNAL with what it said. FAILED_PRECONDITION: the guest hasn't got it. */
int tool_run(struct work *w, const char *const *argv, const void *input, size_t input_size,
	     ProtobufCBinaryData *ret_output, struct fault *fault);
