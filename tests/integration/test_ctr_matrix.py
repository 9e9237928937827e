"""Each command of ctr that containerd's users know, against the daemon: those that the tests of single services don't
show. docs/tests.md has the whole list, command by command."""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
from ctr import Ctr, Terminal, differences, own_fifos, there  # noqa: E402

tap = bh.Tap()
SLEEP = ["/bin/sleep", "1000"]
LIMIT = 64 << 20
MANY = 20


def shows(name, result, *texts, status=0, missing=()):
    good = result.status == status if status is not None else result.status != 0
    tap.check(good and all(t in result.out for t in texts) and not any(t in result.out for t in missing), name,
              "%d: %s" % result)
    return result.out


def refused(name, result, *texts):
    return shows(name, result, *texts, status=None)


class World:
    def __init__(self, folder, registry):
        self.folder, self.registry = folder, registry
        bh.push(bh.make_image(folder, "box", config=["--config.env", "COLOR=blue", "--config.workingdir", "/home"]),
                registry, "box:1")
        self.image = registry.host + "/box:1"
        self.root = os.path.join(folder, "rootfs")
        bh.busybox_root(self.root)
        self.daemon = bh.Daemon(folder, cni=False, settings=["criu=/none/criu"]).start()
        self.ctr = Ctr(self.daemon)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, id, *command, options=(), **more):
        return self.ctr("run", "--rm", *options, self.image, id, *command, **more)

    def shell(self, id, script, *options, **more):
        return self.run(id, "/bin/sh", "-c", script, options=options, **more)


# --- images ---

def test_images(w):
    ctr = w.ctr
    shows("images pull", ctr("images", "pull", "--plain-http", "--label", "from=registry", w.image), "done")
    shows("images pull --label", ctr("images", "ls", "labels.from==registry"), w.image)
    shows("images pull of what is there", ctr("images", "pull", "--plain-http", "--print-chainid", w.image), "done")
    shows("images ls -q", ctr("images", "ls", "-q"), w.image)
    refused("images pull of nothing", ctr("images", "pull", "--plain-http", w.image + "none"), "not found")
    shows("images check of what is unpacked", ctr("images", "check"), w.image, "complete (2/2)", "true")
    shows("images tag", ctr("images", "tag", w.image, w.registry.host + "/second:1"))
    shows("images push", ctr("images", "push", "--plain-http", w.registry.host + "/second:1"), "done")
    shows("images rm of the tag", ctr("images", "rm", "--sync", w.registry.host + "/second:1"))
    shows("what was pushed can be pulled", ctr("images", "pull", "--plain-http", w.registry.host + "/second:1"), "done")
    shows("images label, set", ctr("images", "label", w.image, "a=b"), "a=b")
    shows("images label, cleared", ctr("images", "label", w.image, "a="), missing=["a="])
    shows("images convert", ctr("images", "convert", "--uncompress", "--oci", w.registry.host + "/second:1", "flat:1"))
    shows("its layers are uncompressed", ctr("content", "get", manifest_of(w, "flat:1")), "layer.v1.tar\"")
    shows("images rm of several", ctr("images", "rm", "--sync", "flat:1", w.registry.host + "/second:1"))


def manifest_of(w, name):
    return next(r[2] for r in w.ctr.table("images", "ls") if r[0] == name)


