"""What the CRI has made, as Debian's ctr sees it in the namespace k8s.io: pods and containers, their specification, tasks,
processes of exec through crashes, pauses; and what is refused because it is the CRI's."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
import streaming as st  # noqa: E402
from ctr import Ctr  # noqa: E402

tap = bh.Tap()


def start(d, *args, namespace="k8s.io"):
    return subprocess.Popen(["ctr", "-a", d.containerd, "-n", namespace] + list(args), stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)


def ctr(d, *args, **more):
    p = start(d, *args, **more)
    out, _ = p.communicate(timeout=60)
    return p.returncode, out.decode()


def info(d, id):
    status, out = ctr(d, "containers", "info", id)
    return json.loads(out) if status == 0 else {"failed": out}


def test_containers(d, pod, id, image):
    _, out = ctr(d, "containers", "ls")
    tap.check(re.search(r"^%s +%s +io.containerd.runc.v2" % (id, image), out, re.M), "containers ls: the container", out)
    tap.check(re.search(r"^%s +- +io.containerd.runc.v2" % pod.id, out, re.M), "containers ls: the pod", out)
    for kind, wanted in ("sandbox", [pod.id]), ("container", [id]):
        _, out = ctr(d, "containers", "ls", "-q", 'labels."io.cri-containerd.kind"==%s' % kind)
        tap.check(out.split() == wanted, "containers of the kind %s" % kind, out)
    c = info(d, id)
    labels, spec = c.get("Labels", {}), c.get("Spec", {})
    tap.check(labels.get("io.kubernetes.container.name") == "main" and labels.get("io.kubernetes.pod.name") == "k8s" and
              labels.get("io.kubernetes.pod.namespace") == "test" and labels.get("app") == "shop", "labels", labels)
    tap.check(c.get("SnapshotKey") == id and c.get("Snapshotter") == "overlayfs" and c.get("SandboxID", pod.id) == pod.id,
              "snapshot and sandbox", c)
    process = spec.get("process", {})
    tap.check(process.get("args") == ["sleep", "1000"] and "COLOR=blue" in process.get("env", []) and
              process.get("cwd") == "/" and spec.get("ociVersion", "").startswith("1."), "the specification", spec)
    tap.check(spec.get("annotations", {}).get("io.kubernetes.cri.sandbox-id") == pod.id and
              spec.get("annotations", {}).get("io.kubernetes.cri.container-type") == "container", "its annotations", spec)
    s = info(d, pod.id).get("Spec", {})
    paths = [n["path"] for n in s.get("linux", {}).get("namespaces", []) if n["type"] == "network"]
    tap.check(s.get("annotations", {}).get("io.kubernetes.cri.container-type") == "sandbox" and len(paths) == 1 and
              os.path.exists(paths[0]), "a pod's specification says where its network is", s)
    status, out = ctr(d, "containers", "ls", namespace="default")
    tap.check(status == 0 and id not in out, "other namespaces don't have them", out)


def test_tasks(d, pod, id):
    pid = json.loads(pod.status(id, verbose=True).info["info"])["pid"]
    _, out = ctr(d, "tasks", "ls")
    tap.check(re.search(r"^%s +%d +RUNNING" % (id, pid), out, re.M) and pod.id not in out, "tasks ls", out)
    _, out = ctr(d, "tasks", "ps", id)
    tap.check(str(pid) in out.split(), "tasks ps", out)
    status, out = ctr(d, "tasks", "metrics", id)
    tap.check(status == 0 and "pids.current" in out, "tasks metrics", out)
    status, out = ctr(d, "tasks", "exec", "--exec-id", "e1", id, "sh", "-c", "echo $COLOR $(id -u); exit 7")
    tap.check(status == 7 and out == "blue 0\n", "tasks exec: output, the container's environment, exit status", (status, out))
    _, out = ctr(d, "tasks", "exec", "--exec-id", "e1", id, "true")
    tap.check(out == "", "its name is free again", out)


def test_refused(d, id):
    import grpc
    containers, c, tasks, t = bh.stubs_of("containerd/containers.proto", "containerd/tasks.proto")
    channel = grpc.insecure_channel("unix://" + d.containerd)
    stubs = t.TasksStub(channel)
    key = dict(container_id=id)
    for call, request in ((stubs.Create, tasks.CreateTaskRequest(**key)), (stubs.Start, tasks.StartRequest(**key)),
                          (stubs.Delete, tasks.DeleteTaskRequest(**key)),
                          (c.ContainersStub(channel).Delete, containers.DeleteContainerRequest(id=id))):
        e = bh.error_of(call, request, timeout=20, metadata=[("containerd-namespace", "k8s.io")])
        tap.check(e and e.code() == grpc.StatusCode.FAILED_PRECONDITION and "belongs to the CRI" in e.details(),
                  "refused: " + type(request).__name__, e)
    status, out = ctr(d, "containers", "label", id, "a=b")
    tap.check(status != 0 and "belongs to the CRI" in out, "refused: a label", (status, out))
    channel.close()
    _, out = ctr(d, "tasks", "ls")
    tap.check(re.search(r"^%s +\d+ +RUNNING" % id, out, re.M), "and nothing has changed", out)


def kill(d, name):
    old = d.processes().get(name, [])
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    return bool(old) and bool(bh.wait_for(lambda: len(set(d.processes().get(name, [])) - set(old)) >= len(old)))


def test_crash(d, pod, id):
    e = start(d, "tasks", "exec", "--exec-id", "x", id, "sh", "-c", "echo ready; read a; echo got $a; exit 4")
    tap.check(e.stdout.readline() == b"ready\n", "a process of exec waits")
    time.sleep(0.3)  # a start that isn't answered yet fails
    for name in "metadata", "task":
        tap.check(kill(d, name), "%s is killed and replaced" % name)
    tap.check(bh.wait_for(lambda: ctr(d, "tasks", "ls")[0] == 0), "tasks are listed again")
    tap.check(pod.exec(id, "echo", "beside").stdout == b"beside\n", "the CRI's exec works beside it")
    e.stdin.write(b"it\n")
    e.stdin.close()
    out = e.stdout.read()
    tap.check(b"got it\n" in out, "its streams go on", out)
    tap.check(e.wait(20) == 4, "and its end is told", (e.returncode, out))
    status, out = ctr(d, "tasks", "exec", "--exec-id", "x", id, "echo", "again")
    tap.check((status, out) == (0, "again\n"), "its name is free again", (status, out))


def topics(p, id):
    """Of that container's events, as ctr shows them: up to the deletion of its task."""
    found = []
    while select.select([p.stdout], [], [], 10)[0]:
        text = p.stdout.readline().decode()
        if id in text:
            found.append(text.split()[5])
        if not text or found[-1:] == ["/tasks/delete"]:
            break
    return found


