"""Sandboxes of containerd's API in virtual machines: the Controller chooses that backend by the runtime's name, in today's form
and in the first one. What a client sees of them is what it sees of sandboxes of namespaces."""

import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
import sandbox_client as sc  # noqa: E402
import vm  # noqa: E402

tap = bh.Tap()
VM = "vm"
LIMIT = 150


class Lab:
    def __init__(self, d):
        self.d, self.client, self.seed = d, sc.Client(d, timeout=LIMIT), sc.Seed(d, LIMIT)
        self.pb, self.grpc = bh.stubs_of("containerd/snapshots.proto")
        self.snapshots = self.grpc.SnapshotsStub(self.client.channel)
        self.roots = 0

    def make(self, name, runtime=VM, **fields):
        return self.client.make(name, runtime=sc.types.Sandbox.Runtime(name=runtime), **fields)

    def control(self, method, name, **fields):
        return self.client.control(method, name, **fields)

    def root(self):
        """A root of its own for a container: a snapshot, which goes when no container has it."""
        self.roots += 1
        key = "root%d" % self.roots
        mounts = self.client(self.snapshots, "Prepare", self.pb.PrepareSnapshotRequest(snapshotter="overlayfs", key=key)).mounts
        bh.busybox_root(mounts[0].source)
        os.makedirs(os.path.join(mounts[0].source, "proc"))
        return key, mounts

    def out(self, name):
        return os.path.join(self.d.folder, name + ".out")

    def run(self, name, sandbox, script, runtime=VM):
        return self.client.run(name, sandbox, self.root(), "/bin/sh", "-c", script, runtime=runtime,
                               stdout="file://" + self.out(name))

    def said(self, name):
        try:
            with open(self.out(name)) as f:
                return f.read()
        except OSError:
            return ""

    def counts(self, name, seconds=60):
        n = len(self.said(name))
        return bh.wait_for(lambda: len(self.said(name)) > n, seconds)

    def stands_still(self, name):
        time.sleep(0.3)
        n = len(self.said(name))
        time.sleep(1.5)
        return len(self.said(name)) == n

    def execute(self, name, *args):
        """What a command in the task says, and its status."""
        from google.protobuf import any_pb2
        import json
        spec = any_pb2.Any(type_url="types.containerd.io/opencontainers/runtime-spec/1/Process", value=json.dumps(
            {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}).encode())
        out = self.out("exec")
        key = dict(container_id=name, exec_id="x")
        call, tasks = self.client, sc.tasks
        call(call.tasks, "Exec", tasks.ExecProcessRequest(spec=spec, stdout="file://" + out, **key))
        call(call.tasks, "Start", tasks.StartRequest(**key))
        status = call(call.tasks, "Wait", tasks.WaitRequest(**key)).exit_status
        call(call.tasks, "DeleteProcess", tasks.DeleteProcessRequest(**key))
        with open(out) as f:
            said = f.read()
        os.unlink(out)
        return said, status

    def ended(self, name, seconds=60):
        return bh.wait_for(lambda: self.client.task(name).status == 3 and self.client.task(name), seconds)

    def close(self):
        self.seed.close()


def fails(name, code, call, *args, text="", **kwargs):
    e = bh.error_of(call, *args, **kwargs)
    tap.check(e is not None and e.code().name == code and text in e.details(), name, e)


def named(name):
    return [p for p in bh.pids() if (bh.comm(p) or "").startswith(name)]


# --- what a virtual machine can't hold ---

def config(**fields):
    from google.protobuf import any_pb2
    from cri import runtime_pb2 as cri
    return any_pb2.Any(type_url="runtime.v1.PodSandboxConfig", value=cri.PodSandboxConfig(**fields).SerializeToString())


