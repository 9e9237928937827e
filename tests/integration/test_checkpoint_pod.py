"""CheckpointPod and RestorePod: the containers stand still together, all archives or none, what is refused, that nothing is
left when something dies in the middle. criu is played by a program; the real one is asked, too, where it works."""

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
from criu import Fake, fails, linux, real_criu, said

tap = bh.Tap()
Code = grpc.StatusCode
COUNT = ["sh", "-c", "rm -rf /var /home; mkdir /home; echo new > /home/x; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"]
NAMES = ("main", "side")


class Env:
    """The daemon, and a pod with two containers that count."""

    def __init__(self, folder, image, criu):
        os.makedirs(folder)
        self.folder, self.image = folder, image
        self.d = bh.Daemon(folder, settings=["criu=" + criu])
        self.d.start()
        self.c = self.d.client()
        self.pb = self.c.pb
        self.c.images.PullImage(self.pb.PullImageRequest(image=self.pb.ImageSpec(image=image)))
        self.pod = bh.Pod(self.d, self.c, "pod")
        self.ids = [self.pod.run(n, image, COUNT, linux=linux(self.pb)) for n in NAMES]
        self.out = os.path.join(folder, "out")
        os.makedirs(self.out)
        bh.wait_for(lambda: all(n > 2 for n in self.counts()))

    def checkpoint(self, timeout=20, **more):
        """The error or None."""
        fields = dict(pod_sandbox_id=self.pod.id, output_path=self.out, container_ids=self.ids)
        fields.update(more)
        return bh.error_of(self.c.runtime.CheckpointPod, self.pb.CheckpointPodRequest(**fields), timeout=timeout)

    def later(self, **more):
        """The same in a thread: join() gives its error."""
        result = []
        t = threading.Thread(target=lambda: result.append(self.checkpoint(**more)))
        t.start()

        def join():
            t.join(70)
            return result[0] if result else "no answer"
        return join

    def counts(self, names=NAMES):
        def last(name):
            try:
                return int(self.pod.log(name)[-1][2])
            except (OSError, IndexError, ValueError):
                return 0
        return [last(n) for n in names]

    def goes_on(self, names=NAMES):
        before = self.counts(names)
        return bh.wait_for(lambda: all(n > b + 2 for n, b in zip(self.counts(names), before)), 8)

    def stands_still(self):
        time.sleep(0.2)  # what is in the pipes
        before = self.counts()
        time.sleep(0.4)
        return self.counts() == before

    def clear(self):
        for name in os.listdir(self.out):
            os.unlink(os.path.join(self.out, name))

    def nothing_left(self):
        place = os.path.join(self.d.state, "checkpoints")
        return bh.wait_for(lambda: not os.path.isdir(place) or os.listdir(place) == [], 15)

    def restore(self, name="again", configs=None, **more):
        """The reply or the error."""
        pb = self.pb
        if configs is None:
            configs = [self.config(n) for n in NAMES]
        fields = dict(checkpoint_path=self.out, container_configs=configs,
                      config=bh.sandbox_config(self.c, name, "pod", log_directory=self.d.logs))
        fields.update(more)
        try:
            return self.c.runtime.RestorePod(pb.RestorePodRequest(**fields), timeout=60)
        except grpc.RpcError as e:
            return e

    def config(self, name, image=None, log=None):
        q = bh.container_config(self.c, name, image or self.image, COUNT, linux=linux(self.pb))
        q.log_path = (log or "again-" + name) + ".log"
        return q

    def pods(self):
        return {p.metadata.name: p.id for p in self.c.runtime.ListPodSandbox(self.pb.ListPodSandboxRequest()).items}

    def remove(self, id):
        self.c.runtime.StopPodSandbox(self.pb.StopPodSandboxRequest(pod_sandbox_id=id))
        self.c.runtime.RemovePodSandbox(self.pb.RemovePodSandboxRequest(pod_sandbox_id=id))

    def stop(self):
        self.pod.remove()
        self.d.stop()
        self.d.remove_cgroups()


def frozen(env):
    """How many of the pod's containers the kernel says are frozen."""
    n = 0
    for top, _, files in os.walk("/sys/fs/cgroup"):
        if not any(id in top for id in env.ids):
            continue
        if "freezer.state" in files:
            with open(os.path.join(top, "freezer.state")) as f:
                n += f.read().strip() == "FROZEN"
        elif "cgroup.events" in files:
            with open(os.path.join(top, "cgroup.events")) as f:
                n += "frozen 1" in f.read()
    return n


