"""The agent as the init of a virtual machine: a host's calls over virtio-serial, containers, and the machine that turns
itself off when its sandbox is destroyed."""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import kata_agent
import ttrpc_client as ttrpc
import vm

bh.isolate()
tap = bh.Tap()
ROOT = "/test/root"  # of the initrd


class Guest(kata_agent.Agent):
    """The calls, on the virtual machine's port."""

    def __init__(self, machine):
        self.machine = machine
        self.pb, self.oci = bh.stubs_of("kata/agent.proto")[0], bh.stubs_of("oci/oci.proto")[0]
        self.attach(machine.ready())

    def attach(self, connection):
        self.connection = connection
        self.calls = ttrpc.Service(connection, self.pb, "AgentService")

        self.root = ROOT

    def spec(self, container, process, cgroup=None, mounts=()):
        return super().spec(container, process, cgroup or "/pod/" + container, mounts)

    def script(self, container, text):
        """Runs it; lines of what it said, and its status."""
        self.run(container, "/bin/busybox", "sh", "-c", text)
        return self.output(container).decode().split("\n"), self.wait(container)


def test_sizes():
    """kata-containers 9426, 3216: executable and first file system grew with each release. Who makes them larger on purpose
    changes the bound."""
    for number, what, path, most in ((9426, "the agent", os.path.join(vm.AGENT, "bulkhead-agent"), 2500),
                                     (3216, "the initrd", vm.INITRD, 4600)):
        size = os.path.getsize(path) // 1000
        tap.check(size <= most, "%d: %s has not more than %d kB # NOTE %d" % (number, what, most, size), size)


def test_boot(machine, guest, seconds):
    tap.check(True, "Health.Check: the agent that is the guest's init serves # NOTE %.1f s after QEMU's start" % seconds)
    guest.connection.close()
    guest.attach(machine.ready(30))
    tap.check(True, "a host that connects anew is served")
    tap.check("a kernel parameter of the agent's without effect here" in machine.log() and "debug_console" in machine.log(),
              "a kernel parameter that isn't known is named on the console", machine.log()[-2000:])
    tap.check(" error " not in machine.log(), "the console has no error", machine.log()[-2000:])


def test_containers(guest):
    guest.CreateSandbox(sandbox_id="pod", hostname="in-a-vm")
    lines, status = guest.script("one", "hostname; cat /proc/version; cat /proc/self/cgroup")
    tap.check(status == 0 and lines[0] == "in-a-vm", "a container has the sandbox's host name", (lines, status))
    tap.check(re.search(r"Linux version 6\.1\..*-cloud-amd64", lines[1]), "it runs on the guest's kernel", lines)
    tap.check(lines[2].startswith("0::/"), "its control group is of v2", lines)
    guest.run("two", "/bin/busybox", "sleep", "1000")
    guest.exec("two", "e1", "/bin/busybox", "sh", "-c", "echo error >&2; exit 7")
    tap.check(guest.output("two", "e1", "ReadStderr") == b"error\n" and guest.wait("two", "e1") == 7,
              "ExecProcess in a second one: what it says, and its status")
    stats = guest.StatsContainer(container_id="two").cgroup_stats
    tap.check(stats.memory_stats.usage.usage > 0, "StatsContainer: what its control group has", stats)
    guest.SignalProcess(container_id="two", signal=9)
    tap.check(guest.wait("two") == 128 + 9, "SignalProcess: it is killed")
    guest.RemoveContainer(container_id="two")
    e = ttrpc.error_of(guest.wait, "two")
    tap.check(e and e.code == "NOT_FOUND", "RemoveContainer: it is gone", e)


def test_guest(agent):
    details = agent.GetGuestDetails().agent_details
    tap.check(details.init_daemon and details.supports_seccomp, "GetGuestDetails: the agent is the guest's init", details)
    lo = [i for i in agent.ListInterfaces().Interfaces if i.name == "lo"]
    tap.check(len(lo) == 1 and "127.0.0.1" in [a.address for a in lo[0].IPAddresses], "the loopback interface is up", lo)


def test_end(machine, guest):
    start = time.monotonic()
    guest.DestroySandbox()
    tap.check(machine.ended(), "DestroySandbox: the machine turns itself off # NOTE %.1f s" % (time.monotonic() - start),
              machine.log()[-2000:])


def main():
    reason = vm.missing()
    if reason:
        tap.skip("a virtual machine", reason)
        tap.done()
        return
    test_sizes()
    with bh.Scratch() as folder:
        machine = vm.Vm(folder, "agent.debug_console", vm.initrd(folder, {ROOT + "/bin/busybox": "/bin/busybox"}))
        start = time.monotonic()
        machine.start()
        try:
            guest = Guest(machine)
            test_boot(machine, guest, time.monotonic() - start)
            test_guest(guest)
            test_containers(guest)
            test_end(machine, guest)
        except Exception:
            print(machine.log()[-6000:])
            raise
        finally:
            machine.kill()
    tap.done()


main()
