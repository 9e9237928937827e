"""Tasks as Debian's ctr runs them: run, exec, kill, pause, what they leave behind, and what a crash does to them."""

import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()


def make_root(folder):
    root = os.path.join(folder, "root")
    for d in ("bin", "proc", "dev", "sys", "tmp", "etc", "run"):
        os.makedirs(os.path.join(root, d))
    shutil.copy("/bin/busybox", os.path.join(root, "bin", "busybox"))
    for n in ("sh", "echo", "true", "false", "sleep", "cat", "id", "ls", "hostname", "ip", "stat", "readlink", "kill"):
        os.symlink("busybox", os.path.join(root, "bin", n))
    return root


class Ctr:
    def __init__(self, d):
        self.d = d

    def start(self, *args, **kwargs):
        return subprocess.Popen(["ctr", "-a", self.d.containerd] + list(args), stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, **kwargs)

    def __call__(self, *args, stdin=b"", timeout=60):
        p = subprocess.run(["ctr", "-a", self.d.containerd] + list(args), input=stdin, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=timeout)
        return p.returncode, p.stdout.decode()

    def status(self, name):
        for line in self("tasks", "ls")[1].splitlines():
            if line.split()[0] == name:
                return line.split()[2]
        return None

    def pid(self, name):
        for line in self("tasks", "ls")[1].splitlines():
            if line.split()[0] == name:
                return int(line.split()[1])
        return None


def shows(name, result, text, status=0):
    tap.check(result[0] == status and text in result[1], name, "%d: %s" % result)


def refused(name, result, text):
    tap.check(result[0] != 0 and text in result[1], name, "%d: %s" % result)


def mounts():
    with open("/proc/self/mountinfo") as f:
        return len(f.readlines())


def leftovers(d):
    """Keepers, fifos, groups that tasks have left."""
    pods = os.listdir(os.path.join(d.run, "pods"))
    fifos = glob.glob("/run/containerd/fifo/*/*")
    groups = [g for g in glob.glob("/sys/fs/cgroup/*/default/*/cgroup.procs") if "/bh-" in g]
    return pods + fifos + groups


def test_run(ctr, root):
    shows("run --rm shows what the command says", ctr("run", "--rm", "--rootfs", root, "bh-1", "/bin/echo", "hello"),
          "hello\n")
    shows("its exit code is ctr's", ctr("run", "--rm", "--rootfs", root, "bh-2", "/bin/sh", "-c", "exit 7"), "", 7)
    shows("stdin reaches it, and ends", ctr("run", "--rm", "--rootfs", root, "bh-3", "/bin/cat", stdin=b"from outside\n"),
          "from outside\n")
    code, text = ctr("run", "--rm", "--rootfs", root, "bh-4", "/bin/none")
    tap.check(code != 0 and "/bin/none" in text and "No such file" in text, "a program that isn't there is named", text)
    shows("a network namespace of its own has loopback only",
          ctr("run", "--rm", "--rootfs", root, "bh-5", "/bin/ls", "/sys/class/net"), "lo\n")
    own = os.stat("/proc/self/ns/net").st_ino
    shows("--net-host shares the host's", ctr("run", "--rm", "--net-host", "--rootfs", root, "bh-6", "/bin/readlink",
                                              "/proc/self/ns/net"), "net:[%d]" % own)
    shows("--mount", ctr("run", "--rm", "--mount", "type=bind,src=/usr,dst=/mnt,options=rbind:ro", "--rootfs", root,
                         "bh-8", "/bin/ls", "/mnt"), "lib")
    shows("--env and --cwd", ctr("run", "--rm", "--env", "A=b", "--cwd", "/tmp", "--rootfs", root, "bh-9", "/bin/sh", "-c",
                                 "echo $A $PWD"), "b /tmp\n")
    shows("-t gives a terminal", ctr("run", "--rm", "--rootfs", root, "bh-10", "/bin/sh", "-c", "test -t 1 || echo none"),
          "none\n")


