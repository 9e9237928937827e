/* Intrusive doubly linked list; an unlinked node points to itself. */
#pragma once

#include "base/macros.h"

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(l) \
	{ &(l), &(l) }

static inline void list_init(struct list *l) {
	l->next = l->prev = l;
}
static inline int list_empty(const struct list *l) {
	return l->next == l;
}
static inline void list_append(struct list *head, struct list *node) {
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}
static inline void list_unlink(struct list *node) {
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}
/* The first node, unlinked; NULL when empty. */
static inline struct list *list_pop(struct list *head) {
	if (list_empty(head))
		return NULL;
	struct list *n = head->next;
	list_unlink(n);
	return n;
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
/* The body may unlink or free the node that it stands on, no other. */
#define list_for_each_safe(it, head) \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)
