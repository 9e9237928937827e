"""What the security context of a pod and a container asks for, checked from the kernel's side: devices, cgroup files, seccomp
profiles."""

import glob
import json
import os
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
tap = bh.Tap()


def out(pod, id, script):
    """What a shell in the container prints, both streams."""
    e = pod.exec(id, "sh", "-c", script)
    return (e.stdout + e.stderr).decode()


def context(pb, **more):
    """A container's Linux configuration with this security context."""
    resources = more.pop("resources", None)
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(**more), resources=resources)


def warnings_of(pod, id):
    return " ".join(json.loads(pod.status(id, verbose=True).info["info"])["warnings"])


def cgroup_files(d, pod, id, name):
    """Paths of a file of the container's cgroup in every hierarchy that has it."""
    return [p for root in bh.cgroup_roots() for p in glob.glob("%s%s/%s/%s/%s" % (root, d.cgroup, pod.id, id, name))]


# --- devices ---

def host_device(folder, name, major, minor, mode, uid, gid):
    path = os.path.join(folder, name)
    os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))
    os.chmod(path, mode)
    os.chown(path, uid, gid)
    return path


def test_devices(d, c, pb, image, folder):
    devices = os.path.join(folder, "devices")
    os.makedirs(devices + "/sub/deeper")
    one = host_device(devices, "one", 1, 5, 0o640, 12, 34)          # a zero under another name
    host_device(devices + "/sub", "mem", 1, 7, 0o600, 0, 0)         # full
    host_device(devices + "/sub/deeper", "kmsg", 1, 11, 0o600, 0, 0)
    os.symlink("mem", devices + "/sub/link")
    pod = bh.Pod(d, c, "devices", network="host")
    wanted = [pb.Device(host_path=one, container_path="/dev/mine", permissions="rw"),
              pb.Device(host_path=devices + "/sub", container_path="/dev/folder", permissions="rwm"),
              pb.Device(host_path=devices + "/sub/deeper/kmsg", container_path="/dev/closed", permissions="w")]
    id = pod.run("with", image, ["sleep", "600"], devices=wanted)
    seen = out(pod, id, "stat -c '%n %t:%T %a %u:%g' /dev/mine /dev/folder/mem /dev/folder/deeper/kmsg")
    tap.check(seen.splitlines() == ["/dev/mine 1:5 640 12:34", "/dev/folder/mem 1:7 600 0:0",
                                    "/dev/folder/deeper/kmsg 1:b 600 0:0"], "nodes, modes and owners are the host's", seen)
    tap.check("link" not in out(pod, id, "ls /dev/folder"), "links in a folder aren't followed")
    tap.check(out(pod, id, "head -c 4 /dev/mine | wc -c").strip() == "4", "the device works")
    open_kmsg = "timeout 1 dd if=/dev/closed of=/dev/null bs=1 count=0"
    lists = [open(p).read() for p in cgroup_files(d, pod, id, "devices.list")]
    if lists:
        tap.check(all("c 1:11 rwm" in t for t in lists), "the folder's rules are in the device cgroup", lists)
    other = pod.run("without", image, ["sleep", "600"])
    seen = out(pod, other, "ls /dev/mine; mknod /tmp/k c 1 11 && " + open_kmsg.replace("/dev/closed", "/tmp/k"))
    tap.check("No such file" in seen and "not permitted" in seen, "another container has neither node nor permission", seen)
    narrow = pod.run("narrow", image, ["sleep", "600"], devices=wanted[2:])
    tap.check("not permitted" in out(pod, narrow, open_kmsg), "only what the permissions say")
    e = bh.error_of(pod.run, "missing", image, ["true"], devices=[pb.Device(host_path="/dev/no-such", permissions="r")])
    tap.check(e is not None and "/dev/no-such" in e.details() and "No such file" in e.details(), "a missing device is named", e)
    e = bh.error_of(pod.run, "file", image, ["true"], devices=[pb.Device(host_path="/etc/passwd", permissions="r")])
    tap.check(e is not None and "/etc/passwd" in e.details() and "device" in e.details(), "what is no device is named", e)
    os.makedirs(devices + "/empty")
    e = bh.error_of(pod.run, "empty", image, ["true"], devices=[pb.Device(host_path=devices + "/empty", permissions="r")])
    tap.check(e is not None and devices + "/empty" in e.details(), "a folder without devices is named", e)
    pod.remove()


