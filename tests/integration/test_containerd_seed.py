"""containerd's first API (May 2017) by a client made from its .proto files: every call of its services, what each answers
and what each refuses. A client of today's API sees the same objects, in a process of its own (see stubs_of)."""

import hashlib
import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
from criu import Fake  # noqa: E402

tap = bh.Tap()
# Loaded once the program is isolated.
grpc = c = x = types = images = content = snaps = diffs = version = None
c_grpc = x_grpc = images_grpc = content_grpc = snaps_grpc = diffs_grpc = version_grpc = None


class Client:
    """Stubs of each service; called has the names of all calls that were made."""

    def __init__(self, d):
        from google.protobuf import empty_pb2
        self.called = set()
        self.folder = d.folder
        self.channel = self.noting(grpc.insecure_channel("unix://" + d.containerd, options=[
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]))
        self.empty = empty_pb2.Empty()
        self.containers = c_grpc.ContainersStub(self.channel)
        self.tasks = x_grpc.TasksStub(self.channel)
        self.images = images_grpc.ImagesStub(self.channel)
        self.content = content_grpc.ContentStub(self.channel)
        self.snapshots = snaps_grpc.SnapshotStub(self.channel)
        self.diffs = diffs_grpc.DiffStub(self.channel)
        self.version = version_grpc.VersionStub(self.channel)

    def noting(self, channel):
        called = self.called

        class Interceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor,
                          grpc.StreamStreamClientInterceptor):
            def intercept_unary_unary(self, proceed, details, request):
                called.add(details.method)
                return proceed(details, request)
            intercept_unary_stream = intercept_stream_stream = intercept_unary_unary
        return grpc.intercept_channel(channel, Interceptor())

    def close(self):
        self.channel.close()


class Events:
    """All events since it was made."""

    def __init__(self, client):
        self.list = []
        self.call = client.tasks.Events(x.EventsRequest())
        threading.Thread(target=self._follow, daemon=True).start()
        time.sleep(0.3)  # nothing says when a subscription has begun

    def _follow(self):
        try:
            for e in self.call:
                self.list.append(e)
        except grpc.RpcError:
            pass

    def wait(self, kind, container, pid=None):
        def found():
            for e in self.list:
                if e.type == types.Event.EventType.Value(kind) and e.id == container and pid in (None, e.pid):
                    return e
        return bh.wait_for(found)

    def kinds(self, container):
        return [types.Event.EventType.Name(e.type) for e in self.list if e.id == container]


def fails(name, code, call, request, *texts):
    e = bh.error_of(call, request, timeout=20)
    tap.check(e is not None and e.code() == code and all(t in e.details() for t in texts), name, e)


def spec(root, *args, terminal=False):
    from google.protobuf import any_pb2
    value = {
        "ociVersion": "1.0.0-rc5", "platform": {"os": "linux", "arch": "amd64"},
        "process": {"terminal": terminal, "user": {"uid": 0, "gid": 0}, "args": list(args), "cwd": "/",
                    "env": ["PATH=/bin", "TERM=xterm"]},
        "root": {"path": root}, "hostname": "seed",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                   {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]}],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]},
    }
    return any_pb2.Any(type_url="https://github.com/opencontainers/runtime-spec/1.0.0-rc5",
                       value=json.dumps(value).encode())


def process(*args, terminal=False):
    from google.protobuf import any_pb2
    value = {"terminal": terminal, "user": {"uid": 0, "gid": 0}, "args": list(args), "cwd": "/", "env": ["PATH=/bin"]}
    return any_pb2.Any(type_url="types.containerd.io/process", value=json.dumps(value).encode())


def container(name, root, *args, labels=(), terminal=False):
    return c.Container(id=name, labels=dict(labels), image="img", runtime="linux",
                       spec=spec(root, *args, terminal=terminal))


# --- Containers ---

def test_containers(client, root):
    one = container("c1", root, "/bin/true", labels={"app": "shop"})
    made = client.containers.Create(c.CreateContainerRequest(container=one)).container
    tap.check(made == one, "Containers.Create answers with what was made", made)
    fails("a second of that id", grpc.StatusCode.ALREADY_EXISTS, client.containers.Create,
          c.CreateContainerRequest(container=one), '"c1"')
    fails("an id that is none", grpc.StatusCode.INVALID_ARGUMENT, client.containers.Create,
          c.CreateContainerRequest(container=container("not/one", root, "/bin/true")), "not/one")
    fails("no container at all", grpc.StatusCode.INVALID_ARGUMENT, client.containers.Create, c.CreateContainerRequest())
    fails("a container without a runtime", grpc.StatusCode.INVALID_ARGUMENT, client.containers.Create,
          c.CreateContainerRequest(container=c.Container(id="c2", spec=spec(root, "/bin/true"))), "runtime")
    got = client.containers.Get(c.GetContainerRequest(id="c1")).container
    tap.check(got == one, "Containers.Get", got)
    fails("Get of one that isn't there", grpc.StatusCode.NOT_FOUND, client.containers.Get, c.GetContainerRequest(id="none"),
          '"none"')
    client.containers.Create(c.CreateContainerRequest(container=container("c2", root, "/bin/true")))
    names = sorted(i.id for i in client.containers.List(c.ListContainersRequest()).containers)
    tap.check(names == ["c1", "c2"], "Containers.List", names)
    names = [i.id for i in client.containers.List(c.ListContainersRequest(filter="labels.app==shop")).containers]
    tap.check(names == ["c1"], "Containers.List with a filter", names)
    fails("a filter that is none", grpc.StatusCode.INVALID_ARGUMENT, client.containers.List,
          c.ListContainersRequest(filter="=="))


