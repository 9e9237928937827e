"""containerd's Transfer of images for several platforms: all that an index has, or those that the client names, pulled,
exported and imported."""

import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
from transfer import Client, code  # noqa: E402

tap = bh.Tap()

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PLATFORMS = (("linux", "amd64", ""), ("linux", "arm64", "v8"), ("linux", "s390x", ""), ("unknown", "unknown", ""))


class Image:
    """One for three platforms, with what looks like an attestation beside them."""

    def __init__(self, folder, registry):
        self.registry, self.name = registry, registry.host + "/several:all"
        self.blobs, entries = {}, []
        for platform in PLATFORMS:
            arch = platform[1]

            def prepare(root):
                with open(os.path.join(root, arch), "w") as f:
                    f.write(arch)
            source = bh.make_image(folder, arch, prepare, ["--architecture", arch])
            bh.push(source, registry, "several:" + arch)
            document = self.get("manifests/" + arch)
            manifest = json.loads(document)
            digest = "sha256:" + hashlib.sha256(document).hexdigest()
            self.blobs[arch] = {digest, manifest["config"]["digest"]} | {x["digest"] for x in manifest["layers"]}
            entries.append({"mediaType": MANIFEST, "digest": digest, "size": len(document), "platform": {
                "os": platform[0], "architecture": arch, **({"variant": platform[2]} if platform[2] else {})}})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        self.index = "sha256:" + hashlib.sha256(index).hexdigest()
        urllib.request.urlopen(urllib.request.Request("http://%s/v2/several/manifests/all" % registry.host, data=index,
                                                      method="PUT", headers={"Content-Type": INDEX}), timeout=20)

    def get(self, what):
        return urllib.request.urlopen(urllib.request.Request("http://%s/v2/several/%s" % (self.registry.host, what), headers={
            "Accept": MANIFEST}), timeout=20).read()

    def of(self, *architectures):
        """The blobs of those, and the index."""
        return {self.index}.union(*(self.blobs[a] for a in architectures))


def platforms(c, *architectures):
    return [c.types.Platform(os="linux", architecture=a) for a in architectures]


def snapshots(d):
    return bh.subprocess.run(["ctr", "-a", d.containerd, "snapshots", "ls"], stdout=bh.subprocess.PIPE).stdout.decode().splitlines()[1:]


def leases(d):
    return bh.subprocess.run(["ctr", "-a", d.containerd, "leases", "ls", "-q"], stdout=bh.subprocess.PIPE).stdout.decode().split()


def remove(c, *names):
    for n in names:
        c.images.Delete(c.i.DeleteImageRequest(name=n, sync=True), metadata=c.meta)


def collect(c, image):
    """Once, by an image that goes."""
    c.pull(image.registry.host + "/several:amd64", "example.org/other:1", unpack=False, platforms=platforms(c, "amd64"))
    remove(c, "example.org/other:1")


def test_pull(d, c, image):
    e = c.pull(image.name, platforms=[])
    tap.check(e is None, "a pull for all platforms", e)
    everything = image.of("amd64", "arm64", "s390x")
    tap.check(set(c.blobs()) == everything, "brings all of them, and no attestation", set(c.blobs()) ^ everything)
    found = c.image(image.name)
    tap.check(found and found.target.digest == image.index, "the image is the index", found)
    tap.check(not leases(d), "no lease is left", leases(d))
    collect(c, image)
    tap.check(set(c.blobs()) == everything, "the index holds all that it leads to", set(c.blobs()) ^ everything)
    tap.check(len(snapshots(d)) == 1, "what is to be unpacked is, and nothing else", snapshots(d))
    remove(c, image.name)
    tap.check(not c.blobs() and not snapshots(d), "with the image all of it goes", (c.blobs(), snapshots(d)))


