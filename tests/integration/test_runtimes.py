"""Pods run by OCI runtimes, each that is installed: their life, and that nothing of it is left. A runtime that doesn't
work on this machine by itself is skipped with what it says."""

import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import streaming as st

bh.isolate()
tap = bh.Tap()
RUNTIMES = {name: shutil.which(name) for name in ("runc", "crun")}


class RuntimePod(bh.Pod):
    def __init__(self, d, c, name, handler, **more):
        self.daemon, self.client, self.containers = d, c, []
        self.config = bh.sandbox_config(c, name, log_directory=d.logs, **more)
        self.id = c.runtime.RunPodSandbox(
            c.pb.RunPodSandboxRequest(config=self.config, runtime_handler=handler)).pod_sandbox_id


def read(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def pid_of(tag):
    found = bh.wait_for(lambda: [p for p in bh.pids() if tag in read("/proc/%d/cmdline" % p) and
                                 "bulkhead" not in read("/proc/%d/comm" % p)], 5)
    return found[0] if found else None


def linux(pb, **more):
    options = pb.NamespaceOption(pid=more.pop("pid", pb.CONTAINER))
    resources = more.pop("resources", None)
    return pb.LinuxContainerConfig(resources=resources,
                                   security_context=pb.LinuxContainerSecurityContext(namespace_options=options, **more))


def test_life(d, c, pb, image, handler):
    pod = RuntimePod(d, c, "life-" + handler, handler)
    status = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    tap.check(status.runtime_handler == handler, handler + ": the pod's status names the handler", status)
    volume = os.path.join(d.folder, "volume-" + handler)
    os.makedirs(volume)
    tag = "marker-" + handler
    id = pod.run("main", image, ["sh", "-c", "echo out; echo err >&2; id; echo v > /vol/x; trap 'exit 7' TERM; "
                                 "while :; do sleep 0.1; done", tag],
                 linux=linux(pb, run_as_username="www", seccomp=pb.SecurityProfile(
                     profile_type=pb.SecurityProfile.RuntimeDefault)),
                 mounts=[pb.Mount(container_path="/vol", host_path=volume)] if os.chmod(volume, 0o777) is None else [])
    pid = pid_of(tag)
    proc = read("/proc/%s/status" % pid)
    tap.check(pid and "Seccomp:\t2" in proc and "Uid:\t33" in proc and "/life-" not in proc,
              handler + ": runs as the image's user with a filter", proc)
    keeper = [p for p in d.processes()["pod-keeper"]]
    tap.check([k for k in keeper if bh.namespace(k, "net") == bh.namespace(pid, "net")] and
              bh.namespace(pid, "mnt") not in [bh.namespace(k, "mnt") for k in keeper],
              handler + ": in the pod's network namespace, with mounts of its own")
    tap.check("%s/%s" % (pod.id, id) in read("/proc/%s/cgroup" % pid), handler + ": in the cgroup of native containers",
              read("/proc/%s/cgroup" % pid))
    bh.wait_for(lambda: len(pod.log("main")) >= 3, 5)
    log = pod.log("main")
    tap.check(("stdout", "F", "out") in log and ("stderr", "F", "err") in log and
              any(t.startswith("uid=33(www) gid=34(www) groups=") and "77(extra)" in t for _, _, t in log),
              handler + ": output and ids in the log", log)
    tap.check(bh.wait_for(lambda: os.path.exists(volume + "/x"), 5), handler + ": the volume is the host's folder")
    r = pod.exec(id, "sh", "-c", "echo hello; echo bad >&2; exit 5")
    tap.check((r.stdout, r.stderr, r.exit_code) == (b"hello\n", b"bad\n", 5), handler + ": ExecSync", r)
    r = pod.exec(id, "cat", "/proc/1/cmdline", "/etc/hostname")
    tap.check(tag.encode() in r.stdout and ("life-" + handler).encode() in r.stdout,
              handler + ": a command sees the container's processes and the pod's name", r)
    e = bh.error_of(pod.exec, id, "sleep", "30", timeout=1)
    tap.check(e is not None and "DEADLINE" in str(e.code()) and
              bh.wait_for(lambda: not [p for p in bh.pids() if read("/proc/%d/cmdline" % p) == "sleep\x0030\x00"], 5),
              handler + ": a command that takes too long is killed", e)
    e = bh.error_of(pod.exec, id, "/no/such/program")
    tap.check(e is not None and "/no/such/program" in e.details() and handler in e.details(),
              handler + ": what the runtime says is the error", e)
    stats = c.runtime.ContainerStats(pb.ContainerStatsRequest(container_id=id)).stats
    tap.check(stats.cpu.usage_core_nano_seconds.value > 0 and stats.memory.usage_bytes.value > 0,
              handler + ": statistics", stats)
    began = time.monotonic()
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=10))
    s = pod.status(id).status
    tap.check(s.exit_code == 7 and time.monotonic() - began < 5, handler + ": stopped by its signal, exit code 7", s)
    bad = pod.create("bad", image, ["/no/such"], linux=linux(pb))
    e = bh.error_of(c.runtime.StartContainer, pb.StartContainerRequest(container_id=bad))
    tap.check(e is not None and "/no/such" in e.details(), handler + ": a program that isn't there is named", e)
    oom = pod.run("oom", image, ["sh", "-c", "tail /dev/zero"],
                  linux=linux(pb, resources=pb.LinuxContainerResources(memory_limit_in_bytes=16 << 20,
                                                                      memory_swap_limit_in_bytes=16 << 20)))
    s = pod.wait(oom)
    tap.check(s is not None and s.reason == "OOMKilled" and s.exit_code == 137, handler + ": OOM is told", s)
    tty = pod.run("tty", image, ["sh", "-c", "tty; sleep 60"], tty=True, stdin=True, linux=linux(pb))
    tap.check(bh.wait_for(lambda: any("/dev/pts/" in t or "/dev/console" in t for _, _, t in pod.log("tty")), 5), handler + ": a terminal",
              pod.log("tty"))
    test_image_volumes(c, pb, image, pod, handler)
    pod.remove()


