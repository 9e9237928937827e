"""Volumes from images: what a container sees of them, what is refused, that their layers stay as long as a container
needs them, and that nothing of them shows on the host."""

import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
tap = bh.Tap()
HOST_ID = 100000
VOLUMES_MAX = 63


def data_root(root):
    """Files of several owners and modes, links that lead up and around, programs."""
    def write(path, text, mode=0o644, owner=0):
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        os.chown(path, owner, owner)

    write("etc/only-here", "the image's\n")
    write("data/file", "from the image\n", owner=1000)
    write("data/deep/below", "deep\n")
    write("private/secret", "secret\n", 0o600, owner=1000)
    os.chmod(os.path.join(root, "private"), 0o700)
    os.chown(os.path.join(root, "private"), 1000, 1000)
    shutil.copy("/bin/busybox", os.path.join(root, "busybox-here"))
    for name, target in (("absolute", "/etc"), ("up", "../../../../../../etc"), ("loop", "loop"), ("file-link", "data/file")):
        os.symlink(target, os.path.join(root, name))
    os.mkfifo(os.path.join(root, "fifo"))


class Images:
    def __init__(self, folder, c):
        self.registry = bh.Registry(folder)
        self.c = c
        self.pb = c.pb
        self.box, self.data = (self.registry.host + "/test/" + n for n in ("busybox:1", "data:1"))
        bh.push(bh.make_image(folder, "busybox"), self.registry, "test/busybox:1")
        bh.push(bh.make_image(folder, "data", data_root), self.registry, "test/data:1")

    def pull(self, name):
        return self.c.images.PullImage(self.pb.PullImageRequest(image=self.pb.ImageSpec(image=name))).image_ref

    def remove(self, name):
        self.c.images.RemoveImage(self.pb.RemoveImageRequest(image=self.pb.ImageSpec(image=name)))

    def mount(self, path, sub_path="", image=None, **more):
        more.setdefault("readonly", True)
        return self.pb.Mount(container_path=path, image=self.pb.ImageSpec(image=image or self.data, user_specified_image="mine"),
                             image_sub_path=sub_path, **more)


def sleeper(pod, images, name, mounts, command=("sleep", "600"), **more):
    return pod.create(name, images.box, list(command), mounts=mounts, **more)


def start(c, id):
    c.runtime.StartContainer(c.pb.StartContainerRequest(container_id=id))


def remove(c, id):
    c.runtime.StopContainer(c.pb.StopContainerRequest(container_id=id, timeout=0))
    c.runtime.RemoveContainer(c.pb.RemoveContainerRequest(container_id=id))


def sh(pod, id, script):
    """Output and code of a script in the container."""
    e = pod.exec(id, "sh", "-c", script)
    return e.stdout.decode(), e.exit_code


def mount_line(pod, id, path):
    """Options and type of the container's mount at path."""
    for line in sh(pod, id, "cat /proc/self/mountinfo")[0].splitlines():
        fields = line.split()
        if fields[4] == path:
            return set(fields[5].split(",")), fields[fields.index("-") + 1]
    return set(), ""


def truth(d):
    """What volumes could leave; the network's part changes by itself when workers are replaced."""
    t = bh.kernel_truth(d)
    return {k: t[k] for k in ("mounts", "cgroups", "pods", "snapshots")}


