"""containerd's events: what each topic tells, of clients' objects and of what the CRI makes in k8s.io; filters; events of
the clients' own."""

import hashlib
import json
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()
NAMES = "events", "event_types", "images", "containers", "tasks", "namespaces", "leases", "content", "snapshots", "transfer", "types"


class Api:
    """The modules of messages, and a stub of each service by its name."""

    def __init__(self, d, namespace="default"):
        import grpc
        self.grpc, self.meta = grpc, [("containerd-namespace", namespace)]
        self.channel = grpc.insecure_channel("unix://" + d.containerd, options=[("grpc.use_local_subchannel_pool", 1)])
        modules = bh.stubs_of(*("containerd/%s.proto" % n for n in NAMES))
        for i, name in enumerate(NAMES):
            setattr(self, name, modules[2 * i])
            stub = getattr(modules[2 * i + 1], name.capitalize() + "Stub", None)
            setattr(self, name + "_stub", stub and stub(self.channel))

    def __call__(self, service, method, request):
        return getattr(getattr(self, service + "_stub"), method)(request, metadata=self.meta, timeout=20)


class Follower:
    """What a subscription with these filters has told so far."""

    def __init__(self, d, *filters):
        self.api, self.told, self.error = Api(d), [], None
        self.call = self.api.events_stub.Subscribe(self.api.events.SubscribeRequest(filters=filters))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            for e in self.call:
                self.told.append(e)
        except self.api.grpc.RpcError as e:
            self.error = e

    def topics(self, text=""):
        """Of those whose event has the text in it."""
        return [e.topic for e in self.told if text.encode() in e.event.value]

    def heard(self, wanted, text="", seconds=10):
        """Whether it comes to these, in order, and nothing else."""
        good = bh.wait_for(lambda: self.topics(text) == wanted, seconds)
        return bool(good)

    def first(self, topic, text=""):
        return next((e for e in self.told if e.topic == topic and text.encode() in e.event.value), None)

    def end(self):
        self.call.cancel()
        self.thread.join(5)


def follow(d, *filters):
    """Once it listens to what happens from now on."""
    f, api = Follower(d, *filters), Api(d)
    listener = Follower(d, 'topic=="/here"') if filters else f
    from google.protobuf.any_pb2 import Any
    for _ in range(100):
        api("events", "Publish", api.events.PublishRequest(topic="/here", event=Any(type_url="x", value=b"y")))
        if bh.wait_for(lambda: listener.told, 0.2):
            break
    if filters:
        listener.end()
    bh.time.sleep(0.2)
    f.told.clear()
    return f


# --- the CRI's ---

def test_cri(d, c, image):
    pb, f = c.pb, follow(d)
    pod = bh.Pod(d, c, "told")
    tap.check(f.heard(["/containers/create"], pod.id), "a pod: a container is created", f.topics(pod.id))
    id = pod.run("main", image, ["true"])
    wanted = ["/snapshot/prepare", "/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    tap.check(f.heard(wanted, id), "a container: snapshot, container, task", f.topics(id))
    made = f.first("/containers/create", id)
    event = f.api.event_types.ContainerCreate.FromString(made.event.value)
    tap.check(made.namespace == "k8s.io" and event.id == id and event.image == image and
              event.runtime.name == "io.containerd.runc.v2", "with its image and runtime, in k8s.io", event)
    prepared = f.api.event_types.SnapshotPrepare.FromString(f.first("/snapshot/prepare", id).event.value)
    tap.check(prepared.key == id and prepared.parent.startswith("sha256:") and prepared.snapshotter == "overlayfs",
              "its snapshot is made on the image's", prepared)
    c.runtime.UpdateContainerResources(pb.UpdateContainerResourcesRequest(
        container_id=id, linux=pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20)))
    wanted.append("/containers/update")
    tap.check(f.heard(wanted, id), "new limits: an update", f.topics(id))
    event = f.api.event_types.ContainerUpdate.FromString(f.first("/containers/update", id).event.value)
    tap.check(event.id == id and event.snapshot_key == id and event.labels["io.cri-containerd.kind"] == "container",
              "with its labels", event)
    c.runtime.RemoveContainer(pb.RemoveContainerRequest(container_id=id))
    wanted += ["/containers/delete", "/snapshot/remove"]
    tap.check(f.heard(wanted, id), "its removal", f.topics(id))
    other = pod.run("other", image, ["sleep", "1000"])
    pod.remove()
    tap.check(bh.wait_for(lambda: f.topics(pod.id)[-1:] == ["/containers/delete"]), "a pod's removal", f.topics(pod.id))
    tap.check(f.topics(other)[-4:] == ["/tasks/exit", "/tasks/delete", "/containers/delete", "/snapshot/remove"],
              "takes its containers along, and tells that first", f.topics(other))
    f.end()


