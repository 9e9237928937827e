"""A client of containerd's transfer service, made from proto/, with its streams."""

import platform
import queue
import threading

import bulkhead as bh


class Client:
    def __init__(self, d, namespace="default"):
        import grpc
        (self.t, tg, self.tt, _, self.s, sg, self.i, ig, self.c, cg, self.types, _) = bh.stubs_of(
            "containerd/transfer.proto", "containerd/transfer_types.proto", "containerd/streaming.proto",
            "containerd/images.proto", "containerd/content.proto", "containerd/types.proto")
        self.channel = grpc.insecure_channel("unix://" + d.containerd)
        self.transfer, self.streaming = tg.TransferStub(self.channel), sg.StreamingStub(self.channel)
        self.images, self.content = ig.ImagesStub(self.channel), cg.ContentStub(self.channel)
        self.meta = [("containerd-namespace", namespace)]

    def any(self, m):
        from google.protobuf.any_pb2 import Any
        return Any(type_url=m.DESCRIPTOR.full_name, value=m.SerializeToString())

    def stream(self, name):
        return Stream(self, name)

    def run(self, source, destination, **options):
        import grpc
        try:
            self.transfer.Transfer(self.t.TransferRequest(
                source=self.any(source), destination=self.any(destination), options=self.t.TransferOptions(**options)),
                metadata=self.meta, timeout=60)
        except grpc.RpcError as e:
            return e
        return None

    def pull(self, reference, name=None, unpack=True, resolver=None, progress="", **store):
        here = self.here()
        store.setdefault("platforms", [here])
        if unpack:
            store["unpacks"] = [self.tt.UnpackConfiguration(platform=here)]
        return self.run(self.tt.OCIRegistry(reference=reference, resolver=self.tt.RegistryResolver(**(resolver or {}))),
                        self.tt.ImageStore(name=name or reference, **store), progress_stream=progress)

    def push(self, name, reference, resolver=None, progress=""):
        return self.run(self.tt.ImageStore(name=name), self.tt.OCIRegistry(
            reference=reference, resolver=self.tt.RegistryResolver(**(resolver or {}))), progress_stream=progress)

    def import_archive(self, path, data=None, unpack=True, progress="", until=None, **store):
        """The archive of that path, or these bytes of one, as an import; the error, or None. until: an Event before which
        the stream doesn't end."""
        import grpc
        if data is None:
            with open(path, "rb") as f:
                data = f.read()
        s = self.stream("import")

        def send():
            at, window = 0, 0
            try:
                while at < len(data):
                    if window == 0:
                        u = s.read(self.tt.WindowUpdate)
                        if u is None:
                            return
                        window += u.update
                    n = min(window, 32768, len(data) - at)
                    s.write(self.tt.Data(data=data[at:at + n]))
                    at, window = at + n, window - n
            except grpc.RpcError:
                return  # the import's own error says why
            if until:
                until.wait(60)
            s.close()
        t = threading.Thread(target=send, daemon=True)
        t.start()
        here = self.here()
        if unpack:
            store["unpacks"] = [self.tt.UnpackConfiguration(platform=here)]
        store.setdefault("platforms", [here])
        e = self.run(self.tt.ImageImportStream(stream="import"), self.tt.ImageStore(**store), progress_stream=progress)
        t.join(10)
        return e

    def export_archive(self, name, progress="", **how):
        """(the error, or None; the archive's bytes)"""
        s, data = self.stream("archive"), []

        def receive():
            while True:
                s.write(self.tt.WindowUpdate(update=65536))
                left = 65536
                while left > 0:
                    m = s.read(self.tt.Data)
                    if m is None:
                        return
                    left -= len(m.data)
                    data.append(m.data)
        t = threading.Thread(target=receive, daemon=True)
        t.start()
        e = self.run(self.tt.ImageStore(name=name), self.tt.ImageExportStream(stream="archive", **how), progress_stream=progress)
        t.join(20)
        return e, b"".join(data)

    def here(self):
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return self.types.Platform(os="linux", architecture=arch)

    def with_auth(self, response, run):
        """What is asked for on a stream "auth" that answers so, and what run() returns meanwhile."""
        s, asked = self.stream("auth"), []

        def answer():
            asked.append(s.read(self.tt.AuthRequest))
            s.write(response)
        t = threading.Thread(target=answer, daemon=True)
        t.start()
        e = run()
        t.join(5)
        return asked[0] if asked else None, e

    def image(self, name):
        found = [i for i in self.images.List(self.i.ListImagesRequest(), metadata=self.meta).images if i.name == name]
        return found[0] if found else None

    def blobs(self):
        return {i.digest: i for r in self.content.List(self.c.ListContentRequest(), metadata=self.meta) for i in r.info}


class Stream:
    def __init__(self, client, name):
        self.client, self.queue = client, queue.Queue()
        self.call = client.streaming.Stream(iter(self.queue.get, None), metadata=client.meta)
        self.queue.put(client.any(client.s.StreamInit(id=name)))
        self.ready = next(self.call).type_url

    def read(self, kind):
        """The next message, or None at the end."""
        for m in self.call:
            if m.type_url == kind.DESCRIPTOR.full_name:
                return kind.FromString(m.value)
        return None

    def all(self, kind):
        return [kind.FromString(m.value) for m in self.call if m.type_url == kind.DESCRIPTOR.full_name]

    def write(self, m):
        self.queue.put(self.client.any(m))

    def close(self):
        self.queue.put(None)


def code(error):
    return error.code().name if error is not None else "OK"
