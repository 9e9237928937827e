"""Transfer from the image store to a registry: what is sent and what isn't, credentials, refusals, broken connections,
and processes that are killed meanwhile. A gate before a real registry notes the requests and makes the trouble."""

import base64
import http.client
import http.server
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
from transfer import Client, code  # noqa: E402

tap = bh.Tap()
BIG = 8 << 20
INDEX = "application/vnd.oci.image.index.v1+json"
BASIC = "Basic " + base64.b64encode(b"user:secret").decode()


class Gate(http.server.ThreadingHTTPServer):
    """A registry's door: passes on what it gets, unless told otherwise."""
    daemon_threads = True

    def __init__(self, registry):
        super().__init__(("127.0.0.1", 0), Door)
        self.registry, self.host = registry, "127.0.0.1:%d" % self.server_address[1]
        self.seen = []  # "PUT /v2/...", status
        self.scopes = []
        self.tokens = False  # wanted
        self.read_only = False
        self.cuts = 0  # uploads yet to be cut in the middle
        self.pace = 0  # seconds between pieces of an upload
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass

    def take(self):
        seen, self.seen = self.seen, []
        return seen


class Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, headers=(), body=b""):
        self.server.seen.append(("%s %s" % (self.command, self.path), status))
        self.send_response(status)
        for k, v in headers:
            if k.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(k, v)
        length = dict((k.lower(), v) for k, v in headers).get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def token(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        self.server.scopes += query.get("scope", [])
        if self.headers.get("Authorization") != BASIC:
            return self.answer(401)
        self.answer(200, (), json.dumps({"token": "T" + query.get("scope", [""])[0].encode().hex()}).encode())

    def allowed(self):
        need = "pull" if self.command in ("GET", "HEAD") else "push"
        given = self.headers.get("Authorization", "")
        if not self.server.tokens or (given.startswith("Bearer T") and need in bytes.fromhex(given[8:]).decode()):
            return True
        repository = re.match("/v2/(.*?)/(?:blobs|manifests)/", self.path).group(1)
        self.answer(401, [("WWW-Authenticate", 'Bearer realm="http://%s/token",service="s",scope="repository:%s:%s"' % (
            self.server.host, repository, "pull" if need == "pull" else "pull,push"))])
        self.close_connection = True
        return False

    def body(self):
        """None: the connection is to be cut."""
        left, pieces = int(self.headers.get("Content-Length") or 0), []
        cut = left > BIG // 2 and self.server.cuts > 0
        self.server.cuts -= cut
        while left > (BIG // 2 if cut else 0):
            piece = self.rfile.read(min(left, 256 << 10))
            if not piece:
                return None
            pieces.append(piece)
            left -= len(piece)
            time.sleep(self.server.pace)
        return None if cut else b"".join(pieces)

    def any(self):
        if self.path.startswith("/token"):
            return self.token()
        if not self.allowed():
            return None
        if self.server.read_only and self.command in ("POST", "PUT"):
            return self.answer(403, (), b'{"errors":[{"code":"DENIED","message":"look, do not touch"}]}')
        body = self.body()
        if body is None:
            self.server.seen.append(("%s %s" % (self.command, self.path), 0))
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        to = http.client.HTTPConnection(self.server.registry.host, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("authorization", "expect", "connection")}
        to.request(self.command, self.path, body, headers)
        r = to.getresponse()
        self.answer(r.status, r.getheaders(), r.read())
        to.close()
        return None

    do_GET = do_HEAD = do_POST = do_PUT = any


def requests(seen, pattern):
    return [x for x in seen if re.search(pattern, x[0])]


def manifest(host, name, accept=INDEX + ",application/vnd.oci.image.manifest.v1+json"):
    """(digest, document) that the registry has under that name; (None, None)."""
    repository, tag = name.split(":", 1)
    q = urllib.request.Request("http://%s/v2/%s/manifests/%s" % (host, repository, tag), headers={"Accept": accept})
    try:
        with urllib.request.urlopen(q) as r:
            return r.headers["Docker-Content-Digest"], json.load(r)
    except urllib.error.HTTPError:
        return None, None


def test_whole(d, c, gate, name):
    p = c.stream("progress")
    e = c.push(name, gate.host + "/copy:1", progress="progress")
    events = p.all(c.tt.Progress)
    here, there = c.image(name), manifest(gate.host, "copy:1")
    tap.check(e is None and there[0] == here.target.digest, "an image is pushed under another name", (e, there))
    kinds = sorted({x.name.split("-")[0] for x in events if x.event == "complete"})
    tap.check(kinds == ["config", "layer", "manifest"], "each of its parts is told of", kinds)
    tap.check(any(x.event == "uploading" and x.name.startswith("layer-") and x.total > BIG for x in events),
              "and how far the layer is", [(x.event, x.progress, x.total) for x in events])
    puts = requests(gate.take(), "^PUT ")
    tap.check([s for _, s in puts] == [201] * 3 and "/manifests/1" in puts[2][0] and "manifests" not in puts[1][0],
              "each is sent once, the manifest last", puts)
    e = c.push(name, gate.host + "/copy:1")
    tap.check(e is None and not requests(gate.take(), "^(PUT|POST) "), "the same again sends nothing", e)
    e = c.push(name, gate.host + "/copy:2")
    seen = requests(gate.take(), "^(PUT|POST) ")
    tap.check(e is None and len(seen) == 1 and manifest(gate.host, "copy:2")[0] == here.target.digest,
              "under another tag only the manifest is", (e, seen))
    tap.check(c.pull(gate.host + "/copy:1", name="example.org/back:1") is None, "what was pushed can be pulled")


def test_mount(d, c, gate, name):
    c.pull(gate.host + "/copy:1")
    gate.take()
    e = c.push(gate.host + "/copy:1", gate.host + "/mounted:1")
    seen = gate.take()
    mounts = requests(seen, r"^POST .*mount=sha256.*from=copy$")
    tap.check(e is None and [s for _, s in mounts] == [201, 201] and len(requests(seen, "^PUT ")) == 1,
              "blobs come from the repository that the image is of", (e, seen))
    tap.check(manifest(gate.host, "mounted:1")[0] == c.image(name).target.digest, "and the image is whole")


def put_manifest(host, repository, tag, document, media_type):
    body = json.dumps(document).encode()
    q = urllib.request.Request("http://%s/v2/%s/manifests/%s" % (host, repository, tag), data=body, method="PUT",
                               headers={"Content-Type": media_type})
    with urllib.request.urlopen(q) as r:
        return {"mediaType": media_type, "digest": r.headers["Docker-Content-Digest"], "size": len(body)}


def test_index(d, c, gate):
    here = c.here()
    _, one = manifest(gate.host, "copy:1")
    kind = one.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
    mine = put_manifest(gate.host, "copy", "mine", one, kind)
    other = put_manifest(gate.host, "copy", "other", dict(one, annotations={"other": "one"}), kind)
    mine["platform"] = {"os": "linux", "architecture": here.architecture}
    other["platform"] = {"os": "linux", "architecture": "s390x"}
    for tag, entries in ("whole", [mine]), ("both", [mine, other]):
        put_manifest(gate.host, "copy", tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)
        tap.check(c.pull(gate.host + "/copy:" + tag) is None, "pull of an index")
    gate.take()
    e = c.push(gate.host + "/copy:whole", gate.host + "/index:1")
    seen = [r.split("/manifests/")[1][:7] for r, _ in requests(gate.take(), "^PUT .*/manifests/")]
    tap.check(e is None and seen == ["sha256:", "1"] and manifest(gate.host, "index:1")[1]["manifests"] == [mine],
              "an index is pushed behind its manifest", (e, seen))
    e = c.push(gate.host + "/copy:both", gate.host + "/index:2")
    tap.check(code(e) == "NOT_FOUND" and other["digest"] in e.details() and not requests(gate.take(), "^(PUT|POST)"),
              "one of whose platforms another isn't here, isn't begun", e)


def test_refused(d, c, gate, name):
    gate.read_only = True
    e = c.push(name, gate.host + "/refused:1")
    tap.check(code(e) == "PERMISSION_DENIED" and "DENIED: look, do not touch" in e.details() and "sha256:" in e.details(),
              "a registry that refuses is quoted", e)
    gate.read_only = False
    digest = c.image(name).target.digest
    for what, want, sentence, error in (
        ("an image that isn't there", "NOT_FOUND", "none:1", c.push("example.org/none:1", gate.host + "/x:1")),
        ("a name that is none", "INVALID_ARGUMENT", "push image", c.push(name, "Bad Name")),
        ("a digest that is another's", "INVALID_ARGUMENT", digest, c.push(name, gate.host + "/x@sha256:" + "0" * 64)),
        ("a registry that isn't there", "UNAVAILABLE", "127.0.0.1:1", c.push(name, "127.0.0.1:1/x:1")),
        ("the client's own hosts folder", "INVALID_ARGUMENT", "certs_dir",
         c.push(name, gate.host + "/x:1", resolver={"host_dir": "/etc/certs.d"})),
    ):
        tap.check(code(error) == want and sentence in error.details(), "push of %s: %s" % (what, want), error)
    e = c.push(name, gate.host + "/by@" + digest)
    tap.check(e is None and manifest(gate.host, "by:" + digest) != (None, None), "by its own digest it is", e)


def test_auth(d, c, gate, name):
    gate.tokens = True

    def push(to, secret):
        return c.with_auth(c.tt.AuthResponse(authType=c.tt.CREDENTIALS, username="user", secret=secret),
                           lambda: c.push(name, gate.host + to, resolver={"auth_stream": "auth"}))
    asked, e = push("/guarded:1", "secret")
    tap.check(e is None and asked.host == gate.host, "a push with a token", (e, asked))
    tap.check(gate.scopes == ["repository:guarded:pull", "repository:guarded:pull,push"],
              "which is for as much as the registry asks for", gate.scopes)
    _, e = push("/guarded:2", "wrong")
    tap.check(code(e) == "UNAUTHENTICATED", "wrong credentials", e)
    e = c.push(name, gate.host + "/guarded:3")
    tap.check(code(e) == "UNAUTHENTICATED" and gate.host in e.details(), "none at all", e)
    tap.check(not requests(gate.seen, "^PUT .*guarded/manifests/[23]"), "nothing was pushed with those", gate.seen)
    gate.tokens = False
    gate.take()


def test_cut(d, c, gate, name):
    gate.cuts = 1
    e = c.push(name, gate.host + "/cut:1")
    puts = requests(gate.take(), "^PUT .*blobs")
    tap.check(e is None and 0 in [s for _, s in puts] and manifest(gate.host, "cut:1")[0],
              "an upload that is cut in the middle is begun anew", (e, puts))
    gate.cuts = 1000
    e = c.push(name, gate.host + "/cut/always:1")
    tap.check(code(e) == "UNAVAILABLE" and "upload sha256:" in e.details() and gate.host in e.details(),
              "one that always is, is given up", e)
    cuts = [s for _, s in requests(gate.take(), "^PUT .*blobs")].count(0)
    tap.check(cuts == 4 and manifest(gate.host, "cut/always:1") == (None, None),
              "after a few attempts, and nothing has the name", cuts)
    gate.cuts = 0


def test_killed(d, c, gate, name):
    """The image worker, then the metadata worker, in the middle of a layer."""
    for worker in "image", "metadata":
        gate.pace, to = 0.02, "killed/%s:1" % worker
        result = []
        t = threading.Thread(target=lambda: result.append(c.push(name, gate.host + "/" + to)))
        t.start()
        begun = bh.wait_for(lambda: requests(gate.seen, "^POST .*killed/" + worker), 10, 0.01)
        time.sleep(0.2)
        for pid in d.processes()[worker]:
            os.kill(pid, signal.SIGKILL)
        gate.pace = 0
        t.join(60)
        cut = requests(gate.take(), "^PUT .*blobs")
        tap.check(begun and result == [None] and manifest(gate.host, to)[0] == c.image(name).target.digest,
                  "the %s worker killed in the middle: the push is begun anew, and whole" % worker, (result, cut))
        tap.check(cut and (worker != "image" or 0 in [s for _, s in cut]), "the upload was under way", cut)


def main():
    bh.isolate()
    with tempfile.TemporaryDirectory(prefix="bulkhead-test-") as folder:
        registry = bh.Registry(folder)
        gate = Gate(registry)

        def prepare(root):
            bh.busybox_root(root)
            with open(os.path.join(root, "noise"), "wb") as f:
                f.write(os.urandom(BIG + (1 << 20)))
        bh.push(bh.make_image(folder, "one", prepare), registry, "first:1")
        name = registry.host + "/first:1"
        d = bh.Daemon(folder, cni=False)
        try:
            d.start()
            c = Client(d)
            tap.check(c.pull(name) is None, "pull what is to be pushed")
            for test in test_whole, test_mount:
                test(d, c, gate, name)
            test_index(d, c, gate)
            for test in test_refused, test_auth, test_cut, test_killed:
                test(d, c, gate, name)
            tap.check(d.stop() == 0, "SIGTERM ends the daemon with success", d.log_tail())
        except Exception:  # the log says why
            import traceback
            tap.check(False, "the test runs to its end", traceback.format_exc())
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.kill() if d.process.poll() is None else None
            d.remove_cgroups()
    tap.done()


main()
