"""Tasks/Checkpoint and tasks that are created from checkpoints, by gRPC and by Debian's ctr: what becomes content, what
criu is given, what is refused, that nothing is left when something dies in the middle. criu is played by a program; the
real one goes on counting where the task was (BULKHEAD_TEST_CRIU, or on PATH)."""

import glob
import hashlib
import io
import json
import os
import signal
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

bh.isolate()
import grpc  # noqa: E402
from criu import Fake, fails, real_criu, said, title  # noqa: E402
from ctr import Ctr, differences, own_fifos, there  # noqa: E402

tap = bh.Tap()
Code = grpc.StatusCode
COUNT = ("rm -rf /var /home; mkdir /home; echo new > /home/x; "
         "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
IMAGES = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
CONFIG = "application/vnd.containerd.container.checkpoint.config.v1+proto"
(containers, containers_grpc, tasks, tasks_grpc, content, content_grpc, snapshots, snapshots_grpc, leases, leases_grpc,
 types, _, runc, _) = bh.stubs_of(*("containerd/%s.proto" % n for n in (
     "containers", "tasks", "content", "snapshots", "leases", "types", "runc_options")))


class World:
    """The daemon, and a task that counts into a file."""

    def __init__(self, folder, registry, criu):
        os.makedirs(folder)
        self.folder, self.image = folder, registry.host + "/bb:1"
        self.daemon = bh.Daemon(folder, cni=False, settings=["criu=" + criu]).start()
        self.ctr = Ctr(self.daemon)
        self.ctr("images", "pull", "--plain-http", self.image)
        self.ctr("run", "-d", "--log-uri", "file://" + self.log("main"), self.image, "main", "/bin/sh", "-c", COUNT)
        self.connect()
        bh.wait_for(lambda: self.count("main") > 2)
        self.number = 0

    def connect(self):
        self.channel = grpc.insecure_channel("unix://" + self.daemon.containerd, options=[
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)])
        self.containers = containers_grpc.ContainersStub(self.channel)
        self.tasks = tasks_grpc.TasksStub(self.channel)
        self.content = content_grpc.ContentStub(self.channel)
        self.snapshots = snapshots_grpc.SnapshotsStub(self.channel)
        self.leases = leases_grpc.LeasesStub(self.channel)

    def log(self, name):
        return os.path.join(self.folder, name + ".log")

    def count(self, name):
        try:
            with open(self.log(name)) as f:
                return int(f.read().split()[-1])
        except (OSError, IndexError, ValueError):
            return 0

    def call(self, call, request, lease=None, timeout=60):
        metadata = [("containerd-namespace", self.ctr.namespace)] + ([("containerd-lease", lease)] if lease else [])
        return call(request, metadata=metadata, timeout=timeout)

    def error(self, call, request, **more):
        return bh.error_of(self.call, call, request, **more)

    def checkpoint(self, id="main", lease=None, **options):
        request = tasks.CheckpointTaskRequest(container_id=id)
        if options:
            request.options.type_url = "containerd.runc.v1.CheckpointOptions"
            request.options.value = runc.CheckpointOptions(**options).SerializeToString()
        return self.call(self.tasks.Checkpoint, request, lease=lease).descriptors

    def blob(self, digest):
        request = content.ReadContentRequest(digest=digest)
        parts = self.content.Read(request, metadata=[("containerd-namespace", self.ctr.namespace)], timeout=20)
        return b"".join(p.data for p in parts)

    def spec(self, id="main"):
        return self.call(self.containers.Get, containers.GetContainerRequest(id=id)).container.spec

    def prepare(self, key, like="main"):
        """The mounts of another writable snapshot with what that container's has."""
        parent = self.call(self.snapshots.Stat, snapshots.StatSnapshotRequest(snapshotter="overlayfs", key=like)).info.parent
        mounts = self.call(self.snapshots.Prepare, snapshots.PrepareSnapshotRequest(
            snapshotter="overlayfs", key=key, parent=parent)).mounts
        upper = next(o for o in mounts[0].options if o.startswith("upperdir="))[len("upperdir="):]
        os.makedirs(upper + "/home", exist_ok=True)
        with open(upper + "/home/x", "w") as f:
            f.write("new\n")
        return mounts

    def container(self, change=None):
        """Another container with the same specification, and its root."""
        self.number += 1
        id = "r%d" % self.number
        spec = self.spec()
        value = json.loads(spec.value)
        value["linux"]["cgroupsPath"] = "/%s/%s" % (self.ctr.namespace, id)
        if change:
            change(value)
        spec.value = json.dumps(value).encode()
        mounts = self.prepare(id)
        self.call(self.containers.Create, containers.CreateContainerRequest(container=containers.Container(
            id=id, spec=spec, snapshotter="overlayfs", snapshot_key=id,
            runtime=containers.Container.Runtime(name="io.containerd.runc.v2"))))
        return id, mounts

    def create(self, id, mounts, checkpoint, **more):
        return self.call(self.tasks.Create, tasks.CreateTaskRequest(
            container_id=id, rootfs=mounts, checkpoint=checkpoint, stdout="file://" + self.log(id), **more))

    def start(self, id):
        return self.call(self.tasks.Start, tasks.StartRequest(container_id=id))

    def remove(self, id):
        self.ctr("tasks", "kill", "-s", "SIGKILL", id)
        bh.wait_for(lambda: self.ctr.state(id) != "RUNNING")
        return self.ctr.remove(id)

    def clean(self):
        """Neither a folder of criu's nor half a blob, within a moment."""
        return bh.wait_for(lambda: not self.half(), 20)

    def half(self):
        return [f for place in ("checkpoints", "content/writes") for f in glob.glob(
            os.path.join(self.daemon.state, place, "*"))]

    def counts_on(self, id="main"):
        before = self.count(id)
        return bh.wait_for(lambda: self.count(id) > before + 1, 10)

    def stop(self):
        self.channel.close()
        for id in [r[0] for r in self.ctr.table("containers", "ls")]:
            self.remove(id)
        self.daemon.stop()
        self.daemon.remove_cgroups()
        self.ctr.remove_parents()