def test_update(client, root):
    from google.protobuf import field_mask_pb2

    def update(other, *paths):
        mask = field_mask_pb2.FieldMask(paths=paths) if paths else None
        return c.UpdateContainerRequest(container=other, update_mask=mask)
    other = c.Container(id="c1", labels={"tier": "web"}, image="other", rootfs="snap")
    got = client.containers.Update(update(other, "labels")).container
    tap.check(dict(got.labels) == {"tier": "web"} and got.image == "img", "Containers.Update of one field", got)
    got = client.containers.Update(update(other, "image", "rootfs")).container
    tap.check(got.image == "other" and got.rootfs == "snap" and got.spec.value, "of two, one of them the rootfs", got)
    whole = container("c1", root, "/bin/false")
    got = client.containers.Update(update(whole)).container
    tap.check(got == whole, "without a mask all that may change does", got)
    for path in ("runtime", "id", "nonsense"):
        fails("a mask with " + path, grpc.StatusCode.INVALID_ARGUMENT, client.containers.Update, update(other, path), path)
    fails("Update of one that isn't there", grpc.StatusCode.NOT_FOUND, client.containers.Update,
          update(c.Container(id="none"), "labels"), '"none"')
    client.containers.Delete(c.DeleteContainerRequest(id="c1"))
    fails("Containers.Delete: it is gone", grpc.StatusCode.NOT_FOUND, client.containers.Get, c.GetContainerRequest(id="c1"))
    fails("Delete of one that isn't there", grpc.StatusCode.NOT_FOUND, client.containers.Delete,
          c.DeleteContainerRequest(id="c1"), '"c1"')
    client.containers.Delete(c.DeleteContainerRequest(id="c2"))


# --- Images, Content, Version ---

PLAIN = "application/vnd.oci.image.layer.v1.tar"
DIGEST = "sha256:" + hashlib.sha256(b"0123456789").hexdigest()


def test_images(client):
    one = images.Image(name="docker.io/library/a:1", labels="anything at all",
                       target=types.Descriptor(media_type="application/x", digest=DIGEST, size=10))
    client.images.Put(images.PutRequest(image=one))
    got = client.images.Get(images.GetRequest(name=one.name)).image
    tap.check(got == one, "Images.Put and Get", got)
    one.target.digest = "sha256:" + "1" * 64
    one.labels = ""
    client.images.Put(images.PutRequest(image=one))
    got = client.images.List(images.ListRequest()).images
    tap.check(list(got) == [one], "a second Put moves the name; List", got)
    fails("Put of no digest", grpc.StatusCode.INVALID_ARGUMENT, client.images.Put,
          images.PutRequest(image=images.Image(name="b", target=types.Descriptor(digest="md5:1"))), "digest")
    fails("Put of nothing", grpc.StatusCode.INVALID_ARGUMENT, client.images.Put, images.PutRequest())
    fails("Get of one that isn't there", grpc.StatusCode.NOT_FOUND, client.images.Get, images.GetRequest(name="none"),
          '"none"')
    client.images.Delete(images.DeleteRequest(name=one.name))
    fails("Delete of one that is gone", grpc.StatusCode.NOT_FOUND, client.images.Delete,
          images.DeleteRequest(name=one.name))


def write(client, *actions):
    """The answers to each of the requests."""
    return list(client.content.Write(iter([content.WriteRequest(ref="w1", **a) for a in actions]), timeout=20))


