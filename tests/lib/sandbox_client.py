"""Clients of containerd's sandbox API for tests: of today's form, and of the first one, which is a process of its own (this
file, run), because both share their paths and the messages their full names."""

import json
import os
import subprocess
import sys

import bulkhead as bh

# Loaded by load(), once the program is isolated.
grpc = pb = pb_grpc = types = containers = containers_grpc = tasks = tasks_grpc = events_grpc = None
RUNTIME = "io.containerd.runc.v2"


def load():
    """The stubs; their modules' names are this one's then."""
    global grpc, pb, pb_grpc, types, containers, containers_grpc, tasks, tasks_grpc, events_grpc
    import grpc
    pb, pb_grpc, types, _, containers, containers_grpc, tasks, tasks_grpc, _, events_grpc = bh.stubs_of(
        *("containerd/%s.proto" % n for n in ("sandbox", "types", "containers", "tasks", "events")))


# --- the first form's client ---

def seed_main(path, timeout):
    """One call for each line: method, fields. Answers with the reply's fields, or {"code", "details"}."""
    import grpc
    from google.protobuf import json_format, wrappers_pb2  # noqa: F401: what an Any may hold
    pb, pb_grpc = bh.stubs_of("containerd_seed/sandbox.proto")
    stub = pb_grpc.ControllerStub(grpc.insecure_channel("unix://" + path))
    for line in sys.stdin:
        method, fields = json.loads(line)
        try:
            reply = getattr(stub, method)(json_format.ParseDict(fields, getattr(pb, "Controller%sRequest" % method)()),
                                          timeout=timeout, metadata=[("containerd-namespace", "default")])
            answer = {f.name: str(v) if f.name == "exited_at" else v for f, v in reply.ListFields()}
        except grpc.RpcError as e:
            answer = {"code": e.code().name, "details": e.details()}
        print(json.dumps(answer), flush=True)


class Seed:
    def __init__(self, d, timeout=20):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), d.containerd, str(timeout)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, method, **fields):
        self.process.stdin.write(json.dumps([method, fields]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# --- today's client ---

class Client:
    def __init__(self, d, namespace="default", timeout=20):
        self.timeout = timeout
        self.channel = grpc.insecure_channel("unix://" + d.containerd, options=[
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)])
        self.meta = [("containerd-namespace", namespace)] if namespace else []
        self.store = pb_grpc.StoreStub(self.channel)
        self.controller = pb_grpc.ControllerStub(self.channel)
        self.containers = containers_grpc.ContainersStub(self.channel)
        self.tasks = tasks_grpc.TasksStub(self.channel)

    def __call__(self, stub, method, request):
        return getattr(stub, method)(request, timeout=self.timeout, metadata=self.meta)

    def control(self, method, name, **fields):
        if method == "Update":
            fields.setdefault("sandbox", types.Sandbox(sandbox_id=name, runtime=types.Sandbox.Runtime(name=RUNTIME)))
        return self(self.controller, method, getattr(pb, "Controller%sRequest" % method)(sandbox_id=name, **fields))

    def make(self, name, **fields):
        fields.setdefault("runtime", types.Sandbox.Runtime(name=RUNTIME))
        return self(self.store, "Create", pb.StoreCreateRequest(sandbox=types.Sandbox(sandbox_id=name, **fields))).sandbox

    def drop(self, name):
        self(self.store, "Delete", pb.StoreDeleteRequest(sandbox_id=name))

    def run(self, name, sandbox, root, *args, runtime=RUNTIME, **streams):
        """A container in the sandbox, whose root is a folder, or (key, mounts) of a snapshot; its task's pid."""
        path, key, rootfs = (root, "", ()) if isinstance(root, str) else ("rootfs",) + root
        from google.protobuf import any_pb2
        value = {"ociVersion": "1.1.0", "process": {"args": list(args), "cwd": "/", "env": ["PATH=/bin"],
                                                    "user": {"uid": 0, "gid": 0}},
                 "root": {"path": path}, "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
                 "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]}}
        one = containers.Container(id=name, sandbox=sandbox, snapshotter="overlayfs", snapshot_key=key,
                                   spec=any_pb2.Any(value=json.dumps(value).encode()),
                                   runtime=containers.Container.Runtime(name=runtime))
        self(self.containers, "Create", containers.CreateContainerRequest(container=one))
        self(self.tasks, "Create", tasks.CreateTaskRequest(container_id=name, rootfs=rootfs, **streams))
        return self(self.tasks, "Start", tasks.StartRequest(container_id=name)).pid

    def task(self, name):
        return self(self.tasks, "Get", tasks.GetRequest(container_id=name)).process

    def remove(self, name):
        self(self.tasks, "Delete", tasks.DeleteTaskRequest(container_id=name))
        self(self.containers, "Delete", containers.DeleteContainerRequest(id=name))


# --- figures ---

def figures_of(metric):
    """As a client decodes them; and of which version they are."""
    version = {"io.containerd.cgroups.v1.Metrics": "v1", "io.containerd.cgroups.v2.Metrics": "v2"}[metric.data.type_url]
    return version, bh.stubs_of("containerd/cgroups_%s.proto" % version)[0].Metrics.FromString(metric.data.value)


def memory_of(version, m):
    return m.memory.usage.usage if version == "v1" else m.memory.usage


if __name__ == "__main__":
    seed_main(sys.argv[1], float(sys.argv[2]))
