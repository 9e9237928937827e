"""Pods in virtual machines, through the CRI with the runtime handler "vm": what a client sees of them is what it sees of
any other pod."""

import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import oom
import streaming as st
import vm
from ctr import Ctr

bh.isolate()
tap = bh.Tap()


class Qemu:
    name, key, process, kernel = "QEMU", "vm_qemu", "qemu-system", "cloud-amd64"
    settings, missing, modules = staticmethod(vm.settings), staticmethod(vm.missing), staticmethod(vm.modules)


class Uml:
    """User-mode Linux, see test_vm_uml.py."""
    name, key, process = "user-mode Linux", "vm_uml", "linux.uml"
    kernel = "Linux version " + os.path.basename(vm.uml_modules())
    settings, missing, modules = staticmethod(vm.uml_settings), staticmethod(vm.uml_missing), staticmethod(vm.uml_modules)


class VmPod(bh.Pod):
    def __init__(self, d, c, name, **more):
        self.daemon, self.client, self.containers = d, c, []
        self.config = bh.sandbox_config(c, name, log_directory=d.logs, **more)
        self.id = c.runtime.RunPodSandbox(
            c.pb.RunPodSandboxRequest(config=self.config, runtime_handler="vm"), timeout=150).pod_sandbox_id

    def console(self):
        try:
            with open(os.path.join(self.daemon.run, "pods", self.id, "vm", "console"), errors="replace") as f:
                return f.read()
        except OSError:
            return ""


def named(name):
    return [p for p in bh.pids() if (bh.comm(p) or "").startswith(name)]


def boot(d, c, name, **more):
    start = time.monotonic()
    pod = VmPod(d, c, name, **more)
    print("# pod %s runs after %.1f s" % (name, time.monotonic() - start), flush=True)
    return pod


def test_output(vmm, pod, pb, image):
    start = time.monotonic()
    one = pod.run("one", image, ["sh", "-c", "cat /proc/version; echo error >&2; hostname; exit 7"])
    end = pod.wait(one, 60)
    print("# a container has ended after %.1f s" % (time.monotonic() - start), flush=True)
    tap.check(end and end.exit_code == 7, "a container's exit code", end)
    log = pod.log("one")
    tap.check(any(vmm.kernel in t for s, _, t in log if s == "stdout") and ("stderr", "F", "error") in log and
              ("stdout", "F", "life") in log, "it runs on the guest's kernel, and its output is in its log", log)
    e = bh.error_of(pod.run, "none", image, ["/no/such/program"])
    tap.check(e is not None and "/no/such/program" in e.details(), "a program that isn't there is named", e)


def test_two(d, c, pod, pb, image):
    """A second container beside one that runs, with a volume of the host."""
    volume = os.path.join(d.folder, "volume")
    os.makedirs(volume)
    os.chmod(volume, 0o777)
    script = "echo from the guest > /vol/x; trap 'exit 9' TERM; while :; do sleep 0.1; done"
    linux = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(run_as_username="www"))
    two = pod.run("two", image, ["sh", "-c", script], linux=linux,
                  mounts=[pb.Mount(container_path="/vol", host_path=volume)])
    three = pod.run("three", image, ["sh", "-c", "echo three; sleep 1000"])
    text = bh.wait_for(lambda: os.path.exists(volume + "/x") and open(volume + "/x").read(), 60)
    tap.check(text == "from the guest\n" and os.stat(volume + "/x").st_uid == 33,
              "a volume is the host's folder, with owners as the container's", text)
    r = pod.exec(two, "sh", "-c", "id -u; cat /etc/hostname; echo bad >&2; exit 5", timeout=60)
    tap.check((r.stdout, r.stderr, r.exit_code) == (b"33\nlife\n", b"bad\n", 5), "ExecSync", r)
    e = bh.error_of(pod.exec, three, "sleep", "100", timeout=1)
    tap.check(e is not None and "DEADLINE" in str(e.code()), "a command that takes too long", e)
    gone = bh.wait_for(lambda: b"sleep 100\n" not in pod.exec(three, "ps", "-o", "args", timeout=60).stdout, 30)
    tap.check(gone, "is killed in the guest", pod.exec(three, "ps", "-o", "args", timeout=60))
    e = bh.error_of(pod.exec, three, "/no/such/program", timeout=60)
    tap.check(e is not None and "/no/such/program" in e.details(), "a command that isn't there is named", e)
    return two, three


