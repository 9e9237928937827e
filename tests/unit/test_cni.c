/* The CNI folder: which file decides, what is native and what isn't, what one
 * pod's plan says, and the sentences when there is no network. */
#include "tests/unit/tap.h"
#include "workers/task/cni/cni.h"

#include <err.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64] = "/tmp/bulkhead-cni-XXXXXX";

static void put(const char *name, const char *text) {
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	FILE *f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		err(1, "%s", path);
}

static void drop(const char *name) {
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	unlink(path);
}

static struct cni *make(const char *bin_dirs) {
	struct cni *c;
	struct cni_options o = { .conf_dir = root, .bin_dirs = bin_dirs, .cache_dir = "/cache" };
	if (cni_new(&o, &c) < 0)
		errx(1, "cni_new");
	return c;
}

static bool plan_of(struct cni *c, struct arena *a, Bulkhead__NetworkPlan **ret_plan, struct fault *fault) {
	static Bulkhead__PortMapping published = BULKHEAD__PORT_MAPPING__INIT, hidden = BULKHEAD__PORT_MAPPING__INIT;
	static Bulkhead__PortMapping *ports[] = { &hidden, &published };
	static Bulkhead__SandboxStartRequest__AnnotationsEntry entry =
	    BULKHEAD__SANDBOX_START_REQUEST__ANNOTATIONS_ENTRY__INIT;
	static Bulkhead__SandboxStartRequest__AnnotationsEntry *annotations[] = { &entry };
	static Bulkhead__SandboxStartRequest s = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	hidden.container_port = 1;
	published.protocol = IPPROTO_UDP;
	published.container_port = 53;
	published.host_port = 8053;
	published.host_ip = (char *)"10.0.0.\"1";
	entry.key = (char *)"kubernetes.io/ingress-bandwidth";
	entry.value = (char *)"10M";
	s.id = (char *)"4f1c";
	s.name = (char *)"web";
	s.namespace_ = (char *)"default";
	s.uid = (char *)"u-1";
	s.port_mappings = ports;
	s.n_port_mappings = 2;
	s.annotations = annotations;
	s.n_annotations = 1;
	arena_init(a, 0);
	return cni_plan(c, &s, a, ret_plan, fault) == 0;
}

static void test_no_network(void) {
	struct cni_options o = { .conf_dir = "/nonexistent/net.d", .bin_dirs = "", .cache_dir = "" };
	struct cni *c;
	if (cni_new(&o, &c) < 0)
		errx(1, "cni_new");
	tap_check(!cni_ready(c) && strcmp(cni_reason(c), "NetworkPluginNotReady") == 0,
		  "a missing folder is no network");
	tap_check(strcmp(cni_message(c), "no network configuration in /nonexistent/net.d: put a *.conflist there") == 0,
		  "and the sentence says what to do");
	cni_free(c);
	cni_free(NULL);
	c = make("");
	tap_check(!cni_ready(c) && strcmp(cni_name(c), "") == 0, "so is an empty one");
	put("README", "hello");
	put(".hidden.conflist", "{}");
	tap_check(!cni_ready(c), "other files don't count");
	cni_free(c);
}

