"""The CRI call by call: those that critest leaves out do what they are for, and every call refuses what is wrong with the
code that kubelet acts on: an id of nothing, no id, bytes that are no message, a state in which it can't be. Under both of
its names, v1 and v1alpha2."""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

import grpc

bh.isolate()
tap = bh.Tap()

Code = grpc.StatusCode
NOWHERE = "0123456789abcdef" * 4


def refused(name, code, words, call, *args):
    """The call fails with this code and a sentence that has all the words."""
    e = bh.error_of(call, *args)
    said = "nothing, it succeeded" if e is None else "%s: %s" % (e.code().name, e.details())
    tap.check(e is not None and e.code() == code and all(w in e.details() for w in words), "%s: %s" % (name, said[:200]),
              "wanted %s with %s\n%s" % (code.name, words, said))


def whole(call, *args, **kwargs):
    """All replies of a stream."""
    return list(call(*args, **kwargs))


# --- under both names ---

def methods(pb):
    """(service, method, request type) of all that the .proto file has."""
    for service in ("RuntimeService", "ImageService"):
        for m in pb.DESCRIPTOR.services_by_name[service].methods:
            yield service, m.name, getattr(pb, m.input_type.name)


def raw(c, version, service, method, data, timeout=5):
    """(code, sentence, replies) of bytes sent to a method."""
    call = c.channel.unary_stream("/runtime.%s.%s/%s" % (version, service, method), request_serializer=lambda b: b,
                                  response_deserializer=lambda b: b)
    try:
        return Code.OK, "", list(call(data, timeout=timeout))
    except grpc.RpcError as e:
        return e.code(), e.details(), []


def test_bytes(c, pb):
    """Bytes that are no message, to every method under both names."""
    bad = []
    for version in ("v1", "v1alpha2"):
        for service, method, _ in methods(pb):
            for data in (b"\x0a\xff\xff\xff", b"\xff", b"\x0a\x01"):
                code, said, _ = raw(c, version, service, method, data)
                if code == Code.UNIMPLEMENTED and method in said:
                    continue
                if code != Code.INVALID_ARGUMENT or not said.startswith(method):
                    bad.append((version, method, data, code, said))
    tap.check(not bad, "malformed bytes are INVALID_ARGUMENT, whatever the method", bad)


# Their replies have times and figures, or don't end.
CHANGING = {"Status", "ImageFsInfo", "ListPodSandboxStats", "ListContainerStats", "StreamPodSandboxStats", "StreamContainerStats",
            "ListPodSandboxMetrics", "StreamPodSandboxMetrics"}


