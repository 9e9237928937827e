"""A ttrpc client, for tests: calls of any service by name, any number open at a time, and frames that no client
should send."""

import socket
import struct
import threading

import bulkhead as bh

REQUEST, RESPONSE, DATA = 1, 2, 3
DATA_MAX = 4 << 20
CODES = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
         "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
         "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]


class Error(Exception):
    def __init__(self, code, message):
        super().__init__("%s: %s" % (code, message))
        self.code, self.message = code, message


class Pending:
    """A call that was sent: result() waits for its end."""

    def __init__(self, reply_type):
        self.reply_type, self.over = reply_type, threading.Event()
        self.reply = self.error = None

    def settle(self, response):
        if response is None:
            self.error = Error("UNAVAILABLE", "the connection has ended")
        elif response.status.code:
            self.error = Error(CODES[response.status.code], response.status.message)
        else:
            self.reply = self.reply_type.FromString(response.payload)
        self.over.set()

    def result(self, timeout=30):
        if not self.over.wait(timeout):
            raise TimeoutError("no response within %s s" % timeout)
        if self.error:
            raise self.error
        return self.reply


class Connection:
    """On a connected stream socket. Frames of a thread of its own settle the calls."""

    def __init__(self, sock):
        self.wire = bh.stubs_of("ttrpc/ttrpc.proto")[0]
        self.sock, self.next, self.calls, self.strays = sock, 1, {}, []
        self.lock, self.news = threading.Lock(), threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()

    @classmethod
    def unix(cls, path):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        return cls(s)

    @classmethod
    def vsock(cls, cid, port):
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.settimeout(5)
        s.connect((cid, port))
        s.settimeout(None)
        return cls(s)

    @classmethod
    def hybrid(cls, path, port, word="CONNECT"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.sendall(b"%s %d\n" % (word.encode(), port))
        line = b""
        while not line.endswith(b"\n"):
            byte = s.recv(1)
            if not byte:
                raise ConnectionError("no OK, but the end, after %r" % line)
            line += byte
        if not line.startswith(b"OK"):
            raise ConnectionError("no OK, but %r" % line)
        return cls(s)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was faster
        self.sock.close()

    def receive(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def listen(self):
        try:
            while True:
                size, stream, kind, _flags = struct.unpack(">IIBB", self.receive(10))
                self.settle(stream, kind, self.receive(size))
        except (OSError, EOFError):
            with self.lock:
                calls, self.calls = list(self.calls.values()), None
            for call in calls:
                call.settle(None)

    def settle(self, stream, kind, data):
        response = self.wire.Response.FromString(data)
        with self.lock:
            call = self.calls.pop(stream, None)
        if call and kind == RESPONSE:
            call.settle(response)
        else:
            with self.news:
                self.strays.append((stream, kind, response))
                self.news.notify_all()

    def frame(self, kind, flags, stream, data=b"", size=None):
        """Sends any frame; size is what its header says."""
        self.sock.sendall(struct.pack(">IIBB", len(data) if size is None else size, stream, kind, flags) + data)

    def stray(self, stream, timeout=10):
        """The next response of a stream that no call waits for: (code, message), or None."""
        def of_it():
            return next((s for s in self.strays if s[0] == stream), None)
        with self.news:
            self.news.wait_for(of_it, timeout)
            found = of_it()
            if found:
                self.strays.remove(found)
        return (CODES[found[2].status.code], found[2].status.message) if found else None

    def pack(self, service, method, request, timeout=0, metadata=()):
        pairs = [self.wire.KeyValue(key=k, value=v) for k, v in metadata]
        return self.wire.Request(service=service, method=method, payload=request.SerializeToString(),
                                 timeout_nano=int(timeout * 1e9), metadata=pairs).SerializeToString()

    def send(self, service, method, request, reply_type, timeout=0, metadata=()):
        """A call, open."""
        pending = Pending(reply_type)
        with self.lock:
            if self.calls is None:
                raise Error("UNAVAILABLE", "the connection has ended")
            stream, self.next = self.next, self.next + 2
            self.calls[stream] = pending
            self.frame(REQUEST, 0, stream, self.pack(service, method, request, timeout, metadata))
        return pending

    def call(self, *args, **kwargs):
        return self.send(*args, **kwargs).result()


class Service:
    """A service's methods as functions of their request's fields: Service(c, pb, "AgentService").CreateContainer(...).
    start_X gives the open call back."""

    def __init__(self, connection, pb, name):
        self.connection, self.pb = connection, pb
        self.api = pb.DESCRIPTOR.services_by_name[name]

    def __getattr__(self, name):
        start = name.startswith("start_")
        method = self.api.methods_by_name[name[len("start_"):] if start else name]
        request_type, reply_type = message_class(method.input_type), message_class(method.output_type)

        def run(_timeout=0, **fields):
            pending = self.connection.send(self.api.full_name, method.name, request_type(**fields), reply_type, _timeout)
            return pending if start else pending.result()
        return run


def message_class(descriptor):
    return descriptor._concrete_class  # what generated modules have under its name


def error_of(function, *args, **kwargs):
    """The Error that the call ends with, or None."""
    try:
        function(*args, **kwargs)
    except Error as e:
        return e
    return None
