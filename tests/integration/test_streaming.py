"""Exec, Attach and PortForward by clients that aren't ours: SPDY/3.1, WebSocket, and the one in the other."""

import json
import os
import socket
import struct
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import streaming as st

bh.isolate()
tap = bh.Tap()


class Bench:
    """A daemon's streaming calls, briefly."""

    def __init__(self, d, c):
        self.d, self.c, self.pb = d, c, c.pb

    def exec_url(self, id, *command, stdin=False, stdout=True, stderr=True, tty=False):
        return self.c.runtime.Exec(self.pb.ExecRequest(container_id=id, cmd=command, stdin=stdin, stdout=stdout,
                                                       stderr=stderr and not tty, tty=tty)).url

    def spdy(self, id, *command, protocol="v4.channel.k8s.io", window=None, **more):
        url = self.exec_url(id, *command, **more)
        if more.get("tty"):
            more["stderr"] = False
        return st.RemoteSpdy(url, protocol=protocol, window=window, **more)

    def attach(self, id, protocol="v4.channel.k8s.io", **more):
        if more.get("tty"):
            more["stderr"] = False
        flags = dict({"stdin": False, "stdout": True, "stderr": True, "tty": False}, **more)
        url = self.c.runtime.Attach(self.pb.AttachRequest(container_id=id, **flags)).url
        return st.RemoteSpdy(url, protocol=protocol, **more)

    def websocket(self, id, *command, protocols=("v5.channel.k8s.io",), **more):
        return st.WebSocket(self.exec_url(id, *command, **more), protocols)

    def forward_url(self, pod, *ports):
        return self.c.runtime.PortForward(self.pb.PortForwardRequest(pod_sandbox_id=pod, port=ports)).url


def test_urls(b, pod, id):
    url = b.exec_url(id, "true")
    tap.check(url.startswith("http://127.0.0.1:") and "/exec/" in url, "the URL is one of loopback", url)

    def status(u, method="GET", headers=()):
        try:
            st.upgrade(u, method, list(headers))[0].close()
            return 101
        except st.Refused as e:
            return e.status
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")]
    tap.check(status(url.replace("/exec/", "/attach/"), "POST", upgrade) == 404, "it is good for its own kind only")
    tap.check(status(url, "POST", upgrade) == 101 and status(url, "POST", upgrade) == 404, "and once")
    tap.check(status(url[:-64] + "0" * 64, "POST", upgrade) == 404, "nobody guesses one")
    tap.check(status(b.exec_url(id, "true")) == 400, "a plain request is refused")
    bad = upgrade[:2] + [("X-Stream-Protocol-Version", "v9.channel.k8s.io")]
    tap.check(status(b.exec_url(id, "true"), "POST", bad) == 403, "so is a protocol that nobody knows")
    body = upgrade + [("Content-Length", "5")]
    tap.check(status(b.exec_url(id, "true"), "POST", body) == 400, "and a body")
    long = upgrade + [("X-Long", "x" * 20000)]
    tap.check(status(b.exec_url(id, "true"), "POST", long) == 431, "and a head that is too long")
    pb = b.pb
    for request, why in ((pb.ExecRequest(container_id=id, stdout=True), "no command"),
                         (pb.ExecRequest(container_id=id, cmd=["true"]), "no stream"),
                         (pb.ExecRequest(container_id=id, cmd=["true"], tty=True, stdout=True, stderr=True), "tty and stderr")):
        e = bh.error_of(b.c.runtime.Exec, request)
        tap.check(e is not None and e.code().name == "INVALID_ARGUMENT", "Exec refuses: " + why, e)
    e = bh.error_of(b.c.runtime.Exec, pb.ExecRequest(container_id="nothing", cmd=["true"], stdout=True))
    tap.check(e is not None and e.code().name == "NOT_FOUND", "Exec in a container that isn't there", e)
    e = bh.error_of(b.c.runtime.Attach, pb.AttachRequest(container_id="nothing", stdout=True))
    tap.check(e is not None and e.code().name == "NOT_FOUND", "Attach to one", e)
    e = bh.error_of(b.c.runtime.PortForward, pb.PortForwardRequest(pod_sandbox_id="nothing"))
    tap.check(e is not None and e.code().name == "NOT_FOUND", "PortForward to a pod that isn't there", e)
    e = bh.error_of(b.c.runtime.PortForward, pb.PortForwardRequest(pod_sandbox_id=pod.id, port=[70000]))
    tap.check(e is not None and e.code().name == "INVALID_ARGUMENT", "PortForward to a port that is none", e)


