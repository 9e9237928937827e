"""The systemd cgroup driver below a real systemd: pods and containers are its units, with their limits, through crashes of
either side, and nothing of them is left. Once with the control groups that the machine has, once with cgroup v2 alone."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import grpc
import systemd

SLICE = "kubepods-burstable-pod1234_5678.slice"
SLICE_PATH = "/kubepods.slice/kubepods-burstable.slice/" + SLICE
MIB = 1 << 20
RUNC = "/usr/sbin/runc"
tap = bh.Tap()


def settings():
    return ["cgroup_driver=systemd", "cgroup_parent=bulkhead.slice"]


def condition(c, pb, name="RuntimeReady"):
    status = c.runtime.Status(pb.StatusRequest()).status
    return [x for x in status.conditions if x.type == name][0]


# --- without systemd ---

def test_absent():
    """Nobody is in charge: the daemon runs and says so."""
    if os.path.isdir("/run/systemd"):
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run/systemd"], check=True)
    with bh.Scratch() as scratch:
        d = bh.Daemon(scratch, settings=settings()).start(wait=False)
        d.ready(2)
        c = d.client()
        pb = c.pb
        ready = condition(c, pb)
        tap.check(not ready.status and ready.reason == "SystemdUnavailable" and "/run/systemd/private" in ready.message,
                  "without systemd the runtime isn't ready, and says why", ready)
        config = c.runtime.RuntimeConfig(pb.RuntimeConfigRequest())
        tap.check(config.linux.cgroup_driver == pb.SYSTEMD, "the driver is what was configured", config)
        before = d.processes()["systemd"]
        begun = time.monotonic()
        error = bh.error_of(bh.Pod, d, c, "nothing", cgroup_parent=SLICE)
        tap.check(error and error.code().name == "UNAVAILABLE" and "systemd isn't reachable" in error.details(),
                  "a pod is refused with that reason", error)
        tap.check(time.monotonic() - begun < 12, "in a bounded time")
        tap.check(d.processes()["systemd"] == before, "and no worker dies over it", d.log_tail())
        c.close()
        d.stop()
        d.remove_cgroups()
        d = bh.Daemon(scratch, settings=["cgroup_driver=cgroupfs"]).start()
        c = d.client()
        tap.check("systemd" not in d.processes(), "with cgroupfs there is no such worker", d.processes())
        error = bh.error_of(bh.Pod, d, c, "slice", cgroup_parent=SLICE)
        tap.check(error and error.code().name == "INVALID_ARGUMENT" and "driver here is cgroupfs" in error.details(),
                  "and a slice as a parent is refused", error)
        config = c.runtime.RuntimeConfig(pb.RuntimeConfigRequest())
        tap.check(config.linux.cgroup_driver == pb.CGROUPFS, "the driver is cgroupfs", config)
        c.close()
        d.stop()
        d.remove_cgroups()


# --- what systemd and the kernel say ---

def show(unit, *names):
    text = subprocess.run(["systemctl", "show", unit, "-p", ",".join(names)], stdout=subprocess.PIPE, text=True).stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def units(pattern="bulkhead*"):
    text = subprocess.run(["systemctl", "list-units", "--all", "--no-legend", "--plain", pattern],
                          stdout=subprocess.PIPE, text=True).stdout
    return sorted(line.split()[0] for line in text.splitlines())


def scope(id):
    return "bulkhead-%s.scope" % id


def read(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def groups(pid):
    """{controllers: path}"""
    return dict(line.split(":", 2)[1:] for line in read("/proc/%s/cgroup" % pid).splitlines())


def pid_of(pod, id):
    return json.loads(pod.status(id, verbose=True).info["info"])["pid"]


def find(controller):
    """Where the controller is: (its folder, whether it is v2), or None."""
    for root in bh.cgroup_roots():
        if os.path.exists(root + "/cgroup.controllers"):
            if controller in read(root + "/cgroup.controllers").split():
                return root, True
        elif controller in os.path.basename(root).split(","):
            return root, False
    return None


def limit(controller, v1, v2, path):
    """The file's first word; None where there is no such controller."""
    place = find(controller)
    return place and (read("%s%s/%s" % (place[0], path, v2 if place[1] else v1)).split() or [""])[0]