# --- what it is ---

def test_checkpoint(w, fake):
    images, config = w.checkpoint()
    tap.check((images.media_type, config.media_type) == (IMAGES, CONFIG), "Checkpoint answers with two descriptors",
              (images, config))
    data = w.blob(images.digest)
    names = sorted(tarfile.open(fileobj=io.BytesIO(data)).getnames())
    tap.check(names == ["inventory.img", "pages-1.img"] and len(data) == images.size and
              images.digest == "sha256:" + hashlib.sha256(data).hexdigest(), "the first is an archive of criu's images", names)
    from google.protobuf import any_pb2
    spec = any_pb2.Any.FromString(w.blob(config.digest))
    tap.check((spec.type_url, spec.value) == (w.spec().type_url, w.spec().value), "the second the container's specification", spec)
    tap.check("--freeze-cgroup" not in fake.args() and "--leave-running" in fake.args(), "criu is told to leave it running",
              fake.args())
    tap.check(w.counts_on() and w.clean(), "and it runs on; nothing is left beside the content")
    return images


def test_paused(w, fake):
    w.ctr("tasks", "pause", "main")
    before = w.count("main")
    images, _ = w.checkpoint()
    args = fake.args()
    group = args[args.index("--freeze-cgroup") + 1] if "--freeze-cgroup" in args else "none"
    tap.check(os.path.isdir(group) and w.ctr.namespace in group, "of a paused task criu is told the freezer's group", group)
    tap.check(w.ctr.state("main") == "PAUSED" and w.count("main") == before, "which stays paused")
    w.ctr("tasks", "resume", "main")
    tap.check(w.counts_on(), "and goes on when it is resumed")


def test_lease(w):
    lease = w.call(w.leases.Create, leases.CreateRequest(id="keeps")).lease.id
    images, config = w.checkpoint(lease=lease)
    held = {r.id for r in w.call(w.leases.ListResources, leases.ListResourcesRequest(id=lease)).resources}
    tap.check({images.digest, config.digest} <= held, "the lease of the call holds both", held)
    w.call(w.leases.Delete, leases.DeleteRequest(id=lease, sync=True))
    error = w.error(w.content.Info, content.InfoRequest(digest=images.digest))
    tap.check(fails(error, Code.NOT_FOUND), "without it they are garbage, as any content", said(error))
    error = w.error(w.tasks.Checkpoint, tasks.CheckpointTaskRequest(container_id="main"), lease="none")
    tap.check(fails(error, Code.NOT_FOUND, "none"), "a lease that isn't there", said(error))
    tap.check(w.counts_on() and w.clean(), "leaves nothing")


