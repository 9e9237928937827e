"""What has gone wrong in container runtimes before, tried on this one: each check is named after the CVE whose attack it
is. A hostile image, a hostile client, a hostile neighbour; the proof is on the host's side. docs/tests.md says which
others are shown elsewhere."""

import fcntl
import io
import os
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import fake_registry as fake

bh.isolate()
tap = bh.Tap()

NOBODY = 65534
SECRET = "the host's own words"


def layer(links=(), files=(), folders=("bin", "etc", "tmp", "proc", "dev", "sys")):
    """A tar archive: busybox, links {path: target}, files {path: text}; links take the place of folders."""
    out = io.BytesIO()
    links, files = dict(links), dict(files)
    with tarfile.open(fileobj=out, mode="w") as t:
        def add(path, kind, target="", data=b"", mode=0o755):
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.mode, info.size = kind, target, mode, len(data)
            t.addfile(info, io.BytesIO(data))
        for folder in folders:
            if folder not in links:
                add(folder, tarfile.DIRTYPE)
        with open("/bin/busybox", "rb") as f:
            add("bin/busybox", tarfile.REGTYPE, data=f.read())
        for applet in ("sh", "cat", "ls", "id", "sleep", "stat", "pwd", "yes", "head", "mount", "readlink", "true", "ln", "rm"):
            add("bin/" + applet, tarfile.SYMTYPE, "busybox")
        for path, text in files.items():
            add(path, tarfile.REGTYPE, data=text.encode(), mode=0o644)
        for path, target in links.items():
            add(path, tarfile.SYMTYPE, target)
    return out.getvalue()


PASSWD = {"etc/passwd": "root:x:0:0:root:/:/bin/sh\n", "etc/group": "root:x:0:\n"}


class Bench:
    """The daemon, a registry that tells whatever we want, and a file of the host that no container may see or change."""

    def __init__(self, folder):
        self.folder = folder
        self.secret = os.path.join(folder, "secret")
        with open(self.secret, "w") as f:
            f.write(SECRET)
        self.registry = fake.FakeRegistry()
        self.images = 0
        self.d = bh.Daemon(folder).start()
        self.c = self.d.client()
        self.pb = self.c.pb

    def image(self, data, **config):
        """Pulls an image of this layer; its name."""
        self.images += 1
        self.registry.image("test/evil", str(self.images), [(data, fake.OCI + "layer.v1.tar", fake.digest(data))],
                            **dict({"Cmd": ["sleep", "600"], "Env": ["PATH=/bin"]}, **config))
        name = "%s/test/evil:%d" % (self.registry.host, self.images)
        self.c.images.PullImage(self.pb.PullImageRequest(image=self.pb.ImageSpec(image=name)))
        return name

    def pod(self, name, **more):
        return bh.Pod(self.d, self.c, name, network=more.pop("network", "host"), **more)

    def untouched(self):
        with open(self.secret) as f:
            return f.read() == SECRET

    def context(self, **more):
        return self.pb.LinuxContainerConfig(security_context=self.pb.LinuxContainerSecurityContext(**more))


def said(e):
    return "%s: %s" % (e.code().name, e.details()) if e else "it was done"


def refused(e, code, *words):
    return e is not None and e.code().name == code and all(w in e.details() for w in words)


def text(pod, id, script):
    e = pod.exec(id, "sh", "-c", script)
    return (e.stdout + e.stderr).decode(errors="replace")


# --- what runs on the host's behalf ---

