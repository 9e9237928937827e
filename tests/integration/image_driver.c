/*
 * Plays the metadata worker against the image worker's code, both in this
 * process on one loop, with a link over a socket between them. Reads commands
 * from stdin, one a line, and prints one line of JSON per answer:
 *
 *   resolve PULL REFERENCE [key=value ...]   user, password, identity, token,
 *                                            auth, server, arch, variant
 *   fetch PULL DIGEST SIZE FILE [limit=N] [slow] [close=N]   several may run
 *   release PULL / list / remove DIGEST... / index NAME=MEDIATYPE=DIGEST=SIZE...
 *   cancel      the fetches that run
 *   wait        until nothing runs
 *   stats       descriptors and memory
 *
 *   image_driver STATE_ROOT CERTS_DIR [STALL_SECONDS]
 */
#include "base/clock.h"
#include "base/fd.h"
#include "msg/typed.h"
#include "workers/image/worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct loop *loop;
static struct link *us; /* the metadata side */
static struct image_worker image;
static unsigned open_calls, progress_messages;

struct running {
	struct list node;
	char name[128];
	int pipe, out;
	struct loop_source *source;
	long long close_after, got;
	struct msg_call *call;
	bool eof, answered;
	char *line;
};
static struct list runs = LIST_INIT(runs);

static void say_text(const char *p) {
	putchar('"');
	for (; *p; p++) {
		if (*p == '"' || *p == '\\')
			putchar('\\');
		putchar(*p);
	}
	putchar('"');
}

static void say_fault(const char *what, const struct fault *f) {
	printf("{\"answer\":\"%s\",\"error\":\"%s\",\"text\":", what, fault_code_name(f->code));
	say_text(f->text);
	printf("}\n");
	fflush(stdout);
}

static void say_blob(const Bulkhead__Descriptor *d) {
	printf("{\"digest\":\"%s\",\"size\":%llu,\"type\":\"%s\"}", d->digest, (unsigned long long)d->size,
	       d->media_type);
}

/* --- calls ------------------------------------------------------------------ */

static void resolved(void *ctx, const struct msg_answer *a) {
	open_calls--;
	if (a->fault) {
		say_fault("resolve", a->fault);
		return;
	}
	const Bulkhead__ImageResolveReply *r = image_resolve_answer(a);
	printf("{\"answer\":\"resolve\",\"name\":\"%s\",\"repository\":\"%s\",\"target\":", r->name, r->repository);
	say_blob(r->target);
	printf(",\"manifest\":");
	say_blob(r->manifest);
	printf(",\"config\":");
	say_blob(r->config);
	printf(",\"cmd\":[");
	for (size_t i = 0; i < r->image_config->n_cmd; i++) {
		printf(i ? "," : "");
		say_text(r->image_config->cmd[i]);
	}
	printf("],\"arch\":\"%s\",\"layers\":[", r->image_config->architecture);
	for (size_t i = 0; i < r->n_layers; i++) {
		printf(i ? ",{\"diff_id\":\"%s\",\"blob\":" : "{\"diff_id\":\"%s\",\"blob\":", r->layers[i]->diff_id);
		say_blob(r->layers[i]->blob);
		printf("}");
	}
	printf("]}\n");
	fflush(stdout);
}

static char *option(char **words, size_t n, const char *key) {
	size_t k = strlen(key);
	for (size_t i = 0; i < n; i++)
		if (strncmp(words[i], key, k) == 0 && words[i][k] == '=')
			return words[i] + k + 1;
	return (char *)"";
}

static void do_resolve(char **words, size_t n) {
	Bulkhead__ImageResolveRequest q = BULKHEAD__IMAGE_RESOLVE_REQUEST__INIT;
	Bulkhead__Credentials c = BULKHEAD__CREDENTIALS__INIT;
	Bulkhead__Platform p = BULKHEAD__PLATFORM__INIT;
	q.pull_id = strtoull(words[1], NULL, 10);
	q.reference = words[2];
	c.username = option(words, n, "user");
	c.password = option(words, n, "password");
	c.identity_token = option(words, n, "identity");
	c.registry_token = option(words, n, "token");
	c.auth = option(words, n, "auth");
	c.server_address = option(words, n, "server");
	q.credentials = &c;
	p.os = (char *)"linux";
	p.architecture = option(words, n, "arch");
	p.variant = option(words, n, "variant");
	q.platform = &p;
	open_calls++;
	image_resolve_send(us, NULL, &q, NULL, 0, resolved, NULL);
}

static void run_end(struct running *r) {
	if (!r->eof || !r->answered)
		return;
	printf("%s", r->line);
	printf(",\"piped\":%lld}\n", r->got);
	fflush(stdout);
	list_unlink(&r->node);
	loop_source_free(r->source);
	fd_close(r->pipe);
	fd_close(r->out);
	free(r->line);
	free(r);
	open_calls--;
}

