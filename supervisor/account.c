#include "supervisor/account.h"

#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool account_user(const char *name, uid_t *ret_uid, gid_t *ret_gid) {
	FILE *f = fopen("/etc/passwd", "re");
	const struct passwd *p = NULL;
	while (f && (p = fgetpwent(f)) && strcmp(p->pw_name, name) != 0)
		;
	if (p) {
		*ret_uid = p->pw_uid;
		*ret_gid = p->pw_gid;
	}
	if (f)
		fclose(f);
	return p != NULL;
}

static bool group(const char *name, gid_t *ret_gid) {
	FILE *f = fopen("/etc/group", "re");
	const struct group *g = NULL;
	while (f && (g = fgetgrent(f)) && strcmp(g->gr_name, name) != 0)
		;
	if (g)
		*ret_gid = g->gr_gid;
	if (f)
		fclose(f);
	return g != NULL;
}

static bool number(const char *text, uint32_t *ret_number) {
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || n >= UINT32_MAX)
		return false;
	*ret_number = (uint32_t)n;
	return true;
}

static bool root(const char *text, uint32_t *ret_number) {
	if (strcmp(text, "root") != 0)
		return false;
	*ret_number = 0;
	return true;
}

bool account_uid(const char *text, uid_t *ret_uid) {
	gid_t ignored;
	return number(text, ret_uid) || account_user(text, ret_uid, &ignored) || root(text, ret_uid);
}

bool account_gid(const char *text, gid_t *ret_gid) {
	return number(text, ret_gid) || group(text, ret_gid) || root(text, ret_gid);
}
