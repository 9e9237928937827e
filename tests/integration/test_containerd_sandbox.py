"""Sandboxes of containerd's API: Store and Controller, by clients of today's form and of the first one, which share their
paths."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
import sandbox_client as sc  # noqa: E402
from sandbox_client import RUNTIME, Client, Seed, figures_of, memory_of  # noqa: E402

tap = bh.Tap()
# Loaded once the program is isolated.
grpc = pb = types = containers = tasks = events_grpc = None


def fails(name, code, call, *args, text="", **kwargs):
    e = bh.error_of(call, *args, **kwargs)
    tap.check(e is not None and e.code() == code and text in e.details(), name, e)


def truth(d):
    """A worker's successor has a network namespace of its own: their number is what counts."""
    t = bh.kernel_truth(d)
    t["netns"] = len(t["netns"])
    return t


# --- Store ---

def test_store(client):
    from google.protobuf import any_pb2
    made = client.make("s1", labels={"a": "b"}, sandboxer="shim", spec=any_pb2.Any(type_url="x", value=b"\1\2"),
                       extensions={"e": any_pb2.Any(type_url="y", value=b"z")})
    got = client(client.store, "Get", pb.StoreGetRequest(sandbox_id="s1")).sandbox
    tap.check(got == made and got.spec.value == b"\1\2" and got.extensions["e"].value == b"z" and
              got.created_at.seconds > 0, "Store.Create and Get", got)
    fails("a second of that id", grpc.StatusCode.ALREADY_EXISTS, client.make, "s1", text='"s1"')
    fails("an id that is none", grpc.StatusCode.INVALID_ARGUMENT, client.make, "a/b", text="a/b")
    fails("nothing to create", grpc.StatusCode.INVALID_ARGUMENT, client, client.store, "Create", pb.StoreCreateRequest())
    client.make("s2")

    def names(*filters):
        return [s.sandbox_id for s in client(client.store, "List", pb.StoreListRequest(filters=filters)).list]
    tap.check(names() == ["s1", "s2"], "Store.List", names())
    tap.check(names("labels.a==b") == ["s1"] and names("id==s2") == ["s2"], "Store.List with filters")
    fails("a filter that is none", grpc.StatusCode.INVALID_ARGUMENT, names, "==")

    def update(name, *fields, **kwargs):
        return client(client.store, "Update", pb.StoreUpdateRequest(
            sandbox=types.Sandbox(sandbox_id=name, **kwargs), fields=fields)).sandbox
    got = update("s1", "labels.c", labels={"c": "d"})
    tap.check(dict(got.labels) == {"a": "b", "c": "d"} and got.spec.value == b"\1\2", "Store.Update of one label", got)
    fails("of what may not change", grpc.StatusCode.INVALID_ARGUMENT, update, "s1", "sandboxer", text="sandboxer")
    fails("of one that isn't there", grpc.StatusCode.NOT_FOUND, update, "none", "labels", text='"none"')
    fails("Get of one that isn't there", grpc.StatusCode.NOT_FOUND, client, client.store, "Get",
          pb.StoreGetRequest(sandbox_id="none"), text='"none"')
    for name in ("s1", "s2"):
        client.drop(name)
    fails("Store.Delete of one that is gone", grpc.StatusCode.NOT_FOUND, client.drop, "s1")


# --- Controller ---

CALLS = ("Start", "Platform", "Stop", "Wait", "Status", "Shutdown", "Metrics", "Update")


