"""The draft CRI (package runtime, proto2) with a client made from its own schema: a pod's whole life, what is set and
what is unset, the same request twice, errors; and the same objects through the CRI of today."""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
import grpc  # noqa: E402 (not needed outside)
tap = bh.Tap()


class Seed:
    def __init__(self, client):
        self.pb, g = bh.seed_stubs()
        self.runtime = g.RuntimeServiceStub(client.channel)
        self.images = g.ImageServiceStub(client.channel)


def code_of(error):
    return error.code().name if error is not None else "OK"


def status_lines(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def pid_of(tag):
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


def test_version(s):
    v = s.runtime.Version(s.pb.VersionRequest(version="0.1.0"))
    tap.check(v.version == "0.1.0" and v.runtime_name == "bulkhead" and v.runtime_version and v.runtime_api_version, "Version", v)


def test_images(s, image):
    spec = s.pb.ImageSpec(image=image)
    st = s.images.ImageStatus(s.pb.ImageStatusRequest(image=spec))
    tap.check(not st.HasField("image"), "an image that isn't there is no image", st)
    s.images.PullImage(s.pb.PullImageRequest(image=spec, auth=s.pb.AuthConfig(username="anybody", password="x")))
    st = s.images.ImageStatus(s.pb.ImageStatusRequest(image=spec))
    tap.check(st.image.id.startswith("sha256:") and image in st.image.repo_tags and st.image.HasField("size") and st.image.size > 0,
              "PullImage, ImageStatus", st)
    tap.check([i.id for i in s.images.ListImages(s.pb.ListImagesRequest()).images] == [st.image.id], "ListImages")
    f = s.pb.ImageFilter(image=s.pb.ImageSpec(image="no.such/image:1"))
    tap.check(not s.images.ListImages(s.pb.ListImagesRequest(filter=f)).images, "with a filter")
    e = bh.error_of(s.images.PullImage, s.pb.PullImageRequest(image=s.pb.ImageSpec(image=image + "-missing")))
    tap.check(code_of(e) == "NOT_FOUND", "an image that the registry doesn't have", e)


def test_pod(d, c, s, image):
    pb = s.pb
    before = bh.kernel_truth(d)
    config = pb.PodSandboxConfig(name="old", hostname="old", log_directory=d.logs, labels={"app": "old"}, annotations={"a": "b"},
                                 dns_options=pb.DNSOption(servers=["10.9.9.9"], searches=["x.y"]),
                                 port_mappings=[pb.PortMapping(name="p", protocol=pb.TCP, container_port=80, host_port=18081)],
                                 resources=pb.PodSandboxResources(memory=pb.ResourceRequirements(limits=256 << 20)))
    pod = s.runtime.CreatePodSandbox(pb.CreatePodSandboxRequest(config=config)).pod_sandbox_id
    tap.check(len(pod) >= 32, "CreatePodSandbox", pod)
    again = s.runtime.CreatePodSandbox(pb.CreatePodSandboxRequest(config=config)).pod_sandbox_id
    tap.check(again == pod, "the same again gives the same")
    st = s.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod)).status
    o = st.linux.namespaces.options
    tap.check(st.id == pod and st.name == "old" and st.HasField("state") and st.state == pb.READY and st.created_at > 0 and
              st.network.ip.startswith("10.231.") and st.labels["app"] == "old" and st.annotations["a"] == "b", "PodSandboxStatus", st)
    tap.check(o.HasField("host_network") and not o.host_network and not o.host_pid, "with its own namespaces", o)
    v1 = c.runtime.PodSandboxStatus(c.pb.PodSandboxStatusRequest(pod_sandbox_id=pod)).status
    tap.check(v1.metadata.name == "old" and v1.metadata.uid == "old" and v1.metadata.namespace == "default", "the CRI of today sees it", v1)

    ready, other = pb.PodSandboxFilter(state=pb.READY), pb.PodSandboxFilter(state=pb.NOTREADY)
    ids = lambda f: [p.id for p in s.runtime.ListPodSandbox(pb.ListPodSandboxRequest(filter=f)).items]
    tap.check(ids(None) == [pod] and ids(ready) == [pod] and ids(other) == [], "ListPodSandbox: state READY is 0 and not unset")
    tap.check(ids(pb.PodSandboxFilter(name="old")) == [pod] and ids(pb.PodSandboxFilter(name="ol")) == [] and
              ids(pb.PodSandboxFilter(label_selector={"app": "new"})) == [], "by name and label")

    source = os.path.join(d.folder, "seed-volume")
    os.makedirs(source, exist_ok=True)
    cc = pb.ContainerConfig(
        name="main", image=pb.ImageSpec(image=image), command=["sh", "-c"], args=["echo $WORD; cat; exit 5", "marker-seed"],
        envs=[pb.KeyValue(key="WORD", value="hello")], log_path="seed.log", working_dir="/tmp", readonly_rootfs=True,
        mounts=[pb.Mount(name="v", container_path="/data", host_path=source, readonly=True)], labels={"k": "v"},
        linux=pb.LinuxContainerConfig(
            resources=pb.LinuxContainerResources(memory_limit_in_bytes=32 << 20, cpu_shares=256),
            capabilities=pb.Capability(add_capabilities=["NET_ADMIN"], drop_capabilities=["CHOWN"]),
            user=pb.LinuxUser(uid=33, gid=34, additional_gids=[77])))
    create = pb.CreateContainerRequest(pod_sandbox_id=pod, config=cc, sandbox_config=config)
    id = s.runtime.CreateContainer(create).container_id
    tap.check(id and s.runtime.CreateContainer(create).container_id == id, "CreateContainer, twice")
    st = s.runtime.ContainerStatus(pb.ContainerStatusRequest(container_id=id)).status
    tap.check(st.HasField("state") and st.state == pb.CREATED and st.HasField("created_at"), "a created container has a state", st)
    tap.check(not st.HasField("started_at") and not st.HasField("finished_at") and not st.HasField("exit_code") and
              not st.HasField("reason"), "and no start, end or exit code", st)
    s.runtime.StartContainer(pb.StartContainerRequest(container_id=id))
    st = bh.wait_for(lambda: next((x for x in [s.runtime.ContainerStatus(pb.ContainerStatusRequest(container_id=id)).status]
                                   if x.state == pb.EXITED), None), 10)
    tap.check(st and st.HasField("exit_code") and st.exit_code == 5 and st.finished_at >= st.started_at > 0 and st.name == "main" and
              st.reason == "Error" and st.mounts[0].container_path == "/data" and st.mounts[0].readonly, "its end", st)
    with open(os.path.join(d.logs, "seed.log")) as f:
        tap.check(" stdout F hello" in f.read(), "its environment and log")
    s.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    s.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))

    cc.args[0] = "while :; do sleep 1; done"
    id = s.runtime.CreateContainer(pb.CreateContainerRequest(pod_sandbox_id=pod, config=cc, sandbox_config=config)).container_id
    s.runtime.StartContainer(pb.StartContainerRequest(container_id=id))
    pid = pid_of("marker-seed")
    p = status_lines(pid)
    bounding = int(p["CapBnd"], 16)
    tap.check(p["Uid"].split()[0] == "33" and p["Gid"].split()[0] == "34" and "77" in p["Groups"].split(), "user, group and groups", p["Groups"])
    tap.check(bounding >> 12 & 1 and not bounding & 1, "capabilities", hex(bounding))
    tap.check(bh.namespace(pid, "net") != bh.namespace(os.getpid(), "net") and bh.namespace(pid, "pid") != bh.namespace(os.getpid(), "pid"),
              "namespaces of its own")
    tap.check(os.stat("/proc/%d/root/tmp" % pid) and " / " in open("/proc/%d/mountinfo" % pid).read(), "a root of its own")
    running = [k.id for k in s.runtime.ListContainers(pb.ListContainersRequest(filter=pb.ContainerFilter(state=pb.RUNNING))).containers]
    created = s.runtime.ListContainers(pb.ListContainersRequest(filter=pb.ContainerFilter(state=pb.CREATED))).containers
    tap.check(running == [id] and not created, "ListContainers: state CREATED is 0 and not unset", (running, created))
    named = s.runtime.ListContainers(pb.ListContainersRequest(filter=pb.ContainerFilter(name="main", pod_sandbox_id=pod))).containers
    tap.check([k.id for k in named] == [id] and named[0].name == "main" and named[0].image.image == image and named[0].labels["k"] == "v",
              "by name", named)
    begin = time.monotonic()
    s.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=0))
    tap.check(time.monotonic() - begin < 1.5, "StopContainer: a time-out of 0 is none at all", time.monotonic() - begin)
    s.runtime.StopContainer(pb.StopContainerRequest(container_id=id))

    cc.name, cc.privileged, cc.readonly_rootfs = "priv", True, False
    cc.linux.ClearField("user")
    cc.linux.ClearField("capabilities")
    cc.args[1] = "marker-priv"
    id = s.runtime.CreateContainer(pb.CreateContainerRequest(pod_sandbox_id=pod, config=cc, sandbox_config=config)).container_id
    s.runtime.StartContainer(pb.StartContainerRequest(container_id=id))
    p = status_lines(pid_of("marker-priv"))
    tap.check(p["CapEff"] == status_lines(os.getpid())["CapEff"] and p["Uid"].split()[0] == "0", "privileged; no user is the image's", p["CapEff"])

    s.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=pod))
    s.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=pod))
    st = s.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod)).status
    tap.check(st.state == pb.NOTREADY and not st.HasField("network"), "a stopped sandbox is NOTREADY and has no address", st)
    s.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=pod))
    s.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=pod))
    after = bh.wait_for(lambda: bh.kernel_truth(d) if bh.kernel_truth(d) == before else None, 5) or bh.kernel_truth(d)
    tap.check(after == before, "nothing of the pod is left", bh.differences(before, after))


