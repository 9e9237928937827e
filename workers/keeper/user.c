#include "workers/keeper/user.h"

#include "base/fd.h"
#include "workers/keeper/inside.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (4 * 1024 * 1024)
#define NAME_SIZE 257

int user_parse_id(const char *text, size_t n, uint32_t *ret_id) {
	uint64_t v = 0;
	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		v = v * 10 + (uint64_t)(text[i] - '0');
		if (v > INT32_MAX)
			return -ERANGE;
	}
	*ret_id = (uint32_t)v;
	return 0;
}

/* The text of a file in the root; an empty text when there is none. */
static int text_read(int root, const char *path, char **ret_text, struct fault *fault) {
	CLEANUP_FD int fd = inside_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t size;
	int r;
	if (fd == -ENOENT || fd == -ENOTDIR) {
		*ret_text = strdup("");
		return *ret_text ? 0 : -ENOMEM;
	}
	if (fd < 0)
		return fault_errno(fault, fd, "open \"%s\" of the image", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" of the image is not a regular file", path);
	r = fd_read_all(fd, FILE_MAX, ret_text, &size);
	return r < 0 ? fault_errno(fault, r, "read \"%s\" of the image", path) : 0;
}

/* One line cut at its colons. */
struct record {
	const char *field[7];
	size_t size[7];
	int n;
};

/* Advances *text to the next line; false at the end. */
static bool record_next(const char **text, struct record *ret) {
	const char *p = *text;
	if (!*p)
		return false;
	*ret = (struct record){ 0 };
	const char *end = p + strcspn(p, "\n");
	*text = *end ? end + 1 : end;
	while (ret->n < 7) {
		const char *colon = memchr(p, ':', (size_t)(end - p));
		const char *stop = colon ? colon : end;
		ret->field[ret->n] = p;
		ret->size[ret->n++] = (size_t)(stop - p);
		if (!colon)
			break;
		p = colon + 1;
	}
	return true;
}

static bool field_is(const struct record *r, int i, const char *text) {
	return r->n > i && strlen(text) == r->size[i] && memcmp(r->field[i], text, r->size[i]) == 0;
}

struct passwd_entry {
	bool found;
	char name[NAME_SIZE];
	uint32_t uid, gid;
	char home[USER_HOME_MAX];
};

static void entry_fill(struct passwd_entry *e, const struct record *r) {
	e->found = true;
	if (r->size[0] < sizeof(e->name))
		memcpy(e->name, r->field[0], r->size[0]);
	bool plain = r->n > 5 && r->size[5] > 0 && r->size[5] < sizeof(e->home) && r->field[5][0] == '/';
	for (size_t i = 0; plain && i < r->size[5]; i++)
		plain = (unsigned char)r->field[5][i] >= 0x20 && r->field[5][i] != 0x7f;
	if (plain)
		memcpy(e->home, r->field[5], r->size[5]);
}

/* By name, or by number when name is NULL. */
static int passwd_find(const char *text, const char *name, uint32_t uid, struct passwd_entry *ret,
		       struct fault *fault) {
	struct record r;
	*ret = (struct passwd_entry){ 0 };
	while (record_next(&text, &r)) {
		if (r.n < 4 || (name && !field_is(&r, 0, name)))
			continue;
		uint32_t u, g;
		if (user_parse_id(r.field[2], r.size[2], &u) < 0 || user_parse_id(r.field[3], r.size[3], &g) < 0) {
			if (!name)
				continue;
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "user \"%s\" has no valid uid and gid in the image's /etc/passwd", name);
		}
		if (!name && u != uid)
			continue;
		ret->uid = u;
		ret->gid = g;
		entry_fill(ret, &r);
		return 0;
	}
	return 0;
}

static int group_find(const char *text, const char *name, gid_t *ret_gid, struct fault *fault) {
	struct record r;
	while (record_next(&text, &r)) {
		uint32_t g;
		if (r.n < 3 || !field_is(&r, 0, name))
			continue;
		if (user_parse_id(r.field[2], r.size[2], &g) < 0)
			break;
		*ret_gid = g;
		return 0;
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "no group \"%s\" in the image's /etc/group", name);
}

static int groups_add(struct user_ids *ids, uint32_t gid, struct fault *fault) {
	for (size_t i = 0; i < ids->n_groups; i++)
		if (ids->groups[i] == gid)
			return 0;
	if (ids->n_groups == USER_GROUPS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "more than %d supplementary groups", USER_GROUPS_MAX);
	ids->groups[ids->n_groups++] = gid;
	return 0;
}