def test_image_volumes(c, pb, image, pod, handler):
    spec = pb.ImageSpec(image=image)
    mounts = [pb.Mount(container_path="/image", image=spec, image_sub_path="etc", readonly=True),
              pb.Mount(container_path="/one", image=spec, image_sub_path="etc/group", readonly=True)]
    id = pod.run("volumes", image, ["sleep", "60"], linux=linux(pb), mounts=mounts)
    r = pod.exec(id, "sh", "-c", "cmp /image/passwd /etc/passwd && cmp /one /etc/group && ! touch /image/new && "
                 "grep ' /image ro,nosuid,nodev' /proc/self/mountinfo && grep ' /one ro,nosuid,nodev' /proc/self/mountinfo")
    tap.check(r.exit_code == 0, handler + ": volumes from images, a folder and a file", r)
    tap.check(not any("overlay" in line for line in read("/proc/self/mountinfo").splitlines()),
              handler + ": which the host doesn't see")
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=0))


def test_privileged(d, c, pb, image, handler):
    pod = RuntimePod(d, c, "priv-" + handler, handler, privileged=True)
    id = pod.run("p", image, ["sleep", "60"], linux=linux(pb, privileged=True))
    r = pod.exec(id, "sh", "-c", "ls -l /dev/full; grep CapEff /proc/self/status")
    own = [l.split()[1] for l in read("/proc/self/status").splitlines() if l.startswith("CapEff")][0]
    tap.check(b"/dev/full" in r.stdout and own.encode() in r.stdout, handler + ": a privileged container has all there is", r)
    pod.remove()


def test_crashes(d, c, pb, image, handler):
    pod = RuntimePod(d, c, "crash-" + handler, handler)
    tag = "marker-crash-" + handler
    id = pod.run("main", image, ["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done", tag], linux=linux(pb))
    pid = pid_of(tag)
    for what in ("task", "pod-keeper"):
        old = d.processes()[what]
        for p in old:
            os.kill(p, signal.SIGKILL)
        bh.wait_for(lambda: d.processes().get(what) not in (None, old), 10)
        r = bh.wait_for(lambda: not bh.error_of(pod.exec, id, "true") and pod.exec(id, "echo", "alive"), 10)
        tap.check(r and r.stdout == b"alive\n" and os.path.isdir("/proc/%d" % pid),
                  "%s: runs on and takes commands after kill -9 of %s" % (handler, what), r)
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=10))
    tap.check(pod.status(id).status.exit_code == 9, handler + ": its exit code is known to the successor", pod.status(id).status)
    again = pod.run("again", image, ["sh", "-c", "exit 3"], linux=linux(pb))
    s = pod.wait(again)
    tap.check(s is not None and s.exit_code == 3, handler + ": the successor makes containers, too", s)
    pod.run("left", image, ["sleep", "60"], linux=linux(pb))
    for p in d.processes()["pod-keeper"]:
        os.kill(p, signal.SIGKILL)
    pod.remove()