def host_nodes():
    """{path: rdev} below the host's /dev, as a privileged container is to see them."""
    found, skip = {}, {"pts", "ptmx", "shm", "fd", "mqueue", "console"}
    for folder, folders, files in os.walk("/dev"):
        folders[:] = [f for f in folders if f not in skip]
        for path in (os.path.join(folder, f) for f in files if f not in skip):
            st = os.lstat(path)
            if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                found[path] = "%x:%x" % (os.major(st.st_rdev), os.minor(st.st_rdev))
    return found


def test_privileged(d, c, pb, image):
    pod = bh.Pod(d, c, "privileged-devices", network="host", privileged=True)
    id = pod.run("p", image, ["sleep", "600"], linux=context(pb, privileged=True))
    host = host_nodes()
    text = out(pod, id, "find /dev -type c -o -type b | xargs stat -c '%n %t:%T'")
    seen = dict(line.split() for line in text.splitlines())
    missing = {p: n for p, n in host.items() if seen.get(p) != n}
    tap.check(len(host) > 6 and not missing, "a privileged container sees all of the host's devices", missing)
    plain = pod.run("q", image, ["sleep", "600"])
    seen = out(pod, plain, "find /dev -type c -o -type b | grep -v /dev/pts").split()
    tap.check(len(seen) == 6, "another one of its pod has the usual six", seen)
    pod.remove()


# --- cgroup files by name ---

def test_unified(d, c, pb, image):
    def settings(**files):
        return pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(
            unified={k.replace("__", "."): v for k, v in files.items()}))
    pod = bh.Pod(d, c, "unified", network="host")
    if not any(os.path.exists(r + "/cgroup.controllers") for r in bh.cgroup_roots()):
        tap.skip("cgroup files by name", "no cgroup v2 hierarchy")
        pod.remove()
        return
    id = pod.run("u", image, ["sleep", "600"], linux=settings(cgroup__max__descendants="7"))
    files = cgroup_files(d, pod, id, "cgroup.max.descendants")
    tap.check(files and open(files[0]).read().strip() == "7", "a cgroup v2 file is set by name", files)
    e = bh.error_of(pod.run, "procs", image, ["true"], linux=settings(cgroup__procs="1"))
    tap.check(e is not None and "cgroup.procs" in e.details(), "a file that isn't a setting is refused", e)
    e = bh.error_of(pod.run, "bad", image, ["true"], linux=settings(cgroup__max__depth="nonsense"))
    tap.check(e is not None and "cgroup.max.depth" in e.details() and "nonsense" in e.details(),
              "a value that the kernel refuses is named", e)
    if cgroup_files(d, pod, id, "memory.high"):
        id = pod.run("m", image, ["sleep", "600"], linux=settings(memory__high="123456k"))
        files = cgroup_files(d, pod, id, "memory.high")
        tap.check(open(files[0]).read().strip() == str(123456 * 1024), "memory.high")
    else:
        id = pod.run("m", image, ["sleep", "600"], linux=settings(memory__high="123456k"))
        tap.check("memory.high" in warnings_of(pod, id), "what this machine's v2 lacks is a warning", warnings_of(pod, id))
    pod.remove()


# --- seccomp profiles in files ---

