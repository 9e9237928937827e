"""kill -9 at each step of a pod's life, and of a task's and a sandbox's, of each process that bulkhead is made of.

For every step (of the CRI: pull, run, create, start, exec, stop, remove, stop pod, remove pod; of containerd's API those
of task_life.py, from Transfer to the container's end, of sandbox_life.py and of image_life.py), every process and two moments
(just before the call, and in the middle of it): the process is killed, the call is made again until it succeeds as the
kubelet would, the life goes on to its end, and then

  - the container has its exit code and its whole log, written before, during and after the outage, and a pod's
    a volume from an image,
  - a witness pod has run on through all of it, and its log has no gap,
  - the daemon is complete again,
  - mounts, cgroups, links, nft elements, network namespaces, addresses, folders, processes and containerd's
    objects are what they were before.

BULKHEAD_CRASH_STEPS and BULKHEAD_CRASH_VICTIMS (comma-separated) pick some of the cases, BULKHEAD_CRASH_ROUNDS makes
so many rounds of "in the middle", each with other moments."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
from image_life import ImageLife
from life import SCRIPT, Steps
from patience import Impatient, again
from sandbox_life import SandboxLife
from task_life import Api, TaskLife

VICTIMS = ["supervisor", "api", "metadata", "image", "snapshot", "task", "stream", "keeper", "pod-keeper"]
# Where in the middle a call is hit, as a part of the time that it usually takes.
PARTS = [0.15, 0.5, 0.85, 0.3, 0.7, 0.05, 0.6, 0.95, 0.4, 1.1, 0.22]

VOLUME = "/volume"
BRIEF = "sleep 0.15; echo brief; exit 5"
TICKER = 'n=0; while :; do echo $n; n=$((n+1)); sleep 0.02; done'

# What no death that we caused explains.
OWN_FAULT = re.compile(r'worker has ended".*how="(?!killed by SIGKILL)|^\S+ error |AddressSanitizer|runtime error:|'
                       r"LeakSanitizer|Assertion")


class Life(Steps):
    """One pod from the image to nothing, step by step."""

    STEPS = ["pull", "run", "create", "start", "exec", "stop", "remove", "stop-pod", "remove-pod"]

    def __init__(self, world, name):
        self.world, self.client, self.name = world, world.client, name
        self.pb = world.client.pb
        self.pod = self.container = self.brief = None
        self.config = bh.sandbox_config(self.client, name, log_directory=world.daemon.logs)

    def step_pull(self):
        again(lambda: self.client.images.PullImage(self.pb.PullImageRequest(
            image=self.pb.ImageSpec(image=self.world.image)), timeout=20))

    def step_run(self):
        self.pod = again(lambda: self.client.runtime.RunPodSandbox(
            self.pb.RunPodSandboxRequest(config=self.config), timeout=20)).pod_sandbox_id

    def _create(self, name, script, pid, mounts=()):
        security = self.pb.LinuxContainerSecurityContext(namespace_options=self.pb.NamespaceOption(pid=pid))
        config = bh.container_config(self.client, name, self.world.image, ["sh", "-c", script],
                                     log_path="%s-%s.log" % (self.name, name), mounts=mounts,
                                     linux=self.pb.LinuxContainerConfig(security_context=security))
        return again(lambda: self.client.runtime.CreateContainer(self.pb.CreateContainerRequest(
            pod_sandbox_id=self.pod, config=config, sandbox_config=self.config), timeout=20)).container_id

    def _start(self, container):
        again(lambda: self.client.runtime.StartContainer(
            self.pb.StartContainerRequest(container_id=container), timeout=20))

    def step_create(self):
        volume = self.pb.Mount(container_path=VOLUME, image=self.pb.ImageSpec(image=self.world.image), image_sub_path="etc",
                               readonly=True)
        self.container = self._create("main", SCRIPT, self.pb.CONTAINER, [volume])

    def step_start(self):
        self._start(self.container)

    def before_exec(self):
        """A container that ends by itself while somebody is dead; in the pod's pid namespace, for a change."""
        self.brief = self._create("brief", BRIEF, self.pb.POD)
        self._start(self.brief)

    def step_exec(self):
        r = again(lambda: self.client.runtime.ExecSync(self.pb.ExecSyncRequest(
            container_id=self.container, cmd=["sh", "-c", "echo out; test -f %s/passwd && exit 4" % VOLUME], timeout=10), timeout=15))
        if r.exit_code != 4 or r.stdout != b"out\n":
            raise Impatient("exec said %r" % r)

    def before_stop(self):
        """Process 1 of a pid namespace doesn't see a signal that it has no handler for yet."""
        if not bh.wait_for(lambda: self.lines("main") == ["hello"], 10):
            raise Impatient("container main: its log has %r" % self.lines("main"))

    def step_stop(self):
        again(lambda: self.client.runtime.StopContainer(
            self.pb.StopContainerRequest(container_id=self.container, timeout=5), timeout=20))
        self.check_end(self.container, "main", 3, ["hello", "bye"])
        if self.brief:
            self.check_end(self.brief, "brief", 5, ["brief"])

    def step_remove(self):
        for c in filter(None, (self.container, self.brief)):
            again(lambda: self.client.runtime.RemoveContainer(self.pb.RemoveContainerRequest(container_id=c), timeout=20))

    def step_stop_pod(self):
        again(lambda: self.client.runtime.StopPodSandbox(
            self.pb.StopPodSandboxRequest(pod_sandbox_id=self.pod), timeout=20))

    def step_remove_pod(self):
        again(lambda: self.client.runtime.RemovePodSandbox(
            self.pb.RemovePodSandboxRequest(pod_sandbox_id=self.pod), timeout=20))

    def forget_image(self):
        again(lambda: self.client.images.RemoveImage(self.pb.RemoveImageRequest(
            image=self.pb.ImageSpec(image=self.world.image)), timeout=20))

    def check_end(self, container, name, code, lines):
        def status():
            s = again(lambda: self.client.runtime.ContainerStatus(
                self.pb.ContainerStatusRequest(container_id=container), timeout=10)).status
            return s if s.state == self.pb.CONTAINER_EXITED else None
        # The supervisor's back-off, which grows with each kill, is in here.
        s = bh.wait_for(status, 20)
        if not s:
            raise Impatient("container %s doesn't end" % name)
        if s.exit_code != code:
            raise Impatient("container %s: exit code %d (%s %s), not %d" % (name, s.exit_code, s.reason, s.message, code))
        if self.lines(name) != lines:
            raise Impatient("container %s: its log has %r" % (name, self.lines(name)))

    def lines(self, name):
        return log_lines(os.path.join(self.world.daemon.logs, "%s-%s.log" % (self.name, name)))

    @staticmethod
    def clean_up(world):
        """After a life that went wrong: what can still be removed is."""
        pb, c = world.client.pb, world.client
        for pod in again(lambda: c.runtime.ListPodSandbox(pb.ListPodSandboxRequest(), timeout=10)).items:
            if pod.id != world.witness.id:
                again(lambda: c.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=pod.id), timeout=20))
                again(lambda: c.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=pod.id), timeout=20))
        Life(world, "none").forget_image()


