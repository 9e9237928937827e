"""A container's life by containerd's API: an image pulled into a namespace, its layer unpacked once more into a snapshot
of the client's own, a container and a task on it, their end."""

import json
import os
import platform
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
from life import SCRIPT, PlainLog, Steps
from patience import Impatient, again

import grpc

NAMESPACE = "crash"
SNAPSHOTTER = "overlayfs"
KEPT = {"containerd.io/gc.root": "1"}
THERE = (grpc.StatusCode.ALREADY_EXISTS,)
GONE = (grpc.StatusCode.NOT_FOUND,)


class Api:
    """The stubs of what a life needs, all in one namespace."""

    SERVICES = "transfer", "images", "content", "snapshots", "diff", "containers", "tasks", "leases"

    def __init__(self, path):
        channel = grpc.insecure_channel("unix://" + path, options=[
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)])
        self.channel, meta = channel, [("containerd-namespace", NAMESPACE)]
        for name in self.SERVICES:
            messages, stubs = bh.stubs_of("containerd/%s.proto" % name)
            stub = getattr(stubs, name.capitalize() + "Stub")(channel)
            setattr(self, name, messages)
            setattr(self, name + "_stub", stub)
        self.sandbox, stubs = bh.stubs_of("containerd/sandbox.proto")
        self.store_stub, self.controller_stub = stubs.StoreStub(channel), stubs.ControllerStub(channel)
        self.types, _, self.kinds, _ = bh.stubs_of("containerd/types.proto", "containerd/transfer_types.proto")
        self.states, _ = bh.stubs_of("containerd/task_types.proto")
        self.meta = meta

    def call(self, service, method, request, timeout=20):
        return getattr(getattr(self, service + "_stub"), method)(request, metadata=self.meta, timeout=timeout)

    def read(self, digest):
        request = self.content.ReadContentRequest(digest=digest)
        return b"".join(m.data for m in self.call("content", "Read", request))

    def objects(self):
        """All that the namespace has, by names."""
        lists = (("containers", "List", self.containers.ListContainersRequest(), lambda r: [c.id for c in r.containers]),
                 ("tasks", "List", self.tasks.ListTasksRequest(), lambda r: [t.id for t in r.tasks]),
                 ("images", "List", self.images.ListImagesRequest(), lambda r: [i.name for i in r.images]),
                 ("leases", "List", self.leases.ListRequest(), lambda r: [x.id for x in r.leases]),
                 ("store", "List", self.sandbox.StoreListRequest(), lambda r: [s.sandbox_id for s in r.list]),
                 ("snapshots", "List", self.snapshots.ListSnapshotsRequest(snapshotter=SNAPSHOTTER),
                  lambda r: [i.name for part in r for i in part.info]),
                 ("content", "List", self.content.ListContentRequest(), lambda r: [i.digest for part in r for i in part.info]),
                 ("content", "ListStatuses", self.content.ListStatusesRequest(), lambda r: ["write " + s.ref for s in r.statuses]))
        return ["%s %s" % (service, name) for service, method, request, names in lists
                for name in sorted(again(lambda: names(self.call(service, method, request))))]


def any_of(message):
    from google.protobuf.any_pb2 import Any
    return Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def specification(group):
    from google.protobuf.any_pb2 import Any
    spec = {"ociVersion": "1.0.2",
            "process": {"args": ["/bin/sh", "-c", SCRIPT], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"}, "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": group,
                      "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")]}}
    return Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=json.dumps(spec).encode())


