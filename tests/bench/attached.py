"""What an idle attached stream costs: the PSS that the daemon's processes gain per Attach, half of them by SPDY, half by
WebSocket. Prints one line for tools/bench, which runs it in namespaces of its own."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
import streaming as st  # noqa: E402

STREAMS = 200


def pss(d):
    """KiB of all processes of the daemon."""
    total = 0
    for pids in d.processes().values():
        for pid in pids:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total


def settled(d):
    """The same once it stays: what starting and pulling took is given back a while later."""
    last = pss(d)
    for _ in range(30):
        time.sleep(1)
        now = pss(d)
        if abs(now - last) < 64:
            return now
        last = now
    return last


def attach(client, id, n):
    url = client.runtime.Attach(client.pb.AttachRequest(container_id=id, stdin=True, stdout=True, stderr=True)).url
    return st.RemoteSpdy(url, stdin=True) if n % 2 else st.WebSocket(url, ("v5.channel.k8s.io",))


def main():
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        d = bh.Daemon(folder, cni=False).start()
        c = d.client()
        try:
            bh.push(bh.make_image(folder, "busybox"), registry, "busybox:1")
            image = registry.host + "/busybox:1"
            c.images.PullImage(c.pb.PullImageRequest(image=c.pb.ImageSpec(image=image)))
            pod = bh.Pod(d, c, "attached", network="host")
            id = pod.run("main", image, ["sleep", "1000"], stdin=True)
            streams = [attach(c, id, n) for n in range(2)]  # whatever the first ones make is no stream's
            before = settled(d)
            streams += [attach(c, id, n) for n in range(STREAMS)]
            print("  %.1f KiB PSS each, %d of them" % ((settled(d) - before) / STREAMS, STREAMS))
            for s in streams:
                s.close()
            pod.remove()
        finally:
            c.close()
            d.stop()
            registry.stop()
            d.remove_cgroups()


main()
