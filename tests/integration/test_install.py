"""What `make install` puts in place, somewhere else than where it was built: it is complete, it runs, it finds its parts."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
tap = bh.Tap()

WORKERS = ["api", "metadata", "image", "snapshot", "task", "stream", "systemd", "guest", "keeper"]


def install(root):
    # Without -o it would build once more, with flags that aren't this build's.
    return subprocess.run(["make", "-C", bh.TOP, "-o", "all", "install", "O=" + bh.BUILD, "DESTDIR=" + root, "PREFIX=/opt/bulkhead"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_files(root):
    p = install(root)
    tap.check(p.returncode == 0, "make install", p.stdout)
    prefix = root + "/opt/bulkhead"
    tap.check(sorted(os.listdir(prefix + "/bin")) == ["bulkhead", "bulkheadd"], "what a person calls", os.listdir(prefix + "/bin"))
    tap.check(sorted(os.listdir(prefix + "/libexec/bulkhead")) == sorted("bulkhead-" + w for w in WORKERS),
              "the workers", os.listdir(prefix + "/libexec/bulkhead"))
    with open(prefix + "/lib/systemd/system/bulkhead.service") as f:
        tap.check("ExecStart=/opt/bulkhead/bin/bulkheadd\n" in f.read(), "the unit has the paths of this prefix")
    conf = root + "/etc/bulkhead/bulkhead.conf"
    with open(conf, "a") as f:
        f.write("# mine\n")
    install(root)
    with open(conf) as f:
        tap.check(f.read().endswith("# mine\n"), "a second time leaves the configuration alone")
    return prefix


def test_runs(folder, prefix):
    d = bh.Daemon(folder)
    d.program = prefix + "/bin/bulkheadd"
    try:
        d.start()
        c = d.client()
        tap.check(c.runtime.Version(c.pb.VersionRequest()).runtime_name == "bulkhead", "it answers")
        paths = {os.readlink("/proc/%d/exe" % p) for ps in d.processes().values() for p in ps}
        # That of the systemd cgroup driver isn't among them: it isn't needed here.
        # The keeper runs from a copy in memory, for those that outlive an upgrade.
        tap.check(paths - {"/memfd:bulkhead-keeper (deleted)"} ==
                  {d.program} | {prefix + "/libexec/bulkhead/bulkhead-" + w for w in WORKERS if w not in ("keeper", "systemd", "guest")},
                  "its processes are the installed ones", paths)
        p = subprocess.run([prefix + "/bin/bulkhead", "version"], env=dict(os.environ, BULKHEAD_SOCKET=d.socket),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        tap.check(p.returncode == 0 and "bulkhead" in p.stdout, "the command line reaches it", p.stdout)
        tap.check(d.stop() == 0, "it ends", d.log_tail())
    finally:
        d.kill()
        d.remove_cgroups()
    p = subprocess.run([d.program, "-c", "/dev/null", "--print-privileges"], stdout=subprocess.PIPE, text=True)
    tap.check(p.returncode == 0 and all("\n" + w in "\n" + p.stdout for w in WORKERS), "and prints its privileges", p.stdout)


def main():
    with bh.Scratch() as folder:
        root = os.path.join(folder, "root")
        prefix = test_files(root)
        test_runs(folder, prefix)
    tap.done()


main()
