"""Statistics, metrics, changed limits, lists in parts and events, against the kernel's own files."""

import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
tap = bh.Tap()


def cgroup_file(pid, controller, *names):
    """The first of the files that there is, of the process's group in the hierarchy that has the controller."""
    with open("/proc/%d/cgroup" % pid) as f:
        groups = {c: line.split(":", 2)[2].strip() for line in f for c in line.split(":")[1].split(",")}
    for root in bh.cgroup_roots():
        for name in names:
            for path in {groups.get(controller), groups.get("")} - {None}:
                full = root + path + "/" + name
                if os.path.exists(full):
                    return full
    return None


def read(path):
    with open(path) as f:
        return f.read().strip()


def pid_by(tag):
    def look():
        for pid in bh.pids():
            try:
                words = open("/proc/%d/cmdline" % pid).read().split("\0")
            except OSError:
                continue
            if tag in words and words[0] == "sh":
                return pid
        return None
    return bh.wait_for(look, 5)


class Subscriber:
    """GetContainerEvents in a thread of its own."""

    def __init__(self, client):
        self.call = client.runtime.GetContainerEvents(client.pb.GetEventsRequest())
        self.events, self.error = [], None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        time.sleep(0.3)

    def run(self):
        try:
            for e in self.call:
                self.events.append(e)
        except Exception as e:  # the end of a stream is an exception here
            self.error = e

    def of(self, id):
        return [e.container_event_type for e in list(self.events) if e.container_id == id]

    def wait(self, id, n):
        return bh.wait_for(lambda: len(self.of(id)) >= n, 10)


