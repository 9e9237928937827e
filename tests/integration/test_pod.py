"""The main job with a client that isn't ours: pull from a real registry, run pods, look at them from the kernel's side,
stop them, and find nothing left."""

import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
tap = bh.Tap()


def proc(pid, name):
    with open("/proc/%d/%s" % (pid, name)) as f:
        return f.read()


def status_field(pid, field):
    return [line.split(":")[1].strip() for line in proc(pid, "status").splitlines() if line.startswith(field + ":")][0]


def pid_of(pod, id):
    """The container's process, by the command that only it has."""
    marker = "marker-" + id[:12]
    for pid in bh.pids():
        try:
            if marker in proc(pid, "cmdline") and "bulkhead" not in proc(pid, "comm"):
                return pid
        except OSError:
            pass
    return None


def marked(pod, name, image, script, **more):
    """A container whose command line names it, so that the test finds it in the host's /proc."""
    tag = "marker-%s-%s" % (pod.config.metadata.name, name)
    id = pod.run(name, image, ["sh", "-c", script, tag], **more)
    found = bh.wait_for(lambda: [p for p in bh.pids() if tag in read_quiet(p, "cmdline") and
                                 "bulkhead" not in read_quiet(p, "comm")], 5)
    return id, found[0] if found else None


def read_quiet(pid, name):
    try:
        return proc(pid, name)
    except OSError:
        return ""


def own_pids(pb):
    """The container's first process is init of a namespace: no signal but SIGKILL ends a shell there."""
    options = pb.NamespaceOption(pid=pb.CONTAINER)
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(namespace_options=options))


def verbose(reply):
    return json.loads(reply.info["info"])


def test_verbose(d, c, pb, image):
    """What tools read out of verbose statuses."""
    spec = verbose(c.images.ImageStatus(pb.ImageStatusRequest(image=pb.ImageSpec(image=image), verbose=True)))["imageSpec"]
    tap.check(spec["config"]["Cmd"] == ["/bin/sh"] and spec["config"]["ExposedPorts"] == {"80/tcp": {}} and spec["os"] == "linux"
              and spec["created"].endswith("Z") and spec["rootfs"]["diff_ids"][0].startswith("sha256:") and
              "Entrypoint" not in spec["config"], "an image's specification", spec)
    pod = bh.Pod(d, c, "verbose", labels={"app": "v"})
    more = {"linux": pb.LinuxContainerConfig(
        resources=pb.LinuxContainerResources(memory_limit_in_bytes=1 << 26, cpu_shares=512),
        security_context=pb.LinuxContainerSecurityContext(run_as_user=pb.Int64Value(value=33), readonly_rootfs=True)),
        "envs": [pb.KeyValue(key="NAME", value="v\xe4".encode())]}
    e = bh.error_of(pod.create, "bytes", image, ["true"], envs=[pb.KeyValue(key="NAME", value=b"v\xff")])
    tap.check(e is not None and e.code().name == "INVALID_ARGUMENT" and 'variable "NAME"' in e.details(),
              "a variable that is no text is refused", e)
    id = pod.run("main", image, ["sleep", "600"], **more)
    info = verbose(pod.status(id, verbose=True))
    config, spec = info["config"], info["runtimeSpec"]
    tap.check(config["metadata"] == {"name": "main"} and config["command"] == ["sleep", "600"] and
              config["linux"]["resources"]["cpu_shares"] == 512, "a container's configuration", config)
    tap.check(spec["ociVersion"] and spec["process"]["args"] == ["sleep", "600"] and spec["process"]["user"]["uid"] == 33 and
              "NAME=v\xe4" in spec["process"]["env"] and spec["root"]["readonly"] and
              spec["linux"]["resources"]["memory"]["limit"] == 1 << 26 and
              spec["linux"]["cgroupsPath"] == info["cgroupPath"] != "" and
              "/proc" in [m["destination"] for m in spec["mounts"]], "and its specification", spec)
    main_pid = info["pid"]
    tap.check(os.path.exists("/proc/%d/root/bin/busybox" % main_pid), "and its process", main_pid)
    reply = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True))
    info = verbose(reply)
    paths = {n["type"]: n["path"] for n in info["runtimeSpec"]["linux"]["namespaces"]}
    tap.check(info["config"]["labels"] == {"app": "v"} and info["config"]["metadata"]["name"] == "verbose", "a pod's configuration")
    tap.check(all(os.readlink(paths[n]) == os.readlink("/proc/%d/ns/%s" % (main_pid, kind))
                  for n, kind in (("network", "net"), ("ipc", "ipc"))), "and where its namespaces are", paths)
    tap.check([s.id for s in reply.containers_statuses] == [id] and reply.timestamp > 0,
              "a pod's status has its containers' and the time", reply.containers_statuses)
    pod.remove()


