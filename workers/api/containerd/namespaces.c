/* containerd.services.namespaces.v1.Namespaces */
#include "workers/api/containerd/objects.h"

#include "containerd/namespaces.pb-c.h"

#define N(name) Containerd__Services__Namespaces__V1__##name
#define N_INIT(name) CONTAINERD__SERVICES__NAMESPACES__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	N(Namespace) *n = ARENA_NEW(t->arena, N(Namespace), N_INIT(NAMESPACE));
	if (n) {
		n->name = o->id->key;
		n->labels = (void *)o->labels;
		n->n_labels = o->n_labels;
	}
	return n;
}

static Bulkhead__Object *object(struct grpc_translation *t, const void *from) {
	const N(Namespace) *n = from;
	Bulkhead__Object *o = ctd_object(t, KIND, n ? n->name : "");
	if (o && n) {
		o->labels = (void *)n->labels;
		o->n_labels = n->n_labels;
	}
	return o;
}

static const struct ctd_objects namespaces = { .kind = KIND, .key = "name", .make = make, .object = object };

const struct grpc_method ctd_namespaces_methods[] = {
	{ .name = "Get", CTD_OBJECT_GET(namespaces) },	     { .name = "List", CTD_OBJECT_LIST(namespaces) },
	{ .name = "Create", CTD_OBJECT_CREATE(namespaces) }, { .name = "Update", CTD_OBJECT_UPDATE(namespaces) },
	{ .name = "Delete", CTD_OBJECT_DELETE(namespaces) }, { 0 },
};