def oom_run(pod, pb, image, name, script):
    limit = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(memory_limit_in_bytes=oom.LIMIT))
    return pod.run(name, image, ["sh", "-c", script], linux=limit)


def test_oom(d, pod, pb, image):
    """The guest's kernel kills; its agent tells the host."""
    heard = oom.follow(d, "k8s.io")
    ids = [oom_run(pod, pb, image, "hungry%d" % i, oom.EATER) for i in range(3)]
    ends = [pod.wait(id, 60) for id in ids]
    tap.check(all(e and (e.reason, e.exit_code) == ("OOMKilled", 137) for e in ends),
              "containers that are killed in the guest for want of memory say so", ends)
    id = oom_run(pod, pb, image, "killed", "sleep 1000")
    pod.client.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=0))
    end = pod.wait(id, 60)
    tap.check(end and (end.reason, end.exit_code) == ("Error", 137), "one that is killed otherwise doesn't", end)
    script = "(%s); while [ ! -e /go ]; do sleep 0.2; done; exit 3" % oom.EATER
    child = oom_run(pod, pb, image, "child", script)
    tap.check(bh.wait_for(lambda: child in heard, 60), "one that lives on is told of as well: /tasks/oom", heard)
    pod.exec(child, "touch", "/go", timeout=60)
    end = pod.wait(child, 60)
    tap.check(end and (end.reason, end.exit_code) == ("OOMKilled", 3), "and says so in the end", end)
    tap.check(sorted(heard) == sorted(ids + [child]), "each is told of once", heard)


def test_figures(c, pod, pb, id):
    stats = c.runtime.ContainerStats(pb.ContainerStatsRequest(container_id=id)).stats
    tap.check(stats.cpu.usage_core_nano_seconds.value > 0 and stats.memory.usage_bytes.value > 0,
              "ContainerStats: what the guest's kernel counts", stats)
    resources = pb.LinuxContainerResources(memory_limit_in_bytes=50 << 20)
    c.runtime.UpdateContainerResources(pb.UpdateContainerResourcesRequest(container_id=id, linux=resources))
    r = pod.exec(id, "sh", "-c", "cat /sys/fs/cgroup/memory.max", timeout=60)
    tap.check(r.stdout == b"%d\n" % (50 << 20), "UpdateContainerResources: its limits are the guest's", r)


def test_network(c, pod, pb, id):
    ip = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status.network.ip
    r = pod.exec(id, "sh", "-c", "ip -4 addr show dev eth0; ip route", timeout=60)
    tap.check(("inet %s/16" % ip).encode() in r.stdout and b"default via 10.231.0.1 dev eth0" in r.stdout,
              "the guest has the pod's address and routes", r)
    with socket.socket() as s:
        s.bind(("", 0))
        s.listen()
        s.settimeout(60)
        pod.exec(id, "sh", "-c", "echo hello | nc -w 5 10.231.0.1 %d &" % s.getsockname()[1], timeout=60)
        try:
            connection, peer = s.accept()
            said = connection.recv(100), peer[0]
        except OSError as e:
            said = e
    tap.check(said == (b"hello\n", ip), "it reaches the host", said)
    pod.exec(id, "sh", "-c", "(echo served | nc -l -p 8080) >/dev/null 2>&1 </dev/null &", timeout=60)

    def ask():
        try:
            with socket.create_connection((ip, 8080), 5) as s:
                return s.recv(100)
        except OSError:
            return None
    tap.check(bh.wait_for(ask, 60, 0.5) == b"served\n", "the host reaches it")


def test_terminal(c, pod, pb, image):
    id = pod.run("tty", image, ["sh", "-c", "tty; sleep 1000"], tty=True, stdin=True)
    tap.check(bh.wait_for(lambda: any("/dev/pts/" in t or "/dev/console" in t for _, _, t in pod.log("tty")), 60),
              "a container with a terminal", pod.log("tty"))
    url = c.runtime.Exec(pb.ExecRequest(container_id=id, cmd=["sh"], stdin=True, stdout=True, tty=True)).url
    session = st.RemoteSpdy(url, stdin=True, stderr=False, tty=True)
    session.spdy.send(session.ids["resize"], b'{"Width":77,"Height":33}')
    time.sleep(0.2)
    session.spdy.send(session.ids["stdin"], b"stty size; exit 4\n")
    end = session.end(60)
    tap.check(b"33 77" in session.out() and st.exit_code(end) == 4, "a command with a terminal: input, its size, its end",
              (session.out(), end))
    session.close()
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=0))