def test_images(c, pb, image):
    r = c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
    tap.check(r.image_ref.startswith("sha256:"), "PullImage gives the image's id", r)
    again = c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
    tap.check(again.image_ref == r.image_ref, "pulling again gives the same")
    listed = c.images.ListImages(pb.ListImagesRequest()).images
    tap.check(len(listed) == 1 and listed[0].id == r.image_ref and image in listed[0].repo_tags and
              listed[0].repo_digests and listed[0].size > 0, "ListImages shows it", listed)
    status = c.images.ImageStatus(pb.ImageStatusRequest(image=pb.ImageSpec(image=image))).image
    tap.check(status.id == r.image_ref, "ImageStatus by name")
    status = c.images.ImageStatus(pb.ImageStatusRequest(image=pb.ImageSpec(image=listed[0].repo_digests[0]))).image
    tap.check(status.id == r.image_ref, "ImageStatus by digest")
    missing = c.images.ImageStatus(pb.ImageStatusRequest(image=pb.ImageSpec(image="127.0.0.1:1/nothing:x")))
    tap.check(not missing.HasField("image"), "ImageStatus of a missing image is empty, no error")
    fs = c.images.ImageFsInfo(pb.ImageFsInfoRequest()).image_filesystems
    tap.check(len(fs) >= 1 and fs[0].used_bytes.value > 0 and fs[0].inodes_used.value > 0 and
              os.path.isdir(fs[0].fs_id.mountpoint), "ImageFsInfo", fs)


def test_version_and_status(c, pb):
    v = c.runtime.Version(pb.VersionRequest())
    tap.check(v.version == "0.1.0" and v.runtime_name == "bulkhead" and v.runtime_api_version == "v1" and
              v.runtime_version.count(".") >= 2, "Version as kubelet wants it", v)
    s = c.runtime.Status(pb.StatusRequest(verbose=True))
    conditions = {k.type: k for k in s.status.conditions}
    tap.check(conditions["RuntimeReady"].status and conditions["NetworkReady"].status, "Status: both ready", s.status)
    tap.check(len(s.info) > 0, "verbose Status has details")
    config = c.runtime.RuntimeConfig(pb.RuntimeConfigRequest())
    tap.check(config.linux.cgroup_driver == pb.CGROUPFS, "RuntimeConfig: cgroupfs")