def test_content(client):
    answers = write(client, {"action": content.STAT, "total": 10}, {"action": content.WRITE, "data": b"01234"})
    tap.check([a.offset for a in answers] == [0, 5], "Content.Write of a part", answers)
    for regexp in ("", "^w[0-9]$", '"|w'):
        got = client.content.Status(content.StatusRequest(regexp=regexp)).statuses
        tap.check([(s.ref, s.offset, s.total) for s in got] == [("w1", 5, 10)], "Content.Status of %r" % regexp, got)
    got = client.content.Status(content.StatusRequest(regexp="^x")).statuses
    tap.check(len(got) == 0, "and of what matches nothing", got)
    fails("Status of no expression", grpc.StatusCode.INVALID_ARGUMENT, client.content.Status,
          content.StatusRequest(regexp="("))
    e = bh.error_of(write, client, {"action": content.WRITE, "offset": 7, "data": b"x"})
    tap.check(e and e.code() == grpc.StatusCode.OUT_OF_RANGE, "Write elsewhere", e)
    answers = write(client, {"action": content.WRITE, "offset": 5, "data": b"56789"},
                    {"action": content.COMMIT, "offset": 10, "expected": DIGEST})
    tap.check(answers[-1].digest == DIGEST, "Write of the rest, and its commit", answers)
    info = client.content.Info(content.InfoRequest(digest=DIGEST)).info
    tap.check(info.size == 10 and info.committed_at.seconds > 0, "Content.Info", info)
    listed = [i.digest for part in client.content.List(content.ListContentRequest()) for i in part.info]
    tap.check(listed == [DIGEST], "Content.List", listed)
    whole = b"".join(a.data for a in client.content.Read(content.ReadRequest(digest=DIGEST)))
    part = b"".join(a.data for a in client.content.Read(content.ReadRequest(digest=DIGEST, offset=2, size=3)))
    tap.check((whole, part) == (b"0123456789", b"234"), "Content.Read", (whole, part))
    for call, request in ((client.content.Info, content.InfoRequest), (client.content.Delete,
                                                                       content.DeleteContentRequest)):
        fails("%s of what isn't there" % request.__name__, grpc.StatusCode.NOT_FOUND, call,
              request(digest="sha256:" + "2" * 64))
    e = bh.error_of(lambda: list(client.content.Read(content.ReadRequest(digest="sha256:" + "2" * 64))))
    tap.check(e and e.code() == grpc.StatusCode.NOT_FOUND, "Read of what isn't there", e)
    client.content.Delete(content.DeleteContentRequest(digest=DIGEST))
    fails("Content.Delete: it is gone", grpc.StatusCode.NOT_FOUND, client.content.Info, content.InfoRequest(digest=DIGEST))
    write(client, {"action": content.WRITE, "data": b"0"})
    client.content.Abort(content.AbortRequest(ref="w1"))
    tap.check(len(client.content.Status(content.StatusRequest()).statuses) == 0, "Content.Abort")
    fails("Abort of no write", grpc.StatusCode.NOT_FOUND, client.content.Abort, content.AbortRequest(ref="w1"))


def test_version(client):
    got = client.version.Version(client.empty)
    tap.check(got.version.startswith("bulkhead "), "Version", got)


# --- Snapshot ---

def test_snapshots(client, root, events):
    mounts = client.snapshots.Prepare(snaps.PrepareRequest(key="s1")).mounts
    tap.check(len(mounts) == 1 and mounts[0].source, "Snapshot.Prepare answers with mounts", mounts)
    fails("a second of that key", grpc.StatusCode.ALREADY_EXISTS, client.snapshots.Prepare, snaps.PrepareRequest(key="s1"))
    fails("of a parent that isn't there", grpc.StatusCode.NOT_FOUND, client.snapshots.Prepare,
          snaps.PrepareRequest(key="s2", parent="none"), "none")
    same = client.snapshots.Mounts(snaps.MountsRequest(key="s1")).mounts
    tap.check(same == mounts, "Snapshot.Mounts", same)
    bh.busybox_root(mounts[0].source)
    info = client.snapshots.Stat(snaps.StatRequest(key="s1")).info
    tap.check((info.name, info.kind, info.readonly) == ("s1", snaps.ACTIVE, False), "Snapshot.Stat", info)
    used = client.snapshots.Usage(snaps.UsageRequest(key="s1"))
    tap.check(used.size > 500000 and used.inodes > 100, "Snapshot.Usage", used)
    client.snapshots.Commit(snaps.CommitRequest(key="s1", name="base"))
    info = client.snapshots.Stat(snaps.StatRequest(key="base")).info
    tap.check((info.kind, info.readonly) == (snaps.COMMITTED, True), "Snapshot.Commit", info)
    fails("Commit of one that isn't there", grpc.StatusCode.NOT_FOUND, client.snapshots.Commit,
          snaps.CommitRequest(key="s1", name="base2"), "s1")
    client.snapshots.View(snaps.PrepareRequest(key="v1", parent="base"))
    info = client.snapshots.Stat(snaps.StatRequest(key="v1")).info
    tap.check((info.kind, info.readonly, info.parent) == (snaps.ACTIVE, True, "base"), "Snapshot.View", info)
    names = sorted(i.name for part in client.snapshots.List(snaps.ListRequest()) for i in part.info)
    tap.check(names == ["base", "v1"], "Snapshot.List", names)
    for call, request in ((client.snapshots.Mounts, snaps.MountsRequest), (client.snapshots.Stat, snaps.StatRequest),
                          (client.snapshots.Usage, snaps.UsageRequest), (client.snapshots.Remove, snaps.RemoveRequest)):
        fails("%s of none" % request.__name__, grpc.StatusCode.NOT_FOUND, call, request(key="none"), "none")
    fails("Remove of a parent", grpc.StatusCode.FAILED_PRECONDITION, client.snapshots.Remove,
          snaps.RemoveRequest(key="base"))
    run_in_snapshot(client, events)
    test_checkpoint(client)
    for key in ("v1", "base"):
        client.snapshots.Remove(snaps.RemoveRequest(key=key))
    names = [i.name for part in client.snapshots.List(snaps.ListRequest()) for i in part.info]
    tap.check(not names, "Snapshot.Remove", names)


