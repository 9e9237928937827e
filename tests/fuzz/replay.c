/*
 * fuzz_X                replays the inputs of tests/fuzz/corpus/fuzz_X; prints TAP
 * fuzz_X FILE|FOLDER... replays those
 */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/tap.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>

#define INPUT_MAX (16u << 20)

static bool replay(const char *path) {
	char *data CLEANUP_FREE = NULL;
	size_t size;
	int fd CLEANUP_FD = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_read_all(fd, INPUT_MAX, &data, &size) < 0) {
		printf("# %s can't be read\n", path);
		return false;
	}
	/* Where it crashes, this is the last line. */
	printf("# %s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput((const uint8_t *)data, size);
	return true;
}

int main(int argc, char **argv) {
	char folder[256];
	char *corpus[] = { folder, NULL };
	unsigned inputs = 0;
	bool good = true;
	snprintf(folder, sizeof(folder), "tests/fuzz/corpus/%s", program_invocation_short_name);
	FTS *tree = fts_open(argc > 1 ? argv + 1 : corpus, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	for (FTSENT *e; tree && (e = fts_read(tree));)
		if (e->fts_info == FTS_F) {
			good = replay(e->fts_path) && good;
			inputs++;
		}
	if (tree)
		fts_close(tree);
	tap_check(good && inputs > 0, "%u inputs", inputs);
	return tap_done();
}