def test_pod(d, c, pb, image):
    before = bh.kernel_truth(d)
    pod = bh.Pod(d, c, "web", port_mappings=[pb.PortMapping(container_port=80, host_port=18080)],
                 labels={"app": "web"}, annotations={"note": "a b\tc"}, sysctls={"net.ipv4.ip_unprivileged_port_start": "0"})
    again = c.runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=pod.config)).pod_sandbox_id
    tap.check(again == pod.id, "RunPodSandbox again gives back the first one")
    other = bh.sandbox_config(c, "web", log_directory=d.logs, labels={"app": "other"})
    e = bh.error_of(c.runtime.RunPodSandbox, pb.RunPodSandboxRequest(config=other))
    tap.check(e and e.code().name == "ALREADY_EXISTS" and pod.id in e.details(), "with another configuration it is refused", e)
    s = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True))
    tap.check(s.status.state == pb.SANDBOX_READY and s.status.network.ip.startswith("10.231.") and s.status.created_at > 0 and
              dict(s.status.labels) == {"app": "web"} and dict(s.status.annotations) == {"note": "a b\tc"} and
              s.status.metadata.name == "web", "PodSandboxStatus", s.status)

    script = "echo out; echo err >&2; printf 'no newline'; mkdir -p /tmp/w; echo page > /tmp/w/x; httpd -p 80 -h /tmp/w; " \
             "while :; do sleep 1; done"
    id, pid = marked(pod, "main", image, script, linux=own_pids(pb))
    tap.check(pid is not None, "the container runs on the host's view")
    config = bh.container_config(c, "main", image, ["sh", "-c", script, "marker-web-main"], linux=own_pids(pb))
    same = c.runtime.CreateContainer(pb.CreateContainerRequest(
        pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config)).container_id
    tap.check(same == id, "CreateContainer again gives back the first one")
    e = bh.error_of(c.runtime.CreateContainer, pb.CreateContainerRequest(
        pod_sandbox_id=pod.id, config=bh.container_config(c, "main", image, ["x"]), sandbox_config=pod.config))
    tap.check(e and e.code().name == "ALREADY_EXISTS" and id in e.details(), "with another configuration it is refused", e)
    st = pod.status(id).status
    tap.check(st.state == pb.CONTAINER_RUNNING and st.image.image == image and st.image_ref and st.started_at >= st.created_at > 0
              and st.log_path == os.path.join(d.logs, "main.log"), "ContainerStatus", st)

    # the kernel's view
    for ns in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
        tap.check(os.readlink("/proc/%d/ns/%s" % (pid, ns)) != os.readlink("/proc/self/ns/" + ns), "a %s namespace of its own" % ns)
    tap.check(status_field(pid, "CapEff") == "00000000a80425fb", "the default capabilities", status_field(pid, "CapEff"))
    tap.check(int(status_field(pid, "SigIgn"), 16) & 0x1000 == 0, "SIGPIPE isn't ignored", status_field(pid, "SigIgn"))
    tap.check(status_field(pid, "CapInh") == "0000000000000000", "nothing inheritable")
    tap.check(status_field(pid, "Seccomp") == "0", "no seccomp profile unless asked for")
    tap.check(d.cgroup in proc(pid, "cgroup"), "it is in a cgroup below the daemon's", proc(pid, "cgroup"))
    mounts = proc(pid, "mountinfo")
    tap.check(" / / " in mounts and "overlay" in mounts.splitlines()[0], "its root is an overlay", mounts.splitlines()[0])
    tap.check(not any("overlay" in line for line in open("/proc/self/mountinfo")), "which the host's mount table doesn't show")
    fds = os.listdir("/proc/%d/fd" % pid)
    tap.check(set(fds) <= {"0", "1", "2", "10", "255"}, "no descriptor leaks into it", fds)

    e = pod.exec(id, "sh", "-c", "hostname; id -u; cat /etc/hostname; touch /proc/sys/kernel/x; ls /proc/acpi /proc/scsi; exit 3")
    lines = e.stdout.decode().split("\n")
    tap.check(e.exit_code == 3 and lines[0] == "web" and lines[1] == "0" and lines[2] == "web", "ExecSync", e)
    tap.check(pod.exec(id, "sh", "-c", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").stdout == b"0\n", "the pod's sysctl")
    tap.check(b"/dev/shm" in pod.exec(id, "mount").stdout, "there is /dev/shm")
    tap.check(pod.exec(id, "sh", "-c", "echo x > /proc/sysrq-trigger").exit_code != 0, "read-only paths are")
    masked = [p for p in ("/proc/kcore", "/proc/keys", "/proc/timer_list") if os.path.exists(p)]
    tap.check(masked and all(pod.exec(id, "sh", "-c", "cat %s | wc -c" % p).stdout.strip() == b"0" for p in masked),
              "masked paths are empty", [(p, pod.exec(id, "cat", p).stdout[:100]) for p in masked])

    bh.wait_for(lambda: len(pod.log("main")) >= 2, 5)
    log = pod.log("main")
    tap.check(("stdout", "F", "out") in log and ("stderr", "F", "err") in log, "the log has both streams", log)

    # the network
    ip = s.status.network.ip
    out = bh.subprocess.run(["timeout", "3", "busybox", "wget", "-q", "-O", "-", "http://%s/x" % ip], stdout=bh.subprocess.PIPE).stdout
    tap.check(out == b"page\n", "the pod's web server answers at its address",
              out)
    host = "10.231.0.1"
    out = bh.subprocess.run(["timeout", "3", "busybox", "wget", "-q", "-O", "-", "http://%s:18080/x" % host],
                            stdout=bh.subprocess.PIPE).stdout
    tap.check(out == b"page\n", "and at the host port")
    tap.check(pod.exec(id, "ping", "-c", "1", "-W", "2", host).exit_code == 0, "it reaches the gateway")

    # lists and filters
    f = pb.ContainerFilter(id=id[:12])
    tap.check([k.id for k in c.runtime.ListContainers(pb.ListContainersRequest(filter=f)).containers] == [id], "filter by the begin of the id")
    f = pb.ContainerFilter(pod_sandbox_id=pod.id, state=pb.ContainerStateValue(state=pb.CONTAINER_EXITED))
    tap.check(len(c.runtime.ListContainers(pb.ListContainersRequest(filter=f)).containers) == 0, "filter by state")
    f = pb.PodSandboxFilter(label_selector={"app": "web"})
    tap.check(len(c.runtime.ListPodSandbox(pb.ListPodSandboxRequest(filter=f)).items) == 1, "filter by label")
    f = pb.PodSandboxFilter(label_selector={"app": "other"})
    tap.check(len(c.runtime.ListPodSandbox(pb.ListPodSandboxRequest(filter=f)).items) == 0, "filter by another label")
    stats = c.runtime.ContainerStats(pb.ContainerStatsRequest(container_id=id)).stats
    tap.check(stats.cpu.usage_core_nano_seconds.value > 0 and stats.memory.working_set_bytes.value > 0 and
              stats.writable_layer.used_bytes.value > 0, "ContainerStats", stats)

    # its end
    begin = time.monotonic()
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=1))
    took = time.monotonic() - begin
    st = pod.status(id).status
    tap.check(st.state == pb.CONTAINER_EXITED and st.exit_code == 137 and 0.9 < took < 5, "StopContainer: grace, then SIGKILL", (st, took))
    bh.wait_for(lambda: ("stdout", "F", "no newline") in pod.log("main"), 2)
    tap.check(("stdout", "F", "no newline") in pod.log("main"), "an unfinished line is in the log at the end", pod.log("main"))
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=1))
    tap.check(not os.path.exists("/proc/%d" % pid), "the process is gone")
    c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    tap.check(True, "stopping and removing twice is no error")
    e = bh.error_of(pod.status, id)
    tap.check(e is not None and e.code().name == "NOT_FOUND" and id[:12] in e.details(), "then it is NOT_FOUND", e)
    pod.remove()
    pod.remove()
    after = bh.wait_for(lambda: bh.kernel_truth(d) if bh.kernel_truth(d) == before else None, 5) or bh.kernel_truth(d)
    tap.check(after == before, "nothing of the pod is left", bh.differences(before, after))