def test_spdy_exec(b, id):
    tap.check(zlib.adler32(st.dictionary()) == 0xe3c6a7c2, "the dictionary is SPDY/3's")
    r = b.spdy(id, "sh", "-c", "echo out; echo err >&2")
    status = r.end()
    tap.check(status and st.exit_code(status) == 0 and r.out() == b"out\n" and r.out("stderr") == b"err\n",
              "SPDY v4: output and success", (status, r.spdy.data))
    tap.check(r.headers.get("x-stream-protocol-version") == "v4.channel.k8s.io" and r.spdy.replied == set(r.ids.values()) and
              r.spdy.goaway == 0 and {r.ids["stdout"], r.ids["stderr"]} <= r.spdy.finished, "each stream is answered and ended")
    r = b.spdy(id, "sh", "-c", "exit 7")
    tap.check(st.exit_code(r.end()) == 7, "an exit code")
    r = b.spdy(id, "sh", "-c", "kill -9 $$")
    tap.check(st.exit_code(r.end()) == 137, "a signal's")
    r = b.spdy(id, "no-such-program")
    status = json.loads(r.end())
    tap.check(status["reason"] == "InternalError" and "no-such-program" in status["message"], "a command that isn't there", status)
    for version in ("channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io", None):
        r = b.spdy(id, "sh", "-c", "echo hi; exit 3", protocol=version)
        text = r.end()
        tap.check(r.out() == b"hi\n" and text and "exit status 3" in text, "the words of %s" % (version or "no version"), text)
    r = b.spdy(id, "cat", stdin=True)
    r.spdy.send(r.ids["stdin"], b"a line\n")
    tap.check(r.spdy.until(lambda: r.out() == b"a line\n"), "input comes back before it ends")
    r.spdy.send(r.ids["stdin"], b"another", last=True)
    tap.check(st.exit_code(r.end()) == 0 and r.out() == b"a line\nanother", "and its end ends it")
    r = b.spdy(id, "cat", stdin=True)
    r.spdy.control(st.PING, 0, struct.pack(">I", 1))
    tap.check(r.spdy.until(lambda: r.spdy.pings == [struct.pack(">I", 1)]), "a ping is answered")
    r.close()


def test_spdy_flow(b, id):
    size = 3000000
    r = b.spdy(id, "cat", stdin=True)
    data = os.urandom(65536) * (size // 65536)
    sent = 0
    while sent < len(data):
        r.spdy.send(r.ids["stdin"], data[sent:sent + 65536], last=sent + 65536 >= len(data))
        sent += 65536
        r.spdy.until(lambda: len(r.out()) >= sent - 131072)
    tap.check(st.exit_code(r.end(20)) == 0 and r.out() == data, "%d bytes there and back" % len(data), len(r.out()))
    tap.check(abs(r.spdy.granted.get(r.ids["stdin"], 0) - len(data)) <= 65536, "its windows are opened as it takes them")
    r = b.spdy(id, "head", "-c", "300000", "/dev/zero", window=5000)
    most = 0
    while len(r.out()) < 300000 and not r.spdy.closed:
        before = len(r.out())
        if not r.spdy.until(lambda: len(r.out()) >= before + 5000 or len(r.out()) == 300000, 5):
            break
        time.sleep(0.001)
        most = max(most, len(r.out()) - before)
        r.spdy.grant(r.ids["stdout"], len(r.out()) - before)
        r.spdy.grant(0, len(r.out()) - before)
    tap.check(len(r.out()) == 300000 and most == 5000 and st.exit_code(r.end()) == 0, "the client's window is kept", (len(r.out()), most))
    r = b.spdy(id, "sleep", "600", stdin=True)
    r.spdy.s.settimeout(0.5)
    total = 0
    try:
        while total < 64 << 20:
            r.spdy.send(r.ids["stdin"], bytes(65536))
            total += 65536
    except (socket.timeout, BlockingIOError):
        pass
    tap.check(total < 32 << 20, "a process that doesn't read stops its client", total)
    tap.check(rss(b.d) < 32 << 10, "and memory stays small", rss(b.d))
    r.close()


def rss(d, name="stream"):
    """KiB that are its own."""
    pid = d.processes()[name][0]
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("Private_Dirty:", "Private_Clean:")))