static void fetched(void *ctx, const struct msg_answer *a) {
	struct running *r = ctx;
	size_t size;
	FILE *f = open_memstream(&r->line, &size);
	r->call = NULL;
	fprintf(f, "{\"answer\":\"fetch\",\"blob\":\"%s\"", r->name);
	if (a->fault)
		fprintf(f, ",\"error\":\"%s\",\"text\":\"", fault_code_name(a->fault->code));
	for (const char *p = a->fault ? a->fault->text : ""; *p; p++)
		fprintf(f, *p == '"' ? "\\\"" : "%c", *p);
	if (a->fault)
		fprintf(f, "\"");
	else
		fprintf(f, ",\"transferred\":%llu", (unsigned long long)layer_fetch_answer(a)->transferred);
	fclose(f);
	r->answered = true;
	run_end(r);
}

static void on_pipe(void *ctx, const uint8_t *data, ssize_t n) {
	struct running *r = ctx;
	if (n > 0) {
		r->got += n;
		if (r->out >= 0 && fd_write_all(r->out, data, (size_t)n) < 0)
			abort();
		if (r->close_after < 0 || r->got < r->close_after)
			return;
	}
	loop_source_free_p(&r->source);
	fd_replace(&r->pipe, -1);
	r->eof = true;
	run_end(r);
}