def test_refusals(client, d):
    for method in ("Create",) + CALLS:
        fails("%s of one that isn't there" % method, grpc.StatusCode.NOT_FOUND, client.control, method, "none",
              text='"none"')
        fails("%s by a sandboxer that isn't there" % method, grpc.StatusCode.NOT_FOUND, client.control, method, "none",
              sandboxer="quantum", text="quantum")
        fails("%s of an id that is none" % method, grpc.StatusCode.INVALID_ARGUMENT, client.control, method, "a/b")
        fails("%s without a namespace" % method, grpc.StatusCode.INVALID_ARGUMENT, Client(d, None).control, method, "none",
              text="namespace")
    client.make("machine", runtime=types.Sandbox.Runtime(name="vm"))
    fails("a virtual machine, where none is configured", grpc.StatusCode.INVALID_ARGUMENT, client.control, "Create", "machine",
          text='"vm"')
    client.drop("machine")
    client.make("vm", runtime=types.Sandbox.Runtime(name="io.containerd.quantum.v1"))
    fails("a runtime that makes none", grpc.StatusCode.INVALID_ARGUMENT, client.control, "Create", "vm", text="quantum")
    fails("nor does a Start", grpc.StatusCode.INVALID_ARGUMENT, client.control, "Start", "vm", text="quantum")
    client.drop("vm")
    test_wishes_refused(client)
    client.make("net")
    fails("a network namespace at no path", grpc.StatusCode.INVALID_ARGUMENT, client.control, "Create", "net",
          netns_path="here", text="netns_path")
    client.control("Create", "net", netns_path="/none/at/all")
    e = bh.error_of(client.control, "Start", "net")
    tap.check(e is not None and "/none/at/all" in e.details(), "one that isn't there fails the start", e)
    tap.check(client.control("Status", "net").state == "SANDBOX_NOTREADY", "and leaves the sandbox as it was created")
    client.control("Shutdown", "net")
    client.drop("net")


# --- what comes with Create ---

def pod_config(**fields):
    from google.protobuf import any_pb2
    from cri import runtime_pb2 as cri
    return any_pb2.Any(type_url="runtime.v1.PodSandboxConfig", value=cri.PodSandboxConfig(**fields).SerializeToString())


def test_wishes_refused(client):
    from google.protobuf import any_pb2
    from cri import runtime_pb2 as cri
    client.make("w1")
    for field, text, value in (
            ("rootfs", "rootfs", [types.Mount(type="bind", source="/")]),
            ("options", "sausages", any_pb2.Any(type_url="type.googleapis.com/sausages", value=b"x")),
            ("options", "no runtime.v1.PodSandboxConfig", any_pb2.Any(type_url="runtime.v1.PodSandboxConfig", value=b"\xff")),
            ("options", "port_mappings", pod_config(port_mappings=[cri.PortMapping(container_port=80, host_port=80)]))):
        e = bh.error_of(client.control, "Create", "w1", **{field: value})
        tap.check(e is not None and e.code() == grpc.StatusCode.INVALID_ARGUMENT and field + ":" in e.details() and
                  text in e.details(), "%s that can't be: %s" % (field, text), e)
    fails("an object of another id", grpc.StatusCode.INVALID_ARGUMENT, client.control, "Create", "w1",
          sandbox=types.Sandbox(sandbox_id="w2"), text="sandbox.sandbox_id")
    fails("nothing was created", grpc.StatusCode.NOT_FOUND, client.control, "Status", "w1")
    client.drop("w1")


def in_namespace(pid, kind, *args):
    run = subprocess.run(["nsenter", "--target", str(pid), "--" + kind] + list(args), capture_output=True, text=True)
    return run.stdout.strip()


def test_wishes(client):
    """The object comes with the call, so the store has none; its options are a pod's configuration."""
    from cri import runtime_pb2 as cri
    config = pod_config(hostname="pippa", linux=cri.LinuxPodSandboxConfig(
        sysctls={"net.ipv4.ip_forward": "1"}, security_context=cri.LinuxSandboxSecurityContext(
            namespace_options=cri.NamespaceOption(ipc=cri.NODE))))
    one = types.Sandbox(sandbox_id="w3", runtime=types.Sandbox.Runtime(name=RUNTIME))
    client.control("Create", "w3", sandbox=one, options=config, annotations={"io.example/a": "b"})
    pid = client.control("Start", "w3").pid
    tap.check(in_namespace(pid, "uts", "hostname") == "pippa", "the options' host name")
    tap.check(in_namespace(pid, "net", "cat", "/proc/sys/net/ipv4/ip_forward") == "1", "and sysctls")
    tap.check(bh.namespace(pid, "ipc") == bh.namespace(1, "ipc") and bh.namespace(pid, "net") != bh.namespace(1, "net"),
              "and namespaces")
    info = client.control("Status", "w3", verbose=True).info
    tap.check(info.get("annotations.io.example/a") == "b", "annotations are kept with it", info)
    client.control("Shutdown", "w3")
    fails("no object was made of that", grpc.StatusCode.NOT_FOUND, client, client.store, "Get",
          pb.StoreGetRequest(sandbox_id="w3"))