def test_events(d, pod, image):
    p = start(d, "events")
    names = iter(range(100))
    listening = bh.wait_for(lambda: ctr(d, "namespaces", "create", "seen%d" % next(names))[0] == 0 and
                            select.select([p.stdout], [], [], 0.1)[0])
    tap.check(listening, "ctr events listens")
    id = pod.run("short", image, ["sleep", "1000"])
    for verb in "pause", "resume":
        ctr(d, "tasks", verb, id)
    pod.client.runtime.StopContainer(pod.client.pb.StopContainerRequest(container_id=id, timeout=0))
    found = topics(p, id)
    p.kill()
    p.wait()
    tap.check(found == ["/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/paused",
                        "/tasks/resumed", "/tasks/exit", "/tasks/delete"], "events of a container and its task", found)
    pod.client.runtime.RemoveContainer(pod.client.pb.RemoveContainerRequest(container_id=id))


def counter(pod, image, name):
    """The container, and its process on the host."""
    id = pod.run(name, image, bh.COUNTER)
    bh.wait_for(lambda: pod.log(name))
    return id, json.loads(pod.status(id, verbose=True).info["info"])["pid"]


def test_pause(d, pod, image):
    pb = pod.client.pb
    id, pid = counter(pod, image, "paused")
    tap.check(ctr(d, "tasks", "pause", id) == (0, ""), "tasks pause")
    tap.check(bh.is_frozen(pid) and pod.stands_still("paused"), "the kernel has frozen it", bh.group_of(pid))
    tap.check(Ctr(d, "k8s.io").state(id) == "PAUSED", "tasks ls says PAUSED", ctr(d, "tasks", "ls"))
    tap.check(pod.status(id).status.state == pb.CONTAINER_RUNNING, "the CRI says that it runs", pod.status(id))
    refuses_commands(d, pod, id)
    for name in "metadata", "task", "pod-keeper":
        tap.check(kill(d, name), "%s is killed and replaced" % name)
        tap.check(bh.wait_for(lambda: Ctr(d, "k8s.io").state(id) == "PAUSED") and bh.is_frozen(pid), "it is paused as before",
                  ctr(d, "tasks", "ls"))
    tap.check(bh.wait_for(lambda: ctr(d, "tasks", "resume", id) == (0, "")) and not bh.is_frozen(pid), "tasks resume: thawed")
    tap.check(Ctr(d, "k8s.io").state(id) == "RUNNING" and pod.goes_on("paused"), "and it goes on", ctr(d, "tasks", "ls"))
    tap.check(pod.exec(id, "echo", "again").stdout == b"again\n", "commands run in it again")
    return id, pid


