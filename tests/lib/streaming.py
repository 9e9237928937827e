"""Clients of the streaming server: SPDY/3.1 and WebSocket (RFC 6455), from scratch and blocking, for one thread."""

import ast
import base64
import json
import os
import re
import select
import socket
import struct
import time
import zlib

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
LAST = 1


def dictionary():
    """The server's own; that it is the protocol's shows in its checksum."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../workers/stream/spdy_headers.c")
    with open(path) as f:
        text = re.search(r"dictionary\[\] =(.*?);", f.read(), re.S).group(1)
    return b"".join(ast.literal_eval("b" + part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', text))


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__("%d %s" % (status, body))
        self.status = status


def upgrade(url, method, headers, timeout=10):
    """The socket and the answer's headers, or Refused."""
    host, path = re.match(r"http://([^/]+)(/.*)", url).groups()
    address, port = host.rsplit(":", 1)
    s = socket.create_connection((address.strip("[]"), int(port)), timeout)
    s.sendall(("%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (
        method, path, host, "".join("%s: %s\r\n" % h for h in headers))).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        got = s.recv(1)
        if not got:
            break
        head += got
    lines = head.decode().split("\r\n")
    status = int(lines[0].split(" ")[1])
    if status != 101:
        body = s.recv(65536).decode()
        s.close()
        raise Refused(status, body)
    return s, {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if ":" in line)}


class Spdy:
    """One session over anything with sendall and recv. windows: this client knows of them."""

    def __init__(self, s, window=None):
        self.s, self.data, self.finished, self.replied = s, {}, set(), set()
        self.resets, self.goaway, self.closed, self.pings = {}, None, False, []
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, dictionary())
        self.inflate = zlib.decompressobj(zdict=dictionary())
        self.next_id, self.buffer, self.window, self.granted = 1, b"", window, {}
        if window is not None:
            self.control(SETTINGS, 0, struct.pack(">III", 1, 7, window))

    def control(self, kind, flags, payload):
        self.s.sendall(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload)

    def open(self, flags=0, **headers):
        id, self.next_id = self.next_id, self.next_id + 2
        text = struct.pack(">I", len(headers))
        for k, v in headers.items():
            text += struct.pack(">I", len(k)) + k.encode() + struct.pack(">I", len(v)) + v.encode()
        block = self.deflate.compress(text) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.data[id] = b""
        self.control(SYN_STREAM, flags, struct.pack(">IIH", id, 0, 0) + block)
        return id

    def send(self, id, data, last=False):
        for at in range(0, max(len(data), 1), 16384):
            part = data[at:at + 16384]
            end = LAST if last and at + 16384 >= len(data) else 0
            self.s.sendall(struct.pack(">II", id, end << 24 | len(part)) + part)

    def grant(self, id, size):
        self.control(WINDOW_UPDATE, 0, struct.pack(">II", id, size))

    def _take(self, n):
        while len(self.buffer) < n:
            got = self.s.recv(65536)
            if not got:
                self.closed = True
                return None
            self.buffer += got
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def frame(self):
        """Reads one; False at the end."""
        head = self._take(8)
        if head is None:
            return False
        first, second = struct.unpack(">II", head)
        payload = self._take(second & 0xffffff)
        if payload is None:
            return False
        flags = second >> 24
        if not first >> 31:
            self.data[first] += payload
            if flags & LAST:
                self.finished.add(first)
            return True
        kind = first & 0xffff
        if kind == SYN_REPLY:
            fields = self.inflate.decompress(payload[4:])
            assert fields == b"\0\0\0\0", fields
            self.replied.add(struct.unpack(">I", payload[:4])[0])
        elif kind == RST_STREAM:
            id, status = struct.unpack(">II", payload)
            self.resets[id] = status
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">II", payload)[1]
        elif kind == PING:
            self.pings.append(payload)
        elif kind == WINDOW_UPDATE:
            id, size = struct.unpack(">II", payload)
            self.granted[id] = self.granted.get(id, 0) + size
        return True

    def until(self, condition, seconds=10):
        """Reads until it is true; whether it became so."""
        deadline = time.time() + seconds
        while not condition():
            left = deadline - time.time()
            if left <= 0 or self.closed:
                return condition()
            if not self.buffer and not select.select([self.s], [], [], left)[0]:
                continue
            self.frame()
        return True

    def close(self):
        self.s.close()