def test_stats(d, c, pb, pod, id):
    s = c.runtime.PodSandboxStats(pb.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats
    tap.check(s.attributes.id == pod.id and s.attributes.metadata.name == "figures", "PodSandboxStats names the pod", s)
    tap.check(s.linux.cpu.usage_core_nano_seconds.value > 0 and s.linux.memory.working_set_bytes.value > 0 and
              s.linux.process.process_count.value >= 1, "with CPU, memory, processes", s.linux)
    net = s.linux.network.default_interface
    tap.check(net.name == "eth0" and net.rx_bytes.value > 0 and net.tx_bytes.value > 0, "and its network device", s.linux.network)
    tap.check([k.attributes.id for k in s.linux.containers] == [id] and
              s.linux.containers[0].writable_layer.used_bytes.value > 0, "and its container")
    if os.path.exists("/proc/pressure/cpu"):
        tap.check(s.linux.cpu.HasField("psi") and s.linux.cpu.psi.Some.Total >= 0, "and pressure", s.linux.cpu)
    else:
        tap.skip("pressure", "the kernel doesn't count it")
    time.sleep(0.3)
    s2 = c.runtime.PodSandboxStats(pb.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats
    tap.check(s2.linux.cpu.HasField("usage_nano_cores"), "the second look has a rate")
    all = c.runtime.ListPodSandboxStats(pb.ListPodSandboxStatsRequest()).stats
    tap.check([x.attributes.id for x in all] == [pod.id], "ListPodSandboxStats")
    f = pb.PodSandboxStatsFilter(label_selector={"no": "such"})
    tap.check(not c.runtime.ListPodSandboxStats(pb.ListPodSandboxStatsRequest(filter=f)).stats, "with a filter")
    e = bh.error_of(c.runtime.PodSandboxStats, pb.PodSandboxStatsRequest(pod_sandbox_id="nosuch"))
    tap.check(e and e.code().name == "NOT_FOUND" and "nosuch" in e.details(), "an unknown pod is NOT_FOUND", e)


def test_metrics(c, pb, pod, id, pid):
    families = {x.name: x for x in c.runtime.ListMetricDescriptors(pb.ListMetricDescriptorsRequest()).descriptors}
    tap.check(len(families) > 50 and all(x.help and x.label_keys for x in families.values()), "metric descriptors")
    pods = [x for x in c.runtime.ListPodSandboxMetrics(pb.ListPodSandboxMetricsRequest()).pod_metrics
            if x.pod_sandbox_id == pod.id]
    tap.check(len(pods) == 1 and [k.container_id for k in pods[0].container_metrics] == [id], "pod metrics")
    values = {}
    for m in list(pods[0].metrics) + list(pods[0].container_metrics[0].metrics):
        values.setdefault(m.name, []).append(m)
    wrong = [n for n, ms in values.items() for m in ms if n not in families or len(m.label_values) != len(families[n].label_keys)]
    tap.check(not wrong, "as many label values as keys", wrong)
    optional = ("blkio", "fs_reads", "fs_writes", "hugetlb", "pressure")
    missing = [n for n in families if n not in values and not any(o in n for o in optional)]
    tap.check(not missing, "every family has a value", missing)
    one = lambda n: values[n][0].value.value
    tap.check(one("container_processes") == 2 and one("container_threads") == 2, "processes and threads",
              (one("container_processes"), one("container_threads")))
    tap.check(one("container_file_descriptors") >= 3, "file descriptors")
    tap.check(one("container_spec_memory_limit_bytes") == 64 << 20, "the limit that was asked for")
    tap.check(abs(one("container_last_seen") - time.time()) < 60, "last seen now")
    keys = list(families["container_processes"].label_keys)
    labels = dict(zip(keys, values["container_processes"][0].label_values))
    tap.check(labels["pod"] == "figures" and labels["namespace"] == "test" and labels["container"] == "main" and
              labels["name"] == id and labels["id"].endswith(id), "labels as cAdvisor has them", labels)
    part = [m for r in c.runtime.StreamPodSandboxMetrics(pb.StreamPodSandboxMetricsRequest()) for m in r.pod_sandbox_metrics]
    tap.check([m.pod_sandbox_id for m in part] == [pod.id], "StreamPodSandboxMetrics")


def test_update(c, pb, pod, id, pid):
    update = lambda **r: c.runtime.UpdateContainerResources(pb.UpdateContainerResourcesRequest(
        container_id=id, linux=pb.LinuxContainerResources(**r)))
    update(memory_limit_in_bytes=96 << 20, cpu_shares=512, cpu_quota=50000, cpu_period=100000)
    path = cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max")
    tap.check(read(path) == str(96 << 20), "the kernel has the new memory limit", read(path))
    path = cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")
    tap.check(path and read(path).split()[0] == "50000", "and the CPU quota", path)
    path = cgroup_file(pid, "cpu", "cpu.shares", "cpu.weight")
    tap.check(path and (not path.endswith("shares") or read(path) == "512"), "and the shares")
    r = pod.status(id).status.resources.linux
    tap.check(r.memory_limit_in_bytes == 96 << 20 and r.cpu_quota == 50000 and r.oom_score_adj == 7,
              "ContainerStatus shows them, and what wasn't named stays", r)
    update(cpuset_cpus="0")
    path = cgroup_file(pid, "cpuset", "cpuset.cpus")
    tap.check(path and read(path) == "0" and os.sched_getaffinity(pid) == {0}, "a set of CPUs holds for what runs already",
              (path, os.sched_getaffinity(pid)))
    tap.check(pod.exec(id, "sh", "-c", "cat /proc/self/cgroup").exit_code == 0, "exec still works")
    e = bh.error_of(update, memory_limit_in_bytes=4096)
    tap.check(e and e.code().name == "FAILED_PRECONDITION" and "4096" in e.details(), "less than is in use is refused", e)
    e = bh.error_of(update, cpuset_cpus="0;1")
    tap.check(e and e.code().name == "INVALID_ARGUMENT", "what is no set of CPUs is refused", e)
    memory = cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max")
    quota = cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")
    before = read(memory), read(quota)
    e = bh.error_of(update, memory_limit_in_bytes=80 << 20, cpu_quota=30000, cpuset_cpus="1023")
    tap.check(e and (read(memory), read(quota)) == before, "a CPU that isn't there: the limits set before it are taken back",
              (e, before, read(memory), read(quota)))
    e = bh.error_of(update, memory_limit_in_bytes=80 << 20, cpu_quota=30000, unified={"cgroup.freeze": "1"})
    tap.check(e and (read(memory), read(quota)) == before, "a refused v2 file: the same", (e, before, read(memory), read(quota)))
    r = pod.status(id).status.resources.linux
    tap.check(r.memory_limit_in_bytes == 96 << 20 and r.cpu_quota == 50000, "and ContainerStatus agrees with the kernel", r)
    test_oom_score(c, pb, pod)
    e = bh.error_of(c.runtime.UpdateContainerResources, pb.UpdateContainerResourcesRequest(container_id="nosuch"))
    tap.check(e and e.code().name == "NOT_FOUND", "an unknown container is NOT_FOUND", e)
    made = pod.create("later", pod.image, ["sh", "-c", "sleep 600; true", "marker-later"])
    c.runtime.UpdateContainerResources(pb.UpdateContainerResourcesRequest(
        container_id=made, linux=pb.LinuxContainerResources(memory_limit_in_bytes=48 << 20)))
    c.runtime.StartContainer(pb.StartContainerRequest(container_id=made))
    later = pid_by("marker-later")
    path = cgroup_file(later, "memory", "memory.limit_in_bytes", "memory.max")
    tap.check(read(path) == str(48 << 20), "a container that isn't started yet starts with the new limit", read(path))
    c.runtime.UpdatePodSandboxResources(pb.UpdatePodSandboxResourcesRequest(
        pod_sandbox_id=pod.id, overhead=pb.LinuxContainerResources(memory_limit_in_bytes=1 << 20),
        resources=pb.LinuxContainerResources(memory_limit_in_bytes=255 << 20, cpu_shares=700)))
    path = os.path.join(os.path.dirname(os.path.dirname(path)), os.path.basename(path))
    tap.check(read(path) == str(256 << 20), "UpdatePodSandboxResources: the pod's group", (path, read(path)))
    e = bh.error_of(c.runtime.UpdatePodSandboxResources, pb.UpdatePodSandboxResourcesRequest(
        pod_sandbox_id=pod.id, resources=pb.LinuxContainerResources(memory_limit_in_bytes=200 << 20, cpuset_cpus="1023")))
    tap.check(e and read(path) == str(256 << 20), "a refused update of the pod leaves its group's limits", (e, read(path)))
    path = cgroup_file(later, "cpu", "cpu.shares", "cpu.weight")
    tap.check(path and pod.id in path, "whose containers are in it for the CPU too", path)
    c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=made))


