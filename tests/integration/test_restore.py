"""CreateContainer and StartContainer of containers that are restored from checkpoints: what criu is given, which archives
are refused, that nothing is left when something dies in the middle. criu is played by a program; the real one goes on
counting where the container was (BULKHEAD_TEST_CRIU, or on PATH)."""

import os
import shutil
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
import grpc
from criu import Fake, fails, linux, real_criu, said, title

tap = bh.Tap()
Code = grpc.StatusCode
COUNT = ["sh", "-c", "rm -rf /var /home; mkdir /home; echo new > /home/x; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"]


class Env:
    """The daemon, a container that counts, and its checkpoint."""

    def __init__(self, folder, image, criu):
        os.makedirs(folder)
        self.folder, self.image = folder, image
        self.d = bh.Daemon(folder, settings=["criu=" + criu])
        self.d.start()
        self.connect()
        self.pull()
        self.pod = bh.Pod(self.d, self.c, "pod")
        self.id = self.pod.run("main", image, COUNT, linux=linux(self.pb))
        self.archive = os.path.join(folder, "cp.tar")
        bh.wait_for(lambda: count(self.pod, "main") > 2)
        self.checkpoint(self.id, self.archive)
        self.before = count(self.pod, "main")
        self.number = 0

    def connect(self):
        self.c = self.d.client()
        self.pb = self.c.pb

    def pull(self):
        self.c.images.PullImage(self.pb.PullImageRequest(image=self.pb.ImageSpec(image=self.image)))

    def checkpoint(self, id, location):
        q = self.pb.CheckpointContainerRequest(container_id=id, location=location, timeout=20)
        self.c.runtime.CheckpointContainer(q)

    def create(self, archive=None, **more):
        """A name and an id, or a name and the error."""
        self.number += 1
        name = "r%d" % self.number
        security = more.pop("security", None) or linux(self.pb)
        try:
            return name, self.pod.create(name, archive or self.archive, [], linux=security, **more)
        except grpc.RpcError as e:
            return name, e

    def start(self, id):
        return bh.error_of(self.c.runtime.StartContainer, self.pb.StartContainerRequest(container_id=id), timeout=60)

    def remove(self, id):
        self.c.runtime.RemoveContainer(self.pb.RemoveContainerRequest(container_id=id))

    def nothing_left(self, id):
        """Neither a folder of criu's nor a process of the container's, within a moment."""
        place = os.path.join(self.d.state, "checkpoints")
        return bh.wait_for(lambda: os.listdir(place) == [] and not processes(id), 10)

    def layers(self):
        return len([x for x in os.listdir(os.path.join(self.d.state, "layers")) if x[0] != "."])

    def stop(self):
        self.pod.remove()
        self.d.stop()
        self.d.remove_cgroups()


def count(pod, name):
    try:
        return int(pod.log(name)[-1][2])
    except (OSError, IndexError, ValueError):
        return 0


def processes(id):
    found = []
    for p in bh.pids():
        try:
            with open("/proc/%d/cgroup" % p) as f:
                if id in f.read() and state(p) != "Z":
                    found.append(p)
        except OSError:
            pass
    return found


# --- what criu is given ---

