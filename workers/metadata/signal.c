#include "workers/metadata/signal.h"

#include "base/macros.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RT_MIN 34 /* the first that libc leaves to programs */
#define RT_MAX 64

#define ROW(name) \
	{ #name, SIG##name, RUNTIME__V1__SIGNAL__SIGNAL_SIG##name }

static const struct {
	const char *name;
	unsigned number;
	Runtime__V1__Signal cri;
} table[] = {
	ROW(ABRT),
	ROW(ALRM),
	ROW(BUS),
	ROW(CHLD),
	ROW(CONT),
	ROW(FPE),
	ROW(HUP),
	ROW(ILL),
	ROW(INT),
	ROW(IO),
	ROW(KILL),
	ROW(PIPE),
	ROW(PROF),
	ROW(PWR),
	ROW(QUIT),
	ROW(SEGV),
	ROW(STKFLT),
	ROW(STOP),
	ROW(SYS),
	ROW(TERM),
	ROW(TRAP),
	ROW(TSTP),
	ROW(TTIN),
	ROW(TTOU),
	ROW(URG),
	ROW(USR1),
	ROW(USR2),
	ROW(VTALRM),
	ROW(WINCH),
	ROW(XCPU),
	ROW(XFSZ),
	/* Other names of the same numbers. */
	{ "CLD", SIGCHLD, RUNTIME__V1__SIGNAL__SIGNAL_SIGCLD },
	{ "IOT", SIGABRT, RUNTIME__V1__SIGNAL__SIGNAL_SIGIOT },
	{ "POLL", SIGIO, RUNTIME__V1__SIGNAL__SIGNAL_SIGPOLL },
};

static unsigned number_parse(const char *text) {
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	return *end == '\0' && end != text && n >= 1 && n <= RT_MAX ? (unsigned)n : 0;
}

static unsigned realtime_parse(const char *text) {
	if (strcasecmp(text, "RTMIN") == 0)
		return RT_MIN;
	if (strcasecmp(text, "RTMAX") == 0)
		return RT_MAX;
	bool down = strncasecmp(text, "RTMAX-", 6) == 0;
	if (!down && strncasecmp(text, "RTMIN+", 6) != 0)
		return 0;
	unsigned n = number_parse(text + 6);
	if (n > RT_MAX - RT_MIN)
		return 0;
	return n == 0 ? 0 : down ? RT_MAX - n : RT_MIN + n;
}

unsigned signal_parse(const char *text) {
	if (*text >= '0' && *text <= '9')
		return number_parse(text);
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcasecmp(text, table[i].name) == 0)
			return table[i].number;
	return realtime_parse(text);
}

unsigned signal_from_cri(Runtime__V1__Signal s) {
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].cri == s)
			return table[i].number;
	/* RTMIN, RTMIN+1 .. RTMIN+15, RTMAX-14 .. RTMAX are numbered through. */
	int first = RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMIN;
	return (int)s >= first && (int)s <= RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMAX ? RT_MIN + (unsigned)((int)s - first)
										 : 0;
}

Runtime__V1__Signal signal_to_cri(unsigned number) {
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].number == number)
			return table[i].cri;
	if (number >= RT_MIN && number <= RT_MAX)
		return (Runtime__V1__Signal)(RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMIN + (int)(number - RT_MIN));
	return RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT;
}
