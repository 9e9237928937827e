"""grpc.health.v1 on a real daemon: Watch tells of each change of what Check answers, on any endpoint, until the daemon
stops."""

import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
import grpc  # noqa: E402 (not needed outside)
tap = bh.Tap()
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


class Watcher:
    """What one Watch has said so far, and how it has ended."""

    def __init__(self, path, service):
        health, stubs = bh.stubs_of("health/health.proto")
        self.told, self.end = [], None
        self.channel = grpc.insecure_channel("unix://" + path)
        self.request = health.HealthCheckRequest(service=service)
        self.stub = stubs.HealthStub(self.channel)
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        try:
            for reply in self.stub.Watch(self.request):
                self.told.append(reply.status)
        except grpc.RpcError as e:
            self.end = e

    def check(self):
        try:
            return self.stub.Check(self.request, timeout=5).status
        except grpc.RpcError as e:
            return e.code().name

    def tells(self, *statuses):
        return bh.wait_for(lambda: self.told == list(statuses), 10)


def main():
    with bh.Scratch() as folder:
        d = bh.Daemon(folder, settings=["endpoint.metrics.services=cri health", "endpoint.metrics.access=metrics",
                                        "endpoint.metrics.socket=%s/run/metrics.sock" % folder]).start()
        whole, service = Watcher(d.socket, ""), Watcher(d.socket, "runtime.v1.RuntimeService")
        metrics, unknown = Watcher(folder + "/run/metrics.sock", ""), Watcher(d.socket, "no.such.Service")
        known = {"the server": whole, "a service": service, "an endpoint for metrics": metrics}
        for name, w in known.items():
            tap.check(w.tells(SERVING) and w.check() == SERVING, name + ": serving", (w.told, w.end))
        tap.check(unknown.tells(SERVICE_UNKNOWN) and unknown.check() == "NOT_FOUND",
                  "an unknown service: Watch says so, Check fails", (unknown.told, unknown.end))
        old = d.processes()["metadata"]
        for p in old:
            os.kill(p, signal.SIGKILL)
        for name, w in known.items():
            tap.check(w.tells(SERVING, NOT_SERVING, SERVING) and w.check() == SERVING,
                      name + ": the metadata worker's death and its successor", (w.told, w.end))
        tap.check(unknown.told == [SERVICE_UNKNOWN] and unknown.end is None and unknown.thread.is_alive(),
                  "of an unknown service the stream goes on and says nothing new", (unknown.told, unknown.end))
        tap.check(d.ready(), "the daemon is ready again")
        d.stop()
        for name, w in known.items():
            w.thread.join(10)
            tap.check(w.told == [SERVING, NOT_SERVING, SERVING, NOT_SERVING] and w.end is not None and
                      w.end.code() == grpc.StatusCode.UNAVAILABLE, name + ": told that the daemon stops", (w.told, w.end))
        unknown.thread.join(10)
        tap.check(unknown.told == [SERVICE_UNKNOWN] and unknown.end is not None, "and all streams end", unknown.end)
        d.remove_cgroups()
    tap.done()


main()