def test_refusals(d, c, pb, pod, images):
    before = truth(d)
    cases = [
        ("an image that isn't here", "NOT_FOUND", "nothing:1", images.mount("/v", image="127.0.0.1:1/nothing:1")),
        ("an image without a name", "INVALID_ARGUMENT", "names no image", pb.Mount(
            container_path="/v", readonly=True, image=pb.ImageSpec())),
        ("a host path, too", "INVALID_ARGUMENT", "host path and an image", images.mount("/v", host_path="/tmp")),
        ("a writable one", "INVALID_ARGUMENT", "readonly", images.mount("/v", readonly=False)),
        ("one with propagation", "INVALID_ARGUMENT", "propagation", images.mount(
            "/v", propagation=pb.PROPAGATION_HOST_TO_CONTAINER)),
        ("a sub path that isn't there", "INVALID_ARGUMENT", 'has no "data/missing"', images.mount("/v", "data/missing")),
        ("a sub path through a file", "INVALID_ARGUMENT", 'has no "data/file/x"', images.mount("/v", "data/file/x")),
        ("a sub path in circles", "INVALID_ARGUMENT", '"loop"', images.mount("/v", "loop")),
        ("a fifo", "INVALID_ARGUMENT", "neither a folder nor", images.mount("/v", "fifo")),
        ("an absolute sub path", "INVALID_ARGUMENT", "relative", images.mount("/v", "/data")),
        ("a sub path that climbs", "INVALID_ARGUMENT", "relative", images.mount("/v", "data/../../x")),
        ("a sub path of a host's folder", "INVALID_ARGUMENT", "needs an image", pb.Mount(
            container_path="/v", host_path="/tmp", image_sub_path="x")),
        ("owners that aren't the pod's", "INVALID_ARGUMENT", "user namespace", images.mount(
            "/v", uidMappings=[pb.IDMapping(host_id=HOST_ID, container_id=0, length=65536)])),
        ("an unknown option", "INVALID_ARGUMENT", "sync", images.mount("/v", mount_options=["sync"])),
    ]
    for i, (what, code, text, mount) in enumerate(cases):
        e = bh.error_of(sleeper, pod, images, "bad-%d" % i, [mount])
        tap.check(e is not None and code in str(e.code()) and text in e.details() and '"/v"' in e.details(),
                  "refused: " + what, e)
    e = bh.error_of(sleeper, pod, images, "gone", [images.mount("/v", "data/missing")])
    tap.check("ImageVolumeMountFailed" in e.details(), "the CRI's reason is in the sentence", e)
    many = [images.mount("/v/%d" % i, "data") for i in range(VOLUMES_MAX + 1)]
    e = bh.error_of(sleeper, pod, images, "many", many)
    tap.check(e is not None and "INVALID_ARGUMENT" in str(e.code()) and str(VOLUMES_MAX) in e.details(), "refused: too many", e)
    left = c.runtime.ListContainers(pb.ListContainersRequest(filter=pb.ContainerFilter(pod_sandbox_id=pod.id))).containers
    tap.check(not left, "nothing refused is listed", left)
    same = bh.wait_for(lambda: truth(d) == before, 5)
    tap.check(same, "or leaves anything", bh.differences(before, truth(d)))


def test_what_it_sees(d, c, pb, pod, images, image_id):
    volumes = [images.mount("/whole"), images.mount("/whole/data/deep", "etc"), images.mount("/folder", "data"),
               images.mount("/conf", "data/file"), images.mount("/a", "absolute"), images.mount("/u", "up"),
               images.mount("/l", "file-link"), images.mount("/p", "private"), images.mount("/n", mount_options=["noexec"]),
               images.mount("/self", "bin", image=images.box)]
    id = sleeper(pod, images, "sees", volumes)
    start(c, id)
    tap.check(sh(pod, id, "cat /whole/data/file")[0] == "from the image\n", "the whole image")
    tap.check(sh(pod, id, "cat /whole/data/deep/only-here")[0] == "the image's\n", "a volume in a volume")
    tap.check(sh(pod, id, "cat /folder/file /folder/deep/below; ls /folder")[0] == "from the image\ndeep\ndeep\nfile\n",
              "a folder of it")
    tap.check(sh(pod, id, "cat /conf; test -f /conf")[0] == "from the image\n", "a file of it")
    tap.check(sh(pod, id, "cat /l")[0] == "from the image\n", "a file by a link")
    for path, what in (("/a", "absolute"), ("/u", "that climbs")):
        out = sh(pod, id, "cat %s/only-here; ls %s" % (path, path))[0]
        tap.check(out == "the image's\nonly-here\n", "a link %s stays in the image" % what, out)
    tap.check(sh(pod, id, "stat -c '%u %a' /p/secret; cat /p/secret")[0] == "1000 600\nsecret\n", "owners are the image's")
    tap.check(sh(pod, id, "cmp /self/busybox /bin/busybox")[1] == 0, "the container's own image, once more")

    for path in ("/whole/x", "/folder/file", "/conf"):
        tap.check(sh(pod, id, "echo x >> %s" % path)[1] != 0, "read-only: " + path)
    tap.check(sh(pod, id, "/whole/busybox-here true")[1] == 0, "programs of it run")
    tap.check(sh(pod, id, "/n/busybox-here true")[1] == 126, "unless noexec is asked for")
    for path in ("/whole", "/folder", "/conf"):
        options, kind = mount_line(pod, id, path)
        tap.check({"ro", "nosuid", "nodev"} <= options and kind == "overlay", "ro, nosuid, nodev: " + path, (options, kind))
    tap.check(not any("overlay" in line for line in open("/proc/self/mountinfo")), "the host's mount table shows none of it")
    pid = [p for p in bh.pids() if same_mounts(pod, id, p)]
    fds = os.listdir("/proc/%d/fd" % pid[0]) if pid else []
    tap.check(set(fds) == {"0", "1", "2"} or set(fds) == {"1", "2"}, "no descriptor leaks into it", fds)

    mounts = {m.container_path: m for m in pod.status(id).status.mounts}
    whole, conf = mounts["/whole"], mounts["/conf"]
    tap.check(whole.image.image == images.data and whole.image.image_ref == image_id and whole.readonly and
              whole.image.user_specified_image == "mine" and not whole.host_path, "the status has the image's digest", whole)
    tap.check(conf.image_sub_path == "data/file" and conf.image.image_ref == image_id, "and the sub path", conf)
    old = c.channel.unary_unary("/runtime.v1alpha2.RuntimeService/ContainerStatus",
                                request_serializer=pb.ContainerStatusRequest.SerializeToString,
                                response_deserializer=pb.ContainerStatusResponse.FromString)
    again = old(pb.ContainerStatusRequest(container_id=id)).status.mounts
    tap.check(list(again) == list(mounts.values()), "v1alpha2 says the same", again)
    remove(c, id)


