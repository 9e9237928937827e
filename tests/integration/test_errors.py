"""What is wrong gets a sentence that names what, where and why, with the gRPC code that clients act on; nothing is left
behind by it, and the daemon goes on as before."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import fake_registry as fake

import grpc

bh.isolate()
tap = bh.Tap()

Code = grpc.StatusCode
NOWHERE = "0123456789abcdef" * 4


def refused(name, code, words, call, request):
    """The call fails with this code and a sentence that has all the words."""
    e = bh.error_of(call, request, timeout=30)
    said = "nothing, it succeeded" if e is None else "%s: %s" % (e.code().name, e.details())
    good = e is not None and e.code() == code and all(w in e.details() for w in words) and "\n" not in e.details()
    return tap.check(good, "%s: %s" % (name, said[:200]), "wanted %s with %s\n%s" % (code.name, words, said))


def stored(d):
    """All that pulls leave on disk."""
    found = []
    for part in ("content", "layers"):
        for folder, _, files in os.walk(os.path.join(d.state, part)):
            found += [os.path.relpath(os.path.join(folder, f), d.state) for f in files]
            if part == "layers":
                found.append(os.path.relpath(folder, d.state))
    # Made by the workers for themselves, at start or when first needed.
    own = ("content/index.json", "content/oci-layout", "layers/.mapped")
    return sorted(f for f in found if f not in own)


def leaves_nothing(name, d, truth, before):
    """Waits for what happens after the reply."""
    tap.check(bh.wait_for(lambda: truth(d) == before, 5), name + ": nothing is left",
              bh.differences(before, truth(d)) if isinstance(before, dict) else set(truth(d)) ^ set(before))


# --- names ---

def test_ids(c, pb):
    R = c.runtime
    container = bh.container_config(c, "a", "127.0.0.1:1/none:1", ["true"])
    # what a client asks about one that is gone, and what it wants gone
    asks = [("PodSandboxStatus", pb.PodSandboxStatusRequest, "pod_sandbox_id", {}),
            ("CreateContainer", pb.CreateContainerRequest, "pod_sandbox_id", {"config": container}),
            ("PortForward", pb.PortForwardRequest, "pod_sandbox_id", {"port": [80]}),
            ("StartContainer", pb.StartContainerRequest, "container_id", {}),
            ("ContainerStatus", pb.ContainerStatusRequest, "container_id", {}),
            ("ContainerStats", pb.ContainerStatsRequest, "container_id", {}),
            ("ExecSync", pb.ExecSyncRequest, "container_id", {"cmd": ["true"]}),
            ("Exec", pb.ExecRequest, "container_id", {"cmd": ["true"], "stdout": True}),
            ("Attach", pb.AttachRequest, "container_id", {"stdout": True}),
            ("ReopenContainerLog", pb.ReopenContainerLogRequest, "container_id", {})]
    ends = [("StopPodSandbox", pb.StopPodSandboxRequest, "pod_sandbox_id"),
            ("RemovePodSandbox", pb.RemovePodSandboxRequest, "pod_sandbox_id"),
            ("StopContainer", pb.StopContainerRequest, "container_id"),
            ("RemoveContainer", pb.RemoveContainerRequest, "container_id")]
    for method, request, field, more in asks:
        refused(method + " of nothing", Code.NOT_FOUND, [NOWHERE, "not found"], getattr(R, method),
                request(**{field: NOWHERE}, **more))
        refused(method + " without an id", Code.INVALID_ARGUMENT, ["names no"], getattr(R, method), request(**more))
        for odd in ("../../etc/passwd", "a" * 10000, "line\nfeed", "*"):
            e = bh.error_of(getattr(R, method), request(**{field: odd}, **more), timeout=10)
            if e is None or e.code() not in (Code.NOT_FOUND, Code.INVALID_ARGUMENT) or len(e.details()) > 2000:
                tap.check(False, "%s of an odd id" % method, "%r: %s" % (odd[:20], e))
    tap.check(True, "odd ids are ids of nothing")
    for method, request, field in ends:
        tap.check(bh.error_of(getattr(R, method), request(**{field: NOWHERE}), timeout=10) is None,
                  method + " of nothing succeeds")
        refused(method + " without an id", Code.INVALID_ARGUMENT, ["names no"], getattr(R, method), request())
    I = c.images
    spec = pb.ImageSpec(image="127.0.0.1:1/none:1")
    tap.check(bh.error_of(I.RemoveImage, pb.RemoveImageRequest(image=spec)) is None, "RemoveImage of nothing succeeds")
    for method, request in (("ImageStatus", pb.ImageStatusRequest), ("RemoveImage", pb.RemoveImageRequest)):
        refused(method + " of no name", Code.INVALID_ARGUMENT, ["names no image"], getattr(I, method), request())


# --- bytes ---

def raw(c, method):
    return c.channel.unary_unary(method, request_serializer=lambda b: b, response_deserializer=lambda b: b)


def test_bytes(c, pb):
    run = raw(c, "/runtime.v1.RuntimeService/RunPodSandbox")
    kind = "runtime.v1.RunPodSandboxRequest"
    refused("a cut message", Code.INVALID_ARGUMENT, ["RunPodSandbox", kind], run, b"\x0a\xff\xff\xff")
    refused("a string that isn't UTF-8", Code.INVALID_ARGUMENT, ["RunPodSandbox", kind], run, b"\x0a\x05\x0a\x03\x0a\x01\xff")
    refused("a NUL in a string", Code.INVALID_ARGUMENT, ["RunPodSandbox", kind], run, b"\x0a\x06\x0a\x04\x0a\x02a\0")
    refused("a message that is all parts", Code.INVALID_ARGUMENT, ["RunPodSandbox", kind], run, b"\x0a\x00" * 4000000)
    refused("17 MiB", Code.RESOURCE_EXHAUSTED, ["RunPodSandbox", "16777216"], run, b"\x0a\x00" * (17 << 19))
    large = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="large", uid="u"), annotations={"a": "x" * (15 << 20)})
    refused("15 MiB that are well-formed", Code.RESOURCE_EXHAUSTED, ["large", "1048576"], c.runtime.RunPodSandbox,
            pb.RunPodSandboxRequest(config=large))
    refused("an unknown call", Code.UNIMPLEMENTED, ["Nothing", "runtime.v1.RuntimeService"],
            raw(c, "/runtime.v1.RuntimeService/Nothing"), b"")
    refused("an unknown service", Code.UNIMPLEMENTED, ["some.Service"], raw(c, "/some.Service/Call"), b"")
    tap.check(c.runtime.Version(pb.VersionRequest()).runtime_name == "bulkhead", "the next call is answered")


# --- pods ---

def test_pods(d, c, pb):
    before = bh.kernel_truth(d)

    def wrong(name, code, words, handler="", **more):
        config = more.pop("config", None) or bh.sandbox_config(c, "wrong", log_directory=d.logs, **more)
        refused(name, code, words, c.runtime.RunPodSandbox, pb.RunPodSandboxRequest(config=config, runtime_handler=handler))

    bad = Code.INVALID_ARGUMENT
    wrong("no metadata", bad, ["metadata"], config=pb.PodSandboxConfig(hostname="x"))
    wrong("no name", bad, ["name"], config=pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(uid="u")))
    wrong("unknown runtime handler", bad, ["wrong", '"kata-nothing"'], handler="kata-nothing")
    wrong("a sysctl that isn't there", Code.FAILED_PRECONDITION, ["wrong", '"net.ipv4.nothing"'], sysctls={"net.ipv4.nothing": "1"})
    wrong("a sysctl of the whole machine", bad, ['"kernel.panic"', "namespace"], sysctls={"kernel.panic": "1"})
    wrong("a sysctl that leads elsewhere", bad, ["net.../../kernel.panic"], sysctls={"net.../../kernel.panic": "1"})
    wrong("a sysctl with a wrong value", bad, ['"net.ipv4.ip_forward"', '"yes"'], sysctls={"net.ipv4.ip_forward": "yes"})
    wrong("a sysctl of the host's network", bad, ['"net.ipv4.ip_forward"'], sysctls={"net.ipv4.ip_forward": "1"}, network="host")
    wrong("a cgroup parent that leads up", bad, ['"/../../x"', ".."], cgroup_parent="/../../x")
    wrong("a relative cgroup parent", bad, ['"a/b"', "absolute"], cgroup_parent="a/b")
    wrong("a cgroup parent with a line break", bad, ["control character"], cgroup_parent="/a\nb")
    wrong("a host port out of range", bad, ["99999"], port_mappings=[pb.PortMapping(container_port=80, host_port=99999)])
    wrong("an address that is none", bad, ['"1.2.3"'],
          port_mappings=[pb.PortMapping(container_port=80, host_port=8090, host_ip="1.2.3")])
    metadata = pb.PodSandboxMetadata(name="wrong", uid="u", namespace="n")
    wrong("a host name with a line break", bad, ["host name"], config=pb.PodSandboxConfig(metadata=metadata, hostname="a\nb"))
    wrong("a name server with a line break", bad, ["DNS"], config=pb.PodSandboxConfig(
        metadata=metadata, dns_config=pb.DNSConfig(servers=["10.0.0.1\noptions x"])))
    first = bh.Pod(d, c, "first", port_mappings=[pb.PortMapping(container_port=80, host_port=18090)])
    wrong("a host port that is taken", Code.ALREADY_EXISTS, ["wrong", "18090"],
          port_mappings=[pb.PortMapping(container_port=80, host_port=18090)])
    first.remove()
    tap.check(len(c.runtime.ListPodSandbox(pb.ListPodSandboxRequest()).items) == 0, "none of them is listed")
    leaves_nothing("pods that couldn't be", d, bh.kernel_truth, before)


# --- containers ---

def test_containers(d, c, pb, image, folder):
    before = bh.kernel_truth(d)
    pod = bh.Pod(d, c, "pod", network="host")
    L, S, P = pb.LinuxContainerConfig, pb.LinuxContainerSecurityContext, pb.SecurityProfile
    with open(os.path.join(folder, "bad.json"), "w") as f:
        f.write("{\"defaultAction\": ")

    def create(name, code, words, image=image, **more):
        config = bh.container_config(c, more.pop("called", "wrong"), image, more.pop("command", ["true"]), **more)
        refused(name, code, words, c.runtime.CreateContainer,
                pb.CreateContainerRequest(pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config))

    def start(name, code, words, command=("true",), **more):
        """Created, but it can't start: then it has ended, with the sentence as its message."""
        id = pod.create("wrong", image, command, **more)
        refused(name, code, ["wrong"] + words, c.runtime.StartContainer, pb.StartContainerRequest(container_id=id))
        s = pod.status(id).status
        if s.state != pb.CONTAINER_EXITED or s.reason != "StartError" or s.exit_code == 0 or words[0] not in s.message:
            tap.check(False, name + ": and its status says so", s)
        c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))

    def context(**more):
        return {"linux": L(security_context=S(**more))}

    def resources(**more):
        return {"linux": L(resources=pb.LinuxContainerResources(**more))}

    def profile(path):
        return context(seccomp=P(profile_type=P.Localhost, localhost_ref=path))

    bad, unready = Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION
    create("an image that isn't there", Code.NOT_FOUND, ["wrong", "127.0.0.1:1/none:1", "pull"], image="127.0.0.1:1/none:1")
    create("no name", bad, ["name"], called="")
    create("a log path that leads elsewhere", bad, ["../../x.log"], log_path="../../x.log")
    create("a relative mount source", bad, ['"here"', "absolute"], mounts=[pb.Mount(container_path="/x", host_path="here")])
    create("a mount on nothing", bad, ["absolute"], mounts=[pb.Mount(container_path="", host_path="/tmp")])
    create("a relative working folder", bad, ['"here"', "absolute"], working_dir="here")
    create("a capability that is none", bad, ['"FLY"'], **context(capabilities=pb.Capability(add_capabilities=["FLY"])))
    create("a group without a user", bad, ["5", "user"], **context(run_as_group=pb.Int64Value(value=5)))
    create("a user below zero", bad, ["-5"], **context(run_as_user=pb.Int64Value(value=-5)))
    create("an oom score out of range", bad, ["5000"], **resources(oom_score_adj=5000))
    create("permissions of a device", bad, ["/dev/null", '"q"'],
           devices=[pb.Device(host_path="/dev/null", container_path="/dev/x", permissions="q")])
    create("a variable that is none", bad, ['"a=b"'], envs=[pb.KeyValue(key="a=b", value=b"x")])

    start("no such program", bad, ['"/no/such/program"', "No such file"], ["/no/such/program"])
    start("a program that isn't one", bad, ['"/etc/passwd"', "Permission denied"], ["/etc/passwd"])
    start("a user that isn't in the image", bad, ['"nobody-here"', "/etc/passwd"], **context(run_as_username="nobody-here"))
    start("a working folder that is a file", bad, ['"/etc/passwd"', "Not a directory"], working_dir="/etc/passwd")
    start("a seccomp profile that isn't there", unready, ["/no/such.json"], **profile("/no/such.json"))
    start("a seccomp profile that is none", bad, ["bad.json", "JSON"], **profile(os.path.join(folder, "bad.json")))
    start("a device that isn't there", unready, ["/dev/nothing"],
          devices=[pb.Device(host_path="/dev/nothing", container_path="/dev/x", permissions="rw")])
    if not os.path.exists("/sys/kernel/security/apparmor"):
        start("an AppArmor profile", Code.UNIMPLEMENTED, ["AppArmor", '"nothing"'],
              **context(apparmor=P(profile_type=P.Localhost, localhost_ref="nothing")))
    start("a folder over a file", bad, ["/etc/passwd"], mounts=[pb.Mount(container_path="/etc/passwd", host_path=folder)])
    start("a mount over /proc", bad, ["/proc/self"], mounts=[pb.Mount(container_path="/proc/self", host_path=folder)])
    start("a mount source below a file", bad, [folder + "/bad.json/x", "Not a directory"],
          mounts=[pb.Mount(container_path="/x", host_path=folder + "/bad.json/x")])
    start("processors that aren't there", Code.OUT_OF_RANGE, ["cpuset.cpus", '"900"'], **resources(cpuset_cpus="900"))

    # what other runtimes make, too
    missing = os.path.join(folder, "made/for/it")
    id = pod.run("made", image, ["sh", "-c", "pwd >/x/where; sleep 600"], working_dir="/not/there",
                 mounts=[pb.Mount(container_path="/x", host_path=missing)])
    tap.check(bh.wait_for(lambda: os.path.exists(missing + "/where"), 5) and open(missing + "/where").read() == "/not/there\n",
              "a missing mount source and a missing working folder are made")

    def execute(name, code, words, id, cmd, **more):
        refused(name, code, words, c.runtime.ExecSync, pb.ExecSyncRequest(container_id=id, cmd=cmd, **more))

    execute("exec of no program", bad, ['"/no/such"', "No such file"], id, ["/no/such"])
    execute("exec of no command", bad, ["empty"], id, [])
    execute("exec that takes too long", Code.DEADLINE_EXCEEDED, ["1.000 s", "killed"], id, ["sleep", "601"], timeout=1)
    tap.check(b"sleep 601" not in pod.exec(id, "ps").stdout, "and is gone then")
    other = pod.create("idle", image, ["true"])
    execute("exec before the start", unready, [other, "isn't running"], other, ["true"])
    c.runtime.StartContainer(pb.StartContainerRequest(container_id=other))
    pod.wait(other)
    execute("exec after the end", unready, [other, "isn't running"], other, ["true"])
    refused("a second start", unready, [other[:12], "ended"], c.runtime.StartContainer, pb.StartContainerRequest(container_id=other))
    for i in (id, other):
        c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=i))
    c.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=pod.id))
    create("a container in a pod that is stopped", unready, [pod.id, "isn't ready"])
    pod.remove()
    leaves_nothing("containers that couldn't be", d, bh.kernel_truth, before)