# --- checkpoint ---

def test_cut(env, fake):
    fake.mode("slow")
    join = env.later()
    tap.check(fake.reached() and env.stands_still(), "cut: both stand still while the first is saved", env.counts())
    tap.check(os.listdir(env.out) == [], "cut: no archive has its name yet", os.listdir(env.out))
    error = env.checkpoint()
    tap.check(fails(error, Code.ABORTED, "under way"), "cut: one at a time", said(error))
    q = env.pb.CheckpointContainerRequest(container_id=env.ids[0], location=env.folder + "/x.tar", timeout=20)
    error = bh.error_of(env.c.runtime.CheckpointContainer, q, timeout=20)
    tap.check(fails(error, Code.ABORTED, "under way"), "cut: nor one of a container", said(error))
    error = join()
    tap.check(error is None and sorted(os.listdir(env.out)) == ["main.tar", "side.tar"], "cut: both archives are there",
              (said(error), os.listdir(env.out)))
    tap.check(env.goes_on() and frozen(env) == 0, "cut: both go on", (env.counts(), frozen(env)))
    args = fake.args()
    tap.check("--freeze-cgroup" in args and os.path.isdir(args[args.index("--freeze-cgroup") + 1]),
              "cut: criu knows the freezer", args)
    tap.check(env.nothing_left(), "cut: criu's folders are gone")
    error = env.checkpoint()
    tap.check(fails(error, Code.FAILED_PRECONDITION, "isn't empty"), "cut: only into an empty folder", said(error))
    env.clear()
    fake.mode("well")
    error = env.checkpoint(container_ids=env.ids[1:])
    tap.check(error is None and os.listdir(env.out) == ["side.tar"], "cut: of one of two", said(error))
    env.clear()


def test_errors(env, fake):
    pb = env.pb
    other = bh.Pod(env.d, env.c, "other")
    alien = other.run("alien", env.image, ["sleep", "1000"], linux=linux(pb))
    dead = env.pod.run("dead", env.image, ["true"], linux=linux(pb))
    env.pod.wait(dead)
    a, b = env.ids
    cases = [
        ("no pod", dict(pod_sandbox_id="f" * 64), Code.NOT_FOUND, "f" * 16),
        ("an option", dict(options={"tcp": "yes"}), Code.INVALID_ARGUMENT, '"tcp"'),
        ("no containers", dict(container_ids=[]), Code.INVALID_ARGUMENT, "container_ids"),
        ("one twice", dict(container_ids=[a, b, a]), Code.INVALID_ARGUMENT, "twice"),
        ("another pod's", dict(container_ids=[a, alien]), Code.INVALID_ARGUMENT, "isn't of this pod"),
        ("one that has ended", dict(container_ids=[a, dead]), Code.FAILED_PRECONDITION, "isn't running"),
        ("unknown container", dict(container_ids=[a, "e" * 64]), Code.NOT_FOUND, "e" * 16),
        ("relative", dict(output_path="out"), Code.INVALID_ARGUMENT, "absolute"),
        ("no folder", dict(output_path=env.folder + "/no"), Code.FAILED_PRECONDITION, "No such file"),
        ("a file", dict(output_path="/etc/passwd"), Code.FAILED_PRECONDITION, "Not a directory"),
    ]
    for name, more, code, text in cases:
        error = env.checkpoint(**more)
        tap.check(fails(error, code, text), "errors: " + name, said(error))
    fake.mode("fail")
    error = env.checkpoint()
    tap.check(fails(error, Code.UNKNOWN, "reason 4"), "errors: criu's last words", said(error))
    tap.check(os.listdir(env.out) == [] and env.nothing_left(), "errors: nothing is left", os.listdir(env.out))
    shared = env.pod.run("shared", env.image, ["sleep", "1000"], linux=linux(pb, pid=pb.POD))
    fake.mode("well")
    error = env.checkpoint(container_ids=[a, b, shared])
    tap.check(fails(error, Code.UNIMPLEMENTED, "share process ids") and os.listdir(env.out) == [],
              "errors: the last of three can't be saved, and no archive is there", (said(error), os.listdir(env.out)))
    env.c.runtime.StopContainer(pb.StopContainerRequest(container_id=shared, timeout=0))
    other.remove()
    tap.check(env.goes_on() and frozen(env) == 0, "errors: the containers go on")


