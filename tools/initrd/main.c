#include "tools/initrd/initrd.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "usage: bulkhead-initrd [OPTION]... AGENT OUTPUT\n"
			    "\n"
			    "Packs the executable AGENT as a guest's init.\n"
			    "\n"
			    "  -m, --modules DIR     take the kernel's modules from .../lib/modules/VERSION\n"
			    "  -l, --load \"NAME...\"  these, and what they need\n"
			    "  -a, --add /PATH=FILE  FILE is there as /PATH, with the folders above it\n"
			    "  -h, --help\n";

#define WORDS_MAX 64

struct wishes {
	const char *modules;
	char *load[WORDS_MAX], *add[WORDS_MAX];
	size_t n_load, n_add;
};

static int modules_pack(struct archive *a, const struct wishes *w, struct fault *fault) {
	struct modules m;
	CLEANUP_FREE char *list = NULL;
	size_t size;
	int r = modules_order(w->modules, w->load, &m, fault);
	FILE *lines = open_memstream(&list, &size);
	if (!lines)
		return fault_errno(fault, errno, "list modules");
	for (size_t i = 0; i < m.n; i++) {
		const char *path = strrchr(m.files[i], '/');
		char place[256];
		snprintf(place, sizeof(place), "lib/bulkhead%s", path);
		fprintf(lines, "/%s\n", place);
		r = r < 0 ? r : archive_file(a, place, 0600, m.files[i], fault);
		free(m.files[i]);
	}
	fclose(lines);
	return r < 0 ? r : archive_data(a, "lib/bulkhead/modules", 0600, list, size, fault);
}

static int add_pack(struct archive *a, const char *wish, struct fault *fault) {
	const char *equals = strchr(wish, '='), *slash = strchr(wish + 1, '/');
	char path[256], folder[256];
	if (*wish != '/' || !equals)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "--add takes /PATH=FILE, not \"%s\"", wish);
	snprintf(path, sizeof(path), "%.*s", (int)(equals - wish - 1), wish + 1);
	int r = 0;
	for (; r == 0 && slash && slash < equals; slash = strchr(slash + 1, '/')) {
		snprintf(folder, sizeof(folder), "%.*s", (int)(slash - wish - 1), wish + 1);
		r = archive_folder(a, folder, 0755, fault);
	}
	return r < 0 ? r : archive_file(a, path, 0755, equals + 1, fault);
}

/* The folders are what the guest's init mounts on. */
static int pack(struct archive *a, const char *agent, const struct wishes *w, struct fault *fault) {
	static const char *const folders[] = { "dev", "proc", "sys", "run", "tmp", "etc", "lib", "lib/bulkhead" };
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(folders); i++)
		r = archive_folder(a, folders[i], 0755, fault);
	/* The kernel opens it before there is a devtmpfs. */
	if (r == 0)
		r = archive_device(a, "dev/console", 0600, 5, 1, fault);
	if (r == 0)
		r = archive_file(a, "init", 0755, agent, fault);
	if (r == 0 && w->modules)
		r = modules_pack(a, w, fault);
	for (size_t i = 0; r == 0 && i < w->n_add; i++)
		r = add_pack(a, w->add[i], fault);
	return r < 0 ? r : archive_end(a, fault);
}

/* Half an initrd is never where a whole one is expected. */
static int initrd_make(const char *agent, const char *output, const struct wishes *w, struct fault *fault) {
	char part[4096];
	snprintf(part, sizeof(part), "%s.part", output);
	struct archive a = { .out = fopen(part, "we") };
	if (!a.out)
		return fault_errno(fault, errno, "write %s", part);
	int r = pack(&a, agent, w, fault);
	if (fclose(a.out) < 0 && r == 0)
		r = fault_errno(fault, errno, "write %s", part);
	if (r == 0 && rename(part, output) < 0)
		r = fault_errno(fault, errno, "put the initrd at %s", output);
	if (r < 0)
		unlink(part);
	return r;
}

static void words_add(char *text, struct wishes *w) {
	for (char *word; w->n_load < WORDS_MAX - 1 && (word = strsep(&text, " \t"));)
		if (*word)
			w->load[w->n_load++] = word;
}

int main(int argc, char **argv) {
	static const struct option known[] = {
		{ "modules", required_argument, NULL, 'm' },
		{ "load", required_argument, NULL, 'l' },
		{ "add", required_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct wishes w = { 0 };
	struct fault fault;
	for (int c; (c = getopt_long(argc, argv, "m:l:a:h", known, NULL)) != -1;) {
		if (c == 'm') {
			w.modules = optarg;
		} else if (c == 'l') {
			words_add(optarg, &w);
		} else if (c == 'a' && w.n_add < WORDS_MAX) {
			w.add[w.n_add++] = optarg;
		} else {
			fputs(usage, c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	}
	if (optind + 2 != argc) {
		fputs(usage, stderr);
		return 2;
	}
	if (initrd_make(argv[optind], argv[optind + 1], &w, &fault) < 0) {
		fprintf(stderr, "bulkhead-initrd: %s\n", fault.text);
		return 1;
	}
	return 0;
}