# --- pulls ---

def test_pulls(d, c, pb, folder):
    before = stored(d)
    reg = fake.FakeRegistry()
    layer = bh.subprocess.run(["tar", "-C", folder, "-cf", "-", "bad.json"], stdout=subprocess.PIPE, check=True).stdout
    reg.plain_image("test/x", "1", layer)

    def pull(name, code, words, ref, **more):
        refused(name, code, ["pull image"] + words, c.images.PullImage, pb.PullImageRequest(image=pb.ImageSpec(image=ref), **more))
        reg.reset()

    def corrupt(kind, change):
        def fault(h, path):
            if "/%s/" % kind not in path:
                return False
            ref = path.rsplit("/", 1)[1]
            found = reg.blobs.get(ref) if kind == "blobs" else reg.manifests.get(("test/x", ref), (0, None))[1]
            if found is None:
                return False
            media = "application/octet-stream" if kind == "blobs" else fake.OCI + "manifest.v1+json"
            h.answer(200, change(found), [("Content-Type", media)])
            return True
        reg.faults.append(fault)

    def status(code, *headers):
        reg.faults.append(lambda h, p: h.error(code, "SOME", "reasons of its own", list(headers)) or True)

    ref = reg.host + "/test/x:1"
    (_, manifest) = reg.manifests[("test/x", "1")]
    by_digest = "%s/test/x@%s" % (reg.host, fake.digest(manifest))
    pull("a name that is none", Code.INVALID_ARGUMENT, ["Upper/Case"], "Upper/Case")
    pull("a registry that is away", Code.UNAVAILABLE, ["127.0.0.1:1", "onnect"], "127.0.0.1:1/test/x:1")
    pull("a tag that isn't there", Code.NOT_FOUND, [reg.host, "test/x:nothing"], reg.host + "/test/x:nothing")
    status(401, ("WWW-Authenticate", 'Basic realm="x"'))
    pull("a registry that wants a password", Code.UNAUTHENTICATED, [reg.host], ref)
    status(401, ("WWW-Authenticate", 'Basic realm="x"'))
    pull("a wrong password", Code.UNAUTHENTICATED, [reg.host], ref,
         auth=pb.AuthConfig(username="me", password="very-secret"))
    status(403)
    pull("a registry that forbids", Code.PERMISSION_DENIED, [reg.host], ref)
    status(500)
    pull("a registry that is ill", Code.UNAVAILABLE, [reg.host, "500"], ref)
    corrupt("manifests", lambda b: b + b" ")
    pull("a manifest of another digest", Code.DATA_LOSS, [reg.host, "digest"], by_digest)
    corrupt("manifests", lambda b: b"<html>welcome</html>")
    pull("a page in place of a manifest", Code.DATA_LOSS, ["the manifest", "JSON"], ref)
    corrupt("manifests", lambda b: json.dumps({"schemaVersion": 2, "config": {}, "layers": "x" * (5 << 20)}).encode())
    pull("a manifest of 5 MiB", Code.RESOURCE_EXHAUSTED, [reg.host, "too large", "4194304"], ref)
    corrupt("blobs", lambda b: b[:-1] + bytes([b[-1] ^ 1]))
    pull("a blob of another digest", Code.DATA_LOSS, ["sha256:", "digest"], ref)
    corrupt("blobs", lambda b: b + b"more")
    pull("a blob that is too long", Code.DATA_LOSS, ["sha256:"], ref)
    reg.image("test/x", "2", [(layer, fake.OCI + "layer.v1.tar", fake.digest(b"something else"))])
    pull("a layer of another diff id", Code.DATA_LOSS, ["sha256:", "its content is"], reg.host + "/test/x:2")
    reg.plain_image("test/x", "3", b"no tar at all" * 100)
    pull("a layer that is no archive", Code.INVALID_ARGUMENT, ["sha256:", "no tar archive"], reg.host + "/test/x:3")
    reg.plain_image("test/x", "4", layer, arch="s390x")
    pull("an image for other machines", Code.NOT_FOUND, ["s390x"], reg.host + "/test/x:4")
    tap.check("very-secret" not in open(d.log_path).read(), "no password is in the log")
    tap.check(len(c.images.ListImages(pb.ListImagesRequest()).images) == 1, "no image came of it")
    leaves_nothing("pulls that failed", d, stored, before)
    reg.faults = []
    c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=ref)))
    c.images.RemoveImage(pb.RemoveImageRequest(image=pb.ImageSpec(image=ref)))
    leaves_nothing("the same image, told the truth", d, stored, before)
    reg.stop()


