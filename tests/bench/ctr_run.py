"""`ctr run --rm` of true beside Debian's containerd with runc, for tools/bench, which runs it in namespaces of its own.

Both take turns, run by run, so that what else the machine does meets both. A ratio is that of medians, and of the least
of each, which is what a quiet machine would show. CPU is the client's and that of all that the daemon has: its own
processes, shims, containers. The client's own start is a line of its own: nobody's daemon can make that faster.

Argument: how many runs of each."""

import collections
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
from ctr import Ctr, own_fifos  # noqa: E402

WARM = 2


def removed(folder):
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


class Group:
    """A control group that counts CPU time of a daemon and of all that it starts: the latter's are below it."""

    def __init__(self, name):
        for root, self.file, self.scale in (("/sys/fs/cgroup/cpuacct", "cpuacct.usage", 1e-6),
                                            ("/sys/fs/cgroup/cpu,cpuacct", "cpuacct.usage", 1e-6),
                                            ("/sys/fs/cgroup", "cpu.stat", 1e-3)):
            if os.path.exists(os.path.join(root, self.file)):
                break
        self.name, self.path = name, root + name
        os.makedirs(self.path + "/daemon")

    def enter(self):
        with open(self.path + "/daemon/cgroup.procs", "w") as f:
            f.write("0")

    def milliseconds(self):
        with open(os.path.join(self.path, self.file)) as f:
            return int(f.read().split()[-1 if self.scale == 1e-6 else 1]) * self.scale

    def remove(self):
        """Once those are gone who have just been ended."""
        for root in bh.cgroup_roots():
            for folder, _, _ in os.walk(root + self.name, topdown=False):
                bh.wait_for(lambda: removed(folder), 5)


class Containerd:
    """Debian's, in folders of its own. It starts what it starts in group's groups."""

    def __init__(self, folder, group):
        self.folder, self.containerd = folder, os.path.join(folder, "containerd.sock")
        config = os.path.join(folder, "containerd.toml")
        with open(config, "w") as f:
            f.write('version = 2\nroot = "%s/peer/root"\nstate = "%s/peer/state"\n[grpc]\naddress = "%s"\n' %
                    (folder, folder, self.containerd) +
                    'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n')
        self.log = open(os.path.join(folder, "containerd.log"), "w")
        self.process = subprocess.Popen(["containerd", "-c", config], stdout=self.log, stderr=self.log,
                                        preexec_fn=group.enter)
        if not bh.wait_for(lambda: Ctr(self)("version").status == 0):
            raise RuntimeError("containerd doesn't answer, see " + self.log.name)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def timed(command):
    """Milliseconds by the clock, and of CPU of the program itself."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError("%s: exit status %d" % (" ".join(command), process.returncode))
    return (time.monotonic() - begin) * 1e3, (used.ru_utime + used.ru_stime) * 1e3


Figures = collections.namedtuple("Figures", "p50 least cpu")


def figures(runs):
    """Of pairs (by the clock, of CPU)."""
    wall, cpu = zip(*runs[WARM:])
    return Figures(statistics.median(wall), min(wall), statistics.median(cpu))


class Side:
    def __init__(self, name, daemon, group):
        self.name, self.group, self.ctr = name, group, Ctr(daemon, "bench")
        self.all, self.client, self.count = {}, {}, 0

    def run(self, what, args):
        self.count += 1
        id = "run-%d" % self.count
        before = self.group.milliseconds()
        wall, cpu = timed(self.ctr.command("run", "--rm", "--cgroup", "%s/%s" % (self.group.name, id), *args, id, "/bin/true"))
        self.client.setdefault(what, []).append((wall, cpu))
        self.all.setdefault(what, []).append((wall, cpu + self.group.milliseconds() - before))


def line(what, name, f, more=""):
    print("  %-9s %-19s p50 %6.1f ms   least %6.1f ms   CPU p50 %6.1f ms%s" % ((what, name) + f + (more,)))


def ratio_line(what, name, ours, theirs):
    print("  %-9s %-19s     %6.2f            %6.2f               %6.2f" %
          ((what, name) + tuple(a / b for a, b in zip(ours, theirs))))


def less(a, b):
    return [x - y for x, y in zip(a, b)]


def report(what, sides, start):
    ours, theirs = (figures(side.all[what]) for side in sides)
    for side, f in zip(sides, (ours, theirs)):
        line(what, side.name, f, ", %.1f of them ctr's" % figures(side.client[what]).cpu)
    ratio_line(what, "ours of theirs", ours, theirs)
    ratio_line(what, "without ctr's start", less(ours, start), less(theirs, start))


def compare(sides, kinds, rounds):
    versions = []
    for n in range(WARM + rounds):
        versions.append(timed(["ctr", "--version"]))
        for what, args in kinds.items():
            for side in sides if n % 2 else sides[::-1]:
                side.run(what, args)
    start = figures(versions)
    line("--version", "ctr's own start", start)
    for what in kinds:
        report(what, sides, start)


def main():
    own_fifos()
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "box"), registry, "box:1")
        image = registry.host + "/box:1"
        bh.busybox_root(os.path.join(folder, "rootfs"))
        groups = [Group("/%s-%s" % (os.path.basename(folder), name)) for name in ("ours", "theirs")]
        daemon = bh.Daemon(folder, cni=False)
        peer = Containerd(folder, groups[1])
        try:
            daemon.start(before=groups[0].enter)
            sides = Side("bulkhead", daemon, groups[0]), Side("containerd + runc", peer, groups[1])
            for side in sides:
                pulled = side.ctr("images", "pull", "--plain-http", image)
                if pulled.status:
                    raise RuntimeError("%s pulls no image: %s" % (side.name, pulled.out))
            compare(sides, {"--rootfs": ["--rootfs", os.path.join(folder, "rootfs")], "image": [image]}, int(sys.argv[1]))
        finally:
            daemon.stop()
            peer.stop()
            registry.stop()
            for group in groups:
                group.remove()


if __name__ == "__main__":
    bh.isolate()
    main()