def test_spdy_tty(b, id):
    r = b.spdy(id, "sh", stdin=True, tty=True)
    r.spdy.send(r.ids["resize"], b'{"Width":123,"Hei')
    r.spdy.send(r.ids["resize"], b'ght":45}\n')
    r.spdy.send(r.ids["stdin"], b"tty; sleep 0.2; stty size\n")
    tap.check(r.spdy.until(lambda: b"/dev/pts/" in r.out() and b"45 123" in r.out()), "a terminal of the container, and its size", r.out())
    r.spdy.send(r.ids["resize"], b'{"Width":80,"Height":24}')
    time.sleep(0.1)
    r.spdy.send(r.ids["stdin"], b"stty size; exit 4\n")
    tap.check(st.exit_code(r.end()) == 4 and b"24 80" in r.out(), "it can be resized", r.out())


def test_end_of_client(b, pod, id):
    def there(mark):
        return [p for p in bh.pids() if mark in quiet("/proc/%d/cmdline" % p)]
    r = b.spdy(id, "sh", "-c", "(sleep 601601601 & sleep 602602602); true", stdin=True)
    bh.wait_for(lambda: there("601601601") and there("602602602"), 5)
    r.close()
    tap.check(bh.wait_for(lambda: not there("601601601") and not there("602602602"), 5), "a client that goes takes its command with it")
    r = b.spdy(id, "sh", "-c", "sleep 603603603 & echo started")
    tap.check(st.exit_code(r.end()) == 0 and r.out() == b"started\n", "what a command left running isn't waited for")
    tap.check(there("603603603") != [], "and runs on")