def test_restore(env, fake):
    before = env.layers()
    name, id = env.create()
    if not tap.check(isinstance(id, str), "restore: an archive is taken as an image", said(id)):
        return
    error = env.start(id)
    tap.check(error is None, "restore: it is started", said(error))
    tap.check(bh.wait_for(lambda: count(env.pod, name) > 1001), "restore: its output is in the new container's log")
    status = env.pod.status(id).status
    tap.check(status.state == env.pb.CONTAINER_RUNNING and status.image_id.startswith("sha256:"),
              "restore: ContainerStatus says that it runs, and its image", status)
    with open(os.path.join(fake.folder, "seen")) as f:
        images, pipe, x, var, hosts, namespace, cgroup = f.read().split("\n", 6)
    tap.check(images == "images of", "restore: criu has the images of the checkpoint", images)
    tap.check(pipe.startswith("pipe:[") and pipe != "pipe:[0]", "restore: and the number of the pipe that was", pipe)
    tap.check(x == "new" and var == "False", "restore: the root is as the container had left it", (x, var))
    tap.check(hosts == "True", "restore: the new pod's files are mounted")
    tap.check(namespace != os.readlink("/proc/self/ns/cgroup"), "restore: in a cgroup namespace of its own")
    tap.check(processes(id) != [], "restore: in the new container's control group")
    args = fake.args()
    root = args[args.index("--root") + 1]
    tap.check("mnt[/etc/hosts]:%s/etc/hosts" % root in args and "mnt[/dev/shm]:%s/dev/shm" % root in args,
              "restore: what comes from outside is the request's", args)
    tap.check("--tcp-established" not in args and "--shell-job" not in args and "--restore-detached" in args,
              "restore: nothing more is allowed to criu", args)
    tap.check(os.listdir(os.path.join(env.d.state, "checkpoints")) == [], "restore: criu's folder is gone")
    env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=id, timeout=0))
    status = env.pod.status(id).status
    tap.check(status.exit_code == 137, "restore: its end is seen", status)
    tap.check(unreaped(env) == [], "restore: nobody is left unreaped", unreaped(env))
    env.remove(id)
    tap.check(bh.wait_for(lambda: env.layers() == before, 10), "restore: its layers go with it", (before, env.layers()))


def stat_of(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()
    except OSError:
        return ["", "0"]


def state(pid):
    return stat_of(pid)[0]


def unreaped(env):
    """What is dead and whose parent is the daemon's, after a moment."""
    daemon = [p for ps in env.d.processes().values() for p in ps]
    def dead():
        return [p for p in bh.pids() if state(p) == "Z" and int(stat_of(p)[1]) in daemon]
    bh.wait_for(lambda: not dead(), 3)
    return dead()


# --- what is refused ---

def changed_copy(env, name, change):
    path = os.path.join(env.folder, name)
    shutil.copy(env.archive, path)
    with open(path, "r+b") as f:
        change(f)
    return path


def flip(f):
    data = f.read()
    at = data.index(b"images of ")
    f.seek(at)
    f.write(b"IMAGES")


def test_foreign(env):
    cases = [("one byte changed", changed_copy(env, "flipped.tar", flip)),
             ("something behind its end", changed_copy(env, "longer.tar", lambda f: (f.seek(0, 2), f.write(b"\0" * 512)))),
             ("cut off", changed_copy(env, "shorter.tar", lambda f: f.truncate(10240)))]
    for what, path in cases:
        _, error = env.create(path)
        tap.check(fails(error, Code.FAILED_PRECONDITION, "wasn't made here", path), "foreign: " + what, said(error))
    os.mkfifo(os.path.join(env.folder, "fifo"))
    os.symlink(env.archive, os.path.join(env.folder, "link"))
    for what, path, code, text in (
            ("no file", env.folder + "/none.tar", Code.NOT_FOUND, "No such file"),
            ("a folder", env.folder, Code.INVALID_ARGUMENT, "regular file"),
            ("a fifo", env.folder + "/fifo", Code.INVALID_ARGUMENT, "regular file"),
            ("a device", "/dev/zero", Code.INVALID_ARGUMENT, "regular file"),
            ("a link to it", env.folder + "/link", Code.INVALID_ARGUMENT, "symbolic")):
        _, error = env.create(path)
        tap.check(fails(error, code, text), "foreign: " + what, said(error))
    copy = changed_copy(env, "copy.tar", lambda f: None)
    name, id = env.create(copy)
    tap.check(isinstance(id, str), "foreign: an exact copy is the same checkpoint", said(id))
    env.remove(id)


def with_security(pb, **more):
    q = linux(pb)
    for key, value in more.items():
        getattr(q.security_context, key).CopyFrom(value) if hasattr(value, "DESCRIPTOR") else \
            setattr(q.security_context, key, value)
    return q


def test_privileges(env):
    pb = env.pb
    masked = linux(pb)
    del masked.security_context.masked_paths[:]
    cases = [
        ("more capabilities", dict(security=with_security(pb, capabilities=pb.Capability(add_capabilities=["SYS_ADMIN"])))),
        ("fewer capabilities", dict(security=with_security(pb, capabilities=pb.Capability(drop_capabilities=["KILL"])))),
        ("no seccomp", dict(security=with_security(pb, seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)))),
        ("another user", dict(security=with_security(pb, run_as_user=pb.Int64Value(value=1000)))),
        ("no new privileges", dict(security=with_security(pb, no_new_privs=True))),
        ("nothing masked", dict(security=masked)),
        ("another mount", dict(mounts=[pb.Mount(container_path="/more", host_path="/tmp")])),
        ("a device", dict(devices=[pb.Device(container_path="/dev/z", host_path="/dev/zero", permissions="r")])),
        ("a terminal", dict(tty=True)),
    ]
    for what, more in cases:
        _, error = env.create(**more)
        tap.check(fails(error, Code.FAILED_PRECONDITION, "asked for as it was"), "privileges: " + what, said(error))
    limits = linux(pb)
    limits.resources.memory_limit_in_bytes = 64 << 20
    _, id = env.create(security=limits, envs=[pb.KeyValue(key="A", value=b"b")])
    tap.check(isinstance(id, str), "privileges: limits and environment may be others", said(id))
    env.remove(id)