def refuses_commands(d, pod, id):
    import grpc
    pb = pod.client.pb
    begin = time.monotonic()
    e = bh.error_of(pod.exec, id, "true", timeout=20)
    tap.check(e and e.code() == grpc.StatusCode.FAILED_PRECONDITION and "is paused" in e.details(), "ExecSync is refused", e)
    url = pod.client.runtime.Exec(pb.ExecRequest(container_id=id, cmd=["true"], stdout=True)).url
    session = st.RemoteSpdy(url, stdin=False, stderr=False)
    end = session.end(20)
    tap.check("is paused" in str(end), "so is a command with streams", end)
    session.close()
    status, out = ctr(d, "tasks", "exec", "--exec-id", "p", id, "true")
    tap.check(status != 0 and "failed precondition" in out, "and tasks exec", (status, out))
    tap.check(time.monotonic() - begin < 15, "none of them waits", time.monotonic() - begin)


def test_paused_ends(d, pod, image, id, pid):
    """Of what is paused: by a signal, by a stop with and without time, by removal with its pod."""
    pb, runtime = pod.client.pb, pod.client.runtime
    ctr(d, "tasks", "pause", id)
    tap.check(bh.is_frozen(pid) and ctr(d, "tasks", "kill", "-s", "SIGKILL", id)[0] == 0, "tasks kill of what is paused")
    end = pod.wait(id)
    tap.check(end and end.exit_code == 137 and Ctr(d, "k8s.io").state(id) is None, "it has ended", end)
    for name, timeout, code in ("stopped", 30, 9), ("stopped-now", 0, 137):
        id, pid = counter(pod, image, name)
        ctr(d, "tasks", "pause", id)
        begin, still = time.monotonic(), bh.is_frozen(pid)
        runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=timeout), timeout=60)
        end = pod.wait(id)
        tap.check(still and end and end.exit_code == code and time.monotonic() - begin < 15,
                  "StopContainer of what is paused, %d s: ends with %d" % (timeout, code), (still, end))
    id, pid = counter(pod, image, "removed")
    ctr(d, "tasks", "pause", id)
    runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id), timeout=60)
    tap.check(not os.path.exists("/proc/%d" % pid), "RemoveContainer of what is paused")
    id, pid = counter(pod, image, "last")
    ctr(d, "tasks", "pause", id)
    return pid


def test_end(d, pod, id):
    e = start(d, "tasks", "exec", "--exec-id", "y", id, "sh", "-c", "echo ready; sleep 1000")
    tap.check(e.stdout.readline() == b"ready\n", "another process of exec")
    tap.check(ctr(d, "tasks", "kill", "-s", "SIGKILL", id)[0] == 0, "tasks kill")
    s = pod.wait(id)
    tap.check(s and s.exit_code == 137, "the CRI sees the end", s)
    tap.check(bh.wait_for(lambda: e.poll() is not None) and e.returncode not in (0, None), "the process of exec ends with it",
              (e.returncode, e.stdout.read() if e.poll() is not None else None))
    _, out = ctr(d, "tasks", "ls", "-q")
    tap.check(id not in out, "what has ended has no task", out)
    status, out = ctr(d, "tasks", "exec", "--exec-id", "z", id, "true")
    tap.check(status != 0 and "not found" in out, "nor can anything be executed", out)
    tap.check(id in ctr(d, "containers", "ls")[1], "the container is there until the CRI removes it")
    pod.remove()
    _, out = ctr(d, "containers", "ls", "-q")
    tap.check(out == "", "then nothing is left", out)


def main():
    bh.isolate()
    if bh.shutil.which("ctr") is None:
        tap.skip("what the CRI has made, by ctr", "no ctr (Debian's package containerd)")
        tap.done()
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        d = bh.Daemon(folder).start()
        c = d.client()
        try:
            bh.push(bh.make_image(folder, "busybox"), registry, "busybox:1")
            image = registry.host + "/busybox:1"
            c.images.PullImage(c.pb.PullImageRequest(image=c.pb.ImageSpec(image=image)))
            pod = bh.Pod(d, c, "k8s")
            id = pod.run("main", image, ["sleep", "1000"], envs=[c.pb.KeyValue(key="COLOR", value=b"blue")],
                         labels={"app": "shop"})
            test_containers(d, pod, id, image)
            test_tasks(d, pod, id)
            test_refused(d, id)
            test_crash(d, pod, id)
            test_events(d, pod, image)
            last = test_paused_ends(d, pod, image, *test_pause(d, pod, image))
            test_end(d, pod, id)
            tap.check(not os.path.exists("/proc/%d" % last), "what was paused goes with its pod")
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            c.close()
            d.stop()
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
