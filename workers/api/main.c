/*
 * The API worker: one listening endpoint's front, gRPC or ttrpc. It holds no state but
 * open connections and calls, and no privilege at all; what arrives here is
 * translated into messages to the metadata worker and back.
 */
#include "workers/api/health.h"
#include "workers/api/serial.h"
#include "workers/api/server.h"
#include "workers/api/services.h"
#include "workers/skeleton/worker.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* How long open requests may take to end after the order to stop. */
#define STOP_GRACE (5 * NS_PER_SEC)

struct api {
	struct server *server;
	struct serial *serial; /* of an endpoint that is a serial line */
	struct grpc_server grpc;
};

/* Request ids are unique across restarts well enough to find them in a log. */
static int first_request(uint64_t *ret_id) {
	uint32_t random;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	*ret_id = (uint64_t)random << 32 | 1;
	return 0;
}

static int api_prepare(struct worker *w) {
	struct api *api = calloc(1, sizeof(*api));
	if (!api)
		return -ENOMEM;
	w->state = api;
	return first_request(&api->grpc.next_request);
}

static bool admits(void *owner, const struct credentials *client) {
	return endpoint_admits(((const struct grpc_server *)owner)->endpoint, client->uid);
}

static int api_serve(struct worker *w) {
	struct api *api = w->state;
	api->grpc.loop = w->loop;
	api->grpc.metadata = worker_link(w, ROLE_METADATA, 0);
	api->grpc.services = services;
	api->grpc.endpoint = worker_endpoint(w, ROLE_API, w->boot->instance);
	const struct server_options options = { .loop = w->loop,
						.protocol = protocols[api->grpc.endpoint->protocol],
						.owner = &api->grpc,
						.admits = admits };
	if (!options.protocol) {
		log_text(LOG_ERROR, "this program doesn't speak %s: set endpoint.%s.protocol",
			 endpoint_protocol_name(api->grpc.endpoint->protocol), api->grpc.endpoint->name);
		return -EPROTONOSUPPORT;
	}
	return server_new(&options, &api->server);
}

static void api_link_changed(struct worker *w, enum role peer, unsigned instance) {
	struct api *api = w->state;
	if (peer == ROLE_METADATA)
		health_changed(&api->grpc);
}

static void api_listener(struct worker *w, unsigned index, int fd) {
	struct api *api = w->state;
	bool serial = endpoint_serial(api->grpc.endpoint->socket);
	int r = serial ? serial_new(w->loop, api->server, fd, &api->serial) : server_listen(api->server, fd);
	if (r < 0)
		log_text(LOG_ERROR, "listener %u: %s", index, strerrordesc_np(-r));
}

static void stopped(void *ctx) {
	struct worker *w = ctx;
	struct api *api = w->state;
	server_free(take_ptr(api->server));
	worker_exit(w, 0);
}

static void api_stop(struct worker *w) {
	struct api *api = w->state;
	serial_free(take_ptr(api->serial));
	health_stop(&api->grpc);
	server_stop(api->server, STOP_GRACE, stopped, w);
}

static const enum role peers[] = { ROLE_METADATA, ROLE_SUPERVISOR };
static const struct link_handler handlers[] = { { 0 } };

static const struct worker_class api_class = {
	.role = ROLE_API,
	.loop = { .entries = 256, .buffers = 32, .buffer_size = 16384 },
	.peers = peers,
	.handlers = handlers,
	.prepare = api_prepare,
	.serve = api_serve,
	.link_up = api_link_changed,
	.link_down = api_link_changed,
	.listener = api_listener,
	.stop = api_stop,
};

int main(int argc, char **argv) {
	return worker_main(&api_class, argc, argv);
}
