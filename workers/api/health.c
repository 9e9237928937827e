#include "workers/api/health.h"

#include "health/health.pb-c.h"

#include <string.h>

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;
#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

static bool known(const struct grpc_server *server, const char *service) {
	return service[0] == '\0' || grpc_service_find(server, service, strlen(service));
}

static serving_status status_now(const struct grpc_server *server) {
	return link_attached(server->metadata) ? SERVING : NOT_SERVING;
}

static void on_check(struct grpc_call *c, const ProtobufCMessage *m) {
	const Grpc__Health__V1__HealthCheckRequest *request = (const Grpc__Health__V1__HealthCheckRequest *)m;
	const struct grpc_server *server = grpc_call_server(c);
	if (!known(server, request->service)) {
		grpc_failf(c, FAULT_NOT_FOUND, "unknown service \"%.200s\"", request->service);
		return;
	}
	Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	reply.status = status_now(server);
	grpc_reply(c, &reply.base);
}

/* --- Watch --- */

struct health_watch {
	struct health_watch *next; /* of the server's */
	struct grpc_call *call;
	bool begun, known;
	serving_status told;
};

static void *watch_open(struct grpc_call *c) {
	struct grpc_server *server = grpc_call_server(c);
	struct health_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->call = c;
	w->next = server->watches;
	server->watches = w;
	return w;
}

static void watch_closed(void *watch) {
	struct health_watch *w = watch;
	struct health_watch **at = &grpc_call_server(w->call)->watches;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	free(w);
}

/* Less than 0: the call has ended, and w with it. */
static int watch_tell(struct health_watch *w, serving_status status) {
	Grpc__Health__V1__HealthCheckResponse reply = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	reply.status = w->known ? status : SERVICE_UNKNOWN;
	if (!w->begun || w->told == reply.status)
		return 0;
	w->told = reply.status;
	return grpc_reply_part(w->call, &reply.base);
}

static void watch_message(void *watch, const ProtobufCMessage *m) {
	const Grpc__Health__V1__HealthCheckRequest *request = (const Grpc__Health__V1__HealthCheckRequest *)m;
	struct health_watch *w = watch;
	const struct grpc_server *server = grpc_call_server(w->call);
	w->begun = true;
	w->known = known(server, request->service);
	watch_tell(w, status_now(server));
}

static const struct grpc_handler watch = {
	.open = watch_open,
	.message = watch_message,
	.closed = watch_closed,
};

void health_changed(struct grpc_server *server) {
	for (struct health_watch *w = server->watches, *next; w; w = next) {
		next = w->next;
		watch_tell(w, status_now(server));
	}
}

void health_stop(struct grpc_server *server) {
	for (struct health_watch *w = server->watches, *next; w; w = next) {
		next = w->next;
		if (watch_tell(w, NOT_SERVING) == 0)
			grpc_failf(w->call, FAULT_UNAVAILABLE, "Watch: the server stops");
	}
}

const struct grpc_method health_methods[] = {
	{ .name = "Check", .answer = on_check },
	{ .name = "Watch", .handler = &watch, .local = true },
	{ 0 },
};