def test_refused(lab):
    bh.stubs()
    from cri import runtime_pb2 as cri
    hosts = cri.LinuxSandboxSecurityContext(namespace_options=cri.NamespaceOption(network=cri.NODE))
    lab.make("r")
    for what, text, fields in (
            ("a root", "rootfs:", dict(rootfs=[sc.types.Mount(type="bind", source="/")])),
            ("port mappings", "port_mappings:", dict(options=config(port_mappings=[cri.PortMapping(host_port=80)]))),
            ("sysctls", "sysctls:", dict(options=config(linux=cri.LinuxPodSandboxConfig(sysctls={"a.b": "c"})))),
            ("the host's network", "host's network", dict(options=config(
                linux=cri.LinuxPodSandboxConfig(security_context=hosts))))):
        fails("Create with %s is refused" % what, "INVALID_ARGUMENT", lab.control, "Create", "r", text=text, **fields)
    lab.control("Create", "r", netns_path="/proc/1/ns/net")
    fails("a path that leads to the host's network", "UNIMPLEMENTED", lab.control, "Start", "r", text="host's network")
    lab.control("Shutdown", "r")
    lab.client.drop("r")
    fails("a container of that runtime in no sandbox", "INVALID_ARGUMENT", lab.run, "r", "", "true",
          text="in sandboxes of its own")
    lab.make("n", runtime=sc.RUNTIME)
    lab.control("Create", "n")
    lab.control("Start", "n")
    for sandbox in ("", "n"):
        lab.client(lab.client.containers, "Delete", sc.containers.DeleteContainerRequest(id="r"))
        fails("nor in one of namespaces" if sandbox else "nor without", "INVALID_ARGUMENT", lab.run, "r", sandbox, "true",
              text="in sandboxes of its own")
    lab.client(lab.client.containers, "Delete", sc.containers.DeleteContainerRequest(id="r"))
    lab.control("Shutdown", "n")
    lab.client.drop("n")


# --- a life ---

def test_network(lab, net):
    def say(port):
        lab.execute("c1", "/bin/sh", "-c", "echo guest | nc -w 5 10.232.0.1 %d >/dev/null 2>&1 &" % port)
    said = vm.heard(say)
    tap.check(said == (b"guest\n", "10.232.0.2"), "the guest has the address of the client's network namespace", said)


def test_network_back(net):
    said = vm.heard(lambda port: net.there("/bin/busybox", "sh", "-c", "echo host | nc 10.232.0.1 %d >/dev/null 2>&1 &" % port))
    tap.check(said == (b"host\n", "10.232.0.2"), "which has its packets back when the machine has gone", said)


COUNT = "trap 'exit 7' TERM; while :; do echo -n x; sleep 0.05; done"


def test_containers(lab):
    with open("/proc/sys/kernel/random/boot_id") as f:
        host = f.read()
    lab.run("c1", "s", COUNT)
    lab.run("c2", "s", "cat /proc/sys/kernel/random/boot_id; hostname; exit 5", runtime=sc.RUNTIME)
    end = lab.ended("c2")
    first = lab.execute("c1", "cat", "/proc/sys/kernel/random/boot_id")
    tap.check(end and end.exit_status == 5 and lab.said("c2") == first[0] + "s\n" and first[0] != host,
              "two containers run on one guest's kernel; output, exit status", (end, lab.said("c2"), first))
    tap.check(lab.execute("c1", "sh", "-c", "echo in it; exit 4") == ("in it\n", 4), "Tasks.Exec")
    fails("a container that brings its own root is refused", "UNIMPLEMENTED", lab.client.run, "c3", "s", "/", "/bin/true",
          text="its own root", runtime=VM)
    version, figures = sc.figures_of(lab.control("Metrics", "s").metrics)
    tap.check(version == "v2" and figures.memory.usage > 0 and figures.cpu.usage_usec > 0 and figures.pids.current >= 1,
              "Metrics: what the guest counts", figures)
    call = lab.client
    metric, = call(call.tasks, "Metrics", sc.tasks.MetricsRequest(filters=["id==c1"])).metrics
    version, figures = sc.figures_of(metric)
    tap.check(version == "v2" and figures.memory.usage > 0, "a task's Metrics, too", figures)
    call(call.containers, "Delete", sc.containers.DeleteContainerRequest(id="c3"))
    call.remove("c2")


def test_pause(lab, name, container):
    tap.check(lab.seed("Ping", sandbox_id=name) == {}, "Ping")
    tap.check(lab.counts(container), "a container counts")
    paused = lab.seed("Pause", sandbox_id=name)
    tap.check(paused == {} and lab.stands_still(container) and lab.client.task(container).status == 4,
              "Pause: it stands still in the guest", (paused, lab.client.task(container)))
    tap.check(lab.control("Status", name).state == "SANDBOX_PAUSED", "Status says so")
    resumed = lab.seed("Resume", sandbox_id=name)
    tap.check(resumed == {} and lab.counts(container) and lab.control("Status", name).state == "SANDBOX_READY",
              "Resume: it goes on", resumed)


def waiter(lab, name):
    ends = []
    thread = threading.Thread(target=lambda: ends.append(lab.control("Wait", name)))
    thread.start()
    return thread, ends