def test_host_namespaces(d, s, image):
    pb = s.pb
    linux = pb.LinuxPodSandboxConfig(namespace_options=pb.NamespaceOption(host_network=True, host_pid=True, host_ipc=True))
    config = pb.PodSandboxConfig(name="host", linux=linux)
    pod = s.runtime.CreatePodSandbox(pb.CreatePodSandboxRequest(config=config)).pod_sandbox_id
    cc = pb.ContainerConfig(name="h", image=pb.ImageSpec(image=image), command=["sh", "-c", "while :; do sleep 1; done", "marker-host"])
    id = s.runtime.CreateContainer(pb.CreateContainerRequest(pod_sandbox_id=pod, config=cc, sandbox_config=config)).container_id
    s.runtime.StartContainer(pb.StartContainerRequest(container_id=id))
    pid = pid_of("marker-host")
    tap.check(all(bh.namespace(pid, n) == bh.namespace(os.getpid(), n) for n in ("net", "pid", "ipc")), "the host's namespaces")
    o = s.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod)).status.linux.namespaces.options
    tap.check(o.host_network and o.host_pid and o.host_ipc, "as the status says", o)
    s.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=pod))


def execute(s, id, cmd, inputs=(), tty=None, hold=None, timeout=20):
    """Runs a command: output, error output, exit code, status. hold: wait before the end of stdin."""
    out, err = [], []

    def requests():
        yield s.pb.ExecRequest(container_id=id, cmd=cmd, tty=tty)
        for data in inputs:
            yield s.pb.ExecRequest(stdin=data)
        if hold:
            hold.wait(timeout)
    call = s.runtime.Exec(requests(), timeout=timeout)
    try:
        for r in call:
            if r.HasField("stdout"):
                out.append(r.stdout)
            if r.HasField("stderr"):
                err.append(r.stderr)
    except grpc.RpcError:
        pass
    trailers = dict(call.trailing_metadata())
    return b"".join(out), b"".join(err), trailers.get("exit-code"), call.code().name, call.details()