def test_own_program(b, image):
    pod, seals = b.pod("self"), []
    for pid in b.d.processes()["keeper"] + b.d.processes()["pod-keeper"]:
        with open("/proc/%d/exe" % pid, "rb") as f:
            seals.append(fcntl.fcntl(f.fileno(), fcntl.F_GET_SEALS))
    tap.check(seals and all(s & fcntl.F_SEAL_WRITE and s & fcntl.F_SEAL_SEAL for s in seals),
              "CVE-2019-5736: the program that makes containers is a sealed copy that nobody can write", seals)
    program = os.path.join(bh.BUILD, "bulkhead-keeper")
    with open(program, "rb") as f:
        before = f.read()
    id = pod.run("host", image, ["sleep", "600"])
    e = bh.error_of(pod.run, "self", image, ["/proc/self/exe"])
    text(pod, id, "for e in /proc/[0-9]*/exe; do readlink $e; (echo x > $e); done")
    with open(program, "rb") as f:
        tap.check(f.read() == before, "CVE-2019-5736: a container that runs /proc/self/exe changes no program: " + said(e))
    pod.remove()


def test_sockets(b):
    pod = b.pod("abstract")
    names = [line.split()[7] for line in open("/proc/net/unix").read().splitlines()[1:] if len(line.split()) > 7]
    tap.check(any(b.d.run in n for n in names) and not any(n.startswith("@") for n in names),
              "CVE-2020-15257: no abstract socket, which a pod of the host's network could reach", names)
    pod.remove()


def test_descriptors(b, image):
    pod = b.pod("fds")
    wrong = []
    for n in list(range(3, 20)) + ["../.."]:
        config = dict(working_dir="/proc/self/fd/%s" % n)
        e = bh.error_of(pod.run, "wd%s" % str(n).replace("/", ""), image,
                        ["sh", "-c", "cat ../../../../../../..%s; pwd" % b.secret], **config)
        if e is None:
            pod.wait(pod.containers[-1])
            if any(SECRET in line[2] for line in pod.log("wd%s" % str(n).replace("/", ""))):
                wrong.append(n)
    tap.check(not wrong, "CVE-2024-21626: no working folder is a descriptor of the host's", wrong)
    id = pod.run("open", image, ["sleep", "600"])
    seen = text(pod, id, "ls -l /proc/self/fd /proc/1/fd")
    tap.check(b.folder not in seen and "cgroup" not in seen, "CVE-2024-21626: a container inherits no descriptor", seen)
    pod.remove()


# --- hostile images ---

def test_proc(b):
    """An image whose /proc, /dev and /sys lead elsewhere."""
    canary = os.path.join(b.folder, "canary")
    os.makedirs(canary)
    for name, target in (("absolute", canary), ("relative", "../../../../../../../.." + canary), ("inside", "/tmp")):
        image = b.image(layer(dict.fromkeys(("proc", "dev", "sys"), target), PASSWD))
        pod = b.pod("proc" + name)
        e = bh.error_of(pod.run, "p", image, ["sleep", "600"])
        kinds = text(pod, pod.containers[-1], "while read a b c d; do case $b in /proc|/sys|/dev) echo $b $c;; esac; done "
                     "</proc/mounts") if e is None else ""
        good = e is not None or not kinds or "/proc proc" in kinds
        tap.check(good and not os.listdir(canary),
                  "CVE-2019-19921, CVE-2019-16884, CVE-2025-52881, CVE-2026-47766: /proc, /dev and /sys of the image are "
                  "links (%s): %s" % (name, said(e)), kinds)
        pod.remove()
    pod = b.pod("overproc")
    image = b.image(layer((), PASSWD))
    for i, (source, target) in enumerate(((b.folder, "/proc"), ("/proc/sys", "/proc"), ("/proc/self/sched", "/proc/self/attr/exec"),
                                          (b.secret, "/proc/sys/kernel/hostname"))):
        mounts = [b.pb.Mount(container_path=target, host_path=source)]
        e = bh.error_of(pod.run, "over%d" % i, image, ["true"], mounts=mounts)
        tap.check(refused(e, "INVALID_ARGUMENT", target, "over /proc"), "CVE-2019-16884, CVE-2025-52881: nothing fakes /proc: " + said(e), mounts)
    id = pod.run("hosts", image, ["sleep", "600"],
                 mounts=[b.pb.Mount(container_path="/proc", host_path="/proc")])
    tap.check("bulkheadd" in text(pod, id, "cat /proc/[0-9]*/comm"), "but the host's /proc is one, for whoever may mount that")
    pod.remove()


