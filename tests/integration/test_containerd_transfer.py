"""containerd's transfer service with its streams, by a client made from proto/: images pulled by the daemon into
namespaces, with progress and credentials; other names; archives exported and imported."""

import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
from transfer import Client, code  # noqa: E402

tap = bh.Tap()


def test_streams(d):
    import grpc
    c = Client(d)
    s = c.stream("one")
    tap.check(s.ready == "google.protobuf.Empty", "a stream is acknowledged", s.ready)
    try:
        c.stream("one")
        tap.check(False, "a second one of its name is refused")
    except grpc.RpcError as e:
        tap.check(code(e) == "ALREADY_EXISTS", "a second one of its name is refused", e)
    other = Client(d, "other").stream("one")
    tap.check(other.ready == "google.protobuf.Empty", "in another namespace the name is free")
    s.close()
    tap.check(s.read(c.tt.Progress) is None, "the client ends it")
    again = c.stream("one")
    tap.check(again.ready == "google.protobuf.Empty", "and then the name is free, too")
    try:
        next(c.streaming.Stream(iter([c.any(c.tt.ImageStore(name="x"))]), metadata=c.meta))
        tap.check(False, "a stream without a name is refused")
    except grpc.RpcError as e:
        tap.check(code(e) == "INVALID_ARGUMENT", "a stream without a name is refused", e)


def test_pull(d, name):
    c = Client(d)
    p = c.stream("progress")
    e = c.pull(name, progress="progress", labels={"a": "b"})
    tap.check(e is None, "a pull into a namespace", e)
    events = p.all(c.tt.Progress)
    tap.check(any(x.event == "complete" and x.name.startswith("layer-sha256:") and x.progress == x.total > 0 and
                  list(x.parents) == [name] for x in events), "its progress tells of the layer", events)
    i = c.image(name)
    tap.check(i and dict(i.labels) == {"a": "b"}, "the image is there, with its labels", i)
    blobs = c.blobs()
    manifest = blobs.get(i.target.digest) if i else None
    tap.check(len(blobs) == 3 and manifest and manifest.labels["containerd.io/gc.ref.content.config"] in blobs and
              manifest.labels["containerd.io/gc.ref.content.l.0"] in blobs, "and its content, each leading to the next",
              blobs)
    tap.check(Client(d, "other").image(name) is None and not Client(d, "other").blobs(), "no other namespace has it")
    e = c.pull(name, name="example.org/mine:1")
    tap.check(e is None and c.image("example.org/mine:1").target.digest == i.target.digest, "under a name of ours", e)
    e = c.run(c.tt.ImageStore(name=name), c.tt.ImageStore(name="example.org/tag:1", labels={"x": "y"}))
    t = c.image("example.org/tag:1")
    tap.check(e is None and t and t.target == i.target and dict(t.labels) == {"x": "y"}, "a tag", (e, t))
    e = c.run(c.tt.ImageStore(name=name), c.tt.ImageStore(name="example.org/tag:1"))
    tap.check(e is None, "the same tag again", e)
    e = c.run(c.tt.ImageStore(name="none"), c.tt.ImageStore(name="example.org/tag:2"))
    tap.check(code(e) == "NOT_FOUND", "a tag of nothing", e)
    for n in (name, "example.org/mine:1", "example.org/tag:1"):
        c.images.Delete(c.i.DeleteImageRequest(name=n, sync=True), metadata=c.meta)
    left = os.listdir(os.path.join(d.state, "content", "blobs", "sha256"))
    tap.check(not c.blobs() and not left, "without its names nothing is left", (c.blobs(), left))
    layers = [x for x in os.listdir(os.path.join(d.state, "layers")) if not x.startswith(".")]
    tap.check(bh.wait_for(lambda: not [x for x in os.listdir(os.path.join(d.state, "layers")) if not x.startswith(".")],
                          40, 0.5), "nor a layer", layers)


