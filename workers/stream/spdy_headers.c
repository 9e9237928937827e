/*
 * Blocks of header fields, compressed with zlib over one dictionary that both
 * sides know. The state runs on from frame to frame, so one bad block ends the
 * session. zlib is known here only.
 *
 * What we say has never a field, so nothing is compressed on the way out: the
 * count 0 travels as stored bytes, which any inflater takes.
 */
#include "workers/stream/spdy_headers.h"

#include "base/buffer.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#define PAIRS_MAX 64
#define PORTION 1024

/* SPDY protocol draft 3.1, section 2.6.10.1: names with their lengths in
 * front, and text. */
static const char dictionary[] =
    "\0\0\0\007options\0\0\0\004head\0\0\0\004post\0\0\0\003put\0\0\0\006delete\0\0\0\005trace"
    "\0\0\0\006accept\0\0\0\016accept-charset\0\0\0\017accept-encoding\0\0\0\017accept-language"
    "\0\0\0\015accept-ranges\0\0\0\003age\0\0\0\005allow\0\0\0\015authorization"
    "\0\0\0\015cache-control\0\0\0\012connection\0\0\0\014content-base\0\0\0\020content-encoding"
    "\0\0\0\020content-language\0\0\0\016content-length\0\0\0\020content-location"
    "\0\0\0\013content-md5\0\0\0\015content-range\0\0\0\014content-type\0\0\0\004date\0\0\0\004etag"
    "\0\0\0\006expect\0\0\0\007expires\0\0\0\004from\0\0\0\004host\0\0\0\010if-match"
    "\0\0\0\021if-modified-since\0\0\0\015if-none-match\0\0\0\010if-range"
    "\0\0\0\023if-unmodified-since\0\0\0\015last-modified\0\0\0\010location\0\0\0\014max-forwards"
    "\0\0\0\006pragma\0\0\0\022proxy-authenticate\0\0\0\023proxy-authorization\0\0\0\005range"
    "\0\0\0\007referer\0\0\0\013retry-after\0\0\0\006server\0\0\0\002te\0\0\0\007trailer"
    "\0\0\0\021transfer-encoding\0\0\0\007upgrade\0\0\0\012user-agent\0\0\0\004vary\0\0\0\003via"
    "\0\0\0\007warning\0\0\0\020www-authenticate\0\0\0\006method\0\0\0\003get\0\0\0\006status"
    "\0\0\0\006200 OK\0\0\0\007version\0\0\0\010HTTP/1.1\0\0\0\003url\0\0\0\006public"
    "\0\0\0\012set-cookie\0\0\0\012keep-alive\0\0\0\006origin"
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 N"
    "on-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized4"
    "03 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan"
    " Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTch"
    "unked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,en"
    "q=0.";
_Static_assert(sizeof(dictionary) - 1 == 1423, "the dictionary's size is a fact of the wire");

struct spdy_inflater {
	z_stream z;
};

int spdy_inflater_new(struct spdy_inflater **ret_inflater) {
	struct spdy_inflater *i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	if (inflateInit(&i->z) != Z_OK) {
		free(i);
		return -ENOMEM;
	}
	*ret_inflater = i;
	return 0;
}

void spdy_inflater_free(struct spdy_inflater *i) {
	if (!i)
		return;
	inflateEnd(&i->z);
	free(i);
}

/* One call of zlib; 1: there may be more. */
static int block_step(struct spdy_inflater *i, struct buffer *out) {
	uint8_t *room = buffer_reserve(out, PORTION);
	if (!room)
		return -ENOMEM;
	i->z.next_out = room;
	i->z.avail_out = PORTION;
	int r = inflate(&i->z, Z_SYNC_FLUSH);
	out->size += PORTION - i->z.avail_out;
	if (out->size > SPDY_HEADERS_MAX)
		return -E2BIG;
	if (r == Z_NEED_DICT)
		return inflateSetDictionary(&i->z, (const Bytef *)dictionary, sizeof(dictionary) - 1) == Z_OK
			   ? 1
			   : -EBADMSG;
	if (r == Z_MEM_ERROR)
		return -ENOMEM;
	/* Z_BUF_ERROR: nothing left to do. */
	if (r != Z_OK && r != Z_BUF_ERROR)
		return -EBADMSG;
	return i->z.avail_out == 0;
}

static int block_inflate(struct spdy_inflater *i, const uint8_t *block, size_t size, struct buffer *out) {
	int r;
	i->z.next_in = (Bytef *)block;
	i->z.avail_in = (uInt)size;
	while ((r = block_step(i, out)) == 1)
		;
	return r == 0 && i->z.avail_in > 0 ? -EBADMSG : r;
}

struct cursor {
	const uint8_t *data;
	size_t left;
};

static bool take_u32(struct cursor *c, uint32_t *ret) {
	if (c->left < 4)
		return false;
	*ret = (uint32_t)c->data[0] << 24 | (uint32_t)c->data[1] << 16 | (uint32_t)c->data[2] << 8 | c->data[3];
	c->data += 4;
	c->left -= 4;
	return true;
}

static bool take_text(struct cursor *c, const char **ret, size_t *ret_size) {
	uint32_t n;
	if (!take_u32(c, &n) || n > c->left)
		return false;
	*ret = (const char *)c->data;
	*ret_size = n;
	c->data += n;
	c->left -= n;
	return true;
}

static int pairs_read(const struct buffer *b, spdy_pair_fn fn, void *ctx) {
	struct cursor c = { b->data, b->size };
	uint32_t n;
	if (!take_u32(&c, &n) || n > PAIRS_MAX)
		return -EBADMSG;
	for (; n > 0; n--) {
		struct spdy_pair p;
		if (!take_text(&c, &p.name, &p.name_size) || !take_text(&c, &p.value, &p.value_size) ||
		    p.name_size == 0)
			return -EBADMSG;
		fn(ctx, &p);
	}
	return c.left == 0 ? 0 : -EBADMSG;
}

int spdy_block_read(struct spdy_inflater *i, const uint8_t *block, size_t size, spdy_pair_fn fn, void *ctx) {
	CLEANUP_BUFFER struct buffer out = { 0 };
	int r = block_inflate(i, block, size, &out);
	return r < 0 ? r : pairs_read(&out, fn, ctx);
}

bool spdy_pair_is(const struct spdy_pair *p, const char *name) {
	return p->name_size == strlen(name) && strncasecmp(p->name, name, p->name_size) == 0;
}

bool spdy_pair_copy(const struct spdy_pair *p, char *text, size_t size) {
	if (p->value_size >= size || memchr(p->value, 0, p->value_size))
		return false;
	memcpy(text, p->value, p->value_size);
	text[p->value_size] = '\0';
	return true;
}

/* The zlib header once; a stored block of four zeros; an empty one, by which
 * an inflater knows that it has all of it. */
size_t spdy_block_empty(bool first, uint8_t ret_block[SPDY_EMPTY_MAX]) {
	static const uint8_t block[SPDY_EMPTY_MAX] = {
		0x78, 0x01, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
	};
	size_t skip = first ? 0 : 2;
	memcpy(ret_block, block + skip, SPDY_EMPTY_MAX - skip);
	return SPDY_EMPTY_MAX - skip;
}
