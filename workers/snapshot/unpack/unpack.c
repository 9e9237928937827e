#include "workers/snapshot/unpack/unpack.h"

#include "base/fd.h"
#include "workers/snapshot/jail.h"

#include <fcntl.h>
#include <string.h>

/* A file that is missing in here isn't what a client calls NOT_FOUND. */
static int archive_fault(struct fault *fault, int r) {
	switch (fault->code) {
	case FAULT_INVALID_ARGUMENT:
	case FAULT_RESOURCE_EXHAUSTED:
	case FAULT_UNIMPLEMENTED:
	case FAULT_DATA_LOSS:
	case FAULT_INTERNAL:
		return r;
	default:
		fault->code = FAULT_UNKNOWN;
		return r;
	}
}

static int extract_and_verify(const struct unpack_job *job, struct decoder *decoder, struct buffer *report,
			      struct unpack_result *ret_result, struct fault *fault) {
	CLEANUP(tar_free_p) struct tar *tar = NULL;
	int r = tar_new(decoder_stream(decoder), &tar);
	if (r < 0)
		return fault_errno(fault, r, "read the archive");
	CLEANUP_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fault_errno(fault, errno, "open the folder to unpack to");
	r = extract_archive(tar, root, &job->extract, report, &ret_result->extract, fault);
	if (r == 0)
		r = decoder_finish(decoder, ret_result->diff_id, fault);
	if (r < 0)
		return archive_fault(fault, r);
	ret_result->size = decoder_size(decoder);
	if (*job->diff_id && strcmp(ret_result->diff_id, job->diff_id) != 0)
		return fault_set(fault, FAULT_DATA_LOSS, "its content is %s instead of %s", ret_result->diff_id,
				 job->diff_id);
	return 0;
}

int unpack_run(const struct unpack_job *job, struct unpack_result *ret_result, struct fault *fault) {
	CLEANUP(decoder_free_p) struct decoder *decoder = NULL;
	CLEANUP_BUFFER struct buffer report = { 0 };
	/* The descriptor's other users may have liked it otherwise. */
	fcntl(job->input, F_SETFL, 0);
	int r = decoder_new(job->input, &job->decode, &decoder);
	if (r < 0)
		return fault_errno(fault, r, "decode the layer");
	r = jail_enter(JAIL_UNPACK, job->tree, fault);
	if (r == 0)
		r = extract_and_verify(job, decoder, &report, ret_result, fault);
	if (r < 0)
		return r;
	r = fd_write_all(job->report, report.data, report.size);
	return r < 0 ? fault_errno(fault, r, "write the report") : 0;
}