def test_dev(b):
    """An image that has links where devices and masked paths come."""
    pattern = open("/proc/sys/kernel/core_pattern").read()
    links = {"dev/null": "/proc/sys/kernel/core_pattern", "dev/console": "/proc/sysrq-trigger", "dev/pts": "/proc",
             "dev/ptmx": "/proc/sysrq-trigger", "dev/shm": "/proc", "masked": "/proc/sys/kernel/core_pattern"}
    image = b.image(layer(links, PASSWD))
    pod = b.pod("devs")
    id = pod.run("d", image, ["sleep", "600"], tty=True,
                 linux=b.context(masked_paths=["/masked", "/proc/kcore"], readonly_paths=["/masked", "/proc/sys"]))
    seen = text(pod, id, "stat -c '%t:%T' /dev/null; echo '|/evil' > /masked; echo '|/evil' > /dev/null; echo h > /dev/console")
    tap.check(seen.startswith("1:3\n") and open("/proc/sys/kernel/core_pattern").read() == pattern,
              "CVE-2025-31133, CVE-2025-52565, CVE-2026-41579: devices and masked paths aren't the image's links", seen)
    pod.remove()


def test_mount_targets(b, image):
    """A volume in which a neighbour puts links where mounts will go."""
    volume, source = os.path.join(b.folder, "volume"), os.path.join(b.folder, "source")
    os.makedirs(volume)
    os.makedirs(source)
    canary = os.path.join(b.folder, "target")
    os.makedirs(canary)
    before = open("/proc/self/mountinfo").read()
    results = []
    for name, target in (("out", "../../../../../../.." + canary), ("root", "/"), ("proc", "/proc/self")):
        os.symlink(target, os.path.join(volume, name))
        pod = b.pod("mount" + name)
        mounts = [b.pb.Mount(container_path="/vol", host_path=volume),
                  b.pb.Mount(container_path="/vol/%s/deeper/still" % name, host_path=source)]
        results.append("%s: %s" % (name, said(bh.error_of(pod.run, "m", image, ["sleep", "600"], mounts=mounts))))
        pod.remove()
        os.unlink(os.path.join(volume, name))
    tap.check(os.listdir(canary) == [] and open("/proc/self/mountinfo").read() == before,
              "CVE-2021-30465, CVE-2024-45310: mounts through a volume's links stay in the container", results)


def test_image_volumes(b):
    image = b.image(layer((), PASSWD), Volumes={"/../../../.." + b.folder: {}, "/../../../..%s" % b.secret: {}, "/v": {}})
    pod = b.pod("volumes")
    e = bh.error_of(pod.run, "v", image, ["sleep", "600"])
    seen = text(pod, pod.containers[-1], "cat %s; cat /proc/mounts" % b.secret) if e is None else ""
    tap.check(SECRET not in seen and b.untouched(), "CVE-2022-23648: an image's VOLUME leads to nothing of the host's: " + said(e), seen)
    pod.remove()


def test_labels(b):
    labels = {"containerd.io/restart.status": "running", "containerd.io/restart.loguri": "binary:///bin/sh?-c=id",
              "bulkhead.io/privileged": "true", "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel": "true"}
    image = b.image(layer((), PASSWD), Labels=labels)
    pod = b.pod("labels")
    id = pod.run("l", image, ["sleep", "600"])
    s = pod.status(id).status
    seen = text(pod, id, "while read a b; do [ $a = CapEff: ] && echo $b; done </proc/self/status; ls /dev")
    tap.check(not dict(s.labels) and not dict(s.annotations) and seen.startswith("00000000a80425fb") and "kmsg" not in seen,
              "CVE-2026-53488: an image's labels decide nothing on the host", (s.labels, seen))
    c = pod.run("a", image, ["sleep", "600"], annotations={"bulkhead.io/privileged": "true",
                                                           "bulkhead.io/device/0": "/dev/kmsg\n/dev/kmsg\nrwm"})
    seen = text(pod, c, "while read a b; do [ $a = CapEff: ] && echo $b; done </proc/self/status; ls /dev")
    tap.check(seen.startswith("00000000a80425fb") and "kmsg" not in seen,
              "CVE-2024-3154, CVE-2023-6476: a client's annotations are no settings of ours", seen)
    pod.remove()


