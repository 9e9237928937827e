"""containerd's content service: what is written, by whom, how often, with which errors; what is read; what becomes
garbage. By a client made from proto/, and by Debian's ctr."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()
NS = "default"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Client:
    """Stubs of the services, and the messages of content as c, of images as i, of leases as l."""

    def __init__(self, d, namespace=NS):
        import grpc
        self.c, cg, self.i, ig, self.l, lg, self.types, _ = bh.stubs_of(
            "containerd/content.proto", "containerd/images.proto", "containerd/leases.proto", "containerd/types.proto")
        self.channel = grpc.insecure_channel("unix://" + d.containerd, options=[
            ("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20),
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)])
        self.content, self.images = cg.ContentStub(self.channel), ig.ImagesStub(self.channel)
        self.leases = lg.LeasesStub(self.channel)
        self.namespace = namespace

    def meta(self, lease=None):
        return [("containerd-namespace", self.namespace)] + ([("containerd-lease", lease)] if lease else [])

    def call(self, method, request, lease=None):
        """(reply, error), one of them None"""
        import grpc
        try:
            return method(request, metadata=self.meta(lease), timeout=20), None
        except grpc.RpcError as e:
            return None, e

    def info(self, d):
        return self.call(self.content.Info, self.c.InfoRequest(digest=d))

    def status(self, ref):
        return self.call(self.content.Status, self.c.StatusRequest(ref=ref))

    def read(self, d, **kwargs):
        import grpc
        try:
            parts = list(self.content.Read(self.c.ReadContentRequest(digest=d, **kwargs), metadata=self.meta()))
            return b"".join(p.data for p in parts), None
        except grpc.RpcError as e:
            return None, e

    def write(self, *messages, lease=None):
        """All messages at once: (replies, error)"""
        import grpc
        replies = []
        try:
            for reply in self.content.Write(iter(messages), metadata=self.meta(lease), timeout=20):
                replies.append(reply)
        except grpc.RpcError as e:
            return replies, e
        return replies, None

    def put(self, ref, data, lease=None, **labels):
        m = self.c.WriteContentRequest
        return self.write(m(action=self.c.COMMIT, ref=ref, total=len(data), expected=digest(data), data=data,
                            labels={k.replace("__", "/").replace("_", "."): v for k, v in labels.items()}), lease=lease)


def code(error):
    return error.code().name if error is not None else "OK"


class Session:
    """A Write whose messages go one by one."""

    def __init__(self, client):
        import queue
        self.queue, self.client = queue.Queue(), client
        self.call = client.content.Write(iter(self.queue.get, None), metadata=client.meta())

    def send(self, **kwargs):
        """The reply, or the error"""
        import grpc
        self.queue.put(self.client.c.WriteContentRequest(**kwargs))
        try:
            return next(self.call)
        except grpc.RpcError as e:
            return e

    def close(self):
        self.queue.put(None)
        for _ in self.call:
            pass


def test_write(d):
    c = Client(d)
    data = os.urandom(3_000_000)
    m, half = c.c.WriteContentRequest, 1_500_000
    replies, e = c.write(m(action=c.c.STAT, ref="w1", total=len(data), expected=digest(data)),
                         m(action=c.c.WRITE, ref="w1", data=data[:half]),
                         m(action=c.c.WRITE, ref="w1", offset=half, data=data[half:]),
                         m(action=c.c.COMMIT, ref="w1", offset=len(data), total=len(data), expected=digest(data),
                           labels={"a": "b"}))
    tap.check(e is None and [r.offset for r in replies] == [0, half, len(data), len(data)],
              "a write's replies say how far it is", (replies, e))
    tap.check(len(replies) == 4 and replies[1].digest == digest(data[:half]) and replies[3].digest == digest(data),
              "and the digest of what is written so far", replies)
    tap.check(len(replies) > 0 and replies[0].started_at.seconds > 0 and replies[0].total == len(data),
              "STAT says when it began, and how much is to come", replies)
    i, e = c.info(digest(data))
    tap.check(e is None and i.info.size == len(data) and dict(i.info.labels) == {"a": "b"} and
              i.info.created_at.seconds > 0, "Info of what was committed", (i, e))
    tap.check(c.read(digest(data))[0] == data, "Read gives it back")
    tap.check(c.read(digest(data), offset=10, size=100)[0] == data[10:110], "Read gives a part of it")
    tap.check(c.read(digest(data), offset=len(data) - 5, size=100)[0] == data[-5:], "and no more than there is")
    tap.check(c.read(digest(data), offset=len(data))[0] == b"", "and nothing at the end")
    tap.check(code(c.read(digest(data), offset=len(data) + 1)[1]) == "OUT_OF_RANGE", "Read past the end")
    tap.check(code(c.read(digest(b"none"))[1]) == "NOT_FOUND", "Read of nothing")
    tap.check(code(c.read("sha256:xyz")[1]) == "INVALID_ARGUMENT", "Read of what is no digest")
    tap.check(code(c.status("w1")[1]) == "NOT_FOUND", "a committed write is over")
    blob = os.path.join(d.state, "content", "blobs", "sha256", digest(data)[7:])
    tap.check(os.stat(blob).st_size == len(data) and os.stat(blob).st_mode & 0o777 == 0o400,
              "the blob is where an OCI layout has it, and nobody may write to it")
    return data


def test_read_again(d):
    """A small blob, whose bytes the API worker keeps: who may read it is another question each time."""
    c, other = Client(d), Client(d, "elsewhere")
    data = os.urandom(4000)
    c.put("small", data)
    tap.check([c.read(digest(data))[0] for _ in range(3)] == [data] * 3, "Read of a small one, again and again")
    tap.check(c.read(digest(data), offset=10, size=100)[0] == data[10:110] and
              c.read(digest(data), offset=3990, size=100)[0] == data[3990:] and
              c.read(digest(data), offset=4000)[0] == b"", "parts of it, and nothing at its end")
    tap.check(code(c.read(digest(data), offset=4001)[1]) == "OUT_OF_RANGE", "not past its end")
    tap.check(code(other.read(digest(data))[1]) == "NOT_FOUND", "another namespace hasn't got it")
    c.call(c.content.Delete, c.c.DeleteContentRequest(digest=digest(data)))
    tap.check(code(c.read(digest(data))[1]) == "NOT_FOUND", "nor has anybody after Delete")
    many = [os.urandom(3000 + n) for n in range(40)]
    for n, blob in enumerate(many):
        c.put("many%d" % n, blob)
    tap.check(all(c.read(digest(blob))[0] == blob for blob in many + many[::-1]), "more of them than are kept")
    for blob in many:
        c.call(c.content.Delete, c.c.DeleteContentRequest(digest=digest(blob)))


def test_errors(d, data):
    c = Client(d)
    m = c.c.WriteContentRequest
    for name, want, texts, messages in (
        ("what is there already", "ALREADY_EXISTS", [digest(data)],
         [m(action=c.c.STAT, ref="e1", total=len(data), expected=digest(data))]),
        ("the same, known at the end", "ALREADY_EXISTS", [digest(data)],
         [m(action=c.c.WRITE, ref="e2", data=b"x"), m(action=c.c.COMMIT, offset=1, expected=digest(data))]),
        ("the same, known by its bytes alone", "ALREADY_EXISTS", [digest(data)],
         [m(action=c.c.WRITE, ref="e3", data=data), m(action=c.c.COMMIT, offset=len(data))]),
        ("a wrong digest", "FAILED_PRECONDITION", ["unexpected commit digest " + digest(b"abc"), digest(b"abd")],
         [m(action=c.c.WRITE, ref="e4", data=b"abc"), m(action=c.c.COMMIT, offset=3, expected=digest(b"abd"))]),
        ("a wrong size", "FAILED_PRECONDITION", ["unexpected commit size 3, expected 4"],
         [m(action=c.c.WRITE, ref="e5", data=b"abc"), m(action=c.c.COMMIT, offset=3, total=4)]),
        ("a wrong offset", "OUT_OF_RANGE", ["write @5 must occur at current offset 3"],
         [m(action=c.c.WRITE, ref="e6", data=b"abc"), m(action=c.c.WRITE, offset=5, data=b"abc")]),
        ("no reference", "INVALID_ARGUMENT", ["first message must have a reference"], [m(action=c.c.STAT)]),
        ("a malformed digest", "INVALID_ARGUMENT", ["no sha256 digest"], [m(action=c.c.STAT, ref="e7", expected="md5:1")]),
        ("a label that is too long", "INVALID_ARGUMENT", ["4096"],
         [m(action=c.c.COMMIT, ref="e8", data=b"abc", labels={"k": "v" * 4096})]),
    ):
        _, e = c.write(*messages)
        tap.check(code(e) == want and all(t in e.details() for t in texts), "Write: %s: %s" % (name, want),
                  (code(e), e and e.details()))
    c.namespace = ""
    tap.check(code(c.put("n", b"n")[1]) == "INVALID_ARGUMENT", "Write without a namespace")


def test_ingests(d):
    c = Client(d)
    data = os.urandom(500_000)
    first = Session(c)
    r = first.send(action=c.c.WRITE, ref="part", total=len(data), expected=digest(data), data=data[:200_000])
    tap.check(getattr(r, "offset", 0) == 200_000, "a part is written", r)
    s, e = c.status("part")
    tap.check(e is None and (s.status.offset, s.status.total, s.status.expected) == (200_000, len(data), digest(data)),
              "Status says how far it is and what it will be", (s, e))
    tap.check(s and s.status.updated_at.seconds >= s.status.started_at.seconds > 0, "and when it began and went on", s)
    _, e = c.write(c.c.WriteContentRequest(action=c.c.STAT, ref="part"))
    tap.check(code(e) == "UNAVAILABLE", "a second writer is told to come back", e)
    other = Client(d, "other")
    _, e = other.write(other.c.WriteContentRequest(action=c.c.STAT, ref="part"))
    tap.check(e is None, "the same name in another namespace is another write", e)
    first.close()
    d.stop()
    d.start()
    s, e = c.status("part")
    tap.check(e is None and s.status.offset == 200_000, "what was written outlives the daemon", (s, e))
    ls = c.call(c.content.ListStatuses, c.c.ListStatusesRequest(filters=["ref==part"]))[0]
    tap.check([x.ref for x in ls.statuses] == ["part"], "ListStatuses with a filter", ls)
    m = c.c.WriteContentRequest
    replies, e = c.write(m(action=c.c.STAT, ref="part", total=len(data), expected=digest(data)),
                         m(action=c.c.WRITE, offset=200_000, data=data[200_000:]),
                         m(action=c.c.COMMIT, offset=len(data), total=len(data), expected=digest(data)))
    tap.check(e is None and replies[0].offset == 200_000 and replies[0].digest == digest(data[:200_000]),
              "the next writer goes on where the last one stopped", (replies, e))
    tap.check(c.read(digest(data))[0] == data, "and what it commits is the whole")
    _, e = other.write(m(action=c.c.STAT, ref="there", total=len(data), expected=digest(data)))
    tap.check(e is None, "what one namespace has another doesn't", e)
    replies, e = other.write(m(action=c.c.STAT, ref="there", total=len(data), expected=digest(data)),
                             m(action=c.c.COMMIT, offset=len(data), total=len(data), expected=digest(data)))
    tap.check(e is None and replies[0].offset == len(data), "but needn't write it again", (replies, e))
    tap.check(other.read(digest(data))[0] == data, "and has it then")
    replies, e = c.write(m(action=c.c.WRITE, ref="again", data=b"wrong"), m(action=c.c.WRITE, data=b"right"),
                         m(action=c.c.COMMIT, offset=5, expected=digest(b"right")))
    tap.check(e is None, "an offset of 0 begins anew", e)
    c.write(m(action=c.c.WRITE, ref="gone", data=b"x"))
    _, e = c.call(c.content.Abort, c.c.AbortRequest(ref="gone"))
    tap.check(e is None and code(c.status("gone")[1]) == "NOT_FOUND", "Abort", e)
    tap.check(code(c.call(c.content.Abort, c.c.AbortRequest(ref="gone"))[1]) == "NOT_FOUND", "Abort of nothing")


def test_crash(d):
    """Each worker on the way is killed while a client writes."""
    c = Client(d)
    for i, worker in enumerate(("image", "metadata", "api")):
        data, ref = os.urandom(400_000), "crash-" + worker
        s = Session(c)
        s.send(action=c.c.WRITE, ref=ref, data=data[:100_000])
        for pid in d.processes()[worker]:
            os.kill(pid, signal.SIGKILL)
        r = s.send(action=c.c.WRITE, offset=100_000, data=data[100_000:200_000])
        tap.check(getattr(r, "code", None) and r.code().name == "UNAVAILABLE", "%s is killed: UNAVAILABLE" % worker, r)

        def go_on():
            at = c.status(ref)[0]
            if not at:
                return None
            at = at.status.offset
            m = c.c.WriteContentRequest
            _, e = c.write(m(action=c.c.WRITE, ref=ref, offset=at, data=data[at:]),
                           m(action=c.c.COMMIT, offset=len(data), expected=digest(data)))
            return e is None
        tap.check(bh.wait_for(go_on, 10, 0.1), "and the client goes on by what Status says")
        tap.check(c.read(digest(data))[0] == data, "and reads what it wrote")


def test_labels(d, data):
    c = Client(d)
    from google.protobuf.field_mask_pb2 import FieldMask
    u = c.c.UpdateRequest(info=c.c.Info(digest=digest(data), labels={"x": "y", "z": "w"}),
                          update_mask=FieldMask(paths=["labels.x"]))
    i, e = c.call(c.content.Update, u)
    tap.check(e is None and dict(i.info.labels) == {"a": "b", "x": "y"}, "Update of one label", (i, e))
    u.update_mask.paths[:] = ["size"]
    tap.check(code(c.call(c.content.Update, u)[1]) == "INVALID_ARGUMENT", "Update of what doesn't change")
    found = [i.digest for r in c.content.List(c.c.ListContentRequest(filters=["labels.x==y"]), metadata=c.meta())
             for i in r.info]
    tap.check(found == [digest(data)], "List with a filter", found)
    for n in range(250):
        c.put("many-%d" % n, b"many %d" % n, many="1")
    parts = [len(r.info) for r in c.content.List(c.c.ListContentRequest(filters=["labels.many==1"]), metadata=c.meta())]
    tap.check(sum(parts) == 250 and max(parts) <= 100, "List comes in parts", parts)


def blobs(d):
    return set(os.listdir(os.path.join(d.state, "content", "blobs", "sha256")))


def on_disk(d, *datas):
    return [digest(x)[7:] in blobs(d) for x in datas]


def test_garbage(d):
    c = Client(d)

    def image(name, target):
        return c.call(c.images.Create, c.i.CreateImageRequest(image=c.i.Image(
            name=name, target=c.types.Descriptor(media_type="m", digest=digest(target), size=len(target)))))

    def collect():
        image("any", b"any")
        return c.call(c.images.Delete, c.i.DeleteImageRequest(name="any", sync=True))
    leaf, middle, top, alone, root, shared = b"leaf", b"middle", b"top", b"alone", b"root", b"shared"
    c.call(c.leases.Create, c.l.CreateRequest(id="hold"))
    c.put("g1", leaf, lease="hold")
    c.put("g2", middle, lease="hold", containerd_io__gc_ref_content_0=digest(leaf))
    c.put("g3", top, lease="hold", containerd_io__gc_ref_content=digest(middle))
    _, e = collect()
    tap.check(e is None and on_disk(d, leaf, middle, top) == [True] * 3, "what a lease holds stays", e)
    resources = list(c.call(c.leases.ListResources, c.l.ListResourcesRequest(id="hold"))[0].resources)
    tap.check(sorted((r.type, r.id) for r in resources) == sorted(("content", digest(x)) for x in (leaf, middle, top)),
              "it holds what was made by calls that name it", resources)
    _, e = c.put("g4", alone, lease="nobody")
    tap.check(code(e) == "NOT_FOUND", "a lease that doesn't exist holds nothing", e)
    c.put("g5", root, containerd_io__gc_root="now")
    c.put("g6", alone)
    image("img", top)
    c.call(c.leases.Delete, c.l.DeleteRequest(id="hold", sync=True))
    tap.check(on_disk(d, leaf, middle, top, root, alone) == [True] * 4 + [False],
              "an image's target and what its labels name stay, and what says it is a root; the rest goes",
              on_disk(d, leaf, middle, top, root, alone))
    tap.check(code(c.info(digest(alone))[1]) == "NOT_FOUND", "what went is in no list")
    other = Client(d, "other")
    _, e = other.put("g7", middle, containerd_io__gc_root="now")
    tap.check(e is None, "what another namespace has may be written anew", e)
    _, e = c.call(c.images.Delete, c.i.DeleteImageRequest(name="img", sync=True))
    tap.check(e is None and on_disk(d, leaf, middle, top) == [False, True, False],
              "without the image they go at once, but for the blob that another namespace has",
              on_disk(d, leaf, middle, top))
    tap.check(code(c.info(digest(middle))[1]) == "NOT_FOUND", "which only the other sees", "")
    c.call(c.leases.Create, c.l.CreateRequest(id="short", labels={
        "containerd.io/gc.expire": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))}))
    c.put("g8", shared, lease="short")
    collect()
    tap.check(on_disk(d, shared) == [True], "a lease holds until it runs out")
    tap.check(bh.wait_for(lambda: on_disk(d, shared) == [False], 20, 0.2), "and no longer, with nobody asking")
    tap.check(not c.call(c.leases.List, c.l.ListRequest(filters=["id==short"]))[0].leases, "it is gone itself")
    c.call(c.leases.Create, c.l.CreateRequest(id="writes"))
    m = c.c.WriteContentRequest
    c.write(m(action=c.c.WRITE, ref="held", data=b"x"), lease="writes")
    c.write(m(action=c.c.WRITE, ref="free", data=b"x"))
    collect()
    left = len(os.listdir(os.path.join(d.state, "content", "writes"))) - 1
    tap.check(c.status("held")[1] is None and c.status("free")[1] is None, "writes that aren't over stay")
    c.call(c.leases.Delete, c.l.DeleteRequest(id="writes", sync=True))
    tap.check(code(c.status("held")[1]) == "NOT_FOUND" and c.status("free")[1] is None, "those of a lease go with it")
    tap.check(len(os.listdir(os.path.join(d.state, "content", "writes"))) == left, "and what they wrote", left)
    c.put("g10", alone)
    c.put("g9", shared)
    c.call(c.content.Delete, c.c.DeleteContentRequest(digest=digest(shared)))
    tap.check(code(c.info(digest(shared))[1]) == "NOT_FOUND", "Delete")
    tap.check(bh.wait_for(lambda: on_disk(d, alone) == [False], 40, 0.5), "what nothing leads to goes, with nobody asking")
    tap.check(bh.wait_for(lambda: on_disk(d, shared) == [False], 5, 0.1), "what was deleted is off the disk soon")


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        d = bh.Daemon(folder, cni=False)
        try:
            d.start()
            data = test_write(d)
            test_read_again(d)
            test_errors(d, data)
            test_ingests(d)
            test_labels(d, data)
            test_crash(d)
            test_garbage(d)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception as e:  # the log says why
            import traceback
            tap.check(False, "the test runs to its end", traceback.format_exc())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