static bool member_of(const struct record *r, const char *user) {
	const char *p = r->field[3], *end = p + r->size[3];
	size_t n = strlen(user);
	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *stop = comma ? comma : end;
		if ((size_t)(stop - p) == n && memcmp(p, user, n) == 0)
			return true;
		p = stop + 1;
	}
	return false;
}

static int groups_of(const char *text, const char *user, struct user_ids *ids, struct fault *fault) {
	struct record r;
	while (user[0] && record_next(&text, &r)) {
		uint32_t g;
		if (r.n < 4 || !member_of(&r, user) || user_parse_id(r.field[2], r.size[2], &g) < 0)
			continue;
		int e = groups_add(ids, g, fault);
		if (e < 0)
			return e;
	}
	return 0;
}

static int user_part(const char *passwd, const char *name, struct passwd_entry *e, struct user_ids *ids,
		     struct fault *fault) {
	uint32_t number = 0;
	int numeric = user_parse_id(name, strlen(name), &number);
	if (numeric == -ERANGE)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "user \"%s\" is out of range", name);
	int r = passwd_find(passwd, numeric == 0 ? NULL : name, number, e, fault);
	if (r < 0)
		return r;
	if (!e->found && numeric != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "no user \"%s\" in the image's /etc/passwd", name);
	ids->uid = numeric == 0 ? number : e->uid;
	ids->gid = e->found ? e->gid : 0;
	return 0;
}

static int group_part(const char *group, const char *name, struct user_ids *ids, struct fault *fault) {
	uint32_t number;
	int numeric = user_parse_id(name, strlen(name), &number);
	if (numeric == -ERANGE)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "group \"%s\" is out of range", name);
	if (numeric < 0)
		return group_find(group, name, &ids->gid, fault);
	ids->gid = number;
	return 0;
}

static int resolve_name(int root, const char *username, bool strict, struct user_ids *ids, struct fault *fault) {
	char name[NAME_SIZE];
	CLEANUP_FREE char *passwd = NULL;
	CLEANUP_FREE char *group = NULL;
	struct passwd_entry e;
	if ((size_t)snprintf(name, sizeof(name), "%s", username) >= sizeof(name))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the user is longer than %zu bytes", sizeof(name) - 1);
	char *colon = strchr(name, ':');
	if (colon)
		*colon++ = '\0';
	if (!name[0] || (colon && (!*colon || strchr(colon, ':'))))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is not of the form user[:group]", username);
	int r = text_read(root, "/etc/passwd", &passwd, fault);
	if (r == 0)
		r = text_read(root, "/etc/group", &group, fault);
	if (r == 0)
		r = user_part(passwd, name, &e, ids, fault);
	if (r == 0 && colon)
		r = group_part(group, colon, ids, fault);
	/* A set-group-id program leaves the primary group; a file that denies that group must still deny. */
	if (r == 0)
		r = groups_add(ids, ids->gid, fault);
	if (r == 0 && !strict)
		r = groups_of(group, e.name, ids, fault);
	if (r == 0 && e.home[0])
		strcpy(ids->home, e.home);
	return r;
}

/* The home of a user given by number, for HOME only. */
static int resolve_home(int root, struct user_ids *ids, struct fault *fault) {
	CLEANUP_FREE char *passwd = NULL;
	struct passwd_entry e;
	int r = text_read(root, "/etc/passwd", &passwd, fault);
	if (r == 0)
		r = passwd_find(passwd, NULL, ids->uid, &e, fault);
	if (r == 0 && e.home[0])
		strcpy(ids->home, e.home);
	return r;
}

int user_resolve(int root, const Grpc__User *user, bool strict, struct user_ids *ret_ids, struct fault *fault) {
	struct user_ids ids = { .home = "/" };
	int r = 0;
	if (user && user->username[0]) {
		r = resolve_name(root, user->username, strict, &ids, fault);
	} else {
		if (user && (user->uid > INT32_MAX || user->gid > INT32_MAX))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "user %u:%u is out of range", user->uid,
					 user->gid);
		ids.uid = user ? user->uid : 0;
		ids.gid = user ? user->gid : 0;
		r = resolve_home(root, &ids, fault);
	}
	for (size_t i = 0; r == 0 && user && i < user->n_additionalgids; i++)
		r = groups_add(&ids, user->additionalgids[i], fault);
	if (r == 0)
		*ret_ids = ids;
	return r;
}
