"""Images as containerd's own client, Debian's ctr, handles them: fetched from a registry, imported, exported, tagged,
labelled, removed; content by content; and in k8s.io the same images as the CRI's."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()


def ctr(d, *args, namespace="default", ok=True, stdin=None):
    """(exit status is as expected, output)"""
    p = subprocess.run(["ctr", "-a", d.containerd, "-n", namespace] + list(args), input=stdin, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=120)
    return (p.returncode == 0) == ok, p.stdout.decode(errors="replace")


def shows(d, name, args, *texts, missing=(), **kwargs):
    good, output = ctr(d, *args, **kwargs)
    return tap.check(good and all(t in output for t in texts) and not any(t in output for t in missing), name, output)


def check(d, name, *texts, **kwargs):
    """images check; what is unpacked it can say only with a snapshots service."""
    return shows(d, name, ["images", "check"], *texts, ok=has_snapshots(d), **kwargs)


def has_snapshots(d):
    return ctr(d, "snapshots", "ls")[0]


def blobs(d):
    return set(os.listdir(os.path.join(d.state, "content", "blobs", "sha256")))


def images(d):
    """What the CRI has: {name: id}"""
    c = d.client()
    try:
        return {n: i.id for i in c.images.ListImages(c.pb.ListImagesRequest()).images
                for n in list(i.repo_tags) + list(i.repo_digests)}
    finally:
        c.close()


def test_fetch(d, name):
    shows(d, "content fetch", ["content", "fetch", "--plain-http", name], "done")
    shows(d, "images ls", ["images", "ls"], name, "application/vnd.oci.image.manifest.v1+json")
    good, out = ctr(d, "content", "ls")
    lines = [line for line in out.splitlines() if line.startswith("sha256:")]
    tap.check(good and len(lines) == 3, "content ls: manifest, configuration and layer", out)
    manifest = next((line.split()[0] for line in lines if "gc.ref.content.config" in line), "")
    good, out = ctr(d, "content", "get", manifest)
    tap.check(good and "sha256:" + hashlib.sha256(out.encode()).hexdigest() == manifest, "content get", out)
    config = json.loads(out)["config"]["digest"] if good else ""
    shows(d, "content get of none", ["content", "get", "sha256:" + "0" * 64], "not found", ok=False)
    shows(d, "content label", ["content", "label", config, "a=b"], "a=b")
    shows(d, "content ls with a filter", ["content", "ls", "labels.a==b"], config, missing=[manifest])
    shows(d, "content active", ["content", "active"], "REF")
    check(d, "images check says what is there", name, "complete (2/2)")
    data = b"some bytes\n"
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    shows(d, "content ingest", ["content", "ingest", "--expected-digest", digest, "r1"], stdin=data)
    shows(d, "content get of what was ingested", ["content", "get", digest], "some bytes")
    shows(d, "content ingest of other bytes", ["content", "ingest", "--expected-digest", digest[:-1] + "0", "r2"],
          "unexpected commit digest", stdin=data, ok=False)
    shows(d, "content active names it", ["content", "active"], "r2")
    os.environ["EDITOR"] = os.path.join(d.folder, "editor")
    with open(os.environ["EDITOR"], "w", opener=lambda p, f: os.open(p, f, 0o755)) as f:
        f.write('#!/bin/sh\nprintf "more bytes\\n" > "$1"\n')
    edited = "sha256:" + hashlib.sha256(b"more bytes\n").hexdigest()
    shows(d, "content edit", ["content", "edit", digest], edited)
    shows(d, "content get of what was edited", ["content", "get", edited], "more bytes")
    host = name.split("/")[0]
    shows(d, "content push-object", ["content", "push-object", "--plain-http", host + "/first:1", edited, "text/plain"])
    shows(d, "content fetch-object", ["content", "fetch-object", "--plain-http", host + "/first:1"], "schemaVersion")
    shows(d, "content rm of both", ["content", "rm", edited], edited)
    shows(d, "content rm", ["content", "rm", digest], digest)
    shows(d, "content get of what was removed", ["content", "get", digest], "not found", ok=False)
    return manifest


def test_names(d, name, manifest, folder):
    shows(d, "images tag", ["images", "tag", name, "example.org/other:1"], "example.org/other:1")
    shows(d, "images tag of a name that is there", ["images", "tag", name, "example.org/other:1"], "already exists", ok=False)
    shows(d, "images tag --force", ["images", "tag", "--force", name, "example.org/other:1"])
    shows(d, "images label", ["images", "label", "example.org/other:1", "x=y"], "x=y")
    shows(d, "images ls with a filter", ["images", "ls", "-q", "labels.x==y"], "example.org/other:1", missing=[name])
    tar = os.path.join(folder, "exported.tar")
    shows(d, "images export", ["images", "export", tar, "example.org/other:1"])
    with tarfile.open(tar) as t:
        members = t.getnames()
    tap.check("blobs/sha256/" + manifest[7:] in members and "index.json" in members, "it is an OCI layout", members)
    shows(d, "images rm of one name", ["images", "rm", name], name)
    check(d, "the content stays for the other", "example.org/other:1", "complete (2/2)", missing=[name])
    shows(d, "images rm --sync", ["images", "rm", "--sync", "example.org/other:1"], "example.org/other:1")
    tap.check(not blobs(d), "without a name the blobs are gone at once", blobs(d))
    shows(d, "images import", ["images", "import", "--no-unpack", tar])
    check(d, "what was exported is there again", "example.org/other:1", "complete (2/2)")
    shows(d, "images rm --sync again", ["images", "rm", "--sync", "example.org/other:1"])


def test_unpacked(d, name):
    """With the snapshots service, what an image is for."""
    good, out = ctr(d, "images", "pull", "--plain-http", name)
    if not good and "services.diff.v1.Diff at endpoint" in out:
        tap.skip("images pull", "there is no service Diff")
        ctr(d, "images", "rm", "--sync", name)
        return
    tap.check(good and "done" in out, "images pull", out)
    check(d, "it is unpacked", name, "complete (2/2)", "true")
    good, out = ctr(d, "snapshots", "usage")
    tap.check(good and "sha256:" in out and " 0.0 B" not in out, "snapshots usage", out)
    shows(d, "images rm --sync of what is unpacked", ["images", "rm", "--sync", name])
    good, out = ctr(d, "snapshots", "ls")
    tap.check(good and "sha256:" not in out, "its snapshots go with it", out)
    tap.check(not os.listdir(os.path.join(d.state, "layers")) or not [
        f for f in os.listdir(os.path.join(d.state, "layers")) if not f.startswith(".")], "and its layers",
        os.listdir(os.path.join(d.state, "layers")))


def ids(d, c, name, image_id):
    """An image's id is one of its names: it goes and comes like the others, and leads nowhere else."""
    pb = c.pb
    k8s = dict(namespace="k8s.io")

    def of_cri(what):
        return c.images.ImageStatus(pb.ImageStatusRequest(image=pb.ImageSpec(image=what))).image.id
    shows(d, "label of the id", ["images", "label", image_id, "x=y"], "x=y", **k8s)
    shows(d, "which is that name's alone", ["images", "ls", "labels.x==y"], image_id, missing=[name], **k8s)
    shows(d, "rm of the id alone", ["images", "rm", image_id], **k8s)
    shows(d, "takes that name away", ["images", "ls"], name, missing=[image_id + " "], **k8s)
    tap.check(of_cri(name) == of_cri(image_id) == image_id, "the CRI has its image, and finds it by its id")
    good, out = ctr(d, "images", "rm", image_id, **k8s)
    tap.check("not found" in out, "a second rm finds nothing", out)
    old = d.processes()["metadata"]
    os.kill(old[0], signal.SIGKILL)
    bh.wait_for(lambda: d.processes().get("metadata") not in (None, [], old))
    shows(d, "it stays away after kill -9 of metadata", ["images", "ls"], name, missing=[image_id + " "], **k8s)
    shows(d, "tag gives it back", ["images", "tag", name, image_id], **k8s)
    shows(d, "without the labels that it had", ["images", "ls", "labels.x==y"], missing=[image_id], **k8s)
    shows(d, "as a name", ["images", "ls"], image_id + " ", **k8s)