CHECKPOINT = "application/vnd.containerd.container.criu.checkpoint.criu.tar"


def test_checkpoint(client):
    """Saved with its end, and restored in the same snapshot."""
    one = container("t6", "rootfs", "/bin/sh", "-c", "mkdir -p /home; echo here > /home/x; exec sleep 1000")
    one.rootfs = "saved"
    mounts = client.snapshots.Prepare(snaps.PrepareRequest(key="saved", parent="base")).mounts
    client.containers.Create(c.CreateContainerRequest(container=one))
    client.tasks.Create(x.CreateRequest(container_id="t6", rootfs=mounts, stdout="file://" + client.folder + "/t6.log"))
    client.tasks.Start(x.StartRequest(container_id="t6"))
    (upper,) = [o[len("upperdir="):] for o in mounts[0].options if o.startswith("upperdir=")]
    bh.wait_for(lambda: os.path.exists(upper + "/home/x"))
    cp, config = client.tasks.Checkpoint(x.CheckpointRequest(container_id="t6", exit=True, file_locks=True)).descriptors
    tap.check(cp.media_type == CHECKPOINT and len(blob_of(client, cp.digest)) == cp.size, "Checkpoint: criu's images", cp)
    tap.check(blob_of(client, config.digest) == one.spec.value and config.media_type.endswith("config.v1+json"),
              "and the specification, without its type", config)

    def info():
        return client.tasks.Info(x.InfoRequest(container_id="t6")).task
    tap.check(bh.wait_for(lambda: info().status == types.STOPPED), "with exit the task ends")
    client.tasks.Delete(x.DeleteRequest(container_id="t6"))
    client.tasks.Create(x.CreateRequest(container_id="t6", rootfs=mounts, checkpoint=cp))
    client.tasks.Start(x.StartRequest(container_id="t6"))
    tap.check(info().status == types.RUNNING and info().pid > 0, "Create from it, and Start", info())
    client.tasks.Kill(x.KillRequest(container_id="t6", signal=signal.SIGKILL))
    bh.wait_for(lambda: info().status == types.STOPPED)
    client.tasks.Delete(x.DeleteRequest(container_id="t6"))
    client.containers.Delete(c.DeleteContainerRequest(id="t6"))
    client.snapshots.Remove(snaps.RemoveRequest(key="saved"))
    for digest in (cp.digest, config.digest):
        client.content.Delete(content.DeleteContentRequest(digest=digest))


def run_in_snapshot(client, events):
    """As that age's client runs something: the container names its snapshot, the task gets its mounts."""
    one = container("t5", "rootfs", "/bin/sh", "-c", "echo x > /written")
    one.rootfs = "root"
    mounts = client.snapshots.Prepare(snaps.PrepareRequest(key="root", parent="base")).mounts
    client.containers.Create(c.CreateContainerRequest(container=one))
    pid = client.tasks.Create(x.CreateRequest(container_id="t5", rootfs=mounts)).pid
    client.tasks.Start(x.StartRequest(container_id="t5"))
    e = events.wait("EXIT", "t5", pid)
    tap.check(e is not None and e.exit_status == 0, "a container runs in its snapshot", e)
    client.tasks.Delete(x.DeleteRequest(container_id="t5"))
    client.containers.Delete(c.DeleteContainerRequest(id="t5"))
    used = client.snapshots.Usage(snaps.UsageRequest(key="root"))
    tap.check(used.inodes >= 2, "which keeps what it wrote", used)
    client.snapshots.Remove(snaps.RemoveRequest(key="root"))


# --- Diff ---

