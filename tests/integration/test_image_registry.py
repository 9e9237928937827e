"""The image worker's code against registries: Debian's docker-registry with real images, and one that breaks off, lies,
stalls and redirects. The driver plays the metadata worker; what is in the store is checked from the file system."""

import email.utils
import gzip
import hashlib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
from fake_registry import OCI, FakeRegistry, TokenAuth, certificate, digest

bh.isolate()
tap = bh.Tap()
DRIVER = os.path.join(bh.BUILD, "tests", "image_driver")


class Driver:
    def __init__(self, folder, stall=300, certs=None, **environment):
        self.folder, self.stall = folder, stall
        self.environment = dict(os.environ, **environment)
        self.state = os.path.join(folder, "state")
        self.certs = certs or os.path.join(folder, "certs.d")
        os.makedirs(self.state, exist_ok=True)
        os.makedirs(self.certs, exist_ok=True)
        self.n = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen([DRIVER, self.state, self.certs, str(self.stall)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1, env=self.environment)
        self.answers = queue.Queue()
        threading.Thread(target=self.read, args=(self.process, self.answers), daemon=True).start()

    @staticmethod
    def read(process, answers):
        for line in process.stdout:
            answers.put(json.loads(line))
        answers.put(None)

    def say(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")

    def take(self, seconds=30):
        a = self.answers.get(timeout=seconds)
        if a is None:
            raise RuntimeError("the driver died with status %s" % self.process.wait())
        return a

    def ask(self, *words, **more):
        self.say(*words)
        return self.take(**more)

    def resolve(self, reference, pull=None, **credentials):
        if pull is None:
            self.n += 1
            pull = self.n
        a = self.ask("resolve", pull, reference, *["%s=%s" % i for i in credentials.items()])
        a["pull"] = pull
        return a

    def out(self, d, tag=""):
        return os.path.join(self.folder, "out-" + d[7:19] + tag)

    def fetch(self, pull, blob, *options, tag=""):
        a = self.ask("fetch", pull, blob["digest"], blob["size"], self.out(blob["digest"], tag), *options)
        if os.path.exists(self.out(blob["digest"], tag)):
            with open(self.out(blob["digest"], tag), "rb") as f:
                a["bytes"] = f.read()
        return a

    def pull(self, reference, **credentials):
        """Everything: (resolve's answer, answers by digest)."""
        r = self.resolve(reference, **credentials)
        if "error" in r:
            return r, {}
        layers = {l["blob"]["digest"]: l["blob"] for l in r["layers"]}
        for b in layers.values():
            self.say("fetch", r["pull"], b["digest"], b["size"], self.out(b["digest"]))
        got = {}
        for _ in layers:
            a = self.take()
            with open(self.out(a["blob"]), "rb") as f:
                a["bytes"] = f.read()
            got[a["blob"]] = a
        return r, got

    def stored(self, d):
        return os.path.join(self.state, "content", "blobs", "sha256", d[7:])

    def ingest(self):
        return os.listdir(os.path.join(self.state, "content", "ingest"))

    def good(self, d):
        try:
            with open(self.stored(d), "rb") as f:
                return digest(f.read()) == d
        except OSError:
            return False

    def hosts(self, host, text):
        os.makedirs(os.path.join(self.certs, host), exist_ok=True)
        with open(os.path.join(self.certs, host, "hosts.toml"), "w") as f:
            f.write(text)

    def stop(self):
        self.process.stdin.close()
        return self.process.wait(timeout=10)


def all_good(d, r, got):
    return "error" not in r and all(d.good(r[k]["digest"]) for k in ("target", "manifest", "config")) and \
        len(got) == len({l["blob"]["digest"] for l in r["layers"]}) and \
        all("error" not in a and digest(a["bytes"]) == x and d.good(x) for x, a in got.items())


def noise(n, seed=b"x"):
    """Bytes that differ everywhere, the same in each run."""
    return hashlib.shake_128(seed).digest(n)


# --- a real registry ---

def test_real(folder):
    d = Driver(folder)
    registry = bh.Registry(folder)
    image = bh.make_image(folder, "busybox")
    bh.push(image, registry, "test/busybox:oci", "--format", "oci")
    bh.push(image, registry, "test/busybox:docker", "--format", "v2s2")
    ref = registry.host + "/test/busybox"

    r, got = d.pull(ref + ":oci")
    tap.check(all_good(d, r, got), "an OCI image by tag", r)
    tap.check(r.get("name") == ref + ":oci" and r.get("repository") == ref and r.get("cmd") == ["/bin/sh"] and
              r.get("arch") == "amd64", "what resolve says about it", r)
    tap.check(all(hashlib.sha256(gzip.decompress(got[l["blob"]["digest"]]["bytes"])).hexdigest() == l["diff_id"][7:]
                  for l in r["layers"]), "the piped bytes unpack to the diff id")
    tap.check(all(a["transferred"] == len(a["bytes"]) for a in got.values()), "transferred is what came")
    again, got = d.pull(ref + "@" + r["target"]["digest"])
    tap.check(all_good(d, again, got) and again["name"] == "" and all(a["transferred"] == 0 for a in got.values()),
              "again by digest: from the store, bytes still go into the pipe", again)
    s, got = d.pull(ref + ":docker")
    tap.check(all_good(d, s, got) and s["manifest"]["type"].endswith("distribution.manifest.v2+json"),
              "docker schema 2", s)
    s = d.resolve(ref + ":none")
    tap.check(s.get("error") == "NOT_FOUND" and registry.host in s["text"] and
              "404" in s["text"], "a missing tag: " + s.get("text", ""), s)
    s = d.resolve(ref + "@sha256:" + "0" * 64)
    tap.check(s.get("error") == "NOT_FOUND", "a missing digest: " + s.get("text", ""), s)
    s = d.resolve(registry.host + "/test/nothing:x")
    tap.check(s.get("error") == "NOT_FOUND", "a missing repository: " + s.get("text", ""), s)

    # Other tools read the store.
    a = d.ask("index", "%s:oci=%s=%s=%d" % (ref, r["target"]["type"], r["target"]["digest"], r["target"]["size"]))
    tap.check(a == {"answer": "index"}, "index.json is written", a)
    p = subprocess.run(["skopeo", "inspect", "oci:" + os.path.join(d.state, "content") + ":oci"], capture_output=True,
                       text=True)
    tap.check(p.returncode == 0 and json.loads(p.stdout)["Layers"] == [l["blob"]["digest"] for l in r["layers"]],
              "skopeo reads the store as an OCI layout", p.stderr)
    p = subprocess.run(["skopeo", "--insecure-policy", "copy", "oci:" + os.path.join(d.state, "content") + ":oci",
                        "dir:" + os.path.join(folder, "copy")], capture_output=True, text=True)
    tap.check(p.returncode == 0, "and copies the image out of it", p.stderr)

    a = d.ask("list")
    have = {b["digest"] for b in a["blobs"]}
    on_disk = {"sha256:" + n for n in os.listdir(os.path.join(d.state, "content", "blobs", "sha256"))}
    tap.check(have == on_disk and r["config"]["digest"] in have and
              all(b["size"] == os.path.getsize(d.stored(b["digest"])) for b in a["blobs"]), "content_list", a)
    a = d.ask("remove", r["config"]["digest"], "sha256:" + "1" * 64)
    tap.check(a == {"answer": "remove"} and not os.path.exists(d.stored(r["config"]["digest"])), "content_remove", a)
    a = d.ask("remove", r["target"]["digest"], "../../oci-layout")
    tap.check(a.get("error") == "INVALID_ARGUMENT" and d.good(r["target"]["digest"]),
              "a name that is no digest is refused before anything is removed", a)
    again, got = d.pull(ref + ":oci")
    tap.check(all_good(d, again, got), "what was removed is fetched again", again)
    with open(d.stored(r["manifest"]["digest"]), "r+b") as f:
        pass
    os.chmod(d.stored(r["manifest"]["digest"]), 0o600)
    with open(d.stored(r["manifest"]["digest"]), "r+b") as f:
        f.write(b"x")
    again, got = d.pull(ref + ":oci")
    tap.check(all_good(d, again, got), "a document that rotted on disk is fetched again", again)
    for n in range(1, d.n + 1):
        d.ask("release", n)
    a = d.ask("stats")
    tap.check(a["sessions"] == 0 and a["progress"] > 0, "all sessions end; progress was told", a)
    registry.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def test_htpasswd(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import crypt
    d = Driver(folder)
    path = os.path.join(folder, "htpasswd")
    with open(path, "w") as f:
        f.write("alice:%s\n" % crypt.crypt("se:cret", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))
    registry = bh.Registry(folder, htpasswd=path)
    image = bh.make_image(folder, "busybox")
    bh.push(image, registry, "p/x:1", "--dest-creds", "alice:se:cret")
    ref = registry.host + "/p/x:1"
    r, got = d.pull(ref, user="alice", password="se:cret")
    tap.check(all_good(d, r, got), "Basic: user and password", r)
    r = d.resolve(ref, auth="YWxpY2U6c2U6Y3JldA==")
    tap.check("error" not in r, "Basic: docker's auth field", r)
    r = d.resolve(ref, user="alice", password="se:cret", server="http://%s/v1/" % registry.host)
    tap.check("error" not in r, "Basic: a server address that fits", r)
    r = d.resolve(ref, user="alice", password="se:cret", server="other.example")
    tap.check(r.get("error") == "UNAUTHENTICATED" and "user name" in r["text"], "and one that doesn't: " + r["text"], r)
    r = d.resolve(ref)
    tap.check(r.get("error") == "UNAUTHENTICATED" and registry.host in r["text"], "no credentials: " + r["text"], r)
    r = d.resolve(ref, user="alice", password="wrong")
    tap.check(r.get("error") == "UNAUTHENTICATED" and "refused the credentials" in r["text"] and
              "wrong" not in r["text"], "wrong credentials: " + r["text"], r)
    r = d.resolve(ref, auth="!!!")
    tap.check(r.get("error") == "INVALID_ARGUMENT", "an auth field that is none: " + r["text"], r)
    registry.stop()
    tap.check(d.stop() == 0, "the driver ends well")


# --- authentication ---

def authorization(requests):
    return [r[2].get("Authorization") for r in requests]


def test_token(folder):
    d = Driver(folder)
    reg, realm = FakeRegistry(), FakeRegistry()
    data = noise(100000)
    reg.plain_image("a/b", "1", data)
    ref = reg.host + "/a/b:1"
    auth = TokenAuth(reg, realm, users={"bob": "pw"})
    r, got = d.pull(ref, user="bob", password="pw")
    tap.check(all_good(d, r, got), "a token for user and password", r)
    tap.check(auth.n == 1, "one token does for the whole pull", auth.n)
    tap.check(not any((a or "").startswith("Basic") for a in authorization(reg.requests)),
              "the password went to the realm alone")
    q = realm.requests[0]
    tap.check("scope=repository%3aa%2fb%3apull" in q[1].lower() and "service=the+service" in q[1].replace("%20", "+"),
              "service and scope are asked for", q)
    d.ask("release", r["pull"])
    r = d.resolve(ref, user="bob", password="no")
    tap.check(r.get("error") == "UNAUTHENTICATED" and realm.host in r["text"], "a wrong password: " + r["text"], r)
    r = d.resolve(ref)
    tap.check(r.get("error") == "UNAUTHENTICATED" and "anonymous" in r["text"], "nobody: " + r["text"], r)
    r = d.resolve(ref, identity="the-identity")
    tap.check("error" not in r and realm.asked("POST"), "an identity token, by POST", r)
    auth.tokens.add("given")
    before = len(realm.requests)
    r = d.resolve(ref, token="given")
    tap.check("error" not in r and len(realm.requests) == before, "a registry token is used as it is", r)
    auth.anonymous = True
    r = d.resolve(ref)
    tap.check("error" not in r, "an anonymous token", r)

    # A token that the registry forgets in the middle of a pull.
    r = d.resolve(ref)
    auth.tokens.clear()
    a = d.ask("remove", r["layers"][0]["blob"]["digest"])
    a = d.fetch(r["pull"], r["layers"][0]["blob"])
    tap.check("error" not in a and digest(a["bytes"]) == a["blob"], "a token that expires on the way is renewed", a)

    # The registry names another realm later: it doesn't get the credentials.
    evil = FakeRegistry()
    TokenAuth(evil, users={"bob": "pw"})
    r = d.resolve(ref, user="bob", password="pw")
    auth.tokens.clear()
    auth.realm = evil
    d.ask("remove", r["layers"][0]["blob"]["digest"])
    a = d.fetch(r["pull"], r["layers"][0]["blob"])
    tap.check(a.get("error") == "UNAUTHENTICATED" and not evil.requests and "second token server" in a["text"],
              "a second realm gets nothing: " + a.get("text", ""), a)
    auth.realm = realm

    # What a realm may answer.
    def nonsense(h, path):
        if path != "/token":
            return False
        h.answer(200, b"{\"token\":\"a b\\r\\nX: y\"}")
        return True
    realm.faults.insert(0, nonsense)
    r = d.resolve(ref)
    tap.check(r.get("error") == "UNAUTHENTICATED" and "usable token" in r["text"], "a token that is none: " + r["text"], r)
    realm.faults.pop(0)
    realm.faults.insert(0, lambda h, p: p == "/token" and (h.answer(503) or True))
    r = d.resolve(ref)
    tap.check(r.get("error") == "UNAVAILABLE" and "503" in r["text"], "a realm that is ill: " + r["text"], r)
    realm.faults.pop(0)
    for x in (reg, realm, evil):
        x.stop()
    gone = "127.0.0.1:%d" % bh.free_port()
    r = d.resolve(gone + "/a/b:1")
    tap.check(r.get("error") == "UNAVAILABLE" and gone in r["text"], "a registry that is away: " + r["text"], r)
    r = d.resolve("no-such-host.invalid/a/b:1")
    tap.check(r.get("error") == "UNAVAILABLE" and "no-such-host.invalid" in r["text"], "no such host: " + r["text"], r)
    tap.check(d.stop() == 0, "the driver ends well")


def test_redirects(folder):
    d = Driver(folder)
    reg, store = FakeRegistry(), FakeRegistry()
    data = noise(300000)
    reg.plain_image("a/b", "1", data)
    store.blob(data)
    ref = reg.host + "/a/b:1"
    TokenAuth(reg, users={"bob": "pw"})
    d.hosts(reg.host, '[header]\nx-mine = "secret"\n')

    def away(h, path):
        if "/blobs/" + digest(data) not in path:
            return False
        h.answer(307, b"", [("Location", store.url + "/v2/s/blobs/" + digest(data) + "?sig=top-secret"),
                            ("Set-Cookie", "a=b")])
        return True
    reg.faults.append(away)
    r, got = d.pull(ref, user="bob", password="pw")
    tap.check(all_good(d, r, got), "a layer that lies elsewhere", r)
    seen = store.requests[0][2]
    tap.check("Authorization" not in seen and "x-mine" not in {k.lower() for k in seen} and "Cookie" not in seen,
              "CVE-2020-15157: the other host gets no credentials, no header of ours, no cookie", seen)
    tap.check(all(q[2].get("x-mine") == "secret" for q in reg.asked(part="/manifests/")), "the registry gets the header")
    tap.check(not any("Cookie" in q[2] for q in reg.requests), "cookies are not kept")

    d.ask("remove", digest(data))
    store.faults.append(lambda h, p: h.error(401, "UNAUTHORIZED", "x", [("WWW-Authenticate", 'Basic realm="x"')]) or True)
    a = d.fetch(r["pull"], r["layers"][0]["blob"])
    tap.check(a.get("error") == "UNAUTHENTICATED" and all("Authorization" not in q[2] for q in store.requests) and
              "top-secret" not in a["text"], "a redirect to one who wants a password: " + a.get("text", ""), a)
    store.reset()

    reg.faults[-1] = lambda h, p: "/blobs/" in p and (h.answer(302, b"", [("Location", p)]) or True)
    a = d.fetch(r["pull"], r["layers"][0]["blob"])
    tap.check(a.get("error") == "UNAVAILABLE" and "more than 10" in a["text"], "a loop: " + a.get("text", ""), a)
    for where in ("file:///etc/passwd", "ftp://127.0.0.1/x", "", "http://[", "gopher://127.0.0.1:1/_x"):
        reg.faults[-1] = lambda h, p: "/blobs/" in p and (h.answer(302, b"", [("Location", where)]) or True)
        a = d.fetch(r["pull"], r["layers"][0]["blob"])
        tap.check(a.get("error") == "UNAVAILABLE" and "no http or https" in a["text"], "a redirect to %r" % where, a)
    reg.stop()
    store.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def test_tls(folder):
    d = Driver(folder)
    cert, key = certificate(folder)
    reg, plain = FakeRegistry(tls=(cert, key)), FakeRegistry()
    data = noise(200000)
    reg.plain_image("a/b", "1", data)
    plain.plain_image("a/b", "1", data)
    ref = reg.host + "/a/b:1"
    r = d.resolve(ref)
    tap.check("error" in r, "https on loopback isn't guessed", r)
    d.hosts(reg.host, 'server = "%s"\n' % reg.url)
    r = d.resolve(ref)
    tap.check(r.get("error") == "UNAVAILABLE" and "certificate" in r["text"], "an unknown authority: " + r["text"], r)
    d.hosts(reg.host, 'server = "%s"\nskip_verify = true\n' % reg.url)
    r, got = d.pull(ref)
    tap.check(all_good(d, r, got), "skip_verify", r)
    shutil.copy(cert, os.path.join(d.certs, reg.host, "authority.pem"))
    d.hosts(reg.host, 'server = "%s"\nca = "authority.pem"\n' % reg.url)
    d.ask("remove", digest(data))
    r, got = d.pull(ref)
    tap.check(all_good(d, r, got), "an authority of its own", r)
    d.ask("remove", digest(data))
    reg.faults.append(lambda h, p: "/blobs/" in p and (h.answer(302, b"", [("Location", plain.url + p)]) or True))
    a = d.fetch(r["pull"], r["layers"][0]["blob"])
    tap.check(a.get("error") == "UNAVAILABLE" and "plain http" in a["text"] and not plain.requests,
              "a redirect to plain http isn't followed: " + a.get("text", ""), a)
    reg.faults.clear()
    reg.faults.append(lambda h, p: h.error(401, "UNAUTHORIZED", "x", [
        ("WWW-Authenticate", 'Bearer realm="%s/token",service="s"' % plain.url)]) or True)
    r = d.resolve(ref, user="bob", password="pw")
    tap.check(r.get("error") == "UNAUTHENTICATED" and not plain.requests,
              "nor is a realm without encryption asked: " + r.get("text", ""), r)
    reg.stop()
    plain.stop()
    tap.check(d.stop() == 0, "the driver ends well")


# --- mirrors ---

def test_mirrors(folder):
    d = Driver(folder)
    up, m1, m2 = FakeRegistry(), FakeRegistry(), FakeRegistry()
    data = noise(50000)
    up.plain_image("a/b", "1", data)
    ref = "registry.example/a/b:1"
    text = 'server = "%s"\n[host."%s"]\ncapabilities = ["pull", "resolve"]\n[host."%s"]\ncapabilities = ["pull"]\n' % (
        up.url, m1.url, m2.url)
    d.hosts("registry.example", text)
    TokenAuth(up, users={"bob": "pw"})
    r, got = d.pull(ref, user="bob", password="pw")
    tap.check(all_good(d, r, got), "mirrors that have nothing are passed over", r)
    tap.check(all("ns=registry.example" in q[1] for q in m1.requests) and
              not any("ns=" in q[1] for q in up.asked(part="/v2/")), "mirrors are told whose name space is meant")
    tap.check(not any("Authorization" in q[2] for q in m1.requests + m2.requests), "and get no credentials")
    tap.check(not m2.asked(part="manifests/1"), "a mirror that may only pull isn't asked for a tag")
    d.ask("remove", digest(data))
    m1.faults.append(lambda h, p: h.answer(500, b"ill") or True)
    m2.plain_image("a/b", "1", data)
    before = len(up.asked(part="blobs"))
    a = d.fetch(r["pull"], r["layers"][0]["blob"])
    tap.check("error" not in a and len(up.asked(part="blobs")) == before, "the second mirror has the layer", a)
    m1.faults.append(lambda h, p: h.answer(401, b"", [("WWW-Authenticate", 'Basic realm="x"')]) or True)
    m1.faults.pop(0)
    r = d.resolve(ref, user="bob", password="pw")
    tap.check("error" not in r and not any("Authorization" in q[2] for q in m1.requests),
              "a mirror that wants a password doesn't get this one's", r)
    m1.stop()
    up.manifests.clear()
    r = d.resolve("registry.example/a/b:2", user="bob", password="pw")
    tap.check(r.get("error") == "NOT_FOUND" and m1.host in r["text"] and up.host in r["text"],
              "each host that was asked is named: " + r.get("text", ""), r)
    d.hosts("bad.example", "server = 1\n")
    r = d.resolve("bad.example/x")
    tap.check(r.get("error") == "INVALID_ARGUMENT" and "bad.example/hosts.toml\": line 1" in r["text"],
              "a bad hosts.toml: " + r["text"], r)
    d.hosts("none.example", 'server = "%s"\ncapabilities = ["push"]\n' % up.url)
    r = d.resolve("none.example/x")
    tap.check(r.get("error") == "FAILED_PRECONDITION", "nobody may be asked: " + r["text"], r)
    up.stop()
    m2.stop()
    tap.check(d.stop() == 0, "the driver ends well")


# --- documents ---

def test_documents(folder):
    d = Driver(folder)
    reg = FakeRegistry()
    ref = reg.host + "/a/b"
    layer = noise(1000)

    # An index, also one in another; the HEAD doesn't help.
    images = {arch: reg.plain_image("a/b", arch, noise(100, arch.encode()), arch=arch) for arch in ("arm64", "amd64", "s390x")}
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [
        dict(images[a], platform={"os": "linux", "architecture": a}) for a in images]}
    inner = reg.manifest("a/b", "index", index, OCI + "index.v1+json")
    reg.manifest("a/b", "outer", {"schemaVersion": 2, "manifests": [
        dict(inner, platform={"os": "linux", "architecture": "amd64"})]}, OCI + "index.v1+json")
    for tag in ("index", "outer"):
        r, got = d.pull(ref + ":" + tag)
        tap.check(all_good(d, r, got) and r["manifest"]["digest"] == images["amd64"]["digest"] and
                  r["target"]["digest"] != r["manifest"]["digest"], "%s: the machine's own image" % tag, r)
    r = d.resolve(ref + ":index", arch="aarch64")
    tap.check(r.get("arch") == "arm64", "another platform, asked for", r)
    r = d.resolve(ref + ":index", arch="riscv64")
    tap.check(r.get("error") == "NOT_FOUND" and "linux/s390x" in r["text"], "one that isn't there: " + r["text"], r)
    r = d.resolve(ref + ":s390x")
    tap.check(r.get("error") == "NOT_FOUND", "a single image for another machine: " + r.get("text", ""), r)
    deep = inner
    for n in range(5):
        deep = reg.manifest("a/b", "deep", {"schemaVersion": 2, "manifests": [deep]}, OCI + "index.v1+json")
    r = d.resolve(ref + ":deep")
    tap.check(r.get("error") == "INVALID_ARGUMENT" and "nested" in r["text"], "indexes without end: " + r["text"], r)

    # Registries that answer a HEAD with less, or not at all.
    def no_head(status, headers):
        return lambda h, p: h.command == "HEAD" and (h.answer(status, b"", headers) or True)
    for status in (200, 400, 404, 405):
        reg.faults = [no_head(status, [("Content-Type", OCI + "index.v1+json")])]
        r, got = d.pull(ref + ":index")
        tap.check(all_good(d, r, got), "a HEAD that answers %d without a digest" % status, r)
    reg.reset()

    # Lies.
    reg.plain_image("a/b", "lie", noise(77))
    body = reg.manifests[("a/b", "lie")][1]
    reg.faults = [lambda h, p: "/manifests/" in p and (h.answer(200, body, [
        ("Content-Type", OCI + "manifest.v1+json"), ("Docker-Content-Digest", "sha256:" + "1" * 64)]) or True)]
    r = d.resolve(ref + ":lie")
    tap.check(r.get("error") == "DATA_LOSS" and "1111" in r["text"], "a digest that isn't the content's: " + r["text"], r)
    reg.faults.insert(0, lambda h, p: h.command == "HEAD" and (h.answer(405) or True))
    r = d.resolve(ref + ":lie")
    tap.check(r.get("error") == "DATA_LOSS" and "1111" in r["text"], "the same without HEAD: " + r["text"], r)
    reg.faults = [lambda h, p: "/manifests/" in p and (h.answer(200, body) or True)]
    r = d.resolve(ref + "@sha256:" + "2" * 64)
    tap.check(r.get("error") == "DATA_LOSS" and "2222" in r["text"], "another manifest than asked for: " + r["text"], r)
    reg.reset()
    m = reg.image("a/b", "size", [(layer, OCI + "layer.v1.tar", digest(layer))])
    doc = json.loads(reg.manifests[("a/b", "size")][1])
    doc["config"]["size"] += 1
    reg.manifest("a/b", "size", doc, OCI + "manifest.v1+json")
    r = d.resolve(ref + ":size")
    tap.check(r.get("error") == "DATA_LOSS" and "announced" in r["text"], "a config of another size: " + r["text"], r)

    # Too much.
    big = json.dumps({"schemaVersion": 2, "x": "y" * (4 << 20)}).encode()
    reg.manifest("a/b", "big", big, OCI + "manifest.v1+json")
    r = d.resolve(ref + ":big")
    tap.check(r.get("error") == "RESOURCE_EXHAUSTED" and "4194304" in r["text"], "CVE-2023-25153: a manifest of 4 MiB and more: " + r["text"], r)
    def endless(h, path):
        if "/manifests/" not in path or h.command == "HEAD":
            return False
        h.send_response(200)
        h.end_headers()
        try:
            while True:
                h.wfile.write(b" " * 65536)
        except OSError:
            pass
        h.close_connection = True
        return True
    reg.faults = [endless]
    r = d.resolve(ref + ":index2")
    tap.check(r.get("error") == "RESOURCE_EXHAUSTED" and "4194304" in r["text"], "a manifest without end: " + r["text"], r)
    reg.faults = [lambda h, p: h.answer(200, b"{}", [("X-%d" % i, "y" * 1000) for i in range(90)]) or True]
    r = d.resolve(ref + ":index3")
    tap.check("headers" in r.get("text", ""), "90 kilobytes of headers: " + r.get("text", ""), r)
    reg.reset()

    # What isn't an image.
    for tag, doc, media_type, code in (
            ("schema1", {"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+prettyjws",
             "UNIMPLEMENTED"),
            ("chart", {"schemaVersion": 2, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
                                                      "digest": "sha256:" + "3" * 64, "size": 2}, "layers": []},
             OCI + "manifest.v1+json", "INVALID_ARGUMENT"),
            ("html", b"<html>", "text/html", "DATA_LOSS")):
        reg.manifest("a/b", tag, doc, media_type)
        r = d.resolve(ref + ":" + tag)
        tap.check(r.get("error") == code, "%s: %s" % (tag, r.get("text")), r)
    reg.faults = [lambda h, p: h.error(429, "TOOMANYREQUESTS", "slow\ndown") or True]
    r = d.resolve(ref + ":index")
    tap.check(r.get("error") == "RESOURCE_EXHAUSTED" and "slow?down" in r["text"], "the registry's own words: " + r["text"], r)
    test_retry_after(d, reg, ref + ":index")
    reg.stop()
    tap.check(not d.ingest(), "nothing is left in the ingest folder", d.ingest())
    tap.check(d.stop() == 0, "the driver ends well")


def test_retry_after(d, reg, image):
    """A registry that is busy and says for how long is asked again then, and not before."""
    def busy(status, value, times):
        reg.reset()
        reg.faults = [lambda h, p: len(reg.asked()) <= times and
                      (h.error(status, "TOOMANYREQUESTS", "busy", [("Retry-After", value)]) or True)]

    def resolve():
        began = time.monotonic()
        r = d.resolve(image)
        return r, time.monotonic() - began

    date = lambda s: email.utils.formatdate(time.time() + s, usegmt=True)
    for status, value, times, least, most in ((503, date(4), 1, 2, 9), (429, "2", 1, 2, 8), (503, "1", 2, 2, 8),
                                              (429, "0", 2, 2, 8)):
        busy(status, value, times)
        r, took = resolve()
        tap.check("error" not in r and least <= took < most and len(reg.asked()) > times,
                  "%d, Retry-After: %s, %d times: the answer comes after %.1f s" % (status, value, times, took), (r, took))
    for status, value, what in ((429, "3600", "too long a wait"), (503, "soon", "what is no time"), (500, "1", "another status")):
        busy(status, value, 100)
        r, took = resolve()
        tap.check("error" in r and str(status) in r["text"] and took < 1 and len(reg.asked("GET")) <= 1,
                  "%s isn't waited for: %s" % (what, r.get("text")), (r, took))
    reg.reset()


# --- layers ---

def broken_after(n, times):
    """Cuts the connection after n bytes of a blob, so many times."""
    left = [times]

    def fault(h, path):
        if "/blobs/" not in path or left[0] == 0:
            return False
        data = h.server.registry.blobs[path.split("/")[-1]]
        if len(data) < 100000:
            return False
        left[0] -= 1
        begin = int((h.headers.get("Range") or "bytes=0-")[6:-1])
        h.send_response(206 if begin else 200)
        if begin:
            h.send_header("Content-Range", "bytes %d-%d/%d" % (begin, len(data) - 1, len(data)))
        h.send_header("Content-Length", str(len(data) - begin))
        h.end_headers()
        h.wfile.write(data[begin:begin + n])
        h.cut()
        return True
    return fault


def test_layers(folder):
    d = Driver(folder)
    reg = FakeRegistry()
    ref = reg.host + "/a/b"
    data = [noise(3 << 20, b"%d" % i) for i in range(4)]
    reg.plain_image("a/b", "1", *data, data[0])
    r, got = d.pull(ref + ":1")
    tap.check(all_good(d, r, got) and len(got) == 4, "four layers at once", r)
    blob = r["layers"][0]["blob"]

    def again(faults, name, **more):
        d.ask("remove", blob["digest"])
        reg.reset()
        reg.faults = faults
        a = d.fetch(r["pull"], blob, **more)
        reg.faults = []
        return a

    a = again([broken_after(700000, 3)], "cut")
    ranges = [q[2].get("Range") for q in reg.asked("GET", "blobs")]
    tap.check("error" not in a and a["bytes"] == data[0] and len(ranges) == 4 and None not in ranges[1:],
              "three cuts are taken up by range: %s" % ranges, a.get("text"))
    tap.check(a["transferred"] == len(data[0]), "and no byte comes twice", a["transferred"])

    def no_range(h, path):
        if "/blobs/" not in path:
            return False
        h.answer(200, h.server.registry.blobs[path.split("/")[-1]])
        return True
    a = again([broken_after(700000, 1), no_range], "no range")
    tap.check("error" not in a and a["bytes"] == data[0], "a registry without ranges: the begin is passed over", a.get("text"))

    def other_range(h, path):
        if "/blobs/" not in path:
            return False
        h.answer(206, data[0][5:], [("Content-Range", "bytes 5-%d/%d" % (len(data[0]) - 1, len(data[0])))])
        return True
    a = again([broken_after(700000, 1), other_range], "other range")
    tap.check(a.get("error") == "DATA_LOSS" and "range" in a["text"], "another range than asked for: " + a.get("text", ""))

    begin = time.monotonic()
    a = again([broken_after(0, 100)], "always")
    tap.check(a.get("error") == "UNAVAILABLE" and 3 < len(reg.asked("GET", "blobs")) < 10 and reg.host in a["text"],
              "cuts without end: it gives up after %d attempts, %.1f s: %s" %
              (len(reg.asked("GET", "blobs")), time.monotonic() - begin, a.get("text")), a)

    def wrong(h, path):
        if "/blobs/" not in path:
            return False
        h.answer(200, data[1])
        return True
    for f in d.ingest():
        os.unlink(os.path.join(d.state, "content", "ingest", f))
    a = again([wrong], "wrong")
    tap.check(a.get("error") == "DATA_LOSS" and digest(data[1]) in a["text"] and
              not os.path.exists(d.stored(blob["digest"])) and not d.ingest(),
              "other bytes of the same size are thrown away: " + a.get("text", ""), a.get("text"))
    for what, body, length in (("shorter", data[0][:-1], None), ("longer", data[0] + b"x", None)):
        a = again([lambda h, p: "/blobs/" in p and (h.answer(200, body, length=length) or True)], what)
        tap.check(a.get("error") == "DATA_LOSS" and not os.path.exists(d.stored(blob["digest"])),
                  "%s than announced: %s" % (what, a.get("text")))

    def chunked(h, path):
        if "/blobs/" not in path:
            return False
        body = data[0] + b"more"
        h.send_response(200)
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        for i in range(0, len(body), 100000):
            part = body[i:i + 100000]
            h.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        h.wfile.write(b"0\r\n\r\n")
        return True
    a = again([chunked], "chunked")
    tap.check(a.get("error") == "DATA_LOSS" and "more bytes" in a["text"], "longer, without a length: " + a.get("text", ""))
    for status in (404, 403, 500):
        a = again([lambda h, p: "/blobs/" in p and (h.answer(status) or True)], "status")
        tap.check("error" in a and str(status) in a["text"], "%d: %s" % (status, a.get("text")))
    once = [lambda h, p: "/blobs/" in p and len(reg.asked("GET", "blobs")) < 3 and (h.answer(503) or True)]
    a = again(once, "503 twice")
    tap.check("error" not in a and a["bytes"] == data[0], "a registry that is ill for a moment", a.get("text"))

    # Readers.
    a = d.fetch(r["pull"], blob, "close=0")
    tap.check(a.get("error") == "ABORTED", "a reader that is gone, blob on disk: " + a.get("text", ""), a.get("text"))
    d.ask("remove", blob["digest"])
    a = d.fetch(r["pull"], blob, "close=100000")
    tap.check(a.get("error") == "ABORTED", "a reader that goes: " + a.get("text", ""), a.get("text"))
    a = d.fetch(r["pull"], blob)
    tap.check("error" not in a and a["bytes"] == data[0], "the next reader gets it all", a.get("text"))

    # Two pulls of one blob, one of which the registry refuses.
    d.ask("remove", blob["digest"])
    auth = TokenAuth(reg, users={"bob": "pw"})
    r1, r2 = d.resolve(ref + ":1", user="bob", password="pw"), d.resolve(ref + ":1", user="bob", password="pw")
    reg.requests.clear()
    d.say("fetch", r1["pull"], blob["digest"], blob["size"], d.out(blob["digest"], "1"))
    d.say("fetch", r2["pull"], blob["digest"], blob["size"], d.out(blob["digest"], "2"))
    a = [d.take(), d.take()]
    tap.check(all("error" not in x and x["piped"] == len(data[0]) for x in a) and len(reg.asked("GET", "blobs")) == 1,
              "two pulls share a download", a)
    d.ask("remove", blob["digest"])
    auth.tokens.clear()
    refusals = [0]

    def refuse_first(h, path):
        if "/blobs/" in path and refusals[0] < 1:
            refusals[0] += 1
            time.sleep(0.3)
            h.error(403, "DENIED", "not you")
            return True
        return False
    reg.faults.insert(0, refuse_first)
    d.say("fetch", r1["pull"], blob["digest"], blob["size"], d.out(blob["digest"], "1"))
    d.say("fetch", r2["pull"], blob["digest"], blob["size"], d.out(blob["digest"], "2"))
    a = [d.take(), d.take()]
    good = [x for x in a if "error" not in x]
    tap.check(len(good) == 1 and good[0]["piped"] == len(data[0]) and
              any(x.get("error") == "PERMISSION_DENIED" for x in a), "one is refused, the other goes on", a)
    reg.reset()

    # Cancelled while it runs; what is known of a session that is no more.
    d.ask("remove", blob["digest"])
    gate = threading.Event()

    def half(h, path):
        if "/blobs/" not in path:
            return False
        h.send_response(200)
        h.send_header("Content-Length", str(len(data[0])))
        h.end_headers()
        h.wfile.write(data[0][:1 << 20])
        h.wfile.flush()
        gate.wait(10)
        h.close_connection = True
        return True
    reg.faults = [half]
    os.unlink(d.out(blob["digest"]))
    d.say("fetch", r["pull"], blob["digest"], blob["size"], d.out(blob["digest"]))
    bh.wait_for(lambda: os.path.exists(d.out(blob["digest"])) and os.path.getsize(d.out(blob["digest"])) >= 1 << 20, 5)
    a = d.ask("cancel")
    gate.set()
    tap.check(a.get("answer") == "cancel" and bh.wait_for(lambda: d.ingest() == [blob["digest"][7:]]),
              "cancelled: the begin stays for the next attempt", d.ingest())
    reg.reset()
    a = d.fetch(r["pull"], blob)
    tap.check("error" not in a and a["bytes"] == data[0] and a["transferred"] == len(data[0]) - (1 << 20) and
              not d.ingest(), "which goes on from there", a.get("text"))
    d.ask("release", r["pull"])
    d.ask("remove", blob["digest"])
    a = d.fetch(r["pull"], blob)
    tap.check(a.get("error") == "FAILED_PRECONDITION", "a pull that was released: " + a.get("text", ""))
    a = d.ask("fetch", 1, "sha256:../../../../etc/passwd", 5, os.path.join(folder, "x"))
    tap.check(a.get("error") == "INVALID_ARGUMENT", "a digest that is none: " + a.get("text", ""))
    for n in range(1, d.n + 1):
        d.ask("release", n)
    bh.wait_for(lambda: d.ask("stats")["sessions"] == 0)
    a = d.ask("stats")
    tap.check(a["sessions"] == 0 and a["fds"] < 30, "no session and no descriptor is left", a)
    empty = reg.plain_image("a/b", "empty", b"")
    r, got = d.pull(ref + ":empty")
    tap.check(all_good(d, r, got), "a layer of no bytes", r)
    reg.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def test_stall(folder):
    d = Driver(folder, stall=2)
    reg = FakeRegistry()
    data = noise(400000)
    reg.plain_image("a/b", "1", data)

    over = threading.Event()

    def stall(h, path):
        if "/blobs/" + digest(data) not in path:
            return False
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:200000])
        h.wfile.flush()
        # libcurl's speed is that of the last five seconds.
        over.wait(60)
        h.close_connection = True
        return True
    reg.faults = [stall]
    r, got = d.pull(reg.host + "/a/b:1")
    a = got[digest(data)]
    tap.check(a.get("error") == "DEADLINE_EXCEEDED" and "progress" in a["text"], "no byte for two seconds: " + a.get("text", ""))
    over.set()
    reg.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def test_death(folder):
    """The worker is killed in the middle of a layer; its successor goes on."""
    d = Driver(folder)
    reg = FakeRegistry()
    data = noise(6 << 20)
    reg.plain_image("a/b", "1", data)
    gate = threading.Event()

    def half(h, path):
        if "/blobs/" + digest(data) not in path or h.headers.get("Range"):
            return False
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:3 << 20])
        h.wfile.flush()
        gate.wait(10)
        h.close_connection = True
        return True
    reg.faults = [half]
    r = d.resolve(reg.host + "/a/b:1")
    blob = r["layers"][0]["blob"]
    d.say("fetch", r["pull"], blob["digest"], blob["size"], d.out(blob["digest"]))
    path = os.path.join(d.state, "content", "ingest", blob["digest"][7:])
    bh.wait_for(lambda: os.path.exists(path) and os.path.getsize(path) >= 3 << 20, 5)
    open(os.path.join(d.state, "content", "ingest", "0" * 64 + ".7"), "w").close()
    d.process.kill()
    d.process.wait()
    gate.set()
    d.start()
    d.ask("stats")
    tap.check(d.ingest() == [blob["digest"][7:]], "after kill -9 the layer's begin is there, half a document isn't",
              d.ingest())
    r = d.resolve(reg.host + "/a/b:1")
    a = d.fetch(r["pull"], blob)
    tap.check("error" not in a and a["bytes"] == data and d.good(blob["digest"]), "the successor completes it", a.get("text"))
    tap.check(a.get("transferred") == 3 << 20, "and fetches only the rest", a.get("transferred"))

    # A begin that isn't this blob's.
    d.ask("remove", blob["digest"])
    with open(path, "wb") as f:
        f.write(noise(1 << 20, b"other"))
    a = d.fetch(r["pull"], blob)
    tap.check(a.get("error") == "DATA_LOSS" and not d.ingest(), "a begin that rotted fails once: " + a.get("text", ""))
    a = d.fetch(r["pull"], blob)
    tap.check("error" not in a and a["bytes"] == data, "and is gone then", a.get("text"))
    with open(path, "wb") as f:
        f.write(noise(7 << 20))
    d.ask("remove", blob["digest"])
    a = d.fetch(r["pull"], blob)
    tap.check("error" not in a and a["bytes"] == data, "one that is too long is begun anew", a.get("text"))
    reg.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def test_proxy(folder):
    proxy, reg = FakeRegistry(), FakeRegistry()
    d = Driver(folder, http_proxy=proxy.url)
    data = noise(1000)
    reg.plain_image("a/b", "1", data)
    r, got = d.pull(reg.host + "/a/b:1")
    tap.check(all_good(d, r, got) and not proxy.requests, "a registry on loopback is asked without the proxy", r)
    d.hosts("far.example", 'server = "http://far.example"\n')
    r = d.resolve("far.example/a/b:1")
    tap.check("error" in r and any("far.example" in q[1] for q in proxy.requests), "others through it", proxy.requests)
    reg.stop()
    proxy.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def test_chaos(folder):
    """Many layers while every other answer goes wrong: all of them arrive, unharmed."""
    d = Driver(folder)
    reg = FakeRegistry()
    data = [noise(200000 + 50000 * i, b"chaos %d" % i) for i in range(16)]
    reg.plain_image("a/b", "1", *data)
    dice = random.Random(7)
    lock = threading.Lock()

    def chaos(h, path):
        if "/blobs/" not in path or len(reg.blobs[path.split("/")[-1]]) < 100000:
            return False
        with lock:
            what, n, left = dice.randrange(6), dice.randrange(20000, 150000), dice.randrange(3)
        if what == 0:
            h.answer(dice.choice((500, 502, 503, 429)), b"ill")
        elif what in (1, 2):
            broken_after(n, 1)(h, path)
        elif what == 3:
            h.answer(200, reg.blobs[path.split("/")[-1]])
        elif what == 4:
            h.cut()
        return what < 5
    reg.faults = [chaos]
    r, got = d.pull(reg.host + "/a/b:1")
    tap.check(all_good(d, r, got), "sixteen layers through a bad network",
              [a.get("text") for a in got.values() if "error" in a])
    tap.check(not d.ingest(), "nothing partial is left", d.ingest())
    reg.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def test_full_disk(folder):
    os.makedirs(os.path.join(folder, "state"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", os.path.join(folder, "state")], check=True)
    d = Driver(folder)
    reg = FakeRegistry()
    data = noise(6 << 20)
    reg.plain_image("a/b", "1", data)
    r, got = d.pull(reg.host + "/a/b:1")
    a = got[digest(data)]
    tap.check(a.get("error") == "RESOURCE_EXHAUSTED" and d.state in a["text"] and "6291456" in a["text"],
              "a full disk: " + a.get("text", ""))
    tap.check(not d.ingest(), "nothing of it is left", d.ingest())
    small = noise(1 << 20)
    reg.plain_image("a/b", "2", small)
    r, got = d.pull(reg.host + "/a/b:2")
    tap.check(all_good(d, r, got), "what fits still comes", r)
    reg.stop()
    tap.check(d.stop() == 0, "the driver ends well")


def main():
    for test in (test_real, test_htpasswd, test_token, test_redirects, test_tls, test_mirrors, test_documents, test_layers,
                 test_stall, test_death, test_proxy, test_chaos, test_full_disk):
        if len(sys.argv) > 1 and test.__name__ not in sys.argv[1:]:
            continue
        folder = tempfile.mkdtemp(prefix="bulkhead-image-")
        try:
            test(folder)
        except Exception as e:
            tap.check(False, "%s ends: %r" % (test.__name__, e))
            import traceback
            traceback.print_exc()
        finally:
            if os.path.ismount(os.path.join(folder, "state")):
                subprocess.run(["umount", "-l", os.path.join(folder, "state")])
            shutil.rmtree(folder, ignore_errors=True)
    tap.done()


main()