def test_profiles(d, c, pb, image, folder):
    def container(path, **more):
        profile = pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=path)
        return context(pb, seccomp=profile, **more)

    def write(name, text):
        path = os.path.join(profiles, name)
        with open(path, "w") as f:
            f.write(text)
        return path
    profiles = os.path.join(folder, "profiles")
    os.makedirs(profiles, mode=0o700)
    deny = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["%s"], "action": "SCMP_ACT_ERRNO"}]}'
    path = write("no-mkdir.json", deny % "mkdir")
    os.chmod(path, 0o600)
    pod = bh.Pod(d, c, "profiles", network="host")
    id = pod.run("p", image, ["sleep", "600"], linux=container(path))
    tap.check("Seccomp:\t2" in out(pod, id, "cat /proc/1/status /proc/self/status"), "a profile in a file that only root may read")
    tap.check("not permitted" in out(pod, id, "mkdir /tmp/x") and out(pod, id, "touch /tmp/y") == "", "does what it says")
    write("no-mkdir.json", deny % "chmod")
    id = pod.run("again", image, ["sleep", "600"], linux=container("localhost/" + path))
    tap.check(out(pod, id, "mkdir /tmp/x") == "" and "not permitted" in out(pod, id, "chmod 1 /tmp/x"), "an edited file counts at once")

    def fails(name, path, *words):
        e = bh.error_of(pod.run, name, image, ["true"], linux=container(path))
        tap.check(e is not None and all(w in e.details() for w in words), "refused: " + name, e)
    fails("missing", profiles + "/missing.json", profiles + "/missing.json", "No such file")
    os.symlink(path, profiles + "/link.json")
    fails("link", profiles + "/link.json", profiles + "/link.json")
    os.mkfifo(profiles + "/fifo.json")
    fails("fifo", profiles + "/fifo.json", profiles + "/fifo.json", "regular file")
    fails("large", write("large.json", " " * (1 << 20) + "{}"), "large.json", "too large")
    fails("malformed", write("malformed.json", "{"), "malformed.json")
    fails("unknown", write("unknown.json", '{"defaultAction": "SCMP_ACT_FLY"}'), "unknown.json", "SCMP_ACT_FLY")
    pod.remove()


# --- user namespaces ---

HOST_ID, IDS = 200000, 65536


def userns(pb, host=HOST_ID, length=IDS, **more):
    return pb.UserNamespace(mode=more.pop("mode", pb.POD), uids=[pb.IDMapping(host_id=host, container_id=0, length=length)],
                            gids=[pb.IDMapping(host_id=host, container_id=0, length=length)])


def userns_pod(d, c, pb, name, options, **more):
    config = bh.sandbox_config(c, name, log_directory=d.logs, **more)
    config.linux.security_context.namespace_options.userns_options.CopyFrom(options)
    pod = bh.Pod.__new__(bh.Pod)
    pod.daemon, pod.client, pod.config, pod.containers = d, c, config, []
    pod.id = c.runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=config)).pod_sandbox_id
    return pod


def process_of(tag):
    """The container's process, by an argument that only it has."""
    def look():
        for pid in bh.pids():
            try:
                with open("/proc/%d/cmdline" % pid) as f:
                    text = f.read()
                with open("/proc/%d/comm" % pid) as f:
                    if tag in text and not f.read().startswith("bulkhead"):
                        return pid
            except OSError:
                pass
        return None
    return bh.wait_for(look, 5)


def proc_field(pid, field):
    with open("/proc/%d/status" % pid) as f:
        return [line.split(":")[1].split() for line in f if line.startswith(field + ":")][0]


