"""A sandbox's life by containerd's API: object and sandbox, a container that runs in it, its end within a grace period."""

import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
from life import SCRIPT, PlainLog, Steps
from patience import Impatient, again
from task_life import GONE, THERE

import grpc

RUNTIME = "io.containerd.runc.v2"
GRACE = 10  # seconds, far more than the container wants
READY = "SANDBOX_READY"


def specification(root):
    from google.protobuf.any_pb2 import Any
    spec = {"ociVersion": "1.0.2",
            "process": {"args": ["/bin/sh", "-c", SCRIPT], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": root}, "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")]}}
    return Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=json.dumps(spec).encode())


class SandboxLife(Steps, PlainLog):
    STEPS = ["create-sandbox", "start-sandbox", "run-within", "pause-sandbox", "resume-sandbox", "stop-sandbox",
             "shutdown-sandbox"]

    def __init__(self, world, name):
        self.world, self.api, self.name = world, world.api, name
        self.log = os.path.join(world.daemon.logs, name + "-within.log")

    def control(self, method, **fields):
        request = getattr(self.api.sandbox, "Controller%sRequest" % method)(sandbox_id=self.name, **fields)
        return self.api.call("controller", method, request)

    def before_stop_sandbox(self):
        self.says_hello()

    # --- the sandbox ---

    def step_create_sandbox(self):
        one = self.api.types.Sandbox(sandbox_id=self.name, runtime=self.api.types.Sandbox.Runtime(name=RUNTIME))
        again(lambda: self.api.call("store", "Create", self.api.sandbox.StoreCreateRequest(sandbox=one)), THERE)
        again(lambda: self.control("Create"), THERE)

    def step_start_sandbox(self):
        """A client that got no answer looks whether it runs."""
        def start():
            if self.control("Status").state != READY:
                self.control("Start")
        again(start)
        status = again(lambda: self.control("Status"))
        if status.state != READY or not status.pid:
            raise Impatient("the sandbox that was started is %r" % status)

    def first_form(self, method):
        """What only the API's first form has; its messages have the names of today's, so this one is made by hand."""
        name = self.name.encode()
        again(lambda: self.api.channel.unary_unary("/containerd.services.sandbox.v1.Controller/" + method)(
            b"\x0a%c%s" % (len(name), name), metadata=self.api.meta, timeout=20))

    def becomes(self, state):
        """What runs in the sandbox; a frozen process doesn't run on."""
        now = again(lambda: self.task("Get")).process
        if now.status != state:
            raise Impatient("what runs in the sandbox is %r" % now)

    def step_pause_sandbox(self):
        self.first_form("Pause")
        self.becomes(self.api.states.PAUSED)

    def step_resume_sandbox(self):
        self.first_form("Resume")
        self.becomes(self.api.states.RUNNING)

    def step_stop_sandbox(self):
        again(lambda: self.control("Stop", timeout_secs=GRACE))
        ended = again(lambda: self.control("Wait"))
        if not ended.exited_at.seconds:
            raise Impatient("the sandbox ended as %r" % ended)
        process = again(lambda: self.task("Get")).process
        if process.status != self.api.states.STOPPED or process.exit_status != 3 or self.lines()[-2:] != ["hello", "bye"]:
            raise Impatient("what ran in it ended as %r, and its log has %r" % (process, self.lines()))

    def step_shutdown_sandbox(self):
        again(lambda: self.control("Shutdown"), GONE)
        again(lambda: self.task("Delete"), GONE)
        again(lambda: self.api.call("containers", "Delete", self.api.containers.DeleteContainerRequest(id=self.name)), GONE)
        again(lambda: self.api.call("store", "Delete", self.api.sandbox.StoreDeleteRequest(sandbox_id=self.name)), GONE)

    # --- what runs in it ---

    def task(self, method, **fields):
        name = "DeleteTask" if method == "Delete" else "CreateTask" if method == "Create" else method
        return self.api.call("tasks", method, getattr(self.api.tasks, name + "Request")(container_id=self.name, **fields))

    def state(self):
        """None when there is no task."""
        try:
            return self.task("Get").process.status
        except grpc.RpcError as e:
            if e.code() not in GONE:
                raise
            return None

    def step_run_within(self):
        c = self.api.containers
        container = c.Container(id=self.name, sandbox=self.name, runtime=c.Container.Runtime(name=RUNTIME),
                                spec=specification(self.world.root))
        again(lambda: self.api.call("containers", "Create", c.CreateContainerRequest(container=container)), THERE)

        def start():
            state = self.state()
            if state == self.api.states.RUNNING:
                return
            if state == self.api.states.STOPPED:
                self.task("Delete")
            if state != self.api.states.CREATED:
                self.task("Create", stdout="file://" + self.log)
            self.task("Start")
        again(start)

    # --- the end ---

    @staticmethod
    def clean_up(world):
        """After a life that went wrong: what can still be removed is."""
        for kind, name in (line.split(" ", 1) for line in world.api.objects()):
            if kind == "store":
                life = SandboxLife(world, name)
                bh.error_of(life.control, "Shutdown")
                bh.error_of(life.task, "Kill", signal=signal.SIGKILL)
                bh.error_of(life.task, "Delete")
                bh.error_of(life.step_shutdown_sandbox)