def test_pause(d, c, pod, pb, image):
    """Two containers, each paused while the other runs, both, and ended so."""
    tasks = Ctr(d, "k8s.io")
    ids = {name: pod.run(name, image, bh.COUNTER) for name in ("left", "right")}
    tap.check(all(pod.goes_on(n, 60) for n in ids), "two containers count", [pod.log(n)[-3:] for n in ids])
    paused = tasks("tasks", "pause", ids["left"])
    tap.check(paused == (0, "") and pod.stands_still("left", 2) and pod.goes_on("right", 60),
              "tasks pause: one stands still in the guest, the other goes on", paused)
    tap.check(tasks.state(ids["left"]) == "PAUSED" and tasks.state(ids["right"]) == "RUNNING" and
              pod.status(ids["left"]).status.state == pb.CONTAINER_RUNNING, "tasks ls says PAUSED, the CRI that it runs",
              tasks("tasks", "ls"))
    begin = time.monotonic()
    e = bh.error_of(pod.exec, ids["left"], "true", timeout=60)
    tap.check(e and "FAILED_PRECONDITION" in str(e.code()) and "is paused" in e.details() and time.monotonic() - begin < 10,
              "ExecSync in what is paused is refused at once", e)
    paused = tasks("tasks", "pause", ids["right"])
    tap.check(paused == (0, "") and pod.stands_still("left", 1) and pod.stands_still("right", 1), "both stand still", paused)
    resumed = tasks("tasks", "resume", ids["right"])
    tap.check(resumed == (0, "") and pod.goes_on("right", 60) and pod.stands_still("left", 1) and
              tasks.state(ids["right"]) == "RUNNING", "tasks resume: it goes on", resumed)
    tasks("tasks", "pause", ids["right"])
    killed = tasks("tasks", "kill", "-s", "SIGKILL", ids["left"])
    end = pod.wait(ids["left"], 60)
    tap.check(killed == (0, "") and end and end.exit_code == 137, "tasks kill of what is paused", (killed, end))
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=ids["right"], timeout=60))
    end = pod.wait(ids["right"], 60)
    tap.check(end and end.exit_code == 9, "StopContainer of what is paused: it goes on, and heeds the signal", end)
    for id in ids.values():
        c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    every = pod.run("every", image, bh.COUNTER)
    pod.goes_on("every", 60)
    tasks("tasks", "kill", "--all", "-s", "SIGTERM", every)
    end = pod.wait(every, 60)
    tap.check(end and end.exit_code == 9, "tasks kill --all: the guest's processes get the signal", end)
    last = pod.run("last", image, bh.COUNTER)
    pod.goes_on("last", 60)
    tasks("tasks", "pause", last)
    tap.check(tasks.state(last) == "PAUSED", "another one is paused when its pod is removed")