LIVES = (Life, TaskLife, SandboxLife, ImageLife)


def log_lines(path):
    with open(path, errors="replace") as f:
        return [line.rstrip("\n").split(" ", 3)[3] for line in f]


class World:
    def __init__(self, folder):
        self.folder = folder
        self.registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "busybox"), self.registry, "busybox:v1")
        bh.push(bh.make_image(folder, "witness", config=["--config.env", "WITNESS=1"]), self.registry, "witness:v1")
        self.image = self.registry.host + "/busybox:v1"
        self.archive = os.path.join(folder, "archive.tar")
        source = bh.make_image(folder, "archive", config=["--config.env", "ARCHIVE=1"])
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", source, "oci-archive:" + self.archive], check=True)
        self.root = os.path.join(folder, "root")
        bh.busybox_root(self.root)
        os.makedirs(os.path.join(self.root, "proc"), exist_ok=True)
        self.daemon = bh.Daemon(folder)
        self.daemon.start()
        self.client = self.daemon.client()
        self.api = Api(self.daemon.containerd)
        self.usual = {}

    def end(self):
        """Whatever happened, nothing stays. This is process 1 of a pid namespace: all that it can see is its own."""
        self.daemon.stop()
        os.kill(-1, signal.SIGKILL)
        self.registry.process.wait()
        bh.wait_for(lambda: reap() or len(bh.pids()) == 1, 10)
        self.daemon.remove_cgroups()

    # --- the daemon's log of one case ---

    def log_begin(self):
        self.log_offset = os.path.getsize(self.daemon.log_path)

    def log_end(self):
        """What it says beside calls that went well; repetitions once."""
        with open(self.daemon.log_path, errors="replace") as f:
            f.seek(self.log_offset)
            lines = [line.rstrip() for line in f if "code=OK" not in line]
        seen, kept = set(), []
        for line in lines:
            text = re.sub(r"req=\S+|ms=\S+|^\S+", "", line)
            if text not in seen:
                seen.add(text)
                kept.append(line)
        return "\n".join(kept[-35:])

    def log_complaint(self):
        """A process that ended by its own fault, or a rule that was broken: a restart would hide it from the client."""
        with open(self.daemon.log_path, errors="replace") as f:
            f.seek(self.log_offset)
            return "".join(line for line in f if OWN_FAULT.search(line)) or None

    # --- the witness ---

    def witness_begin(self):
        image = self.registry.host + "/witness:v1"
        pb = self.client.pb
        self.client.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
        self.witness = bh.Pod(self.daemon, self.client, "witness")
        self.ticker = self.witness.run("ticker", image, ["sh", "-c", TICKER])
        self.ticker_log = os.path.join(self.daemon.logs, "ticker.log")
        bh.wait_for(lambda: os.path.exists(self.ticker_log) and len(log_lines(self.ticker_log)) > 2)
        self.ticker_pid = [p for p in bh.pids() if b"n=$((n+1))" in read(p, "cmdline") and
                           not read(p, "comm").startswith(b"bulkhead")][0]

    def witness_complaint(self):
        """What is wrong with the witness, or None."""
        if b"n=$((n+1))" not in read(self.ticker_pid, "cmdline"):
            return "its process is gone"
        lines = log_lines(self.ticker_log)
        if lines != [str(i) for i in range(len(lines))]:
            gap = next(i for i, line in enumerate(lines) if line != str(i))
            return "its log has a gap: %r" % lines[max(0, gap - 3):gap + 3]
        before = len(lines)
        if not bh.wait_for(lambda: len(log_lines(self.ticker_log)) > before, 20):
            return "its log doesn't grow any more"
        s = again(lambda: self.client.runtime.ContainerStatus(
            self.client.pb.ContainerStatusRequest(container_id=self.ticker), timeout=10)).status
        if s.state != self.client.pb.CONTAINER_RUNNING:
            return "its status says %s (%s %s)" % (s.state, s.reason, s.message)
        return None

    # --- the truth ---

    def truth(self):
        t = bh.kernel_truth(self.daemon)
        # Namespaces and keepers are counted: a successor has others.
        t["netns"] = ["%d of them" % len(t["netns"])]
        t["keepers"] = ["%d of them" % len(t["keepers"])]
        t["processes"] = sorted("%s %d" % (name, len(pids)) for name, pids in self.daemon.processes().items())
        t["zombies"] = sorted(read(p, "comm").decode().strip() for p in bh.pids() if b" Z " in read(p, "stat"))
        t["objects"] = self.api.objects()
        # What a pull in progress leaves is told apart from whole blobs, which an image may share.
        state = self.daemon.state
        t["state"] = sorted(os.path.join(d, f)[len(state):] for d, _, files in os.walk(state) for f in files
                            if "/layers/" not in d and not f.endswith(".tdb") and ".tdb" not in f)
        layers = os.path.join(state, "layers")
        t["layers"] = sorted(os.path.join(d, n) for d in (layers, layers + "/.writable", layers + "/.staging", layers + "/.view")
                             if os.path.isdir(d) for n in os.listdir(d) if not n.startswith("."))
        return t

    def settled(self, seconds=10):
        """Nothing, or what still differs from the world with only the witness in it."""
        rest = [None]

        def same():
            reap()
            now = self.truth()
            rest[0] = bh.differences(self.baseline, now)
            return not rest[0]
        return None if bh.wait_for(same, seconds, 0.05) else rest[0]

    def settle_baseline(self):
        """The world with only the witness in it, once nothing moves any more."""
        self.baseline = None
        while self.baseline != self.truth():
            self.baseline = self.truth()
            time.sleep(0.5)

    # --- killing ---

    def victims(self, kind, life):
        """Pids of a kind; a pod's keeper is the one of the life under test."""
        if kind != "pod-keeper":
            return self.daemon.processes().get(kind, [])
        known = self.witness_keepers
        return [p for p in self.daemon.processes().get("pod-keeper", []) if p not in known]

    def kill(self, kind, life):
        """How many were there to be killed."""
        pids = self.victims(kind, life)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if kind == "supervisor" and pids:
            self.daemon.process.wait()
            reap()
            self.daemon.start(wait=False)
        return len(pids)


