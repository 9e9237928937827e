/* Each row guest_X is relayed as guest_do_X, which takes and answers the same. */
#include "msg/typed.h"
#include "tap.h"
#include "workers/metadata/guest.h"

#include <string.h>

static bool alike(const struct msg_row *a, const struct msg_row *b) {
	return b->from == ROLE_METADATA && b->to == ROLE_GUEST && strncmp(b->name, "guest_do_", 9) == 0 &&
	       strcmp(a->name + 6, b->name + 9) == 0 && a->request == b->request && a->reply == b->reply &&
	       a->limit == b->limit && a->resend == b->resend;
}

int main(void) {
	unsigned n = 0, to_guest = 0;
	for (const struct msg_row *r = msg_rows; r->name; r++) {
		to_guest += r->to == ROLE_GUEST;
		if (r->from != ROLE_API || strncmp(r->name, "guest_", 6) != 0)
			continue;
		const struct msg_row *other = msg_row_find(r->number + GUEST_RELAY);
		tap_check(other && alike(r, other), "%s", r->name);
		n++;
	}
	tap_check(n > 0 && n == to_guest, "each row to the guest worker is one of the API's");
	return tap_done();
}
