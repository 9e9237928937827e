"""ttrpc on a real daemon: on a unix socket, as hybrid vsock and on vsock where the kernel has it; many calls and many
clients; what a client shouldn't send; deaths of the workers behind it."""

import errno
import os
import signal
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import ttrpc_client as ttrpc

bh.isolate()
tap = bh.Tap()
SERVING = 1
PORT = 1024 + int.from_bytes(os.urandom(2), "big")  # vsock has no namespaces
CRI = "runtime.v1.RuntimeService"


def health_of(connection):
    pb = bh.stubs_of("kata/health.proto")[0]
    return ttrpc.Service(connection, pb, "Health")


def serving(connection):
    return health_of(connection).Check().status == SERVING


def test_health(path):
    c = ttrpc.Connection.unix(path)
    tap.check(serving(c), "Health.Check: SERVING")
    v = health_of(c).Version()
    tap.check(v.grpc_version == "0.0.1" and v.agent_version, "Health.Version: of the API and ours", v)
    calls = [health_of(c).start_Check() for _ in range(1000)]
    tap.check(all(x.result().status == SERVING for x in calls), "a thousand calls that are open at once")
    c.close()
    for word in ("CONNECT", "connect"):
        h = ttrpc.Connection.hybrid(path, 1024, word)
        tap.check(serving(h), "as hybrid vsock: " + word)
        h.close()


def test_vsock():
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).bind((socket.VMADDR_CID_ANY, PORT))
        tap.check(False, "the vsock port is the daemon's")
    except OSError as e:
        tap.check(e.errno == errno.EADDRINUSE, "the vsock port is the daemon's", e)
    try:
        c = ttrpc.Connection.vsock(1, PORT)  # VMADDR_CID_LOCAL
    except OSError as e:
        tap.skip("on vsock", "no vsock to this machine itself (module vsock_loopback): %s" % e)
        return
    tap.check(serving(c), "on vsock")
    c.close()