def status_of(pid):
    """None: it has ended."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    except OSError:
        return None


def test_privileges(vmm):
    for name in ("bulkhead-vm", "bulkhead-guest", vmm.process):
        found = [s for s in map(status_of, named(name)) if s]
        tap.check(found and all(s["Uid"].split()[0] not in ("0", "") and int(s["CapEff"], 16) == 0 and s["Seccomp"] == "2" and
                                s["NoNewPrivs"] == "1" for s in found),
                  "%s: neither root nor capabilities, and a filter" % name, found)


def test_end(c, pod, pb, two, three):
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=two, timeout=60))
    end = pod.wait(two, 60)
    tap.check(end and end.exit_code == 9, "StopContainer: the signal arrives", end)
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=three, timeout=0))
    end = pod.wait(three, 60)
    tap.check(end and end.exit_code == 137, "StopContainer with no time: it is killed", end)
    c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=two))


def test_life(vmm, d, c, pb, image):
    before = bh.kernel_truth(d)
    pod = boot(d, c, "life")
    status = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    tap.check(status.runtime_handler == "vm" and status.state == pb.SANDBOX_READY, "the pod's status names the handler",
              status)
    test_output(vmm, pod, pb, image)
    test_oom(d, pod, pb, image)
    two, three = test_two(d, c, pod, pb, image)
    test_figures(c, pod, pb, three)
    test_network(c, pod, pb, three)
    test_privileges(vmm)
    test_terminal(c, pod, pb, image)
    test_pause(d, c, pod, pb, image)
    test_end(c, pod, pb, two, three)
    pod.remove()
    tap.check(not named(vmm.process) and not named("virtiofsd") and not named("bulkhead-vm"), "no process is left")
    same = bh.wait_for(lambda: bh.kernel_truth(d) == before, 20)
    tap.check(same, "nor anything else", bh.differences(before, bh.kernel_truth(d)))


def keeper_replaced(d):
    keeper, = d.processes()["pod-keeper"]
    os.kill(keeper, signal.SIGKILL)
    return bh.wait_for(lambda: [k for k in d.processes().get("pod-keeper", []) if k != keeper], 30)


def test_keeper_of_paused(d, pod, id):
    tasks = Ctr(d, "k8s.io")
    tasks("tasks", "pause", id)
    tap.check(keeper_replaced(d) and bh.wait_for(lambda: tasks.state(id) == "PAUSED", 60) and pod.stands_still("stays", 2),
              "a keeper is killed whose container is paused: its successor knows", tasks("tasks", "ls"))
    tap.check(bh.wait_for(lambda: tasks("tasks", "resume", id) == (0, ""), 30) and pod.goes_on("stays", 60), "and resumes it",
              tasks("tasks", "ls"))


def test_keeper_killed(d, c, pb, image):
    pod = boot(d, c, "crash")
    id = pod.run("stays", image, ["sh", "-c", "while :; do date +%s; sleep 0.2; done"])
    hungry = oom_run(pod, pb, image, "hungry", "while [ ! -e /go ]; do sleep 0.2; done; " + oom.EATER)
    found = keeper_replaced(d)
    n = len(pod.log("stays"))
    tap.check(found and bh.wait_for(lambda: len(pod.log("stays")) > n + 3, 60),
              "a keeper is killed: its successor has the container, and its log goes on", pod.log("stays")[-5:])
    r = bh.wait_for(lambda: not bh.error_of(pod.exec, id, "true", timeout=60) and
                    pod.exec(id, "echo", "still", timeout=60), 60)
    tap.check(r and r.stdout == b"still\n", "a command runs in it", r)
    pod.exec(hungry, "touch", "/go", timeout=60)
    end = pod.wait(hungry, 60)
    tap.check(end and end.reason == "OOMKilled", "it hears of kills for want of memory, too", end)
    test_keeper_of_paused(d, pod, id)
    return pod, id


MODPROBE = """#!/bin/busybox sh
# The kernel runs it as the guest's root, for a kind of program that it doesn't know: here an order.
case "$*" in
*4b4b)
	for p in /proc/[0-9]*; do
		if /bin/busybox grep -q ^bulkhead-api "$p/cmdline"; then kill -9 "${p#/proc/}"; fi
	done;;
*4343) (/bin/busybox seq 100000 | /bin/busybox head -c 70000; echo; echo "the last line") > /dev/console;;
esac
"""


def initrd(folder, vmm):
    """In which orders can be given from within a container; see order."""
    path = os.path.join(folder, "modprobe")
    with open(path, "w") as f:
        f.write(MODPROBE)
    os.chmod(path, 0o755)
    return vm.initrd(folder, {"/sbin/modprobe": path, "/bin/busybox": "/bin/busybox"}, vmm.modules())


def order(pod, id, letters, then="true"):
    script = "printf '\\377\\377%s' > /order; chmod +x /order; /order 2>/dev/null; %s" % (letters, then)
    pod.exec(id, "sh", "-c", script, timeout=60)


def test_agent_killed(pod, pb, image):
    """The worker in the guest that serves the line; the line itself stays as it is."""
    lines = "echo begun; while [ ! -e /go ]; do sleep 0.2; done; echo goes on; exit 6"
    id = pod.run("bereft", image, ["sh", "-c", lines])
    bh.wait_for(lambda: pod.log("bereft"), 60)
    order(pod, id, "KK", "touch /go")
    end = pod.wait(id, 60)
    tap.check("worker=api/agent" in pod.console() and "killed by SIGKILL" in pod.console(),
              "the guest's API worker is killed", pod.console()[-2000:])
    tap.check(end and end.exit_code == 6 and ("stdout", "F", "goes on") in pod.log("bereft"),
              "and its containers' ends and output are heard all the same", (end, pod.log("bereft")))


def test_console(pod, id):
    """70 KB of it."""
    head = pod.console()[:1000]
    order(pod, id, "CC")
    tap.check(bh.wait_for(lambda: "the last line" in pod.console(), 60) and pod.console().startswith(head) and
              len(pod.console()) <= 64 << 10, "the console's file has its beginning, its end and a limit",
              (len(pod.console()), pod.console()[:500]))


def test_vmm_killed(vmm, d, c, pb, pod, id):
    os.kill(min(named(vmm.process)), signal.SIGKILL)
    end = pod.wait(id, 30)
    tap.check(end and end.exit_code == 255, "%s is killed: the container ends with 255" % vmm.name, end)

    def state():
        return c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status.state
    tap.check(bh.wait_for(lambda: state() == pb.SANDBOX_NOTREADY, 30), "the pod isn't ready any more")
    tap.check(bh.wait_for(lambda: not named(vmm.process) and not named("virtiofsd") and not named("bulkhead-vm"), 10), "its processes are gone")
    pod.remove()
    listed = c.runtime.ListPodSandbox(pb.ListPodSandboxRequest()).items
    tap.check(not [s for s in listed if s.id == pod.id], "it can be removed", listed)


def test_killed_in_boot(vmm, d, c, pb):
    """The task worker: its keeper isn't held up by the boot, so nothing waits for that."""
    def truth():
        t = bh.kernel_truth(d)
        return {**t, "netns": len(t["netns"])}  # a worker that was replaced has another
    before, result = truth(), []
    config = bh.sandbox_config(c, "halfway", log_directory=d.logs)
    request = pb.RunPodSandboxRequest(config=config, runtime_handler="vm")
    t = threading.Thread(target=lambda: result.append(bh.error_of(c.runtime.RunPodSandbox, request, timeout=150)))
    t.start()
    bh.wait_for(lambda: named(vmm.process))
    start = time.monotonic()
    os.kill(d.processes()["task"][0], signal.SIGKILL)
    t.join()
    seconds = time.monotonic() - start
    print("# RunPodSandbox ended after %.1f s: %s" % (seconds, result[0] and result[0].details()))
    for item in c.runtime.ListPodSandbox(pb.ListPodSandboxRequest()).items:
        c.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=item.id), timeout=60)
    tap.check(not result[0] and seconds < 60, "a task worker is killed during a boot: the pod starts all the same",
              (result[0], seconds))
    tap.check(bh.wait_for(lambda: truth() == before, 30), "and nothing of the first boot is left",
              bh.differences(before, truth()))


