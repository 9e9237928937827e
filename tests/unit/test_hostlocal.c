/* Addresses from host-local's store: order, exhaustion, release, damage, many
 * processes at once, and the real plugin in the same folder. */
#include "tests/unit/tap.h"
#include "workers/keeper/network/hostlocal.h"

#include "base/fd.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char root[64] = "/tmp/bulkhead-hostlocal-XXXXXX";

static ProtobufCBinaryData bytes_of(struct address *a, const char *text) {
	if (!address_parse(a, text))
		errx(1, "%s", text);
	return (ProtobufCBinaryData){ a->size, a->bytes };
}

struct config {
	struct address parts[2][4];
	Bulkhead__AddressRange ranges[2], *range_list[2];
	Bulkhead__AddressSet set, *set_list[1];
	Bulkhead__HostLocal host_local;
};

/* One set of one or two ranges: {subnet, first, last, gateway}. */
static void config_init(struct config *c, const char *const text[][4], size_t n) {
	*c = (struct config){ .set = BULKHEAD__ADDRESS_SET__INIT, .host_local = BULKHEAD__HOST_LOCAL__INIT };
	for (size_t i = 0; i < n; i++) {
		Bulkhead__AddressRange *r = &c->ranges[i];
		bulkhead__address_range__init(r);
		r->subnet = bytes_of(&c->parts[i][0], text[i][0]);
		r->prefix = c->parts[i][0].prefix;
		r->first = bytes_of(&c->parts[i][1], text[i][1]);
		r->last = bytes_of(&c->parts[i][2], text[i][2]);
		r->gateway = bytes_of(&c->parts[i][3], text[i][3]);
		c->range_list[i] = r;
	}
	c->set.ranges = c->range_list;
	c->set.n_ranges = n;
	c->set_list[0] = &c->set;
	c->host_local.sets = c->set_list;
	c->host_local.n_sets = 1;
}

/* One address for id; "" and the fault when there is none. */
static const char *take(struct config *c, const char *network, const char *id, char ret_text[ADDRESS_TEXT],
			struct fault *fault) {
	CLEANUP(hostlocal_close) struct hostlocal store = HOSTLOCAL_NONE;
	struct pod_address picked[HOSTLOCAL_SETS_MAX];
	size_t n;
	ret_text[0] = '\0';
	if (hostlocal_open(root, network, &store, fault) < 0 ||
	    hostlocal_pick(&store, &c->host_local, picked, &n, fault) < 0 ||
	    hostlocal_reserve(&store, id, "eth0", picked, n, fault) < 0)
		return "";
	return address_text(&picked[0].address, ret_text);
}

static int give(const char *network, const char *id, const char *text) {
	struct address a;
	struct fault fault;
	if (!address_parse(&a, text))
		errx(1, "%s", text);
	return hostlocal_release(root, network, id, "eth0", &a, 1, &fault);
}

static bool exists(const char *network, const char *file) {
	char path[256];
	snprintf(path, sizeof(path), "%s/%s/%s", root, network, file);
	return access(path, F_OK) == 0;
}

static void test_order(void) {
	struct config c;
	struct fault fault;
	char a[ADDRESS_TEXT];
	config_init(&c, (const char *const[][4]){ { "10.0.0.0/29", "10.0.0.1", "10.0.0.6", "10.0.0.3" } }, 1);
	tap_check(strcmp(take(&c, "order", "p1", a, &fault), "10.0.0.1") == 0, "the first address");
	tap_check(strcmp(take(&c, "order", "p2", a, &fault), "10.0.0.2") == 0, "the next");
	tap_check(strcmp(take(&c, "order", "p3", a, &fault), "10.0.0.4") == 0, "never the gateway's");
	tap_check(give("order", "p1", "10.0.0.1") == 0 && !exists("order", "10.0.0.1"), "given back");
	tap_check(strcmp(take(&c, "order", "p4", a, &fault), "10.0.0.5") == 0, "a freed address rests");
	take(&c, "order", "p5", a, &fault);
	tap_check(strcmp(take(&c, "order", "p6", a, &fault), "10.0.0.1") == 0, "until it's its turn again");
	tap_check(!*take(&c, "order", "p7", a, &fault) && fault.code == FAULT_RESOURCE_EXHAUSTED, "all are taken");
	tap_check(strstr(fault.text, root) != NULL, "and the sentence says where");
	tap_check(give("order", "p2", "10.0.0.4") == 0 && exists("order", "10.0.0.4"), "nobody gives back another's");
	tap_check(give("order", "p3", "10.0.0.4") == 0 && strcmp(take(&c, "order", "p8", a, &fault), "10.0.0.4") == 0,
		  "the last free one is found wherever it is");
	tap_check(give("order", "p9", "10.0.0.77") == 0 && give("nowhere", "p9", "10.0.0.1") == 0,
		  "what isn't there is given back already");
}