def test_users(b):
    base = layer((), dict(PASSWD, **{"etc/passwd": "root:x:0:0:root:/:/bin/sh\n4294967296:x:0:0:evil:/:/bin/sh\n"
                                                   "big:x:4294967296:4294967296::/:/bin/sh\n"}))
    pod = b.pod("users")
    wrong = []
    for i, user in enumerate(("4294967296", "2147483648:1", "-1", "1000:4294967296", "big", "0x0", "1000:big", "+0", " 0", "1e3")):
        image = b.image(base, User=user)
        e = bh.error_of(pod.run, "u%d" % i, image, ["id", "-u"])
        if e is None:
            pod.wait(pod.containers[-1])
            wrong.append((user, pod.log("u%d" % i)))
    tap.check(not wrong, "CVE-2024-40635, CVE-2026-46680, CVE-2026-30892: a USER out of range is an error, never root", wrong)
    pod.remove()


def test_files_of_the_pod(b):
    links = dict.fromkeys(("etc/mtab", "etc/hosts", "etc/hostname", "etc/resolv.conf"), "../../../../../.." + b.secret)
    image = b.image(layer(links, PASSWD))
    pod = b.pod("links", network="pod")
    e = bh.error_of(pod.run, "f", image, ["sleep", "600"])
    seen = text(pod, pod.containers[-1], "cat /etc/mtab /etc/hosts /etc/hostname; echo x >> /etc/mtab") if e is None else ""
    tap.check(b.untouched() and SECRET not in seen,
              "CVE-2024-5154: an image's links in /etc lead to nothing of the host's: " + said(e), seen)
    pod.remove()


def test_logs(b, image):
    pod = b.pod("log")
    os.symlink(b.secret, os.path.join(b.d.logs, "linked.log"))
    e = bh.error_of(pod.run, "linked", image, ["sh", "-c", "echo overwritten; sleep 600"])
    tap.check(refused(e, "FAILED_PRECONDITION", "linked.log") or e is not None and "linked.log" in e.details(),
              "CVE-2024-5154: a log path that is a link is refused: " + said(e))
    tap.check(b.untouched(), "CVE-2026-53489: and what it leads to is as it was")
    mode = None
    pod.run("plain", image, ["sh", "-c", "echo x"])
    if bh.wait_for(lambda: os.path.exists(b.d.logs + "/plain.log"), 5):
        mode = os.stat(b.d.logs + "/plain.log").st_mode & 0o777
    tap.check(mode == 0o640, "CVE-2024-5154: a log is nobody else's to read", mode and oct(mode))
    pod.remove()


def test_digests(b):
    I, pb = b.c.images, b.pb
    for digest in ("sha256:../../../../etc/passwd", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "../x:" + "a" * 64, "sha256:"):
        ref = "%s/test/x@%s" % (b.registry.host, digest)
        e = bh.error_of(I.PullImage, pb.PullImageRequest(image=pb.ImageSpec(image=ref)))
        tap.check(refused(e, "INVALID_ARGUMENT"), "CVE-2024-3727: %s is no digest: %s" % (digest[:24], said(e)[:100]))


# --- hostile clients ---