def test_user_namespaces(d, c, pb, image, folder):
    handler = c.runtime.Status(pb.StatusRequest()).runtime_handlers[0]
    if not handler.features.user_namespaces:
        e = bh.error_of(userns_pod, d, c, pb, "no-userns", userns(pb))
        tap.check(e is not None and "user namespace" in e.details(), "what isn't there is refused", e)
        tap.skip("user namespaces", "this machine can't map owners")
        return
    volume = os.path.join(folder, "userns-volume")
    os.makedirs(volume)
    for name, uid in (("root", 0), ("user", 1000)):
        with open(os.path.join(volume, name), "w") as f:
            f.write(name)
        os.chown(os.path.join(volume, name), uid, uid)
    pod = userns_pod(d, c, pb, "userns", userns(pb))
    ids = [pb.IDMapping(host_id=HOST_ID, container_id=0, length=IDS)]
    mounts = [pb.Mount(container_path="/mapped", host_path=volume, uidMappings=ids, gidMappings=ids),
              pb.Mount(container_path="/plain", host_path=volume)]
    devices = [pb.Device(host_path="/dev/zero", container_path="/dev/mine", permissions="rw")]
    tag = "marker-userns"
    id = pod.run("u", image, ["sh", "-c", "echo out; echo again > /dev/stdout; while :; do sleep 1; done", tag], mounts=mounts,
                 devices=devices, linux=context(pb, capabilities=pb.Capability(add_capabilities=["SYS_ADMIN"])))
    pid = process_of(tag)
    if not tap.check(pid is not None, "a container in a user namespace runs", d.log_tail()):
        pod.remove()
        return
    with open("/proc/%d/uid_map" % pid) as f:
        uids = f.read().split()
    tap.check(uids == ["0", str(HOST_ID), str(IDS)] and proc_field(pid, "Uid")[0] == str(HOST_ID) and
              proc_field(pid, "Gid")[0] == str(HOST_ID), "root inside is nobody outside", (uids, proc_field(pid, "Uid")))
    for ns in ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user"):
        tap.check(bh.namespace(pid, ns) != bh.namespace(os.getpid(), ns), "a %s namespace of its own" % ns)
    tap.check(out(pod, id, "id -u; id -g; stat -c %u:%g /bin/busybox /etc /proc/self/ /dev/null /dev/shm") ==
              "0\n0\n0:0\n0:0\n0:0\n65534:65534\n0:0\n", "owners are right inside",
              out(pod, id, "id -u; id -g; stat -c '%n %u:%g' /bin/busybox /etc /proc/self/ /dev/null /dev/shm"))
    seen = out(pod, id, "echo x > /etc/new && chown 12:34 /etc/new && stat -c %u:%g /etc/new && echo y >> /etc/passwd")
    uppers = glob.glob(d.state + "/snapshots/*/fs/etc/new")
    owner = os.stat(uppers[0]) if uppers else None
    tap.check(seen == "12:34\n" and owner and (owner.st_uid, owner.st_gid) == (HOST_ID + 12, HOST_ID + 34),
              "files made inside belong to the host's ids", (seen, owner))
    tap.check(out(pod, id, "stat -c %u /mapped/root /mapped/user /plain/root") == "0\n1000\n65534\n",
              "a volume with mappings is mapped, another isn't", out(pod, id, "stat -c '%n %u' /mapped/* /plain/*"))
    tap.check(out(pod, id, "echo z > /mapped/made") == "" and os.stat(volume + "/made").st_uid == 0, "and written through")
    tap.check("ermission denied" in out(pod, id, "echo z > /plain/root"), "what isn't mapped can't be written")
    tap.check(out(pod, id, "head -c 3 /dev/mine | wc -c; head -c 3 /dev/urandom | wc -c; echo > /dev/null") == "3\n3\n",
              "devices are the host's nodes")
    tap.check(out(pod, id, "mkdir /tmp/m && mount -t tmpfs none /tmp/m && touch /tmp/m/x && umount /tmp/m") == "",
              "CAP_SYS_ADMIN inside is good for mounts inside", out(pod, id, "mount -t tmpfs none /tmp/m"))
    tap.check("denied" in out(pod, id, "echo 1 > /proc/sys/kernel/panic") or "Read-only" in out(pod, id, "echo 1 > /proc/sys/kernel/panic"),
              "and for nothing outside")
    tap.check(out(pod, id, "hostname; cat /etc/hostname") == "userns\nuserns\n", "the pod's name and files")
    bh.wait_for(lambda: len(pod.log("u")) >= 2, 5)
    tap.check(("stdout", "F", "again") in pod.log("u"), "its own /dev/stdout can be opened", pod.log("u"))
    s = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    tap.check(s.linux.namespaces.options.userns_options.mode == pb.POD and s.network.ip.startswith("10.231.") and
              pod.exec(id, "ping", "-c", "1", "-W", "2", "10.231.0.1").exit_code == 0, "its network works", s)
    id2 = pod.run("user", image, ["sleep", "600"], linux=context(pb, run_as_user=pb.Int64Value(value=1000)))
    tap.check(out(pod, id2, "id -u; cat /mapped/user 2>&1; touch /tmp/t && stat -c %u /tmp/t").endswith("1000\n"), "another user")
    e = bh.error_of(pod.run, "far", image, ["true"], linux=context(pb, run_as_user=pb.Int64Value(value=IDS + 1)))
    tap.check(e is not None and str(IDS + 1) in e.details(), "a user that isn't mapped is named", e)

    # A keeper's successor finds the namespace again.
    keeper = d.processes()["pod-keeper"]
    for k in keeper:
        os.kill(k, 9)
    bh.wait_for(lambda: set(d.processes().get("pod-keeper", [])) - set(keeper), 10)
    tap.check(bh.wait_for(lambda: bh.error_of(pod.exec, id, "true") is None, 10) and out(pod, id, "id -u") == "0\n" and
              os.path.exists("/proc/%d" % pid), "after the keeper's death the container runs, and exec works")
    id3 = pod.run("later", image, ["sleep", "600"])
    tap.check(out(pod, id3, "cat /proc/self/uid_map").split() == ["0", str(HOST_ID), str(IDS)], "and new ones are born inside")
    pod.remove()

    pod = userns_pod(d, c, pb, "userns-shared", userns(pb, HOST_ID + IDS), pid=pb.POD)
    id = pod.run("a", image, ["sleep", "611"], linux=context(pb, readonly_rootfs=True, no_new_privs=True, seccomp=pb.SecurityProfile(
        profile_type=pb.SecurityProfile.RuntimeDefault), namespace_options=pb.NamespaceOption(pid=pb.POD, userns_options=userns(
            pb, HOST_ID + IDS))))
    tap.check("bulkhead-init" in out(pod, id, "cat /proc/1/cmdline") and out(pod, id, "id -u") == "0\n",
              "a shared PID namespace", out(pod, id, "ps"))
    pod.remove()

    def refused(name, options, *words, **more):
        e = bh.error_of(userns_pod, d, c, pb, name, options, **more)
        tap.check(e is not None and e.code().name == "INVALID_ARGUMENT" and all(w in e.details() for w in words), "refused: " + name, e)
    refused("node-network", userns(pb), "network", network="host")
    refused("no-mapping", pb.UserNamespace(mode=pb.POD), "mapping")
    refused("root-mapping", userns(pb, 0), "mapping")
    refused("container-mode", userns(pb, mode=pb.CONTAINER), "user namespace")
    pod = bh.Pod(d, c, "no-userns", network="host")
    e = bh.error_of(pod.run, "x", image, ["true"], linux=context(pb, namespace_options=pb.NamespaceOption(
        network=pb.NODE, userns_options=userns(pb))))
    tap.check(e is not None and "user namespace" in e.details(), "refused: a container's own", e)
    e = bh.error_of(pod.run, "y", image, ["true"], mounts=mounts[:1])
    tap.check(e is not None and "/mapped" in e.details(), "refused: a mapped volume without a user namespace", e)
    pod.remove()


