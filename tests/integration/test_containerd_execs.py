"""Five thousand processes added to one task, one after the other and gone again: who serves them doesn't grow with it."""

import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()
WARM, MANY, CLIENTS = 400, 5000, 4
ROOM = 384  # KiB: what the allocator and the database take as they like


class Client:
    def __init__(self, d):
        import grpc
        self.tasks, stubs, self.containers, containers = bh.stubs_of("containerd/tasks.proto", "containerd/containers.proto")
        channel = grpc.insecure_channel("unix://" + d.containerd, options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub, self.containers_stub = stubs.TasksStub(channel), containers.ContainersStub(channel)

    def __call__(self, method, request):
        return getattr(self.stub, method)(request, timeout=60, metadata=[("containerd-namespace", "default")])

    def run(self, name, root):
        from google.protobuf.any_pb2 import Any
        spec = json.dumps({"ociVersion": "1.1.0", "process": {"args": ["/bin/sleep", "10000"], "cwd": "/"},
                              "root": {"path": root}, "linux": {"namespaces": [{"type": t} for t in ("pid", "mount", "ipc")]}})
        one = self.containers.Container(id=name, spec=Any(value=spec.encode()),
                                        runtime=self.containers.Container.Runtime(name="io.containerd.runc.v2"))
        self.containers_stub.Create(self.containers.CreateContainerRequest(container=one), timeout=20,
                                    metadata=[("containerd-namespace", "default")])
        self("Create", self.tasks.CreateTaskRequest(container_id=name))
        self("Start", self.tasks.StartRequest(container_id=name))

    def execute(self, task, name):
        """Its exit status; nothing of it is left."""
        from google.protobuf.any_pb2 import Any
        t, key = self.tasks, {"container_id": task, "exec_id": name}
        process = json.dumps({"args": ["/bin/true"], "cwd": "/", "env": ["PADDING=" + "x" * 500]})
        self("Exec", t.ExecProcessRequest(spec=Any(value=process.encode()), **key))
        self("Start", t.StartRequest(**key))
        self("Wait", t.WaitRequest(**key))
        return self("DeleteProcess", t.DeleteProcessRequest(**key)).exit_status


def private(pid):
    """KiB that are nobody else's, and aren't a file's."""
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Pss_Anon:"))


def pss(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def execute_many(d, n, prefix):
    """By several clients; how many ended with 0."""
    good = []

    def work(k):
        client = Client(d)
        good.extend(i for i in range(k, n, CLIENTS) if client.execute("one", "%s%d" % (prefix, i)) == 0)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return len(good)


def test_growth(d):
    watched = {name: d.processes()[name][0] for name in ("metadata", "task", "pod-keeper")}
    execute_many(d, WARM, "w")
    before = {name: (pss(pid), private(pid)) for name, pid in watched.items()}
    good = execute_many(d, MANY, "e")
    tap.check(good == MANY, "%d processes run and end" % MANY, good)
    for name, pid in watched.items():
        now = (pss(pid), private(pid))
        print("# %s: PSS %d -> %d KiB, private %d -> %d KiB" % (name, before[name][0], now[0], before[name][1], now[1]))
        tap.check(now[1] - before[name][1] < ROOM, "%s is as large as before" % name, (before[name], now))


def main():
    bh.isolate()
    with bh.Scratch() as folder:
        root = os.path.join(folder, "root")
        bh.busybox_root(root)
        d = bh.Daemon(folder, cni=False).start()
        try:
            client = Client(d)
            client.run("one", root)
            test_growth(d)
            client("Kill", client.tasks.KillRequest(container_id="one", signal=9))
            client("Wait", client.tasks.WaitRequest(container_id="one"))
            client("Delete", client.tasks.DeleteTaskRequest(container_id="one"))
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(30).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