static void test_ranges(void) {
	struct config c;
	struct fault fault;
	char a[ADDRESS_TEXT], path[256];
	config_init(&c,
		    (const char *const[][4]){ { "10.0.0.0/24", "10.0.0.10", "10.0.0.11", "10.0.0.1" },
					      { "10.0.1.0/24", "10.0.1.20", "10.0.1.20", "10.0.1.1" } },
		    2);
	take(&c, "ranges", "p1", a, &fault);
	take(&c, "ranges", "p2", a, &fault);
	tap_check(strcmp(take(&c, "ranges", "p3", a, &fault), "10.0.1.20") == 0, "over to the next range");
	give("ranges", "p1", "10.0.0.10");
	tap_check(strcmp(take(&c, "ranges", "p4", a, &fault), "10.0.0.10") == 0, "and back to the first");
	give("ranges", "p3", "10.0.1.20");
	snprintf(path, sizeof(path), "%s/ranges/last_reserved_ip.0", root);
	tap_check(truncate(path, 0) == 0 && strcmp(take(&c, "ranges", "p5", a, &fault), "10.0.1.20") == 0,
		  "a damaged hint is no matter");

	config_init(&c, (const char *const[][4]){ { "fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff", "fd00::1" } },
		    1);
	tap_check(strcmp(take(&c, "six", "p1", a, &fault), "fd00::2") == 0, "IPv6");
	tap_check(strcmp(take(&c, "six", "p2", a, &fault), "fd00::3") == 0 && exists("six", "fd00::3"), "and on");
	config_init(&c, (const char *const[][4]){ { "10.0.0.0/24", "10.0.9.1", "10.0.0.9", "10.0.0.1" } }, 1);
	tap_check(!*take(&c, "wrong", "p1", a, &fault), "a range that is none is refused");
	c.host_local.n_sets = 0;
	tap_check(!*take(&c, "wrong", "p1", a, &fault), "and so is none at all");
}

#define CHILDREN 8
#define EACH 25

/* Every child takes, gives back half, takes again; nobody may ever get what
 * another one holds: creation is exclusive, so a double would fail. */
static void test_concurrent(void) {
	struct config c;
	config_init(&c, (const char *const[][4]){ { "10.5.0.0/24", "10.5.0.1", "10.5.0.254", "10.5.0.1" } }, 1);
	for (int i = 0; i < CHILDREN; i++) {
		fflush(stdout);
		if (fork() != 0)
			continue;
		struct fault fault;
		char id[32], a[ADDRESS_TEXT];
		for (int n = 0; n < EACH; n++) {
			snprintf(id, sizeof(id), "c%dn%d", i, n);
			if (!*take(&c, "many", id, a, &fault))
				_exit(1);
			if (n % 2 && (give("many", id, a) < 0 || !*take(&c, "many", id, a, &fault)))
				_exit(2);
		}
		_exit(0);
	}
	int good = 0, status;
	while (wait(&status) > 0)
		good += status == 0;
	tap_check(good == CHILDREN, "%d processes at once", CHILDREN);
	char path[256];
	snprintf(path, sizeof(path), "%s/many", root);
	int files = 0;
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		files += strncmp(e->d_name, "10.5.", 5) == 0;
	if (d)
		closedir(d);
	tap_check(files == CHILDREN * EACH, "%d different addresses", CHILDREN * EACH);
}

static const char *plugin(const char *command, const char *id, char *ret_text, size_t room) {
	char line[1024];
	snprintf(
	    line, sizeof(line),
	    "echo '{\"cniVersion\":\"1.0.0\",\"name\":\"mixed\",\"type\":\"bridge\",\"ipam\":{\"type\":\"host-local\","
	    "\"dataDir\":\"%s\",\"subnet\":\"10.6.0.0/24\"}}' | CNI_COMMAND=%s CNI_CONTAINERID=%s "
	    "CNI_NETNS=/proc/self/ns/net "
	    "CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni /usr/lib/cni/host-local | tr -d ' \\n'",
	    root, command, id);
	FILE *f = popen(line, "r");
	size_t n = f ? fread(ret_text, 1, room - 1, f) : 0;
	ret_text[n] = '\0';
	if (f)
		pclose(f);
	return ret_text;
}

static void test_mixed(void) {
	struct config c;
	struct fault fault;
	char a[ADDRESS_TEXT], text[2048];
	if (access("/usr/lib/cni/host-local", X_OK) < 0) {
		tap_skip("together with the host-local plugin", "containernetworking-plugins isn't installed");
		return;
	}
	config_init(&c, (const char *const[][4]){ { "10.6.0.0/24", "10.6.0.1", "10.6.0.254", "10.6.0.1" } }, 1);
	take(&c, "mixed", "ours", a, &fault);
	tap_check(strstr(plugin("ADD", "theirs", text, sizeof(text)), "10.6.0.3/24") != NULL,
		  "host-local goes on where we stopped");
	tap_check(strcmp(take(&c, "mixed", "ours2", a, &fault), "10.6.0.4") == 0, "and we where it did");
	plugin("DEL", "ours", text, sizeof(text));
	tap_check(!exists("mixed", "10.6.0.2"), "it can release what is ours");
	tap_check(give("mixed", "theirs", "10.6.0.3") == 0 && !exists("mixed", "10.6.0.3"), "and we what is its");
}

int main(void) {
	char command[128];
	if (!mkdtemp(root))
		err(1, "mkdtemp");
	test_order();
	test_ranges();
	test_concurrent();
	test_mixed();
	snprintf(command, sizeof(command), "rm -rf %s", root);
	tap_check(system(command) == 0, "clean up");
	return tap_done();
}
