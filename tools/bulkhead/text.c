/* How the command line writes times, sizes and ids. */
#include "tools/bulkhead/cli.h"

#include "base/clock.h"

#include <string.h>

const char *text_age(int64_t since_ns, char ret_text[32]) {
	static const struct {
		int64_t seconds;
		const char *unit;
	} units[] = { { 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } };
	int64_t age = (clock_real() - since_ns) / NS_PER_SEC;
	if (since_ns <= 0)
		return "never";
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (age >= units[i].seconds) {
			int64_t n = age / units[i].seconds;
			snprintf(ret_text, 32, "%lld %s%s ago", (long long)n, units[i].unit, n == 1 ? "" : "s");
			return ret_text;
		}
	return "just now";
}

const char *text_size(uint64_t bytes, char ret_text[32]) {
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t u = 0;
	double n = (double)bytes;
	for (; n >= 1024 && u + 1 < ARRAY_SIZE(units); u++)
		n /= 1024;
	snprintf(ret_text, 32, u == 0 ? "%.0f%s" : "%.1f%s", n, units[u]);
	return ret_text;
}

const char *text_id(const char *id, char ret_text[32]) {
	if (strncmp(id, "sha256:", 7) == 0)
		id += 7;
	snprintf(ret_text, 32, "%.13s", id);
	return ret_text;
}