def test_life(client, d, root):
    client.make("s1")
    tap.check(client.control("Create", "s1").sandbox_id == "s1", "Controller.Create")
    fails("a second Create", grpc.StatusCode.ALREADY_EXISTS, client.control, "Create", "s1", text='"s1"')
    status = client.control("Status", "s1")
    tap.check(status.state == "SANDBOX_NOTREADY" and status.pid == 0 and status.created_at.seconds > 0,
              "Status of a created one", status)
    fails("Metrics before the start", grpc.StatusCode.FAILED_PRECONDITION, client.control, "Metrics", "s1")
    started = client.control("Start", "s1")
    tap.check(started.pid in d.processes().get("pod-keeper", []) and started.created_at == status.created_at,
              "Start: its pid is that of what holds it", started)
    fails("a second Start", grpc.StatusCode.FAILED_PRECONDITION, client.control, "Start", "s1", text="before")
    status = client.control("Status", "s1", verbose=True)
    tap.check(status.state == "SANDBOX_READY" and status.pid == started.pid and len(status.info["pod"]) == 64,
              "Status of one that runs", status)
    tap.check(len(client.control("Status", "s1").info) == 0, "which tells more only when asked to")
    tap.check(client.control("Platform", "s1").platform.os == "linux", "Platform")
    client.control("Update", "s1", fields=["labels", "extensions.x"])
    client.control("Update", "s1", fields=["spec", "runtime"])
    client.control("Update", "s1")
    tap.check(True, "Update tells what may change, and again what may not")
    from google.protobuf import any_pb2
    changed = types.Sandbox(sandbox_id="s1", runtime=types.Sandbox.Runtime(name=RUNTIME), spec=any_pb2.Any(value=b"{}"))
    for fields in (["spec"], [], ["labels", "spec"]):
        fails("Update of what it is made of, %s" % fields, grpc.StatusCode.INVALID_ARGUMENT, client.control, "Update", "s1",
              sandbox=changed, fields=fields, text='"spec"')
    for field in ("runtime", "sandboxer", "labelsx"):
        fails("Update of %s" % field, grpc.StatusCode.INVALID_ARGUMENT, client.control, "Update", "s1",
              sandbox=types.Sandbox(sandbox_id="s1"), fields=[field], text='"%s"' % field)
    fails("Update of nothing", grpc.StatusCode.INVALID_ARGUMENT, client, client.controller, "Update",
          pb.ControllerUpdateRequest(sandbox_id="s1"), text="sandbox")
    fails("its object stays as long as it runs", grpc.StatusCode.FAILED_PRECONDITION, client.drop, "s1", text="shut it down")
    return started.pid


def test_containers(client, keeper, root):
    one = client.run("c1", "s1", root, "/bin/sleep", "1000")
    two = client.run("c2", "s1", root, "/bin/sh", "-c", "exit 5")
    for kind in ("net", "ipc", "uts"):
        tap.check(bh.namespace(one, kind) == bh.namespace(keeper, kind) != bh.namespace(1, kind),
                  "a container has its sandbox's %s namespace" % kind)
    tap.check(bh.namespace(one, "pid") != bh.namespace(keeper, "pid"), "and pids of its own")
    bh.wait_for(lambda: client.task("c2").status == 3)
    tap.check((client.task("c2").exit_status, client.task("c2").pid, client.task("c1").status) == (5, two, 2),
              "two live and die apart", client.task("c2"))
    test_metrics(client)
    client.remove("c2")
    tap.check(os.path.exists("/proc/%d" % one), "the end of one leaves the other alone")
    fails("a container of a sandbox that isn't there", grpc.StatusCode.NOT_FOUND, client.run, "c3", "none", root,
          "/bin/true", text='"none"')
    client(client.containers, "Delete", containers.DeleteContainerRequest(id="c3"))
    return one


# --- figures ---

def test_metrics(client):
    """c1 sleeps; what a second one uses comes on top, under the same names."""
    task = client(client.tasks, "Metrics", tasks.MetricsRequest(filters=["id==c1"])).metrics[0]
    metric = client.control("Metrics", "s1").metrics
    version, figures = figures_of(metric)
    tap.check(metric.data.type_url == task.data.type_url and metric.id == "s1" and metric.timestamp.seconds > 0,
              "Metrics are of the version that a task's are", (metric.data.type_url, task.data.type_url))
    one = figures_of(task)[1]
    tap.check(figures.pids.current == one.pids.current == 1 and memory_of(version, figures) > 0,
              "with one container they are that one's", figures)
    return version