def test_time(env, fake):
    fake.mode("slow")
    error = env.checkpoint(timeout=0.8)
    tap.check(fails(error, Code.DEADLINE_EXCEEDED), "time: the client's deadline ends it", said(error))
    tap.check(env.nothing_left() and os.listdir(env.out) == [] and env.goes_on() and frozen(env) == 0,
              "time: then there is no archive, and both go on", (os.listdir(env.out), env.counts()))
    fake.mode("slow")
    join = env.later()
    fake.reached()
    env.c.runtime.StopContainer(env.pb.StopContainerRequest(container_id=env.ids[1], timeout=0))
    error = join()
    tap.check(hasattr(error, "code") and os.listdir(env.out) == [] and env.nothing_left(),
              "time: one of them is stopped meanwhile", (said(error), os.listdir(env.out)))
    tap.check(env.goes_on(("main",)) and frozen(env) == 0, "time: the other goes on")
    env.c.runtime.RemoveContainer(env.pb.RemoveContainerRequest(container_id=env.ids[1]))
    env.ids[1] = env.pod.run("side", env.image, COUNT, linux=linux(env.pb))
    bh.wait_for(lambda: env.counts()[1] > 2)


def test_crashes(env, fake):
    for name in ("metadata", "task", "snapshot", "api", "pod-keeper"):
        fake.mode("slow")
        join = env.later()
        fake.reached()
        for pid in env.d.processes()[name]:
            os.kill(pid, signal.SIGKILL)
        error = join()
        tap.check(hasattr(error, "code") and error.code() in (Code.UNAVAILABLE, Code.ABORTED, Code.CANCELLED),
                  "crash: the call fails with " + name, said(error))
        env.d.ready()
        tap.check(env.goes_on() and bh.wait_for(lambda: frozen(env) == 0, 5), "crash: both go on without " + name,
                  (env.counts(), frozen(env)))
        tap.check(bh.wait_for(lambda: os.listdir(env.out) == [], 15) and env.nothing_left(),
                  "crash: nothing is left by " + name, os.listdir(env.out))
        fake.mode("well")
        error = None

        def again():
            nonlocal error
            error = env.checkpoint()
            return error is None
        tap.check(bh.wait_for(again, 30, 0.3), "crash: the next one works after " + name, said(error))
        env.clear()


# --- restore ---

def test_restore(env, fake):
    env.checkpoint()
    reply = env.restore()
    if not tap.check(hasattr(reply, "pod_sandbox_id"), "restore: a pod is made", said(reply)):
        return
    ids = {x.name: x.container_id for x in reply.restored_containers}
    tap.check(set(ids) == set(NAMES) and env.pods()["again"] == reply.pod_sandbox_id, "restore: with both containers", ids)
    states = [env.pod.status(i).status.state for i in ids.values()]
    tap.check(states == [env.pb.CONTAINER_CREATED] * 2, "restore: created, not started", states)
    same = env.restore()
    tap.check(same == reply, "restore: the same call again has the same answer", said(same))
    for id in ids.values():
        env.c.runtime.StartContainer(env.pb.StartContainerRequest(container_id=id), timeout=30)
    names = ["again-" + n for n in NAMES]
    tap.check(bh.wait_for(lambda: all(n > 1000 for n in env.counts(names)), 10), "restore: started, they go on",
              env.counts(names))
    same = env.restore()
    tap.check(same == reply and env.goes_on(names), "restore: and again", said(same))
    env.remove(reply.pod_sandbox_id)