def folders(path):
    return [root + path for root in bh.cgroup_roots() if os.path.isdir(root + path)]


def agree(pb, number):
    """What the kernel says is the number, or nothing."""
    return number is None or number == str(pb)


# --- the tests ---

def linux(pb, **resources):
    return pb.LinuxContainerConfig(
        resources=pb.LinuxContainerResources(**resources),
        security_context=pb.LinuxContainerSecurityContext(namespace_options=pb.NamespaceOption(pid=pb.CONTAINER)))


SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


def limits(mib, quota):
    """Without the controllers a limit is refused, as it should be."""
    r = dict(cpu_shares=512, cpu_quota=quota, cpu_period=100000)
    return dict(r, memory_limit_in_bytes=mib * MIB) if find("memory") else {}


def test_status(d, c, pb):
    ready = condition(c, pb)
    tap.check(ready.status, "the runtime is ready", ready)
    config = c.runtime.RuntimeConfig(pb.RuntimeConfigRequest())
    tap.check(config.linux.cgroup_driver == pb.SYSTEMD, "RuntimeConfig says systemd", config)
    info = json.loads(c.runtime.Status(pb.StatusRequest(verbose=True)).info["config"])
    tap.check(info["cgroupDriver"] == "systemd" and info["cgroupParent"] == "bulkhead.slice", "and so does the info", info)
    status = read("/proc/%d/status" % d.processes()["systemd"][0])
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    tap.check(fields["Uid"].split() == ["0"] * 4 and int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == 0 and
              fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2",
              "the worker is root without capabilities, and filtered", status)


def test_refusals(d, c):
    for parent, words in (("/kubepods/pod1", "driver here is systemd"), ("a--b.slice", "can't name a slice"),
                          ("pod.scope", "can't name a slice"), ("a.slice\nMemoryMax=1.slice", "control character")):
        error = bh.error_of(bh.Pod, d, c, "refused", cgroup_parent=parent)
        tap.check(error and error.code().name == "INVALID_ARGUMENT" and words in error.details(),
                  "refused as a parent: %r" % parent, error)