def test_sysctls(b):
    before = open("/proc/sys/kernel/core_pattern").read()
    evil = {"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/evil"}, {"kernel.core_pattern": "|/evil"}, \
        {"net.ipv4.ip_forward": "1\nkernel.core_pattern=|/evil"}, {"kernel/core_pattern": "|/evil"}, {"net.../kernel.core_pattern": "x"}
    found = []
    for i, sysctls in enumerate(evil):
        e = bh.error_of(b.pod, "sysctl%d" % i, network="pod", sysctls=sysctls)
        found.append((sysctls, said(e)))
        tap.check(refused(e, "INVALID_ARGUMENT"), "CVE-2022-0811: refused: " + said(e)[:160], e)
    tap.check(open("/proc/sys/kernel/core_pattern").read() == before, "CVE-2022-0811: the host's setting is as it was", found)


def test_lines(b, image):
    pb = b.pb
    pod = b.pod("lines")
    evil = "/x\nevil::0:0::/:/bin/sh"
    id = pod.run("home", image, ["sleep", "600"], envs=[pb.KeyValue(key="HOME", value=evil.encode())])
    seen = text(pod, id, "cat /etc/passwd /etc/group")
    tap.check("evil" not in seen and seen.startswith("root:x:0:0"), "CVE-2022-4318, CVE-2026-15809: HOME puts no line into /etc/passwd", seen)
    for field in ("hostname", "log_directory"):
        config = bh.sandbox_config(b.c, "line", network="host")
        setattr(config, field, evil)
        e = bh.error_of(b.c.runtime.RunPodSandbox, pb.RunPodSandboxRequest(config=config))
        tap.check(refused(e, "INVALID_ARGUMENT"), "CVE-2022-4318: a line break in %s is refused" % field, said(e))
    config = bh.sandbox_config(b.c, "line", network="host", cgroup_parent="/a\n/b")
    e = bh.error_of(b.c.runtime.RunPodSandbox, pb.RunPodSandboxRequest(config=config))
    tap.check(refused(e, "INVALID_ARGUMENT"), "CVE-2024-3154: a line break in the cgroup parent is refused", said(e))
    pod.remove()


def memory_of(d):
    """Resident KiB of the daemon's processes together."""
    total = 0
    for pid in {p for ps in d.processes().values() for p in ps}:
        try:
            total += [int(x.split()[1]) for x in open("/proc/%d/status" % pid) if x.startswith("VmRSS")][0]
        except (OSError, IndexError):
            pass
    return total


def test_floods(b, image):
    pod = b.pod("flood")
    id = pod.run("f", image, ["sleep", "600"])
    e = pod.exec(id, "sh", "-c", "yes | head -c 40000000", timeout=60)
    tap.check(e.exit_code == 0 and len(e.stdout) == 16 << 20, "CVE-2022-31030: ExecSync keeps 16 MiB of 40 MB", len(e.stdout))
    before, fds = memory_of(b.d), descriptors(b.d)
    for _ in range(4):
        pod.exec(id, "sh", "-c", "yes | head -c 40000000", timeout=60)
    for _ in range(20):
        bh.error_of(pod.exec, id, "sleep", "631", timeout=1) if _ < 2 else pod.exec(id, "true")
        b.c.runtime.Exec(b.pb.ExecRequest(container_id=id, cmd=["cat"], stdin=True, stdout=True))
    settled = bh.wait_for(lambda: descriptors(b.d) <= fds, 10)
    tap.check(settled, "CVE-2022-23471, CVE-2025-64329: commands leave no descriptor behind", (fds, descriptors(b.d)))
    tap.check(memory_of(b.d) < before + (48 << 10), "CVE-2022-31030: and memory doesn't grow with them", (before, memory_of(b.d)))
    pod.remove()


def descriptors(d):
    total = 0
    for pid in {p for ps in d.processes().values() for p in ps}:
        try:
            total += len(os.listdir("/proc/%d/fd" % pid))
        except OSError:
            pass
    return total