def test_life(lab, net):
    lab.make("s")
    lab.control("Create", "s", netns_path=net.path)
    tap.check(lab.control("Status", "s").state == "SANDBOX_NOTREADY" and not named("qemu-system"), "Create: no machine yet")
    begin = time.monotonic()
    started = lab.control("Start", "s")
    print("# a sandbox runs after %.1f s" % (time.monotonic() - begin), flush=True)
    status = lab.control("Status", "s", verbose=True)
    tap.check(status.state == "SANDBOX_READY" and status.pid == started.pid in lab.d.processes()["pod-keeper"] and
              len(named("qemu-system")) == 1, "Start: its machine runs", status)
    tap.check(lab.control("Platform", "s").platform.os == "linux", "Platform")
    tap.check(sc.figures_of(lab.control("Metrics", "s").metrics)[1].pids.current == 0, "Metrics without a container")
    test_containers(lab)
    test_network(lab, net)
    test_pause(lab, "s", "c1")
    thread, ends = waiter(lab, "s")
    lab.control("Stop", "s", timeout_secs=60)
    thread.join(20)
    tap.check(lab.client.task("c1").exit_status == 7, "Stop: its containers hear of it", lab.client.task("c1"))
    tap.check(len(ends) == 1 and ends[0].exit_status == 0 and lab.control("Status", "s").state == "SANDBOX_NOTREADY",
              "Wait answers", ends)
    tap.check(not named("qemu-system") and not named("virtiofsd") and not named("bulkhead-vm"), "no process is left")
    lab.client.remove("c1")
    lab.control("Shutdown", "s")
    fails("after Shutdown there is none", "NOT_FOUND", lab.control, "Status", "s")
    lab.client.drop("s")
    test_network_back(net)


# --- the first form, and deaths ---

def replaced(d, name):
    old = d.processes()[name]
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    return bh.wait_for(lambda: set(d.processes().get(name, [])) - set(old), 30)


def test_seed(lab):
    """Started by the first form, with Kata's name for it; killed in each of its parts."""
    lab.make("e", runtime="io.containerd.kata.v2")
    answer = lab.seed("Start", sandbox_id="e")
    tap.check(answer.get("sandbox_id") == "e" and lab.seed("Status", sandbox_id="e").get("state") == "SANDBOX_READY",
              "the first form: Start creates and boots", answer)
    lab.run("c1", "e", COUNT)
    tap.check(lab.counts("c1"), "a container runs in it")
    for name in ("metadata", "task", "pod-keeper"):
        tap.check(replaced(lab.d, name) and bh.wait_for(lambda: lab.control("Status", "e").state == "SANDBOX_READY" and
                                                        lab.client.task("c1").status == 2, 60) and lab.counts("c1"),
                  "kill -9 of %s: all runs on" % name, lab.d.processes())
        # Of task and keeper one must have heard of the other before the next is killed.
        bh.wait_for(lambda: not bh.error_of(lab.control, "Metrics", "e"), 30)
    said = bh.wait_for(lambda: not bh.error_of(lab.execute, "c1", "true") and lab.execute("c1", "echo", "still"), 60)
    tap.check(said == ("still\n", 0), "a command runs in it", said)
    thread, ends = waiter(lab, "e")
    time.sleep(0.3)
    qemu, = named("qemu-system")
    os.kill(qemu, signal.SIGKILL)
    thread.join(60)
    tap.check(len(ends) == 1 and ends[0].exit_status == 255 and lab.client.task("c1").exit_status == 255,
              "QEMU is killed: Wait answers 255, and the task has ended with that", (ends, lab.client.task("c1")))
    tap.check(bh.wait_for(lambda: "pod-keeper" not in lab.d.processes(), 20), "what the host had for it goes",
              lab.d.processes())
    tap.check(lab.seed("Shutdown", sandbox_id="e") == {}, "Shutdown")
    lab.client.remove("c1")
    lab.client.drop("e")


def run_all(d):
    lab = Lab(d)
    before = bh.kernel_truth(d)
    test_refused(lab)
    net = vm.Net()
    test_life(lab, net)
    net.close()
    same = bh.wait_for(lambda: bh.kernel_truth(d) == before, 20)
    tap.check(same, "nothing is left", bh.differences(before, bh.kernel_truth(d)))
    test_seed(lab)
    lab.close()
    count = len(before.pop("netns"))  # a worker's successor has another

    def left():
        now = bh.kernel_truth(d)
        return dict(now, netns=None) == dict(before, netns=None) and len(now["netns"]) == count
    tap.check(bh.wait_for(left, 20), "nor after the first form's", bh.differences(before, bh.kernel_truth(d)))


def main():
    bh.isolate()
    sc.load()
    vm.run(tap, run_all)


main()