def test_list(d, c, image):
    e = c.pull(image.name, unpack=False, platforms=platforms(c, "s390x", "arm64"))
    collect(c, image)
    tap.check(e is None and set(c.blobs()) == image.of("s390x", "arm64"), "a pull for two platforms brings those",
              (e, set(c.blobs()) ^ image.of("s390x", "arm64")))
    e = c.pull(image.name, unpack=False, platforms=platforms(c, "amd64"))
    collect(c, image)
    tap.check(e is None and set(c.blobs()) == image.of("amd64", "s390x", "arm64"), "another one adds its platform",
              (e, set(c.blobs()) ^ image.of("amd64", "s390x", "arm64")))
    remove(c, image.name)
    e = c.pull(image.name, platforms=platforms(c, "amd64", "mips"))
    tap.check(code(e) == "NOT_FOUND" and "mips" in e.details() and not c.image(image.name) and not leases(d),
              "a platform that it hasn't is an error, and no image is made", e)
    collect(c, image)
    tap.check(not c.blobs(), "nor is anything left of it", c.blobs())
    e = c.pull(image.registry.host + "/several:arm64", "example.org/one:1", unpack=False, platforms=[])
    tap.check(e is None and set(c.blobs()) == image.blobs["arm64"], "of an image without an index all is that one", e)
    remove(c, "example.org/one:1")