def same_mounts(pod, id, pid):
    """Is it the container's sleep?"""
    try:
        with open("/proc/%d/cmdline" % pid) as f:
            return f.read().startswith("sleep\x00600") and os.path.exists("/proc/%d/root/whole/data" % pid)
    except OSError:
        return False


def test_many(c, pod, images):
    id = sleeper(pod, images, "many", [images.mount("/v/%d" % i, "data") for i in range(VOLUMES_MAX)])
    start(c, id)
    out = sh(pod, id, "cat /v/*/file | sort | uniq -c")[0].split()
    tap.check(out == [str(VOLUMES_MAX), "from", "the", "image"], "as many as can be", out)
    remove(c, id)


def test_privileged(d, c, pb, images):
    pod = bh.Pod(d, c, "privileged", network="host", privileged=True)
    context = pb.LinuxContainerSecurityContext(privileged=True)
    id = sleeper(pod, images, "p", [images.mount("/whole")], linux=pb.LinuxContainerConfig(security_context=context))
    start(c, id)
    out, code = sh(pod, id, "mount -o remount,rw /whole; mount -o remount,rw,bind /whole; echo x > /whole/data/file")
    tap.check(code != 0 and sh(pod, id, "cat /whole/data/file")[0] == "from the image\n",
              "not even a privileged container can write to it", out)
    pod.remove()


def has_data(d):
    """Are the layers of the data image unpacked on the disk?"""
    return bool(bh.glob.glob(d.state + "/layers/*/fs/etc/only-here"))


def test_pinning(d, c, pb, pod, images, image_id):
    id = sleeper(pod, images, "pins", [images.mount("/v", "data")])
    images.remove(images.data)
    e = bh.error_of(sleeper, pod, images, "late", [images.mount("/v")])
    tap.check(e is not None and "NOT_FOUND" in str(e.code()), "a removed image is gone for new containers", e)
    tap.check(has_data(d), "its layers are kept for one that isn't started yet")
    d.kill()
    d.start()
    start(c, id)
    tap.check(sh(pod, id, "cat /v/file")[0] == "from the image\n", "which starts with them, after a restart of the daemon")
    status = pod.status(id).status
    tap.check(status.mounts[0].image.image_ref == image_id and status.mounts[0].image_sub_path == "data",
              "and whose status still has the digest", status.mounts)
    images.remove(images.data)
    tap.check(has_data(d) and sh(pod, id, "cat /v/deep/below")[0] == "deep\n", "they are kept while it runs")
    remove(c, id)
    tap.check(bh.wait_for(lambda: not has_data(d), 10), "and go with the container", os.listdir(d.state + "/layers"))
    images.pull(images.data)


def kill(d, name, pid=None):
    """SIGKILL to one of the daemon's processes; waits for the next of its kind, but not for a pod's keeper."""
    old = set(d.processes().get(name, []))
    for p in [pid] if pid else old:
        os.kill(p, signal.SIGKILL)
    if not bh.wait_for(lambda: set(d.processes().get(name, [])) - old, 10):
        raise RuntimeError("no other %s came" % name)
    d.ready()


