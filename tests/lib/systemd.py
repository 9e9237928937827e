"""Debian's systemd as process 1 of namespaces and control groups of its own, over a throw-away copy of the host's root.
A test that wants to run there calls boot() first: outside it boots, shows what the test prints inside, and cleans up."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import bulkhead as bh

SYSTEMD = "/lib/systemd/systemd"
INSIDE = "BULKHEAD_IN_SYSTEMD"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")
UNIT = """[Unit]
DefaultDependencies=no
[Service]
Type=exec
Delegate=yes
KillMode=process
Environment=%s
ExecStart=%s
StandardOutput=truncate:%s
StandardError=inherit
"""


def inside():
    """The mode that boot was called with, or None."""
    return os.environ.get(INSIDE)


def hierarchies():
    """[(mount options of v1 or None for v2, own path in it)], as /proc/self/cgroup lists them."""
    found = []
    with open("/proc/self/cgroup") as f:
        for line in f:
            _, names, path = line.rstrip("\n").split(":", 2)
            found.append((names or None, path))
    return found


def host_folder(names, path):
    """Where the host shows that group; None when it doesn't."""
    with open("/proc/self/mounts") as f:
        for line in f:
            _, point, kind, options = line.split()[:4]
            v1 = kind == "cgroup" and names and set(names.split(",")) <= set(options.split(","))
            if v1 or (kind == "cgroup2" and not names):
                return point + path.rstrip("/")
    return None


def mount(*args):
    subprocess.run(["mount"] + list(args), check=True)


# --- the root that systemd gets ---

def mount_dev(root):
    mount("-t", "tmpfs", "-o", "mode=755", "dev", root + "/dev")
    for name in DEVICES:
        if os.path.exists("/dev/" + name):
            open(root + "/dev/" + name, "w").close()
            mount("--bind", "/dev/" + name, root + "/dev/" + name)
    for name in ("pts", "shm"):
        os.mkdir(root + "/dev/" + name)
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", root + "/dev/pts")
    os.symlink("pts/ptmx", root + "/dev/ptmx")
    os.symlink("/proc/self/fd", root + "/dev/fd")
    mount("-t", "tmpfs", "shm", root + "/dev/shm")


def mount_cgroups(root, mode):
    top = root + "/sys/fs/cgroup"
    if mode == "unified":
        mount("-t", "cgroup2", "cgroup2", top)
        return
    mount("-t", "tmpfs", "-o", "mode=755", "cgroup", top)
    for names, _ in hierarchies():
        folder = top + "/" + (names.replace("name=", "") if names else "unified")
        os.mkdir(folder)
        if names:
            mount("-t", "cgroup", "-o", names + (",none" if "name=" in names else ""), "cgroup", folder)
            for name in names.split(",") if "," in names else ():
                os.symlink(os.path.basename(folder), top + "/" + name)
        else:
            mount("-t", "cgroup2", "cgroup2", folder)


def configure(root, scratch, mode, argv):
    """No unit of the host's starts, but the test."""
    for folder in ("/etc/systemd/system", "/usr/lib/systemd/system-generators"):
        if os.path.isdir(root + folder):
            mount("-t", "tmpfs", "-o", "mode=755", "none", root + folder)
    for name in ("/etc/fstab", "/etc/machine-id"):
        with open(root + name, "w") as f:
            f.write("1" * 32 + "\n" if "machine" in name else "")
    environment = "%s=%s BULKHEAD_BUILD=%s PATH=%s" % (INSIDE, mode, bh.BUILD, os.environ["PATH"])
    with open(root + "/etc/systemd/system/test.service", "w") as f:
        f.write(UNIT % (environment, " ".join([sys.executable] + argv), scratch + "/output"))