def files(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {"sha256:" + n.split("/")[-1] for n in tar.getnames() if n.startswith("blobs/sha256/")}


def test_archives(d, c, image):
    c.pull(image.name, unpack=False, platforms=[])
    e, one = c.export_archive(image.name, platforms=platforms(c, "arm64"))
    tap.check(e is None and files(one) == image.of("arm64"), "an export for one platform", e or files(one) ^ image.of("arm64"))
    everything = image.of("amd64", "arm64", "s390x")
    e, data = c.export_archive(image.name, all_platforms=True)
    tap.check(e is None and files(data) == everything, "an export for all", e or files(data) ^ everything)
    here = c.here().architecture
    p = c.stream("progress")
    e, mine = c.export_archive(image.name, progress="progress")
    tap.check(e is None and files(mine) == image.of(here), "without a platform it is for this machine's",
              e or files(mine) ^ image.of(here))
    told = [x.event for x in p.all(c.tt.Progress)]
    tap.check(told == ["Exporting", "Completed export"], "and its progress is told", told)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        layers = json.loads(tar.extractfile("manifest.json").read())[0]["Layers"]
    tap.check(layers and {"sha256:" + n.split("/")[-1] for n in layers} <= image.blobs[here], "docker reads this machine's of all",
              layers)
    e, _ = c.export_archive(image.name, platforms=platforms(c, "mips"))
    tap.check(code(e) == "NOT_FOUND" and e.details(), "an export for a platform that isn't there", e)
    remove(c, image.name)
    names = {"extra_references": [c.tt.ImageReference(name="import-today", is_prefix=True, allow_overwrite=True)]}
    e = c.import_archive(None, data, platforms=[], **names)
    tap.check(e is None and set(c.blobs()) == everything and c.image(image.name), "an import for all",
              e or set(c.blobs()) ^ everything)
    tap.check(len(snapshots(d)) == 1 and not leases(d), "unpacked for this machine", (snapshots(d), leases(d)))
    remove(c, image.name)
    e = c.import_archive(None, data, unpack=False, platforms=platforms(c, "s390x", "amd64"), **names)
    collect(c, image)
    tap.check(e is None and set(c.blobs()) == image.of("s390x", "amd64"), "an import for two",
              e or set(c.blobs()) ^ image.of("s390x", "amd64"))
    remove(c, image.name)
    e = c.import_archive(None, one, unpack=False, platforms=[], **names)
    tap.check(code(e) == "NOT_FOUND" and not c.image(image.name), "all of what the archive has only a part of", e)
    tap.check(not c.blobs() and not leases(d), "nothing is left of it", (c.blobs(), leases(d)))


def test_incomplete(d, c, image):
    """What is wanted and isn't here is an error: an archive without it would be one of another image."""
    c.pull(image.name, unpack=False, platforms=platforms(c, "amd64", "arm64"))
    for what, how in (("all", {"all_platforms": True}), ("that one", {"platforms": platforms(c, "s390x")})):
        e, data = c.export_archive(image.name, **how)
        tap.check(code(e) == "NOT_FOUND" and "sha256:" in e.details() and not data, "an export for %s, of what has but others" % what, e)
    e, data = c.export_archive(image.name, platforms=platforms(c, "amd64", "arm64"))
    tap.check(e is None and files(data) == image.of("amd64", "arm64"), "for those that are here", e or files(data))
    layer = next(b for b in image.blobs["amd64"] if b.endswith(max(x[7:] for x in image.blobs["amd64"])))
    c.content.Delete(c.c.DeleteContentRequest(digest=layer), metadata=c.meta)
    e, data = c.export_archive(image.name, platforms=platforms(c, "amd64"))
    tap.check(code(e) == "NOT_FOUND" and layer in e.details() and not data, "and without one of its blobs", e)
    e, data = c.export_archive(image.name, platforms=platforms(c, "arm64"))
    tap.check(e is None and files(data) == image.of("arm64"), "the other's are whole", e)
    remove(c, image.name)
    collect(c, image)


def test_foreign(d, c, image):
    """A layer that isn't to be handed on, as those of Windows."""
    blobs = {}

    def put(data):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        w = c.c.WriteContentRequest
        list(c.content.Write(iter([w(action=c.c.WRITE, ref=digest, total=len(data), expected=digest, data=data),
                                   w(action=c.c.COMMIT, ref=digest, offset=len(data), total=len(data), expected=digest,
                                     labels={"containerd.io/gc.root": "now"})]), metadata=c.meta))
        blobs[digest] = data
        return digest
    layer = put(b"foreign")
    manifest = put(json.dumps({"schemaVersion": 2, "config": {"mediaType": "x", "digest": put(b"{}"), "size": 2}, "layers": [{
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": layer, "size": 7}]}).encode())
    c.images.Create(c.i.CreateImageRequest(image=c.i.Image(name="example.org/foreign:1", target=c.types.Descriptor(
        media_type=MANIFEST, digest=manifest, size=len(blobs[manifest])))), metadata=c.meta)
    e, data = c.export_archive("example.org/foreign:1")
    tap.check(e is None and files(data) == set(blobs), "a foreign layer is exported with its image, without labels that lead to it",
              e or files(data))
    e, data = c.export_archive("example.org/foreign:1", skip_non_distributable=True)
    tap.check(e is None and files(data) == set(blobs) - {layer}, "unless the client wants none", e or files(data))
    remove(c, "example.org/foreign:1")
    broken = put(b'{"layers": 7}')
    c.images.Create(c.i.CreateImageRequest(image=c.i.Image(name="example.org/broken:1", target=c.types.Descriptor(
        media_type=MANIFEST, digest=broken, size=13))), metadata=c.meta)
    e, data = c.export_archive("example.org/broken:1")
    tap.check(code(e) == "DATA_LOSS" and "no manifest" in e.details() and not data, "a manifest that is none is an error", e)
    remove(c, "example.org/broken:1")
    for digest in blobs:
        c.content.Delete(c.c.DeleteContentRequest(digest=digest), metadata=c.meta)


def test_cri(d, image):
    c = Client(d, "k8s.io")
    for what, wanted in (("all", []), ("two", platforms(c, "amd64", "arm64"))):
        e = c.pull(image.name, platforms=wanted)
        tap.check(code(e) == "UNIMPLEMENTED" and not c.blobs(), "%s in k8s.io, where images are for one platform" % what, e)


def main():
    bh.isolate()
    if bh.shutil.which("ctr") is None:
        tap.skip("images of several platforms", "no ctr (Debian's package containerd)")
        tap.done()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        registry = bh.Registry(folder)
        image = Image(folder, registry)
        d = bh.Daemon(folder, cni=False)
        try:
            d.start()
            c = Client(d)
            test_pull(d, c, image)
            test_list(d, c, image)
            test_archives(d, c, image)
            test_incomplete(d, c, image)
            test_foreign(d, c, image)
            test_cri(d, image)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
            registry.stop()
    tap.done()


main()