def test_v1alpha2(d, c, pb, image):
    differ, served = [], 0
    for service, method, _ in methods(pb):
        if method in ("GetContainerEvents", "Version"):
            continue
        one, two = (raw(c, v, service, method, b"") for v in ("v1", "v1alpha2"))
        served += one[0] != Code.UNIMPLEMENTED
        same = one[:2] == two[:2] and (method in CHANGING or one[2] == two[2])
        if not same and one[0] != Code.UNIMPLEMENTED:
            differ.append((method, one, two))
    tap.check(not differ and served > 35, "v1alpha2 answers %d methods as v1 does" % served, differ)
    version = pb.VersionResponse.FromString(raw(c, "v1alpha2", "RuntimeService", "Version", b"")[2][0])
    tap.check(version.runtime_api_version == "v1alpha2" and version.version == "0.1.0", "v1alpha2: Version says which it is", version)

    def alpha(method, request, reply, service="RuntimeService"):
        code, said, replies = raw(c, "v1alpha2", service, method, request.SerializeToString(), 20)
        if code != Code.OK:
            tap.check(False, "v1alpha2: " + method, said)
        return reply.FromString(replies[0] if replies else b"")
    config = bh.sandbox_config(c, "alpha", network="host", log_directory=d.logs)
    pod = alpha("RunPodSandbox", pb.RunPodSandboxRequest(config=config), pb.RunPodSandboxResponse).pod_sandbox_id
    id = alpha("CreateContainer", pb.CreateContainerRequest(
        pod_sandbox_id=pod, config=bh.container_config(c, "alpha", image, ["sleep", "600"]), sandbox_config=config),
        pb.CreateContainerResponse).container_id
    alpha("StartContainer", pb.StartContainerRequest(container_id=id), pb.StartContainerResponse)
    e = alpha("ExecSync", pb.ExecSyncRequest(container_id=id, cmd=["echo", "hello"]), pb.ExecSyncResponse)
    alpha("UpdateContainerResources", pb.UpdateContainerResourcesRequest(
        container_id=id, linux=pb.LinuxContainerResources(cpu_shares=300)), pb.UpdateContainerResourcesResponse)
    s = alpha("ContainerStatus", pb.ContainerStatusRequest(container_id=id), pb.ContainerStatusResponse).status
    tap.check(e.stdout == b"hello\n" and s.state == pb.CONTAINER_RUNNING and s.resources.linux.cpu_shares == 300,
              "v1alpha2: a container's life", s)
    events = c.channel.unary_stream("/runtime.v1alpha2.RuntimeService/GetContainerEvents", lambda b: b,
                                    pb.ContainerEventResponse.FromString)(b"")
    first = []
    threading.Thread(target=lambda: first.append(next(events, None)), daemon=True).start()
    time.sleep(0.3)
    alpha("StopContainer", pb.StopContainerRequest(container_id=id), pb.StopContainerResponse)
    tap.check(bh.wait_for(lambda: first, 5) and first[0].container_id == id, "v1alpha2: GetContainerEvents", first)
    events.cancel()
    for method, request, reply in (("RemoveContainer", pb.RemoveContainerRequest(container_id=id), pb.RemoveContainerResponse),
                                   ("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=pod), pb.StopPodSandboxResponse),
                                   ("RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=pod), pb.RemovePodSandboxResponse)):
        alpha(method, request, reply)
    left = c.runtime.ListPodSandbox(pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(id=pod))).items
    tap.check(not left, "v1alpha2: and its end", left)


def test_health(c):
    def check(service):
        data = bytes([10, len(service)]) + service.encode() if service else b""
        call = c.channel.unary_unary("/grpc.health.v1.Health/Check", lambda b: b, lambda b: b)
        return call(data, timeout=5)
    good = [check(s) for s in ("", "runtime.v1.RuntimeService", "runtime.v1.ImageService", "runtime.v1alpha2.RuntimeService")]
    tap.check(all(r == b"\x08\x01" for r in good), "Health.Check: SERVING, for all and for each service", good)
    refused("Health.Check of a service that isn't there", Code.NOT_FOUND, ["some.Service"], check, "some.Service")


# --- ids and states ---

def test_ids(c, pb):
    """The calls of which test_errors.py doesn't ask this."""
    R = c.runtime
    limits = pb.LinuxContainerResources(cpu_shares=100)
    calls = [("UpdateContainerResources", pb.UpdateContainerResourcesRequest, "container_id", {"linux": limits}),
             ("UpdatePodSandboxResources", pb.UpdatePodSandboxResourcesRequest, "pod_sandbox_id", {"resources": limits}),
             ("PodSandboxStats", pb.PodSandboxStatsRequest, "pod_sandbox_id", {})]
    for method, request, field, more in calls:
        refused(method + " of nothing", Code.NOT_FOUND, [NOWHERE, "not found"], getattr(R, method), request(**{field: NOWHERE}, **more))
        refused(method + " without an id", Code.INVALID_ARGUMENT, ["names no"], getattr(R, method), request(**more))
        for odd in ("../../etc/passwd", "a" * 10000, "line\nfeed", "*"):
            e = bh.error_of(getattr(R, method), request(**{field: odd}, **more))
            if e is None or e.code() not in (Code.NOT_FOUND, Code.INVALID_ARGUMENT):
                tap.check(False, "%s of an odd id" % method, "%r: %s" % (odd[:20], e))


def test_states(d, c, pb, image):
    """What a container or a pod can't be asked for as it is."""
    R, bad = c.runtime, Code.FAILED_PRECONDITION
    pod = bh.Pod(d, c, "states", network="host")
    made = pod.create("made", image, ["sleep", "600"])
    ended = pod.run("ended", image, ["true"])
    pod.wait(ended)
    for what, id in (("that isn't started", made), ("that has ended", ended)):
        refused("Exec in a container " + what, bad, [id[:12], "isn't running"], R.Exec,
                pb.ExecRequest(container_id=id, cmd=["true"], stdout=True))
        refused("Attach to a container " + what, bad, [id[:12], "isn't running"], R.Attach,
                pb.AttachRequest(container_id=id, stdout=True))
        refused("ExecSync in a container " + what, bad, [id[:12], "isn't running"], R.ExecSync,
                pb.ExecSyncRequest(container_id=id, cmd=["true"]))
        refused("ReopenContainerLog of a container " + what, bad, [id[:12], "isn't running"], R.ReopenContainerLog,
                pb.ReopenContainerLogRequest(container_id=id))
        stats = R.ListContainerStats(pb.ListContainerStatsRequest(filter=pb.ContainerStatsFilter(id=id))).stats
        tap.check(not stats, "ListContainerStats leaves out a container " + what, stats)
        R.StopContainer(pb.StopContainerRequest(container_id=id, timeout=1))
    listed = {k.id: k.state for k in R.ListContainers(pb.ListContainersRequest(
        filter=pb.ContainerFilter(pod_sandbox_id=pod.id))).containers}
    tap.check(listed.get(ended) == pb.CONTAINER_EXITED, "a container that has ended stays listed until RemoveContainer", listed)
    R.UpdateContainerResources(pb.UpdateContainerResourcesRequest(container_id=ended, linux=pb.LinuxContainerResources(cpu_shares=9)))
    tap.check(pod.status(ended).status.resources.linux.cpu_shares == 9, "UpdateContainerResources of one that has ended is recorded")
    R.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=pod.id))
    refused("StartContainer in a stopped pod", bad, [pod.id, "isn't ready"], R.StartContainer, pb.StartContainerRequest(container_id=made))
    refused("PortForward to a stopped pod", bad, [pod.id[:12]], R.PortForward, pb.PortForwardRequest(pod_sandbox_id=pod.id, port=[80]))
    s = R.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    tap.check(s.state == pb.SANDBOX_NOTREADY and s.created_at > 0, "PodSandboxStatus of a stopped pod is NOTREADY", s)
    stats = R.PodSandboxStats(pb.PodSandboxStatsRequest(pod_sandbox_id=pod.id)).stats
    tap.check(stats.attributes.id == pod.id and not stats.linux.containers, "PodSandboxStats of a stopped pod has no figures", stats)
    f = pb.PodSandboxStatsFilter(id=pod.id)
    tap.check(not R.ListPodSandboxStats(pb.ListPodSandboxStatsRequest(filter=f)).stats, "ListPodSandboxStats leaves it out")
    R.UpdatePodSandboxResources(pb.UpdatePodSandboxResourcesRequest(
        pod_sandbox_id=pod.id, resources=pb.LinuxContainerResources(cpu_shares=200)))
    pod.remove()