# --- mounts, groups, labels ---

def mount_flags(pod, id, path):
    """{mount point: options} of what is mounted at path and below, as the container sees it."""
    return {line.split()[4]: line.split()[5].split(",") for line in out(pod, id, "cat /proc/self/mountinfo").splitlines()
            if line.split()[4] == path or line.split()[4].startswith(path + "/")}


def test_mounts(d, c, pb, image, folder):
    volume = os.path.join(folder, "tree")
    os.makedirs(volume + "/below")
    bh.subprocess.run(["mount", "-t", "tmpfs", "none", volume + "/below"], check=True)
    features = c.runtime.Status(pb.StatusRequest())
    tap.check(features.runtime_handlers[0].features.recursive_read_only_mounts and features.features.mount_options and
              features.features.supplemental_groups_policy, "Status tells the features", features)
    pod = bh.Pod(d, c, "tree", network="host")
    try:
        id = pod.run("m", image, ["sleep", "600"], mounts=[
            pb.Mount(container_path="/ro", host_path=volume, readonly=True),
            pb.Mount(container_path="/rro", host_path=volume, readonly=True, recursive_read_only=True),
            pb.Mount(container_path="/no", host_path=volume, mount_options=["noexec", "nodev", "nosuid"]),
            pb.Mount(container_path="/plain", host_path=volume)])
        tap.check(out(pod, id, "touch /ro/below/x") == "" and "Read-only" in out(pod, id, "touch /ro/x"),
                  "read-only alone is of one mount")
        tap.check("Read-only" in out(pod, id, "touch /rro/below/x") and "Read-only" in out(pod, id, "touch /rro/x"),
                  "recursively read-only is of all below")
        flags = mount_flags(pod, id, "/no")
        tap.check(len(flags) == 2 and all({"noexec", "nodev", "nosuid"} <= set(f) for f in flags.values()), "noexec, nodev, nosuid", flags)
        tap.check("denied" in out(pod, id, "cp /bin/busybox /no/b && /no/b true"), "and the kernel keeps to it")
        flags = mount_flags(pod, id, "/plain")
        tap.check(len(flags) == 2 and not any("noexec" in f for f in flags.values()), "another mount of it has none of them", flags)
        e = bh.error_of(pod.create, "bad", image, ["true"], mounts=[pb.Mount(container_path="/x", host_path=volume,
                                                                             mount_options=["loud"])])
        tap.check(e is not None and '"loud"' in e.details() and "/x" in e.details(), "an unknown option is named", e)
    finally:
        pod.remove()
        bh.subprocess.run(["umount", volume + "/below"], check=True)


