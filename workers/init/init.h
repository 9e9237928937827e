/*
 * Process 1 of a guest: prepares the machine, keeps the agent's supervisor
 * running, reaps, and turns the machine off when the agent is done.
 *
 *   main.c        which program this is
 *   init.c        the life of process 1
 *   mounts.c      file systems, and a root that can be pivoted away
 *   modules.c     the kernel's modules that the initrd brings
 *   ports.c       names of virtio-serial ports, and a serial line
 *   parameters.c  the kernel's command line, as the supervisor's options
 *
 * It must not die, so it allocates nothing and parses nothing but the command
 * line and the initrd's list of modules. What fails is said on the console and
 * goes on: an agent that answers can be asked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define INIT_OPTIONS_MAX 32

/* What the command line asks for. */
struct init_parameters {
	bool cgroup_v1;
	char port[64]; /* the virtio-serial port that the agent answers on; empty: none */
	char line[64]; /* or the serial line's path */
	/* Of the supervisor: --set, KEY=VALUE, ... */
	const char *options[INIT_OPTIONS_MAX];
	size_t n_options;
};

int init_main(int argc, char **argv);

/* line is cut up, and what the parameters say lies in it. */
void parameters_read(char *line, struct init_parameters *ret_parameters);

/* Those without which nothing else works: /proc, /sys, /dev. */
void mounts_first(void);
/* The others. Afterwards / is a mount that pivot_root takes. */
void mounts_rest(bool cgroup_v1);

/* Loads what the list names, in its order. */
void modules_load(void);

/* Makes /dev/virtio-ports/NAME, once the port is there. */
void port_name(const char *name);
/* Makes the serial line raw, and says so to the host. */
void line_announce(const char *path);