def test_refused(d, c, pb):
    e = bh.error_of(VmPod, d, c, "hostly", network="host")
    tap.check(e is not None and "UNIMPLEMENTED" in str(e.code()) and "host's network" in e.details(),
              "a pod with the host's network is refused", e)
    linux = c.pb.LinuxPodSandboxConfig(sysctls={"net.ipv4.ip_forward": "1"})
    config = c.pb.PodSandboxConfig(metadata=c.pb.PodSandboxMetadata(name="s", uid="s", namespace="test"), linux=linux)
    e = bh.error_of(c.runtime.RunPodSandbox, c.pb.RunPodSandboxRequest(config=config, runtime_handler="vm"), timeout=60)
    tap.check(e is not None and "UNIMPLEMENTED" in str(e.code()) and "sysctls" in e.details(), "so are sysctls", e)


def test_missing(vmm, folder):
    d = bh.Daemon(folder, settings=vmm.settings() + [vmm.key + "=/no/such/program"]).start()
    try:
        e = bh.error_of(VmPod, d, d.client(), "without")
        tap.check(e is not None and "FAILED_PRECONDITION" in str(e.code()) and
                  '%s: "/no/such/program": No such file' % vmm.key in e.details(),
                  "a program that can't be found: it is named, with its key", e)
    finally:
        d.stop()
        d.remove_cgroups()


def main(vmm):
    reason = vmm.missing()
    if reason:
        tap.skip("a virtual machine", reason)
        tap.done()
        return
    with bh.Scratch() as folder:
        test_missing(vmm, folder)
        registry = bh.Registry(folder)
        image = registry.host + "/test/busybox:1"
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        d = bh.Daemon(folder, settings=vmm.settings(initrd(folder, vmm))).start()
        c = d.client()
        try:
            c.images.PullImage(c.pb.PullImageRequest(image=c.pb.ImageSpec(image=image)))
            test_refused(d, c, c.pb)
            test_killed_in_boot(vmm, d, c, c.pb)
            test_life(vmm, d, c, c.pb, image)
            pod, id = test_keeper_killed(d, c, c.pb, image)
            test_agent_killed(pod, c.pb, image)
            test_console(pod, id)
            test_vmm_killed(vmm, d, c, c.pb, pod, id)
        except Exception:
            print(d.log_tail())
            raise
        finally:
            d.stop()
            registry.stop()
            d.remove_cgroups()
    tap.done()


if __name__ == "__main__":
    main(Qemu)