FAKES = {
    "bare": """echo '{"ociVersionMin": "1.0.0"}'""",
    "full": """echo '{"mountOptions": ["ro", "rro"], "linux": {"namespaces": ["pid", "user"]}}'""",
    "garbage": """echo '{"mountOptions": ["rro"'""",
    "flood": """yes '"rro",'""",
    "hangs": """echo '{"mountOptions": ["rro"]}'; sleep 1000""",
    # Answers only without any privilege and with nobody to talk to.
    "jailed": """[ "$(id -u):$(id -g):$(id -G)" = 65534:65534:65534 ] || exit 1
grep -q '^CapEff:.0*$' /proc/self/status && grep -q '^NoNewPrivs:.1' /proc/self/status || exit 1
[ "$(grep -c : /proc/net/dev)" = 1 ] || exit 1
[ "$(ls /proc/self/fd | wc -l)" = 4 ] || exit 1
echo '{"mountOptions": ["rro"]}'""",
}
WITH_RRO = {"full", "jailed"}


def fake_runtimes(folder):
    for name, script in FAKES.items():
        with open(os.path.join(folder, "fake-" + name), "w") as f:
            f.write("#!/bin/sh\n[ $1 = features ] || exit 1\n" + script + "\n")
        os.chmod(f.name, 0o755)
    return ["runtime.fake-%s=%s/fake-%s" % (n, folder, n) for n in FAKES]


def test_features(d, c, pb, found):
    def features():
        return {h.name: h.features for h in c.runtime.Status(pb.StatusRequest()).runtime_handlers}
    ready = bh.wait_for(lambda: all(features()["fake-" + n].recursive_read_only_mounts for n in WITH_RRO), 10)
    told = {n for n in FAKES if features()["fake-" + n].recursive_read_only_mounts}
    tap.check(ready and told == WITH_RRO, "features are what a runtime says without any privilege", told)
    unknown = lambda: {n for n in FAKES if "features aren't known\" runtime=fake-%s " % n in d.log_tail(400)}
    tap.check(bh.wait_for(lambda: unknown() == {"garbage", "flood", "hangs"}, 10), "one that can't be asked is in the log",
              (unknown(), d.log_tail()))
    hanging = lambda: [p for p in bh.pids() if read("/proc/%d/cmdline" % p) == "sleep\x001000\x00"]
    tap.check(bh.wait_for(lambda: not hanging(), 5), "and what hangs is ended", hanging())
    if "runc" in found:
        tap.check(features()["runc"].recursive_read_only_mounts, "runc: mounts that are read-only all the way down")
    old = d.processes()["keeper"]
    for p in old:
        os.kill(p, signal.SIGKILL)
    tap.check(bh.wait_for(lambda: d.processes().get("keeper") not in (None, old), 10) and
              bh.wait_for(lambda: features()["fake-full"].recursive_read_only_mounts, 10), "asked again when the zygote was replaced")
    bh.wait_for(lambda: not hanging(), 10)


def test_read_only(d, c, pb, image, handler):
    volume = os.path.join(d.folder, "rro-" + handler)
    os.makedirs(volume + "/below")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume + "/below"], check=True)
    pod = RuntimePod(d, c, "rro-" + handler, handler)
    for recursive, expected in ((False, b"written\n"), (True, b"refused\n")):
        id = pod.run("main%d" % recursive, image, ["sleep", "60"], linux=linux(pb), mounts=[pb.Mount(
            container_path="/vol", host_path=volume, readonly=True, recursive_read_only=recursive)])
        r = pod.exec(id, "sh", "-c", "touch /vol/x 2>/dev/null && echo top; touch /vol/below/x 2>/dev/null && echo written || echo refused")
        tap.check(r.stdout == expected, "%s: a read-only mount, recursive: %s" % (handler, recursive), r)
    pod.remove()
    subprocess.run(["umount", volume + "/below"], check=True)


def truth(d):
    """A worker that was replaced has a network namespace of its own: how many there are is what counts."""
    found = bh.kernel_truth(d)
    found["netns"] = ["namespace"] * len(found["netns"])
    return found


def works(d, c, pb, image, handler):
    """Not every version of a runtime takes every layout of control groups."""
    pod = RuntimePod(d, c, "probe-" + handler, handler)
    id = pod.create("probe", image, ["true"], linux=linux(pb))
    e = bh.error_of(c.runtime.StartContainer, pb.StartContainerRequest(container_id=id))
    pod.remove()
    return "" if e is None else e.details()


def leave_hybrid():
    """crun wants control groups of one version: in this program's own mounts those of v2 go."""
    unified = "/sys/fs/cgroup/unified"
    if os.path.ismount(unified):
        subprocess.run(["umount", unified], check=True)


