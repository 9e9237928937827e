"""Three endpoints of one daemon: full, read-only, metrics; who may do what where, and that the death of one's process
is nobody else's affair."""

import os
import shutil
import signal
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
import grpc  # noqa: E402 (not needed outside)
tap = bh.Tap()

METRICS = {"ContainerStats", "ListContainerStats", "PodSandboxStats", "ListPodSandboxStats", "ListMetricDescriptors",
           "ListPodSandboxMetrics", "StreamContainerStats", "StreamPodSandboxStats", "StreamPodSandboxMetrics",
           "ImageFsInfo"}
READ = METRICS | {"Status", "RuntimeConfig", "PodSandboxStatus", "ListPodSandbox", "ListContainers", "ContainerStatus",
                  "GetContainerEvents", "StreamPodSandboxes", "StreamContainers", "ListImages", "ImageStatus",
                  "StreamImages"}
ANYBODY = {"Version"}


def settings(folder):
    return ["endpoint.look.services=cri admin health", "endpoint.look.access=read-only", "endpoint.look.mode=0666",
            "endpoint.look.uids=0 1000", "endpoint.look.socket=%s/run/look.sock" % folder,
            "endpoint.metrics.services=cri health", "endpoint.metrics.access=metrics", "endpoint.metrics.group=7",
            "endpoint.metrics.mode=0640"]


def result_of(client, method):
    """The code and the sentence that an empty request ends with."""
    stub = client.images if "Image" in method else client.runtime
    streams = method.startswith(("Stream", "GetContainerEvents"))
    request = getattr(client.pb, {"GetContainerEvents": "GetEvents"}.get(method, method) + "Request")()
    try:
        reply = getattr(stub, method)(request, timeout=2)
        if streams:
            list(reply)
        return "OK", ""
    except grpc.RpcError as e:
        return e.code().name, e.details()


def methods(pb):
    for service in ("RuntimeService", "ImageService"):
        for m in pb.DESCRIPTOR.services_by_name[service].methods:
            yield m.name


def test_access(name, client, allowed, phrase):
    wrong, silent = [], []
    for m in methods(client.pb):
        code, text = result_of(client, m)
        if code != "UNIMPLEMENTED" and (code == "PERMISSION_DENIED") == (m in allowed | ANYBODY):
            wrong.append((m, code, text))
        if code == "PERMISSION_DENIED" and text != 'endpoint "%s" %s: %s isn\'t served' % (name, phrase, m):
            silent.append((m, text))
    tap.check(not wrong, "%s: exactly what its access names is served" % name, wrong)
    tap.check(not silent, "%s: the rest is refused with the reason" % name, silent)


def test_streams(full, look, container):
    pb = full.pb
    request = pb.ExecRequest(container_id=container, cmd=["true"], stdout=True)
    tap.check(full.runtime.Exec(request).url.startswith("http://"), "full: Exec gives a URL")
    for call, request in ((look.runtime.Exec, request),
                          (look.runtime.Attach, pb.AttachRequest(container_id=container, stdout=True)),
                          (look.runtime.ExecSync, pb.ExecSyncRequest(container_id=container, cmd=["true"]))):
        e = bh.error_of(call, request)
        tap.check(e and e.code().name == "PERMISSION_DENIED", "read-only: no stream and no command in a container", e)


def test_reads(look, metrics, pod, container):
    pb = look.pb
    tap.check([c.id for c in look.runtime.ListContainers(pb.ListContainersRequest()).containers] == [container],
              "read-only: it sees the container of the other endpoint")
    status = look.runtime.ContainerStatus(pb.ContainerStatusRequest(container_id=container)).status
    tap.check(status.state == pb.CONTAINER_RUNNING, "read-only: and how it is")
    stats = metrics.runtime.ListContainerStats(pb.ListContainerStatsRequest()).stats
    tap.check([s.attributes.id for s in stats] == [container], "metrics: it has the container's numbers", stats)
    e = bh.error_of(look.runtime.StopContainer, pb.StopContainerRequest(container_id=container))
    status = look.runtime.ContainerStatus(pb.ContainerStatusRequest(container_id=container)).status
    tap.check(e and e.code().name == "PERMISSION_DENIED" and status.state == pb.CONTAINER_RUNNING,
              "read-only: it stops nothing")


def test_services(full, metrics):
    e = bh.error_of(metrics.admin.Inspect, metrics.admin_pb.InspectRequest())
    tap.check(e and e.code().name == "UNIMPLEMENTED" and "bulkhead.v1.Admin" in e.details(),
              "metrics: a service that isn't among its groups isn't there", e)
    reply = full.admin.Inspect(full.admin_pb.InspectRequest())
    tap.check({(p.name, p.access) for p in reply.endpoints} >=
              {("cri", "full"), ("look", "read-only"), ("metrics", "metrics")}, "Inspect knows the endpoints", reply)
    apis = {w.endpoint: w.pid for w in reply.workers if w.name == "api"}
    tap.check(len(set(apis.values())) == len(reply.endpoints) and set(apis) == {p.name for p in reply.endpoints},
              "each with its process", reply)