def test_metrics_sum(client, root):
    client.make("m1")
    client.control("Create", "m1")
    client.control("Start", "m1")
    version, none = figures_of(client.control("Metrics", "m1").metrics)
    tap.check(none.pids.current == 0 and memory_of(version, none) == 0, "Metrics of a sandbox without containers", none)
    for name in ("c1", "c2"):
        client.run(name, "m1", root, "/bin/sh", "-c", "sleep 1000 & sleep 1000")
    both = bh.wait_for(lambda: (lambda f: f.pids.current == 4 and f)(figures_of(client.control("Metrics", "m1").metrics)[1]))
    tap.check(both, "with two they are the sum")
    seen = []

    def more_than_each():
        """They may still be growing between the one question and the other."""
        sum = figures_of(client.control("Metrics", "m1").metrics)[1]
        each = [figures_of(m)[1] for m in client(client.tasks, "Metrics", tasks.MetricsRequest()).metrics]
        seen[:] = sum, each
        return memory_of(version, sum) > max(memory_of(version, m) for m in each) > 0
    tap.check(bh.wait_for(more_than_each), "of the memory, too", seen)
    return ("m1", ("c1", "c2"))


# --- ends ---

TRAPS = 'trap "sleep 0.3; exit 7" TERM; while true; do sleep 0.05; done'
DEAF = 'trap "" TERM; while true; do sleep 0.05; done'


def timed(call, *args, **kwargs):
    begun = time.monotonic()
    call(*args, **kwargs)
    return time.monotonic() - begun


def sandbox_with(client, root, name, commands):
    client.make(name)
    client.control("Create", name)
    client.control("Start", name)
    for container, command in commands.items():
        client.run(container, name, root, "/bin/sh", "-c", command)
    time.sleep(0.5)  # until the traps are set


def gone(client, name, names):
    client.control("Shutdown", name)
    for container in names:
        client.remove(container)
    client.drop(name)


def test_grace(client, root):
    sandbox_with(client, root, "g1", {"c1": TRAPS, "c2": TRAPS})
    took = timed(client.control, "Stop", "g1", timeout_secs=15)
    ends = [client.task(n).exit_status for n in ("c1", "c2")]
    tap.check(0.25 < took < 10 and ends == [7, 7], "Stop with a time: SIGTERM, and they end as they like", (took, ends))
    gone(client, "g1", ("c1", "c2"))
    sandbox_with(client, root, "g2", {"c1": TRAPS, "c2": DEAF})
    took = timed(client.control, "Stop", "g2", timeout_secs=2)
    ends = [client.task(n).exit_status for n in ("c1", "c2")]
    tap.check(1.9 < took < 10 and ends == [7, 137], "what doesn't listen is killed when the time is over", (took, ends))
    gone(client, "g2", ("c1", "c2"))
    sandbox_with(client, root, "g3", {"c1": TRAPS})
    took = timed(client.control, "Stop", "g3")
    tap.check(took < 5 and client.task("c1").exit_status == 137, "without a time: SIGKILL", took)
    tap.check(timed(client.control, "Wait", "g3") < 1, "Wait after the end answers at once")
    gone(client, "g3", ("c1",))


def test_grace_shortened(client, root):
    sandbox_with(client, root, "g4", {"c1": DEAF})
    begun = time.monotonic()
    stops = [threading.Thread(target=client.control, args=("Stop", "g4"), kwargs={"timeout_secs": 600}, daemon=True)]
    stops[0].start()
    time.sleep(0.3)
    tap.check(client.task("c1").status == 2, "a Stop with ten minutes waits")
    client.control("Stop", "g4", timeout_secs=1)
    stops[0].join(5)
    took = time.monotonic() - begun
    tap.check(1 < took < 15 and not stops[0].is_alive() and client.task("c1").exit_status == 137,
              "a second Stop with less time shortens it", took)
    gone(client, "g4", ("c1",))
    sandbox_with(client, root, "g5", {"c1": DEAF})
    client.control("Stop", "g5", timeout_secs=1)
    gone(client, "g5", ("c1",))


