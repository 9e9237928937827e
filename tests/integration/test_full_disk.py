"""A disk without a free byte under the daemon's state, then under its run-time files: what needs room says so and leaves
nothing, what is there runs on, is stopped and removed, survives the death of every worker, and with room all is well."""

import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import grpc

bh.isolate()
tap = bh.Tap()
MIB = 1 << 20


class Disk:
    """A file system of a given size in place of a folder."""

    def __init__(self, path, size):
        self.path, self.ballast = path, os.path.join(path, "ballast")
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=%d" % size, "tmpfs", path], check=True)

    def free(self):
        s = os.statvfs(self.path)
        return s.f_bfree * s.f_bsize

    def fill(self):
        with open(self.ballast, "ab", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4096))
            except OSError:
                pass

    def relieve(self):
        os.unlink(self.ballast)

    def unmount(self):
        subprocess.run(["umount", "-l", self.path], check=True)


class Scene:
    def __init__(self, folder, registry, disk):
        self.disk, self.registry = disk, registry
        self.daemon = bh.Daemon(folder).start()
        self.client = self.daemon.client()
        self.pb = self.client.pb
        self.small, self.large = (registry.host + "/test/%s:1" % n for n in ("small", "large"))
        self.pull(self.small)
        self.pod = bh.Pod(self.daemon, self.client, "here")
        self.one, self.two = (self.pod.run(n, self.small, ["sleep", "1000"]) for n in ("one", "two"))

    def pull(self, name):
        return self.client.images.PullImage(self.pb.PullImageRequest(image=self.pb.ImageSpec(image=name))).image_ref

    def containers(self):
        return sorted(c.id for c in self.client.runtime.ListContainers(self.pb.ListContainersRequest()).containers)

    def pods(self):
        return sorted(p.metadata.name for p in
                      self.client.runtime.ListPodSandbox(self.pb.ListPodSandboxRequest()).items)

    def remove(self, pod):
        self.client.runtime.StopPodSandbox(self.pb.StopPodSandboxRequest(pod_sandbox_id=pod.id))
        self.client.runtime.RemovePodSandbox(self.pb.RemovePodSandboxRequest(pod_sandbox_id=pod.id))

    def runs(self):
        """Whether a command runs in the first container, within what a keeper's replacement takes."""
        def said():
            try:
                return self.pod.exec(self.one, "echo", "on").stdout == b"on\n"
            except grpc.RpcError as e:
                return e.code() is grpc.StatusCode.UNAVAILABLE and None
        return bh.wait_for(said, 10)

    def kill_all(self):
        """Each worker, one after the other; whether the daemon came back each time."""
        for worker in ("metadata", "task", "snapshot", "image", "pod-keeper"):
            for pid in self.daemon.processes().get(worker, []):
                os.kill(pid, signal.SIGKILL)
            if not self.daemon.ready(15):
                return False
        return True

    def end(self):
        self.client.close()
        self.daemon.stop()
        self.daemon.remove_cgroups()
        self.disk.unmount()


def says_full(error):
    return error is not None and error.code().name == "RESOURCE_EXHAUSTED"


def test_what_is_there(s, where):
    """Without a free byte."""
    tap.check(s.runs(), where + ": a command runs in a container")
    s.client.runtime.StopContainer(s.pb.StopContainerRequest(container_id=s.two, timeout=0))
    tap.check(s.pod.status(s.two).status.exit_code == 137, where + ": a container is stopped, and its end is known")
    s.client.runtime.RemoveContainer(s.pb.RemoveContainerRequest(container_id=s.two))
    left = s.containers()
    tap.check(s.two not in left, where + ": and removed", left)
    tap.check(s.kill_all(), where + ": every worker may die", s.daemon.log_tail())
    tap.check(s.containers() == left and s.runs(),
              where + ": and nothing is lost by that", s.containers())
    tap.check(s.daemon.stop() == 0 and s.daemon.start(wait=False).ready(20), where + ": the daemon starts again",
              s.daemon.log_tail())
    tap.check(s.containers() == left and s.runs(),
              where + ": and has what it had", s.containers())


def test_relieved(s, where, before):
    """before: pods that are still there."""
    s.remove(s.pod)
    s.disk.relieve()
    pod = bh.Pod(s.daemon, s.client, "after")
    id = pod.run("again", s.small, ["echo", "well"])
    over = pod.wait(id)
    tap.check(over and over.exit_code == 0, where + ": with room a pod runs", over)
    s.remove(pod)
    tap.check(s.pods() == before, where + ": no other pod is left", s.pods())


def test_state(folder, registry):
    s = Scene(folder, registry, Disk(os.path.join(folder, "state"), 24 * MIB))
    where = "state"
    s.disk.fill()
    error = bh.error_of(s.pull, s.large)
    tap.check(says_full(error) and s.large in error.details() and "is full" in error.details(),
              where + ": an image that has no room is RESOURCE_EXHAUSTED and named", error)
    s.disk.relieve()
    before = s.disk.free()
    # Room for its manifest and some of its layer.
    with open(s.disk.ballast, "wb") as f:
        f.write(bytes(before - 2 * MIB))
    free = s.disk.free()
    error = bh.error_of(s.pull, s.large)
    tap.check(says_full(error), where + ": nor does one fit half", error)
    tap.check(bh.wait_for(lambda: s.disk.free() >= free - 256 * 1024), where + ": what was fetched of it is gone",
              (free, s.disk.free()))
    s.disk.fill()
    test_what_is_there(s, where)
    test_relieved(s, where, [])
    tap.check(s.pull(s.large) != "", where + ": the large image fits now")
    s.end()


def test_run(folder, registry):
    s = Scene(folder, registry, Disk(os.path.join(folder, "run"), 6 * MIB))
    where = "run"
    s.disk.fill()
    error = bh.error_of(bh.Pod, s.daemon, s.client, "refused")
    tap.check(says_full(error) and "refused" in error.details(), where + ": a new pod is RESOURCE_EXHAUSTED and named", error)
    tap.check(s.pods() == ["here"], where + ": and isn't there", s.pods())
    test_what_is_there(s, where)
    test_relieved(s, where, [])
    s.end()


def main():
    def large(root):
        bh.busybox_root(root)
        with open(os.path.join(root, "random"), "wb") as f:
            f.write(os.urandom(6 * MIB))

    with bh.Scratch() as images:
        registry = bh.Registry(images)
        bh.push(bh.make_image(images, "small"), registry, "test/small:1")
        bh.push(bh.make_image(images, "large", large), registry, "test/large:1")
        for test in (test_state, test_run):
            with bh.Scratch() as folder:
                test(folder, registry)
        registry.stop()
    tap.done()


main()
