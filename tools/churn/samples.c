#include "tools/churn/churn.h"

void samples_add(struct samples *s, int64_t ns) {
	if (s->n == s->room) {
		unsigned room = s->room ? s->room * 2 : 256;
		int64_t *values = realloc(s->values, room * sizeof(int64_t));
		if (!values)
			return;
		s->values = values;
		s->room = room;
	}
	s->values[s->n++] = ns;
}

void samples_merge(struct samples *into, struct samples *from) {
	for (unsigned i = 0; i < from->n; i++)
		samples_add(into, from->values[i]);
	free(from->values);
	*from = (struct samples){ 0 };
}

static int compare(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

int64_t samples_percentile(struct samples *s, unsigned p) {
	if (s->n == 0)
		return 0;
	qsort(s->values, s->n, sizeof(s->values[0]), compare);
	return s->values[MIN((uint64_t)s->n * p / 100, (uint64_t)s->n - 1)];
}