def test_cri(d, name, other):
    """The CRI's images in k8s.io, and the other way round."""
    c = d.client()
    pb = c.pb
    image_id = c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=name))).image_ref
    k8s = dict(namespace="k8s.io")
    digest = next(n for n in images(d) if "@" in n)
    shows(d, "an image of the CRI shows in k8s.io by name, digest and id", ["images", "ls"], name, digest, image_id,
          "io.cri-containerd.image=managed", **k8s)
    shows(d, "and nowhere else", ["images", "ls"], missing=[name])
    check(d, "its content is all there", name, "complete (2/2)", **k8s)
    shows(d, "with the labels that containerd gives", ["content", "ls"], "containerd.io/gc.ref.content.config=" + image_id,
          "containerd.io/gc.ref.content.l.0=", "containerd.io/gc.ref.snapshot.overlayfs=",
          "containerd.io/distribution.source.", **k8s)
    shows(d, "content label", ["content", "label", image_id, "a=b"], "a=b", **k8s)
    shows(d, "content ls shows it once", ["content", "ls", "-q", "labels.a==b"], image_id, **k8s)
    good, out = ctr(d, "content", "ls", "-q", **k8s)
    tap.check(good and sorted(out.split()) == sorted(set(out.split())) and len(out.split()) == 3, "nothing twice", out)
    shows(d, "tag", ["images", "tag", name, "example.org/mine:1"], **k8s)
    tap.check(images(d).get("example.org/mine:1") == image_id, "the CRI sees the tag", images(d))
    shows(d, "label", ["images", "label", "example.org/mine:1", "x=y"], "x=y", **k8s)
    shows(d, "the label stays", ["images", "ls", "labels.x==y"], "example.org/mine:1", missing=[name], **k8s)
    shows(d, "rm of a tag", ["images", "rm", "example.org/mine:1"], **k8s)
    tap.check("example.org/mine:1" not in images(d) and images(d).get(name) == image_id, "the CRI sees that, too",
              images(d))
    tar = os.path.join(d.folder, "cri.tar")
    shows(d, "export of the CRI's image", ["images", "export", tar, name], **k8s)
    ids(d, c, name, image_id)
    shows(d, "rm of all names but the id", ["images", "rm", "--sync", name, digest], **k8s)
    left = c.images.ListImages(pb.ListImagesRequest()).images
    tap.check([i.id for i in left] == [image_id] and not left[0].repo_tags and not left[0].repo_digests and blobs(d),
              "leaves the CRI an image without names", left)
    shows(d, "which shows by its id", ["images", "ls"], image_id, missing=[name, digest], **k8s)
    shows(d, "rm of the id", ["images", "rm", "--sync", image_id], **k8s)
    left = c.images.ListImages(pb.ListImagesRequest()).images
    tap.check(not left and not blobs(d), "leaves nothing", (left, blobs(d)))
    shows(d, "import", ["images", "import", "--no-unpack", tar], **k8s)
    tap.check(images(d).get(name) == image_id, "what was imported is the CRI's", images(d))
    c.images.RemoveImage(pb.RemoveImageRequest(image=pb.ImageSpec(image=name)))
    shows(d, "what the CRI removes is gone from k8s.io", ["images", "ls", "-q"], missing=[name, image_id], **k8s)
    tap.check(not blobs(d), "with its content", blobs(d))
    shows(d, "content fetch", ["content", "fetch", "--plain-http", other], "done", **k8s)
    tap.check(other in images(d), "makes an image of the CRI", images(d))
    d.stop()
    d.start()
    tap.check(other in images(d), "which outlives the daemon", images(d))
    check(d, "and its content", other, "complete (2/2)", **k8s)
    c.close()
    c = d.client()
    pod = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="p", uid="u", namespace="n"), hostname="p",
                              linux=pb.LinuxPodSandboxConfig(security_context=pb.LinuxSandboxSecurityContext(
                                  namespace_options=pb.NamespaceOption(network=pb.NODE))))
    p = c.runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=pod)).pod_sandbox_id
    x = c.runtime.CreateContainer(pb.CreateContainerRequest(pod_sandbox_id=p, sandbox_config=pod, config=pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="c"), image=pb.ImageSpec(image=other), command=["/bin/busybox", "sleep", "60"])))
    c.runtime.StartContainer(pb.StartContainerRequest(container_id=x.container_id))
    out = c.runtime.ExecSync(pb.ExecSyncRequest(container_id=x.container_id, cmd=["/bin/busybox", "echo", "hello"], timeout=10))
    tap.check(out.stdout == b"hello\n", "a container of the CRI runs from what ctr brought", out)
    c.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=p))
    c.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=p))
    id = images(d)[other]
    shows(d, "rm", ["images", "rm", "--sync", other, id], **k8s)
    tap.check(not images(d) and not blobs(d), "leaves nothing here, either", (images(d), blobs(d)))
    c.close()


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        registry = bh.Registry(folder)
        source = bh.make_image(folder, "one")
        for image in ("first:1", "second:1"):
            bh.push(source, registry, image)
        d = bh.Daemon(folder, cni=False)
        certs = os.path.join(folder, "certs.d", registry.host)
        os.makedirs(certs)
        with open(os.path.join(certs, "hosts.toml"), "w") as f:
            f.write('server = "http://%s"\n' % registry.host)
        first, second = (registry.host + "/" + n for n in ("first:1", "second:1"))
        try:
            d.start()
            manifest = test_fetch(d, first)
            test_names(d, first, manifest, folder)
            test_unpacked(d, first)
            test_cri(d, first, second)
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
    tap.done()


main()