def test_create(d, c, pb, image, pod):
    keeper = d.processes()["pod-keeper"][0]
    s = show(scope(pod.id), "Slice", "ActiveState", "ControlGroup", "Description", "Delegate", "Transient")
    tap.check(s == {"Slice": SLICE, "ActiveState": "active", "ControlGroup": SLICE_PATH + "/" + scope(pod.id),
                    "Description": "bulkhead pod sandbox " + pod.id, "Delegate": "yes", "Transient": "yes"},
              "the pod is a scope in the slice that was named", s)
    tap.check(SLICE_PATH + "/" + scope(pod.id) in groups(keeper).values(), "its keeper is in it", groups(keeper))
    id = pod.run("main", image, SLEEP, linux=linux(pb, **limits(64, 50000)))
    path = SLICE_PATH + "/" + scope(id)
    s = show(scope(id), "Slice", "ActiveState", "ControlGroup", "MemoryMax", "CPUQuotaPerSecUSec", "CPUShares",
             "CPUWeight", "Delegate")
    tap.check(s["Slice"] == SLICE and s["ActiveState"] == "active" and s["ControlGroup"] == path and s["Delegate"] == "yes",
              "a container is a scope there", s)
    if limits(64, 50000):
        weight = s["CPUWeight"] == str(1 + 510 * 9999 // 262142) or s["CPUShares"] == "512"
        tap.check(s["MemoryMax"] == str(64 * MIB) and s["CPUQuotaPerSecUSec"] == "500ms" and weight,
                  "systemd knows its limits", s)
        check_limits(path, 64 * MIB, 50000, "the kernel has them")
    pid = pid_of(pod, id)
    mine = groups(pid)
    inside = [k for k, v in mine.items() if v == path]
    there = [root for root in folders(path)]
    tap.check(len(inside) == len(there) and mine.get("", path) == path, "its process is in each group of that name",
              (mine, there))
    return id, pid


def check_limits(path, memory, quota, name):
    found = [limit("memory", "memory.limit_in_bytes", "memory.max", path), limit("cpu", "cpu.cfs_quota_us", "cpu.max", path)]
    tap.check(agree(memory, found[0]) and agree(quota, found[1]), name, found)


def test_devices(pod, id, name):
    """Reading a disk by a node of its own: 8:0 needn't exist to be refused."""
    r = pod.exec(id, "sh", "-c", "mknod /tmp/disk b 8 0 2>&1; cat /tmp/disk; echo; head -c 1 /dev/zero | wc -c")
    text = (r.stdout + r.stderr).decode()
    tap.check("Operation not permitted" in text and "1\n" in text, name, text)


def test_use(d, c, pb, pod, id, pid):
    r = pod.exec(id, "cat", "/proc/self/cgroup")
    tap.check(r.exit_code == 0, "a command runs in it", r)
    test_devices(pod, id, "devices that aren't its own are refused")
    stats = c.runtime.ContainerStats(pb.ContainerStatsRequest(container_id=id)).stats
    if find("memory"):
        tap.check(stats.memory.usage_bytes.value > 0, "statistics of the container", stats)
        s = c.runtime.PodSandboxStats(pb.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats
        tap.check(s.linux.memory.usage_bytes.value > 0, "and of the pod", s)
    else:
        tap.skip("statistics", "no memory controller here")


def test_update(c, pb, pod, id, pid):
    path = SLICE_PATH + "/" + scope(id)
    if not limits(96, 70000):
        tap.skip("new limits", "no controllers here")
        return
    c.runtime.UpdateContainerResources(pb.UpdateContainerResourcesRequest(
        container_id=id, linux=pb.LinuxContainerResources(**limits(96, 70000))))
    s = show(scope(id), "MemoryMax", "CPUQuotaPerSecUSec")
    tap.check(s == {"MemoryMax": str(96 * MIB), "CPUQuotaPerSecUSec": "700ms"}, "systemd has the new limits", s)
    check_limits(path, 96 * MIB, 70000, "the kernel has the new limits")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    check_limits(path, 96 * MIB, 70000, "and still has them after a reload of systemd")
    test_devices(pod, id, "devices stay refused")
    tap.check(path in groups(pid).values() and show(scope(id), "ActiveState")["ActiveState"] == "active",
              "the process is where it was", groups(pid))


def end_worker(d, name):
    old = d.processes()[name]
    os.kill(old[0], signal.SIGKILL)
    if not bh.wait_for(lambda: d.processes().get(name, old) != old, 10):
        tap.check(False, name + " has a successor", d.log_tail())
    d.ready()


def test_crashes(d, c, pb, image, pod, id, pid):
    for name in ("systemd", "metadata", "task", "pod-keeper"):
        end_worker(d, name)
        new = pod.run("after-" + name, image, SLEEP)
        tap.check(show(scope(new), "ActiveState")["ActiveState"] == "active" and
                  show(scope(id), "ActiveState")["ActiveState"] == "active" and os.path.exists("/proc/%d" % pid),
                  "after the end of %s units are made and kept" % name, units())
        c.runtime.StopContainer(pb.StopContainerRequest(container_id=new, timeout=5))
        c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=new))
    path = SLICE_PATH + "/" + scope(pod.id)
    keeper = d.processes()["pod-keeper"][0]
    tap.check(bh.wait_for(lambda: path in groups(keeper).values()) and
              bh.wait_for(lambda: show(scope(pod.id), "ActiveState")["ActiveState"] == "active"),
              "the keeper's successor is in the pod's scope", (groups(keeper), units()))


def test_reexec(d, c, pb, image, pod, id):
    before = show(scope(id), "InvocationID")
    worker = d.processes()["systemd"]
    subprocess.run(["systemctl", "daemon-reexec"], check=True)
    tap.check(bh.wait_for(lambda: condition(c, pb).status), "ready again when systemd is", condition(c, pb))
    new = pod.run("reexec", image, SLEEP)
    tap.check(show(scope(new), "ActiveState")["ActiveState"] == "active", "a container starts after systemd's own restart")
    tap.check(show(scope(id), "InvocationID") == before and d.processes()["systemd"] == worker,
              "nothing else was restarted", d.log_tail())
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=new, timeout=5))