static const struct {
	const char *text, *sentence;
} broken[] = {
	{ "", "ends too early" },
	{ "{\n \"name\": nonsense}", "line 2, column" },
	{ "[]", "is no JSON object" },
	{ "{} {}", "no valid JSON" },
	{ "{\"cniVersion\": \"0.2.0\", \"name\": \"x\", \"type\": \"bridge\"}", "cniVersion \"0.2.0\"" },
	{ "{\"name\": \"x\", \"type\": \"bridge\"}", "cniVersion \"\"" },
	{ "{\"cniVersion\": \"1.0.0\", \"name\": \"../x\", \"type\": \"bridge\"}", "name \"../x\"" },
	{ "{\"cniVersion\": \"1.0.0\", \"name\": \"a\\u0000b\", \"type\": \"bridge\"}", "name \"\"" },
	/* CVE-2021-20206 */
	{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"type\": \"../../bin/sh\"}", "type \"../../bin/sh\"" },
	{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [{\"type\": \"a/b\"}]}",
	  "plugin 0: type \"a/b\"" },
	{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": [7]}", "plugin 0: type \"\"" },
	{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"plugins\": []}", "neither a list" },
	{ "{\"cniVersion\": \"1.0.0\", \"name\": \"x\"}", "neither a list" },
};

static void test_broken(void) {
	struct cni *c = make("");
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		put("10-x.conflist", broken[i].text);
		bool good = !cni_ready(c) && strstr(cni_message(c), broken[i].sentence) &&
			    strstr(cni_message(c), "10-x.conflist");
		tap_check(good, "broken %zu: %s", i, broken[i].sentence);
		if (!good)
			printf("# %s\n", cni_message(c));
	}
	put("00-good.conf", "{\"cniVersion\": \"0.3.1\", \"name\": \"first\", \"type\": \"loopback\"}");
	tap_check(cni_ready(c) && strcmp(cni_name(c), "first") == 0, "the first file in order decides");
	drop("00-good.conf");
	tap_check(!cni_ready(c), "a change of the folder is seen");
	drop("10-x.conflist");
	char *deep = malloc(2000);
	memset(deep, '[', 1999);
	deep[1999] = '\0';
	put("10-x.json", deep);
	tap_check(!cni_ready(c), "nesting is bounded");
	free(deep);
	drop("10-x.json");
	char path[128];
	snprintf(path, sizeof(path), "%s/10-pipe.conf", root);
	mkfifo(path, 0600);
	tap_check(!cni_ready(c) && strstr(cni_message(c), "regular"), "a pipe in the folder is refused");
	drop("10-pipe.conf");
	cni_free(c);
}

#define BRIDGE(options, ipam)                                                       \
	"{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"type\": \"bridge\"" options \
	", \"ipam\": {\"type\": \"host-local\"" ipam "}}"
#define SUBNET ", \"subnet\": \"10.1.0.0/16\""
#define PORTMAP(options) "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"type\": \"portmap\"" options "}"

static const struct {
	const char *name, *text;
	bool native;
} decisions[] = {
	{ "bridge with host-local", BRIDGE("", SUBNET), true },
	{ "every option that we have",
	  BRIDGE(", \"bridge\": \"br0\", \"isGateway\": true, \"isDefaultGateway\": true, \"forceAddress\": false, "
		 "\"ipMasq\": true, "
		 "\"hairpinMode\": true, \"mtu\": 1400, \"vlan\": 0, \"dns\": {}, \"capabilities\": {\"ips\": true}",
		 SUBNET ", \"rangeStart\": \"10.1.0.10\", \"rangeEnd\": \"10.1.0.20\", \"gateway\": \"10.1.0.254\", "
			"\"dataDir\": \"/data\", \"routes\": [{\"dst\": \"0.0.0.0/0\"}, {\"dst\": \"10.2.0.0/16\", "
			"\"gw\": \"10.1.0.9\"}]"),
	  true },
	{ "both families", BRIDGE("", ", \"ranges\": [[{\"subnet\": \"10.1.0.0/16\"}], [{\"subnet\": \"fd00::/64\"}]]"),
	  true },
	{ "a vlan", BRIDGE(", \"vlan\": 7", SUBNET), false },
	{ "an unknown option", BRIDGE(", \"warp\": 9", SUBNET), false },
	{ "an option of the wrong type", BRIDGE(", \"isGateway\": \"yes\"", SUBNET), false },
	{ "promiscuous and hairpin at once", BRIDGE(", \"promiscMode\": true, \"hairpinMode\": true", SUBNET), false },
	{ "too long a name", BRIDGE(", \"bridge\": \"a234567890123456\"", SUBNET), false },
	{ "no subnet", BRIDGE("", ""), false },
	{ "a subnet with host bits", BRIDGE("", ", \"subnet\": \"10.1.0.1/16\""), false },
	{ "a subnet without room", BRIDGE("", ", \"subnet\": \"10.1.0.0/31\""), false },
	{ "a range outside its subnet", BRIDGE("", SUBNET ", \"rangeStart\": \"10.2.0.1\""), false },
	{ "a range the wrong way round",
	  BRIDGE("", SUBNET ", \"rangeStart\": \"10.1.0.9\", \"rangeEnd\": \"10.1.0.5\""), false },
	{ "a route with more than we know",
	  BRIDGE("", SUBNET ", \"routes\": [{\"dst\": \"0.0.0.0/0\", \"mtu\": 1300}]"), false },
	{ "a resolv.conf to be read", BRIDGE("", SUBNET ", \"resolvConf\": \"/etc/resolv.conf\""), false },
	{ "mixed families in a set",
	  BRIDGE("", ", \"ranges\": [[{\"subnet\": \"10.1.0.0/16\"}, {\"subnet\": \"fd00::/64\"}]]"), false },
	{ "bridge with another ipam",
	  "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"type\": \"bridge\", \"ipam\": {\"type\": \"dhcp\"}}", false },
	{ "portmap", PORTMAP(", \"capabilities\": {\"portMappings\": true}, \"snat\": true"), true },
	{ "portmap that isn't told", PORTMAP(""), false },
	{ "portmap without snat", PORTMAP(", \"capabilities\": {\"portMappings\": true}, \"snat\": false"), false },
	{ "portmap with conditions",
	  PORTMAP(", \"capabilities\": {\"portMappings\": true}, \"conditionsV4\": [\"-s\"]"), false },
	{ "loopback", "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"type\": \"loopback\"}", true },
	{ "another type", "{\"cniVersion\": \"1.0.0\", \"name\": \"x\", \"type\": \"ptp\"}", false },
};

static void test_decisions(void) {
	struct cni *c = make("");
	for (size_t i = 0; i < ARRAY_SIZE(decisions); i++) {
		struct fault fault;
		struct arena a;
		Bulkhead__NetworkPlan *plan;
		put("10-x.conf", decisions[i].text);
		bool planned = plan_of(c, &a, &plan, &fault);
		bool native = planned &&
			      plan->plugins[0]->native_case != BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE__NOT_SET;
		tap_check(planned && native == decisions[i].native &&
			      (native == (*plan->plugins[0]->config_json == '\0')),
			  "%s: %s", decisions[i].name, decisions[i].native ? "native" : "executed");
		arena_deinit(&a);
	}
	drop("10-x.conf");
	cni_free(c);
}

static bool is(const ProtobufCBinaryData *d, uint8_t a, uint8_t b, uint8_t c, uint8_t e) {
	return d->len == 4 && d->data[0] == a && d->data[1] == b && d->data[2] == c && d->data[3] == e;
}

static void test_plan(void) {
	struct cni *c = make("/one:/two");
	struct fault fault;
	struct arena a;
	Bulkhead__NetworkPlan *plan;
	put("10-x.conflist", "{\"cniVersion\": \"0.4.0\", \"cniVersions\": [\"0.4.0\", \"1.0.0\", \"9.9.9\"], "
			     "\"name\": \"net\", \"plugins\": ["
			     "{\"type\": \"bridge\", \"isDefaultGateway\": true, \"ipam\": {\"type\": \"host-local\", "
			     "\"subnet\": \"10.1.0.0/16\","
			     " \"routes\": [{\"dst\": \"0.0.0.0/0\"}]}},"
			     "{\"type\": \"ptp\", \"ipam\": {\"type\": \"host-local\", \"subnet\": \"10.2.0.0/16\"}, "
			     "\"runtimeConfig\": 1,"
			     " \"capabilities\": {\"portMappings\": true, \"bandwidth\": true, \"dns\": true}},"
			     "{\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}}]}");
	tap_check(plan_of(c, &a, &plan, &fault), "a plan");
	tap_check(strcmp(plan->cni_version, "1.0.0") == 0, "in the highest version that both know");
	tap_check(plan->n_bin_dirs == 2 && strcmp(plan->bin_dirs[1], "/two") == 0, "with the folders of plugins");
	tap_check(strcmp(plan->cni_args, "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
					 "K8S_POD_INFRA_CONTAINER_ID=4f1c;K8S_POD_UID=u-1") == 0,
		  "who the pod is");
	const Bulkhead__NativeBridge *b = plan->plugins[0]->bridge;
	const Bulkhead__AddressRange *r = b->ipam->sets[0]->ranges[0];
	tap_check(strcmp(b->bridge, "cni0") == 0 && b->is_gateway, "what a bridge is by default");
	tap_check(strcmp(b->ipam->data_dir, "/cache/networks") == 0, "where its addresses are kept");
	tap_check(is(&r->subnet, 10, 1, 0, 0) && is(&r->first, 10, 1, 0, 1) && is(&r->last, 10, 1, 255, 254) &&
		      is(&r->gateway, 10, 1, 0, 1) && r->prefix == 16,
		  "the whole range but network and broadcast");
	tap_check(b->ipam->n_routes == 1 && b->ipam->routes[0]->prefix == 0 && b->ipam->routes[0]->gateway.len == 0,
		  "its routes");
	const char *json = plan->plugins[1]->config_json;
	tap_check(strstr(json, "\"name\":\"net\"") && strstr(json, "\"cniVersion\":\"1.0.0\""),
		  "an executed plugin is told network and version");
	tap_check(strstr(json, "\"dataDir\":\"\\/cache\\/networks\"") != NULL,
		  "and where host-local keeps its addresses");
	tap_check(strstr(json, "\"portMappings\":[{\"hostPort\":8053,\"containerPort\":53,\"protocol\":\"udp\","
			       "\"hostIP\":\"10.0.0.\\\"1\"}]") != NULL,
		  "its ports, quoted");
	tap_check(strstr(json, "\"bandwidth\":{\"ingressRate\":10000000,") != NULL, "its bandwidth");
	tap_check(!strstr(json, "\"runtimeConfig\":1"), "and nothing that only looks like ours");
	tap_check(plan->n_port_mappings == 1 && plan->port_mappings[0]->host_port == 8053,
		  "ports with a host port only");
	arena_deinit(&a);
	cni_free(c);
}

static void test_missing_plugin(void) {
	char bin[96], path[112];
	snprintf(bin, sizeof(bin), "%s/bin", root);
	snprintf(path, sizeof(path), "%s/ptp", bin);
	mkdir(bin, 0755);
	struct cni *c = make(bin);
	tap_check(!cni_ready(c) && strstr(cni_message(c), "needs the CNI plugin \"ptp\""),
		  "a plugin that isn't installed");
	FILE *f = fopen(path, "w");
	if (!f || fclose(f) != 0 || chmod(path, 0755) < 0)
		err(1, "%s", path);
	tap_check(cni_ready(c), "and then is");
	drop("bin/ptp");
	rmdir(bin);
	drop("10-x.conflist");
	cni_free(c);
}

int main(void) {
	if (!mkdtemp(root))
		err(1, "mkdtemp");
	test_no_network();
	test_broken();
	test_decisions();
	test_plan();
	test_missing_plugin();
	drop("README");
	drop(".hidden.conflist");
	rmdir(root);
	return tap_done();
}
