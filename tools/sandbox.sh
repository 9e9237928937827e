# shellcheck shell=bash
# Sourced by demo and bench: a private place to run the daemon in. Network,
# mount and pid namespaces of their own, so that nothing is seen outside and
# everything ends with this script; a scratch folder on a tmpfs; a small image
# and a registry on loopback that serves it.

fail() {
	echo "$*" >&2
	exit 1
}

# Runs the calling script again inside of its own namespaces.
isolate() {
	[ "$(id -u)" = 0 ] || fail "Run this as root: it makes containers."
	for tool in unshare ip docker-registry umoci skopeo; do
		command -v "$tool" >/dev/null || fail "$tool is missing: run \`tools/setup test\` first."
	done
	if [ "${BULKHEAD_ISOLATED:-}" != 1 ]; then
		BULKHEAD_ISOLATED=1 exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$@" ||
			fail "This machine doesn't let root make namespaces (unshare failed)."
	fi
	ip link set lo up
}

# $scratch: a folder that goes away at the end, with all that runs from it.
scratch_begin() {
	if [ -d /dev/shm ]; then base=/dev/shm; else base=${TMPDIR:-/tmp}; fi
	scratch=$(mktemp -d "$base/bulkhead-XXXXXX")
	chmod 711 "$scratch"
	cgroup=/bulkhead-$(basename "$scratch")
	trap scratch_end EXIT
}

scratch_end() {
	status=$?
	trap - EXIT
	for pid in ${daemon:-} ${registry:-}; do
		kill -9 "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
	done
	awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts | while read -r root; do
		[ ! -d "$root$cgroup-daemon" ] || rmdir "$root$cgroup-daemon" 2>/dev/null || true
		[ ! -d "$root$cgroup" ] || find "$root$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done
	rm -rf "$scratch"
	exit $status
}

# A root file system of Debian's busybox-static as an OCI image layout.
image_make() {
	layout=$scratch/image
	umoci init --layout "$layout"
	umoci new --image "$layout:latest"
	umoci unpack --image "$layout:latest" "$scratch/bundle" 2>/dev/null
	root=$scratch/bundle/rootfs
	mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/root"
	chmod 1777 "$root/tmp"
	cp /bin/busybox "$root/bin/"
	for applet in $(/bin/busybox --list); do
		[ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	echo 'root:x:0:' >"$root/etc/group"
	umoci repack --image "$layout:latest" "$scratch/bundle" 2>/dev/null
	umoci config --image "$layout:latest" --config.cmd /bin/sh
	rm -rf "$scratch/bundle"
}

# $image: where to pull it from.
registry_start() {
	port=5000
	cat >"$scratch/registry.yml" <<-YML
		version: 0.1
		log: {level: error}
		storage: {filesystem: {rootdirectory: $scratch/registry}}
		http: {addr: 127.0.0.1:$port}
	YML
	docker-registry serve "$scratch/registry.yml" >"$scratch/registry.log" 2>&1 &
	registry=$!
	for _ in $(seq 100); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
		sleep 0.1
	done
	image=127.0.0.1:$port/demo/busybox:latest
	skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$layout:latest" "docker://$image" ||
		fail "the registry doesn't take the image: $(cat "$scratch/registry.log")"
}

# A cgroup to count the daemon's CPU by: $daemon_cgroup, and what the pods'
# cgroups add to it: $pods_cgroup. Empty where there is no such hierarchy.
cgroups_make() {
	for root in /sys/fs/cgroup/cpuacct /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup; do
		if [ -e "$root/cpuacct.usage" ] || [ -e "$root/cgroup.controllers" ]; then
			daemon_cgroup=$root$cgroup-daemon
			pods_cgroup=$root$cgroup
			mkdir "$daemon_cgroup"
			mkdir -p "$pods_cgroup"
			return
		fi
	done
}

# $daemon, $BULKHEAD_SOCKET, $CONTAINERD_SOCKET. Arguments: further settings.
daemon_start() {
	mkdir -p "$scratch/cni" "$scratch/logs"
	cat >"$scratch/cni/10-demo.conflist" <<-JSON
		{"cniVersion": "1.0.0", "name": "demo", "plugins": [
		  {"type": "bridge", "bridge": "bulkhead0", "isGateway": true, "ipMasq": true,
		   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.231.0.0/16"}]],
		            "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$scratch/ipam"}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	JSON
	export BULKHEAD_SOCKET=$scratch/run/bulkhead.sock
	CONTAINERD_SOCKET=$scratch/run/containerd.sock
	set -- "run_root=$scratch/run" "state_root=$scratch/state" "endpoint.cri.socket=$BULKHEAD_SOCKET" \
		"endpoint.containerd.socket=$CONTAINERD_SOCKET" \
		"cni_conf_dir=$scratch/cni" "cni_cache_dir=$scratch/cni-cache" "cgroup_parent=$cgroup" \
		"certs_dir=$scratch/certs.d" "cni_bin_dirs=$scratch/cni-bin:/usr/lib/cni" "$@"
	settings=()
	for setting; do
		settings+=(--set "$setting")
	done
	# In a cgroup of its own when there is one: $daemon_cgroup.
	(
		[ -z "${daemon_cgroup:-}" ] || echo 0 >"$daemon_cgroup/cgroup.procs"
		exec "$BULKHEAD_BUILD/bulkheadd" -c /dev/null "${settings[@]}" >>"$scratch/daemon.log" 2>&1
	) &
	daemon=$!
	for _ in $(seq 500); do
		"$BULKHEAD_BUILD/bulkhead" version >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.01
	done
	fail "the daemon doesn't answer: $(tail -20 "$scratch/daemon.log")"
}