def test_reopen(d, c, pb, image, folder):
    """ReopenContainerLog as kubelet's rotation does it; where it fails it leaves no file."""
    pod = bh.Pod(d, c, "rotate", network="host")
    id = pod.run("rotate", image, ["sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"])
    path = os.path.join(d.logs, "rotate.log")
    reopen = lambda: c.runtime.ReopenContainerLog(pb.ReopenContainerLogRequest(container_id=id))
    lines = lambda p: sum(1 for _ in open(p)) if os.path.exists(p) else 0
    bh.wait_for(lambda: lines(path) > 2, 5)
    os.rename(path, path + ".1")
    reopen()
    tap.check(bh.wait_for(lambda: lines(path) > 2, 5), "ReopenContainerLog: a new file is written")
    os.rename(path, path + ".2")
    canary = os.path.join(folder, "canary-log")
    os.mkdir(path)
    refused("ReopenContainerLog over a folder", Code.INVALID_ARGUMENT, ["rotate.log"], reopen)
    tap.check(os.listdir(path) == [], "a ReopenContainerLog that fails leaves no file")
    os.rmdir(path)
    os.symlink(canary, path)
    e = bh.error_of(reopen)
    tap.check(e is not None and "rotate.log" in e.details() and not os.path.exists(canary) and os.path.islink(path),
              "ReopenContainerLog follows no link, and makes nothing there", e)
    os.unlink(path)
    at = lines(path + ".2")
    tap.check(bh.wait_for(lambda: lines(path + ".2") > at, 5), "and the container's lines go on into the file that is open")
    reopen()
    tap.check(bh.wait_for(lambda: lines(path) > 2, 5), "until it succeeds")
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=0))
    numbers = [int(line.rsplit(" ", 1)[1]) for p in (path + ".1", path + ".2", path) for line in open(p) if " F line " in line]
    tap.check(numbers == list(range(1, len(numbers) + 1)), "no line is lost and none comes twice", numbers[:10])
    pod.remove()