def read(pid, name):
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as f:
            return f.read()
    except OSError:
        return b""


def reap():
    """This program is pid 1 of its namespace: what the daemon's dead left behind comes to it."""
    children = {w.process.pid for w in (world.daemon, world.registry)} if world else set()
    for pid in bh.pids():
        stat = read(pid, "stat")
        if b" Z " in stat and pid not in children:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def run_case(w, kind, step, victim, middle, number):
    """One life with one death; a sentence about what went wrong, or None. "skip" when nobody was there to die."""
    life = kind(w, "crash%d" % number)
    w.witness_keepers = set(w.daemon.processes().get("pod-keeper", []))
    killed = 0
    for name in kind.STEPS:
        life.before(name)
        if name != step:
            life.step(name)
            continue
        if middle:
            delay = w.usual[name] * PARTS[number % len(PARTS)]
            deaths = []
            killer = threading.Timer(delay, lambda: deaths.append(w.kill(victim, life)))
            killer.start()
            life.step(name)
            killer.join()
            killed = sum(deaths)
        else:
            killed = w.kill(victim, life)
            life.step(name)
    life.forget_image()
    rest = w.settled()
    if rest:
        return "left behind:\n" + rest
    complaint = w.witness_complaint()
    if complaint:
        return "the witness: " + complaint
    complaint = w.log_complaint()
    if complaint:
        return "the daemon's log: " + complaint
    return None if killed else "skip"


