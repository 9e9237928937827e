"""containerd's snapshots as Debian's ctr uses them: made, mounted by the client itself, committed, removed; what is
refused; and what they share with the CRI."""

import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()


def ctr(d, *args, namespace="default", ok=True):
    """(exit status is as expected, output)"""
    p = subprocess.run(["ctr", "-a", d.containerd, "-n", namespace] + list(args), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return (p.returncode == 0) == ok, p.stdout.decode()


def shows(d, name, args, *texts, missing=(), **kwargs):
    good, output = ctr(d, *args, **kwargs)
    tap.check(good and all(t in output for t in texts) and not any(t in output for t in missing), name, output)
    return output


def snap(d, name, args, *texts, **kwargs):
    return shows(d, name, ["snapshots"] + args, *texts, **kwargs)


class Mounted:
    """What `ctr snapshots mounts` prints, mounted as it says."""

    def __init__(self, d, key, **kwargs):
        self.target = os.path.join(d.folder, "mnt-" + key)
        os.makedirs(self.target, exist_ok=True)
        good, self.command = ctr(d, "snapshots", "mounts", self.target, key, **kwargs)
        self.result = subprocess.run(self.command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.good = good and self.result.returncode == 0 and (" %s " % self.target) in open("/proc/self/mountinfo").read()

    def __enter__(self):
        tap.check(self.good, "the mounts of %s can be mounted" % self.target[-12:],
                  self.command + self.result.stdout.decode())
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.target], check=False)

    def write(self, name, text):
        path = os.path.join(self.target, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def read(self, name):
        path = os.path.join(self.target, name)
        return open(path).read() if os.path.exists(path) else None


def test_events(d):
    p = subprocess.Popen(["ctr", "-a", d.containerd, "-n", "default", "events"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    time.sleep(0.5)
    snap(d, "prepare that is watched", ["prepare", "e1"])
    snap(d, "commit that is watched", ["commit", "e2", "e1"])
    snap(d, "remove that is watched", ["rm", "e2"])
    time.sleep(0.5)
    p.terminate()
    text = p.communicate()[0].decode()
    for topic, more in ("/snapshot/prepare", '"key":"e1"'), ("/snapshot/commit", '"name":"e2"'), \
            ("/snapshot/remove", '"key":"e2"'):
        tap.check(any(topic in line and more in line for line in text.splitlines()), "it is told: " + topic, text)


def test_life(d):
    snap(d, "prepare of nothing", ["prepare", "a1"])
    with Mounted(d, "a1") as m:
        m.write("etc/name", "bottom")
        m.write("etc/gone", "x")
        m.write("opaque/old", "x")
    snap(d, "usage counts what was written", ["usage", "-b", "a1"], "a1")
    snap(d, "commit", ["commit", "bottom", "a1"])
    snap(d, "ls shows what it became, and not what it was", ["ls"], "bottom", "Committed", missing=["a1"])
    snap(d, "prepare on it", ["prepare", "a2", "bottom"])
    with Mounted(d, "a2") as m:
        tap.check("overlay" in m.command or "bind" in m.command, "the mounts are an overlay's", m.command)
        tap.check(m.read("etc/name") == "bottom", "what the parent has is there", m.command)
        m.write("etc/name", "middle")
        os.unlink(os.path.join(m.target, "etc/gone"))
        os.unlink(os.path.join(m.target, "opaque/old"))
        os.rmdir(os.path.join(m.target, "opaque"))
        m.write("opaque/new", "y")
    snap(d, "commit of the second", ["commit", "middle", "a2"])
    snap(d, "info", ["info", "middle"], '"Parent": "bottom"', '"Kind": "Committed"')
    snap(d, "view", ["view", "v1", "middle"])
    with Mounted(d, "v1") as m:
        tap.check(m.read("etc/name") == "middle", "a view shows the topmost file")
        tap.check(m.read("etc/gone") is None, "what was removed is gone")
        tap.check(m.read("opaque/old") is None and m.read("opaque/new") == "y", "a replaced folder is replaced")
        try:
            m.write("x", "x")
            tap.check(False, "a view is read-only")
        except OSError as e:
            tap.check("Read-only" in str(e), "a view is read-only", str(e))
    snap(d, "view of a single layer", ["view", "v2", "bottom"])
    with Mounted(d, "v2") as m:
        tap.check(m.read("etc/name") == "bottom", "it shows that layer")
    snap(d, "tree", ["tree"], "bottom", "middle", "v1")
    snap(d, "label", ["label", "middle", "tier=web"])
    snap(d, "the label is there", ["info", "middle"], '"tier": "web"')
    snap(d, "ls with a filter", ["ls"], "v1")


def test_refused(d):
    snap(d, "a key that is taken", ["prepare", "v1"], "already exists", ok=False)
    snap(d, "a parent that isn't there", ["prepare", "b1", "none"], "not found", ok=False)
    snap(d, "a parent that isn't committed", ["prepare", "b1", "v1"], "isn't committed", ok=False)
    snap(d, "commit of a view", ["commit", "b2", "v1"], "isn't active", ok=False)
    snap(d, "commit of nothing", ["commit", "b2", "none"], "not found", ok=False)
    snap(d, "prepare for what is refused next", ["prepare", "b3", "bottom"])
    snap(d, "commit to a name that is taken", ["commit", "middle", "b3"], "already exists", ok=False)
    snap(d, "remove of what others are made on", ["rm", "bottom"], "is made on it", ok=False)
    snap(d, "mounts of a committed one", ["mounts", "/mnt", "bottom"], "is committed", ok=False)
    snap(d, "remove of nothing", ["rm", "none"], "not found", ok=False)
    snap(d, "info of nothing", ["info", "none"], "not found", ok=False)
    shows(d, "another snapshotter", ["snapshots", "--snapshotter", "btrfs", "ls"], "snapshotter not loaded: btrfs",
          ok=False)
    snap(d, "snapshots are a namespace's own", ["ls"], missing=["bottom"], namespace="other")
    snap(d, "what was refused has changed nothing", ["rm", "b3"])


def folders(d):
    return sorted(n for n in os.listdir(os.path.join(d.folder, "state", "layers")) if not n.startswith("."))


def writable(d):
    return sorted(os.listdir(os.path.join(d.folder, "state", "layers", ".writable")))


def test_restart(d):
    snap(d, "prepare before the restart", ["prepare", "r1", "middle"])
    with Mounted(d, "r1") as m:
        m.write("kept", "z")
    d.stop()
    d.start()
    snap(d, "snapshots outlive the daemon", ["ls"], "bottom", "middle", "r1", "v1")
    with Mounted(d, "r1") as m:
        tap.check(m.read("kept") == "z" and m.read("etc/name") == "middle", "with what is in them")
    snap(d, "cleanup", ["ls"])


def test_remove(d):
    for key in "v1", "v2", "r1", "middle", "bottom":
        snap(d, "rm " + key, ["rm", key])
    snap(d, "nothing is left", ["ls"], missing=["bottom", "middle", "r1"])
    tap.check(bh.wait_for(lambda: not writable(d) and not folders(d), 20), "nor on the disk",
              "%s %s" % (writable(d), folders(d)))


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        d = bh.Daemon(folder, cni=False)
        try:
            d.start()
            test_life(d)
            test_refused(d)
            test_restart(d)
            test_events(d)
            test_remove(d)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception as e:  # the log says why
            tap.check(False, "the test runs to its end", repr(e))
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
    tap.done()


main()