def as_user(uid, folder, *args):
    """The command line client as another user."""
    p = subprocess.run(["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups",
                        os.path.join(folder, "client")] + list(args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=20)
    return p.returncode, p.stdout


def test_users(daemon, folder):
    shutil.copy(os.path.join(bh.BUILD, "bulkhead"), os.path.join(folder, "client"))
    look, metrics = os.path.join(daemon.run, "look.sock"), os.path.join(daemon.run, "metrics.sock")
    code, text = as_user(1000, folder, "--socket", look, "pods")
    tap.check(code == 0, "a uid that is named may look", text)
    code, text = as_user(4242, folder, "--socket", look, "pods")
    tap.check(code != 0 and 'uid 4242 may not use endpoint "look"' in text, "one that isn't is told so", text)
    code, text = as_user(4242, folder, "--socket", metrics, "pods")
    tap.check(code != 0 and "Permission denied" in text, "the file's mode keeps others out", text)
    st = os.stat(metrics)
    tap.check((st.st_mode & 0o777, st.st_uid, st.st_gid) == (0o640, 0, 7), "the socket has its owner and mode", st)
    lines = [line for line in open(daemon.log_path) if "code=PERMISSION_DENIED" in line and "uid=4242" in line]
    tap.check(len(lines) == 1 and "api/look[" in lines[0] and " req=" in lines[0] and " pid=" in lines[0] and
              " gid=4242" in lines[0], "a refused call is one line, with who it was", lines)


HOARD = """import socket, sys, time
held = [socket.socket(socket.AF_UNIX) for i in range(600)]
for s in held:
    s.connect(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def test_hoarder(daemon, folder):
    """Someone who isn't served takes no place of those who are."""
    look = os.path.join(daemon.run, "look.sock")
    hoarder = subprocess.Popen(["setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", "/usr/bin/python3",
                                "-c", HOARD, look], stdout=subprocess.PIPE, text=True)
    try:
        tap.check(hoarder.stdout.readline() == "held\n", "a stranger opens 600 connections")
        code, text = as_user(1000, folder, "--socket", look, "pods")
        tap.check(code == 0, "others are served all the same", text)
    finally:
        hoarder.kill()
        hoarder.wait()


def title(pid):
    with open("/proc/%d/cmdline" % pid) as f:
        return f.read().rstrip("\0").replace("\0", " ")


def test_deaths(daemon, full, look, pod, image):
    pb = full.pb
    titles = {title(p): p for p in daemon.processes()["api"]}
    tap.check(set(titles) >= {"bulkhead-api cri", "bulkhead-api look", "bulkhead-api metrics"},
              "each process has its endpoint's name in its title", titles)
    seen, error = [], []

    def listen():
        try:
            for event in events:
                seen.append(event.container_id)
        except grpc.RpcError as e:
            error.append(e)
    events = full.runtime.GetContainerEvents(pb.GetEventsRequest())
    threading.Thread(target=listen, daemon=True).start()
    first = pod.create("first", image, ["sleep", "1000"])
    tap.check(bh.wait_for(lambda: first in seen), "an event on the endpoint with full access")
    os.kill(titles["bulkhead-api look"], signal.SIGKILL)
    answers = bh.wait_for(lambda: bh.error_of(look.runtime.ListContainers, pb.ListContainersRequest()) is None)
    tap.check(answers, "an endpoint whose process was killed serves again")
    now = {title(p): p for p in daemon.processes()["api"]}
    tap.check(now["bulkhead-api look"] != titles["bulkhead-api look"] and
              all(now[t] == titles[t] for t in titles if t != "bulkhead-api look"), "only its process was replaced",
              now)
    second = pod.create("second", image, ["sleep", "1000"])
    tap.check(bh.wait_for(lambda: second in seen) and not error, "the other's stream goes on over it", error)
    e = bh.error_of(look.runtime.StartContainer, pb.StartContainerRequest(container_id=second))
    tap.check(e and e.code().name == "PERMISSION_DENIED", "the successor may do no more", e)
    events.cancel()


def test_tools(daemon):
    p = subprocess.run([os.path.join(bh.BUILD, "bulkhead"), "--socket", daemon.socket, "doctor"],
                       stdout=subprocess.PIPE, text=True)
    tap.check("endpoint look: read-only access on %s/look.sock to cri health admin, for uid 0 1000" % daemon.run in
              p.stdout, "doctor lists endpoints", p.stdout)
    command = [daemon.program, "-c", "/dev/null", "--print-privileges"]
    for s in settings(daemon.folder):
        command += ["--set", s]
    p = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    tap.check("endpoint metrics\n" in p.stdout and "access        metrics" in p.stdout and "uid 0 1000" in p.stdout,
              "as does --print-privileges", p.stdout)


def main():
    with bh.Scratch() as folder:
        os.chmod(folder, 0o755)
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "box"), registry, "box:1")
        image = registry.host + "/box:1"
        daemon = bh.Daemon(folder, settings=settings(folder)).start()
        full = daemon.client()
        look, metrics = (bh.Client(os.path.join(daemon.run, n + ".sock")) for n in ("look", "metrics"))
        full.images.PullImage(full.pb.PullImageRequest(image=full.pb.ImageSpec(image=image)))
        pod = bh.Pod(daemon, full, "one", network="host")
        container = pod.run("sleeper", image, ["sleep", "1000"])
        test_reads(look, metrics, pod, container)
        test_access("look", look, READ, "is read-only")
        test_access("metrics", metrics, METRICS, "is for metrics only")
        test_streams(full, look, container)
        test_services(full, metrics)
        test_users(daemon, folder)
        test_hoarder(daemon, folder)
        test_deaths(daemon, full, look, pod, image)
        test_tools(daemon)
        pod.remove()
        tap.check(daemon.stop() == 0 and not os.path.exists(os.path.join(daemon.run, "look.sock")),
                  "all sockets are gone at the end")
        registry.stop()
        daemon.remove_cgroups()
    tap.done()


main()
