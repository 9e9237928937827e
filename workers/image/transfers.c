/*
 * libcurl's multi interface on the loop: each of its sockets is a loop_poll,
 * its timer a loop_timer.
 *
 * libcurl wants to be told of readiness as a level, the loop tells of edges.
 * So a socket's source is made anew after each event, which asks the kernel
 * for the present state.
 *
 * libcurl must not be entered from its own callbacks: what would end a
 * transfer there is marked, and reaped when control is back.
 */
#include "transfer_private.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#define CONNECTIONS_KEPT 8L

struct watch {
	struct list node;
	struct transfers *transfers;
	curl_socket_t fd;
	uint32_t events;
	struct loop_source *source;
};

static void reap(struct transfers *t);

static void drive(struct transfers *t, curl_socket_t fd, int mask) {
	int running;
	t->inside++;
	curl_multi_socket_action(t->multi, fd, mask, &running);
	t->inside--;
}

/* --- sockets and the timer ------------------------------------------------- */

static struct watch *watch_find(struct transfers *t, curl_socket_t fd) {
	list_for_each (n, &t->watches) {
		struct watch *w = list_entry(n, struct watch, node);
		if (w->fd == fd)
			return w;
	}
	return NULL;
}

static void watch_free(struct watch *w) {
	loop_source_free(w->source);
	list_unlink(&w->node);
	free(w);
}

static void on_ready(void *ctx, uint32_t events);

static void watch_arm(struct watch *w) {
	loop_source_free_p(&w->source);
	/* Without a source the stall timeout ends the transfer. */
	if (w->events && loop_poll(w->transfers->loop, w->fd, w->events, on_ready, w, &w->source) < 0)
		w->source = NULL;
}

static void on_ready(void *ctx, uint32_t events) {
	struct watch *w = ctx;
	struct transfers *t = w->transfers;
	curl_socket_t fd = w->fd;
	int mask = (events & (POLLIN | POLLHUP) ? CURL_CSELECT_IN : 0) | (events & POLLOUT ? CURL_CSELECT_OUT : 0) |
		   (events & POLLERR ? CURL_CSELECT_ERR : 0);
	loop_source_free_p(&w->source);
	drive(t, fd, mask);
	/* libcurl may have dropped the socket, or opened another by its number. */
	w = watch_find(t, fd);
	if (w && !w->source)
		watch_arm(w);
	reap(t);
}

static int socket_callback(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx) {
	struct transfers *t = ctx;
	struct watch *w = watch_find(t, fd);
	if (what == CURL_POLL_REMOVE) {
		if (w)
			watch_free(w);
		return 0;
	}
	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return -1;
		w->transfers = t;
		w->fd = fd;
		list_append(&t->watches, &w->node);
	}
	w->events = (what & CURL_POLL_IN ? POLLIN : 0u) | (what & CURL_POLL_OUT ? POLLOUT : 0u);
	watch_arm(w);
	return 0;
}

static void on_timer(void *ctx) {
	struct transfers *t = ctx;
	loop_source_free_p(&t->timer);
	drive(t, CURL_SOCKET_TIMEOUT, 0);
	reap(t);
}

static int timer_callback(CURLM *multi, long timeout_ms, void *ctx) {
	struct transfers *t = ctx;
	loop_source_free_p(&t->timer);
	if (timeout_ms < 0)
		return 0;
	return loop_timer(t->loop, clock_mono() + timeout_ms * NS_PER_MS, on_timer, t, &t->timer) < 0 ? -1 : 0;
}

/* --- the end of transfers ------------------------------------------------- */

static void drop_multi(struct transfers *t) {
	if (!t->multi || !list_empty(&t->running))
		return;
	/* Cached connections take their leave through the callbacks above. */
	t->inside++;
	curl_multi_cleanup(t->multi);
	t->inside--;
	t->multi = NULL;
	loop_source_free_p(&t->timer);
	list_for_each_safe (n, &t->watches)
		watch_free(list_entry(n, struct watch, node));
	t->trim = false;
}

static void reap(struct transfers *t) {
	if (t->inside || t->reaping)
		return;
	t->reaping = true;
	CURLMsg *m;
	int left;
	while (t->multi && (m = curl_multi_info_read(t->multi, &left))) {
		char *x;
		CURLcode code = m->data.result;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &x);
		transfer_finish((struct transfer *)(void *)x, code);
	}
	list_for_each_safe (n, &t->running) {
		struct transfer *x = list_entry(n, struct transfer, node);
		if (x->dead)
			transfer_free(x);
	}
	t->reaping = false;
	if (t->trim)
		drop_multi(t);
}

/* --- the handle ------------------------------------------------------------ */

int transfers_begin(struct transfers *t) {
	t->trim = false;
	if (t->multi)
		return 0;
	/* The tables of TLS are worth half a megabyte: who pulls nothing has none.
	 * There is no other thread yet. */
	if (!t->initialised && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	t->initialised = true;
	t->multi = curl_multi_init();
	if (!t->multi)
		return -ENOMEM;
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
	curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t);
	curl_multi_setopt(t->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
	return 0;
}

int transfers_new(struct loop *loop, struct transfers **ret_transfers) {
	struct transfers *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->loop = loop;
	list_init(&t->running);
	list_init(&t->watches);
	*ret_transfers = t;
	return 0;
}

void transfers_trim(struct transfers *t) {
	t->trim = true;
	if (!t->inside && !t->reaping)
		drop_multi(t);
}

void transfers_free(struct transfers *t) {
	if (!t)
		return;
	list_for_each_safe (n, &t->running)
		transfer_free(list_entry(n, struct transfer, node));
	drop_multi(t);
	free(t);
}
