#include "workers/metadata/object/snapshot.h"

static const struct object_view *const views[OBJECT_KINDS] = {
	[BULKHEAD__OBJECT_KIND__OBJECT_SNAPSHOT] = &snapshot_view,
};

const struct object_view *object_view(Bulkhead__ObjectKind kind) {
	return kind > 0 && kind < OBJECT_KINDS ? views[kind] : NULL;
}
