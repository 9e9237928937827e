/*
 * The store: two TDB databases, and the only code that knows TDB.
 *
 *   images  what must survive a power cut: each transaction is synced. The
 *           sync blocks the loop (0.7 to 3 ms on a disk of a virtual machine);
 *           it happens per pull and per removed image, never per pod.
 *   pods    what dies with the machine anyway: transactions that are safe
 *           against the death of any process, synced in the background.
 *
 * Changes are collected; at the end of the loop's turn all of one database go
 * into one transaction, then the waiters are called (group commit). Should the
 * transaction fail, the waiters learn it and the changes stay collected: a
 * later change of the same key replaces them, and a timer tries again.
 *
 * What is damaged is set aside at store_open and store_load; neither refuses
 * to go on because of content.
 */
#pragma once

#include "base/fault.h"
#include "base/list.h"
#include "loop/loop.h"
#include "workers/metadata/store/aside.h"
#include "workers/metadata/store/record.h"

enum store_base { STORE_IMAGES, STORE_PODS, STORE_BASES };

struct store;

/* dir must exist and be ours. */
int store_open(struct loop *loop, const char *dir, struct store **ret_store, struct fault *fault) NODISCARD;
/* Commits what is collected. */
void store_close(struct store *s);

/* All records of one database, in no order. A negative result of fn with
 * *ret_reason (a literal) has the record set aside. Once, before changes. */
typedef int (*store_load_fn)(void *ctx, const struct record *r, const char **ret_reason);
void store_load(struct store *s, enum store_base base, store_load_fn fn, void *ctx);

/* Packs at once; m isn't needed afterwards. -EFBIG, -ENOMEM: nothing changed. */
int store_put(struct store *s, enum store_base base, const char *key, enum record_type type,
	      const ProtobufCMessage *m) NODISCARD;
int store_delete(struct store *s, enum store_base base, const char *key) NODISCARD;

/* Calls fn once, never from within store_wait, when everything collected so
 * far is committed (0), or couldn't be (negative errno). */
struct store_waiter {
	struct list node;
	void (*fn)(void *ctx, int result);
	void *ctx;
};
void store_wait(struct store *s, enum store_base base, struct store_waiter *w);
void store_unwait(struct store_waiter *w);

const struct aside *store_aside(const struct store *s);
