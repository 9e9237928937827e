"""The daemon as an agent: which processes it has, and what its guest worker is asked for without one."""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
from agent import Agent

bh.isolate()
tap = bh.Tap()


def test_processes(d):
    names = sorted(d.processes())
    tap.check(names == ["api", "guest", "keeper", "metadata", "supervisor", "task"],
              "an agent has no image, snapshot or stream worker", names)
    tap.check(not os.path.exists(d.state + "/content") and not os.path.exists(d.state + "/layers"),
              "nor their folders", os.listdir(d.state))
    tap.check(os.path.isdir(d.kata), "agent_run_root is made")
    first = d.processes()["guest"]
    os.kill(first[0], signal.SIGKILL)
    tap.check(bh.wait_for(lambda: d.processes().get("guest", first) != first), "the guest worker is replaced")


def main():
    with bh.Scratch() as folder:
        d = Agent(folder).start()
        test_processes(d)
        tap.check(d.stop() == 0, "it ends when it is told to")
        d.remove_cgroups()
    tap.done()


main()