def test_oom_score(c, pb, pod):
    id = pod.run("scored", pod.image, ["sh", "-c", "sleep 601 & (sleep 602; true) & sleep 603; true", "marker-scored"],
                 linux=pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(oom_score_adj=100)))
    update = lambda **r: c.runtime.UpdateContainerResources(pb.UpdateContainerResourcesRequest(
        container_id=id, linux=pb.LinuxContainerResources(**r)))
    warnings = lambda: [w for w in json.loads(pod.status(id, verbose=True).info["info"])["warnings"] if "oom" in w]
    group = os.path.dirname(cgroup_file(pid_by("marker-scored"), "memory", "memory.limit_in_bytes", "memory.max"))
    processes = lambda: [int(p) for p in read(group + "/cgroup.procs").split()]
    bh.wait_for(lambda: len(processes()) == 5, 5)
    scores = lambda: {p: int(read("/proc/%d/oom_score_adj" % p)) for p in processes()}
    before = scores()
    tap.check(len(before) == 5 and set(before.values()) == {100}, "a container of several processes with an oom score", before)
    e = bh.error_of(update, oom_score_adj=300, cpuset_cpus="1023")
    tap.check(e and scores() == before, "an update that fails leaves it", (e, scores()))
    e = bh.error_of(update, oom_score_adj=1001)
    tap.check(e and e.code().name == "INVALID_ARGUMENT" and "1001" in e.details() and scores() == before,
              "one out of range is refused", e)
    update(oom_score_adj=300)
    tap.check(set(scores().values()) == {300} and len(scores()) == 5, "an update sets that of all its processes", scores())
    tap.check(pod.exec(id, "cat", "/proc/self/oom_score_adj").stdout == b"300\n", "and of commands from then on")
    tap.check(pod.status(id).status.resources.linux.oom_score_adj == 300 and not warnings(), "ContainerStatus shows it")
    update(oom_score_adj=-900)
    capable = int([l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")][0], 16) >> 24 & 1
    own = int(read("/proc/self/oom_score_adj"))
    tap.check(set(scores().values()) == {-900 if capable else own}, "one that isn't permitted goes as low as the daemon's own",
              (scores(), own))
    if capable:
        tap.skip("a warning of a clamped oom score", "CAP_SYS_RESOURCE is there")
    else:
        tap.check(len(warnings()) == 1 and "-900" in warnings()[0] and warnings()[0].endswith("it is %d" % own),
                  "and the verbose status says so", warnings())
    update(oom_score_adj=400)
    tap.check(set(scores().values()) == {400} and not warnings(), "until one is set that is", (scores(), warnings()))
    c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    ended = pod.run("scored2", pod.image, ["true"])
    pod.wait(ended)
    e = bh.error_of(c.runtime.UpdateContainerResources, pb.UpdateContainerResourcesRequest(
        container_id=ended, linux=pb.LinuxContainerResources(oom_score_adj=5)))
    tap.check(e is None and pod.status(ended).status.resources.linux.oom_score_adj == 5, "of one that has ended the record alone", e)


def test_parts(c, pb, pod):
    ids = {pod.create("part%d" % i, pod.image, ["true"], annotations={"big": "x" * 3000}) for i in range(300)}
    whole = [k.id for k in c.runtime.ListContainers(pb.ListContainersRequest()).containers]
    parts = [[k.id for k in r.containers] for r in c.runtime.StreamContainers(pb.StreamContainersRequest())]
    flat = [x for p in parts for x in p]
    tap.check(len(parts) > 1 and flat == whole and len(set(flat)) == len(flat) and ids <= set(flat),
              "StreamContainers: several replies, each container once", [len(p) for p in parts])
    f = pb.ContainerFilter(id=whole[-1])
    flat = [k.id for r in c.runtime.StreamContainers(pb.StreamContainersRequest(filter=f)) for k in r.containers]
    tap.check(flat == [whole[-1]], "with a filter")
    pods = [p.id for r in c.runtime.StreamPodSandboxes(pb.StreamPodSandboxesRequest()) for p in r.pod_sandboxes]
    tap.check(pods == [pod.id], "StreamPodSandboxes", pods)
    images = [i.id for r in c.images.StreamImages(pb.StreamImagesRequest()) for i in r.images]
    tap.check(images == [i.id for i in c.images.ListImages(pb.ListImagesRequest()).images], "StreamImages")
    running = {s.attributes.id for r in c.runtime.StreamContainerStats(pb.StreamContainerStatsRequest()) for s in r.container_stats}
    tap.check(running == {s.attributes.id for s in c.runtime.ListContainerStats(pb.ListContainerStatsRequest()).stats} and running,
              "StreamContainerStats")
    stats = [s.attributes.id for r in c.runtime.StreamPodSandboxStats(pb.StreamPodSandboxStatsRequest()) for s in r.pod_sandbox_stats]
    tap.check(stats == [pod.id], "StreamPodSandboxStats")
    for id in ids:
        c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))