def test_identity(b, image):
    pod = b.pod("groups")
    id = pod.run("g", image, ["sleep", "600"], linux=b.context(
        run_as_user=b.pb.Int64Value(value=1000), run_as_group=b.pb.Int64Value(value=2000), supplemental_groups=[3000]))
    groups = text(pod, id, "while read a b; do [ $a = Groups: ] && echo $b; done </proc/1/status; id -G").split()
    tap.check(set(groups) == {"2000", "3000"}, "CVE-2023-25173: the groups are those that were asked for, none of the daemon's", groups)
    seen = text(pod, id, "while read a b; do case $a in CapInh:|CapAmb:|CapEff:) echo $b;; esac; done </proc/self/status").split()
    tap.check(seen == ["0" * 16] * 3, "CVE-2022-24769, CVE-2022-27650: a user has no inheritable, ambient or effective capability", seen)
    root = pod.run("r", image, ["sleep", "600"])
    seen = text(pod, root, "while read a b; do [ $a = CapInh: ] && echo $b; done </proc/self/status").split()
    tap.check(seen == ["0" * 16], "CVE-2022-24769: nor has root any that is inheritable", seen)
    pod.remove()


def test_relabel(b, image):
    host = os.path.join(b.folder, "labelled")
    os.makedirs(host)
    try:
        os.setxattr(host, "security.selinux", b"host_t")
    except OSError as e:
        tap.skip("CVE-2021-43816", "no security attributes here: %s" % e)
        return
    pod = b.pod("relabel")
    e = bh.error_of(pod.run, "l", image, ["sleep", "600"],
                    mounts=[b.pb.Mount(container_path="/l", host_path=host, selinux_relabel=True)])
    tap.check(os.getxattr(host, "security.selinux") == b"host_t", "CVE-2021-43816: the host's files keep their labels: " + said(e))
    pod.remove()


# --- hostile neighbours ---

def readable_by_nobody(paths):
    """Which of the paths a user without rights can open, by trying."""
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        for p in paths:
            try:
                os.close(os.open(p, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
                os.write(w, p.encode() + b"\n")
            except OSError:
                pass
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        found = f.read().splitlines()
    os.waitpid(child, 0)
    return found


def test_state_folders(b, image):
    pod = b.pod("state", network="pod")
    id = pod.run("s", image, ["sleep", "600"])
    text(pod, id, "echo private > /tmp/private")
    paths = [os.path.join(folder, name) for top in (b.d.state, b.d.run)
             for folder, folders, files in os.walk(top) for name in folders + files]
    tap.check(len(paths) > 50, "the daemon has state to look at", len(paths))
    found = readable_by_nobody(paths)
    tap.check(not found, "CVE-2021-41103, CVE-2024-25621: another user of the host opens nothing of the daemon's state",
              "\n".join(found[:20]))
    pod.remove()


def main():
    with bh.Scratch() as folder:
        b = Bench(folder)
        try:
            image = b.image(layer((), PASSWD))
            before = bh.kernel_truth(b.d)
            test_own_program(b, image)
            test_sockets(b)
            test_descriptors(b, image)
            test_proc(b)
            test_dev(b)
            test_mount_targets(b, image)
            test_image_volumes(b)
            test_labels(b)
            test_users(b)
            test_files_of_the_pod(b)
            test_logs(b, image)
            test_digests(b)
            test_sysctls(b)
            test_lines(b, image)
            test_floods(b, image)
            test_identity(b, image)
            test_relabel(b, image)
            test_state_folders(b, image)
            left = bh.wait_for(lambda: bh.kernel_truth(b.d) == before, 5)
            tap.check(left, "nothing of all that is left", bh.differences(before, bh.kernel_truth(b.d)))
            tap.check(b.untouched(), "the host's file is as it was")
            tap.check(b.d.stop() == 0, "SIGTERM ends the daemon with success", b.d.log_tail())
        finally:
            if tap.failed:
                print("".join("# " + line + "\n" for line in b.d.log_tail(60).splitlines()))
            b.d.kill() if b.d.process.poll() is None else None
            b.registry.stop()
            b.d.remove_cgroups()
    tap.done()


main()