def test_cri_oom(d, c, image):
    """While the container lives: then it is no end, but told all the same."""
    pb, f = c.pb, follow(d)
    pod = bh.Pod(d, c, "hungry")
    limit = pb.LinuxContainerConfig(resources=pb.LinuxContainerResources(memory_limit_in_bytes=24 << 20))
    id = pod.run("main", image, ["sleep", "1000"], linux=limit)
    bh.wait_for(lambda: f.topics(id)[-1:] == ["/tasks/start"])
    wanted = f.topics(id)
    for n in (1, 2):
        status = pod.exec(id, "sh", "-c", "x=a; while :; do x=$x$x; done").exit_code
        wanted.append("/tasks/oom")
        tap.check(f.heard(wanted, id) and status == 137, "a process of it is killed for want of memory: /tasks/oom, %d" % n,
                  (status, f.topics(id)))
    event = f.api.event_types.TaskOOM.FromString(f.first("/tasks/oom", id).event.value)
    tap.check(event.container_id == id and pod.status(id).status.state == pb.CONTAINER_RUNNING, "it lives on", event)
    c.runtime.StopContainer(pb.StopContainerRequest(container_id=id, timeout=0))
    wanted += ["/tasks/exit", "/tasks/delete"]
    tap.check(f.heard(wanted, id), "its end tells no more of them", f.topics(id))
    pod.remove()
    f.end()


def test_cri_images(d, c, image, second):
    pb, f = c.pb, follow(d, "topic~=/images/")
    id = c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image))).image_ref

    def names(topic):
        return sorted(f.api.images.ImageCreate.FromString(e.event.value).name for e in f.told if e.topic == topic)
    tap.check(bh.wait_for(lambda: len(f.told) == 3), "a pull: three names are created", f.topics())
    listed = sorted(i.name for i in Api(d, "k8s.io")("images", "List", f.api.images.ListImagesRequest()).images)
    tap.check(names("/images/create") == listed and image in listed and id in listed and any("@" in n for n in listed),
              "name, digest and id, which are listed", (names("/images/create"), listed))
    event = f.api.images.ImageCreate.FromString(f.told[0].event.value)
    tap.check(f.told[0].namespace == "k8s.io" and event.labels["io.cri-containerd.image"] == "managed", "with the CRI's label", event)
    c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
    bh.push(second, REGISTRY, "one:1")
    c.images.PullImage(pb.PullImageRequest(image=pb.ImageSpec(image=image)))
    tap.check(bh.wait_for(lambda: len(f.told) == 6) and names("/images/update") == [image],
              "a second pull tells nothing; of another image: the name is updated", f.topics())
    f.told.clear()
    for i in c.images.ListImages(pb.ListImagesRequest()).images:
        c.images.RemoveImage(pb.RemoveImageRequest(image=pb.ImageSpec(image=i.id)))
    tap.check(bh.wait_for(lambda: len(f.told) == 5) and f.topics() == ["/images/delete"] * 5,
              "removed, each name is deleted", (f.topics(), names("/images/delete")))
    f.end()


# --- clients' objects ---

def test_objects(d, image):
    from google.protobuf.any_pb2 import Any
    from google.protobuf.field_mask_pb2 import FieldMask
    api, f = Api(d, "told"), follow(d, "namespace==told")
    api("namespaces", "Create", api.namespaces.CreateNamespaceRequest(namespace=api.namespaces.Namespace(name="told", labels={"a": "b"})))
    api("namespaces", "Update", api.namespaces.UpdateNamespaceRequest(namespace=api.namespaces.Namespace(name="told", labels={"a": "c"})))
    tap.check(f.heard(["/namespaces/create", "/namespaces/update"]), "namespaces", f.topics())
    one = api.containers.Container(id="c1", image="example.org/x:1", runtime=api.containers.Container.Runtime(name="io.containerd.runc.v2"),
                                   spec=Any(type_url="x", value=json.dumps({"ociVersion": "1.0.2"}).encode()))
    api("containers", "Create", api.containers.CreateContainerRequest(container=one))
    one.labels["x"] = "y"
    api("containers", "Update", api.containers.UpdateContainerRequest(container=one, update_mask=FieldMask(paths=["labels"])))
    api("containers", "Delete", api.containers.DeleteContainerRequest(id="c1"))
    tap.check(f.heard(["/containers/" + t for t in ("create", "update", "delete")], "c1"), "containers", f.topics("c1"))
    s = api.snapshots
    api("snapshots", "Prepare", s.PrepareSnapshotRequest(snapshotter="overlayfs", key="s1"))
    api("snapshots", "Commit", s.CommitSnapshotRequest(snapshotter="overlayfs", key="s1", name="s1-done"))
    api("snapshots", "Remove", s.RemoveSnapshotRequest(snapshotter="overlayfs", key="s1-done"))
    wanted = ["/snapshot/prepare", "/snapshot/commit", "/snapshot/remove"]
    tap.check(f.heard(wanted, "s1"), "snapshots", f.topics("s1"))
    blob = b"told"
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    w = api.content.WriteContentRequest
    list(api("content", "Write", iter([w(action=api.content.COMMIT, ref="r", total=len(blob), expected=digest, data=blob,
                                         labels={"containerd.io/gc.root": "1"})])))
    target = api.types.Descriptor(media_type="x", digest=digest, size=len(blob))
    api("images", "Create", api.images.CreateImageRequest(image=api.images.Image(name="mine:1", target=target)))
    api("images", "Update", api.images.UpdateImageRequest(image=api.images.Image(name="mine:1", target=target, labels={"x": "y"})))
    api("images", "Delete", api.images.DeleteImageRequest(name="mine:1"))
    tap.check(f.heard(["/images/" + t for t in ("create", "update", "delete")], "mine:1"), "images", f.topics("mine:1"))
    api("content", "Delete", api.content.DeleteContentRequest(digest=digest))
    tap.check(f.heard(["/content/create", "/content/delete"], digest), "content", f.topics(digest))
    bh.wait_for(lambda: bh.error_of(api, "namespaces", "Delete", api.namespaces.DeleteNamespaceRequest(name="told")) is None)
    tap.check(bh.wait_for(lambda: f.topics()[-1:] == ["/namespaces/delete"]), "a namespace's end", f.topics())
    f.end()