def test_crashes(d, c, pb, pod, images):
    before = truth(d)
    first = sleeper(pod, images, "first", [images.mount("/v"), images.mount("/f", "data/file")])
    for worker in ("metadata", "snapshot", "task"):
        kill(d, worker)
    start(c, first)
    for worker in ("metadata", "snapshot", "task"):
        kill(d, worker)

    def read():
        """Once the task worker has found the keeper."""
        return bh.wait_for(lambda: bh.error_of(sh, pod, first, "true") is None and sh(pod, first, "cat /v/data/file /f")[0], 10)
    tap.check(read() == "from the image\n" * 2, "workers killed before and after the start")
    kill(d, "pod-keeper")
    tap.check(read() == "from the image\n" * 2, "the keeper killed, and its successor")
    second = sleeper(pod, images, "second", [images.mount("/v", "etc")])
    start(c, second)
    tap.check(sh(pod, second, "cat /v/only-here")[0] == "the image's\n", "which makes volumes as well")
    remove(c, first)
    remove(c, second)
    same = bh.wait_for(lambda: truth(d) == before, 10)
    tap.check(same, "nothing is left of that", bh.differences(before, truth(d)))


def holders(d):
    """The daemon's processes that hold a mount outside of their own table open: what keeps a view of layers alive."""
    found = []
    for name, pids in d.processes().items():
        for pid in pids:
            for fd in bh.glob.glob("/proc/%d/fdinfo/*" % pid):
                try:
                    with open(fd) as f:
                        mount = [line.split()[1] for line in f if line.startswith("mnt_id:")]
                    with open("/proc/%d/mountinfo" % pid) as f:
                        known = {line.split()[0] for line in f}
                    target = os.readlink(fd.replace("fdinfo", "fd"))
                except OSError:
                    continue
                if mount and mount[0] not in known and target == "/":
                    found.append((name, pid, fd))
    return found


def test_nothing_held(d, c, pod, images):
    own = bh.Pod(d, c, "with-shm")
    before = [h[0] for h in holders(d)]
    tap.check("pod-keeper" in before, "a mount that a keeper does hold, its pod's /dev/shm, is seen", before)
    id = sleeper(pod, images, "held", [images.mount("/v"), images.mount("/w", "data")])
    start(c, id)
    now = [h[0] for h in holders(d)]
    tap.check(sorted(now) == sorted(before), "no process of the daemon's keeps a volume's mount open", holders(d))
    remove(c, id)
    own.remove()


def test_user_namespace(d, c, pb, images):
    if not c.runtime.Status(pb.StatusRequest()).runtime_handlers[0].features.user_namespaces:
        tap.skip("volumes in a user namespace", "this machine can't map owners")
        return
    ids = [pb.IDMapping(host_id=HOST_ID, container_id=0, length=65536)]
    config = bh.sandbox_config(c, "userns", log_directory=d.logs)
    config.linux.security_context.namespace_options.userns_options.CopyFrom(
        pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids))
    pod = bh.Pod.__new__(bh.Pod)
    pod.daemon, pod.client, pod.config, pod.containers = d, c, config, []
    pod.id = c.runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=config)).pod_sandbox_id
    id = sleeper(pod, images, "u", [images.mount("/v"), images.mount("/p", "private", uidMappings=ids, gidMappings=ids),
                                    images.mount("/f", "data/file")])
    start(c, id)
    out = sh(pod, id, "stat -c '%u' /v/etc /v/data/file /p /p/secret /f; cat /p/secret")[0].split()
    tap.check(out == ["0", "1000", "1000", "1000", "1000", "secret"], "in a user namespace owners are the pod's", out)
    tap.check(sh(pod, id, "echo x > /v/new")[1] != 0, "and it is read-only")
    pod.remove()


def main():
    with bh.Scratch() as folder:
        d = bh.Daemon(folder).start()
        c = d.client()
        pb = c.pb
        images = Images(folder, c)
        try:
            images.pull(images.box)
            image_id = images.pull(images.data)
            before = truth(d)
            pod = bh.Pod(d, c, "volumes", network="host")
            test_refusals(d, c, pb, pod, images)
            test_what_it_sees(d, c, pb, pod, images, image_id)
            test_many(c, pod, images)
            test_nothing_held(d, c, pod, images)
            test_privileged(d, c, pb, images)
            test_user_namespace(d, c, pb, images)
            test_crashes(d, c, pb, pod, images)
            test_pinning(d, c, pb, pod, images, image_id)
            pod.remove()
            same = bh.wait_for(lambda: truth(d) == before, 10)
            tap.check(same, "nothing of the pods is left", bh.differences(before, truth(d)))
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            images.registry.stop()
            d.remove_cgroups()
    tap.done()


main()
