"""The agent as the init of a virtual machine: a host's calls over virtio-serial."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import ttrpc_client as ttrpc
import vm

bh.isolate()
tap = bh.Tap()


def calls(connection):
    return ttrpc.Service(connection, bh.stubs_of("kata/agent.proto")[0], "AgentService")


def test_boot(machine):
    start = time.monotonic()
    connection = machine.start().ready()
    tap.check(True, "Health.Check: the agent that is the guest's init serves # NOTE %.1f s after QEMU's start" %
              (time.monotonic() - start))
    connection.close()
    connection = machine.ready(30)
    tap.check(True, "a host that connects anew is served")
    said = machine.log()
    tap.check("a kernel parameter of the agent's without effect here" in said and "debug_console" in said,
              "a kernel parameter that isn't known is named on the console", said[-2000:])
    tap.check(" error " not in said, "the console has no error", said[-2000:])
    return connection


def test_guest(agent):
    details = agent.GetGuestDetails().agent_details
    tap.check(details.init_daemon and details.supports_seccomp, "GetGuestDetails: the agent is the guest's init", details)
    lo = [i for i in agent.ListInterfaces().Interfaces if i.name == "lo"]
    tap.check(len(lo) == 1 and "127.0.0.1" in [a.address for a in lo[0].IPAddresses], "the loopback interface is up", lo)


def main():
    reason = vm.missing()
    if reason:
        tap.skip("a virtual machine", reason)
        tap.done()
        return
    with bh.Scratch() as folder:
        machine = vm.Vm(folder, "agent.debug_console")
        try:
            test_guest(calls(test_boot(machine)))
        except Exception:
            print(machine.log()[-6000:])
            raise
        finally:
            machine.kill()
    tap.done()


main()