def archive(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in files.items():
            i = tarfile.TarInfo(name)
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
    return out.getvalue()


def stored(client, data):
    """As content; its descriptor, with no type, as that age's clients might."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    write(client, {"action": content.WRITE, "data": data},
          {"action": content.COMMIT, "offset": len(data), "expected": digest})
    return types.Descriptor(digest=digest, size=len(data))


def blob_of(client, digest):
    return b"".join(a.data for a in client.content.Read(content.ReadRequest(digest=digest)))


def test_diff(client):
    below = client.snapshots.Prepare(snaps.PrepareRequest(key="below")).mounts
    layer = stored(client, archive(one=b"1", two=b"22"))
    applied = client.diffs.Apply(diffs.ApplyRequest(diff=layer, mounts=below)).applied
    tap.check((applied.digest, applied.size) == (layer.digest, layer.size) and applied.media_type == PLAIN,
              "Diff.Apply answers with the archive", applied)
    tap.check(sorted(os.listdir(below[0].source)) == ["one", "two"], "and its files are there")
    client.snapshots.Commit(snaps.CommitRequest(key="below", name="layer"))
    left = client.snapshots.View(snaps.PrepareRequest(key="left", parent="layer")).mounts
    right = client.snapshots.Prepare(snaps.PrepareRequest(key="right", parent="layer")).mounts
    (upper,) = [o[len("upperdir="):] for o in right[0].options if o.startswith("upperdir=")]
    with open(os.path.join(upper, "three"), "w") as f:
        f.write("333")
    request = diffs.DiffRequest(left=left, right=right, ref="diff-1")
    made = client.diffs.Diff(request).diff
    data = blob_of(client, made.digest)
    names = tarfile.open(fileobj=io.BytesIO(data), mode="r:").getnames()
    tap.check("three" in names and "one" not in names and made.size == len(data) and made.media_type == PLAIN,
              "Diff.Diff packs what right has beyond left, uncompressed", (made, names))
    request.media_type = PLAIN + "+gzip"
    zipped = client.diffs.Diff(request).diff
    tap.check(blob_of(client, zipped.digest)[:2] == b"\x1f\x8b" and zipped.media_type == PLAIN + "+gzip",
              "compressed for who asks for that", zipped)
    above = client.snapshots.Prepare(snaps.PrepareRequest(key="above", parent="layer")).mounts
    applied = client.diffs.Apply(diffs.ApplyRequest(diff=zipped, mounts=above)).applied
    tap.check(applied.digest == made.digest, "which Apply answers with the uncompressed one's digest", applied)
    test_diff_errors(client, layer, left, right)
    for key in ("above", "right", "left", "layer"):
        client.snapshots.Remove(snaps.RemoveRequest(key=key))
    for digest in (layer.digest, made.digest, zipped.digest):
        client.content.Delete(content.DeleteContentRequest(digest=digest))


def test_diff_errors(client, layer, left, right):
    bad, other = grpc.StatusCode.INVALID_ARGUMENT, types.Mount(type="bind", source="/nowhere")
    fails("Apply of no descriptor", bad, client.diffs.Apply, diffs.ApplyRequest(mounts=right), "descriptor")
    fails("Apply to mounts of no snapshot", bad, client.diffs.Apply, diffs.ApplyRequest(diff=layer, mounts=[other]),
          "no snapshot")
    fails("Apply to a view", grpc.StatusCode.FAILED_PRECONDITION, client.diffs.Apply,
          diffs.ApplyRequest(diff=layer, mounts=left), "read-only")
    absent = types.Descriptor(digest="sha256:" + "3" * 64)
    fails("Apply of content that isn't there", grpc.StatusCode.NOT_FOUND, client.diffs.Apply,
          diffs.ApplyRequest(diff=absent, mounts=right), "3" * 64)
    fails("Diff of mounts of no snapshot", bad, client.diffs.Diff, diffs.DiffRequest(left=left, right=[other]))
    fails("Diff to a type that is no layer's", grpc.StatusCode.UNIMPLEMENTED, client.diffs.Diff,
          diffs.DiffRequest(left=left, right=right, media_type="text/plain"), "text/plain")


# --- Tasks ---

def made(client, name, root, *args, terminal=False):
    client.containers.Create(c.CreateContainerRequest(container=container(name, root, *args, terminal=terminal)))


def fifo(folder, name):
    path = os.path.join(folder, name)
    os.mkfifo(path)
    return path, os.open(path, os.O_RDWR | os.O_NONBLOCK)


def says(fd, text):
    seen = b""

    def more():
        nonlocal seen
        try:
            seen += os.read(fd, 65536)
        except BlockingIOError:
            pass
        return text in seen
    return bh.wait_for(more), seen


def test_life(client, root, folder, events):
    made(client, "t1", root, "/bin/sh", "-c", "read x; echo got $x; exit 7")
    stdin, to = fifo(folder, "t1-in")
    stdout, out = fifo(folder, "t1-out")
    request = x.CreateRequest(container_id="t1", stdin=stdin, stdout=stdout)
    absent = types.Descriptor(digest="sha256:" + "0" * 64, media_type=CHECKPOINT)
    fails("a task from a checkpoint that isn't there", grpc.StatusCode.NOT_FOUND, client.tasks.Create,
          x.CreateRequest(container_id="t1", checkpoint=absent), "0" * 64)
    absent.media_type = "text/plain"
    fails("or is none", grpc.StatusCode.INVALID_ARGUMENT, client.tasks.Create,
          x.CreateRequest(container_id="t1", checkpoint=absent), "text/plain")
    answer = client.tasks.Create(request)
    tap.check(answer.container_id == "t1" and answer.pid > 0, "Tasks.Create answers with a pid", answer)
    fails("a second task of the container", grpc.StatusCode.ALREADY_EXISTS, client.tasks.Create, request, '"t1"')
    fails("a task of no container", grpc.StatusCode.NOT_FOUND, client.tasks.Create, x.CreateRequest(container_id="none"))
    task = client.tasks.Info(x.InfoRequest(container_id="t1")).task
    tap.check(task.pid == answer.pid and task.status == types.CREATED and task.container_id == "t1" and
              b"rc5" in task.spec.value, "Tasks.Info of a created one, with its specification", task)
    fails("Exec before the start", grpc.StatusCode.FAILED_PRECONDITION, client.tasks.Exec,
          x.ExecRequest(container_id="t1", spec=process("/bin/true")))
    client.tasks.Start(x.StartRequest(container_id="t1"))
    fails("a second Start", grpc.StatusCode.FAILED_PRECONDITION, client.tasks.Start, x.StartRequest(container_id="t1"))
    fails("Delete of what runs", grpc.StatusCode.FAILED_PRECONDITION, client.tasks.Delete,
          x.DeleteRequest(container_id="t1"), "running")
    fails("nor may its container go", grpc.StatusCode.FAILED_PRECONDITION, client.containers.Delete,
          c.DeleteContainerRequest(id="t1"))
    os.write(to, b"this\n")
    good, seen = says(out, b"got this\n")
    tap.check(good, "its streams are the client's fifos", seen)
    e = events.wait("EXIT", "t1", answer.pid)
    tap.check(e is not None and e.exit_status == 7 and e.exited_at.seconds > 0, "its exit is an event", e)
    tap.check(events.kinds("t1") == ["CREATE", "START", "EXIT"], "after those of its beginning", events.kinds("t1"))
    task = client.tasks.Info(x.InfoRequest(container_id="t1")).task
    tap.check(task.status == types.STOPPED, "Info says STOPPED", task)
    fails("Kill of what has ended", grpc.StatusCode.NOT_FOUND, client.tasks.Kill,
          x.KillRequest(container_id="t1", signal=9), "finished")
    gone = client.tasks.Delete(x.DeleteRequest(container_id="t1"))
    tap.check(gone.exit_status == 7 and gone.container_id == "t1" and gone.exited_at == e.exited_at,
              "Tasks.Delete answers with the exit", gone)
    for call, request in ((client.tasks.Delete, x.DeleteRequest), (client.tasks.Info, x.InfoRequest),
                          (client.tasks.Start, x.StartRequest), (client.tasks.Pause, x.PauseRequest),
                          (client.tasks.Resume, x.ResumeRequest), (client.tasks.Processes, x.ProcessesRequest)):
        fails("%s of no task" % request.__name__, grpc.StatusCode.NOT_FOUND, call, request(container_id="t1"), '"t1"')
    for call, request in ((client.tasks.Kill, x.KillRequest(container_id="t1", signal=9)),
                          (client.tasks.Exec, x.ExecRequest(container_id="t1", spec=process("/bin/true"))),
                          (client.tasks.Pty, x.PtyRequest(container_id="t1")),
                          (client.tasks.CloseStdin, x.CloseStdinRequest(container_id="t1"))):
        fails("%s of no task" % type(request).__name__, grpc.StatusCode.NOT_FOUND, call, request, '"t1"')
    client.containers.Delete(c.DeleteContainerRequest(id="t1"))
    os.close(to)
    os.close(out)


def exec_in(client, name, *args, **kwargs):
    return client.tasks.Exec(x.ExecRequest(container_id=name, spec=process(*args, terminal=kwargs.get("terminal", False)),
                                           **kwargs)).pid


def test_processes(client, root, folder, events):
    made(client, "t2", root, "/bin/sleep", "1000")
    first = client.tasks.Create(x.CreateRequest(container_id="t2")).pid
    client.tasks.Start(x.StartRequest(container_id="t2"))
    tasks = client.tasks.List(x.ListRequest()).tasks
    tap.check([(t.container_id, t.pid, t.status) for t in tasks] == [("t2", first, types.RUNNING)], "Tasks.List", tasks)
    stdout, out = fifo(folder, "t2-out")
    pid = exec_in(client, "t2", "/bin/sh", "-c", "echo $0 in $HOSTNAME; exit 3", stdout=stdout)
    e = events.wait("EXIT", "t2", pid)
    tap.check(e is not None and e.exit_status == 3, "Exec starts at once; its end has its pid", e)
    tap.check(says(out, b"/bin/sh in")[0], "and its output went to the fifo")
    tap.check(events.wait("EXEC_ADDED", "t2", pid) is not None, "its beginning was told, too", events.list)
    fails("once it has ended nobody knows the pid", grpc.StatusCode.NOT_FOUND, client.tasks.Kill,
          x.KillRequest(container_id="t2", pid=pid, signal=9), str(pid))
    fails("a program that isn't there", grpc.StatusCode.INVALID_ARGUMENT, client.tasks.Exec,
          x.ExecRequest(container_id="t2", spec=process("/bin/none")), "/bin/none")
    fails("Exec of nothing", grpc.StatusCode.INVALID_ARGUMENT, client.tasks.Exec, x.ExecRequest(container_id="t2"),
          "missing")
    fails("Exec of no JSON", grpc.StatusCode.INVALID_ARGUMENT, client.tasks.Exec,
          x.ExecRequest(container_id="t2", spec={"value": b"{"}))

    stdin, to = fifo(folder, "t2-in")
    pid = exec_in(client, "t2", "/bin/cat", stdin=stdin, stdout=stdout)
    pids = sorted(p.pid for p in client.tasks.Processes(x.ProcessesRequest(container_id="t2")).processes)
    tap.check(pids == sorted([first, pid]), "Processes has both", pids)
    os.write(to, b"to the end\n")
    tap.check(says(out, b"to the end\n")[0], "a process's stdin")
    client.tasks.CloseStdin(x.CloseStdinRequest(container_id="t2", pid=pid))
    os.close(to)
    e = events.wait("EXIT", "t2", pid)
    tap.check(e is not None and e.exit_status == 0, "CloseStdin by pid ends it", e)
    fails("CloseStdin of a pid that isn't the task's", grpc.StatusCode.NOT_FOUND, client.tasks.CloseStdin,
          x.CloseStdinRequest(container_id="t2", pid=os.getpid()), str(os.getpid()))

    pid = exec_in(client, "t2", "/bin/sleep", "1000")
    fails("a signal that is none", grpc.StatusCode.INVALID_ARGUMENT, client.tasks.Kill,
          x.KillRequest(container_id="t2", pid=pid, signal=99), "99")
    fails("Kill of a pid that isn't the task's", grpc.StatusCode.NOT_FOUND, client.tasks.Kill,
          x.KillRequest(container_id="t2", pid=os.getpid(), signal=9), str(os.getpid()))
    client.tasks.Kill(x.KillRequest(container_id="t2", pid=pid, signal=signal.SIGKILL))
    e = events.wait("EXIT", "t2", pid)
    tap.check(e is not None and e.exit_status == 137, "Kill by pid", e)
    tap.check(client.tasks.Info(x.InfoRequest(container_id="t2")).task.status == types.RUNNING,
              "leaves the first process alone")

    pid = exec_in(client, "t2", "/bin/sh", "-c", "trap 'stty size; exit 4' WINCH; while sleep 0.05; do :; done",
                  terminal=True, stdout=stdout)
    time.sleep(0.3)
    client.tasks.Pty(x.PtyRequest(container_id="t2", pid=pid, width=132, height=50))
    good, seen = says(out, b"50 132")
    tap.check(good, "Pty by pid: the terminal's size", seen)
    events.wait("EXIT", "t2", pid)
    fails("Pty of what has no terminal", grpc.StatusCode.FAILED_PRECONDITION, client.tasks.Pty,
          x.PtyRequest(container_id="t2", pid=first, width=1, height=1), "terminal")
    os.close(out)
    return first


def test_whole(client, root, first, events):
    client.tasks.Pause(x.PauseRequest(container_id="t2"))
    tap.check(client.tasks.Info(x.InfoRequest(container_id="t2")).task.status == types.PAUSED, "Pause: Info says PAUSED")
    tap.check(events.wait("PAUSED", "t2") is not None, "and an event does")
    client.tasks.Resume(x.ResumeRequest(container_id="t2"))
    tap.check(client.tasks.Info(x.InfoRequest(container_id="t2")).task.status == types.RUNNING, "Resume")
    for field, text in (("allow_tcp", "connections"), ("allow_unix_sockets", "sockets"), ("allow_terminal", "terminal")):
        fails("Checkpoint with " + field, grpc.StatusCode.UNIMPLEMENTED, client.tasks.Checkpoint,
              x.CheckpointRequest(container_id="t2", **{field: True}), text)
    fails("Checkpoint of no task", grpc.StatusCode.NOT_FOUND, client.tasks.Checkpoint,
          x.CheckpointRequest(container_id="none"), '"none"')
    pid = exec_in(client, "t2", "/bin/sleep", "1000")
    client.tasks.Kill(x.KillRequest(container_id="t2", all=True, signal=signal.SIGKILL))
    tap.check(events.wait("EXIT", "t2", pid) is not None and events.wait("EXIT", "t2", first) is not None,
              "Kill of all ends each", events.list)
    client.tasks.Delete(x.DeleteRequest(container_id="t2"))
    client.containers.Delete(c.DeleteContainerRequest(id="t2"))


def test_mounts(client, root, folder, events):
    """The root as mounts of the client's, and a program that isn't in it."""
    made(client, "t3", "rootfs", "/bin/true")
    mount = types.Mount(type="bind", source=root, options=["rbind", "ro"])
    pid = client.tasks.Create(x.CreateRequest(container_id="t3", rootfs=[mount])).pid
    client.tasks.Start(x.StartRequest(container_id="t3"))
    e = events.wait("EXIT", "t3", pid)
    tap.check(e is not None and e.exit_status == 0, "a root of the client's mounts", e)
    client.tasks.Delete(x.DeleteRequest(container_id="t3"))
    client.containers.Delete(c.DeleteContainerRequest(id="t3"))


def crash(d, worker):
    before = d.processes()[worker][0]
    os.kill(before, signal.SIGKILL)
    bh.wait_for(lambda: d.processes().get(worker, [before])[0] != before)


def test_crash(d, client, root):
    made(client, "t4", root, "/bin/sleep", "1000")
    client.tasks.Create(x.CreateRequest(container_id="t4"))
    client.tasks.Start(x.StartRequest(container_id="t4"))
    short = exec_in(client, "t4", "/bin/sleep", "1")
    long = exec_in(client, "t4", "/bin/sleep", "1000")
    for worker in ("metadata", "task"):
        crash(d, worker)
    d.ready()
    events = Events(client)
    client.tasks.Kill(x.KillRequest(container_id="t4", pid=long, signal=signal.SIGKILL))
    tap.check(events.wait("EXIT", "t4", long) is not None, "a pid is known after kill -9 of metadata and task")
    time.sleep(1)

    def alone():
        return len(client.tasks.Processes(x.ProcessesRequest(container_id="t4")).processes) == 1
    tap.check(bh.wait_for(alone), "both have ended")
    fails("what ended meanwhile is forgotten", grpc.StatusCode.NOT_FOUND, client.tasks.Kill,
          x.KillRequest(container_id="t4", pid=short, signal=9), str(short))
    events.call.cancel()
    client.tasks.Kill(x.KillRequest(container_id="t4", signal=signal.SIGKILL))
    bh.wait_for(lambda: client.tasks.Info(x.InfoRequest(container_id="t4")).task.status == types.STOPPED)
    client.tasks.Delete(x.DeleteRequest(container_id="t4"))
    client.containers.Delete(c.DeleteContainerRequest(id="t4"))


def test_all_called(client):
    all_calls = {"/%s/%s" % (s.full_name, m.name) for proto in (c, x, images, content, snaps, diffs, version)
                 for s in proto.DESCRIPTOR.services_by_name.values() for m in s.methods}
    tap.check(all_calls == client.called, "every call of the services was made", all_calls ^ client.called)


def truth(d):
    """A worker's successor has a network namespace of its own: their number is what counts."""
    t = bh.kernel_truth(d)
    t["netns"] = len(t["netns"])
    return t


def main():
    global grpc, c, c_grpc, x, x_grpc, types, images, images_grpc, content, content_grpc, snaps, snaps_grpc
    global diffs, diffs_grpc, version, version_grpc
    bh.isolate()
    import grpc
    (c, c_grpc, x, x_grpc, types, _, images, images_grpc, content, content_grpc, snaps, snaps_grpc, diffs, diffs_grpc,
     version, version_grpc) = bh.stubs_of(*("containerd_seed/%s.proto" % n for n in (
         "containers", "execution", "types", "images", "content", "snapshot", "diff", "version")))
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        d = bh.Daemon(folder, cni=False, settings=["criu=" + Fake(folder).path])
        root = os.path.join(folder, "root")
        bh.busybox_root(root)
        for name in ("proc", "dev"):
            os.mkdir(os.path.join(root, name))
        try:
            d.start()
            client = Client(d)
            test_containers(client, root)
            test_update(client, root)
            test_images(client)
            test_content(client)
            test_version(client)
            before = truth(d)
            events = Events(client)
            test_life(client, root, folder, events)
            first = test_processes(client, root, folder, events)
            test_whole(client, root, first, events)
            test_mounts(client, root, folder, events)
            test_snapshots(client, root, events)
            test_diff(client)
            events.call.cancel()
            test_crash(d, client, root)
            test_all_called(client)
            left = bh.wait_for(lambda: truth(d) == before)
            tap.check(left, "nothing is left", bh.differences(before, truth(d)))
            client.close()
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception as e:  # the log says why
            import traceback
            tap.check(False, "the test runs to its end", "%r\n%s" % (e, traceback.format_exc()))
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