static void do_fetch(char **words, size_t n) {
	Bulkhead__LayerFetchRequest q = BULKHEAD__LAYER_FETCH_REQUEST__INIT;
	Bulkhead__Descriptor d = BULKHEAD__DESCRIPTOR__INIT;
	struct running *r = calloc(1, sizeof(*r));
	int ends[2];
	if (!r || pipe2(ends, O_CLOEXEC) < 0)
		abort();
	list_append(&runs, &r->node);
	q.pull_id = strtoull(words[1], NULL, 10);
	d.digest = words[2];
	d.size = strtoull(words[3], NULL, 10);
	q.blob = &d;
	snprintf(r->name, sizeof(r->name), "%s", words[2]);
	r->pipe = ends[0];
	r->out = open(words[4], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r->close_after = *option(words, n, "close") ? atoll(option(words, n, "close")) : -1;
	open_calls++;
	if (r->close_after == 0) {
		fd_replace(&r->pipe, -1);
		r->eof = true;
	} else if (loop_read(loop, r->pipe, on_pipe, r, &r->source) < 0)
		abort();
	r->call = layer_fetch_send(us, NULL, &q, &ends[1], 1, fetched, r);
	close(ends[1]);
}

static void do_cancel(void) {
	while (!list_empty(&runs)) {
		struct running *r = list_entry(list_pop(&runs), struct running, node);
		if (r->call)
			msg_cancel(r->call);
		r->eof = r->answered = true;
		r->line = strdup("{\"answer\":\"cancel\"");
		run_end(r);
	}
}

static void done(void *ctx, const struct msg_answer *a) {
	open_calls--;
	if (a->fault)
		say_fault(ctx, a->fault);
	else
		printf("{\"answer\":\"%s\"}\n", (const char *)ctx);
	fflush(stdout);
}

static void listed(void *ctx, const struct msg_answer *a) {
	open_calls--;
	if (a->fault) {
		say_fault("list", a->fault);
		return;
	}
	const Bulkhead__ContentListReply *l = content_list_answer(a);
	printf("{\"answer\":\"list\",\"blobs\":[");
	for (size_t i = 0; i < l->n_blobs; i++) {
		printf(i ? "," : "");
		say_blob(l->blobs[i]);
	}
	printf("]}\n");
	fflush(stdout);
}

static void do_index(char **words, size_t n) {
	Bulkhead__ContentIndexRequest q = BULKHEAD__CONTENT_INDEX_REQUEST__INIT;
	Bulkhead__ContentIndexRequest__Entry entries[16], *list[16];
	Bulkhead__Descriptor blobs[16];
	for (size_t i = 1; i < n && i <= 16; i++) {
		bulkhead__content_index_request__entry__init(&entries[i - 1]);
		bulkhead__descriptor__init(&blobs[i - 1]);
		entries[i - 1].name = strtok(words[i], "=");
		blobs[i - 1].media_type = strtok(NULL, "=");
		blobs[i - 1].digest = strtok(NULL, "=");
		blobs[i - 1].size = strtoull(strtok(NULL, "="), NULL, 10);
		entries[i - 1].target = &blobs[i - 1];
		list[i - 1] = &entries[i - 1];
	}
	q.entries = list;
	q.n_entries = n - 1;
	open_calls++;
	content_index_send(us, NULL, &q, NULL, 0, done, (void *)"index");
}

static void do_stats(void) {
	unsigned fds = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		fds++;
	closedir(d);
	printf("{\"answer\":\"stats\",\"fds\":%u,\"heap\":%zu,\"progress\":%u,\"sessions\":%u}\n", fds,
	       mallinfo2().uordblks, progress_messages, image.n_sessions);
	fflush(stdout);
}

/* --- commands --------------------------------------------------------------- */

static void command(char *line) {
	char *words[32];
	size_t n = 0;
	for (char *w = strtok(line, " \n"); w && n < 32; w = strtok(NULL, " \n"))
		words[n++] = w;
	if (n == 0)
		return;
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	Bulkhead__ImageReleaseRequest release = BULKHEAD__IMAGE_RELEASE_REQUEST__INIT;
	Bulkhead__KeyList keys = BULKHEAD__KEY_LIST__INIT;
	if (strcmp(words[0], "resolve") == 0) {
		do_resolve(words, n);
	} else if (strcmp(words[0], "fetch") == 0) {
		do_fetch(words, n);
	} else if (strcmp(words[0], "release") == 0) {
		release.pull_id = strtoull(words[1], NULL, 10);
		open_calls++;
		image_release_send(us, NULL, &release, NULL, 0, done, (void *)"release");
	} else if (strcmp(words[0], "list") == 0) {
		open_calls++;
		content_list_send(us, NULL, &empty, NULL, 0, listed, NULL);
	} else if (strcmp(words[0], "remove") == 0) {
		keys.ids = words + 1;
		keys.n_ids = n - 1;
		open_calls++;
		content_remove_send(us, NULL, &keys, NULL, 0, done, (void *)"remove");
	} else if (strcmp(words[0], "index") == 0) {
		do_index(words, n);
	} else if (strcmp(words[0], "cancel") == 0) {
		do_cancel();
	} else if (strcmp(words[0], "stats") == 0) {
		do_stats();
	} else if (strcmp(words[0], "wait") == 0) {
		while (open_calls > 0)
			if (loop_turn(loop, -1) < 0)
				abort();
		printf("{\"answer\":\"wait\"}\n");
		fflush(stdout);
	} else {
		abort();
	}
}

static void on_pull_progress(struct image_worker *w, struct msg_request *r, const Bulkhead__PullProgress *m) {
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	progress_messages++;
	if (m->offset > m->total)
		abort();
	pull_progress_reply(r, &empty, NULL, 0);
}
HANDLER_DEFINE(struct image_worker, pull_progress)
static const struct link_handler our_handlers[] = { HANDLER(pull_progress), { 0 } };

static void down(void *worker, struct link *l, bool violation, const char *text) {
	fprintf(stderr, "link down: %s\n", text);
	exit(3);
}

/* stdin may be a file, which can't be polled: a turn, then a look at it. */
static void serve(void) {
	static char text[65536];
	size_t used = 0;
	for (;;) {
		struct pollfd p = { .fd = 0, .events = POLLIN };
		if (loop_turn(loop, 2 * NS_PER_MS) < 0)
			abort();
		if (poll(&p, 1, 0) <= 0)
			continue;
		ssize_t n = read(0, text + used, sizeof(text) - 1 - used);
		if (n <= 0)
			return;
		used += (size_t)n;
		text[used] = '\0';
		char *end;
		while ((end = memchr(text, '\n', used))) {
			char line[8192];
			size_t size = (size_t)(end - text) + 1;
			snprintf(line, sizeof(line), "%.*s", (int)size, text);
			memmove(text, end + 1, used - size + 1);
			used -= size;
			command(line);
		}
	}
}

int main(int argc, char **argv) {
	static struct boot_config config = { .pull_progress_timeout_s = 300 };
	static const struct loop_options options = { .buffers = 16 };
	struct content *content;
	struct fault fault;
	struct link *them;
	int pair[2];
	if (argc < 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	snprintf(config.state_root, sizeof(config.state_root), "%s", argv[1]);
	snprintf(config.certs_dir, sizeof(config.certs_dir), "%s", argv[2]);
	if (argc > 3)
		config.pull_progress_timeout_s = (uint32_t)atoi(argv[3]);
	if (loop_new(&options, &loop) < 0 || loop_enable(loop, NULL, 0) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return 1;
	if (content_open(loop, config.state_root, &content, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		return 1;
	}
	struct link_options ours = {
		.loop = loop,
		.self = ROLE_METADATA,
		.peer = ROLE_IMAGE,
		.handlers = our_handlers,
		.worker = &image,
		.on_down = down,
	};
	struct link_options theirs = {
		.loop = loop,
		.self = ROLE_IMAGE,
		.peer = ROLE_METADATA,
		.handlers = image_handlers,
		.worker = &image,
		.on_down = down,
	};
	if (link_new(&ours, &us) < 0 || link_new(&theirs, &them) < 0 || link_attach_socket(us, pair[0]) < 0 ||
	    link_attach_socket(them, pair[1]) < 0 || image_worker_init(&image, loop, &config, them, content) < 0)
		return 1;
	serve();
	image_worker_deinit(&image);
	link_free(us);
	link_free(them);
	content_free(content);
	/* What was taken back from the ring is freed when the ring says so. */
	loop_turn(loop, 10 * NS_PER_MS);
	loop_turn(loop, 10 * NS_PER_MS);
	loop_free(loop);
	return 0;
}