def test_life(ctr, root):
    shows("run -d comes back", ctr("run", "-d", "--rootfs", root, "bh-life", "/bin/sleep", "1000"), "")
    tap.check(ctr.status("bh-life") == "RUNNING", "tasks ls says RUNNING")
    pid = ctr.pid("bh-life")
    with open("/proc/%d/cmdline" % pid) as f:
        tap.check(f.read().startswith("/bin/sleep"), "and its pid is the host's number of it")
    shows("tasks exec", ctr("tasks", "exec", "--exec-id", "e1", "bh-life", "/bin/echo", "from within"), "from within\n")
    shows("tasks exec with stdin", ctr("tasks", "exec", "--exec-id", "e2", "bh-life", "/bin/cat", stdin=b"to it\n"),
          "to it\n")
    shows("its exit code is ctr's, too", ctr("tasks", "exec", "--exec-id", "e3", "bh-life", "/bin/false"), "", 1)
    shows("an exec id can be used again", ctr("tasks", "exec", "--exec-id", "e3", "bh-life", "/bin/true"), "")
    shows("tasks ps", ctr("tasks", "ps", "bh-life"), str(pid))
    shows("tasks pause", ctr("tasks", "pause", "bh-life"), "")
    tap.check(ctr.status("bh-life") == "PAUSED", "tasks ls says PAUSED")
    refused("a second pause", ctr("tasks", "pause", "bh-life"), "cannot pause a paused container")
    refused("tasks exec in what is paused", ctr("tasks", "exec", "--exec-id", "e0", "bh-life", "/bin/true"),
            "cannot exec in a paused container")
    refused("tasks rm of what is paused", ctr("tasks", "rm", "bh-life"), "must be stopped")
    shows("tasks resume", ctr("tasks", "resume", "bh-life"), "")
    refused("a second resume", ctr("tasks", "resume", "bh-life"), "cannot resume a running container")
    code, text = ctr("tasks", "rm", "bh-life")
    tap.check(code != 0 and "must be stopped" in text, "a task that runs isn't removed", text)
    code, text = ctr("containers", "rm", "bh-life")
    tap.check(code != 0, "nor is its container", text)
    code, text = ctr("tasks", "start", "bh-life")
    tap.check(code != 0 and "already exists" in text, "there is one task of a container", text)
    shows("tasks kill", ctr("tasks", "kill", "-s", "SIGKILL", "bh-life"), "")
    tap.check(bh.wait_for(lambda: ctr.status("bh-life") == "STOPPED"), "tasks ls says STOPPED")
    refused("pause of what has ended", ctr("tasks", "pause", "bh-life"), "cannot pause a stopped container")
    refused("and resume", ctr("tasks", "resume", "bh-life"), "cannot resume a stopped container")
    code, text = ctr("tasks", "kill", "bh-life")
    tap.check(code != 0 and "not found" in text.lower() or "finished" in text, "a second kill finds nothing", text)
    code, text = ctr("tasks", "exec", "--exec-id", "e4", "bh-life", "/bin/true")
    tap.check(code != 0 and "isn't running" in text, "nothing is executed in what has ended", text)
    code, text = ctr("tasks", "rm", "bh-life")
    tap.check("137" in text and ctr.status("bh-life") is None, "tasks rm tells how it ended", text)
    shows("containers rm", ctr("containers", "rm", "bh-life"), "")


def test_background(ctr, root):
    """A child that keeps the output open doesn't keep the client."""
    begin = time.monotonic()
    shows("a child that is left behind in a pid namespace ends with it",
          ctr("run", "--rm", "--rootfs", root, "bh-bg", "/bin/sh", "-c", "sleep 600 & echo done"), "done\n")
    ctr("run", "-d", "--rootfs", root, "bh-bg2", "/bin/sleep", "1000")
    shows("one that an exec leaves behind keeps nobody waiting",
          ctr("tasks", "exec", "--exec-id", "x", "bh-bg2", "/bin/sh", "-c", "sleep 600 & echo done"), "done\n")
    tap.check(time.monotonic() - begin < 20, "both come back soon")
    ctr("tasks", "kill", "-s", "SIGKILL", "bh-bg2")
    bh.wait_for(lambda: ctr.status("bh-bg2") == "STOPPED")
    ctr("tasks", "rm", "bh-bg2")
    ctr("containers", "rm", "bh-bg2")


