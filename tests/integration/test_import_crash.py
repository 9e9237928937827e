"""An import whose API worker is killed, or the metadata worker: the lease that held what had come goes, and all of that."""

import os
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
from transfer import Client, code  # noqa: E402

tap = bh.Tap()


def listed(d, *what):
    p = subprocess.run(["ctr", "-a", d.containerd] + list(what), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return p.stdout.decode().split() if p.returncode == 0 else ["?"]


def files(d, folder):
    path = os.path.join(d.state, "content", folder)
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


class HalfImport:
    """One that has sent the files of an archive, and waits."""

    def __init__(self, d, data):
        self.c, self.error, self.over = Client(d), None, threading.Event()
        self.thread = threading.Thread(target=self.run, args=(data,), daemon=True)
        self.thread.start()

    def run(self, data):
        self.error = self.c.import_archive(None, data, until=self.over, name="example.org/half:1")

    def end(self):
        self.over.set()
        self.thread.join(30)
        self.c.channel.close()
        return self.error


def test_killed(d, data, victim):
    half = HalfImport(d, data)
    lease = bh.wait_for(lambda: listed(d, "leases", "ls", "-q"), 20)
    tap.check(lease and len(lease) == 1 and lease[0].startswith("import-"), "an import has a lease", lease)
    tap.check(bh.wait_for(lambda: files(d, "blobs/sha256"), 20), "and content that is held by it")
    for pid in d.processes()[victim]:
        os.kill(pid, signal.SIGKILL)
    tap.check(bh.wait_for(lambda: listed(d, "leases", "ls", "-q") == [], 20, 0.2), "the lease goes with the %s worker" % victim,
              listed(d, "leases", "ls", "-q"))
    # The collection that follows comes within half a minute.
    gone = bh.wait_for(lambda: not listed(d, "content", "ls", "-q") and not files(d, "blobs/sha256") and not files(d, "writes"),
                       60, 0.5)
    tap.check(gone, "and what it held", (listed(d, "content", "ls", "-q"), files(d, "blobs/sha256"), files(d, "writes")))
    tap.check(code(half.end()) in ("UNAVAILABLE", "NOT_FOUND", "FAILED_PRECONDITION"), "and its client is told", code(half.error))
    tap.check(d.ready(20), "the daemon is complete again")


def main():
    bh.isolate()
    if bh.shutil.which("ctr") is None:
        tap.skip("imports through crashes", "no ctr (Debian's package containerd)")
        tap.done()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        source, archive = bh.make_image(folder, "one"), os.path.join(folder, "one.tar")
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", source, "oci-archive:" + archive + ":one"], check=True)
        with open(archive, "rb") as f:
            data = f.read()[:-1024]  # all of its files, and no end
        d = bh.Daemon(folder, cni=False)
        try:
            d.start()
            for victim in ("api", "metadata"):
                test_killed(d, data, victim)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