def quiet(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return ""


def test_websocket(b, id):
    w = b.websocket(id, "cat", protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"), stdin=True)
    tap.check(w.accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" and w.protocol == "v5.channel.k8s.io", "the handshake of RFC 6455")
    tap.check(w.until(lambda: w.messages == 1) and w.channels == {1: b""}, "an empty message comes first")
    w.send(0, b"hello ")
    w.send_frame(2, b"\0wor", last=False)
    w.send_frame(9, b"ping")
    w.send_frame(0, b"ld")
    tap.check(w.until(lambda: w.channels[1] == b"hello world" and w.pongs == [b"ping"]), "v5: input, in fragments, around a ping", w.channels)
    w.send(255, b"\0")
    tap.check(w.until(lambda: w.closed) and st.exit_code(w.channels[3]) == 0 and w.code == 1000, "channel 255 ends the input", w.channels)
    for protocol in ("v4.channel.k8s.io", "v4.base64.channel.k8s.io"):
        w = b.websocket(id, "sh", "-c", "echo out; echo err >&2; exit 9", protocols=(protocol,))
        tap.check(w.until(lambda: w.closed) and w.channels[1] == b"out\n" and w.channels[2] == b"err\n" and
                  st.exit_code(w.channels[3]) == 9 and w.protocol == protocol, protocol, w.channels)
    for protocol in ("channel.k8s.io", "base64.channel.k8s.io", None):
        w = b.websocket(id, "sh", "-c", "cat; exit 2", protocols=(protocol,) if protocol else (), stdin=True)
        w.send(0, b"x\n")
        tap.check(w.until(lambda: w.channels.get(1) == b"x\n") and w.protocol == protocol, protocol or "no protocol", w.channels)
        w.close()
    w = b.websocket(id, "sh", protocols=("v4.channel.k8s.io",), stdin=True, tty=True)
    w.send(4, b'{"Width":77,"Height":11}')
    w.send(0, b"sleep 0.1; stty size; exit 1\n")
    tap.check(w.until(lambda: w.closed) and b"11 77" in w.channels[1] and st.exit_code(w.channels[3]) == 1, "a terminal and its size", w.channels)
    w = b.websocket(id, "head", "-c", "2000000", "/dev/zero", protocols=("v5.channel.k8s.io",))
    tap.check(w.until(lambda: w.closed) and len(w.channels[1]) == 2000000, "two million bytes")
    w = b.websocket(id, "cat", protocols=("v4.base64.channel.k8s.io",), stdin=True)
    w.send_frame(1, b"0????")
    tap.check(w.until(lambda: w.closed), "what isn't base64 ends the connection")
    w = b.websocket(id, "cat", stdin=True)
    w.s.sendall(b"\x82\x05\0abcd")
    tap.check(w.until(lambda: w.closed), "frames without a mask do, too")


def test_attach(b, image):
    pod = bh.Pod(b.d, b.c, "attach", network="host")
    script = 'read x; echo "got $x"; echo err >&2; read y; echo "then $y"; exit 5'
    id = pod.run("a", image, ["sh", "-c", script], stdin=True)
    first, second = b.attach(id, stdin=True), b.attach(id)
    first.spdy.until(lambda: first.spdy.replied == set(first.ids.values()))
    time.sleep(0.2)
    first.spdy.send(first.ids["stdin"], b"one\n")
    for r in (first, second):
        tap.check(r.spdy.until(lambda: r.out() == b"got one\n" and r.out("stderr") == b"err\n"), "an attached client sees both outputs", r.spdy.data)
    first.close()
    third = b.attach(id, stdin=True)
    third.spdy.send(third.ids["stdin"], b"two\n")
    tap.check(st.exit_code(second.end()) == 0 and second.out() == b"got one\nthen two\n", "the end of the container ends it", second.spdy.data)
    tap.check(pod.wait(id).exit_code == 5 and ("stdout", "F", "then two") in pod.log("a"), "and the log has it all")
    id = pod.run("once", image, ["cat"], stdin=True, stdin_once=True)
    r = b.attach(id, stdin=True)
    r.spdy.send(r.ids["stdin"], b"all of it", last=True)
    tap.check(st.exit_code(r.end()) == 0 and r.out() == b"all of it" and pod.wait(id).exit_code == 0, "stdin_once: its end is the container's")
    id = pod.run("tty", image, ["sh"], stdin=True, tty=True)
    r = b.attach(id, stdin=True, tty=True)
    r.spdy.send(r.ids["stdin"], b"echo ba''ck\n")
    r.spdy.until(lambda: b"back" in r.out())
    r.spdy.send(r.ids["stdin"], b"hidden=kept\n", last=True)
    tap.check(st.exit_code(r.end(5) or "{\"status\": null}") == 0, "the end of its input lets go of a container's terminal", r.spdy.data)
    tap.check(pod.status(id).status.state == b.pb.CONTAINER_RUNNING, "and of nothing else")
    r = b.attach(id, stdin=True, tty=True)
    r.spdy.send(r.ids["stdin"], b"echo $hidden\n")
    tap.check(r.spdy.until(lambda: b"kept" in r.out()), "what was sent before has arrived", r.out())
    r.close()
    r = b.attach(id, stdin=True, tty=True)
    r.spdy.send(r.ids["resize"], b'{"Width":90,"Height":30}')
    r.spdy.send(r.ids["stdin"], b"stty size; exit 6\n")
    tap.check(r.end() and b"30 90" in r.out() and pod.wait(id).exit_code == 6, "a container's terminal", r.out())
    id = pod.run("loud", image, ["sh", "-c", "sleep 0.5; head -c 3000000 /dev/zero | tr '\\0' 'x'; echo; echo done"], log_path="")
    r = b.attach(id)
    tap.check(r.end(20) and len(r.out()) == 3000006, "all output of a container without a log", len(r.out()))
    pod.remove()


def test_forward(b, image):
    pod = bh.Pod(b.d, b.c, "forward")
    id = pod.run("web", image, ["sh", "-c", "mkdir -p /tmp/w; echo page > /tmp/w/x; (while :; do nc -l -p 81 -e cat; done) & httpd -f -p 80 -h /tmp/w"])
    bh.wait_for(lambda: pod.exec(id, "sh", "-c", "nc 127.0.0.1 80 </dev/null").exit_code == 0, 5)
    request = b"GET /x HTTP/1.0\r\n\r\n"

    def sessions():
        url = b.forward_url(pod.id)
        s, headers = st.upgrade(url, "POST", [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "portforward.k8s.io")])
        yield "SPDY", st.Spdy(s)
        w = st.WebSocket(b.forward_url(pod.id), ("SPDY/3.1+portforward.k8s.io",))
        tap.check(w.protocol == "SPDY/3.1+portforward.k8s.io", "the tunnel's protocol is agreed upon")
        yield "SPDY in WebSocket", st.Spdy(st.Tunnel(w))

    for name, s in sessions():
        def connect(port, n):
            error = s.open(streamtype="error", port=str(port), requestid=str(n))
            s.send(error, b"", last=True)
            return error, s.open(streamtype="data", port=str(port), requestid=str(n))
        e, d = connect(80, 0)
        s.send(d, request)
        tap.check(s.until(lambda: d in s.finished and e in s.finished) and s.data[d].endswith(b"page\n") and s.data[e] == b"", name + ": a page", s.data)
        s.send(d, b"", last=True)
        pairs = [connect(80, n) for n in range(1, 20)]
        for e, d in pairs:
            s.send(d, request)
        tap.check(s.until(lambda: all(d in s.finished for _, d in pairs)) and all(s.data[d].endswith(b"page\n") for _, d in pairs), name + ": many at once")
        e, d = connect(81, 100)
        data = os.urandom(300000)
        for at in range(0, len(data), 30000):
            s.send(d, data[at:at + 30000], last=at + 30000 >= len(data))
            s.until(lambda: len(s.data[d]) >= at - 30000)
        tap.check(s.until(lambda: d in s.finished) and s.data[d] == data, name + ": bytes there and back, and a half-closed connection", len(s.data[d]))
        e, d = connect(9, 200)
        tap.check(s.until(lambda: e in s.finished) and b"refused" in s.data[e] and d in s.resets or s.until(lambda: d in s.resets),
                  name + ": a port where nobody listens", s.data[e])
        for _ in range(30):
            s.send(d, bytes(30000))
        e, d = connect(80, 300)
        s.send(d, request, last=True)
        tap.check(s.until(lambda: d in s.finished) and s.data[d].endswith(b"page\n"), name + ": what comes for a stream that is gone does no harm")
        s.close()
    w = st.WebSocket(b.forward_url(pod.id, 80), ("v4.channel.k8s.io",))
    tap.check(w.until(lambda: w.channels == {0: b"P\0", 1: b"P\0"}), "plain WebSocket: each channel says its port", w.channels)
    w.send(0, request)
    tap.check(w.until(lambda: w.closed) and w.channels[0].endswith(b"page\n"), "and carries its bytes", w.channels)
    pod.remove()


def test_idle_cost(b, image):
    pod = bh.Pod(b.d, b.c, "idle", network="host")
    id = pod.run("i", image, ["sleep", "600"], stdin=True)
    warm = [b.attach(id, stdin=True) for _ in range(10)]
    time.sleep(0.3)
    before, keeper = rss(b.d), rss(b.d, "pod-keeper")
    many = [b.attach(id, stdin=True) for _ in range(200)]
    for r in many:
        r.spdy.until(lambda: len(r.spdy.replied) == 4)
    time.sleep(0.5)
    each = (rss(b.d) - before) / 200.0
    both = each + (rss(b.d, "pod-keeper") - keeper) / 200.0
    print("# an idle attached stream costs %.1f KiB in the stream worker, %.1f KiB with the keeper's part" % (each, both))
    tap.check(both < 64, "an idle attached stream costs less than 64 KiB", both)
    for r in warm + many:
        r.close()
    pod.remove()


def test_restart(b, id):
    url = b.exec_url(id, "true")
    port = url.split("/")[2]
    old = b.d.processes()["stream"][0]
    open_one = b.spdy(id, "sleep", "604604604", stdin=True)
    running = lambda: [p for p in bh.pids() if "604604604" in quiet("/proc/%d/cmdline" % p)]
    bh.wait_for(running, 5)
    os.kill(old, 9)
    tap.check(bh.wait_for(lambda: b.d.processes().get("stream", [old])[0] != old, 5), "a killed stream worker is replaced")
    r = b.spdy(id, "echo", "again")
    tap.check(st.exit_code(r.end()) == 0 and r.out() == b"again\n" and b.exec_url(id, "true").split("/")[2] == port, "its successor serves at the same place")
    tap.check(bh.wait_for(lambda: not running(), 10), "commands of its clients have ended")
    open_one.close()
    r = b.spdy(id, "sh", "-c", "read x; exit $x", stdin=True)
    r.spdy.until(lambda: len(r.spdy.replied) == 4)
    time.sleep(0.2)
    for name in ("metadata", "task"):
        os.kill(b.d.processes()[name][0], 9)
        bh.wait_for(b.d.ready, 10)
    r.spdy.send(r.ids["stdin"], b"8\n")
    status = r.end()
    tap.check(status and st.exit_code(status) == 8, "a session outlives the metadata and the task worker", status)


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        image = registry.host + "/test/busybox:1"
        d = bh.Daemon(folder).start()
        c = d.client()
        b = Bench(d, c)
        try:
            c.images.PullImage(c.pb.PullImageRequest(image=c.pb.ImageSpec(image=image)))
            pod = bh.Pod(d, c, "stream", network="host")
            id = pod.run("main", image, ["sleep", "600"])
            test_urls(b, pod, id)
            test_spdy_exec(b, id)
            test_spdy_flow(b, id)
            test_spdy_tty(b, id)
            test_end_of_client(b, pod, id)
            test_websocket(b, id)
            test_attach(b, image)
            test_forward(b, image)
            test_idle_cost(b, image)
            test_restart(b, id)
            pod.remove()
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.stop()
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