def test_many(ctr, root, d):
    before = mounts()
    all_of_them = [ctr.start("run", "--rm", "--rootfs", root, "bh-many%d" % i, "/bin/echo", "number %d" % i,
                             stdin=subprocess.DEVNULL) for i in range(20)]
    outputs = [(p.communicate(timeout=60)[0].decode(), p.returncode) for p in all_of_them]
    tap.check(outputs == [("number %d\n" % i, 0) for i in range(20)], "twenty in parallel", outputs)
    tap.check(bh.wait_for(lambda: leftovers(d) == []) is not None, "nothing of them is left", leftovers(d))
    tap.check(mounts() == before, "no mount was made on the host")


def worker(d, name):
    out = subprocess.run(["ps", "-eo", "pid,args"], stdout=subprocess.PIPE).stdout.decode()
    pids = [int(line.split()[0]) for line in out.splitlines() if line.split(None, 1)[1].startswith("bulkhead-" + name)]
    return pids[0] if pids else None


def test_crash(ctr, root, d):
    """Each worker is killed beside a task that runs: it runs on, and its end is known."""
    for name in ("api containerd", "metadata", "task", "snapshot", "image"):
        ctr("run", "-d", "--rootfs", root, "bh-crash", "/bin/sleep", "1000")
        pid = ctr.pid("bh-crash")
        victim = worker(d, name)
        os.kill(victim, signal.SIGKILL)
        tap.check(bh.wait_for(lambda: worker(d, name) not in (None, victim)) is not None, "%s is replaced" % name)
        tap.check(bh.wait_for(lambda: ctr.status("bh-crash") == "RUNNING") and ctr.pid("bh-crash") == pid,
                  "without %s for a moment the task runs on" % name, ctr("tasks", "ls")[1])
        shows("and commands run in it", ctr("tasks", "exec", "--exec-id", "after", "bh-crash", "/bin/echo", "here"), "here\n")
        ctr("tasks", "kill", "-s", "SIGKILL", "bh-crash")
        tap.check(bh.wait_for(lambda: ctr.status("bh-crash") == "STOPPED"), "and its end is known",
                  ctr("tasks", "ls")[1])
        tap.check("137" in ctr("tasks", "rm", "bh-crash")[1], "with its code")
        ctr("containers", "rm", "bh-crash")


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        os.makedirs("/run/containerd", exist_ok=True) # where ctr has its fifos: no one else's here
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/containerd"], check=True)
        root = make_root(folder)
        d = bh.Daemon(folder, cni=False)
        ctr = Ctr(d)
        try:
            d.start()
            test_run(ctr, root)
            test_life(ctr, root)
            test_background(ctr, root)
            test_many(ctr, root, d)
            test_crash(ctr, root, d)
            ctr("run", "-d", "--rootfs", root, "bh-over", "/bin/sleep", "1000")
            pid = ctr.pid("bh-over")
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
            d.start()
            tap.check(ctr.pid("bh-over") == pid and ctr.status("bh-over") == "RUNNING", "a task outlives the daemon",
                      ctr("tasks", "ls")[1])
            ctr("tasks", "rm", "-f", "bh-over")
            ctr("containers", "rm", "bh-over")
            tap.check(bh.wait_for(lambda: leftovers(d) == []) is not None, "nothing is left", leftovers(d))
            d.stop()
        except Exception as e:  # the log says why
            tap.check(False, "the test runs to its end", repr(e))
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
