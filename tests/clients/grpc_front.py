"""The API front as gRPC's C core sees it: grpc_front.py SOCKET PROTO_FOLDER

Behind the socket is the fake metadata worker of tests/unit/fake_metadata.h.
"""
import shutil
import sys
import tempfile
import threading
import time

import grpc
from grpc_tools import protoc

SOCKET, PROTO = sys.argv[1:3]
failures = 0
count = 0


def check(ok, name):
    global failures, count
    count += 1
    failures += not ok
    print(f"# {'ok' if ok else 'NOT OK'} {count} - {name}", flush=True)


def stubs():
    out = tempfile.mkdtemp(prefix="bulkhead-test-")
    files = ["cri/runtime.proto", "internal/admin.proto", "health/health.proto"]
    if protoc.main(["", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}"] + files) != 0:
        sys.exit("protoc failed")
    sys.path.insert(0, out)
    return out


def error(call):
    try:
        call()
    except grpc.RpcError as e:
        return e.code(), e.details()
    return grpc.StatusCode.OK, ""


OUT = stubs()
from cri import runtime_pb2 as cri, runtime_pb2_grpc as cri_grpc  # noqa: E402
from internal import admin_pb2 as admin, admin_pb2_grpc as admin_grpc  # noqa: E402
from health import health_pb2 as health, health_pb2_grpc as health_grpc  # noqa: E402

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
Code = grpc.StatusCode


def authorities():
    """Every :authority that a client of a unix socket may send."""
    for name in (None, "localhost", SOCKET, "unix:///" + SOCKET, "x y"):
        options = OPTIONS + ([("grpc.default_authority", name)] if name else [])
        with grpc.insecure_channel("unix:" + SOCKET, options=options) as channel:
            reply = cri_grpc.RuntimeServiceStub(channel).Version(cri.VersionRequest(), timeout=5)
            check(reply.runtime_name == "bulkhead" and reply.runtime_api_version == "v1", f":authority {name}")


def calls(channel):
    runtime = cri_grpc.RuntimeServiceStub(channel)
    images = cri_grpc.ImageServiceStub(channel)

    def status(name, **kw):
        return runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=name), **kw)

    check(status("web", timeout=5).status.id == "web", "a call through the metadata worker")
    check(len(status("big", timeout=5).status.id) == 2 << 20, "a reply of 2 MiB")
    code, text = error(lambda: status("missing"))
    check(code == Code.NOT_FOUND and text == 'container "missing": 100% gone, caf\u00e9', "an error's sentence: " + text)
    begun = time.monotonic()
    code, text = error(lambda: status("slow", timeout=0.2))
    check(code == Code.DEADLINE_EXCEEDED and time.monotonic() - begun < 2, "a deadline: " + text)
    future = runtime.ContainerStatus.future(cri.ContainerStatusRequest(container_id="slow"))
    time.sleep(0.05)
    future.cancel()
    check(status("after", timeout=5).status.id == "after", "a cancelled call doesn't disturb the next")

    def pull(size):
        return images.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image="i" * size)), timeout=20)

    check(pull((16 << 20) - 100).image_ref == str((16 << 20) - 100), "a request of almost 16 MiB")
    code, text = error(lambda: pull(17 << 20))
    check(code == Code.RESOURCE_EXHAUSTED and "limit is 16777216" in text, "one of 17 MiB: " + text)
    code, text = error(lambda: channel.unary_unary("/grpc.AgentService/ResizeVolume")(b""))
    check(code == Code.UNIMPLEMENTED and "ResizeVolume" in text, "unimplemented: " + text)
    code, text = error(lambda: channel.unary_unary("/a.B/C")(b""))
    check(code == Code.UNIMPLEMENTED and "a.B" in text, "unknown: " + text)
    code, text = error(lambda: runtime.Version(cri.VersionRequest(), compression=grpc.Compression.Gzip))
    check(code in (Code.OK, Code.UNIMPLEMENTED), "compression asked for: " + (text or "sent plain"))
    code, text = error(lambda: pull_compressed(images))
    check(code == Code.UNIMPLEMENTED, "a compressed request: " + text)
    alpha = channel.unary_unary("/runtime.v1alpha2.RuntimeService/Version",
                                request_serializer=cri.VersionRequest.SerializeToString,
                                response_deserializer=cri.VersionResponse.FromString)
    check(alpha(cri.VersionRequest()).runtime_api_version == "v1alpha2", "v1alpha2")


def pull_compressed(images):
    request = cri.PullImageRequest(image=cri.ImageSpec(image="i" * 100000))
    return images.PullImage(request, compression=grpc.Compression.Gzip, timeout=5)


def streams(channel):
    stub = admin_grpc.AdminStub(channel)
    events = list(stub.Pull(admin.PullRequest(image="busybox"), timeout=5))
    check(len(events) == 5 and events[-1].image_ref == "sha256:0", "a stream of replies")
    code, text = error(lambda: list(stub.Pull(admin.PullRequest(image="broken"), timeout=5)))
    check(code == Code.UNAVAILABLE and "registry is away" in text, "a stream that fails: " + text)


def healthy(channel):
    stub = health_grpc.HealthStub(channel)
    check(stub.Check(health.HealthCheckRequest()).status == 1, "health: serving")
    check(stub.Check(health.HealthCheckRequest(service="runtime.v1.ImageService")).status == 1, "health of a service")
    check(error(lambda: stub.Check(health.HealthCheckRequest(service="x")))[0] == Code.NOT_FOUND, "health of none")
    watches = {s: stub.Watch(health.HealthCheckRequest(service=s)) for s in ("", "runtime.v1.RuntimeService", "x")}
    first = {s: next(w).status for s, w in watches.items()}
    check(first == {"": 1, "runtime.v1.RuntimeService": 1, "x": 3}, f"Watch: serving, or unknown: {first}")
    time.sleep(0.2)
    check(all(w.is_active() for w in watches.values()), "Watch goes on, also of an unknown service")
    for w in watches.values():
        w.cancel()


def many(channel):
    """Threads that call at the same time, with and without large replies."""
    runtime = cri_grpc.RuntimeServiceStub(channel)
    wrong = []

    def work(n):
        for i in range(50):
            name = "big" if i % 25 == 24 else f"c{n}-{i}"
            reply = runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=name), timeout=20)
            if name != "big" and reply.status.id != name:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not wrong, "8 threads get their own answers")


authorities()
with grpc.insecure_channel("unix:" + SOCKET, options=OPTIONS) as c:
    calls(c)
    streams(c)
    healthy(c)
    many(c)
shutil.rmtree(OUT)
sys.exit(1 if failures else 0)