class TaskLife(Steps, PlainLog):
    STEPS = ["transfer", "apply", "commit", "create-container", "create-task", "start-task", "kill-task", "delete-task",
             "delete-container"]

    def __init__(self, world, name):
        self.world, self.api, self.name = world, world.api, name
        self.log = os.path.join(world.daemon.logs, name + "-task.log")
        self.work, self.layer = name + "-work", name + "-layer"

    def call(self, *args, **more):
        return self.api.call(*args, **more)

    def before_kill_task(self):
        self.says_hello()

    # --- images ---

    def step_transfer(self):
        k = self.api.kinds
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        here = self.api.types.Platform(os="linux", architecture=arch)
        store = k.ImageStore(name=self.world.image, platforms=[here], unpacks=[k.UnpackConfiguration(platform=here)])
        again(lambda: self.call("transfer", "Transfer", self.api.transfer.TransferRequest(
            source=any_of(k.OCIRegistry(reference=self.world.image)), destination=any_of(store))))

    def image_layer(self):
        image = again(lambda: self.call("images", "Get", self.api.images.GetImageRequest(name=self.world.image))).image
        layer = json.loads(again(lambda: self.api.read(image.target.digest)))["layers"][0]
        return self.api.types.Descriptor(media_type=layer["mediaType"], digest=layer["digest"], size=layer["size"])

    def forget_image(self):
        again(lambda: self.call("images", "Delete", self.api.images.DeleteImageRequest(name=self.world.image, sync=True)), GONE)

    # --- snapshots ---

    def prepare(self, key, parent=""):
        again(lambda: self.call("snapshots", "Prepare", self.api.snapshots.PrepareSnapshotRequest(
            snapshotter=SNAPSHOTTER, key=key, parent=parent, labels=KEPT)), THERE)

    def mounts(self, key):
        return again(lambda: self.call("snapshots", "Mounts", self.api.snapshots.MountsRequest(
            snapshotter=SNAPSHOTTER, key=key))).mounts

    def remove(self, key):
        again(lambda: self.call("snapshots", "Remove", self.api.snapshots.RemoveSnapshotRequest(
            snapshotter=SNAPSHOTTER, key=key)), GONE)

    def step_apply(self):
        """What was applied to in vain is done away with, as containerd's own client does."""
        layer = self.image_layer()
        self.prepare(self.work)
        began = False

        def apply():
            nonlocal began
            if began:
                self.remove(self.work)
                self.prepare(self.work)
            began = True
            return self.call("diff", "Apply", self.api.diff.ApplyRequest(diff=layer, mounts=self.mounts(self.work)))
        if again(apply).applied.digest == layer.digest:
            raise Impatient("what was applied has the digest of the compressed layer")

    def step_commit(self):
        again(lambda: self.call("snapshots", "Commit", self.api.snapshots.CommitSnapshotRequest(
            snapshotter=SNAPSHOTTER, name=self.layer, key=self.work, labels=KEPT)), THERE + GONE)
        info = again(lambda: self.call("snapshots", "Stat", self.api.snapshots.StatSnapshotRequest(
            snapshotter=SNAPSHOTTER, key=self.layer))).info
        if info.kind != self.api.snapshots.COMMITTED:
            raise Impatient("what was committed is %r" % info)
        self.prepare(self.work, self.layer)

    # --- the container and its task ---

    def step_create_container(self):
        c = self.api.containers
        container = c.Container(id=self.name, image=self.world.image, runtime=c.Container.Runtime(name="io.containerd.runc.v2"),
                                spec=specification("%s/%s" % (self.world.daemon.cgroup, self.name)),
                                snapshotter=SNAPSHOTTER, snapshot_key=self.work)
        again(lambda: self.call("containers", "Create", c.CreateContainerRequest(container=container)), THERE)

    def step_create_task(self):
        again(lambda: self.call("tasks", "Create", self.api.tasks.CreateTaskRequest(
            container_id=self.name, rootfs=self.mounts(self.work), stdout="file://" + self.log)), THERE)

    def state(self):
        """None when there is no task."""
        try:
            return self.call("tasks", "Get", self.api.tasks.GetRequest(container_id=self.name)).process.status
        except grpc.RpcError as e:
            if e.code() not in GONE:
                raise
            return None

    def step_start_task(self):
        """A client that got no answer looks how far it has come, and goes on from there."""
        def start():
            state = self.state()
            if state == self.api.states.RUNNING:
                return
            if state == self.api.states.STOPPED:
                self.step_delete_task()
            if state != self.api.states.CREATED:
                self.step_create_task()
            self.call("tasks", "Start", self.api.tasks.StartRequest(container_id=self.name))
        again(start)

    def step_kill_task(self):
        kill = self.api.tasks.KillRequest(container_id=self.name, signal=signal.SIGTERM)
        again(lambda: self.call("tasks", "Kill", kill), GONE)
        ended = again(lambda: self.call("tasks", "Wait", self.api.tasks.WaitRequest(container_id=self.name)))
        if ended.exit_status != 3 or self.lines()[-2:] != ["hello", "bye"]:
            raise Impatient("task: exit status %d, and its log has %r" % (ended.exit_status, self.lines()))

    def step_delete_task(self):
        again(lambda: self.call("tasks", "Delete", self.api.tasks.DeleteTaskRequest(container_id=self.name)), GONE)

    def step_delete_container(self):
        again(lambda: self.call("containers", "Delete", self.api.containers.DeleteContainerRequest(id=self.name)), GONE)
        self.remove(self.work)
        self.remove(self.layer)

    @staticmethod
    def clean_up(world):
        """After a life that went wrong: what can still be removed is."""
        for kind, name in (line.split(" ", 1) for line in world.api.objects()):
            if kind == "containers":
                life = TaskLife(world, name)
                kill = world.api.tasks.KillRequest(container_id=name, signal=signal.SIGKILL)
                bh.error_of(life.call, "tasks", "Kill", kill)
                bh.error_of(life.call, "tasks", "Wait", world.api.tasks.WaitRequest(container_id=name))
                bh.error_of(life.call, "tasks", "Delete", world.api.tasks.DeleteTaskRequest(container_id=name))
                bh.error_of(life.call, "containers", "Delete", world.api.containers.DeleteContainerRequest(id=name))
                bh.error_of(life.remove, life.work)
                bh.error_of(life.remove, life.layer)
        bh.error_of(TaskLife(world, "none").forget_image)