def test_end(c, pb, pod, id):
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=5))
    tap.check(bh.wait_for(lambda: scope(id) not in units()), "a stopped container has no unit", units())
    tap.check(bh.wait_for(lambda: not folders(SLICE_PATH + "/" + scope(id))), "nor a cgroup", folders(SLICE_PATH))
    pod.remove()
    tap.check(bh.wait_for(lambda: not [u for u in units() if u != "bulkhead.slice"]), "nor has a pod that is removed",
              units())
    left = [f for root in folders(SLICE_PATH) for f in os.listdir(root) if "bulkhead" in f]
    tap.check(not left, "nothing of it is in the slice", left)


def test_killed_container(c, pb, image, pod):
    """The scope of what ends by itself, by whatever cause, doesn't stay as a failed unit."""
    id = pod.run("killed", image, SLEEP)
    os.kill(pid_of(pod, id), signal.SIGKILL)
    status = pod.wait(id)
    tap.check(status and status.exit_code == 137 and bh.wait_for(lambda: scope(id) not in units()),
              "the unit of a killed container is gone", units())
    error = bh.error_of(pod.run, "nothing", image, ["/no/such/program"])
    tap.check(error and bh.wait_for(lambda: len(units()) == 2), "and that of one that can't start", (error, units()))


def test_shared_pids(d, c, pb, image):
    """The init of a pod's shared pid namespace is in the pod's scope, too."""
    pod = bh.Pod(d, c, "shared", cgroup_parent=SLICE, pid=pb.POD)
    security = pb.LinuxContainerSecurityContext(namespace_options=pb.NamespaceOption(pid=pb.POD))
    id = pod.run("main", image, SLEEP, linux=pb.LinuxContainerConfig(security_context=security))
    inits = d.processes().get("pod-init", [])
    where = SLICE_PATH + "/" + scope(pod.id) + "/" + pod.id
    tap.check(inits and where in groups(inits[0]).values(), "a pod's init is in the pod's scope", [groups(p) for p in inits])
    tap.check(scope(id) in units(), "its container has a scope of its own", units())
    pod.remove()
    tap.check(bh.wait_for(lambda: scope(pod.id) not in units()), "and all of it ends", units())


def test_own_slice(d, c, pb, image):
    pod = bh.Pod(d, c, "own")
    own = "bulkhead-%s.slice" % pod.id
    id = pod.run("main", image, SLEEP)
    tap.check(show(scope(id), "Slice", "ControlGroup") == {
        "Slice": own, "ControlGroup": "/bulkhead.slice/%s/%s" % (own, scope(id))}, "a pod without a parent has a slice", units())
    if limits(128, 1):
        test_slice_limits(c, pb, pod, own)
    pod.remove()
    tap.check(bh.wait_for(lambda: not [u for u in units() if u != "bulkhead.slice"]), "and ends with the pod", units())
    left = lambda: [r for r in folders("/bulkhead.slice") if [f for f in os.listdir(r) if pod.id in f]]
    tap.check(bh.wait_for(lambda: not left()), "cgroups and all", left())
    dropins = [f for top in ("/run/systemd/transient", "/run/systemd/system.control") for _, ds, fs in os.walk(top)
               for f in ds + fs if "bulkhead" in f]
    tap.check(not dropins, "and no file of it is left with systemd", dropins)


def test_slice_limits(c, pb, pod, own):
    c.runtime.UpdatePodSandboxResources(pb.UpdatePodSandboxResourcesRequest(
        pod_sandbox_id=pod.id, resources=pb.LinuxContainerResources(memory_limit_in_bytes=128 * MIB)))
    tap.check(show(own, "MemoryMax") == {"MemoryMax": str(128 * MIB)}, "which takes the pod's limits", show(own, "MemoryMax"))
    tap.check(agree(128 * MIB, limit("memory", "memory.limit_in_bytes", "memory.max", "/bulkhead.slice/" + own)),
              "as does the kernel")


def test_runtime(c, d, pb, image):
    """An OCI runtime's container waits for its scope, too."""
    config = bh.sandbox_config(c, "runtime", log_directory=d.logs, cgroup_parent=SLICE)
    request = pb.RunPodSandboxRequest(config=config, runtime_handler="runc")
    pod = bh.Pod.__new__(bh.Pod)
    pod.daemon, pod.client, pod.config, pod.containers = d, c, config, []
    pod.id = c.runtime.RunPodSandbox(request).pod_sandbox_id
    id = pod.create("main", image, SLEEP, linux=linux(pb))
    error = bh.error_of(c.runtime.StartContainer, pb.StartContainerRequest(container_id=id))
    if error and "runc" in error.details():
        tap.skip("a container of runc's", error.details().splitlines()[0])
    else:
        tap.check(not error and SLICE_PATH + "/" + scope(id) in groups(pid_of(pod, id)).values() and scope(id) in units(),
                  "a container of runc's is in its scope", (error, units()))
    pod.remove()
    tap.check(bh.wait_for(lambda: not [u for u in units() if u != "bulkhead.slice"]), "and leaves nothing", units())