def test_end(client, d, root, events):
    waits = []
    waiter = threading.Thread(target=lambda: waits.append(client.control("Wait", "s1")))
    waiter.start()
    time.sleep(0.2)
    tap.check(not waits, "Wait waits")
    client.control("Stop", "s1", timeout_secs=5)
    waiter.join(5)
    tap.check(len(waits) == 1 and waits[0].exit_status == 0 and waits[0].exited_at.seconds > 0, "Stop: it is over", waits)
    status = client.control("Status", "s1")
    tap.check(status.state == "SANDBOX_NOTREADY" and status.pid == 0 and status.exited_at == waits[0].exited_at,
              "Status of one that has ended", status)
    tap.check(client.task("c1").status == 3, "its containers ended with it", client.task("c1"))
    client.control("Stop", "s1")
    tap.check(True, "a second Stop changes nothing")
    fails("Start of what has ended", grpc.StatusCode.FAILED_PRECONDITION, client.control, "Start", "s1", text="ended")
    client.remove("c1")
    fails("nor runs a container in it", grpc.StatusCode.FAILED_PRECONDITION, client.run, "c4", "s1", root, "/bin/true",
          text="isn't running")
    client(client.containers, "Delete", containers.DeleteContainerRequest(id="c4"))
    client.control("Shutdown", "s1")
    for method in CALLS[1:]:
        fails("after Shutdown there is no %s" % method, grpc.StatusCode.NOT_FOUND, client.control, method, "s1")
    client.drop("s1")
    told = [e.topic for e in events if e.topic.startswith("/sandboxes/")]
    tap.check(told[-3:] == ["/sandboxes/create", "/sandboxes/start", "/sandboxes/exit"], "all of it is told", told)


def test_joined(client, root):
    """A network namespace of the client's, and a specification that wants the host's uts namespace."""
    from google.protobuf import any_pb2
    holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    bh.wait_for(lambda: bh.namespace(holder.pid, "net") not in (None, bh.namespace(1, "net")))
    spec = {"ociVersion": "1.1.0", "hostname": "ignored", "linux": {"namespaces": [{"type": "network"}, {"type": "ipc"}]}}
    client.make("s3", spec=any_pb2.Any(value=json.dumps(spec).encode()))
    client.control("Create", "s3", netns_path="/proc/%d/ns/net" % holder.pid)
    pid = client.control("Start", "s3").pid
    tap.check(bh.namespace(pid, "net") == bh.namespace(holder.pid, "net"), "netns_path is joined")
    tap.check(bh.namespace(pid, "uts") == bh.namespace(1, "uts"), "a namespace that its specification leaves out is the host's")
    client.control("Shutdown", "s3")
    client.drop("s3")
    holder.kill()
    holder.wait()


# --- the first form ---

def paused_run(client, seed, root):
    seed("Pause", sandbox_id="d1")
    client.run("c9", "d1", root, "/bin/true")


def test_seed_grace(client, seed, root):
    for name, command, status, least, most in (("e1", TRAPS, 7, 0.25, 10), ("e2", DEAF, 137, 1, 10)):
        client.make(name)
        seed("Start", sandbox_id=name)
        client.run("c1", name, root, "/bin/sh", "-c", command)
        time.sleep(0.5)
        begun = time.monotonic()
        answer = seed("Shutdown", sandbox_id=name, timeout_secs=1)
        took = time.monotonic() - begun
        tap.check(answer == {} and least < took < most and client.task("c1").exit_status == status,
                  "Shutdown gives the time that it names: exit %d" % status, (answer, took, client.task("c1")))
        client.remove("c1")
        client.drop(name)


