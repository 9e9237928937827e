"""containerd's Diff: layers unpacked into snapshots and made of them, as ctr does it when it imports, mounts and diffs;
what the CRI and other namespaces share of that; there and back, file by file; and what is left when workers are killed."""

import gzip
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()
NS = "default"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def ctr(d, *args, namespace=NS, ok=True):
    """(exit status is as expected, output)"""
    p = subprocess.run(["ctr", "-a", d.containerd, "-n", namespace] + list(args), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return (p.returncode == 0) == ok, p.stdout.decode(errors="replace")


def shows(d, name, args, *texts, missing=(), **kwargs):
    good, output = ctr(d, *args, **kwargs)
    tap.check(good and all(t in output for t in texts) and not any(t in output for t in missing), name, output[-600:])
    return output


# --- layers and images ---

def layer(entries):
    """A tar of (name, type, {attributes}, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, kind, attributes, content in entries:
            i = tarfile.TarInfo(name)
            i.type, i.mtime, i.mode, i.size = kind, 1500000000, 0o755 if kind == tarfile.DIRTYPE else 0o644, len(content)
            for key, value in attributes.items():
                setattr(i, key, value)
            t.addfile(i, io.BytesIO(content))
    return out.getvalue()


BOTTOM = layer([
    ("bin", tarfile.DIRTYPE, {}, b""),
    ("bin/tool", tarfile.REGTYPE, {"mode": 0o4755, "uid": 7, "gid": 8}, b"tool"),
    ("bin/same", tarfile.LNKTYPE, {"linkname": "bin/tool"}, b""),
    ("bin/link", tarfile.SYMTYPE, {"linkname": "tool"}, b""),
    ("etc", tarfile.DIRTYPE, {"mode": 0o750, "gid": 5}, b""),
    ("etc/keep", tarfile.REGTYPE, {"pax_headers": {"SCHILY.xattr.user.note": "hello"}}, b"keep"),
    ("etc/gone", tarfile.REGTYPE, {}, b"gone"),
    ("var", tarfile.DIRTYPE, {}, b""),
    ("var/old", tarfile.REGTYPE, {}, b"old"),
    ("fifo", tarfile.FIFOTYPE, {}, b""),
    ("null", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3}, b""),
])
TOP = layer([
    ("etc/.wh.gone", tarfile.REGTYPE, {}, b""),
    ("var", tarfile.DIRTYPE, {}, b""),
    ("var/.wh..wh..opq", tarfile.REGTYPE, {}, b""),
    ("var/new", tarfile.REGTYPE, {}, b"new"),
    ("etc/added", tarfile.REGTYPE, {}, b"added"),
])


class Image:
    """An OCI archive of these layers: a file for `ctr images import` and skopeo."""

    def __init__(self, folder, name, layers):
        self.layers = [gzip.compress(x, mtime=0) for x in layers]
        self.diff_ids = [digest(x) for x in layers]
        self.chain = [self.diff_ids[0]]
        for x in self.diff_ids[1:]:
            self.chain.append(digest(("%s %s" % (self.chain[-1], x)).encode()))
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/tool"]},
                             "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}).encode()
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [self.descriptor(LAYER + "+gzip", x) for x in self.layers]}).encode()
        target = self.descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
        target["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "latest"}
        self.digest, self.path = target["digest"], os.path.join(folder, "image-%s.tar" % self.chain[-1][7:19])
        with tarfile.open(self.path, "w") as t:
            self.add(t, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
            self.add(t, "index.json", json.dumps({"schemaVersion": 2, "manifests": [target]}).encode())
            for blob in [config, manifest] + self.layers:
                self.add(t, "blobs/sha256/" + digest(blob)[7:], blob)

    @staticmethod
    def descriptor(kind, blob):
        return {"mediaType": kind, "digest": digest(blob), "size": len(blob)}

    @staticmethod
    def add(t, name, data):
        i = tarfile.TarInfo(name)
        i.size = len(data)
        t.addfile(i, io.BytesIO(data))


# --- a client made from proto/ ---

class Client:
    def __init__(self, d, namespace=NS):
        import grpc
        self.s, sg, self.f, fg, self.c, cg, self.types, _ = bh.stubs_of(
            "containerd/snapshots.proto", "containerd/diff.proto", "containerd/content.proto", "containerd/types.proto")
        self.channel = grpc.insecure_channel("unix://" + d.containerd, options=[
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)])
        self.snapshots, self.diff = sg.SnapshotsStub(self.channel), fg.DiffStub(self.channel)
        self.content = cg.ContentStub(self.channel)
        self.namespace = namespace

    def call(self, method, request):
        """(reply, error), one of them None"""
        import grpc
        try:
            return method(request, metadata=[("containerd-namespace", self.namespace)], timeout=30), None
        except grpc.RpcError as e:
            return None, e

    def put(self, blob, media_type=LAYER):
        c = self.c
        _, error = self.call(lambda q, **k: list(self.content.Write(iter([q]), **k)), c.WriteContentRequest(
            action=c.COMMIT, ref="put-" + digest(blob), data=blob, total=len(blob), expected=digest(blob),
            labels={"containerd.io/gc.root": "1"}))
        assert error is None or "already exists" in error.details(), error
        return self.types.Descriptor(media_type=media_type, digest=digest(blob), size=len(blob))

    def read(self, d):
        parts, error = self.call(lambda q, **k: list(self.content.Read(q, **k)), self.c.ReadContentRequest(digest=d))
        return b"".join(p.data for p in parts) if parts else error

    def prepare(self, key, parent="", **labels):
        return self.call(self.snapshots.Prepare, self.s.PrepareSnapshotRequest(
            snapshotter="overlayfs", key=key, parent=parent, labels={"containerd.io/gc.root": "1", **labels}))

    def view(self, key, parent=""):
        return self.call(self.snapshots.View, self.s.ViewSnapshotRequest(
            snapshotter="overlayfs", key=key, parent=parent, labels={"containerd.io/gc.root": "1"}))

    def mounts(self, key):
        return self.call(self.snapshots.Mounts, self.s.MountsRequest(snapshotter="overlayfs", key=key))

    def commit(self, name, key):
        return self.call(self.snapshots.Commit, self.s.CommitSnapshotRequest(
            snapshotter="overlayfs", name=name, key=key, labels={"containerd.io/gc.root": "1"}))

    def stat(self, key):
        return self.call(self.snapshots.Stat, self.s.StatSnapshotRequest(snapshotter="overlayfs", key=key))

    def remove(self, key):
        return self.call(self.snapshots.Remove, self.s.RemoveSnapshotRequest(snapshotter="overlayfs", key=key))

    def apply(self, blob, mounts):
        return self.call(self.diff.Apply, self.f.ApplyRequest(diff=blob, mounts=mounts))

    def make(self, left, right, media_type="", **more):
        return self.call(self.diff.Diff, self.f.DiffRequest(left=left, right=right, media_type=media_type, ref="diff",
                                                            labels={"containerd.io/gc.root": "1"}, **more))


def refused(error, code, text=""):
    return error is not None and error.code().name == code and text in error.details()


# --- trees ---

class Mounted:
    def __init__(self, d, mounts):
        self.target = tempfile.mkdtemp(dir=d.folder, prefix="mnt-")
        for m in mounts:
            subprocess.run(["mount", "-t", m.type, m.source, self.target, "-o", ",".join(m.options)], check=True)

    def __enter__(self):
        return self.target

    def __exit__(self, *_):
        subprocess.run(["umount", self.target], check=True)


def tree(root):
    """Everything that a layer carries, by path."""
    seen, inodes = {}, {}
    for folder, folders, files in os.walk(root):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            st, rel = os.lstat(path), os.path.relpath(path, root)
            one = [st.st_mode, st.st_uid, st.st_gid, int(st.st_mtime), st.st_rdev]
            one.append({x: os.getxattr(path, x, follow_symlinks=False) for x in os.listxattr(path, follow_symlinks=False)
                        if not x.startswith("trusted.")})
            if os.path.islink(path):
                one.append(os.readlink(path))
            elif os.path.isfile(path):
                one.append(open(path, "rb").read())
            if st.st_nlink > 1 and not os.path.isdir(path):
                inodes.setdefault(st.st_ino, []).append(rel)
            seen[rel] = one
    return seen, sorted(sorted(x) for x in inodes.values())


def difference(a, b):
    return [(p, a[0].get(p), b[0].get(p)) for p in sorted(set(a[0]) | set(b[0])) if a[0].get(p) != b[0].get(p)][:5] + \
        ([] if a[1] == b[1] else [(a[1], b[1])])


def folders(d):
    return sorted(n for n in os.listdir(os.path.join(d.folder, "state", "layers")) if not n.startswith("."))


def writable(d):
    return sorted(os.listdir(os.path.join(d.folder, "state", "layers", ".writable")))


# --- tests ---

def test_import(d, client, image, name):
    shows(d, "images import unpacks", ["images", "import", image.path], "unpacking")
    shows(d, "its layers are snapshots by their chain ids", ["snapshots", "ls"], *image.chain)
    tap.check(len(folders(d)) == 2, "each is one folder", folders(d))
    reply, error = client.view("look", image.chain[-1])
    with Mounted(d, reply.mounts) as m:
        seen = tree(m)[0]
        tap.check("etc/gone" not in seen and "var/old" not in seen and seen["var/new"][-1] == b"new",
                  "whiteouts and an opaque folder hide", sorted(seen))
        tap.check(seen["bin/tool"][0] & 0o7777 == 0o4755 and seen["bin/tool"][1:3] == [7, 8],
                  "owner and mode are the layer's", seen["bin/tool"])
        tap.check(seen["etc"][0] & 0o7777 == 0o750 and seen["etc"][2] == 5,
                  "a folder that the upper layer doesn't name keeps its attributes", seen["etc"])
        tap.check(seen["etc/keep"][5] == {"user.note": b"hello"}, "extended attributes are there", seen["etc/keep"])
    client.remove("look")
    target = os.path.join(d.folder, "image-mount")
    os.makedirs(target)
    shows(d, "images mount", ["images", "mount", name, target])
    tap.check(os.path.exists(os.path.join(target, "etc/added")), "shows the image", os.listdir(target))
    shows(d, "images unmount", ["images", "unmount", "--rm", target])


def test_unpack(d, image):
    shows(d, "images import without unpacking", ["images", "import", "--no-unpack", image.path], namespace="raw")
    shows(d, "makes no snapshots", ["snapshots", "ls"], namespace="raw", missing=image.chain)
    shows(d, "snapshots unpack", ["snapshots", "unpack", image.digest], "done", namespace="raw")
    shows(d, "makes them", ["snapshots", "ls"], *image.chain, namespace="raw")
    shows(d, "usage of a layer", ["snapshots", "usage", "-b", image.chain[0]], image.chain[0], namespace="raw")
    shows(d, "again finds them", ["snapshots", "unpack", image.digest], namespace="raw")


def test_shared(d, image, registry):
    before = folders(d)
    shows(d, "another namespace imports the same", ["images", "import", image.path], "unpacking", namespace="two")
    shows(d, "and has the same snapshots", ["snapshots", "ls"], *image.chain, namespace="two")
    tap.check(folders(d) == before, "in the same folders", "%s %s" % (before, folders(d)))
    two = Client(d, "three")
    _, error = two.prepare("x", **{"containerd.io/snapshot.ref": image.chain[0]})
    tap.check(refused(error, "ALREADY_EXISTS", "target snapshot"), "a layer that is here needn't be unpacked", error)
    reply, error = two.stat(image.chain[0])
    tap.check(reply is not None and reply.info.kind == two.s.COMMITTED, "and is a snapshot of the namespace", error)
    _, error = two.prepare("x", parent=image.chain[0], **{"containerd.io/snapshot.ref": image.chain[1]})
    tap.check(refused(error, "ALREADY_EXISTS"), "so is the next one", error)
    for key in image.chain[1], image.chain[0]:
        two.remove(key)
    _, error = two.prepare("y", **{"containerd.io/snapshot.ref": image.chain[1]})
    tap.check(error is None, "not on another parent", error)
    two.remove("y")
    bh.push("oci-archive:" + image.path, registry, "shared:latest")
    cri = d.client()
    cri.images.PullImage(cri.pb.PullImageRequest(image=cri.pb.ImageSpec(image=registry.host + "/shared:latest")))
    tap.check(folders(d) == before, "a pull by the CRI finds the layers", "%s %s" % (before, folders(d)))
    shows(d, "the CRI's layers show in k8s.io", ["snapshots", "ls"], *image.chain, namespace="k8s.io")
    kube = Client(d, "k8s.io")
    reply, error = kube.prepare("mine", image.chain[1])
    tap.check(error is None, "and others can be made on them", error)
    _, error = kube.remove(image.chain[1])
    tap.check(refused(error, "FAILED_PRECONDITION", "belongs to the CRI"), "they are the CRI's to remove", error)
    kube.remove("mine")


CHANGES = """
cd %s; echo changed >> etc/keep; rm etc/added; rm -rf var; mkdir -m 0711 var; echo fresh > var/fresh
ln var/fresh var/again; ln -s fresh var/soft; mkfifo var/pipe; mknod var/zero c 1 5; chown 12:13 var/fresh
mkdir -p "deep/$(printf 'a%%.0s' $(seq 120))/$(printf 'b%%.0s' $(seq 120))"; touch -d 2001-01-01 deep/*/*
chmod 2755 bin; truncate -s 200000 hole; setfattr -n user.more -v there etc/keep 2>/dev/null; rm fifo
"""


def test_there_and_back(d, client, image):
    top = image.chain[-1]
    right, error = client.prepare("work", top)
    left, error = client.view("base", top)
    with Mounted(d, right.mounts) as m:
        subprocess.run(CHANGES % m, shell=True, check=True)
        os.setxattr(os.path.join(m, "var/fresh"), "user.kept", b"\0binary\xff")
        wanted = tree(m)
    shows(d, "snapshots diff writes an archive", ["snapshots", "diff", "work"])
    digests = []
    for media_type, magic in ("", b"\x1f\x8b"), (LAYER, b"bin"), (LAYER + "+zstd", b"\x28\xb5\x2f\xfd"):
        reply, error = client.make(left.mounts, right.mounts, media_type)
        tap.check(error is None, "diff as %s" % (media_type or "whatever"), error)
        blob = client.read(reply.diff.digest)
        tap.check(blob.startswith(magic) and digest(blob) == reply.diff.digest and len(blob) == reply.diff.size,
                  "the content is what it says", blob[:16])
        key = "back-" + reply.diff.digest[7:15]
        mounts, _ = client.prepare(key, top)
        applied, error = client.apply(reply.diff, mounts.mounts)
        tap.check(error is None, "and can be applied", error)
        digests.append(applied.applied.digest)
        tap.check(applied.applied.media_type == LAYER, "to what is a plain archive", applied)
        with Mounted(d, mounts.mounts) as m:
            found = tree(m)
            tap.check(found == wanted, "file by file the same", difference(wanted, found))
        client.remove(key)
    tap.check(len(set(digests)) == 1, "however it is compressed", digests)
    reply, _ = client.make(left.mounts, right.mounts, LAYER)
    again, _ = client.make(left.mounts, right.mounts, LAYER)
    tap.check(reply.diff.digest == again.diff.digest == digests[0], "the same again", again)
    reply, error = client.make(left.mounts, right.mounts, LAYER, source_date_epoch={"seconds": 1400000000})
    latest = max(i.mtime for i in tarfile.open(fileobj=io.BytesIO(client.read(reply.diff.digest))))
    tap.check(latest == 1400000000, "no time is later than source_date_epoch", latest)
    _, error = client.make(right.mounts, left.mounts)
    tap.check(refused(error, "UNIMPLEMENTED", "isn't made directly on"), "diff the wrong way round", error)
    _, error = client.make(left.mounts, right.mounts, "text/plain")
    tap.check(refused(error, "UNIMPLEMENTED", "unsupported diff media type"), "diff of another type", error)
    _, error = client.make(left.mounts, [client.types.Mount(type="bind", source="/etc", options=["ro"])])
    tap.check(refused(error, "INVALID_ARGUMENT", "no snapshot"), "diff of a foreign folder", error)
    _, error = client.commit("committed", "work")
    tap.check(error is None, "what was written becomes a layer", error)
    view, error = client.view("see", "committed")
    with Mounted(d, view.mounts) as m:
        found = tree(m)
        tap.check(found == wanted, "with everything that was written", difference(wanted, found))
    for key in "see", "committed", "base":
        _, error = client.remove(key)
        tap.check(error is None, "remove " + key, error)


def status(pid):
    """Lines of /proc/PID/status by name; none when it is gone."""
    try:
        return dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/%s/status" % pid) if ":\t" in line)
    except OSError:
        return {}


def packing(d):
    """The status of the process that packs, once it does: it begins with the worker's own rights."""
    for worker in d.processes().get("snapshot", []):
        for child in open("/proc/%d/task/%d/children" % (worker, worker)).read().split():
            s = status(child)
            if s.get("Name") == "pack" and s.get("Seccomp_filters") == "2":
                return s
    return None


def test_jailed(d, client):
    """Who packs a tree can read it, and nothing else."""
    noise = random.Random(2)
    mounts, _ = client.prepare("jailed")
    with Mounted(d, mounts.mounts) as m:
        for i in range(4):
            with open(os.path.join(m, "f%d" % i), "wb") as f:
                f.write(noise.randbytes(12 << 20))
            os.chmod(os.path.join(m, "f%d" % i), 0)
    seen = []
    watcher = threading.Thread(target=lambda: seen.append(bh.wait_for(lambda: packing(d), 20, 0.001)))
    watcher.start()
    reply, error = client.make([], mounts.mounts)
    watcher.join()
    s = seen[0] or {}
    tap.check(error is None and reply.diff.size > 48 << 20, "diff of what only its owner may read", error)
    tap.check([int(s.get(k, "-1"), 16) for k in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [1 << 2, 1 << 2, 0, 0],
              "the process that packs has CAP_DAC_READ_SEARCH and no other", s)
    tap.check(s.get("NoNewPrivs") == "1" and s.get("Seccomp") == "2" and s.get("Uid", "0").split()[0] != "0",
              "a filter of its own, and isn't root", s)
    client.remove("jailed")


def test_run(d, client, folder):
    """From an archive to a container and back: what a container writes is a layer on its image."""
    busybox = layer([("bin", tarfile.DIRTYPE, {}, b""),
                     ("bin/busybox", tarfile.REGTYPE, {"mode": 0o755}, open("/bin/busybox", "rb").read())])
    name = "example.com/busybox:latest"
    image = Image(folder, name, [busybox])
    shows(d, "images import of something to run", ["images", "import", image.path], "unpacking")
    shows(d, "run has the image's files", ["run", name, "box", "/bin/busybox", "sh", "-c",
                                           "echo made > /made; /bin/busybox ls /bin"], "busybox")
    shows(d, "its snapshot is on the image's layer", ["snapshots", "info", "box"], '"Kind": "Active"', image.chain[0])
    tap.check("/box" not in open("/proc/self/mountinfo").read(), "no mount of it is left")
    mounts, error = client.mounts("box")
    left, _ = client.view("box-base", image.chain[0])
    reply, error = client.make(left.mounts, mounts.mounts, LAYER)
    tap.check(error is None, "what it wrote can be packed", error)
    names = tarfile.open(fileobj=io.BytesIO(client.read(reply.diff.digest))).getnames()
    tap.check("made" in names and "bin/busybox" not in names, "that alone", names)
    with Mounted(d, mounts.mounts) as m:
        tap.check(open(os.path.join(m, "made")).read() == "made\n", "and mounted by a client afterwards")
    shows(d, "a second start finds it", ["run", "--rm", "--snapshotter", "overlayfs", name, "box2", "/bin/busybox",
                                         "echo", "again"], "again")
    ctr(d, "containers", "rm", "box")
    client.remove("box")
    client.remove("box-base")
    shows(d, "images rm", ["images", "rm", "--sync", name])
    tap.check(bh.wait_for(lambda: "Active" not in ctr(d, "snapshots", "ls")[1], 5), "its snapshot goes with it",
              ctr(d, "snapshots", "ls"))
    tap.check(bh.wait_for(lambda: len(folders(d)) == 2, 40), "and what nothing leads to", folders(d))


def test_refused(d, client, image):
    good = client.put(image.layers[0], LAYER + "+gzip")
    mounts, _ = client.prepare("r1")
    foreign = [client.types.Mount(type="bind", source="/tmp", options=["rw", "rbind"])]
    _, error = client.apply(good, foreign)
    tap.check(refused(error, "INVALID_ARGUMENT", "no snapshot"), "apply to a foreign folder", error)
    missing = client.types.Descriptor(media_type=LAYER, digest=digest(b"none"), size=4)
    _, error = client.apply(missing, mounts.mounts)
    tap.check(refused(error, "NOT_FOUND"), "apply of what isn't there", error)
    wrong = client.types.Descriptor(media_type=LAYER + "+gzip", digest=good.digest, size=good.size + 1)
    _, error = client.apply(wrong, mounts.mounts)
    tap.check(refused(error, "INVALID_ARGUMENT", "bytes"), "apply of another size", error)
    other = client.types.Descriptor(media_type="application/json", digest=good.digest, size=good.size)
    _, error = client.apply(other, mounts.mounts)
    tap.check(refused(error, "UNIMPLEMENTED", "no type of a layer"), "apply of what is no layer", error)
    _, error = client.apply(client.put(b"this is no archive" * 100), mounts.mounts)
    tap.check(error is not None, "apply of what is no archive", error)
    _, error = client.apply(client.put(layer([("../out", tarfile.REGTYPE, {}, b"x")])), mounts.mounts)
    tap.check(error is not None and "leads out" in error.details(), "apply of what leads out of it", error)
    reply, error = client.apply(good, mounts.mounts)
    tap.check(error is None and reply.applied.digest == image.diff_ids[0], "after all that the snapshot is as it was",
              error)
    _, error = client.apply(good, mounts.mounts)
    tap.check(refused(error, "FAILED_PRECONDITION", "something in it already"), "apply to what isn't empty", error)
    view, _ = client.view("r2", image.chain[0])
    _, error = client.apply(good, view.mounts)
    tap.check(refused(error, "FAILED_PRECONDITION", "read-only"), "apply to a view", error)
    before = folders(d)
    _, error = client.commit("mine", "r1")
    tap.check(error is None and folders(d) == before, "what was applied is the layer that is here", folders(d))
    mounts, _ = client.prepare("r3")
    client.apply(good, mounts.mounts)
    with Mounted(d, mounts.mounts) as m:
        open(os.path.join(m, "etc/keep"), "a").write("more")
    _, error = client.commit("touched", "r3")
    tap.check(error is None and len(folders(d)) == len(before) + 1, "what was written to since is one of its own",
              folders(d))
    for key in "r2", "mine", "touched":
        client.remove(key)


def kill(d, name):
    for pid in d.processes().get(name, []):
        os.kill(pid, signal.SIGKILL)


def in_place(d):
    room = os.path.join(d.folder, "state", "layers", ".writable")
    return any(os.listdir(os.path.join(room, n, "fs")) for n in os.listdir(room) if os.path.isdir(os.path.join(room, n, "fs")))


def test_killed_in_place(d, client, blob):
    """The snapshot worker is killed when what it has unpacked is in its place, before it has said so."""
    for i in range(10):
        key = "p%d" % i
        mounts, _ = client.prepare(key)
        killer = threading.Thread(target=lambda: bh.wait_for(lambda: in_place(d), 10, 0) and kill(d, "snapshot"))
        killer.start()
        _, error = client.apply(blob, mounts.mounts)
        killer.join()
        bh.wait_for(lambda: client.remove(key)[1] is None, 10)
        bh.wait_for(lambda: not writable(d), 10)
        if error:
            break
    if error:
        tap.check(refused(error, "ABORTED", "remove the snapshot, prepare it again"),
                  "killed before it could say what is in its place: ABORTED says what to do", error)
    else:
        tap.skip("killed before it could say what is in its place", "it has always been faster than the killer")


def test_killed(d, client):
    noise = random.Random(1)
    big = layer([("f%d" % i, tarfile.REGTYPE, {}, noise.randbytes(20000)) for i in range(600)])
    blob = client.put(big)
    tap.check(bh.wait_for(lambda: len(folders(d)) == 2, 10), "removed layers go", folders(d))
    kept = folders(d)
    for i, (name, applying, committing) in enumerate([("snapshot", 0.05, 0.01), ("metadata", 0.03, 0.005),
                                                      ("image", 0.0, 0.0)]):
        key = "k%d" % i
        mounts, error = client.prepare(key)
        tap.check(error is None, "prepare", error)
        timer = threading.Timer(applying, kill, (d, name))
        timer.start()
        reply, error = client.apply(blob, mounts.mounts)
        timer.join()
        if error:  # another one then, as clients do
            tap.check(error.code().name in ("UNAVAILABLE", "ABORTED"),
                      "the %s worker killed while applying says so" % name, error)
            tap.check(bh.wait_for(lambda: refused(client.remove(key)[1], "NOT_FOUND"), 10), "remove what is half done")
            key += "b"
            mounts, error = client.prepare(key)
            reply, error = client.apply(blob, mounts.mounts)
        tap.check(error is None and reply.applied.digest == digest(big), "apply with the %s worker killed" % name, error)
        timer = threading.Timer(committing, kill, (d, name))
        timer.start()
        _, error = client.commit("c%d" % i, key)
        timer.join()
        found = bh.wait_for(lambda: client.stat("c%d" % i)[0], 10)
        tap.check(error is None and found is not None, "commit with the %s worker killed" % name, error)
        gone = bh.wait_for(lambda: refused(client.stat(key)[1], "NOT_FOUND"), 10)
        tap.check(gone, "nothing is left of what it was", client.stat(key))
        view, error = client.view("v%d" % i, "c%d" % i)
        with Mounted(d, view.mounts) as m:
            tap.check(len(os.listdir(m)) == 600, "the layer is whole", len(os.listdir(m)))
        for one in "v%d" % i, "c%d" % i:
            _, error = client.remove(one)
            tap.check(error is None, "remove", error)
        bh.wait_for(lambda: folders(d) == kept, 10)  # so that the next one isn't shared
    test_killed_in_place(d, client, blob)
    tap.check(bh.wait_for(lambda: folders(d) == kept and not writable(d), 30), "nothing is left on the disk",
              "%s %s %s %s" % (kept, folders(d), writable(d), ctr(d, "snapshots", "ls")))


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        d = bh.Daemon(folder, cni=False)
        try:
            registry = bh.Registry(folder)
            d.start()
            name = "example.com/two:latest"
            image = Image(folder, name, [BOTTOM, TOP])
            client = Client(d)
            test_import(d, client, image, name)
            test_unpack(d, image)
            test_shared(d, image, registry)
            test_there_and_back(d, client, image)
            test_run(d, client, folder)
            test_jailed(d, client)
            test_refused(d, client, image)
            test_killed(d, client)
            registry.stop()
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception as e:  # the log says why
            import traceback
            tap.check(False, "the test runs to its end", repr(e) + traceback.format_exc())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