def test_refused(env):
    pods = env.pods()
    swapped = os.path.join(env.folder, "swapped")
    os.makedirs(swapped)
    for a, b in (NAMES, NAMES[::-1]):
        shutil.copy(os.path.join(env.out, a + ".tar"), os.path.join(swapped, b + ".tar"))
    alone = os.path.join(env.folder, "alone")
    os.makedirs(alone)
    q = env.pb.CheckpointContainerRequest(container_id=env.ids[0], location=alone + "/main.tar", timeout=20)
    env.c.runtime.CheckpointContainer(q)
    main, side = (env.config(n) for n in NAMES)
    nameless = env.config("x")
    nameless.metadata.name = ""
    cases = [
        ("none of its containers", dict(configs=[]), Code.INVALID_ARGUMENT, "container_configs"),
        ("not all of its containers", dict(configs=[main]), Code.INVALID_ARGUMENT, '"side"'),
        ("one more", dict(configs=[main, side, env.config("more")]), Code.INVALID_ARGUMENT, "2 containers"),
        ("one twice", dict(configs=[main, main]), Code.INVALID_ARGUMENT, "twice"),
        ("no name", dict(configs=[main, nameless]), Code.INVALID_ARGUMENT, "no name"),
        ("another image", dict(configs=[main, env.config("side", image=env.image + "-no")]), Code.FAILED_PRECONDITION,
         "made from image"),
        ("other names for the archives", dict(checkpoint_path=swapped), Code.FAILED_PRECONDITION, "is that of container"),
        ("an archive of one container", dict(checkpoint_path=alone, configs=[main]), Code.FAILED_PRECONDITION,
         "isn't of a pod's"),
        ("an empty folder", dict(checkpoint_path=env.folder), Code.NOT_FOUND, "No such file"),
        ("relative", dict(checkpoint_path="out"), Code.INVALID_ARGUMENT, "absolute"),
        ("an option", dict(options={"x": ""}), Code.INVALID_ARGUMENT, '"x"'),
        ("unknown handler", dict(runtime_handler="none"), Code.INVALID_ARGUMENT, '"none"'),
        ("a pod that is there", dict(name="pod"), Code.ALREADY_EXISTS, "remove it first"),
    ]
    for what, more, code, text in cases:
        error = env.restore(**more)
        tap.check(hasattr(error, "code") and fails(error, code, text), "refused: " + what, said(error))
    left = bh.wait_for(lambda: env.pods() == pods, 10)
    tap.check(left, "refused: no pod is left", env.pods())
    tap.check(env.goes_on(), "refused: the pod that was there is as it was")


def test_restore_crashes(env):
    for name in ("metadata", "task", "snapshot", "api", "pod-keeper"):
        result = []
        t = threading.Thread(target=lambda: result.append(env.restore()))
        t.start()
        time.sleep(0.05)
        for pid in env.d.processes()[name]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        t.join(70)
        env.d.ready()
        reply = None

        def again():
            nonlocal reply
            reply = env.restore()
            return hasattr(reply, "pod_sandbox_id")
        if tap.check(bh.wait_for(again, 30, 0.3), "restore: after the death of %s the call works" % name,
                     (said(result[0]) if result else None, said(reply))):
            states = [env.pod.status(x.container_id).status.state for x in reply.restored_containers]
            tap.check(states == [env.pb.CONTAINER_CREATED] * 2, "restore: and has made both, " + name, states)
            env.remove(reply.pod_sandbox_id)
    env.clear()


def test_real(folder, image):
    criu, why = real_criu()
    if not criu:
        tap.skip("real criu", why)
        return
    env = Env(folder, image, criu)
    error = env.checkpoint()
    before = env.counts()
    if tap.check(error is None and env.goes_on() and frozen(env) == 0, "real criu: saves both", said(error)):
        reply = env.restore()
        names = ["again-" + n for n in NAMES]
        for x in getattr(reply, "restored_containers", []):
            env.c.runtime.StartContainer(env.pb.StartContainerRequest(container_id=x.container_id), timeout=30)
        tap.check(bh.wait_for(lambda: all(n > b for n, b in zip(env.counts(names), before)), 20),
                  "real criu: both go on counting where they were", (said(reply), before, env.counts(names)))
        firsts = [int(env.pod.log(n)[0][2]) for n in names]
        tap.check(all(3 <= f <= b + 1 for f, b in zip(firsts, before)), "real criu: none has lost what it had",
                  (firsts, before))
        if hasattr(reply, "pod_sandbox_id"):
            env.remove(reply.pod_sandbox_id)
    env.stop()


with bh.Scratch() as folder:
    registry = bh.Registry(folder)
    bh.push(bh.make_image(folder, "bb"), registry, "bb:1")
    image = registry.host + "/bb:1"
    fake = Fake(folder)
    env = Env(os.path.join(folder, "one"), image, fake.path)
    test_cut(env, fake)
    test_errors(env, fake)
    test_time(env, fake)
    test_crashes(env, fake)
    test_restore(env, fake)
    test_refused(env)
    test_restore_crashes(env)
    env.stop()
    test_real(os.path.join(folder, "two"), image)
    registry.stop()
tap.done()
