/* What ps shows of a process: its name and its command line. */
#pragma once

/* Once, in main: the memory of the arguments and the environment is where a
 * title goes. The environment is gone afterwards. */
void title_init(int argc, char **argv);
/* "<name> <id, shortened>" */
void title_set(const char *name, const char *id);
