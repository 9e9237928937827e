"""CheckpointContainer: the archive, what it says when it fails, that nothing is left and the container goes on. criu is
played by a program that the test writes; the real one is asked, too, where it works (BULKHEAD_TEST_CRIU, or on PATH)."""

import io
import json
import os
import signal
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
import grpc
from criu import Fake, fails, linux, real_criu, said, title

tap = bh.Tap()
Code = grpc.StatusCode

CHANGES = ("rm -rf /var /home; mkdir /home; echo new > /home/x; ln /home/x /tmp/y; ln -s /etc/passwd /tmp/s; rm /bin/wget; "
           "echo s > /tmp/suid; chmod 4711 /tmp/suid; mkfifo /tmp/pipe; n=$(printf '%0150d' 0); echo deep > /tmp/$n; : > /tmp/.wh.passwd; "
           "dd if=/dev/zero of=/tmp/sparse bs=1 count=1 seek=50000000 2>/dev/null; i=0; "
           "while :; do i=$((i+1)); echo $i; sleep 0.05; done")


class Env:
    """The daemon, and a container that counts."""

    def __init__(self, folder, registry, image, criu):
        self.folder, self.image = folder, image
        self.d = bh.Daemon(folder, settings=["criu=" + criu])
        self.d.start()
        self.c = self.d.client()
        self.pb = self.c.pb
        self.c.images.PullImage(self.pb.PullImageRequest(image=self.pb.ImageSpec(image=image)))
        self.pod = bh.Pod(self.d, self.c, "pod")
        self.id = self.pod.run("main", image, ["sh", "-c", CHANGES], linux=linux(self.pb))
        self.out = os.path.join(folder, "out")
        os.makedirs(self.out, exist_ok=True)
        bh.wait_for(lambda: self.count() > 2)

    def checkpoint(self, name="cp.tar", id=None, timeout=20, location=None):
        """The error or None."""
        q = self.pb.CheckpointContainerRequest(container_id=id or self.id, timeout=timeout,
                                               location=location or os.path.join(self.out, name))
        return bh.error_of(self.c.runtime.CheckpointContainer, q, timeout=60)

    def later(self, **more):
        """The same in a thread: join() gives its error."""
        result = []
        t = threading.Thread(target=lambda: result.append(self.checkpoint(**more)))
        t.start()

        def join():
            t.join(70)
            return result[0] if result else "no answer"
        return join

    def count(self):
        try:
            return int(self.pod.log("main")[-1][2])
        except (OSError, IndexError, ValueError):
            return 0

    def goes_on(self):
        n = self.count()
        return bh.wait_for(lambda: self.count() > n + 2, 5)

    def nothing_left(self):
        """No folder of criu's, within a moment."""
        place = os.path.join(self.d.state, "checkpoints")
        return bh.wait_for(lambda: not os.path.isdir(place) or os.listdir(place) == [], 5)

    def stop(self):
        self.pod.remove()
        self.d.stop()
        self.d.remove_cgroups()


# --- what is in the archive ---

def check_archive(env, path, what):
    with tarfile.open(path) as t:
        members = {m.name: m for m in t.getmembers()}
        text = {n: t.extractfile(n).read() for n in members if members[n].isfile()}
    mode = os.stat(path)
    tap.check(mode.st_mode & 0o777 == 0o600 and mode.st_uid == 0, what + ": root's, mode 0600", oct(mode.st_mode))
    expected = {"config.dump", "spec.dump", "status.dump", "rootfs-diff.tar", "container.log", "dump.log", "stats-dump",
                "checkpoint", "checkpoint/inventory.img", "checkpoint/pages-1.img"}
    tap.check(expected <= set(members), what + ": has what others write", sorted(members))
    strange = [n for n in members if n not in expected and not n.startswith("checkpoint/")]
    tap.check(strange == [], what + ": and nothing else", strange)
    config, spec, status = (json.loads(text[n]) for n in ("config.dump", "spec.dump", "status.dump"))
    tap.check(config["id"] == env.id and config["name"] == "main" and config["rootfsImage"] == env.image and
              config["rootfsImageRef"].startswith("sha256:") and config["restored"] is False,
              what + ": config.dump names container and image", config)
    a = spec["annotations"]
    tap.check(spec["ociVersion"][:2] == "1." and spec["process"]["args"][0] == "sh" and
              "/proc/kcore" in spec["linux"]["maskedPaths"] and a["io.kubernetes.cri.container-name"] == "main" and
              a["io.kubernetes.cri.sandbox-name"] == "pod" and a["io.kubernetes.cri.sandbox-namespace"] == "test",
              what + ": spec.dump is a runtime spec with the pod's name", spec)
    tap.check(status["id"] == env.id and status["state"] == 1 and status["created_at"] > 0,
              what + ": status.dump is its status", status)
    tap.check(text["container.log"].decode().splitlines()[0].endswith(" stdout F 1"), what + ": the log from its beginning")
    check_diff(text["rootfs-diff.tar"], what)


