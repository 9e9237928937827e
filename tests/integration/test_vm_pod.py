"""Pods in virtual machines, through the CRI with the runtime handler "vm": what a client sees of them is what it sees of
any other pod."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import vm

bh.isolate()
tap = bh.Tap()
SETTINGS = ["vm_kernel=" + os.path.abspath(vm.KERNEL), "vm_initrd=" + os.path.abspath(vm.INITRD), "vm_accel=tcg",
            "vm_virtiofsd=" + vm.VIRTIOFSD]


class VmPod(bh.Pod):
    def __init__(self, d, c, name, **more):
        self.daemon, self.client, self.containers = d, c, []
        self.config = bh.sandbox_config(c, name, log_directory=d.logs, **more)
        self.id = c.runtime.RunPodSandbox(
            c.pb.RunPodSandboxRequest(config=self.config, runtime_handler="vm"), timeout=150).pod_sandbox_id

    def console(self):
        try:
            with open(os.path.join(self.daemon.run, "pods", self.id, "vm", "console"), errors="replace") as f:
                return f.read()
        except OSError:
            return ""


def test_life(d, c, pb, image):
    start = time.monotonic()
    pod = VmPod(d, c, "life")
    print("# the pod runs after %.1f s" % (time.monotonic() - start), flush=True)
    status = c.runtime.PodSandboxStatus(pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)).status
    tap.check(status.runtime_handler == "vm" and status.state == pb.SANDBOX_READY, "the pod's status names the handler",
              status)
    start = time.monotonic()
    one = pod.run("one", image, ["sh", "-c", "cat /proc/version; echo error >&2; hostname; exit 7"])
    end = pod.wait(one, 60)
    print("# a container has ended after %.1f s" % (time.monotonic() - start), flush=True)
    tap.check(end and end.exit_code == 7, "a container's exit code", end)
    log = pod.log("one")
    tap.check(any("cloud-amd64" in t for s, _, t in log if s == "stdout") and ("stderr", "F", "error") in log and
              ("stdout", "F", "life") in log, "it runs on the guest's kernel, and its output is in its log", log)
    pod.remove()


def main():
    reason = vm.missing()
    if reason:
        tap.skip("a virtual machine", reason)
        tap.done()
        return
    with bh.Scratch() as folder:
        registry = bh.Registry(folder)
        image = registry.host + "/test/busybox:1"
        bh.push(bh.make_image(folder, "busybox"), registry, "test/busybox:1")
        d = bh.Daemon(folder, settings=SETTINGS).start()
        c = d.client()
        try:
            c.images.PullImage(c.pb.PullImageRequest(image=c.pb.ImageSpec(image=image)))
            test_life(d, c, c.pb, image)
        except Exception:
            print(d.log_tail())
            raise
        finally:
            d.stop()
            registry.stop()
            d.remove_cgroups()
    tap.done()


main()
