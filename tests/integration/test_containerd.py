"""containerd's API as its own client, Debian's ctr, uses it: namespaces, containers, images' records, leases; and by a
client made from proto/, what ctr doesn't show."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()


def ctr(d, *args, namespace="default", ok=True):
    """(exit status is as expected, output)"""
    p = subprocess.run(["ctr", "-a", d.containerd, "-n", namespace] + list(args), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return (p.returncode == 0) == ok, p.stdout.decode()


def shows(d, name, args, *texts, missing=(), **kwargs):
    good, output = ctr(d, *args, **kwargs)
    tap.check(good and all(t in output for t in texts) and not any(t in output for t in missing), name, output)


def test_namespaces(d):
    shows(d, "namespaces create", ["namespaces", "create", "one", "a=b"])
    shows(d, "namespaces ls shows name and labels", ["namespaces", "ls"], "one", "a=b")
    shows(d, "namespaces label", ["namespaces", "label", "one", "c=d"])
    shows(d, "both labels are there", ["namespaces", "ls"], "a=b", "c=d")
    shows(d, "namespaces create of one that is there", ["namespaces", "create", "one"], "already exists", ok=False)
    shows(d, "namespaces rm", ["namespaces", "rm", "one"])
    shows(d, "namespaces ls without it", ["namespaces", "ls"], missing=["one"])


def test_leases(d):
    shows(d, "leases create", ["leases", "create", "--id", "l1", "x=y"], "l1")
    shows(d, "leases ls", ["leases", "ls"], "l1", "x=y")
    shows(d, "leases rm", ["leases", "rm", "l1"])
    shows(d, "leases ls without it", ["leases", "ls"], missing=["l1"])


def test_containers(d):
    rootfs = os.path.join(d.folder, "rootfs")
    os.makedirs(rootfs)
    shows(d, "containers create", ["containers", "create", "--rootfs", "--label", "app=shop", rootfs,
                                "c1", "/bin/true"])
    shows(d, "containers ls", ["containers", "ls"], "c1", "io.containerd.runc.v2")
    shows(d, "containers ls with a filter that fits", ["containers", "ls", "labels.app==shop"], "c1")
    shows(d, "containers ls with one that doesn't", ["containers", "ls", "labels.app==bank"], missing=["c1"])
    shows(d, "containers info has the specification as it was sent", ["containers", "info", "c1"], '"ID": "c1"',
          '"ociVersion"', '"/bin/true"')
    shows(d, "containers label", ["containers", "label", "c1", "tier=web"], "tier=web", "app=shop")
    shows(d, "a namespace with a container stays", ["namespaces", "rm", "default"], "still has containers", ok=False)
    shows(d, "containers are a namespace's own", ["containers", "ls"], namespace="other", missing=["c1"])
    d.stop()
    d.start()
    shows(d, "a container outlives the daemon", ["containers", "ls", "-q"], "c1")
    shows(d, "containers rm", ["containers", "rm", "c1"])
    shows(d, "containers ls without it", ["containers", "ls", "-q"], missing=["c1"])
    shows(d, "images ls", ["images", "ls"], "REF")


def test_runtime(d):
    """ctr plugins inspect-runtime: what the runtime says of itself."""
    import json
    import grpc
    from google.protobuf.any_pb2 import Any
    pb, stubs, types, _, runc, _ = bh.stubs_of("containerd/introspection.proto", "containerd/types.proto",
                                               "containerd/runc_options.proto")
    channel = grpc.insecure_channel("unix://" + d.containerd)
    stub = stubs.IntrospectionStub(channel)

    def any_of(m):
        return Any(type_url=m.DESCRIPTOR.full_name, value=m.SerializeToString())

    def ask(request, plugin=("io.containerd.runtime.v2", "task")):
        try:
            return stub.PluginInfo(pb.PluginInfoRequest(type=plugin[0], id=plugin[1], options=request), timeout=10)
        except grpc.RpcError as e:
            return e
    options = any_of(runc.Options(binary_name="runc"))
    a = ask(any_of(types.RuntimeRequest(runtime_path="io.containerd.runc.v2", options=options)))
    info = types.RuntimeInfo.FromString(a.extra.value)
    tap.check(a.plugin.id == "task" and a.extra.type_url == "containerd.types.RuntimeInfo" and
              info.name == "io.containerd.runc.v2" and info.version.version and info.options == options,
              "PluginInfo of a runtime: its name, version and options", a)
    f = json.loads(info.features.value)
    tap.check(info.features.type_url == "types.containerd.io/opencontainers/runtime-spec/1/features/Features" and
              {"ro", "rro", "rbind"} <= set(f["mountOptions"]) and "ridmap" not in f["mountOptions"] and f["hooks"] == [] and
              "network" in f["linux"]["namespaces"] and "CAP_SYS_ADMIN" in f["linux"]["capabilities"] and
              f["linux"]["seccomp"]["enabled"] and not f["linux"]["mountExtensions"]["idmap"]["enabled"], "and its features", f)
    tap.check(not ask(None).extra.type_url, "without options it is a plugin like any other")
    e = ask(any_of(types.RuntimeRequest(runtime_path="io.containerd.kata.v9")))
    tap.check(e.code().name == "NOT_FOUND" and "nothing is run by the runtime \"io.containerd.kata.v9\"" in e.details(),
              "a runtime that isn't here is NOT_FOUND", e)
    e = ask(any_of(types.RuntimeInfo()))
    tap.check(e.code().name == "UNIMPLEMENTED" and e.details(), "another question is UNIMPLEMENTED", e)
    e = ask(options, ("io.containerd.content.v1", "content"))
    tap.check(e.code().name == "UNIMPLEMENTED" and e.details(), "and so is one to another plugin", e)
    e = ask(None, ("io.containerd.content.v1", "none"))
    tap.check(e.code().name == "NOT_FOUND" and e.details(), "a plugin that isn't there is NOT_FOUND", e)
    channel.close()


def test_server(d):
    shows(d, "version", ["version"], "Server:", "bulkhead.")
    shows(d, "plugins ls", ["plugins", "ls"], "io.containerd.snapshotter.v1", "overlayfs", "linux/")
    shows(d, "plugins ls with a filter", ["plugins", "ls", "id==overlayfs"], "overlayfs", missing=["io.containerd.grpc.v1"])
    mods = bh.stubs_of("containerd/introspection.proto")
    pb, grpc_pb = mods[0], mods[1]
    import google.protobuf.empty_pb2 as empty
    import grpc

    def server():
        channel = grpc.insecure_channel("unix://" + d.containerd)
        stub = grpc_pb.IntrospectionStub(channel)
        answer = stub.Server(empty.Empty(), timeout=10)
        channel.close()
        return answer
    first = server()
    tap.check(len(first.uuid) == 36 and first.pid == d.process.pid and
              first.pidns == os.stat("/proc/%d/ns/pid" % d.process.pid).st_ino, "Server says who it is", first)
    d.stop()
    d.start()
    tap.check(server().uuid == first.uuid, "and is the same after a restart")


def test_events(d):
    with subprocess.Popen(["ctr", "-a", d.containerd, "events", 'topic~="^/(names|cont)"'], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE) as follower:
        os.set_blocking(follower.stdout.fileno(), False)
        seen = b""

        def saw(text):
            nonlocal seen
            seen += follower.stdout.read() or b""
            return text in seen
        # Whoever subscribes is heard only once it has.
        n = 0
        while not saw(b"/namespaces/create") and n < 50:
            ctr(d, "namespaces", "create", "event%d" % n)
            n += 1
        rootfs = os.path.join(d.folder, "rootfs")
        ctr(d, "containers", "create", "--rootfs", rootfs, "e1", "/bin/true")
        ctr(d, "containers", "label", "e1", "a=b")
        ctr(d, "containers", "rm", "e1")
        tap.check(bh.wait_for(lambda: saw(b"/containers/delete")) is not None, "events tells of a container's end", seen)
        lines = [line.split() for line in seen.splitlines()]
        topics = [w for line in lines for w in line if w.startswith(b"/containers/")]
        tap.check(topics == [b"/containers/create", b"/containers/update", b"/containers/delete"],
                  "in order, each once", seen)
        tap.check(b'"id":"e1"' in seen and b'"name":"event' in seen, "and what about", seen)
        follower.terminate()
    for i in range(n):
        ctr(d, "namespaces", "rm", "event%d" % i)


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        d = bh.Daemon(folder, cni=False)
        try:
            d.start()
            test_namespaces(d)
            test_leases(d)
            test_containers(d)
            test_server(d)
            test_runtime(d)
            test_events(d)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception as e:  # the log says why
            tap.check(False, "the test runs to its end", repr(e))
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