def test_exit(w):
    w.ctr("run", "-d", w.image, "ends", "/bin/sleep", "1000")
    w.checkpoint("ends", exit=True)
    tap.check(bh.wait_for(lambda: w.ctr.state("ends") == "STOPPED"), "with exit the task ends once it is saved",
              w.ctr.state("ends"))
    code = w.call(w.tasks.Wait, tasks.WaitRequest(container_id="ends")).exit_status
    tap.check(code == 137, "by SIGKILL", code)
    error = w.error(w.tasks.Checkpoint, tasks.CheckpointTaskRequest(container_id="ends"))
    tap.check(fails(error, Code.FAILED_PRECONDITION, "isn't running"), "one that has ended isn't saved", said(error))
    w.ctr.remove("ends")


# --- what is refused ---

def test_refused(w, fake):
    def refused(what, code, *texts, id="main", **request):
        error = w.error(w.tasks.Checkpoint, tasks.CheckpointTaskRequest(container_id=id, **request))
        tap.check(fails(error, code, *texts), "refused: " + what, said(error))
    from google.protobuf import any_pb2

    def options(**more):
        return any_pb2.Any(type_url="types.googleapis.com/containerd.runc.v1.CheckpointOptions",
                           value=runc.CheckpointOptions(**more).SerializeToString())
    refused("no task", Code.NOT_FOUND, '"none"', id="none")
    refused("options of another type", Code.INVALID_ARGUMENT, "CheckpointOptions",
            options=any_pb2.Any(type_url="containerd.runc.v1.Options"))
    refused("options that don't decode", Code.INVALID_ARGUMENT, "CheckpointOptions",
            options=any_pb2.Any(type_url="containerd.runc.v1.CheckpointOptions", value=b"\xff"))
    for more, text in ((dict(image_path="/tmp"), "folder for the images"), (dict(work_path="/tmp"), "folder for the log"),
                       (dict(open_tcp=True), "connections"), (dict(external_unix_sockets=True), "sockets"),
                       (dict(terminal=True), "terminal"), (dict(empty_namespaces=["network"]), "namespace"),
                       (dict(parent_path="/tmp"), "parent")):
        refused("option %s" % list(more)[0], Code.UNIMPLEMENTED, text, options=options(**more))
    refused("a parent", Code.UNIMPLEMENTED, "parent", parent_checkpoint="sha256:" + "0" * 64)
    fake.mode("fail")
    refused("what criu can't", Code.UNKNOWN, "criu: Error", "reason 4")
    fake.mode("silent")
    refused("what it says nothing of", Code.UNKNOWN, "status 3")
    fake.mode("link")
    refused("an image that is none", Code.INVALID_ARGUMENT, "write the archive", "symbolic")
    os.rename(fake.path, fake.path + ".away")
    refused("without criu", Code.FAILED_PRECONDITION, "install criu")
    os.rename(fake.path + ".away", fake.path)
    fake.mode("well")
    tap.check(w.counts_on() and w.clean(), "refused: the task runs on, nothing is left")


