"""The snapshot worker is killed in the middle of a pull, while it unpacks and when it has: the pull fetches and unpacks
again what the successor has thrown away, and succeeds."""

import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

bh.isolate()
tap = bh.Tap()
FILES = 3000


def large_root(root, name):
    """Each scenario has an image, and so a layer, of its own."""
    bh.busybox_root(root)
    with open(os.path.join(root, "name"), "w") as f:
        f.write(name)
    for i in range(FILES):
        os.makedirs(os.path.join(root, "many", str(i % 100)), exist_ok=True)
        with open(os.path.join(root, "many", str(i % 100), str(i)), "w") as f:
            f.write("%d\n" % i)


def child_of(parent, name):
    for pid in bh.pids():
        try:
            with open("/proc/%d/comm" % pid) as f, open("/proc/%d/stat" % pid) as s:
                if f.read() == name + "\n" and int(s.read().rsplit(")", 1)[1].split()[1]) == parent:
                    return pid
        except OSError:
            pass
    return None


class Pull(threading.Thread):
    def __init__(self, client, image):
        super().__init__(daemon=True)
        self.client, self.image, self.error = client, image, None
        self.start()

    def run(self):
        pb = self.client.pb
        self.error = bh.error_of(self.client.images.PullImage, pb.PullImageRequest(image=pb.ImageSpec(image=self.image)),
                                 timeout=60)


def kill_unpacking(d, old):
    child = bh.wait_for(lambda: child_of(old, "unpack"), 20, 0.0005)
    os.kill(old, signal.SIGKILL)
    return child


def kill_unpacked(d, old):
    """The metadata worker is made to look away until there is a successor: what it commits next isn't there any more."""
    child = bh.wait_for(lambda: child_of(old, "unpack"), 20, 0.0005)
    metadata = d.processes()["metadata"][0]
    os.kill(metadata, signal.SIGSTOP)
    bh.wait_for(lambda: not child_of(old, "unpack"), 20)
    staged = os.listdir(d.state + "/layers/.staging")
    os.kill(old, signal.SIGKILL)
    bh.wait_for(lambda: d.processes().get("snapshot") not in (None, [old]), 10)
    bh.wait_for(lambda: not os.listdir(d.state + "/layers/.staging"), 10)
    os.kill(metadata, signal.SIGCONT)
    return child and staged


def test_kill(d, c, pb, image, name, kill):
    old = d.processes()["snapshot"][0]
    pull = Pull(c, image)
    tap.check(kill(d, old), name + ": the snapshot worker is killed")
    pull.join(60)
    tap.check(not pull.is_alive() and pull.error is None, name + ": the pull succeeds", (pull.error, d.log_tail()))
    new = d.processes().get("snapshot")
    tap.check(new and new != [old], name + ": by a successor", (old, new))
    pod = bh.Pod(d, c, "after-" + name, network="host")
    id = pod.run("main", image, ["sh", "-c", "cat /many/*/* | wc -l"])
    s = pod.wait(id)
    tap.check(s and s.exit_code == 0 and pod.log("main")[0][2] == str(FILES), name + ": and the image is whole",
              (s, pod.log("main")))
    pod.remove()


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        d = bh.Daemon(folder).start()
        c = d.client()
        for name, kill in (("unpacking", kill_unpacking), ("unpacked", kill_unpacked)):
            bh.push(bh.make_image(folder, name, lambda root: large_root(root, name)), registry, "test/%s:1" % name)
            test_kill(d, c, c.pb, "%s/test/%s:1" % (registry.host, name), name, kill)
            tap.check(bh.wait_for(lambda: not os.listdir(d.state + "/layers/.staging"), 10), name + ": nothing unfinished stays",
                      os.listdir(d.state + "/layers/.staging"))
        c.close()
        d.stop()
        d.remove_cgroups()
        registry.stop()
    tap.done()


main()