def test_ahead(d, c, image):
    """A keeper with namespaces of its own is made ahead, and is the next pod's."""
    def fresh(old=None):
        return bh.wait_for(lambda: d.ahead() not in (None, old) and d.ahead(), 5)

    def spaces(pid):
        return [bh.namespace(pid, kind) for kind in ("net", "ipc", "uts")]

    pods = [bh.Pod(d, c, "ahead-1")]
    ahead = fresh()
    space = ahead and spaces(ahead)
    others = [bh.namespace(p, kind) for p in bh.pids() if p != ahead for kind in ("net", "ipc", "uts")]
    tap.check(ahead and not set(space) & set(others),
              "after a pod's start a keeper waits for the next in network, IPC and UTS namespaces of its own")
    pods.append(bh.Pod(d, c, "ahead-2"))
    tap.check(ahead in d.processes()["pod-keeper"] and spaces(ahead) == space, "which is the next pod's",
              d.processes())
    id = pods[1].run("main", image, ["sleep", "1000"])
    tap.check(b"eth0" in pods[1].exec(id, "ls", "/sys/class/net").stdout and
              pods[1].exec(id, "hostname").stdout == b"ahead-2\n", "with a network and a name, like any other's")
    ahead = fresh(ahead)
    pods.append(bh.Pod(d, c, "ahead-host", network="host"))
    tap.check(ahead and d.ahead() == ahead, "a pod with the host's network leaves it alone")
    os.kill(ahead, signal.SIGKILL)
    pods.append(bh.Pod(d, c, "ahead-3"))
    tap.check(fresh(ahead), "one that was killed is missed by nobody")
    d.process.send_signal(signal.SIGHUP)
    tap.check(bh.wait_for(lambda: d.ahead() is None, 5), "and a reload ends it: it has the old configuration")
    for pod in pods:
        pod.remove()