def test_refused_restores(w, images):
    bad = Code.FAILED_PRECONDITION
    id, mounts = w.container()

    def refused(what, code, *texts, checkpoint=images, id=id, mounts=mounts, **more):
        try:
            error = w.create(id, mounts, checkpoint, **more)
        except grpc.RpcError as e:
            error = e
        tap.check(isinstance(error, grpc.RpcError) and fails(error, code, *texts), "no restore: " + what, said(error))

    def like(**more):
        d = types.Descriptor()
        d.CopyFrom(images)
        for key, value in more.items():
            setattr(d, key, value)
        return d
    refused("a type of something else", Code.INVALID_ARGUMENT, "text/plain", checkpoint=like(media_type="text/plain"))
    refused("a digest that is none", Code.INVALID_ARGUMENT, checkpoint=like(digest="x"))
    refused("content that isn't there", Code.NOT_FOUND, "4" * 64, checkpoint=like(digest="sha256:" + "4" * 64))
    foreign = next(r[0] for r in w.ctr.table("content", "ls") if r[0] != images.digest)
    refused("content of somebody else's", bad, "wasn't made here", checkpoint=like(digest=foreign))
    refused("mounts of no snapshot", Code.UNIMPLEMENTED, "snapshot",
            mounts=[types.Mount(type="bind", source="/", options=["rbind"])])
    refused("a terminal", bad, "specification", id=w.container(
        lambda s: s["process"].update(terminal=True))[0])
    for what, change in (("more capabilities", lambda s: s["process"]["capabilities"]["bounding"].append("CAP_SYS_ADMIN")),
                         ("another mount", lambda s: s["mounts"].append(
                             {"destination": "/more", "type": "tmpfs", "source": "tmpfs"})),
                         ("another user", lambda s: s["process"]["user"].update(uid=7))):
        refused(what, bad, "specification must be as it was", id=w.container(change)[0])
    annotated = like()
    annotated.annotations["RestoreFromPath"] = "/tmp"
    refused("a folder in an annotation", Code.UNIMPLEMENTED, "folder", checkpoint=annotated)
    from google.protobuf import any_pb2
    refused("a folder in the options", Code.UNIMPLEMENTED, "folder", options=any_pb2.Any(
        type_url="containerd.runc.v1.Options", value=runc.Options(criu_image_path="/tmp").SerializeToString()))
    tap.check(w.ctr.table("tasks", "ls") == [r for r in w.ctr.table("tasks", "ls") if r[0] == "main"],
              "no restore: nor is there a task", w.ctr("tasks", "ls").out)
    for name in [r[0] for r in w.ctr.table("containers", "ls") if r[0] != "main"]:
        w.ctr("containers", "rm", name)


# --- restores ---

def layers(w):
    return len([n for n in os.listdir(os.path.join(w.daemon.state, "layers")) if n[0] != "."])


def test_restore(w, fake, images):
    before = layers(w)
    id, mounts = w.container()
    made = w.create(id, mounts, images)
    tap.check(w.ctr.state(id) == "CREATED" and layers(w) == before + 1, "restore: a task is created from a checkpoint",
              (w.ctr.state(id), before, layers(w)))
    started = w.start(id)
    tap.check(started.pid not in (0, made.pid) and w.ctr.task(id) == (started.pid, "RUNNING"),
              "restore: with its start its pid is known", (made.pid, started.pid, w.ctr.task(id)))
    tap.check(bh.wait_for(lambda: w.count(id) > 1001), "restore: its output goes where the new one's does")
    with open(os.path.join(fake.folder, "seen")) as f:
        first, pipe, x, _, _, _, group = f.read().split("\n", 6)
    tap.check(first == "images of" and pipe.startswith("pipe:[") and pipe != "pipe:[0]",
              "restore: criu has the images, and the number of the pipe that was", (first, pipe))
    tap.check(x == "new" and w.ctr.namespace in group, "restore: the client's snapshot is the root", (x, group))
    tap.check(bh.wait_for(lambda: layers(w) == before, 10), "restore: what it was made from is gone once it runs",
              (before, layers(w)))
    w.ctr("tasks", "kill", "-s", "SIGKILL", id)
    code = w.call(w.tasks.Wait, tasks.WaitRequest(container_id=id)).exit_status
    tap.check(code == 137 and w.clean(), "restore: its end is seen, and nothing is left", code)
    w.ctr.remove(id)


def test_restore_fails(w, fake, images):
    before = layers(w)
    for mode, text in (("restore-fails", "reason 4"), ("restore-lies", "gone")):
        fake.mode(mode)
        id, mounts = w.container()
        w.create(id, mounts, images)
        error = w.error(w.tasks.Start, tasks.StartRequest(container_id=id))
        tap.check(fails(error, Code.UNKNOWN, text), "restore: criu's reason is the start's: " + mode, said(error))
        w.remove(id)
    fake.mode("well")
    id, mounts = w.container()
    w.create(id, mounts, images)
    w.call(w.tasks.Delete, tasks.DeleteTaskRequest(container_id=id))
    w.ctr("containers", "rm", id)
    tap.check(w.clean() and bh.wait_for(lambda: layers(w) == before, 10), "restore: nothing is left of those that don't start",
              (before, layers(w)))


