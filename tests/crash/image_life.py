"""An image's life by containerd's API that no registry begins: a blob written in two halves and committed, an archive
imported and its index kept, that pushed to a registry, all of it deleted."""

import hashlib
import json
import os
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from life import Steps
from patience import Impatient, again
from task_life import GONE, KEPT, NAMESPACE, THERE
from transfer import Client

import grpc

BLOB_SIZE = 4 * 1024 * 1024
CHUNK = 512 * 1024
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class ImageLife(Steps):
    STEPS = ["write-content", "commit-content", "import", "push", "delete-image", "delete-content"]

    def __init__(self, world, name):
        self.world, self.api, self.name = world, world.api, name
        self.image = "example.org/imported:" + name
        self.pushed = "%s/pushed:%s" % (world.registry.host, name)
        self.blob = hashlib.sha256(name.encode()).digest() * (BLOB_SIZE // 32)
        self.digest = digest_of(self.blob)

    # --- content ---

    def message(self, action, **fields):
        c = self.api.content
        return c.WriteContentRequest(action=getattr(c, action), ref=self.name, total=len(self.blob), expected=self.digest,
                                     **fields)

    def write(self, end, commit):
        """Goes on where the ingest is, as containerd's own client does."""
        def messages(offset):
            for at in range(offset, end, CHUNK):
                yield self.message("WRITE", offset=at, data=self.blob[at:min(at + CHUNK, end)])
            if commit:
                yield self.message("COMMIT", offset=len(self.blob), labels=KEPT)
            else:
                yield self.message("STAT")

        def call(requests):
            stub = self.api.content_stub
            return list(stub.Write(requests, metadata=self.api.meta, timeout=20))[-1]
        return call(messages(call(iter([self.message("STAT")])).offset))

    def step_write_content(self):
        half = len(self.blob) // 2
        state = again(lambda: self.write(half, False))
        if state.offset != half:
            raise Impatient("the write is at %d of %d" % (state.offset, half))

    def step_commit_content(self):
        again(lambda: self.write(len(self.blob), True), THERE)
        if again(lambda: self.api.read(self.digest)) != self.blob:
            raise Impatient("what was committed isn't what was written")

    def step_delete_content(self):
        again(lambda: self.api.call("content", "Delete", self.api.content.DeleteContentRequest(digest=self.digest)), GONE)

    # --- images ---

    def client(self):
        return Client(self.world.daemon, NAMESPACE)

    def transfer(self, run):
        """One attempt; the streams of one that failed are gone with its client."""
        c = self.client()
        try:
            error = run(c)
        finally:
            c.channel.close()
        if error is not None:
            raise error

    def step_import(self):
        again(lambda: self.transfer(lambda c: c.import_archive(self.world.archive, name=self.image)))
        target = again(lambda: self.api.call("images", "Get", self.api.images.GetImageRequest(name=self.image))).image.target
        self.index = again(lambda: self.api.read(target.digest))
        manifest = json.loads(self.index)["manifests"][0]["digest"]
        document = json.loads(again(lambda: self.api.read(manifest)))
        for d in [document["config"]] + document["layers"]:
            if digest_of(again(lambda: self.api.read(d["digest"]))) != d["digest"]:
                raise Impatient("blob %s of what was imported is another" % d["digest"])

    def step_push(self):
        again(lambda: self.transfer(lambda c: c.push(self.image, self.pushed)))
        request = urllib.request.Request("http://%s/v2/pushed/manifests/%s" % (self.world.registry.host, self.name),
                                         headers={"Accept": INDEX})
        with urllib.request.urlopen(request, timeout=20) as answer:
            if answer.read() != self.index:
                raise Impatient("what the registry has is another index")

    def step_delete_image(self):
        again(lambda: self.api.call("images", "Delete", self.api.images.DeleteImageRequest(name=self.image, sync=True)), GONE)

    # --- the end ---

    @staticmethod
    def clean_up(world):
        """After a life that went wrong: what can still be removed is."""
        for kind, name in (line.split(" ", 1) for line in world.api.objects()):
            try:
                if kind == "images":
                    world.api.call("images", "Delete", world.api.images.DeleteImageRequest(name=name, sync=True))
                elif kind == "content" and name.startswith("write "):
                    world.api.call("content", "Abort", world.api.content.AbortRequest(ref=name[6:]))
                elif kind == "content":
                    world.api.call("content", "Delete", world.api.content.DeleteContentRequest(digest=name))
            except grpc.RpcError as e:
                print("# cleaning up %s %s: %s" % (kind, name, e.details()))