def test_events(d, c, pb, image):
    created, started, stopped, deleted = range(4)
    sub = Subscriber(c)
    pod = bh.Pod(d, c, "events", network="host")
    tap.check(sub.wait(pod.id, 2) and sub.of(pod.id) == [created, started], "a pod's begin", sub.of(pod.id))
    id = pod.run("one", image, ["sh", "-c", "exit 3"])
    tap.check(sub.wait(id, 3) and sub.of(id) == [created, started, stopped], "a container's life in order", sub.of(id))
    e = [e for e in sub.events if e.container_id == id][-1]
    s = [s for s in e.containers_statuses if s.id == id]
    tap.check(e.pod_sandbox_status.id == pod.id and s and s[0].exit_code == 3 and e.created_at > 0, "with the statuses of then", e)
    c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    tap.check(sub.wait(id, 4) and sub.of(id)[-1] == deleted, "and its removal")
    e = [e for e in sub.events if e.container_id == id][-1]
    tap.check(id not in [s.id for s in e.containers_statuses], "after which it isn't in the pod's list any more")

    for victim in ("metadata", "task", "metadata", "snapshot", "metadata"):
        long = pod.run("long-" + victim + str(len(sub.events)), image, ["sleep", "600"])
        quick = pod.create("quick-" + victim + str(len(sub.events)), image, ["sh", "-c", "sleep 0.15"])
        c.runtime.StartContainer(pb.StartContainerRequest(container_id=quick))
        for pid in d.processes().get(victim, []):
            os.kill(pid, 9)
        ok = sub.wait(quick, 3) and d.ready()
        c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=long))
        sub.wait(long, 4)
        tap.check(ok and sub.of(quick) == [created, started, stopped] and sub.of(long) == [created, started, stopped, deleted],
                  "%s killed: nothing missed, nothing twice, in order" % victim, (sub.of(quick), sub.of(long), sub.error))
    pod.remove()
    tap.check(sub.wait(pod.id, 4) and sub.of(pod.id) == [created, started, stopped, deleted], "the pod's end", sub.of(pod.id))
    tap.check(sub.error is None, "one stream all the time", sub.error)
    sub.call.cancel()


