"""A registry that can be told to misbehave. Content is in memory; every request is remembered; a fault is a function
that gets the request first and says whether it dealt with it."""

import base64
import hashlib
import http.server
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import urllib.parse

OCI = "application/vnd.oci.image."


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=(), length=None):
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, message, headers=()):
        self.answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), headers)

    def cut(self):
        """Ends the connection as a broken network does."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle_one(self):
        r = self.server.registry
        url = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(url.query)
        length = int(self.headers.get("Content-Length") or 0)
        self.form = urllib.parse.parse_qs(self.rfile.read(length).decode()) if length else {}
        with r.lock:
            r.requests.append((self.command, self.path, dict(self.headers.items()), self.form))
        for fault in list(r.faults):
            if fault(self, url.path):
                return
        r.serve(self, url.path)

    do_GET = do_HEAD = do_POST = handle_one


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that end a connection are what the tests are about."""


class FakeRegistry:
    def __init__(self, address="127.0.0.1", tls=None):
        self.blobs, self.manifests, self.requests, self.faults = {}, {}, [], []
        self.lock = threading.Lock()
        self.server = Server((address, 0), Handler)
        self.server.registry = self
        self.host = "%s:%d" % (address, self.server.server_address[1])
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls[0], tls[1])
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.url = "%s://%s" % (self.scheme, self.host)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def reset(self):
        self.faults = []
        self.requests = []

    def serve(self, h, path):
        m = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path)
        if not m:
            h.error(404, "NOT_FOUND", "no such page")
            return
        name, kind, ref = m.groups()
        found = self.manifests.get((name, ref)) if kind == "manifests" else (
            ("application/octet-stream", self.blobs[ref]) if ref in self.blobs else None)
        if not found:
            h.error(404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN", "%s is unknown here" % ref)
            return
        headers = [("Content-Type", found[0]), ("Docker-Content-Digest", digest(found[1]))]
        begin = re.fullmatch(r"bytes=(\d+)-", h.headers.get("Range") or "")
        if begin and kind == "blobs":
            b = int(begin.group(1))
            headers.append(("Content-Range", "bytes %d-%d/%d" % (b, len(found[1]) - 1, len(found[1]))))
            h.answer(206, found[1][b:], headers)
            return
        h.answer(200, found[1], headers)

    # --- content ---

    def blob(self, data):
        self.blobs[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    def manifest(self, name, tag, doc, media_type):
        data = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
        self.manifests[(name, digest(data))] = self.manifests[(name, tag)] = (media_type, data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def image(self, name, tag, layers, arch="amd64", **config):
        """layers: (bytes as transferred, media type, diff id)."""
        doc = {"os": "linux", "architecture": arch, "config": dict({"Cmd": ["/bin/sh"]}, **config),
               "rootfs": {"type": "layers", "diff_ids": [l[2] for l in layers]}}
        c = dict(self.blob(json.dumps(doc).encode()), mediaType=OCI + "config.v1+json")
        blobs = [dict(self.blob(l[0]), mediaType=l[1]) for l in layers]
        return self.manifest(name, tag, {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": c,
                                         "layers": blobs}, OCI + "manifest.v1+json")

    def plain_image(self, name, tag, *contents, **more):
        return self.image(name, tag, [(c, OCI + "layer.v1.tar", digest(c)) for c in contents], **more)

    def asked(self, method=None, part=""):
        with self.lock:
            return [r for r in self.requests if (method is None or r[0] == method) and part in r[1]]


class TokenAuth:
    """A fault for a FakeRegistry: demands a token, and gives one at /token of realm (a FakeRegistry too)."""

    def __init__(self, registry, realm=None, users=None, anonymous=False, expires=300):
        self.registry, self.realm = registry, realm or registry
        self.users, self.anonymous, self.expires = users or {}, anonymous, expires
        self.tokens, self.n = set(), 0
        registry.faults.append(self.guard)
        self.realm.faults.insert(0, self.give)

    def guard(self, h, path):
        if path == "/token":
            return False
        value = h.headers.get("Authorization") or ""
        if value.startswith("Bearer ") and value[7:] in self.tokens:
            return False
        scope = "repository:%s:pull" % "/".join(path.split("/")[2:-2])
        h.error(401, "UNAUTHORIZED", "a token is needed", [(
            "WWW-Authenticate", 'Bearer realm="%s/token",service="the service",scope="%s"' % (self.realm.url, scope))])
        return True

    def give(self, h, path):
        if path != "/token":
            return False
        value = h.headers.get("Authorization") or ""
        if h.command == "POST":
            good = h.form.get("grant_type") == ["refresh_token"] and h.form.get("refresh_token") == ["the-identity"]
            asked = h.form
        elif value.startswith("Basic "):
            user, _, password = base64.b64decode(value[6:]).decode().partition(":")
            good = self.users.get(user) == password
            asked = h.query
        else:
            good, asked = self.anonymous, h.query
        if not good or asked.get("service") != ["the service"] or not asked.get("scope", [""])[0].startswith("repository:"):
            h.error(401, "UNAUTHORIZED", "no")
            return True
        self.n += 1
        token = "token-%d" % self.n
        self.tokens.add(token)
        h.answer(200, json.dumps({"token": token, "expires_in": self.expires}).encode())
        return True


def certificate(folder, name="127.0.0.1"):
    """A self-signed certificate for an address; (certificate, key)."""
    cert, key = os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=test", "-addext",
                    "subjectAltName=IP:" + name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return cert, key