def test_exec(d, s, image):
    pb = s.pb
    config = pb.PodSandboxConfig(name="exec", linux=pb.LinuxPodSandboxConfig(namespace_options=pb.NamespaceOption(host_network=True)))
    pod = s.runtime.CreatePodSandbox(pb.CreatePodSandboxRequest(config=config)).pod_sandbox_id
    cc = pb.ContainerConfig(name="e", image=pb.ImageSpec(image=image), command=["sleep", "600"])
    id = s.runtime.CreateContainer(pb.CreateContainerRequest(pod_sandbox_id=pod, config=cc, sandbox_config=config)).container_id
    s.runtime.StartContainer(pb.StartContainerRequest(container_id=id))

    r = execute(s, id, ["sh", "-c", "echo out; echo err >&2"])
    tap.check(r == (b"out\n", b"err\n", "0", "OK", ""), "Exec: both streams, exit-code 0 and OK", r)
    r = execute(s, id, ["sh", "-c", "echo x; exit 42"])
    tap.check(r[0] == b"x\n" and r[2] == "42" and r[3] == "UNKNOWN" and "42" in r[4], "another exit code is in the trailers", r)
    r = execute(s, id, ["sh", "-c", "kill -9 $$"])
    tap.check(r[2] == "137", "so is a signal", r)
    r = execute(s, id, ["sh", "-c", "wc -c; echo done"], [b"a" * 1000, b"b" * 500])
    tap.check(r[0].split() == [b"1500", b"done"] and r[2] == "0", "stdin in several messages, its end by half-close", r)
    big = os.urandom(1 << 20)
    r = execute(s, id, ["cat"], [big] * 24, timeout=60)
    tap.check(len(r[0]) == 24 << 20 and r[0] == big * 24 and r[2] == "0", "24 MiB through cat and back", (len(r[0]), r[1:]))
    r = execute(s, id, ["true"], [big] * 8)
    tap.check(r[2] == "0", "a command that doesn't read its stdin", r[1:])
    r = execute(s, id, ["sh", "-c", "head -c 12 /dev/zero | tr '\\0' z; sleep 100 & exit 3"])
    tap.check(r[0] == b"z" * 12 and r[2] == "3", "what is left behind doesn't hold the end up", r)
    done = threading.Event()
    r = execute(s, id, ["sh", "-c", "tty; stty size >/dev/null && echo is; exit 4"], tty=True, hold=done)
    done.set()
    tap.check(b"/dev/pts" in r[0] and r[1] == b"" and r[2] == "4", "with a terminal", r)
    r = execute(s, id, ["/no/such/program"])
    tap.check(r[2] is None and r[3] != "OK" and "/no/such/program" in r[4], "a missing program is named", r)
    r = execute(s, "nosuch", ["true"])
    tap.check(r[3] == "NOT_FOUND" and "nosuch" in r[4], "an unknown container is NOT_FOUND", r)
    r = execute(s, id, [])
    tap.check(r[3] == "INVALID_ARGUMENT", "no command", r)
    e = s.runtime.Exec(iter(()), timeout=5)
    tap.check(e.code().name == "INVALID_ARGUMENT", "no message at all", e.details())

    hold = threading.Event()
    call = s.runtime.Exec(iter_held(pb.ExecRequest(container_id=id, cmd=["sh", "-c", "echo up; sleep 611"]), hold))
    first = next(iter(call))
    running = lambda: [p for p in bh.pids() if "611" in (read_quiet(p, "cmdline").split("\0") + [""])[1:2]]
    tap.check(first.stdout == b"up\n" and bh.wait_for(running, 3), "output comes while it runs")
    call.cancel()
    hold.set()
    tap.check(bh.wait_for(lambda: not running(), 5), "a client that goes away ends the command")
    r = execute(s, id, ["sleep", "30"], timeout=1)
    tap.check(r[3] == "DEADLINE_EXCEEDED", "a deadline ends it", r)
    tap.check(bh.wait_for(lambda: not [p for p in bh.pids() if read_quiet(p, "cmdline") == "sleep\x0030\0"], 5), "and the command")

    api = d.processes()["api"][0]
    before = resident(api)
    call = s.runtime.Exec(iter_held(pb.ExecRequest(container_id=id, cmd=["yes"]), hold))
    next(iter(call))
    time.sleep(1.0)
    grown = resident(api) - before
    tap.check(grown < 30000, "a client that reads slowly doesn't fill the daemon", grown)
    call.cancel()
    s.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=pod))