# --- what critest doesn't call ---

def test_runtime_config(d, c, pb, image):
    R = c.runtime
    driver = R.RuntimeConfig(pb.RuntimeConfigRequest()).linux.cgroup_driver
    pod = bh.Pod(d, c, "config")
    id = pod.run("config", image, ["sleep", "600"])
    group = pod.exec(id, "cat", "/proc/self/cgroup").stdout.decode()
    found = [root for root in bh.cgroup_roots() if os.path.isdir("%s%s/%s/%s" % (root, d.cgroup, pod.id, id))]
    tap.check(driver == pb.CGROUPFS and found and ".slice" not in group, "RuntimeConfig: the driver is how groups are named", (driver, group))
    before = R.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    R.UpdateRuntimeConfig(pb.UpdateRuntimeConfigRequest())
    R.UpdateRuntimeConfig(pb.UpdateRuntimeConfigRequest(
        runtime_config=pb.RuntimeConfig(network_config=pb.NetworkConfig(pod_cidr="10.77.0.0/16"))))
    after = R.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    tap.check(before == after, "UpdateRuntimeConfig: pods that are there stay as they are", (before, after))
    second = bh.Pod(d, c, "config2")
    s = R.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=second.id)).status
    tap.check(s.network.ip.startswith("10.231.") and os.listdir(d.cni) == ["10-test.conflist"],
              "UpdateRuntimeConfig: addresses are the network configuration's business", s.network)
    second.remove()
    pod.remove()


def test_image_fs(d, c, pb, folder, registry):
    def info():
        r = c.images.ImageFsInfo(pb.ImageFsInfoRequest())
        return r, sum(f.used_bytes.value for f in r.image_filesystems)
    r, before = info()
    fs = r.image_filesystems[0]
    tap.check(os.stat(fs.fs_id.mountpoint).st_dev == os.stat(d.state).st_dev and abs(fs.timestamp / 1e9 - time.time()) < 60,
              "ImageFsInfo: where images are, and when it was looked at", fs)
    tap.check(len(r.container_filesystems) >= 1 and r.container_filesystems[0].fs_id.mountpoint,
              "ImageFsInfo: and where containers write", r.container_filesystems)

    def large(root):
        bh.busybox_root(root)
        with open(os.path.join(root, "large"), "wb") as f:
            f.write(os.urandom(8 << 20))
    bh.push(bh.make_image(folder, "fs", large), registry, "test/fs:1")
    spec = pb.ImageSpec(image=registry.host + "/test/fs:1")
    c.images.PullImage(pb.PullImageRequest(image=spec))
    tap.check(bh.wait_for(lambda: info()[1] >= before + (8 << 20), 70), "ImageFsInfo: it grows with an image of 8 MiB", (before, info()[1]))
    c.images.RemoveImage(pb.RemoveImageRequest(image=spec))
    tap.check(bh.wait_for(lambda: info()[1] < before + (4 << 20), 70), "ImageFsInfo: and shrinks without it", (before, info()[1]))


