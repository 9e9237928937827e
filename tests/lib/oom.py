"""Containers that are killed in for want of memory, and what containerd's clients are told of it."""

import threading

import bulkhead as bh

EATER = "x=a; while :; do x=$x$x; done"
LIMIT = 24 << 20


def follow(daemon, namespace):
    """Grows by a container's id with each /tasks/oom; there once it listens."""
    import grpc
    from google.protobuf.any_pb2 import Any
    pb, rpc, types, _ = bh.stubs_of("containerd/events.proto", "containerd/event_types.proto")
    events = rpc.EventsStub(grpc.insecure_channel("unix://" + daemon.containerd))
    listens, heard = threading.Event(), []

    def listen():
        try:
            for e in events.Subscribe(pb.SubscribeRequest(filters=['topic=="/tasks/oom"', 'topic=="/here"'])):
                if e.topic == "/tasks/oom":
                    heard.append(types.TaskOOM.FromString(e.event.value).container_id)
                listens.set()
        except grpc.RpcError:
            pass  # the daemon has ended
    threading.Thread(target=listen, daemon=True).start()
    here = pb.PublishRequest(topic="/here", event=Any(type_url="x", value=b"y"))
    while not listens.wait(0.2):
        events.Publish(here, metadata=[("containerd-namespace", namespace)])
    return heard
