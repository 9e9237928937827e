"""What an agent brings for its sandbox and its containers: storages, devices, name servers, last words. A whole pod's life
in the daemon's mode "agent"."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import kata_agent
import ttrpc_client as ttrpc
from agent import Agent

bh.isolate()
tap = bh.Tap()


def fails(name, code, text, function, *args, **kwargs):
    e = ttrpc.error_of(function, *args, **kwargs)
    tap.check(e and e.code == code and text in e.message, "%s is %s" % (name, code), e)


def mounts(d):
    with open("/proc/self/mountinfo") as f:
        return sorted(line.split()[4] for line in f if line.split()[4].startswith(d.kata + "/"))


def nothing_left(d):
    return not mounts(d) and not [n for n in os.listdir(d.run + "/guest") if not n.startswith(".")]


def bind(spec, source, at):
    m = spec.Mounts.add()
    m.destination, m.source, m.type = at, source, "bind"
    m.options.extend(["rbind"])


def test_sandbox(d, agent):
    shm = dict(driver="ephemeral", source="shm", fstype="tmpfs", mount_point=d.kata + "/sandbox/shm/", options=["size=64k"])
    os.makedirs(d.kata + "/old")
    fails("CreateSandbox with a storage that can't be", "INVALID_ARGUMENT", "tape", agent.CreateSandbox, sandbox_id="s1",
          storages=[shm, dict(driver="tape", mount_point=d.kata + "/x")])
    tap.check(nothing_left(d), "nothing of it is left", mounts(d))
    fails("CreateSandbox with a kernel module that isn't there",
          ttrpc.error_of(agent.CreateSandbox, sandbox_id="s1", kernel_modules=[dict(name="bh_none")]).code, "bh_none",
          agent.CreateSandbox, sandbox_id="s1", kernel_modules=[dict(name="bh_none")])
    agent.CreateSandbox(sandbox_id="s1", storages=[shm], dns=["nameserver 192.0.2.53"])
    tap.check(mounts(d) == [d.kata + "/sandbox/shm"], "CreateSandbox: its storages are mounted", mounts(d))
    tap.check(not os.path.exists(d.kata + "/old"), "CreateSandbox: what an earlier one left is gone")
    with open(d.resolv) as f:
        tap.check(f.read() == "nameserver 192.0.2.53\n", "CreateSandbox: its name servers are the guest's")


def test_containers(d, agent):
    volume = dict(driver="local", fstype="local", mount_point=d.kata + "/sandbox/vol", options=["mode=0777"])
    scratch = dict(driver="ephemeral", source="tmpfs", fstype="tmpfs", mount_point=d.kata + "/sandbox/e")
    for name in ("w1", "w2"):
        spec = agent.spec(name, agent.process("/bin/sh", "-c", "echo %s >>/vol/file; echo bye >/last" % name))
        bind(spec, d.kata + "/sandbox/vol", "/vol")
        bind(spec, d.kata + "/sandbox/shm", "/dev/shm")
        bind(spec, d.kata + "/last", "/last")
        spec.Annotations["io.kubernetes.container.terminationMessagePath"] = "/last"
        open(d.kata + "/last", "w").close()
        agent.CreateContainer(container_id=name, OCI=spec, storages=[volume, scratch])
        agent.StartContainer(container_id=name)
        tap.check(agent.wait(name) == 0, "CreateContainer: %s has its storages" % name)
    with open(d.kata + "/sandbox/vol/file") as f:
        tap.check(f.read() == "w1\nw2\n", "both containers have the same volume")
    tap.check(agent.GetDiagnosticData(container_id="w1", log_type="termination_log").data == "bye\n",
              "GetDiagnosticData: a container's last words")
    agent.RemoveContainer(container_id="w1")
    tap.check(os.path.exists(d.kata + "/sandbox/vol/file") and d.kata + "/sandbox/e" in mounts(d),
              "RemoveContainer: what another one needs stays")
    agent.RemoveContainer(container_id="w2")
    tap.check(bh.wait_for(lambda: mounts(d) == [d.kata + "/sandbox/shm"] and not os.path.exists(d.kata + "/sandbox/vol")),
              "RemoveContainer: what nobody needs goes", mounts(d))
    tap.check(agent.GetDiagnosticData(container_id="w2", log_type="termination_log").data == "",
              "GetDiagnosticData: they go with the container")
    # The end of the one before never overtakes.
    right = True
    for _ in range(10):
        spec = agent.spec("again", agent.process("/bin/sh", "-c", "test -d /e"))
        bind(spec, d.kata + "/sandbox/e", "/e")
        agent.CreateContainer(container_id="again", OCI=spec, storages=[scratch])
        right &= d.kata + "/sandbox/e" in mounts(d)
        agent.StartContainer(container_id="again")
        right &= agent.wait("again") == 0
        agent.RemoveContainer(container_id="again")
    tap.check(right, "a container of the same name at once, ten times")


def test_failures(d, agent):
    spec = agent.spec("f1", agent.process("/bin/true"))
    scratch = dict(driver="ephemeral", source="tmpfs", fstype="tmpfs", mount_point=d.kata + "/sandbox/f")
    fails("CreateContainer with a storage that can't be", "INVALID_ARGUMENT", "no block device", agent.CreateContainer,
          container_id="f1", OCI=spec,
          storages=[scratch, dict(driver="blk", source="/dev/null", mount_point=d.kata + "/sandbox/g")])
    fails("CreateContainer with a device that is none", "INVALID_ARGUMENT", "PCI slots", agent.CreateContainer,
          container_id="f1", OCI=spec, storages=[scratch], devices=[dict(type="blk", id="zz")])
    spec = agent.spec("f1", agent.process("/bin/none"))
    e = ttrpc.error_of(agent.CreateContainer, container_id="f1", OCI=spec, storages=[scratch])
    tap.check(e and "/bin/none" in e.message, "CreateContainer of a missing binary fails at once", e)
    tap.check(bh.wait_for(lambda: mounts(d) == [d.kata + "/sandbox/shm"]), "and its storages are undone", mounts(d))


def test_device(d, agent):
    if not os.path.exists("/dev/loop0"):
        tap.skip("a container's device", "there is no /dev/loop0")
        return
    d.file("devices/pci0000:00/0000:00:04.0/virtio1/block/loop0/x")
    spec = agent.spec("dev", agent.process("/bin/stat", "-c", "%t:%T", "/dev/xvda"))
    x = spec.Linux.Devices.add()
    x.Path, x.Type, x.Major, x.Minor, x.FileMode = "/dev/xvda", "b", 250, 9, 0o600
    agent.CreateContainer(container_id="dev", OCI=spec, devices=[dict(type="blk", id="04", container_path="/dev/xvda")])
    agent.StartContainer(container_id="dev")
    out = agent.output("dev")
    tap.check(out == b"7:0\n", "CreateContainer: a device has the guest's numbers", out)
    agent.wait("dev")
    agent.RemoveContainer(container_id="dev")


def test_end(d, agent):
    spec = agent.spec("last", agent.process("/bin/sleep", "1000"))
    agent.CreateContainer(container_id="last", OCI=spec, storages=[dict(driver="ephemeral", source="tmpfs", fstype="tmpfs",
                                                                        mount_point=d.kata + "/sandbox/l", shared=True)])
    agent.StartContainer(container_id="last")
    os.kill(d.processes()["guest"][0], signal.SIGKILL)
    agent.DestroySandbox()
    tap.check(bh.wait_for(lambda: nothing_left(d) and not os.listdir(d.kata)),
              "DestroySandbox: nothing is left, whoever was killed", (mounts(d), os.listdir(d.kata)))
    with open(d.resolv) as f:
        tap.check(f.read() == "own\n", "DestroySandbox: the guest's name servers are its own again")


def main():
    with bh.Scratch() as folder:
        root = kata_agent.make_root(folder)
        os.symlink("busybox", root + "/bin/stat")
        resolv = folder + "/resolv.conf"
        with open(resolv, "w") as f:
            f.write("own\n")
        d = Agent(folder, settings=["agent_resolv_conf=" + resolv]).start()
        d.resolv = resolv
        agent = kata_agent.Agent(d, root)
        for test in (test_sandbox, test_containers, test_failures, test_device, test_end):
            test(d, agent)
        d.stop()
        d.remove_cgroups()
    tap.done()


main()