def test_seed(client, seed, d, root):
    answer = seed("Start", sandbox_id="none")
    tap.check(answer["code"] == "NOT_FOUND", "the first form: Start of what the store hasn't got", answer)
    client.make("d1")
    answer = seed("Start", sandbox_id="d1", rootfs=[{"type": "bind", "source": root}])
    tap.check(answer["code"] == "INVALID_ARGUMENT" and "rootfs:" in answer["details"],
              "a root, which a sandbox of namespaces has no use for", answer)
    answer = seed("Start", sandbox_id="d1", options={"@type": "type.googleapis.com/google.protobuf.StringValue",
                                                          "value": "sausages"})
    tap.check(answer["code"] == "INVALID_ARGUMENT" and "options:" in answer["details"], "options of an unknown type", answer)
    answer = seed("Start", sandbox_id="d1")
    tap.check(answer.get("sandbox_id") == "d1" and answer.get("pid") in d.processes().get("pod-keeper", []),
              "Start creates and starts", answer)
    answer = seed("Start", sandbox_id="d1")
    tap.check(answer["code"] == "ALREADY_EXISTS", "a second Start", answer)
    status = seed("Status", sandbox_id="d1")
    tap.check(status.get("state") == "SANDBOX_READY" and status["id"] == "d1" and "exit_status" not in status, "Status", status)
    raw = client.control("Status", "d1")
    tap.check(not raw.created_at.seconds and not raw.info, "whoever asks, it has the form of the start", raw)
    client.make("d2")
    client.control("Create", "d2")
    client.control("Start", "d2")
    tap.check(client.control("Status", "d2").created_at.seconds > 0, "as one of today's has today's")
    client.control("Shutdown", "d2")
    client.drop("d2")
    tap.check(seed("Ping", sandbox_id="d1") == {}, "Ping")
    client.run("c1", "d1", root, "/bin/sleep", "1000")
    tap.check(seed("Pause", sandbox_id="d1") == {}, "Pause")
    tap.check(client.task("c1").status == 4 and seed("Status", sandbox_id="d1")["state"] == "SANDBOX_PAUSED",
              "stops what is in it", client.task("c1"))
    tap.check(seed("Resume", sandbox_id="d1") == {} and client.task("c1").status == 2 and
              seed("Status", sandbox_id="d1")["state"] == "SANDBOX_READY", "Resume")
    fails("nothing begins in what is paused", grpc.StatusCode.FAILED_PRECONDITION, paused_run, client, seed, root,
          text="paused")
    client(client.containers, "Delete", containers.DeleteContainerRequest(id="c9"))
    seed("Resume", sandbox_id="d1")
    client.control("Stop", "d1")
    answer = seed("Wait", sandbox_id="d1")
    tap.check("seconds" in answer.get("exited_at", ""), "Wait", answer)
    status = seed("Status", sandbox_id="d1")
    tap.check("seconds" in status["exited_at"] and status["state"] == "SANDBOX_NOTREADY",
              "Status has the time of the end where that form has it", status)
    for method in ("Ping", "Pause", "Resume"):
        answer = seed(method, sandbox_id="d1")
        tap.check(answer.get("code") == "FAILED_PRECONDITION", "%s of what has ended" % method, answer)
    tap.check(seed("Shutdown", sandbox_id="d1", timeout_secs=1) == {}, "Shutdown")
    for method in ("Shutdown", "Wait", "Status", "Ping", "Pause", "Resume"):
        answer = seed(method, sandbox_id="d1")
        tap.check(answer.get("code") == "NOT_FOUND", "%s of what is gone" % method, answer)
    client.remove("c1")
    client.drop("d1")


# --- crashes ---

def kill(d, worker, pid=None):
    before = d.processes()[worker]
    os.kill(pid or before[0], signal.SIGKILL)

    def replaced():
        now = d.processes().get(worker, [])
        return len(now) >= len(before) and now != before
    bh.wait_for(replaced)


def test_crash(client, d, root):
    client.make("s1")
    client.control("Create", "s1")
    kill(d, "metadata")
    tap.check(client.control("Status", "s1").state == "SANDBOX_NOTREADY", "what was created is known after kill -9 of metadata")
    pid = client.control("Start", "s1").pid
    one = client.run("c1", "s1", root, "/bin/sleep", "1000")
    waits = []
    waiter = threading.Thread(target=lambda: waits.append(client.control("Wait", "s1")))
    waiter.start()
    for worker in ("metadata", "task"):
        kill(d, worker)
        status = client.control("Status", "s1")
        tap.check(status.state == "SANDBOX_READY" and status.pid == pid and client.task("c1").pid == one,
                  "after kill -9 of %s all runs on" % worker, status)
    kill(d, "pod-keeper", pid)
    status = bh.wait_for(lambda: client.control("Status", "s1").pid not in (0, pid) and client.control("Status", "s1"))
    tap.check(status and status.pid in d.processes()["pod-keeper"] and client.task("c1").status == 2,
              "after kill -9 of its keeper another holds it", status)
    os.kill(one, signal.SIGKILL)
    tap.check(bh.wait_for(lambda: client.task("c1").exit_status == 137), "which hears of ends", client.task("c1"))
    client.control("Shutdown", "s1")
    waiter.join(5)
    tap.check(len(waits) == 1, "who waited has been told", waits)
    client.remove("c1")
    client.drop("s1")