def check_diff(data, what):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        members = {m.name: m for m in t.getmembers()}
        x = t.extractfile("home/x").read()
        long = [m for m in members if m.startswith("tmp/000")]
        deep = t.extractfile(long[0]).read() if long else b""
    names = [members["tmp/y"], members["home/x"]]
    tap.check(x == b"new\n" and sorted(m.islnk() for m in names) == [False, True], what + ": a file and its second name")
    tap.check(members["tmp/s"].issym() and members["tmp/s"].linkname == "/etc/passwd" and members["tmp/pipe"].isfifo(),
              what + ": a symbolic link and a pipe")
    tap.check({".wh.var", "bin/.wh.wget", "home/.wh..wh..opq"} <= set(members), what + ": what was removed, as whiteouts",
              sorted(members))
    tap.check("tmp/.wh.passwd" not in members, what + ": no whiteout that the container has made up")
    tap.check(members["tmp/suid"].mode == 0o4711, what + ": a mode with its set-id bit")
    tap.check(len(long) == 1 and len(long[0]) == 154 and deep == b"deep\n", what + ": a name of 150 bytes")
    sparse = members["tmp/sparse"]
    tap.check(sparse.size == 50000001, what + ": a large file of nothing")


def test_archive(env, fake, what="archive"):
    error = env.checkpoint()
    path = os.path.join(env.out, "cp.tar")
    if not tap.check(error is None and os.path.exists(path), what + ": is made", said(error)):
        return
    disk = os.stat(path).st_blocks * 512
    tap.check(disk < 16 << 20, what + ": holes take no room", disk)
    check_archive(env, path, what)
    tap.check(env.goes_on(), what + ": the container goes on, and so does its log")
    tap.check(env.pod.exec(env.id, "echo", "hi").stdout == b"hi\n", what + ": commands run in it")
    tap.check(env.nothing_left(), what + ": criu's folder is gone")
    if fake:
        args = fake.args()
        tap.check(args[1] == "dump" and "--leave-running" in args and "mnt[/etc/hosts]:/etc/hosts" in args and
                  "mnt[/dev/shm]:/dev/shm" in args and not any(x.startswith("mnt[/]") for x in args),
                  what + ": what comes from outside is named to criu", args)
    error = env.checkpoint()
    tap.check(fails(error, Code.ALREADY_EXISTS, "cp.tar"), what + ": an archive is never written over", said(error))
    error = env.checkpoint("second.tar", id=env.id[:12])
    tap.check(error is None, what + ": a second one, by the id's beginning", said(error))
    os.unlink(path)
    os.unlink(os.path.join(env.out, "second.tar"))


# --- what it says ---

