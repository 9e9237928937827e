"""Debian's ctr as tests drive it: in a namespace of its own, with pipes or a terminal, and what it leaves in the kernel,
on disk and among the daemon's objects."""

import collections
import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import termios
import time

import bulkhead as bh

PROGRAM = os.environ.get("BULKHEAD_CTR", "ctr")
FIFOS = "/run/containerd"
Result = collections.namedtuple("Result", "status out")


def there():
    return shutil.which(PROGRAM) is not None


def own_fifos():
    """In a mount namespace of the test's own: nobody else's fifos are where ctr makes its."""
    os.makedirs(FIFOS, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", FIFOS], check=True)


class Ctr:
    def __init__(self, daemon, namespace=None):
        self.daemon = daemon
        # ctr names control groups by it, at the top: it has to be this run's own.
        self.namespace = namespace or "ctr-%d-%s" % (os.getpid(), os.path.basename(daemon.folder)[-6:].replace("_", "x"))

    def command(self, *args):
        return [PROGRAM, "-a", self.daemon.containerd, "-n", self.namespace] + list(args)

    def __call__(self, *args, stdin=b"", timeout=60):
        p = subprocess.run(self.command(*args), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        return Result(p.returncode, p.stdout.decode(errors="replace"))

    def start(self, *args, stdin=subprocess.DEVNULL):
        return subprocess.Popen(self.command(*args), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def table(self, *args):
        """The rows of what a command lists, without the heading."""
        return [line.split() for line in self(*args).out.splitlines()[1:] if line.strip()]

    def task(self, name):
        """(pid, state), or None"""
        return next(((int(r[1]), r[2]) for r in self.table("tasks", "ls") if r[0] == name), None)

    def state(self, name):
        task = self.task(name)
        return task and task[1]

    def remove(self, name):
        self("tasks", "rm", "-f", name)
        return self("containers", "rm", name)

    def groups(self):
        """The control groups of the namespace's containers."""
        return sorted(d for root in bh.cgroup_roots() for d, _, _ in os.walk(os.path.join(root, self.namespace))
                      if d != os.path.join(root, self.namespace))

    def remove_parents(self):
        """The groups above those that ctr has named: not the daemon's to remove, and empty now."""
        for root in bh.cgroup_roots():
            top = os.path.join(root, self.namespace)
            if os.path.isdir(top):
                os.rmdir(top)

    def truth(self):
        """What containers leave in the kernel, on disk, and among the namespace's objects."""
        t = bh.kernel_truth(self.daemon)
        t["netns"] = len(t["netns"])
        t["groups"] = self.groups()
        t["fifos"] = sorted(os.path.join(d, n) for d, folders, files in os.walk(os.path.join(FIFOS, "fifo"))
                            for n in folders + files)
        layers = os.path.join(self.daemon.state, "layers")
        t["layers"] = sorted(n for n in os.listdir(layers) if not n.startswith(".")) if os.path.isdir(layers) else []
        writable = os.path.join(layers, ".writable")
        t["writable"] = sorted(os.listdir(writable)) if os.path.isdir(writable) else []
        t["snapshot objects"] = sorted(" ".join(r) for r in self.table("snapshots", "ls"))
        for kind in "containers", "tasks", "leases", "images":
            t[kind] = sorted(r[0] for r in self.table(kind, "ls"))
        return t


def differences(before, after):
    return "\n".join("%s: %s became %s" % (k, before[k], after[k]) for k in before if before[k] != after[k])


class Terminal:
    """ctr at a terminal of its own, of so many rows and columns. seen is what it has shown, but for carriage returns: ctr
    leaves its own terminal's output processing on, so that there are more of them than a container has written."""

    def __init__(self, ctr, *args, size=(24, 80)):
        self.master, slave = pty.openpty()
        self.resize(*size)
        name = os.ttyname(slave)

        def control():  # the first terminal that a session opens is its own
            os.setsid()
            os.close(os.open(name, os.O_RDWR))
        self.process = subprocess.Popen(ctr.command(*args), stdin=slave, stdout=slave, stderr=slave, preexec_fn=control)
        os.close(slave)
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def read(self, seconds):
        """False once there is nothing more to come."""
        if select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: the other side is closed
                return False
            self.seen += data.decode(errors="replace").replace("\r", "")
        return True

    def shows(self, text, seconds=15):
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end and self.read(0.1):
            pass
        return text in self.seen

    def end(self, seconds=15):
        """The exit status, or None while it runs on; all that it showed is in seen."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.05)
        while select.select([self.master], [], [], 0)[0] and self.read(0):
            pass
        return self.process.poll()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
