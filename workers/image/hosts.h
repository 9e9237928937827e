/*
 * Where an image may come from: the registry that its reference names, and the
 * mirrors that the administrator put before it in certs.d/HOST/hosts.toml, in
 * the form that containerd reads too.
 *
 * Folders that are looked for, the first that exists counts:
 *   HOST_PORT_   HOST:PORT   HOST   _default
 * Without hosts.toml, *.crt there are certificate authorities and a pair of
 * x.cert and x.key is the client's certificate, as docker has it.
 *
 * Files are read when a pull begins, so that a change needs no reload.
 */
#pragma once

#include "base/buffer.h"
#include "base/fault.h"

#include <stdbool.h>

#define HOSTS_MAX 16
#define HOST_HEADERS_MAX 16

enum host_capability { HOST_PULL = 1, HOST_RESOLVE = 2, HOST_PUSH = 4 };

struct host {
	char *base;  /* "https://registry.example:443/v2": no slash at the end */
	char *label; /* "registry.example", for sentences */
	bool mirror; /* not the registry that the reference names */
	unsigned capabilities;
	bool skip_verify, override_path;
	struct buffer ca_pem;		     /* besides the system's; empty: none */
	char *client_cert, *client_key;	     /* paths; NULL: none */
	char *headers[HOST_HEADERS_MAX + 1]; /* "Name: value" */
	size_t n_headers;
	long dial_timeout_ms; /* 0: the default */
};

struct hosts {
	struct host list[HOSTS_MAX];
	size_t n;
};

/* registry as in a reference: "docker.io", "localhost:5000". */
int hosts_load(const char *certs_dir, const char *registry, struct hosts *ret_hosts, struct fault *fault);
/* The same from text; dir is what relative paths start from. For tests too. */
int hosts_parse(const char *text, size_t size, const char *dir, const char *registry, struct hosts *ret_hosts,
		struct fault *fault);
/* The registry itself is asked without TLS; its mirrors are the administrator's. */
void hosts_plain(struct hosts *h);
void hosts_deinit(struct hosts *h);
#define CLEANUP_HOSTS CLEANUP(hosts_deinit)

/* "localhost", 127.0.0.0/8 and ::1, with or without a port. */
bool host_is_loopback(const char *host);