def test_churn(d, c, pb, image):
    """Pods come and go while one process after the other is killed: what the client was told holds, nothing stays."""
    results, stop = [], threading.Event()

    def churn(n):
        round = 0
        while not stop.is_set():
            round += 1
            try:
                pod = bh.Pod(d, c, "churn-%d-%d" % (n, round), cgroup_parent=SLICE if n % 2 else "")
                id = pod.run("main", image, SLEEP)
                results.append(show(scope(id), "ActiveState")["ActiveState"])
            except grpc.RpcError:
                pass

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    for name in ("systemd", "metadata", "task", "keeper", "systemd", "pod-keeper"):
        time.sleep(0.5)
        victims = d.processes().get(name)
        if victims:
            os.kill(victims[0], signal.SIGKILL)
    time.sleep(0.5)
    stop.set()
    for t in threads:
        t.join()
    d.ready()
    gone = [s for s in results if s != "active"]
    tap.check(results and len(gone) <= 1, "containers that were started have their scopes: %d" % len(results), results)
    for item in c.runtime.ListPodSandbox(pb.ListPodSandboxRequest()).items:
        c.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=item.id))
        c.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=item.id))
    tap.check(bh.wait_for(lambda: not [u for u in units() if u != "bulkhead.slice"], 40), "and all of it is gone in the end",
              (units(), d.log_tail(30)))
    left = lambda: [r + "/" + f for r in folders(SLICE_PATH) + folders("/bulkhead.slice") for f in os.listdir(r)
                    if f.startswith("bulkhead-")]
    tap.check(bh.wait_for(lambda: not left(), 20), "cgroups too", left())


def test_oom(c, pb, image, pod):
    """The figures are read before systemd removes them with the group."""
    reasons = []
    for i in range(5):
        id = pod.run("oom-%d" % i, image, ["sh", "-c", "tail /dev/zero"],
                     linux=linux(pb, memory_limit_in_bytes=16 * MIB))
        status = pod.wait(id)
        reasons.append(status and (status.reason, status.exit_code))
    tap.check(reasons == [("OOMKilled", 137)] * 5, "a container that is killed for want of memory says so", reasons)


def run_inside(mode):
    with bh.Scratch() as scratch:
        registry = bh.Registry(scratch)
        image = registry.host + "/test/busybox:1"
        bh.push(bh.make_image(scratch, "busybox"), registry, "test/busybox:1")
        d = bh.Daemon(scratch, settings=settings() + ["runtime.runc=" + RUNC]).start()
        c = d.client()
        pb = c.pb
        try:
            c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
            test_status(d, c, pb)
            test_refusals(d, c)
            pod = bh.Pod(d, c, "first", cgroup_parent=SLICE)
            id, pid = test_create(d, c, pb, image, pod)
            test_use(d, c, pb, pod, id, pid)
            test_update(c, pb, pod, id, pid)
            test_killed_container(c, pb, image, pod)
            if find("memory"):
                test_oom(c, pb, image, pod)
            test_crashes(d, c, pb, image, pod, id, pid)
            test_reexec(d, c, pb, image, pod, id)
            test_end(c, pb, pod, id)
            test_shared_pids(d, c, pb, image)
            test_own_slice(d, c, pb, image)
            if os.path.exists(RUNC):
                test_runtime(c, d, pb, image)
            test_churn(d, c, pb, image)
        except Exception:
            tap.check(False, "no exception", traceback.format_exc() + d.log_tail(60))
        finally:
            c.close()
            d.stop()
            registry.stop()


def main():
    mode = systemd.inside()
    if mode:
        run_inside(mode)
        tap.done()
    bh.isolate()
    test_absent()
    for mode in ("host", "unified"):
        systemd.boot(tap, mode)
    tap.done()


main()
