/*
 * The image worker: registries and content. It has a network and no privilege;
 * it writes below <state root>/content and nowhere else.
 *
 * Happy path of a pull: image_resolve (resolve.c) leads from a name to layers,
 * a layer_fetch each (fetch.c) brings them into the store and into the pipes
 * of those who unpack, image_release ends it. Who asks whom: a query
 * (registry.c) tries the hosts of a session (session.c, hosts.c), answers
 * their demands (auth.c), and is made of transfers (transfer.c). Bytes become
 * blobs in ingest.c; complete ones are content.c's.
 *
 * What it needs from its row of the privilege table, beyond the base:
 *   files      openat mkdirat unlinkat renameat fstat getdents64 ftruncate
 *              fchmod fallocate fadvise64 fstatfs splice pread64
 *   network    socket (AF_INET, AF_INET6), connect, sockopts, sendto recvfrom
 *              sendmmsg (resolver), socketpair (libcurl's own wake-up)
 *   threads    clone as threads: libcurl resolves each name in one
 *   io_uring   poll_add async_cancel write fsync (and what the links use)
 *   sees       the content folder, certs.d, the authorities' certificates,
 *              resolv.conf hosts nsswitch.conf gai.conf
 */
#include "base/log.h"
#include "msg/typed.h"
#include "workers/skeleton/worker.h"
#include "worker.h"

#include <errno.h>
#include <netdb.h>

static struct image_worker image;

static int prepare(struct worker *w) {
	struct addrinfo *list;
	w->state = &image;
	/* Loads what the name service is configured to be made of, while the
	 * files that it consists of are still there. */
	if (getaddrinfo("localhost", NULL, NULL, &list) == 0)
		freeaddrinfo(list);
	return 0;
}

static int serve(struct worker *w) {
	struct fault fault;
	struct content *content;
	int r = content_open(w->loop, w->config.state_root, &content, &fault);
	if (r < 0) {
		log_event(LOG_ERROR, "no content store", "error", fault.text, NULL);
		return r;
	}
	return image_worker_init(&image, w->loop, &w->config, worker_link(w, ROLE_METADATA, 0), content);
}

/* Its successor begins its pulls anew; partial layers are there for it. */
static void link_down(struct worker *w, enum role peer, unsigned instance) {
	image_worker_abandon(&image, "the metadata worker is gone");
}

int main(int argc, char **argv) {
	static const enum role peers[] = { ROLE_METADATA, ROLE_SUPERVISOR };
	static const struct worker_class class = {
		.role = ROLE_IMAGE,
		.peers = peers,
		.handlers = image_handlers,
		.prepare = prepare,
		.serve = serve,
		.link_down = link_down,
	};
	return worker_main(&class, argc, argv);
}