def crash(w, worker):
    before = w.daemon.processes()[worker][0]
    os.kill(before, signal.SIGKILL)
    bh.wait_for(lambda: w.daemon.processes().get(worker, [before])[0] != before)


def test_restart(w, images):
    """Between creation and start everything may be replaced."""
    id, mounts = w.container()
    w.create(id, mounts, images)
    for worker in ("metadata", "snapshot", "task"):
        crash(w, worker)
    w.daemon.ready()
    w.start(id)
    tap.check(bh.wait_for(lambda: w.count(id) > 1001), "restore: after kill -9 of three workers it is started",
              w.ctr("tasks", "ls").out)
    w.remove(id)


# --- crashes ---

def in_the_middle(w, fake, kill, mode="hang"):
    """What a checkpoint ends with when something is killed while criu holds the container."""
    fake.mode(mode)
    answer = []
    thread = threading.Thread(target=lambda: answer.append(
        w.error(w.tasks.Checkpoint, tasks.CheckpointTaskRequest(container_id="main"), timeout=30)))
    thread.start()
    fake.reached()
    kill()
    thread.join()
    fake.mode("well")
    return answer[0]


def test_crashes(w, fake):
    def criu():
        with open(os.path.join(fake.folder, "reached")) as f:
            os.kill(int(f.read().split()[0]), signal.SIGKILL)
    error = in_the_middle(w, fake, criu)
    os.kill(w.ctr.task("main")[0], signal.SIGCONT)  # the real one stops by ptrace
    tap.check(fails(error, Code.UNKNOWN, "signal 9") and w.counts_on() and w.clean(), "crash: of criu", said(error))
    children = []

    def parent():
        with open(os.path.join(fake.folder, "reached")) as f:
            children.append(int(f.read().split()[1]))
        criu()
    error = in_the_middle(w, fake, parent, "hang-child")
    os.kill(w.ctr.task("main")[0], signal.SIGCONT)
    tap.check(fails(error, Code.UNKNOWN, "signal 9") and w.counts_on() and w.clean(),
              "crash: of a criu whose child lives on", said(error))
    tap.check(bh.wait_for(lambda: not os.path.exists("/proc/%d" % children[0]), 5), "crash: it doesn't", children)
    for worker in ("snapshot", "image", "task", "metadata"):
        def kill():
            crash(w, worker)
            criu()
            os.kill(w.ctr.task("main")[0], signal.SIGCONT)
        error = in_the_middle(w, fake, kill)
        w.daemon.ready()
        tap.check(error is not None and w.counts_on() and w.clean(), "crash: of %s" % worker, (said(error), w.half()))
        images, _ = w.checkpoint()
        tap.check(images.size > 0, "crash: the next one after that of %s is as it was" % worker)


# --- by ctr ---

def test_ctr(w, name, check):
    ctr = w.ctr

    def shows(what, result, *texts):
        tap.check(result.status == 0 and all(t in result.out for t in texts), "%s: %s" % (name, what), result)
    before = w.count("main")
    shows("tasks checkpoint", ctr("tasks", "checkpoint", "main"), "containerd.io/checkpoint/main")
    shows("containers checkpoint", ctr("containers", "checkpoint", "--rw", "--image", "--task", "main", "saved:1"))
    at = w.count("main")
    tap.check(ctr.state("main") == "RUNNING" and w.counts_on(), name + ": the task runs on")
    time.sleep(1)  # what ctr calls it has the second in it
    shows("tasks checkpoint --exit", ctr("tasks", "checkpoint", "--exit", "main"))
    tap.check(bh.wait_for(lambda: ctr.state("main") == "STOPPED"), name + ": and not with --exit", ctr.state("main"))
    ctr.remove("main")
    shows("containers restore --live", ctr("containers", "restore", "--rw", "--live", "second", "saved:1"))
    tap.check(ctr.state("second") == "RUNNING", name + ": it runs", ctr("tasks", "ls"))
    check(w, before, at)
    w.remove("second")
    w.ctr("images", "rm", "--sync", "saved:1")
    tap.check(w.clean(), name + ": nothing is left", w.half())