def test_slow_subscriber(d, c, pb, image):
    """A client that doesn't read is cut off, and nobody else notices."""
    import grpc
    pod = bh.Pod(d, c, "slow", network="host", annotations={"big": "y" * 120000})
    other = bh.Client(d.socket)
    channel = grpc.insecure_channel("unix://" + d.socket, options=[("grpc.use_local_subchannel_pool", 1)])
    stub = type(c.runtime)(channel)
    call = stub.GetContainerEvents(pb.GetEventsRequest())
    time.sleep(0.3)
    for i in range(90):
        id = pod.create("c%d" % i, image, ["true"])
        c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    n, error = 0, None
    try:
        for _ in call:
            n += 1
    except grpc.RpcError as e:
        error = e
    tap.check(error is not None and error.code().name == "RESOURCE_EXHAUSTED" and "unread" in error.details(),
              "a slow subscriber is cut off with RESOURCE_EXHAUSTED", (n, error))
    channel.close()
    other.close()
    pod.remove()


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        image = registry.host + "/test/busybox:1"
        d = bh.Daemon(folder).start()
        c = d.client()
        pb = c.pb
        try:
            c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
            pod = bh.Pod(d, c, "figures")
            pod.image = image
            linux = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20, oom_score_adj=7))
            id = pod.run("main", image, ["sh", "-c", "ping -c 2 -W 1 10.231.0.1 >/tmp/x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; "
                                         "sleep 600; true", "marker-main"], linux=linux)
            pid = pid_by("marker-main")
            bh.wait_for(lambda: b"600" in pod.exec(id, "ps").stdout, 8)
            test_stats(d, c, pb, pod, id)
            test_metrics(c, pb, pod, id, pid)
            test_update(c, pb, pod, id, pid)
            test_parts(c, pb, pod)
            pod.remove()
            test_events(d, c, pb, image)
            test_slow_subscriber(d, c, pb, image)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception as e:  # the log says why
            tap.check(False, "the test runs to its end", repr(e))
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
