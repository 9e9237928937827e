"""GetOOMEvent: each time that the kernel kills in a container for want of memory is told once, to one of those who ask,
whoever comes, goes or dies in between; and containerd's /tasks/oom is told of the same."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import kata_agent
import oom
import ttrpc_client as ttrpc

bh.isolate()
tap = bh.Tap()
# Each line of its input costs it a child.
PARENT = "while read line; do (%s); done" % oom.EATER


def run(agent, name, script):
    spec = agent.spec(name, agent.process("/bin/sh", "-c", script))
    spec.Linux.Resources.Memory.Limit = oom.LIMIT
    agent.CreateContainer(container_id=name, exec_id=name, OCI=spec)
    agent.StartContainer(container_id=name)


def group_kills(agent, name):
    """What the kernel has counted."""
    for path, file in (("/sys/fs/cgroup/memory", "memory.oom_control"), ("/sys/fs/cgroup", "memory.events")):
        try:
            with open("%s%s/%s/%s" % (path, agent.daemon.cgroup, name, file)) as f:
                return int(dict(line.split() for line in f)["oom_kill"])
        except OSError:
            pass
    return -1


def patient(call, *args, **fields):
    """As a host that calls again while a process of the agent is being replaced."""
    def answered():
        e = ttrpc.error_of(call, *args, **fields)
        if e and e.code != "UNAVAILABLE":
            raise e
        return not e
    return bh.wait_for(answered, 10)


def kill_child(agent, name):
    before = group_kills(agent, name)
    patient(agent.WriteStdin, container_id=name, data=b"\n")
    if not bh.wait_for(lambda: group_kills(agent, name) > before, 20):
        raise RuntimeError("nothing was killed in " + name)


def told(call, seconds=20):
    try:
        return call.result(seconds).container_id
    except TimeoutError:
        return None


def silent(agent):
    """Nothing is left to be told."""
    e = ttrpc.error_of(agent.start_GetOOMEvent(_timeout=0.5).result)
    return e and e.code == "DEADLINE_EXCEEDED"


def test_first(agent):
    e = ttrpc.error_of(agent.GetOOMEvent)
    tap.check(e and e.code == "NOT_FOUND", "GetOOMEvent: without a sandbox it is NOT_FOUND", e)


def test_end(agent):
    call = agent.start_GetOOMEvent()
    run(agent, "ends", oom.EATER)
    tap.check(told(call) == "ends" and agent.wait("ends") == 137, "GetOOMEvent: a container that ended of it")
    agent.remove("ends")
    run(agent, "quick", oom.EATER)
    agent.wait("quick")
    agent.remove("quick")
    tap.check(told(agent.start_GetOOMEvent()) == "quick", "GetOOMEvent: one that was removed before anybody asked")
    tap.check(silent(agent), "GetOOMEvent: then it waits, until its time is over")


def test_children(d, agent):
    heard = oom.follow(d, "kata")
    for _ in range(3):
        kill_child(agent, "one")
    kill_child(agent, "two")
    time.sleep(1)  # nobody can be asked whether all is known
    said = [told(agent.start_GetOOMEvent()) for _ in range(4)]
    tap.check(sorted(said) == ["one"] * 3 + ["two"] and "two" in said[:2],
              "GetOOMEvent: children of containers that live on, each once; containers take turns", said)
    tap.check(silent(agent), "GetOOMEvent: nothing is told twice")
    tap.check(heard == ["one"] * 3 + ["two"], "/tasks/oom: containerd's clients are told of the same", heard)


def test_askers(agent):
    calls = [agent.start_GetOOMEvent() for _ in range(3)]
    said = []
    for name in ("two", "one", "two"):
        kill_child(agent, name)
        said.append([told(calls[len(said)]), [c.over.is_set() for c in calls].count(True)])
    tap.check(said == [["two", 1], ["one", 2], ["two", 3]], "GetOOMEvent: who asked first is told first", said)


def test_gone(agent):
    other = kata_agent.Agent(agent.daemon, agent.root)
    gone = [other.start_GetOOMEvent() for _ in range(5)]
    stays = agent.start_GetOOMEvent()
    other.connection.close()
    bh.wait_for(lambda: all(g.over.is_set() for g in gone))
    late = agent.start_GetOOMEvent(_timeout=0.2)
    e = ttrpc.error_of(late.result)
    kill_child(agent, "one")
    tap.check(told(stays) == "one" and e and e.code == "DEADLINE_EXCEEDED" and silent(agent),
              "GetOOMEvent: who goes while it waits takes nothing along", e)


def test_deaths(d, agent, worker):
    """Its death before the kill, and after it; while somebody waits, and before anybody asks."""
    def die():
        for pid in bh.wait_for(lambda: d.processes().get(worker)):
            os.kill(pid, signal.SIGKILL)

    def begin():
        return bh.wait_for(connected)

    def connected():
        try:
            agent.connect()
        except OSError:
            return None
        return agent.start_GetOOMEvent()

    said = []
    call = agent.start_GetOOMEvent()
    die()
    if worker == "api":
        call = begin()
    kill_child(agent, "one")
    said.append(told(call))
    kill_child(agent, "two")
    die()
    said.append(told(begin()))
    call = agent.start_GetOOMEvent()
    kill_child(agent, "one")
    die()
    if call.over.wait(5 if worker == "api" else 20) and not call.error:
        said.append(told(call))
    else:
        said.append(told(begin()))
    tap.check(said == ["one", "two", "one"], "GetOOMEvent: the %s's death, before and after a kill" % worker, said)
    bh.wait_for(lambda: not ttrpc.error_of(begin), 10)
    agent.connect()
    tap.check(bh.wait_for(lambda: silent(agent), 15), "GetOOMEvent: and nothing is told twice")


def test_destroyed(agent):
    call = agent.start_GetOOMEvent()
    patient(agent.DestroySandbox)
    e = ttrpc.error_of(call.result)
    tap.check(e and e.code == "INTERNAL" and "destroyed" in e.message, "GetOOMEvent: it fails when the sandbox is destroyed", e)




def main():
    with bh.Scratch() as folder:
        root = kata_agent.make_root(folder)
        d = bh.Daemon(folder, settings=kata_agent.SETTINGS).start()
        agent = kata_agent.Agent(d, root)
        test_first(agent)
        agent.CreateSandbox(sandbox_id="pod", hostname="short")
        test_end(agent)
        for name in ("one", "two"):
            run(agent, name, PARENT)
        test_children(d, agent)
        test_askers(agent)
        test_gone(agent)
        for worker in ("task", "metadata", "pod-keeper", "api"):
            test_deaths(d, agent, worker)
        test_destroyed(agent)
        d.stop()
    tap.done()


main()