def test_groups_and_labels(d, c, pb, image):
    pod = bh.Pod(d, c, "groups", network="host")
    for policy, expected in ((pb.Merge, {"34", "77", "555"}), (pb.Strict, {"34", "555"})):
        name = pb.SupplementalGroupsPolicy.Name(policy).lower()
        id = pod.run(name, image, ["sleep", "600"], linux=context(
            pb, run_as_username="www", supplemental_groups=[555], supplemental_groups_policy=policy))
        tap.check(set(out(pod, id, "id -G").split()) == expected, "groups: " + name, out(pod, id, "id -G"))
        own = out(pod, id, "grep Groups /proc/self/status").split()[1:]
        tap.check(set(own) == expected, "the primary group is a supplementary one, too, so that it can't be left", own)
        seen = pod.status(id).status.user.linux.supplemental_groups
        tap.check(set(seen) == {int(g) for g in expected}, "and ContainerStatus says so, the primary group among them", seen)
    if not os.path.exists("/sys/fs/selinux/enforce"):
        id = pod.run("label", image, ["sleep", "600"], linux=context(pb, selinux_options=pb.SELinuxOption(type="spc_t")))
        tap.check("spc_t" in warnings_of(pod, id), "a label that the kernel doesn't know is a warning", warnings_of(pod, id))
    pages = [pb.HugepageLimit(page_size="2MB", limit=4 << 20)]
    id = pod.run("pages", image, ["sleep", "600"], linux=pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(
        hugepage_limits=pages)))
    files = cgroup_files(d, pod, id, "hugetlb.2MB.max") + cgroup_files(d, pod, id, "hugetlb.2MB.limit_in_bytes")
    if files:
        tap.check(open(files[0]).read().strip() == str(4 << 20), "a limit of huge pages")
    else:
        tap.check("hugetlb" in warnings_of(pod, id), "huge pages that can't be limited are a warning", warnings_of(pod, id))
    pod.remove()