def iter_held(request, hold):
    yield request
    hold.wait(20)


def resident(pid):
    """KiB of memory that a process has."""
    with open("/proc/%d/status" % pid) as f:
        return [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]


def read_quiet(pid, name):
    try:
        with open("/proc/%d/%s" % (pid, name)) as f:
            return f.read()
    except OSError:
        return ""


def test_errors(s):
    pb = s.pb
    e = bh.error_of(s.runtime.CreatePodSandbox, pb.CreatePodSandboxRequest())
    tap.check(code_of(e) == "INVALID_ARGUMENT", "a request without a configuration", e)
    e = bh.error_of(s.runtime.CreatePodSandbox, pb.CreatePodSandboxRequest(config=pb.PodSandboxConfig()))
    tap.check(code_of(e) == "INVALID_ARGUMENT" and "name" in e.details(), "a sandbox without a name", e)
    e = bh.error_of(s.runtime.CreatePodSandbox, pb.CreatePodSandboxRequest(config=pb.PodSandboxConfig(
        name="x", resources=pb.PodSandboxResources(cpu=pb.ResourceRequirements(limits=float("nan"))))))
    tap.check(code_of(e) == "INVALID_ARGUMENT" and "CPU" in e.details(), "a limit that is no number", e)
    e = bh.error_of(s.runtime.PodSandboxStatus, pb.PodSandboxStatusRequest(pod_sandbox_id="nosuch"))
    tap.check(code_of(e) == "NOT_FOUND" and "nosuch" in e.details(), "an unknown sandbox", e)
    e = bh.error_of(s.runtime.ContainerStatus, pb.ContainerStatusRequest(container_id="nosuch"))
    tap.check(code_of(e) == "NOT_FOUND", "an unknown container", e)
    e = bh.error_of(s.runtime.StartContainer, pb.StartContainerRequest())
    tap.check(code_of(e) == "INVALID_ARGUMENT", "no id at all", e)
    s.runtime.StopContainer(pb.StopContainerRequest(container_id="nosuch"))
    s.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id="nosuch"))
    s.images.RemoveImage(pb.RemoveImageRequest(image=pb.ImageSpec(image="no.such/image:1")))
    tap.check(True, "stopping and removing what isn't there is no error")


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        image = registry.host + "/test/busybox:1"
        d = bh.Daemon(folder).start()
        c = d.client()
        s = Seed(c)
        try:
            test_version(s)
            test_images(s, image)
            test_pod(d, c, s, image)
            test_host_namespaces(d, s, image)
            test_exec(d, s, image)
            test_errors(s)
            s.images.RemoveImage(s.pb.RemoveImageRequest(image=s.pb.ImageSpec(image=image)))
            tap.check(not s.images.ListImages(s.pb.ListImagesRequest()).images, "RemoveImage")
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