class Line:
    """The far end of a serial line, as a socket."""

    def __init__(self):
        self.fd, near = os.openpty()
        self.path = os.ttyname(near)
        self.near = near  # without it the line would hang up whenever the daemon has it closed

    def recv(self, n):
        return os.read(self.fd, n)

    def sendall(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def shutdown(self, how):
        pass

    close = shutdown


def test_serial(d, line):
    c = ttrpc.Connection(line)
    # Stream ids run through all that could mean something to a terminal.
    tap.check(all(serving(c) for _ in range(300)), "on a serial line, whatever bytes come by")
    first = d.processes()["api"]
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    tap.check(bh.wait_for(lambda: len(set(d.processes().get("api", [])) - set(first)) == len(first)) and serving(c),
              "its API worker's death: the successor serves on the line")


def test_rows(path):
    """The same tables as over gRPC, so the same sentences."""
    cri = bh.stubs()[0]
    c = ttrpc.Connection.unix(path)
    reply = c.call(CRI, "Version", cri.VersionRequest(), cri.VersionResponse)
    tap.check(reply.runtime_name == "bulkhead", "a row of the CRI", reply)
    e = ttrpc.error_of(c.call, CRI, "ContainerStatus", cri.ContainerStatusRequest(container_id="nobody"),
                       cri.ContainerStatusResponse)
    tap.check(e and e.code == "NOT_FOUND" and "nobody" in e.message, "an error has its code and sentence", e)
    e = ttrpc.error_of(c.call, CRI, "GetContainerEvents", cri.GetEventsRequest(), cri.ContainerEventResponse)
    tap.check(e and e.code == "UNIMPLEMENTED" and "stream" in e.message, "a stream isn't served", e)
    e = ttrpc.error_of(c.call, CRI, "Version", cri.VersionRequest(), cri.VersionResponse, timeout=-1)
    tap.check(e and e.code == "DEADLINE_EXCEEDED", "a deadline that had passed", e)
    c.close()


def test_hostile(path):
    c = ttrpc.Connection.unix(path)
    check = c.pack("grpc.Health", "Check", bh.stubs_of("kata/health.proto")[0].CheckRequest())
    probes = [
        ("an even number", (ttrpc.REQUEST, 0, 2, check), "INVALID_ARGUMENT"),
        ("stream 0", (ttrpc.REQUEST, 0, 0, check), "INVALID_ARGUMENT"),
        ("a number", (ttrpc.REQUEST, 0, 9, check), "OK"),
        ("the same number again", (ttrpc.REQUEST, 0, 9, check), "INVALID_ARGUMENT"),
        ("a lower number", (ttrpc.REQUEST, 0, 7, check), "INVALID_ARGUMENT"),
        ("data for nobody", (ttrpc.DATA, 0, 21, b"x"), "INVALID_ARGUMENT"),
        ("unknown flags", (ttrpc.REQUEST, 0x40, 23, check), "INVALID_ARGUMENT"),
        ("a stream of requests", (ttrpc.REQUEST, 2, 25, check), "UNIMPLEMENTED"),
        ("no protobuf", (ttrpc.REQUEST, 0, 27, b"\xff" * 9), "INVALID_ARGUMENT"),
        ("nothing", (ttrpc.REQUEST, 0, 29, b""), "UNIMPLEMENTED"),
        ("more than 4 MiB", (ttrpc.REQUEST, 0, 31, bytes(ttrpc.DATA_MAX + 1)), "RESOURCE_EXHAUSTED"),
    ]
    for name, frame, code in probes:
        c.frame(*frame)
        answer = c.stray(frame[2])
        tap.check(answer and answer[0] == code, "hostile: %s is %s" % (name, code), answer)
    c.frame(ttrpc.RESPONSE, 0, 33, b"xyz")
    c.frame(77, 0xff, 33, b"xyz")
    c.next = 35
    tap.check(serving(c) and not c.strays, "hostile: what is no request is passed over; the connection lives", c.strays)
    c.frame(ttrpc.REQUEST, 0, 101, check[:-1], size=len(check))
    c.close()
    wild = ttrpc.Connection.unix(path)
    wild.sock.sendall(struct.pack(">IIBB", 0xffffffff, 1, 1, 0) + bytes(1 << 20))
    tap.check((wild.stray(1) or [""])[0] == "RESOURCE_EXHAUSTED", "hostile: 4 GiB are refused before they come")
    wild.close()


def test_clients(path):
    """Many at once; the ones that say nothing hold up nobody."""
    idle = [ttrpc.Connection.unix(path) for _ in range(50)]
    failed = []

    def work():
        try:
            c = ttrpc.Connection.unix(path)
            if not all(serving(c) for _ in range(20)):
                failed.append("not serving")
            c.close()
        except (OSError, ttrpc.Error) as e:
            failed.append(e)
    threads = [threading.Thread(target=work) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    tap.check(not failed, "twenty clients beside fifty idle ones", failed)
    for c in idle:
        c.close()


def test_deaths(d, path):
    c = ttrpc.Connection.unix(path)
    serving(c)
    for p in d.processes()["metadata"]:
        os.kill(p, signal.SIGKILL)
    tap.check(bh.wait_for(lambda: serving(c)), "the metadata worker's death: the connection lives, and serves again")
    for p in d.processes()["api"]:
        os.kill(p, signal.SIGKILL)
    tap.check(bh.wait_for(lambda: c.calls is None), "the api worker's death: the connection ends")

    def again():
        try:
            return serving(ttrpc.Connection.unix(path))
        except (OSError, ttrpc.Error):
            return False
    tap.check(bh.wait_for(again), "its successor serves on the same socket")


def main():
    with bh.Scratch() as folder:
        path = folder + "/run/agent.sock"
        settings = ["endpoint.agent.services=agent cri", "endpoint.agent.protocol=ttrpc"]
        vsock = ["endpoint.vm.services=agent", "endpoint.vm.protocol=ttrpc", "endpoint.vm.socket=vsock://-1:%d" % PORT]
        has_vsock = os.path.exists("/dev/vsock")
        line = Line()
        serial = ["endpoint.line.services=agent", "endpoint.line.protocol=ttrpc", "endpoint.line.socket=serial://" + line.path]
        d = bh.Daemon(folder, settings=settings + serial + (vsock if has_vsock else [])).start()
        test_health(path)
        test_serial(d, line)
        if has_vsock:
            test_vsock()
        else:
            tap.skip("on vsock", "the kernel has no vsock here")
        test_rows(path)
        test_hostile(path)
        test_clients(path)
        test_deaths(d, path)
        d.stop()
    tap.done()


main()