# --- CDI ---

def test_cdi(d, c, pb, image, folder):
    run = "/var/run/cdi"
    shared = os.path.join(folder, "cdi-data")
    os.makedirs(shared)
    os.makedirs(run)
    with open(shared + "/note", "w") as f:
        f.write("from a vendor")
    node = host_device(folder, "cdi-node", 1, 5, 0o620, 3, 4)
    spec = {"cdiVersion": "0.6.0", "kind": "test.org/thing",
            "containerEdits": {"env": ["ALL=1", "PATH=/bin:/vendor"]},
            "devices": [
                {"name": "one", "containerEdits": {
                    "env": ["ONE=yes"], "additionalGids": [4321], "deviceNodes": [{"path": "/dev/thing", "hostPath": node, "permissions": "r"}],
                    "mounts": [{"hostPath": shared, "containerPath": "/vendor", "options": ["ro", "nosuid", "bind"]}]}},
                {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}},
                {"name": "lost", "containerEdits": {"deviceNodes": [{"path": "/dev/no-such-thing"}]}}]}
    with open(run + "/thing.json", "w") as f:
        json.dump(spec, f)
    with open(run + "/broken.json", "w") as f:
        f.write('{"kind": "test.org/thing", ')
    pod = bh.Pod(d, c, "cdi", network="host")

    def devices(*names):
        return {"CDI_devices": [pb.CDIDevice(name=n) for n in names]}
    id = pod.run("one", image, ["sleep", "600"], **devices("test.org/thing=one"))
    tap.check(out(pod, id, "echo $ALL $ONE $PATH") == "1 yes /bin:/vendor\n", "CDI: variables", out(pod, id, "env"))
    tap.check(out(pod, id, "stat -c '%t:%T %a %u:%g' /dev/thing; head -c 2 /dev/thing | wc -c") == "1:5 620 3:4\n2\n", "CDI: a device",
              out(pod, id, "ls -l /dev/thing"))
    tap.check(out(pod, id, "cat /vendor/note") == "from a vendor" and "Read-only" in out(pod, id, "touch /vendor/x"), "CDI: a mount")
    tap.check("4321" in out(pod, id, "id -G").split(), "CDI: a group")
    id = pod.run("none", image, ["sleep", "600"])
    tap.check(out(pod, id, "echo $ONE; ls /dev/thing 2>&1").startswith("\n"), "another container has none of it")
    for name, words in (("test.org/thing=two", ["test.org/thing=two", run]), ("test.org/thing=hooked", ["hooks", "thing.json"]),
                        ("test.org/thing=lost", ["/dev/no-such-thing"])):
        e = bh.error_of(pod.run, name.split("=")[1], image, ["true"], **devices(name))
        tap.check(e is not None and all(w in e.details() for w in words), "refused: " + name, e)
    e = bh.error_of(pod.create, "odd", image, ["true"], **devices("nothing"))
    tap.check(e is not None and e.code().name == "INVALID_ARGUMENT" and '"nothing"' in e.details(), "refused: what is no name", e)
    pod.remove()


def main():
    # Of our own: CDI's files are in a folder of it.
    bh.subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        image = registry.host + "/test/busybox:1"
        d = bh.Daemon(folder).start()
        c = d.client()
        pb = c.pb
        before = bh.kernel_truth(d)
        try:
            c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
            test_devices(d, c, pb, image, folder)
            test_privileged(d, c, pb, image)
            test_unified(d, c, pb, image)
            test_profiles(d, c, pb, image, folder)
            test_user_namespaces(d, c, pb, image, folder)
            test_mounts(d, c, pb, image, folder)
            test_groups_and_labels(d, c, pb, image)
            test_cdi(d, c, pb, image, folder)
            after = bh.wait_for(lambda: bh.kernel_truth(d) if bh.kernel_truth(d) == before else None, 5) or bh.kernel_truth(d)
            tap.check(after == before, "nothing of the pods is left", bh.differences(before, after))
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
