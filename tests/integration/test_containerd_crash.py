"""Debian's ctr runs tasks while the task worker and the keepers are killed under it: containers, processes of Exec, and the
streams of both go on."""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()


def namespace(d):
    """One of this run's own: ctr names control groups by it."""
    return "crash-" + os.path.basename(d.folder)[-6:].replace("_", "x")


def start(d, *args):
    return subprocess.Popen(["ctr", "-a", d.containerd, "-n", namespace(d)] + list(args),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ctr(d, *args):
    """(exit status, output)"""
    p = start(d, *args)
    out, _ = p.communicate(timeout=60)
    return p.returncode, out.decode()


def kill(d, name):
    """SIGKILL to the workers of that name; whether successors came."""
    old = d.processes().get(name, [])
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    return bool(old) and bool(bh.wait_for(lambda: len(set(d.processes().get(name, [])) - set(old)) >= len(old)))


def test_run(d, root):
    status, out = ctr(d, "run", "--rm", "--rootfs", root, "one", "/bin/sh", "-c", "echo hello; echo err >&2; exit 5")
    tap.check(status == 5 and sorted(out.split()) == ["err", "hello"], "ctr run --rm: output and exit status", (status, out))
    status, out = ctr(d, "run", "--rm", "--rootfs", root, "one", "/bin/echo", "again")
    tap.check(status == 0 and out == "again\n", "the name is free again at once", (status, out))


def test_killed(d, root, name):
    p = start(d, "run", "--rm", "--rootfs", root, "c", "/bin/sh", "-c", "while read x; do echo got $x; done; exit 3")
    p.stdin.write(b"one\n")
    p.stdin.flush()
    tap.check(p.stdout.readline() == b"got one\n", "a container answers its client")
    e = start(d, "tasks", "exec", "--exec-id", "e", "c", "/bin/sh", "-c", "echo ready; read x; echo exec $x; exit 4")
    tap.check(e.stdout.readline() == b"ready\n", "so does a process of Exec")
    time.sleep(0.3)  # a start that isn't answered yet fails with its keeper
    tap.check(kill(d, name), "%s is killed and replaced" % name)
    e.stdin.write(b"two\n")
    e.stdin.flush()
    tap.check(e.stdout.readline() == b"exec two\n", "the process's streams go on")
    tap.check(bh.wait_for(lambda: e.poll() is not None) and e.returncode in (4, 255), "its end is told", (e.returncode, e.stdout.read()))
    p.stdin.write(b"three\n")
    p.stdin.close()
    out = p.stdout.read()
    tap.check(out == b"got three\n" and p.wait(20) in (3, 255), "the container's, too, to its end", (out, p.returncode))


def remove_parents(d):
    """The groups above those that ctr has named: not the daemon's to remove, and empty now."""
    good = True
    for root in bh.cgroup_roots():
        try:
            os.rmdir(os.path.join(root, namespace(d)))
        except FileNotFoundError:
            pass
        except OSError:
            good = False
    return good


def main():
    bh.isolate()
    if bh.shutil.which("ctr") is None:
        tap.skip("ctr through crashes", "no ctr (Debian's package containerd)")
        tap.done()
    with bh.Scratch() as folder:
        d = bh.Daemon(folder).start()
        root = os.path.join(folder, "rootfs")
        bh.busybox_root(root)
        try:
            test_run(d, root)
            for name in ("task", "pod-keeper"):
                test_killed(d, root, name)
            tap.check(ctr(d, "tasks", "ls", "-q") == (0, "") and not d.processes().get("pod-keeper"),
                      "no task is left, and no keeper")
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.stop()
            d.remove_cgroups()
        tap.check(remove_parents(d), "nor a control group")
    tap.done()


main()