class Running:
    """A daemon with runtimes, and what it has said when a check of it failed."""

    def __init__(self, folder, settings):
        self.daemon = bh.Daemon(folder, settings=settings)
        self.failed = tap.failed

    def __enter__(self):
        self.client = self.daemon.start().client()
        return self.daemon, self.client, self.client.pb

    def __exit__(self, *exc):
        if tap.failed > self.failed:
            print("# " + self.daemon.log_tail(60).replace("\n", "\n# "))
        self.client.close()
        self.daemon.stop()
        self.daemon.remove_cgroups()


def lingering(folder, handler, path):
    """The runtime, but what it has executed is over before it is, and so is a child that it leaves: the setting."""
    program = os.path.join(folder, "lingering-" + handler)
    with open(program, "w") as f:
        f.write('#!/bin/sh\n%s "$@"\nr=$?\ncase " $* " in *" exec "*) (sleep 0.01 &); sleep 0.05;; esac\nexit $r\n' % path)
    os.chmod(program, 0o755)
    return "runtime.lingers=" + program


def unreaped(keepers):
    """Children of these that have ended and nobody has asked for."""
    found = []
    for p in bh.pids():
        stat = read("/proc/%d/stat" % p).rsplit(")", 1)[-1].split()
        if stat[:1] == ["Z"] and int(stat[1]) in keepers:
            found.append(p)
    return found


def test_short_commands(d, c, pb, image, handler):
    pod = RuntimePod(d, c, "short-" + handler, "lingers")
    id = pod.run("main", image, ["sleep", "1000"], linux=linux(pb))
    seen = []
    for i in range(30):
        tty = i % 3 == 0
        url = c.runtime.Exec(pb.ExecRequest(container_id=id, cmd=["sh", "-c", "echo %d; exit 5" % i], stdout=True,
                                            stderr=not tty, tty=tty)).url
        r = st.RemoteSpdy(url, stderr=not tty, tty=tty)
        end = r.end()
        seen.append((i, end and st.exit_code(end), r.out().strip(), end))
        r.close()
    wrong = [s for s in seen if s[1:3] != (5, b"%d" % s[0])]
    tap.check(wrong == [], handler + ": commands that end before the runtime does are heard and have their codes", wrong[:3])
    keepers = d.processes()["pod-keeper"]
    tap.check(bh.wait_for(lambda: not unreaped(keepers), 3), handler + ": and nobody is left unreaped", unreaped(keepers))
    pod.remove()


def test_handler(folder, image, handler, path):
    settings = ["runtime.%s=%s" % (handler, path), lingering(folder, handler, path)]
    with Running(os.path.join(folder, handler), settings) as (d, c, pb):
        c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
        before = truth(d)
        why = works(d, c, pb, image, handler)
        if why and handler != "runc" and "cgroup" in why:
            tap.skip(handler, why)
        else:
            tap.check(not why, handler + ": runs a container", why)
            test_life(d, c, pb, image, handler)
            test_short_commands(d, c, pb, image, handler)
            test_privileged(d, c, pb, image, handler)
            test_read_only(d, c, pb, image, handler)
            test_crashes(d, c, pb, image, handler)
        same = bh.wait_for(lambda: truth(d) == before, 10)
        tap.check(same, handler + ": nothing is left", bh.differences(before, truth(d)))


def test_names(d, c, pb, found):
    handlers = c.runtime.Status(pb.StatusRequest()).runtime_handlers
    names = [h.name for h in handlers if not h.name.startswith("fake-")]
    tap.check(names == ["", "native"] + list(found), "Status lists the handlers", names)
    tap.check(handlers[0].features == handlers[1].features and handlers[0].features.recursive_read_only_mounts,
              "the native one by both of its names", handlers)
    e = bh.error_of(RuntimePod, d, c, "unknown", "nothing")
    tap.check(e is not None and "INVALID_ARGUMENT" in str(e.code()) and
              all('"%s"' % n in e.details() for n in ["nothing", "native"] + list(found)),
              "an unknown handler is refused, the configured ones are named", e)


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        image = registry.host + "/test/busybox:1"
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        found = {n: p for n, p in RUNTIMES.items() if p}
        settings = ["runtime.%s=%s" % item for item in found.items()] + fake_runtimes(folder)
        with Running(os.path.join(folder, "all"), settings) as (d, c, pb):
            test_names(d, c, pb, found)
            test_features(d, c, pb, found)
        for handler in RUNTIMES:
            if handler not in found:
                tap.skip(handler, "not installed")
                continue
            if handler == "crun":
                leave_hybrid()
            test_handler(folder, image, handler, found[handler])
        registry.stop()
    tap.done()


main()
