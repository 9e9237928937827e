/* Names of units: what a slice is, where it lies, and what can't get into one. */
#include "base/unit.h"
#include "tap.h"

#include <errno.h>
#include <string.h>

static void test_slice_paths(void) {
	static const struct {
		const char *name, *path;
	} good[] = {
		{ "a.slice", "/a.slice" },
		{ "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice" },
		{ "-.slice", "" },
		{ "kubepods-burstable-pod1234_5678.slice",
		  "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234_5678.slice" },
		{ "a\\x2db-c.slice", "/a\\x2db.slice/a\\x2db-c.slice" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		char path[1024] = "?";
		int r = slice_path(good[i].name, path, sizeof(path));
		tap_check(r == 0 && strcmp(path, good[i].path) == 0, "%s is \"%s\"", good[i].name, path);
	}
}

static void test_slice_refusals(void) {
	static const char *const bad[] = {
		"",	      "slice",	   ".slice",	"a",	      "a.scope",    "-a.slice",	 "a-.slice",
		"a--b.slice", "--.slice",  "/a.slice",	"a/b.slice",  "../a.slice", "a b.slice", "a.slice ",
		"a\n.slice",  "a;b.slice", "a$b.slice", "a\"b.slice", "a%n.slice",  "a@b.slice", "\xc3\xa4.slice",
	};
	char path[1024], name[400];
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		tap_check(!slice_valid(bad[i]) && slice_path(bad[i], path, sizeof(path)) == -EINVAL, "refused: \"%s\"",
			  strchr(bad[i], '\n') ? "(a line break)" : bad[i]);
	memset(name, 'a', sizeof(name));
	strcpy(name + UNIT_NAME_SIZE - 6, ".slice");
	tap_check(!slice_valid(name), "refused: a name of %zu bytes", strlen(name));
	strcpy(name + UNIT_NAME_SIZE - 7, ".slice");
	tap_check(slice_valid(name), "taken: one of %zu", strlen(name));
	tap_check(slice_path("a-b-c.slice", path, 20) == -ENAMETOOLONG, "a path that doesn't fit is no path");
	tap_check(slice_path("a-b-c.slice", path, 31) == 0 && slice_path("a-b-c.slice", path, 30) == -ENAMETOOLONG,
		  "the room for the NUL counts");
}

static void test_made_names(void) {
	char name[UNIT_NAME_SIZE] = "", id[UNIT_NAME_SIZE] = "";
	tap_check(slice_below("a.slice", "4f1c", name) == 0 && strcmp(name, "a-4f1c.slice") == 0, "a pod's slice");
	tap_check(slice_below("-.slice", "4f1c", name) == 0 && strcmp(name, "4f1c.slice") == 0, "below the root");
	tap_check(slice_below("a.slice", "4f-1c", name) == -EINVAL, "an id with a dash would nest");
	tap_check(slice_below("a", "4f1c", name) == -EINVAL, "a parent that is no slice");
	tap_check(scope_name("4f1c", name) == 0 && strcmp(name, "bulkhead-4f1c.scope") == 0, "a scope");
	tap_check(scope_name("", name) == -EINVAL && scope_name("a\nb", name) == -EINVAL &&
		      scope_name("a.b", name) == -EINVAL && scope_name("a%i", name) == -EINVAL,
		  "ids that could mean something else are refused");
	tap_check(scope_id("bulkhead-4f1c.scope", id) && strcmp(id, "4f1c") == 0, "and the way back");
	tap_check(!scope_id("bulkhead.scope", id) && !scope_id("bulkhead-.scope", id) &&
		      !scope_id("bulkhead-a-b.scope", id) && !scope_id("crio-4f1c.scope", id) &&
		      !scope_id("bulkhead-4f1c.slice", id),
		  "somebody else's names have none");
}

int main(void) {
	test_slice_paths();
	test_slice_refusals();
	test_made_names();
	return tap_done();
}