class WebSocket:
    def __init__(self, url, protocols=(), timeout=10):
        headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
                   ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
        if protocols:
            headers.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        self.s, self.headers = upgrade(url, "GET", headers, timeout)
        self.accept, self.protocol = self.headers.get("sec-websocket-accept"), self.headers.get("sec-websocket-protocol")
        self.channels, self.closed, self.code, self.pongs, self.messages = {}, False, None, [], 0

    def send_frame(self, opcode, payload, last=True):
        mask = os.urandom(4)
        n = len(payload)
        size = struct.pack(">B", 0x80 | n) if n < 126 else struct.pack(">BH", 0x80 | 126, n) if n < 65536 else \
            struct.pack(">BQ", 0x80 | 127, n)
        # One integer is much faster than a loop over bytes.
        key = int.from_bytes((mask * (n // 4 + 1))[:n], "big")
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(n, "big")
        self.s.sendall(bytes([(0x80 if last else 0) | opcode]) + size + mask + masked)

    def send(self, channel, data):
        if self.protocol and "base64" in self.protocol:
            self.send_frame(1, str(channel).encode() + base64.b64encode(data))
        else:
            self.send_frame(2, bytes([channel]) + data)

    def _take(self, n):
        out = b""
        while len(out) < n:
            got = self.s.recv(n - len(out))
            if not got:
                return None
            out += got
        return out

    def message(self):
        """(opcode, payload) of one frame, None at the end. The server doesn't fragment."""
        head = self._take(2)
        if head is None:
            self.closed = True
            return None
        n = head[1] & 127
        if n > 125:
            n = struct.unpack(">H" if n == 126 else ">Q", self._take(2 if n == 126 else 8))[0]
        return head[0] & 15, self._take(n)

    def frame(self):
        m = self.message()
        if m is None:
            return False
        opcode, payload = m
        if opcode == 8:
            self.code = struct.unpack(">H", payload[:2])[0] if payload else None
        elif opcode == 10:
            self.pongs.append(payload)
        elif opcode in (1, 2):
            self.messages += 1
            channel = payload[0] - (48 if opcode == 1 else 0)
            data = base64.b64decode(payload[1:]) if opcode == 1 else payload[1:]
            self.channels[channel] = self.channels.get(channel, b"") + data
        return True

    def until(self, condition, seconds=10):
        deadline = time.time() + seconds
        while not condition():
            left = deadline - time.time()
            if left <= 0 or self.closed:
                return condition()
            if select.select([self.s], [], [], left)[0]:
                self.frame()
        return True

    def close(self):
        self.s.close()


class Tunnel:
    """A WebSocket's binary messages as the bytes of a socket."""

    def __init__(self, websocket):
        self.websocket = websocket

    def fileno(self):
        return self.websocket.s.fileno()

    def sendall(self, data):
        self.websocket.send_frame(2, data)

    def recv(self, n):
        while True:
            m = self.websocket.message()
            if m is None or m[0] == 8:
                return b""
            if m[0] == 2:
                return m[1]

    def close(self):
        self.websocket.close()


class RemoteSpdy:
    """A command or an attached container by SPDY."""

    def __init__(self, url, stdin=False, stdout=True, stderr=True, tty=False, protocol="v4.channel.k8s.io", window=None):
        headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("Content-Length", "0")]
        if protocol:
            headers.append(("X-Stream-Protocol-Version", protocol))
        s, self.headers = upgrade(url, "POST", headers)
        self.spdy = Spdy(s, window)
        names = ["error"] + ["stdin"] * stdin + ["stdout"] * stdout + ["stderr"] * stderr + ["resize"] * tty
        self.ids = {name: self.spdy.open(streamtype=name) for name in names}

    def out(self, name="stdout"):
        return self.spdy.data[self.ids[name]]

    def end(self, seconds=10):
        """What the error stream says once it has ended; None: it hasn't."""
        if not self.spdy.until(lambda: self.ids["error"] in self.spdy.finished, seconds):
            return None
        self.spdy.until(lambda: self.spdy.closed, 5)
        return self.out("error").decode()

    def close(self):
        self.spdy.close()


def exit_code(status):
    """Of a status as v4 and v5 have it."""
    s = json.loads(status)
    if s["status"] == "Success":
        return 0
    if s.get("reason") != "NonZeroExitCode":
        return None
    return int([c["message"] for c in s["details"]["causes"] if c["reason"] == "ExitCode"][0])