def clean_up(w):
    """After a case that went wrong, so that the next one starts afresh."""
    for kind in LIVES:
        try:
            kind.clean_up(w)
        except Impatient as e:
            print("# cleaning up: %s" % e)
    if w.settled(3):
        w.settle_baseline()


def measure(w):
    """How long each step usually takes."""
    for kind in LIVES * 2:
        life = kind(w, "usual%d" % len(w.usual))
        for name in kind.STEPS:
            life.before(name)
            begin = time.monotonic()
            life.step(name)
            w.usual[name] = time.monotonic() - begin
        life.forget_image()


def picked(variable, all_of_them):
    wanted = os.environ.get(variable)
    return [x for x in all_of_them if not wanted or x in wanted.split(",")]


def main(w, tap):
    w.witness_begin()
    w.settle_baseline()
    measure(w)
    rest = w.settled()
    tap.check(not rest, "a life without a death leaves nothing", rest)
    print("# " + ", ".join("%s %.1f ms" % (k, v * 1000) for k, v in w.usual.items()))
    number = 0
    rounds = int(os.environ.get("BULKHEAD_CRASH_ROUNDS", "1"))
    cases = [(kind, step) for kind in LIVES for step in picked("BULKHEAD_CRASH_STEPS", kind.STEPS)]
    for middle in [False] + [True] * rounds:
        for kind, step in cases:
            for victim in picked("BULKHEAD_CRASH_VICTIMS", VICTIMS):
                number += 1
                name = "%s killed %s %s" % (victim, "during" if middle else "before", step)
                begin = time.monotonic()
                w.log_begin()
                try:
                    wrong = run_case(w, kind, step, victim, middle, number)
                except Impatient as e:
                    wrong = str(e)
                if wrong == "skip":
                    continue
                print("# %.2f s" % (time.monotonic() - begin))
                if not tap.check(wrong is None, name, "%s\n%s" % (wrong, w.log_end() if wrong else "")):
                    if not w.daemon.ready(20):
                        return
                    clean_up(w)


bh.isolate()
tap = bh.Tap()
world = None
with bh.Scratch() as folder:
    world = World(folder)
    try:
        main(world, tap)
    finally:
        world.end()
tap.done()