def test_errors(env, fake):
    for mode, texts in (("restore-fails", ("criu", "reason 4")), ("restore-lies", ("gone",))):
        fake.mode(mode)
        _, id = env.create()
        error = env.start(id)
        tap.check(fails(error, Code.UNKNOWN, *texts), "errors: " + mode, said(error))
        status = env.pod.status(id).status
        tap.check(status.state == env.pb.CONTAINER_EXITED and status.exit_code == 128 and env.nothing_left(id),
                  "errors: %s: it has ended and nothing is left" % mode, status)
        env.remove(id)
    fake.mode("well")
    os.chmod(fake.path, 0o644)
    _, id = env.create()
    error = env.start(id)
    os.chmod(fake.path, 0o755)
    tap.check(fails(error, Code.FAILED_PRECONDITION, "install criu", fake.path), "errors: there is no criu", said(error))
    env.remove(id)
    shared = linux(env.pb, pid=env.pb.POD)
    _, error = env.create(security=shared)
    tap.check(hasattr(error, "code"), "errors: shared process ids", said(error))


def test_restart(env):
    env.d.stop()
    env.d.start()
    env.connect()
    env.pod.client = env.c
    _, id = env.create()
    error = env.start(id) if isinstance(id, str) else id
    tap.check(error is None, "restart: a daemon knows its checkpoints afterwards", said(error))
    env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=id, timeout=0))
    env.remove(id)


# --- who dies in the middle ---

def reached(fake):
    fake.reached()
    return [int(x) for x in open(os.path.join(fake.folder, "reached")).read().split()]


def start_later(env, id):
    result = []
    t = threading.Thread(target=lambda: result.append(env.start(id)))
    t.start()

    def join():
        t.join(70)
        return result[0] if result else "no answer"
    return join


def test_crashes(env, fake):
    for name in ("criu", "metadata", "task", "snapshot", "pod-keeper"):
        fake.mode("slow")
        _, id = env.create()
        join = start_later(env, id)
        criu, made = reached(fake)
        for pid in [criu] if name == "criu" else env.d.processes()[name]:
            os.kill(pid, signal.SIGKILL)
        error = join()
        if name == "criu":
            tap.check(fails(error, Code.UNKNOWN, "signal 9"), "crash: criu is killed", said(error))
        env.d.ready()
        state = env.pod.status(id).status.state
        runs = state == env.pb.CONTAINER_RUNNING
        alive = bh.wait_for(lambda: runs == (made in processes(id) or len(processes(id)) > 0), 10)
        tap.check(state in (env.pb.CONTAINER_RUNNING, env.pb.CONTAINER_EXITED) and alive,
                  "crash: %s: it runs, or it doesn't" % name, (said(error), state, processes(id)))
        env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=id, timeout=0))
        env.remove(id)
        tap.check(env.nothing_left(id) and unreaped(env) == [], "crash: nothing is left by " + name, 
                  (said(error), os.listdir(os.path.join(env.d.state, "checkpoints")), [title(p) for p in processes(id)],
                   unreaped(env)))
        fake.mode("well")
    _, id = env.create()
    tap.check(isinstance(id, str) and env.start(id) is None, "crash: the next one works")
    env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=id, timeout=0))
    env.remove(id)


