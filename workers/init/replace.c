/* What Debian's static libtdb expects of Samba's libreplace, and which lies in no
 * package: C11's memset_s. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

int rep_memset_s(void *at, size_t room, int byte, size_t n);
int rep_memset_s(void *at, size_t room, int byte, size_t n) {
	if (!at || n > room)
		return EINVAL;
	explicit_bzero(at, n);
	memset(at, byte, n);
	return 0;
}