def test_archives(w):
    ctr, tar = w.ctr, w.path("box.tar")
    shows("images export", ctr("images", "export", tar, w.image))
    listed = subprocess.run(["tar", "tf", tar], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    tap.check({"index.json", "oci-layout", "manifest.json"} <= set(listed), "the archive is OCI's and docker's", listed)
    shows("images export --skip-manifest-json", ctr("images", "export", "--skip-manifest-json", w.path("oci.tar"), w.image))
    other = Ctr(w.daemon, ctr.namespace + "-2")
    shows("images import --digests", other("images", "import", "--digests", "--base-name", w.registry.host + "/box", tar))
    shows("names the image by its digest, too", other("images", "ls", "-q"), w.image, "/box@sha256:")
    shows("an imported image runs", other("run", "--rm", w.image, "imp", "/bin/echo", "imported"), "imported\n")
    shows("images rm of what was imported", other("images", "rm", "--sync", *[r[0] for r in other.table("images", "ls")]))
    tap.check(other.table("content", "ls") == [] and other.table("snapshots", "ls") == [],
              "leaves the other namespace empty", other.truth())
    shows("namespaces rm of what is empty", other("namespaces", "rm", other.namespace))
    other.remove_parents()


def test_mount(w):
    target = w.path("mnt")
    os.makedirs(target)
    shows("images mount", w.ctr("images", "mount", w.image, target))
    tap.check(os.path.exists(target + "/bin/busybox"), "shows the image's files")
    tap.check(not writable(target), "and lets nobody write")
    shows("images unmount --rm", w.ctr("images", "unmount", "--rm", target))
    shows("images mount --rw", w.ctr("images", "mount", "--rw", w.image, target))
    tap.check(writable(target), "lets its files be written")
    shows("images unmount --rm of what was written", w.ctr("images", "unmount", "--rm", target))
    tap.check(not os.listdir(target) and target not in [r[0] for r in w.ctr.table("snapshots", "ls")],
              "its snapshot is gone", w.ctr("snapshots", "ls").out)


def writable(folder):
    try:
        with open(os.path.join(folder, "new"), "w"):
            return True
    except OSError:
        return False


# --- run ---

def test_run(w):
    shows("run has the image's environment and folder", w.shell("r1", "echo $COLOR $PWD"), "blue /home\n")
    shows("run --env, --env-file, --cwd", w.shell("r2", "echo $COLOR $A $PWD", "--env", "COLOR=red", "--env-file",
                                                 written(w, "env", "A=b\n"), "--cwd", "/tmp"), "red b /tmp\n")
    shows("run --read-only", w.shell("r3", "touch /x 2>&1 || echo no", "--read-only"), "Read-only", "no\n")
    shows("run writes to a snapshot of its own", w.shell("r4", "touch /x && ls /x"), "/x\n")
    shows("which ends with it", w.shell("r4", "ls /x"), "No such file", status=1)
    shows("run --mount", w.shell("r5", "cat /in/env; touch /in/x 2>&1", "--mount",
                                 "type=bind,src=%s,dst=/in,options=rbind:ro" % w.folder), "A=b", "Read-only", status=1)
    own = os.stat("/proc/self/ns/net").st_ino
    shows("run --net-host", w.shell("r6", "readlink /proc/self/ns/net", "--net-host"), "net:[%d]\n" % own)
    shows("run --with-ns", w.shell("r7", "readlink /proc/self/ns/net", "--with-ns", "network:/proc/%d/ns/net" % os.getpid()),
          "net:[%d]\n" % own)
    bits = [int(capabilities(w, "r8", *o), 16) for o in ((), ("--cap-drop", "CAP_CHOWN"), ("--cap-add", "CAP_SYS_ADMIN"),
                                                         ("--privileged",))]
    tap.check(bits[1] == bits[0] & ~1 and bits[0] & 1, "run --cap-drop", list(map(hex, bits)))
    tap.check(bits[2] == bits[0] | 1 << 21 != bits[0], "run --cap-add", list(map(hex, bits)))
    tap.check(bits[3] & bits[2] == bits[2] and bits[3] != bits[2], "run --privileged has all capabilities", list(map(hex, bits)))
    shows("run --privileged has the host's devices and a writable /sys", w.shell("r9", "grep ' /sys sysfs rw' /proc/mounts",
                                                                               "--privileged"), "/sys")
    shows("no new privileges", w.shell("r10", "grep NoNewPrivs /proc/self/status"), "1\n")
    shows("run --allow-new-privs", w.shell("r11", "grep NoNewPrivs /proc/self/status", "--allow-new-privs"), "0\n")
    shows("run --seccomp", w.shell("r12", "grep Seccomp: /proc/self/status", "--seccomp"), "2\n")
    shows("run --device", w.shell("r13", "ls -l /dev/fuse /dev/kmsg", "--device", "/dev/kmsg"), "/dev/kmsg", "/dev/fuse: No",
          status=1)
    out = shows("run --null-io", w.shell("r14", "echo hidden; exit 4", "--null-io"), status=4, missing=["hidden"])
    tap.check(out == "", "shows nothing", out)
    shows("the exit code is ctr's", w.shell("r15", "exit 7"), status=7)
    shows("stdin reaches it and ends", w.run("r17", "/bin/cat", stdin=b"from outside\n"), "from outside\n")
    refused("run by a runtime that isn't here", w.run("r24", "/bin/true", options=("--runtime", "io.containerd.kata.v2")),
            "io.containerd.kata.v2")
    refused("run of an image that isn't there", w.ctr("run", "--rm", "none:1", "r18"), "not found")
    refused("run of a program that isn't there", w.run("r19", "/bin/none"), "/bin/none")
    refused("leaves no container", w.ctr("containers", "info", "r19"), "not found")
    shows("run --config", w.ctr("run", "--rm", "--config", specification(w), "r20"), "by its specification\n")
    shows("run --rootfs", w.ctr("run", "--rm", "--rootfs", w.root, "r21", "/bin/echo", "of a folder"), "of a folder\n")


def written(w, name, text):
    with open(w.path(name), "w") as f:
        f.write(text)
    return w.path(name)


def capabilities(w, id, *options):
    return re.search(r"CapEff:\s*(\w+)", w.shell(id, "cat /proc/self/status", *options).out).group(1)


def specification(w):
    spec = json.loads(w.ctr("oci", "spec").out)
    spec["root"] = {"path": w.root}
    spec["process"]["args"] = ["/bin/echo", "by its specification"]
    spec["linux"]["cgroupsPath"] = "/%s/r20" % w.ctr.namespace
    return written(w, "spec.json", json.dumps(spec))


def test_limits(w):
    ctr, id = w.ctr, "limits"
    shows("run -d", ctr("run", "-d", "--memory-limit", str(LIMIT), "--cpu-quota", "50000", "--cpu-period", "100000",
                        "--pid-file", w.path("pid"), "--log-uri", "file://" + w.path("log"), "--label", "app=shop",
                        "--annotation", "note=it", w.image, id, "/bin/sh", "-c", "echo logged; exec sleep 1000"))
    pid, state = ctr.task(id)
    with open(w.path("pid")) as f:
        tap.check(int(f.read()) == pid and state == "RUNNING", "run --pid-file has what tasks ls says", (pid, state))
    tap.check(group_file(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(LIMIT), "run --memory-limit")
    tap.check(group_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000", "run --cpu-quota")
    tap.check(bh.wait_for(lambda: os.path.exists(w.path("log")) and open(w.path("log")).read() == "logged\n") is not None,
              "run --log-uri writes to the file")
    shows("run --label", ctr("containers", "ls", "labels.app==shop"), id)
    shows("run --annotation", ctr("containers", "info", id), '"note": "it"')
    refused("a name that is taken", ctr("run", "-d", w.image, id, *SLEEP), "already exists")
    shows("and its owner runs on", ctr("tasks", "exec", "--exec-id", "x", id, "/bin/echo", "here"), "here\n")
    shows("tasks rm -f", ctr("tasks", "rm", "-f", id))
    shows("containers rm removes its snapshot", ctr("containers", "rm", id))
    refused("there is none", ctr("snapshots", "info", id), "not found")


def group_file(pid, controller, v1, v2):
    """Of the process's control group, by version 1's name or version 2's."""
    with open("/proc/%d/cgroup" % pid) as f:
        groups = {c: line.split(":", 2)[2].strip() for line in f for c in line.split(":")[1].split(",")}
    for root in bh.cgroup_roots():
        name = v1 if os.path.basename(root) == controller else v2
        path = os.path.join(root + groups.get(controller if name == v1 else "", "/none"), name)
        if os.path.exists(path):
            with open(path) as f:
                return f.read().strip()
    return ""


# --- terminals ---

def test_terminal(w):
    ctr = w.ctr
    t = Terminal(ctr, "run", "--rm", "-t", w.image, "t1", "/bin/sh", size=(33, 101))
    # ctr tells the size once the process has started, which may be too late for its first command.
    t.type("until stty size | grep .; do sleep 0.1; done; tty\n")
    tap.check(t.shows("33 101") and t.shows("/dev/pts/"), "run -t gives a terminal of the client's size", t.seen)
    t.resize(44, 111)
    tap.check(bh.wait_for(lambda: t.type("stty size\n") or t.shows("44 111", 0.5), 10), "which follows the client's", t.seen)
    e = Terminal(ctr, "tasks", "exec", "-t", "--exec-id", "e", "t1", "/bin/sh", size=(22, 77))
    e.type("until stty size | grep .; do sleep 0.1; done; exit 6\n")
    tap.check(e.shows("22 77"), "tasks exec -t has one of its own", e.seen)
    tap.check(e.end() == 6, "its exit code is ctr's", e.seen)
    e.close()
    t.type("echo $((6*7)); exit 5\n")
    tap.check(t.end() == 5 and "\n42\n" in t.seen, "run -t: its exit code is ctr's", t.seen)
    t.close()
    t = Terminal(ctr, "run", "--rm", "-t", w.image, "t2", "/bin/sh", "-c", "echo ready; cat; exit $?")
    t.shows("ready")
    t.type("\x03")
    tap.check(t.end() == 130, "Ctrl-C reaches what runs at the terminal", (t.process.poll(), t.seen))
    t.close()


def test_attach(w):
    ctr = w.ctr
    shows("containers create -t", ctr("containers", "create", "-t", w.image, "a1", "/bin/sh"))
    shows("containers ls has its image", ctr("containers", "ls"), w.image)
    shows("containers info", ctr("containers", "info", "a1"), '"SnapshotKey": "a1"', '"Snapshotter": "overlayfs"')
    t = Terminal(ctr, "tasks", "start", "a1")
    t.type("echo $((6*7))\n")
    tap.check(t.shows("\n42\n"), "tasks start at a terminal", t.seen)
    t.close()  # the client is killed; its container isn't
    tap.check(ctr.state("a1") == "RUNNING", "outlives its client", ctr("tasks", "ls").out)
    t = Terminal(ctr, "tasks", "attach", "a1")
    tap.check(bh.wait_for(lambda: t.type("echo $((7*8))\n") or t.shows("\n56\n", 0.5), 10), "tasks attach", t.seen)
    t.type("exit 9\n")
    tap.check(t.end() == 9, "its exit code is ctr's, too", t.seen)
    t.close()
    tap.check(ctr.task("a1") is None, "and it has removed the task", ctr("tasks", "ls").out)
    shows("containers rm of what ran at a terminal", ctr("containers", "rm", "a1"))


# --- tasks ---

def test_tasks(w):
    ctr, id = w.ctr, "t"
    ctr("run", "-d", w.image, id, "/bin/sh", "-c", "trap 'exit 3' USR1; while :; do sleep 0.05; done")
    pid, _ = ctr.task(id)
    shows("tasks exec --user, --cwd", ctr("tasks", "exec", "--exec-id", "e1", "--user", "www", "--cwd", "/var", id, "/bin/sh",
                                         "-c", "id -u; id -g; pwd"), "33\n34\n/var\n")
    shows("tasks exec --user by numbers", ctr("tasks", "exec", "--exec-id", "e2", "--user", "12:13", id, "/bin/sh", "-c",
                                             "echo $(id -u) $(id -g)"), "12 13\n")
    refused("tasks exec --cwd of a folder that isn't there", ctr("tasks", "exec", "--exec-id", "e6", "--cwd", "/none", id, "/bin/true"),
            "/none")
    refused("tasks exec of nothing", ctr("tasks", "exec", "--exec-id", "e3", id, "/bin/none"), "/bin/none")
    shows("tasks exec -d", ctr("tasks", "exec", "-d", "--exec-id", "e4", "--log-uri", "file://" + w.path("exec-log"), id,
                               "/bin/sh", "-c", "echo logged; exec sleep 999"))
    tap.check(bh.wait_for(lambda: os.path.exists(w.path("exec-log")) and open(w.path("exec-log")).read() == "logged\n")
              is not None, "tasks exec --log-uri")
    out = shows("tasks ps names the process of Exec", ctr("tasks", "ps", id), str(pid), "e4")
    tap.check(len(out.splitlines()) >= 3, "beside the first", out)
    shows("tasks kill --exec-id", ctr("tasks", "kill", "--exec-id", "e4", "-s", "SIGKILL", id))
    shows("tasks rm --exec-id", bh.wait_for(lambda: delete_exec(ctr, "e4", id), 5) or ctr("tasks", "rm", "--exec-id", "e4", id),
          status=None)
    shows("tasks ps doesn't name it any more", ctr("tasks", "ps", id), str(pid), missing=["e4"])
    shows("tasks pause", ctr("tasks", "pause", id))
    tap.check(ctr.state(id) == "PAUSED", "tasks ls says so", ctr("tasks", "ls").out)
    shows("tasks resume", ctr("tasks", "resume", id))
    tap.check(ctr.state(id) == "RUNNING", "and that it runs again", ctr("tasks", "ls").out)
    shows("tasks metrics", ctr("tasks", "metrics", id), id, "pids.current")
    refused("tasks checkpoint without criu", ctr("tasks", "checkpoint", id), "install criu")
    tap.check(ctr.state(id) == "RUNNING", "has done nothing to it", ctr("tasks", "ls").out)
    shows("tasks kill -s", ctr("tasks", "kill", "-s", "SIGUSR1", id))
    tap.check(bh.wait_for(lambda: ctr.state(id) == "STOPPED") is not None, "sends that signal", ctr("tasks", "ls").out)
    shows("tasks ls -q", ctr("tasks", "ls", "-q"), id + "\n")
    shows("tasks rm says how it ended", ctr("tasks", "rm", id), "exit code 3")
    shows("tasks kill of nothing", ctr("tasks", "kill", id), "not found", status=None)
    ctr("containers", "rm", id)
    for verb in "ps", "pause", "resume", "metrics", "start", "attach", "rm":
        refused("tasks %s of nothing" % verb, ctr("tasks", verb, "none"), "not found")


def delete_exec(ctr, exec_id, id):
    """Once it has ended; ctr's exit code is the process's."""
    r = ctr("tasks", "rm", "--exec-id", exec_id, id)
    return r if r.status == 137 or "137" in r.out else None


def test_checkpoint(w):
    """Without criu what a container has written can be saved; its processes' memory can't, and is what restore begins
    with. With it: test_containerd_checkpoint.py."""
    ctr = w.ctr
    ctr("run", "-d", w.image, "old", "/bin/sh", "-c", "echo kept >/home/file; exec sleep 1000")
    bh.wait_for(lambda: ctr("tasks", "exec", "--exec-id", "e", "old", "/bin/cat", "/home/file").out == "kept\n")
    refused("containers checkpoint --task without criu", ctr("containers", "checkpoint", "--task", "old", "saved:0"),
            "install criu")
    shows("containers checkpoint --rw --image", ctr("containers", "checkpoint", "--rw", "--image", "old", "saved:1"))
    tap.check(ctr.state("old") == "RUNNING", "the container runs on", ctr("tasks", "ls").out)
    index = json.loads(ctr("content", "get", manifest_of(w, "saved:1")).out)
    kinds = [m["mediaType"] for m in index["manifests"]]
    tap.check(any("layer" in k for k in kinds) and any("runtime" in k for k in kinds), "it has the layer written", kinds)
    refused("containers restore without memory", ctr("containers", "restore", "--rw", "new", "saved:1"), "not found")
    ctr.remove("old")
    shows("images rm of a checkpoint", ctr("images", "rm", "--sync", "saved:1"))


# --- the rest ---

def test_containers(w):
    ctr = w.ctr
    shows("containers create of an image", ctr("containers", "create", "--label", "a=b", w.image, "c1", "/bin/echo", "started"))
    shows("containers label, set and cleared", ctr("containers", "label", "c1", "a=", "c=d"), "c=d", missing=["a="])
    shows("and the label is gone", ctr("containers", "info", "c1"), '"c": "d"', missing=['"a": ""'])
    shows("tasks start", ctr("tasks", "start", "c1"), "started\n")
    shows("tasks start -d", ctr("tasks", "start", "-d", "--null-io", "c1"))
    refused("a second task of it", ctr("tasks", "start", "-d", "--null-io", "c1"), "already exists")
    bh.wait_for(lambda: ctr.state("c1") == "STOPPED")
    shows("containers rm of one whose task is over", ctr("containers", "rm", "c1"))
    tap.check(ctr.table("tasks", "ls") == [], "removes the task, too", ctr("tasks", "ls").out)
    shows("containers create again", ctr("containers", "create", w.image, "c1", "/bin/true"))
    shows("containers ls --quiet", ctr("containers", "ls", "-q"), "c1\n")
    shows("containers info --spec", ctr("containers", "info", "--spec", "c1"), '"ociVersion"', missing=["SnapshotKey"])
    shows("containers rm --keep-snapshot", ctr("containers", "rm", "--keep-snapshot", "c1"))
    shows("keeps it", ctr("snapshots", "info", "c1"), '"Kind": "Active"')
    shows("snapshots rm", ctr("snapshots", "rm", "c1"))
    refused("containers rm of nothing", ctr("containers", "rm", "c1"), "not found")


def test_snapshots(w):
    ctr = w.ctr
    chain = next(r[0] for r in ctr.table("snapshots", "ls") if r[-1] == "Committed")
    for key in "s1", "s2":
        shows("snapshots prepare " + key, ctr("snapshots", "prepare", key, chain))
    target = w.path("s2")
    os.makedirs(target)
    command = ctr("snapshots", "mounts", target, "s2").out
    subprocess.run(command, shell=True, check=True)
    with open(target + "/added", "w") as f:
        f.write("x")
    subprocess.run(["umount", target], check=True)
    shows("snapshots diff --keep", ctr("snapshots", "diff", "--keep", "--label", "mine=1", "s2"))
    shows("labels the content", ctr("content", "ls", "labels.mine==1"), "sha256:")
    refused("snapshots diff of two that aren't made on each other", ctr("snapshots", "diff", "s1", "s2"), "not implemented")
    p = subprocess.run(ctr.command("snapshots", "diff", chain, "s2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listed = subprocess.run(["tar", "tzf", "-"], input=p.stdout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    tap.check(p.returncode == 0 and b"added" in listed.split(), "snapshots diff of two", (p.stderr, listed))
    shows("snapshots commit", ctr("snapshots", "commit", "s3", "s2"))

    def held_view():
        """Unlike the others ctr makes it without a label that holds it: it may be collected before it has one."""
        return (ctr("snapshots", "view", "s4", "s3").status == 0 and
                ctr("snapshots", "label", "s4", "containerd.io/gc.root=now").status == 0)
    tap.check(bh.wait_for(held_view), "snapshots view")
    shows("snapshots tree", ctr("snapshots", "tree"), chain, "s3", "s4")
    shows("snapshots label", ctr("snapshots", "label", "s3", "x=y"), "x=y")
    shows("snapshots usage", ctr("snapshots", "usage", "s3"), "s3")
    shows("snapshots rm of several", ctr("snapshots", "rm", "s4", "s3", "s1"))


def test_content(w):
    ctr = w.ctr
    for r in ctr.table("content", "ls", "labels.mine==1"):
        shows("content rm", ctr("content", "rm", r[0]))
    shows("content prune references", ctr("content", "prune", "references"))
    shows("leaves an image without its layers' blobs", ctr("images", "check"), "incomplete (1/2)", "true")
    shows("which runs from its snapshots", w.run("pruned", "/bin/echo", "still"), "still\n")
    shows("images pull brings them again", ctr("images", "pull", "--plain-http", w.image), "done")
    shows("and the image is whole", ctr("images", "check"), " complete (2/2)", "true")
    config = json.loads(ctr("content", "get", manifest_of(w, w.image)).out)["config"]["digest"]
    shows("content get", ctr("content", "get", config), "COLOR=blue")
    shows("content fetch-object by digest", ctr("content", "fetch-object", "--plain-http",
                                               "%s@%s" % (w.image.rsplit(":", 1)[0], manifest_of(w, w.image))), "schemaVersion")
    refused("content label of nothing", ctr("content", "label", "sha256:" + "0" * 64, "a=b"), "not found")


def test_leases(w):
    ctr = w.ctr
    shows("leases create --expires", ctr("leases", "create", "--id", "brief", "--expires", "1h", "x=y"), "brief")
    shows("leases ls says when it ends", ctr("leases", "ls"), "brief", "x=y", "containerd.io/gc.expire=")
    shows("leases ls with a filter", ctr("leases", "ls", "-q", "labels.x==y"), "brief")
    name = shows("leases create names it by itself", ctr("leases", "create")).strip()
    shows("leases rm --sync", ctr("leases", "rm", "--sync", "brief", name))
    refused("leases rm of nothing", ctr("leases", "rm", "brief"), "not found")


def test_events(w):
    """What a run is told as: each step once, in order."""
    wanted = ["/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete",
              "/containers/delete", "/snapshot/remove"]
    follower = w.ctr.start("events")
    os.set_blocking(follower.stdout.fileno(), False)
    seen = b""

    def saw(text):
        nonlocal seen
        seen += follower.stdout.read() or b""
        return text in seen

    def told():
        """Of this run: what earlier ones have left is collected, and told, whenever that is."""
        saw(b"")
        lines = [line.split() for line in seen.decode().rpartition("\n")[0].splitlines() if '"told"' in line]
        return [word for line in lines for word in line if word in wanted]
    bh.wait_for(lambda: w.ctr("images", "label", w.image, "heard=1") and saw(b"/images/update"), 20, 0.1)
    w.run("told", "/bin/true")
    bh.wait_for(lambda: len(told()) >= len(wanted), 40)
    follower.terminate()
    follower.wait()
    topics = told()
    # A container's snapshot goes when it is collected: before ctr has removed the container, or after.
    tap.check(sorted(topics) == sorted(wanted) and [t for t in topics if t.startswith("/tasks/")] == wanted[2:6],
              "events of run --rm", seen.decode())


def test_many(w):
    before = w.ctr.truth()
    many = [w.ctr.start("run", "--rm", w.image, "many%d" % i, "/bin/echo", "number %d" % i) for i in range(MANY)]
    ended = [(p.communicate(timeout=120)[0].decode(), p.returncode) for p in many]
    tap.check(ended == [("number %d\n" % i, 0) for i in range(MANY)], "run --rm, twenty in parallel", ended)
    check_nothing_left(w, before, "nothing of them is left: fifo, mount, control group, snapshot, keeper, lease")


def check_nothing_left(w, before, name):
    rest = [None]

    def same():
        rest[0] = differences(before, w.ctr.truth())
        return not rest[0]
    tap.check(bh.wait_for(same, 10, 0.2), name, rest[0])


def test_end(w):
    shows("images rm --sync", w.ctr("images", "rm", "--sync", w.image))
    for kind in "images", "content", "snapshots", "leases", "containers", "tasks":
        tap.check(w.ctr.table(kind, "ls") == [], "no %s" % kind, w.ctr(kind, "ls").out)
    blobs = os.path.join(w.daemon.state, "content", "blobs", "sha256")
    tap.check(bh.wait_for(lambda: not os.listdir(blobs) and not w.ctr.truth()["layers"], 20), "nor on the disk",
              (os.listdir(blobs), w.ctr.truth()["layers"]))


def test_all(w):
    test_images(w)
    before = w.ctr.truth()
    for test in (test_archives, test_mount, test_run, test_limits, test_terminal, test_attach, test_tasks, test_checkpoint,
                 test_containers, test_snapshots, test_content, test_leases, test_events):
        test(w)
        check_nothing_left(w, before, "%s leaves nothing" % test.__name__)
    test_many(w)
    test_end(w)


def main():
    bh.isolate()
    if not there():
        tap.skip("each command of ctr", "no ctr (Debian's package containerd)")
        tap.done()
    own_fifos()
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        w = World(folder, registry)
        try:
            test_all(w)
            tap.check(w.daemon.stop() == 0, "SIGTERM ends the daemon with success", w.daemon.log_tail())
        except Exception:  # the log says why
            import traceback
            tap.check(False, "the test runs to its end", traceback.format_exc())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in w.daemon.log_tail(60).splitlines()))
            w.daemon.kill() if w.daemon.process.poll() is None else None
            w.daemon.remove_cgroups()
            w.ctr.remove_parents()
            registry.stop()
    tap.done()


main()