def played_root(fake):
    def check(w, before, at):
        with open(os.path.join(fake.folder, "seen")) as f:
            x, var = f.read().split("\n")[2:4]
        tap.check((x, var) == ("new", "False"), "played criu: its root is as it was", (x, var))
    return check


def real_count(w, before, at):
    """Its root; and once more, into a file that is seen."""
    out = w.ctr("tasks", "exec", "--exec-id", "x", "second", "/bin/sh", "-c", "cat /home/x; ls -d /var").out
    tap.check("new\n" in out and "/var: No such" in out, "real criu: its root is as it was", out)  # streams have no order
    digest = next(m for m in json.loads(w.ctr("content", "get", next(
        r[2] for r in w.ctr.table("images", "ls") if r[0] == "saved:1")).out)["manifests"] if m["mediaType"] == IMAGES)
    w.ctr("tasks", "kill", "-s", "SIGKILL", "second")
    bh.wait_for(lambda: w.ctr.state("second") == "STOPPED")
    w.ctr("tasks", "rm", "second")
    mounts = w.call(w.snapshots.Mounts, snapshots.MountsRequest(snapshotter="overlayfs", key=w.call(
        w.containers.Get, containers.GetContainerRequest(id="second")).container.snapshot_key)).mounts
    w.create("second", mounts, types.Descriptor(media_type=IMAGES, digest=digest["digest"], size=digest["size"]))
    w.start("second")
    bh.wait_for(lambda: w.count("second") > at)
    with open(w.log("second")) as f:
        first = int(f.read().split()[0])
    tap.check(before < first <= at + 1 and w.count("second") > at, "real criu: it goes on counting where it was",
              (before, at, first, w.count("second")))


def test_real(folder, registry):
    path, why = real_criu()
    if not path:
        tap.skip("real criu", why)
        return
    w = World(folder, registry, path)
    before = w.ctr.truth()
    w.checkpoint()
    tap.check(w.counts_on(), "real criu: a task that isn't paused runs on")
    w.ctr("tasks", "pause", "main")
    for delay in (0.01, 0.03, 0.06):
        thread = threading.Thread(target=lambda: w.error(w.tasks.Checkpoint, tasks.CheckpointTaskRequest(container_id="main")))
        thread.start()
        found = bh.wait_for(lambda: [p for p in bh.pids() if "--freeze-cgroup" in title(p)], 5, 0.001)
        time.sleep(delay)
        for pid in found or []:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        thread.join()
        at = w.count("main")
        time.sleep(0.3)
        tap.check(w.ctr.state("main") == "PAUSED" and w.count("main") == at,
                  "real criu: killed after %g s, a paused task is paused" % delay)
    w.ctr("tasks", "resume", "main")
    tap.check(w.counts_on() and w.clean(), "real criu: and goes on afterwards")
    after = bh.wait_for(lambda: w.ctr.truth() == before) and before
    tap.check(after == before, "real criu: as it was before", after or differences(before, w.ctr.truth()))
    test_ctr(w, "real criu", real_count)
    w.stop()


def main():
    if not there():
        tap.skip("checkpoints of tasks", "no ctr on this machine")
        return
    own_fifos()
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "bb"), registry, "bb:1")
        fake = Fake(folder)
        w = World(os.path.join(folder, "one"), registry, fake.path)
        images = test_checkpoint(w, fake)
        test_paused(w, fake)
        test_lease(w)
        test_exit(w)
        test_refused(w, fake)
        images, _ = w.checkpoint(lease=w.call(w.leases.Create, leases.CreateRequest(id="main")).lease.id)
        test_refused_restores(w, images)
        test_restore(w, fake, images)
        test_restore_fails(w, fake, images)
        test_restart(w, images)
        test_crashes(w, fake)
        test_ctr(w, "played criu", played_root(fake))
        w.stop()
        test_real(os.path.join(folder, "two"), registry)
        registry.stop()


main()
tap.done()