def attempt(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except grpc.RpcError:
        pass


def test_crash_within(client, d, root):
    """kill -9 at different moments of a start and of a shutdown."""
    for worker in ("metadata", "task"):
        for i in range(3):
            client.make("k1")
            attempt(client.control, "Create", "k1")
            other = threading.Thread(target=attempt, args=(client.control, "Start", "k1"))
            other.start()
            time.sleep(0.002 * i)
            kill(d, worker)
            other.join(30)
            d.ready()
            other = threading.Thread(target=attempt, args=(client.control, "Shutdown", "k1"))
            other.start()
            time.sleep(0.002 * i)
            kill(d, worker)
            other.join(30)
            d.ready()
            attempt(client.control, "Shutdown", "k1")
            client.drop("k1")
    tap.check(True, "starts and shutdowns while workers are killed")


# --- the CRI's pods ---

def test_view(d):
    cri = d.client()
    config = cri.pb.PodSandboxConfig(
        metadata=cri.pb.PodSandboxMetadata(name="web", namespace="shop", uid="u1"), labels={"app": "web"},
        linux=cri.pb.LinuxPodSandboxConfig(security_context=cri.pb.LinuxSandboxSecurityContext(
            namespace_options=cri.pb.NamespaceOption(network=cri.pb.NODE))))
    pod = cri.runtime.RunPodSandbox(cri.pb.RunPodSandboxRequest(config=config)).pod_sandbox_id
    k8s = Client(d, "k8s.io")
    got = k8s(k8s.store, "List", pb.StoreListRequest()).list
    tap.check([s.sandbox_id for s in got] == [pod] and dict(got[0].labels) == {"app": "web"},
              "the CRI's pods are sandboxes in k8s.io", got)
    tap.check(k8s(k8s.store, "Get", pb.StoreGetRequest(sandbox_id=pod)).sandbox == got[0], "by their ids")
    fails("which are the CRI's to remove", grpc.StatusCode.FAILED_PRECONDITION, k8s.drop, pod, text="CRI")
    tap.check(len(Client(d).store.List(pb.StoreListRequest(), metadata=[("containerd-namespace", "default")]).list) == 0,
              "and nowhere else")
    cri.runtime.RemovePodSandbox(cri.pb.RemovePodSandboxRequest(pod_sandbox_id=pod))
    tap.check(not k8s(k8s.store, "List", pb.StoreListRequest()).list, "until they are removed")
    cri.close()


def follow(client, d):
    from containerd import events_pb2
    told = []

    def run():
        try:
            for e in events_grpc.EventsStub(client.channel).Subscribe(events_pb2.SubscribeRequest()):
                told.append(e)
        except grpc.RpcError:
            pass
    threading.Thread(target=run, daemon=True).start()
    time.sleep(0.3)
    return told


def run_all(d, root):
    client, seed = Client(d), Seed(d)
    before = truth(d)
    test_store(client)
    test_refusals(client, d)
    events = follow(client, d)
    keeper = test_life(client, d, root)
    test_containers(client, keeper, root)
    test_end(client, d, root, events)
    test_joined(client, root)
    test_wishes(client)
    gone(client, *test_metrics_sum(client, root))
    test_grace(client, root)
    test_grace_shortened(client, root)
    test_seed(client, seed, d, root)
    test_seed_grace(client, seed, root)
    test_view(d)
    left = bh.wait_for(lambda: truth(d) == before)
    tap.check(left, "nothing is left", bh.differences(before, truth(d)))
    test_crash(client, d, root)
    test_crash_within(client, d, root)
    left = bh.wait_for(lambda: truth(d) == before)
    tap.check(left, "nothing is left after crashes either", bh.differences(before, truth(d)))
    seed.close()


def main():
    global grpc, pb, types, containers, tasks, events_grpc
    bh.isolate()
    sc.load()
    grpc, pb, types, containers, tasks, events_grpc = sc.grpc, sc.pb, sc.types, sc.containers, sc.tasks, sc.events_grpc
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        d = bh.Daemon(folder, cni=False)
        root = os.path.join(folder, "root")
        bh.busybox_root(root)
        os.mkdir(os.path.join(root, "proc"))
        try:
            d.start()
            run_all(d, root)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception:  # the log says why
            import traceback
            tap.check(False, "the test runs to its end", traceback.format_exc())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