# --- filters, and clients' own events ---

def test_filters(d):
    from google.protobuf.any_pb2 import Any
    api = Api(d, "one")
    filters = {"topic": ['topic=="/mine/a"'], "expression": ["topic~=^/mine/[ab]$"], "namespace": ["namespace==two"],
               "both": ['topic=="/mine/a",namespace==two'], "either": ['topic=="/mine/b"', "namespace==two"],
               "inside": ["event.container_id==c7"]}
    followers = {name: follow(d, *f) for name, f in filters.items()}
    publish, event = api.events.PublishRequest, Any(type_url="mine", value=b"v")
    for topic in ("/mine/a", "/mine/b", "/mine/c"):
        api("events", "Publish", publish(topic=topic, event=event))
    Api(d, "two")("events", "Publish", publish(topic="/mine/a", event=event))
    envelope = api.types.Envelope
    wanted = {"topic": ["/mine/a"] * 2, "expression": ["/mine/a", "/mine/b", "/mine/a"], "namespace": ["/mine/a"],
              "both": ["/mine/a"], "either": ["/mine/b", "/mine/a"], "inside": []}
    for name, f in followers.items():
        tap.check(f.heard(wanted[name]), "a filter of %s" % name, f.topics())
    told = followers["namespace"].told[0]
    tap.check(told.namespace == "two" and told.event.type_url == "mine" and told.event.value == b"v" and
              told.timestamp.seconds > 0, "Publish: as it was published, with a time", told)
    api("events", "Forward", api.events.ForwardRequest(envelope=envelope(namespace="two", topic="/mine/f", event=event)))
    tap.check(followers["namespace"].heard(["/mine/a", "/mine/f"]), "Forward: in the envelope's namespace",
              followers["namespace"].topics())
    for f in followers.values():
        f.end()
    bad = Follower(d, "==")
    bad.thread.join(10)
    tap.check(bad.error is not None and bad.error.code() == api.grpc.StatusCode.INVALID_ARGUMENT, "a filter that is none", bad.error)
    for what, request in (("a topic without a slash", publish(topic="mine", event=event)), ("no topic", publish(event=event)),
                          ("no event", publish(topic="/mine"))):
        e = bh.error_of(api, "events", "Publish", request)
        tap.check(e is not None and e.code() == api.grpc.StatusCode.INVALID_ARGUMENT, "Publish of %s" % what, e)
    for what, e in (("no envelope", api.events.ForwardRequest()),
                    ("no namespace", api.events.ForwardRequest(envelope=envelope(topic="/mine", event=event)))):
        e = bh.error_of(api, "events", "Forward", e)
        tap.check(e is not None and e.code() == api.grpc.StatusCode.INVALID_ARGUMENT, "Forward of %s" % what, e)


REGISTRY = None


def main():
    global REGISTRY
    bh.isolate()
    with bh.Scratch() as folder:
        REGISTRY = bh.Registry(folder)
        d = bh.Daemon(folder).start()
        c = d.client()
        try:
            first = bh.make_image(folder, "busybox")
            second = bh.make_image(folder, "other", config=["--config.env", "OTHER=1"])
            bh.push(first, REGISTRY, "one:1")
            image = REGISTRY.host + "/one:1"
            test_cri_images(d, c, image, second)
            c.images.PullImage(c.pb.PullImageRequest(image=c.pb.ImageSpec(image=image)))
            test_cri(d, c, image)
            test_cri_oom(d, c, image)
            test_objects(d, image)
            test_filters(d)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(40).splitlines()))
            c.close()
            d.kill() if d.process.poll() is None else None
            REGISTRY.stop()
            d.remove_cgroups()
    tap.done()


main()
