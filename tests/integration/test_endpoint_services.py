"""Every call of containerd's services, of both ages, and of the draft CRI, on a read-only endpoint and on one for metrics:
exactly what only looks is served. (Those of today's CRI are in test_endpoints.py.)"""

import glob
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
import grpc  # noqa: E402 (not needed outside)
tap = bh.Tap()

GROUPS = "containerd containerd-seed sandbox-seed cri-seed"
PROTOS = "containerd", "containerd_seed", "cri_seed"
CTD, SEED = "containerd.services.", "containerd.v1."

# Answered to anybody, since they ask nobody; figures; what else only looks.
ANYBODY = {CTD + "version.v1.Version/Version", CTD + "introspection.v1.Introspection/Plugins",
           CTD + "introspection.v1.Introspection/PluginInfo", SEED + "Version/Version", "runtime.RuntimeService/Version"}
METRICS = {CTD + "tasks.v1.Tasks/Metrics", CTD + "sandbox.v1.Controller/Metrics", CTD + "sandbox.v1.Controller/Ping",
           CTD + "introspection.v1.Introspection/Server"}
LOOKS = {
    CTD + "containers.v1.Containers": "Get List ListStream",
    CTD + "content.v1.Content": "Info List Read Status ListStatuses",
    CTD + "events.v1.Events": "Subscribe",
    CTD + "images.v1.Images": "Get List",
    CTD + "leases.v1.Leases": "List ListResources",
    CTD + "namespaces.v1.Namespaces": "Get List",
    CTD + "sandbox.v1.Controller": "Platform Status Wait",
    CTD + "sandbox.v1.Store": "Get List",
    CTD + "snapshots.v1.Snapshots": "List Stat Usage",
    CTD + "tasks.v1.Tasks": "Get List ListPids Wait",
    SEED + "Containers": "Get List",
    SEED + "Content": "Info List Read Status",
    SEED + "Images": "Get List",
    SEED + "services.execution.Tasks": "Events Info List Processes",
    SEED + "snapshot.Snapshot": "List Stat Usage",
    "runtime.RuntimeService": "ContainerStatus ListContainers ListPodSandbox PodSandboxStatus",
    "runtime.ImageService": "ImageStatus ListImages",
}
READ = METRICS | {"%s/%s" % (service, m) for service, names in LOOKS.items() for m in names.split()}


def methods():
    """Of all services in the .proto files: "package.Service/Method"."""
    found = set()
    for folder in PROTOS:
        for path in glob.glob(os.path.join(bh.TOP, "proto", folder, "*.proto")):
            with open(path) as f:
                text = re.sub(r"//.*", "", f.read())
            package = re.search(r"^package ([\w.]+);", text, re.M)
            for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.M | re.S):
                found |= {"%s.%s/%s" % (package.group(1), service, m) for m in re.findall(r"rpc (\w+)\s*\(", body)}
    return sorted(found)


def answer(channel, method):
    """The code and the sentence that an empty request ends with, whatever the method's types are."""
    try:
        for _ in channel.unary_stream("/" + method)(b"", timeout=1, metadata=[("containerd-namespace", "none")]):
            return "OK", ""
        return "OK", ""
    except grpc.RpcError as e:
        return e.code().name, e.details()


def test_access(d, name, allowed, phrase):
    channel = grpc.insecure_channel("unix://" + os.path.join(d.run, name + ".sock"))
    wrong, silent, n = [], [], 0
    for m in methods():
        code, text = answer(channel, m)
        if code == "UNIMPLEMENTED":
            continue
        n += 1
        if (code == "PERMISSION_DENIED") == (m in allowed | ANYBODY):
            wrong.append((m, code, text))
        if code == "PERMISSION_DENIED" and text != 'endpoint "%s" %s: %s isn\'t served' % (name, phrase, m.split("/")[1]):
            silent.append((m, text))
    tap.check(not wrong, "%s: exactly what its access names is served, of %d calls" % (name, n), wrong)
    tap.check(not silent, "%s: the rest is refused with the reason" % name, silent)
    channel.close()


def test_log(d):
    """Each refusal is one line with the caller's credentials, as the kernel says them."""
    refused = [m for m in methods() if m not in READ | ANYBODY]
    with open(d.log_path) as f:
        lines = [line for line in f if "api/look[" in line and "code=PERMISSION_DENIED" in line]
    unsaid = [m for m in refused if sum("method=/%s " % m in line for line in lines) != 1]
    unimplemented = [m for m in unsaid if answer(d.full, m)[0] == "UNIMPLEMENTED"]
    tap.check(len(unsaid) == len(unimplemented), "a refused call is one line of the log", sorted(set(unsaid) - set(unimplemented)))
    mine = " pid=%d uid=%d gid=%d" % (os.getpid(), os.getuid(), os.getgid())
    tap.check(lines and all(mine in line for line in lines), "with who made it", lines[:3])


def main():
    known = set(methods())
    tap.check(not (READ | ANYBODY) - known and len(known) > 100, "all that is listed here exists", (READ | ANYBODY) - known)
    with bh.Scratch() as folder:
        settings = ["endpoint.%s.%s" % (name, s) for name, access in (("look", "read-only"), ("figures", "metrics"))
                    for s in ("services=" + GROUPS, "access=" + access)]
        d = bh.Daemon(folder, cni=False, settings=settings).start()
        d.full = grpc.insecure_channel("unix://" + d.socket)
        test_access(d, "look", READ, "is read-only")
        test_access(d, "figures", METRICS, "is for metrics only")
        test_log(d)
        tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        d.remove_cgroups()
    tap.done()


main()