def test_export(d, name, folder):
    import hashlib
    import tarfile
    import threading
    c = Client(d)
    c.pull(name)
    s, data = c.stream("archive"), []

    def receive():
        window = 0
        while True:
            if window < 32768:
                s.write(c.tt.WindowUpdate(update=65536))
                window += 65536
            m = s.read(c.tt.Data)
            if m is None:
                return
            window -= len(m.data)
            data.append((len(m.data), window, m.data))
    t = threading.Thread(target=receive, daemon=True)
    t.start()
    c.run(c.tt.ImageStore(name=name), c.tt.ImageStore(name="example.org/two:2"))
    e = c.run(c.tt.ImageStore(name=name, extra_references=[c.tt.ImageReference(name="example.org/two:2")]),
              c.tt.ImageExportStream(stream="archive"))
    t.join(20)
    tap.check(e is None and not t.is_alive(), "an export, and the stream's end", e)
    tap.check(all(w >= 0 for _, w, _ in data), "no more at a time than the client's window takes", [x[:2] for x in data])
    path = os.path.join(folder, "exported.tar")
    with open(path, "wb") as f:
        f.write(b"".join(x[2] for x in data))
    with tarfile.open(path) as tar:
        names = tar.getnames()
        index = json.loads(tar.extractfile("index.json").read())["manifests"]
        docker = json.loads(tar.extractfile("manifest.json").read())
        good = all(hashlib.sha256(tar.extractfile(n).read()).hexdigest() == n.split("/")[-1]
                   for n in names if n.startswith("blobs/"))
    blobs = set(n.split("/")[-1] for n in names if n.startswith("blobs/"))
    tap.check(good and blobs == {b[7:] for b in c.blobs()} and {"index.json", "oci-layout", "manifest.json"} <= set(names),
              "the archive has the image's blobs as they are, and what names them", names)
    tap.check([i["annotations"]["io.containerd.image.name"] for i in index] == [name, "example.org/two:2"] and
              [i["RepoTags"] for i in docker] == [[name], ["example.org/two:2"]], "under both names", (index, docker))
    for kind in ("oci-archive:" + path + ":2", "docker-archive:" + path + ":example.org/two:2"):
        p = subprocess.run(["skopeo", "inspect", "--raw", kind], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        tap.check(p.returncode == 0, "skopeo reads it as " + kind.split(":")[0], p.stdout.decode())
    for n in (name, "example.org/two:2"):
        c.images.Delete(c.i.DeleteImageRequest(name=n, sync=True), metadata=c.meta)
    p = subprocess.run(["ctr", "-a", d.containerd, "images", "import", "--no-unpack", path], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    tap.check(p.returncode == 0 and c.image(name) and c.image("example.org/two:2"), "ctr imports it", p.stdout.decode())
    for n in (name, "example.org/two:2"):
        c.images.Delete(c.i.DeleteImageRequest(name=n, sync=True), metadata=c.meta)
    s = c.stream("nothing")
    e = c.run(c.tt.ImageStore(name=name), c.tt.ImageExportStream(stream="nothing"))
    tap.check(code(e) == "NOT_FOUND", "an export of nothing", e)
    e = c.run(c.tt.ImageStore(name=name), c.tt.ImageExportStream(stream="none"))
    tap.check(code(e) == "NOT_FOUND" and "no stream" in e.details(), "an export into nothing", e)
    e = c.run(c.tt.ImageStore(), c.tt.ImageExportStream(stream="none"))
    tap.check(code(e) == "INVALID_ARGUMENT", "an export that names no image", e)


def prefix(c, name, **how):
    return [c.tt.ImageReference(name=name, is_prefix=True, **how)]


def own_names(c):
    """As ctr asks for them, when it isn't given a base name."""
    return prefix(c, "import-today", allow_overwrite=True)


def image_names(c):
    return [i.name for i in c.images.List(c.i.ListImagesRequest(), metadata=c.meta).images]


def remove(c, *names):
    for n in names:
        c.images.Delete(c.i.DeleteImageRequest(name=n, sync=True), metadata=c.meta)


def blobs_left(d):
    return os.listdir(os.path.join(d.state, "content", "blobs", "sha256"))


def archives(source, folder):
    """skopeo's two kinds of the image at source."""
    oci, docker = os.path.join(folder, "oci.tar"), os.path.join(folder, "docker.tar")
    for to in ("oci-archive:" + oci + ":one", "docker-archive:" + docker + ":example.org/docker:1"):
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", source, to], check=True)
    return oci, docker


def test_import(d, source, folder):
    c = Client(d)
    oci, docker = archives(source, folder)
    p = c.stream("progress")
    e = c.import_archive(oci, progress="progress", extra_references=prefix(c, "example.org/in"), labels={"a": "b"})
    i = c.image("example.org/in:one")
    tap.check(e is None and i and dict(i.labels) == {"a": "b"}, "an OCI archive under the client's prefix", (e, i))
    told = [(x.event, x.name) for x in p.all(c.tt.Progress)]
    tap.check(told[:1] == [("Importing", "")] and ("saved", "example.org/in:one") in told, "and its progress", told)
    blobs = c.blobs()
    manifest = blobs.get(i.target.digest) if i else None
    tap.check(len(blobs) == 3 and manifest and manifest.labels["containerd.io/gc.ref.content.config"] in blobs and
              manifest.labels["containerd.io/gc.ref.content.l.0"] in blobs, "its content leads from each to the next",
              blobs)
    ctr = ["ctr", "-a", d.containerd]
    leases = subprocess.run(ctr + ["leases", "ls", "-q"], stdout=subprocess.PIPE).stdout.decode()
    snapshots = subprocess.run(ctr + ["snapshots", "ls"], stdout=subprocess.PIPE).stdout.decode()
    tap.check(leases == "" and snapshots.count("Committed") == 1, "it is unpacked, and no lease is left", (leases, snapshots))
    e = c.import_archive(oci, extra_references=prefix(c, "example.org/in", add_digest=True))
    named = c.image("example.org/in@" + i.target.digest)
    tap.check(e is None and named and named.target == i.target, "the same again, by its digest, too", e)
    remove(c, *image_names(c))
    tap.check(not c.blobs() and not blobs_left(d), "without its names nothing is left", (c.blobs(), blobs_left(d)))
    e = c.import_archive(docker, extra_references=own_names(c))
    i = c.image("example.org/docker:1")
    tap.check(e is None and i and i.target.media_type == "application/vnd.docker.distribution.manifest.v2+json",
              "a docker archive, with a manifest made for it", (e, i))
    p = subprocess.run(ctr + ["images", "check", "-q"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    tap.check(p.stdout.decode().split() == ["example.org/docker:1"], "which is complete", p.stdout.decode())
    remove(c, "example.org/docker:1")
    cri, k = d.client(), Client(d, "k8s.io")
    e = k.import_archive(docker, extra_references=own_names(k))
    names = [n for i in cri.images.ListImages(cri.pb.ListImagesRequest()).images for n in i.repo_tags]
    tap.check(e is None and names == ["example.org/docker:1"], "into k8s.io it is the CRI's image", (e, names))
    cri.images.RemoveImage(cri.pb.RemoveImageRequest(image=cri.pb.ImageSpec(image="example.org/docker:1")))
    cri.close()


def test_import_index(d, source, folder):
    """ctr images import --index-name: the archive's index is an image, too, and holds what it names."""
    c = Client(d)
    oci, docker = archives(source, os.path.join(folder, "index"))
    for what, path, names, all_names, size in (
        ("an OCI archive's index", oci, [], ["example.org/all:1"], 4),
        ("that of one whose image isn't named", oci, prefix(c, ""), ["example.org/all:1"], 4),
        ("beside its image", oci, prefix(c, "example.org/in"), ["example.org/all:1", "example.org/in:one"], 4),
        ("a docker archive's", docker, prefix(c, "example.org/docker"), ["example.org/all:1", "example.org/docker:1"], 4),
    ):
        e = c.import_archive(path, name="example.org/all:1", extra_references=names, labels={"a": "b"})
        i = c.image("example.org/all:1")
        tap.check(e is None and i and i.target.media_type == "application/vnd.oci.image.index.v1+json" and
                  dict(i.labels) == {"a": "b"}, what + " is kept", (e, i))
        remove(c, *all_names[1:])
        blobs = c.blobs()
        tap.check(len(blobs) == size, what + " holds the image", blobs)
        p = subprocess.run(["ctr", "-a", d.containerd, "images", "check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        tap.check("complete (2/2)" in p.stdout.decode() and "true" in p.stdout.decode(), "which is complete, and unpacked",
                  p.stdout.decode())
        p = subprocess.run(["ctr", "-a", d.containerd, "images", "ls"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        tap.check(c.here().architecture in p.stdout.decode(), "for this machine", p.stdout.decode())
        remove(c, "example.org/all:1")
        tap.check(bh.wait_for(lambda: not c.blobs() and not blobs_left(d), 10, 0.2), "without it nothing is left",
                  (c.blobs(), blobs_left(d)))
    e = c.import_archive(oci, extra_references=prefix(c, "example.org/in", add_digest=True))
    found = image_names(c)
    tap.check(e is None and len(found) == 3 and "example.org/in:one" in found, "with digests the index has one, too", (e, found))
    remove(c, *found)
    s = c.stream("progress")
    for what, names in (("no prefix", []), ("one that fits none", prefix(c, "example.net/other"))):
        e = c.import_archive(docker, progress="progress", extra_references=names)
        tap.check(e is None and not image_names(c) and not c.blobs(), "with %s nothing is kept, and that is no error" % what,
                  (e, image_names(c)))
    tap.check("Completed import" in [x.event for x in s.all(c.tt.Progress)], "it is told as done")


def repacked(path, change):
    """The archive of that path with the files that change gives: from name and bytes, None to leave one out."""
    import io
    import tarfile
    out = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=out, mode="w") as new:
        for m in old.getmembers():
            data = change(m.name, old.extractfile(m).read()) if m.isreg() else b""
            if data is not None:
                m.size = len(data)
                new.addfile(m, io.BytesIO(data))
    return out.getvalue()


def test_import_compressed(d, source, folder):
    import gzip
    c = Client(d)
    oci, docker = archives(source, os.path.join(folder, "compressed"))
    with open(oci, "rb") as f:
        plain = f.read()
    zstd = subprocess.run(["zstd", "-q", "-c", docker], stdout=subprocess.PIPE, check=True).stdout
    for what, name, data, store in (
        ("by gzip", "example.org/in:one", gzip.compress(plain), {"extra_references": prefix(c, "example.org/in")}),
        ("by zstd", "example.org/docker:1", zstd, {"extra_references": own_names(c)}),
    ):
        e = c.import_archive(None, data, **store)
        p = subprocess.run(["ctr", "-a", d.containerd, "images", "check", "-q"], stdout=subprocess.PIPE)
        tap.check(e is None and p.stdout.decode().split() == [name], "an archive that is compressed %s" % what, (e, p.stdout))
        remove(c, name)
    tap.check(not c.blobs() and not blobs_left(d), "and without their names nothing is left", blobs_left(d))


def test_import_refused(d, source, folder):
    import gzip
    import tarfile
    c = Client(d)
    oci, docker = archives(source, os.path.join(folder, "again"))
    with open(oci, "rb") as f:
        whole = f.read()
    with tarfile.open(oci) as tar:
        biggest = max((m for m in tar.getmembers() if m.isreg()), key=lambda m: m.size).name
    names = {"extra_references": prefix(c, "example.org/in")}
    elsewhere = json.dumps({"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                                           "digest": "sha256:" + "0" * 64}]}).encode()
    for what, want, sentence, data, store in (
        ("one that is cut short in a blob", "DATA_LOSS", "cut short", whole[:len(whole) // 3], names),
        ("one with a wrong blob", "", "", repacked(oci, lambda n, x: x[:-1] + b"?" if n == biggest else x), names),
        ("one without a layer", "NOT_FOUND", "needs blob",
         repacked(oci, lambda n, x: None if n == biggest else x), names),
        ("one without an index", "INVALID_ARGUMENT", "neither",
         repacked(oci, lambda n, x: None if n == "index.json" else x), names),
        ("one whose index is no JSON", "INVALID_ARGUMENT", "index.json",
         repacked(oci, lambda n, x: b"{" if n == "index.json" else x), names),
        ("one whose index isn't UTF-8", "INVALID_ARGUMENT", "UTF-8",
         repacked(oci, lambda n, x: x.replace(b'"one"', b'"\xc0\x80"') if n == "index.json" else x), names),
        ("one whose index is too long", "INVALID_ARGUMENT", "index.json",
         repacked(oci, lambda n, x: x + b" " * 300000 if n == "index.json" else x), names),
        ("one whose index names what isn't there", "NOT_FOUND", "no blob",
         repacked(oci, lambda n, x: elsewhere if n == "index.json" else x), names),
        ("docker's without its configuration", "NOT_FOUND", "manifest.json names",
         repacked(docker, lambda n, x: None if n.endswith(".json") and n != "manifest.json" else x), names),
        ("no archive", "INVALID_ARGUMENT", "no tar archive", b"x" * 4096, names),
        ("nothing", "INVALID_ARGUMENT", "neither", bytes(1024), names),
        ("one that is cut short in its compression", "DATA_LOSS", "", gzip.compress(whole)[:len(whole) // 4], names),
        ("one whose compression is broken", "DATA_LOSS", "decompress",
         b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 4096, names),
        ("what is no archive when decompressed", "INVALID_ARGUMENT", "no tar archive", gzip.compress(b"x" * 4096), names),
    ):
        e = c.import_archive(None, data, **store)
        tap.check(e is not None and (code(e) == want if want else code(e) != "OK") and sentence in e.details(),
                  "import of %s: %s" % (what, want), e)
        if not bh.wait_for(lambda: not c.blobs() and not blobs_left(d), 10, 0.2):
            tap.check(False, "after %s nothing is left" % what, (c.blobs(), blobs_left(d)))
    leases = subprocess.run(["ctr", "-a", d.containerd, "leases", "ls", "-q"], stdout=subprocess.PIPE).stdout.decode()
    active = subprocess.run(["ctr", "-a", d.containerd, "content", "active"], stdout=subprocess.PIPE).stdout.decode()
    tap.check(not c.blobs() and not blobs_left(d) and not leases and len(active.splitlines()) <= 1,
              "after those nothing is left", (blobs_left(d), leases, active))
    e = c.run(c.tt.ImageImportStream(stream="none"), c.tt.ImageStore(
        name="x", platforms=[c.types.Platform(os="linux", architecture="amd64")]))
    tap.check(code(e) == "NOT_FOUND" and "no stream" in e.details(), "an import from nothing", e)


def test_blob_lost(d, name):
    """A layer that outlives its blob doesn't make the next pull an incomplete one."""
    c = Client(d)
    c.pull(name)
    blobs = c.blobs()
    chain = next(i.labels["containerd.io/gc.ref.snapshot.overlayfs"] for i in blobs.values()
                 if "containerd.io/gc.ref.snapshot.overlayfs" in i.labels)
    ctr = ["ctr", "-a", d.containerd, "snapshots"]
    p = subprocess.run(ctr + ["prepare", "keeps", chain], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    tap.check(p.returncode == 0, "a snapshot on the image's", p.stdout.decode())
    c.images.Delete(c.i.DeleteImageRequest(name=name, sync=True), metadata=c.meta)
    folder = os.path.join(d.state, "content", "blobs", "sha256")
    tap.check(not os.listdir(folder) and os.path.isdir(os.path.join(d.state, "layers")), "the blobs go, the layer stays")
    e = c.pull(name)
    tap.check(e is None and {b[7:] for b in blobs} == set(os.listdir(folder)), "the next pull brings all of them",
              (e, os.listdir(folder)))
    subprocess.run(ctr + ["rm", "keeps"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    c.images.Delete(c.i.DeleteImageRequest(name=name, sync=True), metadata=c.meta)


def test_cri(d, name):
    c, cri = Client(d, "k8s.io"), d.client()
    tap.check(c.pull(name) is None, "a pull into k8s.io")
    names = [n for i in cri.images.ListImages(cri.pb.ListImagesRequest()).images for n in i.repo_tags]
    tap.check(names == [name], "is the CRI's image", names)
    cri.images.RemoveImage(cri.pb.RemoveImageRequest(image=cri.pb.ImageSpec(image=name)))
    cri.close()


def test_refused(d, name):
    c = Client(d)
    here = c.types.Platform(os="linux", architecture="amd64")
    for what, want, error in (
        ("another snapshotter", "NOT_FOUND", c.run(c.tt.OCIRegistry(reference=name), c.tt.ImageStore(
            name=name, platforms=[here], unpacks=[c.tt.UnpackConfiguration(snapshotter="zfs")]))),
        ("the client's own hosts folder", "INVALID_ARGUMENT", c.pull(name, resolver={"host_dir": "/etc/certs.d"})),
        ("no image", "NOT_FOUND", c.pull(name + "x")),
        ("no reference", "INVALID_ARGUMENT", c.pull("Bad Name")),
        ("no way", "UNIMPLEMENTED", c.run(c.tt.OCIRegistry(reference=name), c.tt.OCIRegistry(reference=name))),
    ):
        tap.check(code(error) == want and error.details(), "%s: %s" % (what, want), error)


def test_auth(d, name, user, secret):
    c = Client(d)

    def pull(response):
        return c.with_auth(response, lambda: c.pull(name, resolver={"auth_stream": "auth"}))
    q, e = pull(c.tt.AuthResponse(authType=c.tt.CREDENTIALS, username=user, secret=secret))
    tap.check(e is None, "a pull with credentials from the client's stream", e)
    tap.check(q and q.host == name.split("/")[0] and q.reference == name, "it is asked for those of the registry", q)
    c.images.Delete(c.i.DeleteImageRequest(name=name, sync=True), metadata=c.meta)
    _, e = pull(c.tt.AuthResponse(authType=c.tt.CREDENTIALS, username=user, secret="wrong"))
    tap.check(code(e) in ("UNAUTHENTICATED", "PERMISSION_DENIED"), "wrong ones are refused by the registry", e)
    _, e = pull(c.tt.AuthResponse(authType=c.tt.HEADER, secret="x"))
    tap.check(code(e) == "UNIMPLEMENTED", "a whole header field isn't taken", e)


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        registry = bh.Registry(folder)
        source = bh.make_image(folder, "one")
        bh.push(source, registry, "first:1")
        private = os.path.join(folder, "private")
        os.makedirs(private)
        htpasswd = os.path.join(private, "htpasswd")
        with open(htpasswd, "w") as f:
            subprocess.run(["htpasswd", "-nbB", "user", "secret"], stdout=f, check=True)
        guarded = bh.Registry(private, htpasswd)
        bh.push(source, guarded, "guarded:1", "--dest-creds=user:secret")
        d = bh.Daemon(folder, cni=False)
        try:
            d.start()
            test_streams(d)
            test_pull(d, registry.host + "/first:1")
            test_blob_lost(d, registry.host + "/first:1")
            test_export(d, registry.host + "/first:1", folder)
            os.makedirs(os.path.join(folder, "again"))
            os.makedirs(os.path.join(folder, "compressed"))
            os.makedirs(os.path.join(folder, "index"))
            test_import(d, source, folder)
            test_import_index(d, source, folder)
            test_import_compressed(d, source, folder)
            test_import_refused(d, source, folder)
            test_cri(d, registry.host + "/first:1")
            test_refused(d, registry.host + "/first:1")
            test_auth(d, guarded.host + "/guarded:1", "user", "secret")
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception:  # the log says why
            import traceback
            tap.check(False, "the test runs to its end", traceback.format_exc())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
            registry.stop()
            guarded.stop()
    tap.done()


main()