# --- the real one ---

def test_real(folder, image):
    path, why = real_criu()
    if not path:
        tap.skip("real criu", why)
        return
    env = Env(folder, image, path)
    name, id = env.create()
    error = env.start(id) if isinstance(id, str) else id
    if tap.check(error is None, "real criu: restores", said(error)):
        check_real(env, name, id)
    real_criu_dies(env)
    env.stop()


def status_of(pid):
    with open("/proc/%d/status" % pid) as f:
        return {k: v.strip() for k, v in (line.split(":", 1) for line in f)}


def first_process(env, id):
    return next(p for p in processes(id) if status_of(p)["NSpid"].split()[-1] == "1")


def check_real(env, name, id):
    bh.wait_for(lambda: count(env.pod, name) > env.before + 5)
    first = int(env.pod.log(name)[0][2])
    tap.check(3 <= first <= env.before + 1 and count(env.pod, name) > env.before,
              "real criu: it goes on counting where it was", (first, env.before, count(env.pod, name)))
    was, now = (status_of(first_process(env, i)) for i in (env.id, id))
    same = [k for k in ("CapEff", "CapBnd", "CapPrm", "Seccomp", "NoNewPrivs", "Uid", "Gid") if was[k] != now[k]]
    tap.check(same == [], "real criu: with the privileges that it had", (same, was, now))
    pid = first_process(env, id)
    for kind, own in (("pid", True), ("mnt", True), ("cgroup", True), ("net", False), ("ipc", False), ("uts", False)):
        shared = os.readlink("/proc/%d/ns/%s" % (pid, kind)) == \
            os.readlink("/proc/%d/ns/%s" % (first_process(env, env.id), kind))
        tap.check(shared != own, "real criu: its %s namespace is %s" % (kind, "its own" if own else "the pod's"))
    out = env.pod.exec(id, "sh", "-c", "cat /home/x; ls -d /var; grep ^0: /proc/1/cgroup")
    tap.check(out.stdout.split() in ([b"new", b"0::/"], [b"new"]), "real criu: commands run in it, in its root", out)
    again = os.path.join(env.folder, "again.tar")
    env.checkpoint(id, again)
    at = count(env.pod, name)
    env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=id, timeout=0))
    tap.check(env.pod.status(id).status.exit_code == 137, "real criu: its end is seen")
    name, second = env.create(again)
    error = env.start(second) if isinstance(second, str) else second
    tap.check(error is None and bh.wait_for(lambda: count(env.pod, name) > at), "real criu: and once more", said(error))
    out = env.pod.exec(second, "cat", "/home/x")
    tap.check(out.stdout == b"new\n", "real criu: what was changed before the first is still there", out)


def real_criu_dies(env):
    for delay in (0.01, 0.03, 0.05, 0.08):
        _, id = env.create()
        join = start_later(env, id)
        found = bh.wait_for(lambda: [p for p in bh.pids() if "--restore-detached" in title(p)], 5, 0.001)
        time.sleep(delay)
        for pid in found or []:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        error = join()
        env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=id, timeout=0))
        tap.check(env.nothing_left(id), "real criu: killed after %g s, nothing is left" % delay,
                  (said(error), [title(p) for p in processes(id)]))
        env.remove(id)


with bh.Scratch() as folder:
    registry = bh.Registry(folder)
    bh.push(bh.make_image(folder, "bb"), registry, "bb:1")
    image = registry.host + "/bb:1"
    fake = Fake(folder)
    env = Env(os.path.join(folder, "one"), image, fake.path)
    test_restore(env, fake)
    test_foreign(env)
    test_privileges(env)
    test_errors(env, fake)
    test_restart(env)
    test_crashes(env, fake)
    env.stop()
    test_real(os.path.join(folder, "two"), image)
    registry.stop()
tap.done()