def test_streams(d, c, pb, image):
    """Each list in parts says what the list says; of nothing it is empty and ends well."""
    pod = bh.Pod(d, c, "streams", network="host")
    id = pod.run("streams", image, ["sleep", "600"])
    R, I = c.runtime, c.images
    pairs = [("StreamPodSandboxes", R.StreamPodSandboxes, pb.StreamPodSandboxesRequest, "pod_sandboxes",
              R.ListPodSandbox, pb.ListPodSandboxRequest, "items", lambda x: x.id, pb.PodSandboxFilter(id=NOWHERE)),
             ("StreamContainers", R.StreamContainers, pb.StreamContainersRequest, "containers",
              R.ListContainers, pb.ListContainersRequest, "containers", lambda x: x.id, pb.ContainerFilter(id=NOWHERE)),
             ("StreamContainerStats", R.StreamContainerStats, pb.StreamContainerStatsRequest, "container_stats", R.ListContainerStats,
              pb.ListContainerStatsRequest, "stats", lambda x: x.attributes.id, pb.ContainerStatsFilter(id=NOWHERE)),
             ("StreamPodSandboxStats", R.StreamPodSandboxStats, pb.StreamPodSandboxStatsRequest, "pod_sandbox_stats", R.ListPodSandboxStats,
              pb.ListPodSandboxStatsRequest, "stats", lambda x: x.attributes.id, pb.PodSandboxStatsFilter(id=NOWHERE)),
             ("StreamImages", I.StreamImages, pb.StreamImagesRequest, "images",
              I.ListImages, pb.ListImagesRequest, "images", lambda x: x.id,
              pb.ImageFilter(image=pb.ImageSpec(image="127.0.0.1:1/none:1")))]
    for name, stream, request, part, lister, list_request, items, key, nothing in pairs:
        flat = [key(x) for r in whole(stream, request()) for x in getattr(r, part)]
        listed = [key(x) for x in getattr(lister(list_request()), items)]
        tap.check(flat == listed and flat, name + " names what the list names", (flat, listed))
        flat = [x for r in whole(stream, request(filter=nothing)) for x in getattr(r, part)]
        tap.check(flat == [], name + " of nothing is empty, and no error", flat)
    parts = [m.pod_sandbox_id for r in whole(R.StreamPodSandboxMetrics, pb.StreamPodSandboxMetricsRequest()) for m in r.pod_sandbox_metrics]
    tap.check(pod.id in parts, "StreamPodSandboxMetrics names each pod", parts)
    one = R.ContainerStats(pb.ContainerStatsRequest(container_id=id)).stats.attributes
    tap.check(one.id == id and one.metadata.name == "streams", "ContainerStats names the container", one)
    pod.remove()


def test_events(d, c, pb, image):
    """A subscriber hears of what comes, not of what was."""
    pod = bh.Pod(d, c, "heard", network="host")
    early = pod.run("early", image, ["sleep", "600"])
    call = c.runtime.GetContainerEvents(pb.GetEventsRequest())
    heard = []

    def listen():
        try:
            for e in call:
                heard.append(e)
        except grpc.RpcError:
            pass
    threading.Thread(target=listen, daemon=True).start()
    time.sleep(0.3)
    late = pod.run("late", image, ["sleep", "600"])
    bh.wait_for(lambda: len([e for e in heard if e.container_id == late]) >= 2, 5)
    kinds = [e.container_event_type for e in heard if e.container_id == late]
    tap.check(kinds == [pb.CONTAINER_CREATED_EVENT, pb.CONTAINER_STARTED_EVENT] and not [e for e in heard if e.container_id == early],
              "GetContainerEvents begins when it is called", heard)
    call.cancel()
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=late, timeout=0))
    again = c.runtime.GetContainerEvents(pb.GetEventsRequest())
    threading.Thread(target=lambda: heard.append(next(again, None)), daemon=True).start()
    time.sleep(0.3)
    del heard[:]
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=early, timeout=0))
    tap.check(bh.wait_for(lambda: heard, 5) and heard[0].container_id == early and
              heard[0].container_event_type == pb.CONTAINER_STOPPED_EVENT, "GetContainerEvents: the next one begins anew", heard)
    again.cancel()
    pod.remove()