def test_endings(d, c, pb, image):
    pod = bh.Pod(d, c, "endings", network="host")
    id = pod.run("seven", image, ["sh", "-c", "exit 7"])
    s = pod.wait(id)
    tap.check(s and s.exit_code == 7 and s.reason == "Error" and s.finished_at >= s.started_at, "an exit code", s)
    id = pod.run("zero", image, ["true"])
    s = pod.wait(id)
    tap.check(s and s.exit_code == 0 and s.reason == "Completed", "success is Completed", s)
    id = pod.run("killed", image, ["sh", "-c", "kill -9 $$"])
    s = pod.wait(id)
    tap.check(s and s.exit_code == 137 and s.reason == "Error", "a signal is 128 and its number", s)
    linux = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(memory_limit_in_bytes=24 << 20))
    id = pod.run("oom", image, ["sh", "-c", "x=a; while :; do x=$x$x; done"], linux=linux)
    s = pod.wait(id, 30)
    tap.check(s and s.reason == "OOMKilled" and s.exit_code == 137, "out of memory is said", s)

    id = pod.create("nothing", image, ["/no/such/program"])
    e = bh.error_of(c.runtime.StartContainer, pb.StartContainerRequest(container_id=id))
    tap.check(e is not None and "/no/such/program" in e.details() and "No such file" in e.details(), "a missing program is named", e)
    s = pod.status(id).status
    tap.check(s.state == pb.CONTAINER_EXITED and s.exit_code != 0 and s.message, "and the container has exited with it", s)

    id = pod.run("slow", image, ["sleep", "600"])
    begin = time.monotonic()
    e = bh.error_of(pod.exec, id, "sh", "-c", "(setsid sleep 611 &) ; sleep 612", timeout=1)
    tap.check(e is not None and e.code().name == "DEADLINE_EXCEEDED" and time.monotonic() - begin < 5, "ExecSync ends at its time-out", e)
    left = bh.wait_for(lambda: not [p for p in bh.pids() if "61" in read_quiet(p, "cmdline") and "sleep" in read_quiet(p, "comm") and
                                    ("611" in read_quiet(p, "cmdline") or "612" in read_quiet(p, "cmdline"))], 3)
    tap.check(left, "and what it started is gone")
    e = pod.exec(id, "sh", "-c", "yes | head -c 3000000")
    tap.check(len(e.stdout) == 3000000, "large output comes whole", len(e.stdout))
    pod.remove()