def test_errors(env, fake):
    pb = env.pb
    cases = [
        ("no container", dict(id="f" * 64), Code.NOT_FOUND, "f" * 16),
        ("relative", dict(location="x.tar"), Code.INVALID_ARGUMENT, "absolute"),
        ("dots", dict(location="/tmp/../x.tar"), Code.INVALID_ARGUMENT, "location"),
        ("a folder", dict(location=env.out + "/"), Code.INVALID_ARGUMENT, "file"),
        ("no folder", dict(location=env.out + "/no/x.tar"), Code.FAILED_PRECONDITION, "No such file"),
        ("in a file", dict(location="/etc/passwd/x.tar"), Code.FAILED_PRECONDITION, "Not a directory"),
        ("negative time", dict(timeout=-1), Code.INVALID_ARGUMENT, "timeout"),
    ]
    for name, more, code, text in cases:
        error = env.checkpoint(**more)
        tap.check(fails(error, code, text), "errors: " + name, said(error))
    dead = env.pod.run("dead", env.image, ["true"], linux=linux(pb))
    env.pod.wait(dead)
    made = env.pod.create("made", env.image, ["true"], linux=linux(pb))
    for name, id in (("ended", dead), ("never started", made)):
        error = env.checkpoint(id=id)
        tap.check(fails(error, Code.FAILED_PRECONDITION, "isn't running"), "errors: " + name, said(error))
    shared = env.pod.run("shared", env.image, ["sleep", "100"], linux=linux(pb, pid=pb.POD))
    error = env.checkpoint(id=shared)
    tap.check(fails(error, Code.UNIMPLEMENTED, "share process ids"), "errors: shared process ids", said(error))
    terminal = env.pod.run("terminal", env.image, ["sleep", "100"], linux=linux(pb), tty=True)
    error = env.checkpoint(id=terminal)
    tap.check(fails(error, Code.UNIMPLEMENTED, "terminal"), "errors: a terminal", said(error))
    for id in (shared, terminal):
        env.c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=0))

    fake.mode("fail")
    error = env.checkpoint()
    tap.check(fails(error, Code.UNKNOWN, "reason 2", "reason 3", "reason 4") and "reason 1" not in error.details(),
              "errors: criu's last words", said(error))
    fake.mode("silent")
    error = env.checkpoint()
    tap.check(fails(error, Code.UNKNOWN, "status 3"), "errors: criu says nothing", said(error))
    fake.mode("link")
    error = env.checkpoint()
    tap.check(error is not None and "archive" in error.details(), "errors: a link among the images isn't followed",
              said(error))
    os.chmod(fake.path, 0o644)
    error = env.checkpoint()
    os.chmod(fake.path, 0o755)
    tap.check(fails(error, Code.FAILED_PRECONDITION, "install criu", fake.path), "errors: there is no criu", said(error))
    tap.check(os.listdir(env.out) == [] and env.nothing_left(), "errors: nothing is left", os.listdir(env.out))
    tap.check(env.goes_on(), "errors: the container goes on")


def test_time(env, fake):
    fake.mode("hang")
    begun = time.monotonic()
    error = env.checkpoint(timeout=1)
    took = time.monotonic() - begun
    tap.check(fails(error, Code.DEADLINE_EXCEEDED) and took < 5, "time: is over after a second", (said(error), took))
    error = env.checkpoint()
    tap.check(fails(error, Code.ABORTED, "under way"), "time: no second one while criu is still there", said(error))
    gone = bh.wait_for(lambda: env.nothing_left(), 15)
    tap.check(gone and os.listdir(env.out) == [], "time: a criu that hangs is killed, nothing is left")
    # The program that was killed couldn't do what the kernel does when a tracer dies.
    env.c.runtime.ExecSync(env.pb.ExecSyncRequest(container_id=env.id, cmd=["true"], timeout=5))
    resume(env)
    tap.check(env.goes_on(), "time: the container goes on")

    fake.mode("slow")
    join = env.later()
    fake.reached()
    error = env.checkpoint("other.tar")
    tap.check(fails(error, Code.ABORTED, "under way"), "time: one at a time", said(error))
    tap.check(join() is None, "time: the first is none the worse for it")
    os.unlink(os.path.join(env.out, "cp.tar"))

    fake.mode("slow")
    q = env.pb.CheckpointContainerRequest(container_id=env.id, location=os.path.join(env.out, "cp.tar"), timeout=20)
    error = bh.error_of(env.c.runtime.CheckpointContainer, q, timeout=0.7)
    tap.check(fails(error, Code.DEADLINE_EXCEEDED), "time: the client gives up", said(error))
    tap.check(env.nothing_left() and env.goes_on() and os.listdir(env.out) == [],
              "time: then there is no archive, and the container goes on", os.listdir(env.out))


def resume(env):
    for p in bh.pids():
        try:
            with open("/proc/%d/stat" % p) as f:
                stopped = f.read().rsplit(")", 1)[1].split()[0] == "T"
        except OSError:
            continue
        if stopped:
            os.kill(p, signal.SIGCONT)


# --- who dies in the middle ---

def test_criu_dies(env, fake):
    fake.mode("slow")
    join = env.later()
    fake.reached()
    with open(os.path.join(fake.folder, "reached")) as f:
        os.kill(int(f.read()), signal.SIGKILL)
    error = join()
    resume(env)
    tap.check(fails(error, Code.UNKNOWN, "signal 9") and env.nothing_left() and os.listdir(env.out) == [],
              "crash: criu itself is killed", said(error))
    tap.check(env.goes_on(), "crash: the container goes on without criu")