def test_pulls(c, pb, registry):
    def pull(name, code, words, ref):
        refused("PullImage: " + name, code, ["pull image"] + words, c.images.PullImage,
                pb.PullImageRequest(image=pb.ImageSpec(image=ref)))
    pull("a host that nobody knows", Code.UNAVAILABLE, ["no-such-host.invalid"], "no-such-host.invalid/test/x:1")
    pull("a port where nobody listens", Code.UNAVAILABLE, ["127.0.0.1:1"], "127.0.0.1:1/test/x:1")
    pull("a tag that isn't there", Code.NOT_FOUND, [registry.host, "busybox:none"], registry.host + "/test/busybox:none")
    pull("a repository that isn't there", Code.NOT_FOUND, [registry.host, "test/none"], registry.host + "/test/none:1")
    pull("a digest that isn't there", Code.NOT_FOUND, [registry.host, "sha256:0000"], registry.host + "/test/busybox@sha256:" + "0" * 64)
    pull("no name", Code.INVALID_ARGUMENT, [], "")


def test_admin(c, registry):
    image = registry.host + "/test/busybox:1"
    events = list(c.admin.Pull(c.admin_pb.PullRequest(image=image), timeout=20))
    tap.check(events and events[-1].image_ref.startswith("sha256:"), "Admin.Pull: its last event has the image's id", events)
    refused("Admin.Pull of a tag that isn't there", Code.NOT_FOUND, ["pull image", registry.host],
            lambda: list(c.admin.Pull(c.admin_pb.PullRequest(image=image + "none"), timeout=20)))
    r = c.admin.Inspect(c.admin_pb.InspectRequest())
    tap.check({"metadata", "image", "snapshot", "task", "stream"} <= {w.name for w in r.workers} and r.images == 1,
              "Admin.Inspect names the workers and counts the objects", r)


# --- byte for byte ---

def test_roundtrip(d, c, pb, image):
    """Through gRPC, too, what test_roundtrip.c shows of the metadata worker."""
    def texts(n):
        return {"k%d" % i: "".join(chr(p << 16 | (0xa0 + i * 7 + x)) for p in range(17) for x in range(n)) for i in range(4)}
    labels = dict(texts(3), empty="", **{"": "empty key", "large": "\U0001f980" * (64 << 10)})
    notes = dict(texts(5), tab="a\tb\r\nc\x01\x7f", **{"\u202e\ufeff": "\U0010fffd"})
    pod = bh.Pod(d, c, "r\u00fc\u4e2d\U0001f980", network="host", labels=labels, annotations=notes)
    s = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    item = c.runtime.ListPodSandbox(pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(id=pod.id))).items[0]
    tap.check(all(dict(x.labels) == labels and dict(x.annotations) == notes and x.metadata == pod.config.metadata for x in (s, item)),
              "a pod's name, labels and annotations come back byte for byte")
    found = c.runtime.ListPodSandbox(pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(label_selector={"large": labels["large"]}))).items
    tap.check([x.id for x in found] == [pod.id], "and can be looked for")
    id = pod.create("c\u00fc\U0001f980", image, ["true"], labels=labels, annotations=notes, log_path="c.log")
    s = pod.status(id).status
    item = c.runtime.ListContainers(pb.ListContainersRequest(filter=pb.ContainerFilter(id=id))).containers[0]
    tap.check(all(dict(x.labels) == labels and dict(x.annotations) == notes and x.metadata.name == "c\u00fc\U0001f980" for x in (s, item)),
              "a container's come back byte for byte")
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
            before = bh.kernel_truth(d)
            test_bytes(c, pb)
            test_v1alpha2(d, c, pb, image)
            test_health(c)
            test_ids(c, pb)
            test_states(d, c, pb, image)
            test_reopen(d, c, pb, image, folder)
            test_runtime_config(d, c, pb, image)
            test_image_fs(d, c, pb, folder, registry)
            test_streams(d, c, pb, image)
            test_events(d, c, pb, image)
            test_pulls(c, pb, registry)
            test_admin(c, registry)
            test_roundtrip(d, c, pb, image)
            left = bh.wait_for(lambda: bh.kernel_truth(d) == before, 5)
            tap.check(left, "nothing of all that is left", bh.differences(before, bh.kernel_truth(d)))
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
