/* From a request's path to a row of a service's table. */
#include "workers/api/grpc.h"

#include "base/version.h"

#include <string.h>

static bool is_served(const struct grpc_server *server, const struct grpc_service *s, const char *name, size_t size) {
	return (server->endpoint->services & (1u << s->group)) && strncmp(s->name, name, size) == 0 &&
	       s->name[size] == '\0';
}

const struct grpc_service *grpc_service_find(const struct grpc_server *server, const char *name, size_t size) {
	for (const struct grpc_service *s = server->services; s->name; s++)
		if (is_served(server, s, name, size))
			return s;
	return NULL;
}

static const struct grpc_method *find_method(const struct grpc_service *s, const char *name) {
	for (const struct grpc_method *m = s->methods; m->name; m++)
		if (strcmp(m->name, name) == 0)
			return m;
	return NULL;
}

/* Two forms of a service may share its name: then the one that has the method,
 * or else the one whose description has it. */
static const struct grpc_service *service_of(const struct grpc_server *server, const char *name, size_t size,
					     const char *method) {
	const struct grpc_service *first = grpc_service_find(server, name, size), *described = NULL;
	for (const struct grpc_service *s = first; s && s->name; s++) {
		if (!is_served(server, s, name, size))
			continue;
		if (find_method(s, method))
			return s;
		if (!described && protobuf_c_service_descriptor_get_method_by_name(s->api, method))
			described = s;
	}
	return described ? described : first;
}

const ProtobufCMessageDescriptor *grpc_input(const struct grpc_target *target) {
	return target->method->input ? target->method->input : target->types->input;
}

int grpc_resolve(const struct grpc_server *server, const char *path, struct grpc_target *ret_target,
		 struct fault *fault) {
	const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;
	if (!slash || strchr(slash + 1, '/'))
		return fault_set(fault, FAULT_UNIMPLEMENTED, "\"%.200s\" isn't a path of the form /SERVICE/METHOD",
				 path);
	const char *name = slash + 1;
	int size = (int)(slash - path - 1);
	const struct grpc_service *s = service_of(server, path + 1, (size_t)size, name);
	if (!s)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "unknown service %.*s at endpoint \"%s\"", MIN(size, 200),
				 path + 1, server->endpoint->name);
	const ProtobufCMethodDescriptor *types = protobuf_c_service_descriptor_get_method_by_name(s->api, name);
	if (!types)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "unknown method %.200s of service %s", name, s->name);
	const struct grpc_method *m = find_method(s, name);
	if (!m)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "%s of service %s isn't implemented in %s %s", name,
				 s->name, BULKHEAD_NAME, BULKHEAD_VERSION);
	*ret_target = (struct grpc_target){ .service = s, .method = m, .types = types };
	return 0;
}