def become_systemd(scratch, mode, argv):
    """In the new namespaces; returns only with an error."""
    root = scratch + "/root"
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "-o", "mode=755", "layers", scratch + "/layers")
    for name in ("upper", "work"):
        os.mkdir(scratch + "/layers/" + name)
    mount("-t", "overlay", "-o", "lowerdir=/,upperdir=%s/layers/upper,workdir=%s/layers/work" % (scratch, scratch),
          "overlay", root)
    mount("-t", "proc", "proc", root + "/proc")
    mount("-t", "sysfs", "sysfs", root + "/sys")
    mount_cgroups(root, mode)
    mount_dev(root)
    for name in ("/run", "/tmp"):
        mount("-t", "tmpfs", "-o", "mode=755", "none", root + name)
    for folder in {scratch, bh.TOP, os.path.realpath(bh.BUILD)}:
        os.makedirs(root + folder, exist_ok=True)
        mount("--bind", folder, root + folder)
    configure(root, scratch, mode, argv)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.makedirs(root + "/old", exist_ok=True)
    subprocess.run(["pivot_root", root, root + "/old"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/old"], check=True)
    os.execve(SYSTEMD, [SYSTEMD, "--system", "--unit=test.service", "--log-target=console", "--log-level=warning",
                        "--show-status=no"], {"container": "other", "PATH": os.environ["PATH"]})


# --- outside ---

def remove_groups(folders):
    for top in folders:
        for folder, _, _ in os.walk(top, topdown=False):
            for _ in range(50):
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.02)


def enter(folders):
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        # A new cpuset of v1 is empty.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(folder + "/" + name) and not os.path.exists(folder + "/cgroup.controllers"):
                with open(os.path.dirname(folder) + "/" + name) as f, open(folder + "/" + name, "w") as to:
                    to.write(f.read())
        with open(folder + "/cgroup.procs", "w") as f:
            f.write("0")


def follow(tap, mode, path, process, seconds):
    """Counts the checks that the program inside prints until its plan; whether that came."""
    end, seen = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        over = process.poll() is not None
        if os.path.exists(path):
            with open(path, errors="replace") as f:
                lines = f.read().split("\n")[:-1]
            for line in lines[seen:]:
                if line.startswith("1.."):
                    return True
                show(tap, mode, line)
            seen = len(lines)
        if over:
            return False
        time.sleep(0.1)
    return False


def show(tap, mode, line):
    """As a check of our own."""
    m = re.match(r"(not )?ok \d+ - (.*)", line)
    if m and "# SKIP" in line:
        tap.skip(mode + ": " + m.group(2).split(" # SKIP ")[0], line.split(" # SKIP ")[1])
    elif m:
        tap.check(not m.group(1), mode + ": " + m.group(2))
    else:
        print(line, flush=True)


def boot(tap, mode, seconds=240):
    """Runs this program again as a service of a systemd that sees the host's cgroups as they are ("host") or cgroup v2
    alone ("unified", with what controllers it has there); its checks become those of tap. Skips, with the reason, where
    systemd can't be booted."""
    scratch = tempfile.mkdtemp(prefix="bulkhead-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    for name in ("root", "layers"):
        os.mkdir(scratch + "/" + name)
    own = "/" + os.path.basename(scratch)
    groups = [host_folder(names, path) for names, path in hierarchies()]
    groups = [f + own for f in groups if f]
    stage = "import sys; sys.path.insert(0, %r); import systemd; systemd.become_systemd(%r, %r, %r)" % (
        os.path.dirname(os.path.abspath(__file__)), scratch, mode, [os.path.abspath(sys.argv[0])] + sys.argv[1:])
    process = None
    try:
        with open(scratch + "/console", "w") as console:
            process = subprocess.Popen(
                ["unshare", "--cgroup", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child",
                 sys.executable, "-c", stage], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                preexec_fn=lambda: enter(groups))
        if not follow(tap, mode, scratch + "/output", process, seconds):
            with open(scratch + "/console", errors="replace") as f:
                why = f.read()[-1500:].strip().replace("\n", " | ")
            if os.path.exists(scratch + "/output"):
                tap.check(False, mode + ": the program inside comes to its end", why)
            else:
                tap.skip(mode, "systemd can't be booted here: " + why)
    except (OSError, subprocess.SubprocessError) as e:
        tap.skip(mode, "systemd can't be booted here: %s" % e)
    finally:
        if process:
            process.kill()
            process.wait()
        remove_groups(groups)
        shutil.rmtree(scratch, ignore_errors=True)