def real_criu_dies(env):
    """At moments from its start on: the kernel lets go of what it traces."""
    for delay in (0.02, 0.05, 0.08, 0.12):
        join = env.later()
        found = bh.wait_for(lambda: [p for p in bh.pids() if "--leave-running" in title(p)], 5, 0.002)
        time.sleep(delay)
        for pid in found or []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was faster
        error = join()
        tap.check(env.goes_on() and env.nothing_left() and os.listdir(env.out) == ([] if error else ["cp.tar"]),
                  "real criu: killed after %g s, and the container goes on" % delay, said(error))
        if error is None:
            os.unlink(os.path.join(env.out, "cp.tar"))


def test_crashes(env, fake):
    test_criu_dies(env, fake)
    for name in ("metadata", "task", "snapshot", "api", "pod-keeper"):
        fake.mode("slow")
        join = env.later()
        fake.reached()
        for pid in env.d.processes()[name]:
            os.kill(pid, signal.SIGKILL)
        error = join()
        if name == "task" and error is None:
            os.unlink(os.path.join(env.out, "cp.tar"))  # the keeper was found again in time
        else:
            tap.check(hasattr(error, "code") and error.code() in (Code.UNAVAILABLE, Code.ABORTED, Code.CANCELLED),
                      "crash: the call fails with " + name, said(error))
        env.d.ready()
        tap.check(env.goes_on(), "crash: the container goes on without " + name)
        fake.mode("well")
        error = None
        def again():
            nonlocal error
            error = env.checkpoint()
            return error is None
        tap.check(bh.wait_for(again, 30, 0.3), "crash: the next one works after " + name, said(error))
        tap.check(os.listdir(env.out) == ["cp.tar"] and env.nothing_left(), "crash: nothing is left by " + name,
                  (os.listdir(env.out), os.listdir(os.path.join(env.d.state, "checkpoints"))))
        if os.path.exists(os.path.join(env.out, "cp.tar")):
            os.unlink(os.path.join(env.out, "cp.tar"))
    test_daemon_dies(env, fake)
    other = env.pod.run("other", env.image, ["sleep", "1000"], linux=linux(env.pb))
    fake.mode("slow")
    join = env.later(id=other)
    fake.reached()
    env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=other, timeout=0))
    env.c.runtime.RemoveContainer(env.pb.RemoveContainerRequest(container_id=other))
    error = join()
    tap.check(hasattr(error, "code") and env.nothing_left() and os.listdir(env.out) == [],
              "crash: the container is removed meanwhile", (said(error), os.listdir(env.out)))


def test_daemon_dies(env, fake):
    """And with it the keeper: what its criu leaves is swept by the next start. Nobody has the container's streams then."""
    pod = bh.Pod(env.d, env.c, "short")
    id = pod.run("short", env.image, ["sleep", "1000"], linux=linux(env.pb))
    before = env.d.processes()["pod-keeper"]
    keepers = [k for k in before if pod.id[:12] in title(k)]
    fake.mode("slow")
    join = env.later(id=id)
    fake.reached()
    env.d.kill()
    for keeper in keepers:
        os.kill(keeper, signal.SIGKILL)
    join()
    with open(os.path.join(fake.folder, "reached")) as f:
        pid = int(f.read())
    left = os.listdir(os.path.join(env.d.state, "checkpoints"))
    tap.check(len(keepers) == 1 and left == [id], "crash: the folder is there as long as criu is",
              ([title(k) for k in before], left))
    bh.wait_for(lambda: not os.path.exists("/proc/%d/exe" % pid), 10)
    env.d.start()
    tap.check(env.nothing_left() and os.listdir(env.out) == [], "crash: a new daemon sweeps what was left")
    tap.check(env.goes_on(), "crash: another pod's container goes on")
    pod.remove()


# --- the real one ---

def test_real(folder, registry, image):
    path, why = real_criu()
    if not path:
        tap.skip("real criu", why)
        return
    env = Env(folder, registry, image, path)
    test_archive(env, None, "real criu")
    real_criu_dies(env)
    env.stop()


with bh.Scratch() as folder:
    registry = bh.Registry(folder)
    bh.push(bh.make_image(folder, "bb"), registry, "bb:1")
    image = registry.host + "/bb:1"
    fake = Fake(folder)
    one = os.path.join(folder, "one")
    os.makedirs(one)
    env = Env(one, registry, image, fake.path)
    test_archive(env, fake)
    test_errors(env, fake)
    test_time(env, fake)
    test_crashes(env, fake)
    env.stop()
    two = os.path.join(folder, "two")
    os.makedirs(two)
    test_real(two, registry, image)
    registry.stop()
tap.done()
