"""A program that plays criu, for tests of checkpoints and restores; whether the real one works here."""

import os
import shutil
import subprocess
import time

import bulkhead as bh

# Its command line, exit status, log, images and scripts are criu's. The file "mode" beside it says how it behaves.
FAKE = r'''#!/usr/bin/python3
import os, signal, subprocess, sys, time
folder = os.path.dirname(os.path.abspath(sys.argv[0]))
mode = open(folder + "/mode").read()
opts = {sys.argv[i]: sys.argv[i + 1] for i in range(2, len(sys.argv) - 1)}
log = open(os.path.join(opts["--work-dir"], opts["--log-file"]), "w")
with open(folder + "/args", "w") as f:
    f.write("\n".join(sys.argv))

def script(action):
    env = dict(os.environ, CRTOOLS_SCRIPT_ACTION=action)
    return subprocess.run([opts["--action-script"]], env=env, stdin=subprocess.DEVNULL).returncode

if mode == "silent":
    os.unlink(log.name)
    os._exit(3)
if mode in ("fail", "restore-fails"):
    for i in range(5):
        log.write("(00.0%d) Error (criu/fake.c:%d): reason %d\n" % (i, i, i))
    log.write("(00.09) nothing of interest\n")
    log.close()
    sys.exit(1)

def count(pipe):
    """What was restored, in the place of a container that counts."""
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    os.dup2(pipe, 1)
    os.closerange(3, 256)
    i = 1000
    while True:
        i += 1
        os.write(1, b"%d\n" % i)
        time.sleep(0.05)

def restore():
    pipes = [a for a in sys.argv if a.startswith("fd[")]
    pipe = int(pipes[0][3:].split("]")[0])
    root = opts["--root"]
    with open(os.path.join(opts["--images-dir"], "inventory.img")) as f:
        images = f.read()
    with open(folder + "/seen", "w") as f:
        f.write("\n".join([images[:9], pipes[0].split(":", 1)[1], open(root + "/home/x").read().strip(),
                           str(os.path.exists(root + "/var")), str(os.path.exists(root + "/etc/hosts")),
                           os.readlink("/proc/self/ns/cgroup"), open("/proc/self/cgroup").read()]))
    pid = os.fork()
    if pid == 0:
        count(pipe)
    if mode == "restore-lies":
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    open(folder + "/reached", "w").write("%d %d" % (os.getpid(), pid))
    if mode == "hang":
        time.sleep(60)
    if mode == "slow":
        time.sleep(2)
    with open(opts["--pidfile"], "w") as f:
        f.write(str(pid))
    sys.exit(0)

if sys.argv[1] == "restore":
    restore()
pid = int(opts["--tree"])
os.kill(pid, signal.SIGSTOP)
try:
    script("pre-dump")
    for name in ("inventory.img", "pages-1.img"):
        with open(os.path.join(opts["--images-dir"], name), "w") as f:
            f.write("images of %d\n" % pid * 1000)
    os.symlink("/etc/shadow", os.path.join(opts["--images-dir"], "link.img")) if mode == "link" else None
    reached = str(os.getpid())
    if mode == "hang-child":  # as the real one's own, in the middle of what it does
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        reached += " %d" % child
    open(folder + "/reached", "w").write(reached)
    if mode in ("hang", "hang-child"):
        time.sleep(60)
    if mode == "slow":
        time.sleep(2)
    if script("post-dump") != 0:
        log.write("(00.05) Error (criu/fake.c:5): the script failed\n")
        log.close()
        sys.exit(1)
finally:
    os.kill(pid, signal.SIGCONT)
with open(os.path.join(opts["--work-dir"], "stats-dump"), "w") as f:
    f.write("stats")
log.write("Dumping finished successfully\n")
'''


class Fake:
    def __init__(self, folder):
        self.folder = os.path.join(folder, "criu")
        os.makedirs(self.folder)
        self.path = os.path.join(self.folder, "criu")
        with open(self.path, "w") as f:
            f.write(FAKE)
        os.chmod(self.path, 0o755)
        self.mode("well")

    def mode(self, mode):
        for name in ("reached", "args"):
            if os.path.exists(os.path.join(self.folder, name)):
                os.unlink(os.path.join(self.folder, name))
        with open(os.path.join(self.folder, "mode"), "w") as f:
            f.write(mode)

    def reached(self):
        """Waits until the container is stopped and saved."""
        path = os.path.join(self.folder, "reached")
        return bh.wait_for(lambda: os.path.exists(path) and os.path.getsize(path) > 0, 10)

    def args(self):
        with open(os.path.join(self.folder, "args")) as f:
            return f.read().split("\n")


def linux(pb, **more):
    options = pb.NamespaceOption(pid=more.pop("pid", pb.CONTAINER))
    return pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(
        namespace_options=options, masked_paths=["/proc/kcore", "/proc/timer_list", "/sys/firmware"],
        readonly_paths=["/proc/sys"],
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)))


def fails(error, code, *texts):
    return error is not None and error.code() == code and all(t in error.details() for t in texts)


def said(error):
    return (error.code(), error.details()) if hasattr(error, "code") else error


def title(pid):
    try:
        with open("/proc/%d/cmdline" % pid) as f:
            return f.read()
    except OSError:
        return ""


def real_criu():
    """Its path, or why it can't be."""
    path = os.environ.get("BULKHEAD_TEST_CRIU") or shutil.which("criu", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        return None, "no criu on this machine"
    r = subprocess.run([path, "check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode != 0:
        return None, "criu check: " + (r.stdout.strip().splitlines() or ["status %d" % r.returncode])[0]
    return saves_sleep(path)


def saves_sleep(path):
    """criu check passes on machines where criu then fails at everything."""
    with bh.Scratch() as images:
        child = subprocess.Popen(["setsid", "sleep", "100"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        time.sleep(0.2)
        r = subprocess.run([path, "dump", "-t", str(child.pid), "-D", images, "--leave-running"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
        child.kill()
        child.wait()
    if r.returncode != 0:
        return None, "criu can't save a sleep: " + (r.stdout.strip().splitlines() or ["status %d" % r.returncode])[-1]
    return path, None