# --- no network configuration ---

def test_no_network(folder):
    d = bh.Daemon(os.path.join(folder, "bare"), cni=False).start()
    c, pb = None, None
    try:
        c = d.client()
        pb = c.pb
        conditions = {k.type: k for k in c.runtime.Status(pb.StatusRequest()).status.conditions}
        network = conditions["NetworkReady"]
        tap.check(conditions["RuntimeReady"].status and not network.status and d.cni in network.message,
                  "without a network configuration: NetworkReady is false, and says where it looked", network)
        refused("a pod with a network", Code.FAILED_PRECONDITION, ["netless", d.cni], c.runtime.RunPodSandbox,
                pb.RunPodSandboxRequest(config=bh.sandbox_config(c, "netless")))
        pod = bh.Pod(d, c, "hosted", network="host")
        tap.check(pod.id, "a pod of the host's network runs")
        pod.remove()
        with open(os.path.join(d.cni, "10-bad.conflist"), "w") as f:
            f.write("{\"name\": \"x\", ")
        refused("a pod with a broken configuration", Code.FAILED_PRECONDITION, ["netless", "10-bad.conflist"],
                c.runtime.RunPodSandbox, pb.RunPodSandboxRequest(config=bh.sandbox_config(c, "netless")))
        with open(os.path.join(d.cni, "10-bad.conflist"), "w") as f:
            json.dump({"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "not-installed"}]}, f)
        refused("a pod whose plugin isn't installed", Code.FAILED_PRECONDITION, ["netless", "not-installed"],
                c.runtime.RunPodSandbox, pb.RunPodSandboxRequest(config=bh.sandbox_config(c, "netless")))
        os.unlink(os.path.join(d.cni, "10-bad.conflist"))
        d.write_cni()
        pod = bh.Pod(d, c, "netted")
        tap.check(pod.id, "a configuration that arrives later is used")
        pod.remove()
        tap.check(d.stop() == 0, "this daemon ends", d.log_tail())
    finally:
        d.kill()
        d.remove_cgroups()


# --- full disk ---

def fill(path):
    """Takes all the space of a file system."""
    with open(path, "wb", buffering=0) as f:
        size = 1 << 20
        while size >= 1:
            try:
                if f.write(b"x" * size) < size:
                    raise OSError
            except OSError:
                size //= 2


def test_full_disk(folder, registry, image):
    top = os.path.join(folder, "full")
    state = os.path.join(top, "state")
    os.makedirs(state)
    os.chmod(top, 0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=711", "tmpfs", state], check=True)

    def large(root):
        bh.busybox_root(root)
        with open(os.path.join(root, "large"), "wb") as f:
            f.write(os.urandom(20 << 20))

    bh.push(bh.make_image(folder, "large", large), registry, "test/large:1")
    d = bh.Daemon(top).start()
    try:
        c = d.client()
        pb = c.pb
        before = stored(d)

        def pull(ref):
            return pb.PullImageRequest(image=pb.ImageSpec(image=ref))

        refused("a pull that fills the disk", Code.RESOURCE_EXHAUSTED, ["pull image", "test/large:1", "is full"],
                c.images.PullImage, pull(registry.host + "/test/large:1"))
        leaves_nothing("a pull that fills the disk", d, stored, before)
        c.images.PullImage(pull(image))
        truth = bh.kernel_truth(d)
        pod = bh.Pod(d, c, "early", network="host")
        id = pod.run("early", image, ["sh", "-c", "echo before; sleep 600"])
        waiting = pod.create("waiting", image, ["sleep", "600"])

        fill(state + "/filler")
        tap.check(pod.exec(id, "echo", "still").stdout == b"still\n", "on a full disk: what runs can be used")
        e = bh.error_of(pod.create, "late", image, ["true"])
        tap.check(e is None or e.code() == Code.RESOURCE_EXHAUSTED and "late" in e.details() and "No space left" in e.details(),
                  "a container is made, or refused: %s" % (e.details() if e else "it is made"))
        e = bh.error_of(c.runtime.StartContainer, pb.StartContainerRequest(container_id=waiting), timeout=20)
        tap.check(e is None or e.code() == Code.RESOURCE_EXHAUSTED, "one that exists starts, or says why not: %s" %
                  (e.details() if e else "it starts"))
        refused("a pull on a full disk", Code.RESOURCE_EXHAUSTED, ["test/large:1", "is full"], c.images.PullImage,
                pull(registry.host + "/test/large:1"))
        e = bh.error_of(c.runtime.StopContainer, pb.StopContainerRequest(container_id=id, timeout=0), timeout=20)
        tap.check(e is None and pod.status(id).status.state == pb.CONTAINER_EXITED, "what runs can be stopped", e)
        e = bh.error_of(pod.remove)
        tap.check(e is None, "and removed", e)
        os.unlink(state + "/filler")
        if e is not None:
            pod.remove()

        pod = bh.Pod(d, c, "after", network="host")
        id = pod.run("after", image, ["true"])
        tap.check(pod.wait(id) and pod.status(id).status.exit_code == 0, "with space again, pods run again")
        pod.remove()
        leaves_nothing("pods on a full disk", d, bh.kernel_truth, truth)
        tap.check(d.stop() == 0, "this daemon ends", d.log_tail())
        d.start()
        c2 = d.client()
        tap.check(len(c2.runtime.ListPodSandbox(pb.ListPodSandboxRequest()).items) == 0 and
                  len(c2.images.ListImages(pb.ListImagesRequest()).images) == 1, "a restart finds the same")
    finally:
        if tap.failed:
            print("".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
        d.kill()
        d.remove_cgroups()
        subprocess.run(["umount", "-l", state])


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        image = registry.host + "/test/busybox:1"
        d = bh.Daemon(folder).start()
        try:
            c = d.client()
            pb = c.pb
            begun = {k: v for k, v in d.processes().items() if k != "pod-keeper"}
            c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
            test_ids(c, pb)
            test_bytes(c, pb)
            test_pods(d, c, pb)
            test_containers(d, c, pb, image, folder)
            test_pulls(d, c, pb, folder)
            running = {k: v for k, v in d.processes().items() if k != "pod-keeper"}
            tap.check(running == begun and "restart" not in d.log_tail(100000),
                      "no process of the daemon died of it", (begun, running))
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
            test_no_network(folder)
            test_full_disk(folder, registry, image)
        finally:
            if tap.failed:
                print("".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill()
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