def test_security(d, c, pb, image):
    pod = bh.Pod(d, c, "secure", network="host")
    sc = pb.LinuxContainerSecurityContext(
        run_as_username="www", supplemental_groups=[1234], readonly_rootfs=True, no_new_privs=True,
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
        capabilities=pb.Capability(add_capabilities=["NET_ADMIN"], drop_capabilities=["CHOWN"]))
    resources = pb.LinuxContainerResources(cpu_shares=512, cpu_quota=50000, cpu_period=100000, oom_score_adj=500)
    id, pid = marked(pod, "www", image, "while :; do sleep 1; done",
                     linux=pb.LinuxContainerConfig(security_context=sc, resources=resources))
    if not tap.check(pid is not None, "a container with a security context runs", d.log_tail()):
        pod.remove()
        return
    tap.check(status_field(pid, "Uid").split()[0] == "33" and status_field(pid, "Gid").split()[0] == "34", "user by name")
    tap.check(set(status_field(pid, "Groups").split()) >= {"77", "1234"}, "groups of the image and of the request", status_field(pid, "Groups"))
    tap.check(status_field(pid, "Seccomp") == "2" and status_field(pid, "NoNewPrivs") == "1", "seccomp and no_new_privs")
    bounding = int(status_field(pid, "CapBnd"), 16)
    tap.check(bounding >> 12 & 1 and not bounding & 1, "capabilities added and dropped", hex(bounding))
    tap.check(proc(pid, "oom_score_adj").strip() == "500", "oom_score_adj")
    tap.check(pod.exec(id, "touch", "/x").exit_code != 0, "the root is read-only")
    tap.check(pod.exec(id, "id", "-u").stdout == b"33\n", "exec has the container's user")
    tap.check(pod.exec(id, "unshare", "-m", "true").exit_code != 0, "the profile denies unshare")
    st = pod.status(id).status
    tap.check(st.user.linux.uid == 33 and st.user.linux.gid == 34, "ContainerStatus has the resolved user", st.user)
    cg = [line.split(":")[2] for line in proc(pid, "cgroup").splitlines() if line.split(":")[1] in ("cpu", "cpu,cpuacct")]
    for root in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
        path = root + (cg[0] if cg else "") + "/cpu.shares"
        if cg and os.path.exists(path):
            tap.check(open(path).read().strip() == "512", "cpu.shares")
            break
    low = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(oom_score_adj=-900))
    id2 = pod.run("low", image, ["sleep", "600"], linux=low)
    warnings = verbose(pod.status(id2, verbose=True))["warnings"]
    if not int([line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1], 16) >> 24 & 1:
        tap.check(any("oom" in w.lower() for w in warnings), "what couldn't be granted is a warning in the verbose status", warnings)
    else:
        tap.skip("clamped oom_score_adj", "CAP_SYS_RESOURCE is there")
    priv = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    e = bh.error_of(pod.run, "priv", image, ["true"], linux=priv)
    tap.check(e is not None and "privileged" in e.details(), "a privileged container needs a privileged pod", e)
    pod.remove()
    pod = bh.Pod(d, c, "privileged", network="host", privileged=True)
    id3, pid3 = marked(pod, "priv", image, "while :; do sleep 1; done", linux=priv)
    tap.check(pid3 and int(status_field(pid3, "CapEff"), 16) ==
              int([line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1], 16),
              "privileged: all that the daemon has")
    pod.remove()


def test_mounts(d, c, pb, image, folder):
    source = os.path.join(folder, "volume")
    os.makedirs(source)
    with open(os.path.join(source, "file"), "w") as f:
        f.write("from the host\n")
    pod = bh.Pod(d, c, "mounts", network="host")
    mounts = [pb.Mount(container_path="/data", host_path=source), pb.Mount(container_path="/ro", host_path=source, readonly=True),
              pb.Mount(container_path="/etc/one", host_path=os.path.join(source, "file"))]
    id = pod.run("m", image, ["sleep", "600"], mounts=mounts)
    tap.check(pod.exec(id, "cat", "/etc/one").stdout == b"from the host\n", "a file is mounted")
    tap.check(pod.exec(id, "sh", "-c", "echo x > /data/new").exit_code == 0 and os.path.exists(source + "/new"), "a folder, writable")
    tap.check(pod.exec(id, "sh", "-c", "echo x > /ro/new2").exit_code != 0, "a folder, read-only")
    e = bh.error_of(pod.run, "bad", image, ["true"], mounts=[pb.Mount(container_path="/x", host_path=source + "/missing")])
    tap.check(e is None or source + "/missing" in e.details(), "a missing source is created, or named", e)
    pod.remove()


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "busybox", config=["--config.exposedports", "80/tcp"]), registry, "test/busybox:1")
        image = registry.host + "/test/busybox:1"
        d = bh.Daemon(folder).start()
        c = d.client()
        pb = c.pb
        try:
            test_version_and_status(c, pb)
            test_images(c, pb, image)
            test_pod(d, c, pb, image)
            test_ahead(d, c, image)
            test_endings(d, c, pb, image)
            test_security(d, c, pb, image)
            test_mounts(d, c, pb, image, folder)
            test_verbose(d, c, pb, image)
            c.images.RemoveImage(pb.RemoveImageRequest(image=pb.ImageSpec(image=image)))
            c.images.RemoveImage(pb.RemoveImageRequest(image=pb.ImageSpec(image=image)))
            tap.check(len(c.images.ListImages(pb.ListImagesRequest()).images) == 0, "RemoveImage, twice")
            left = bh.wait_for(lambda: not bh.glob.glob(d.state + "/content/blobs/sha256/*") and not [
                x for x in bh.glob.glob(d.state + "/layers/*/*") if "/l/" not in x], 5)
            tap.check(left, "and its blobs and layers are gone",
                      bh.subprocess.run(["find", d.state, "-maxdepth", "4"], stdout=bh.subprocess.PIPE, text=True).stdout)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
