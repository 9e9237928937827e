"""grpc.AgentService over ttrpc: sandboxes, containers and their processes, as a Kata host calls them."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import kata_agent
import ttrpc_client as ttrpc

bh.isolate()
tap = bh.Tap()


def fails(name, code, function, *args, words="", **kwargs):
    e = ttrpc.error_of(function, *args, **kwargs)
    tap.check(e and e.code == code and words in e.message, name + " is " + code, e)


def pid_in(path):
    """A process whose control group ends with it."""
    for p in bh.pids():
        try:
            if any(group.endswith(path) for group in bh.group_of(p).values()):
                return p
        except OSError:
            pass
    return None


def pid_of(agent, container):
    """Its first process, by its control group."""
    return pid_in("%s/%s" % (agent.daemon.cgroup, container))


def test_sandbox(agent):
    fails("CreateContainer before CreateSandbox", "FAILED_PRECONDITION", agent.create, "c0", "/bin/true", words="sandbox")
    fails("DestroySandbox before CreateSandbox", "NOT_FOUND", agent.DestroySandbox)
    agent.CreateSandbox(sandbox_id="s1", hostname="kata-guest")
    fails("CreateSandbox: a second one, of another id", "ALREADY_EXISTS", agent.CreateSandbox, sandbox_id="s2",
          words="destroy it first")
    fails("CreateSandbox: the same once more", "ALREADY_EXISTS", agent.CreateSandbox, sandbox_id="s1")
    agent.run("c1", "/bin/hostname")
    tap.check(agent.output("c1") == b"kata-guest\n", "CreateSandbox: the hostname is its containers'")
    agent.run("c2", "/bin/sleep", "1000")
    first, own = pid_of(agent, "c2"), os.getpid()
    same = [k for k in ("net", "ipc", "uts", "mnt", "pid") if bh.namespace(first, k) == bh.namespace(own, k)]
    tap.check(same == ["net"], "a container has the guest's network and nothing else of it", same)
    agent.run("c3", "/bin/sleep", "1000")
    second = pid_of(agent, "c3")
    same = [k for k in ("net", "ipc", "uts", "mnt", "pid") if bh.namespace(first, k) == bh.namespace(second, k)]
    tap.check(same == ["net", "ipc", "uts"], "containers of a sandbox share its IPC and UTS namespaces", same)
    for c in ("p1", "p2"):
        agent.run(c, "/bin/sleep", "1000", sandbox_pidns=True)
    shared = [bh.namespace(pid_of(agent, c), "pid") for c in ("p1", "p2")]
    tap.check(shared[0] == shared[1] != bh.namespace(first, "pid"), "sandbox_pidns: one pid namespace for both", shared)
    agent.DestroySandbox()
    tap.check(not os.path.exists("/proc/%d" % first) and not os.path.exists("/proc/%d" % second),
              "DestroySandbox: nothing runs any more")
    fails("DestroySandbox: a second one", "NOT_FOUND", agent.DestroySandbox)
    fails("WaitProcess: of a destroyed sandbox's container", "NOT_FOUND", agent.wait, "c2")
    agent.CreateSandbox(sandbox_id="s2")
    agent.run("c2", "/bin/true")
    tap.check(agent.wait("c2") == 0, "after that another sandbox, with a container of the same name")
    agent.RemoveContainer(container_id="c2")


def test_create(agent):
    spec = agent.spec("bad", agent.process("/bin/true"))
    fails("CreateContainer without a specification", "INVALID_ARGUMENT", agent.CreateContainer, container_id="bad")
    for part in ("Process", "Root", "Linux"):
        broken = agent.oci.Spec()
        broken.CopyFrom(spec)
        broken.ClearField(part)
        fails("CreateContainer without " + part, "INVALID_ARGUMENT", agent.CreateContainer, container_id="bad", OCI=broken)
    for name in ("", "x", "/etc", "a b"):
        fails("CreateContainer: the id %r" % name, "INVALID_ARGUMENT", agent.CreateContainer, container_id=name, OCI=spec)
    fails("CreateContainer: streams on ports of their own", "UNIMPLEMENTED", agent.CreateContainer, container_id="bad",
          OCI=spec, stdin_port=5)
    slice_name = "bhagent%d.slice" % os.getpid()
    for group, want in (("%s/grp" % agent.daemon.cgroup, "%s/grp" % agent.daemon.cgroup),
                        (slice_name + ":kata:grp", "/%s/kata-grp.scope" % slice_name)):
        agent.create("grp", "/bin/sleep", "1000", cgroup=group)
        tap.check(pid_in(want), "CreateContainer: its group as a path, or as systemd's slice:prefix:name", group)
        agent.remove("grp")
    for top in bh.cgroup_roots():
        if os.path.isdir(top + "/" + slice_name):
            os.rmdir(top + "/" + slice_name)
    fails("CreateContainer: a program that isn't there", "INVALID_ARGUMENT", agent.create, "missing", "/bin/nothing",
          words="No such file")
    agent.create("missing", "/bin/true")
    agent.remove("missing")
    agent.run("twice", "/bin/sleep", "1000")
    fails("CreateContainer: a name that is taken", "ALREADY_EXISTS", agent.create, "twice", "/bin/true")
    fails("StartContainer: a second one", "FAILED_PRECONDITION", agent.StartContainer, container_id="twice")
    agent.exec("twice", "e1", "/bin/true")
    tap.check(agent.wait("twice", "e1") == 0, "the container that was there is as it was")
    agent.RemoveContainer(container_id="twice", timeout=10)
    fails("RemoveContainer: a second one", "NOT_FOUND", agent.RemoveContainer, container_id="twice")
    agent.create("twice", "/bin/sleep", "1000")
    agent.RemoveContainer(container_id="twice")
    fails("RemoveContainer of what never ran: it is gone", "NOT_FOUND", agent.StartContainer, container_id="twice")


def test_life(agent):
    agent.create("life", "/bin/sleep", "1000")
    fails("PauseContainer of what wasn't started", "FAILED_PRECONDITION", agent.PauseContainer, container_id="life")
    pid = pid_of(agent, "life")
    wait, other = agent.start_WaitProcess(container_id="life"), agent.start_WaitProcess(container_id="life", exec_id="life")
    agent.StartContainer(container_id="life")
    agent.PauseContainer(container_id="life")
    tap.check(bh.is_frozen(pid), "PauseContainer: frozen")
    fails("PauseContainer of what is paused", "FAILED_PRECONDITION", agent.PauseContainer, container_id="life")
    agent.ResumeContainer(container_id="life")
    tap.check(not bh.is_frozen(pid), "ResumeContainer: thawed")
    fails("ResumeContainer of what isn't paused", "FAILED_PRECONDITION", agent.ResumeContainer, container_id="life")
    agent.UpdateContainer(container_id="life")
    agent.UpdateContainer(container_id="life", resources={"Memory": {"Limit": 64 << 20}})
    limit = bh.group_value(pid, ("memory", "memory.limit_in_bytes"), "memory.max")
    tap.check(limit == str(64 << 20), "UpdateContainer: the kernel has the new limit", limit)
    fails("TtyWinResize without a terminal", "UNAVAILABLE", agent.TtyWinResize, container_id="life", row=1, column=1)
    tap.check(not wait.over.is_set() and not other.over.is_set(), "WaitProcess waits meanwhile")
    e = ttrpc.error_of(agent.WaitProcess, container_id="life", exec_id="life", _timeout=0.2)
    tap.check(e and e.code == "DEADLINE_EXCEEDED", "and its time-out is kept", e)
    agent.SignalProcess(container_id="life", signal=signal.SIGKILL)
    tap.check(wait.result().status == other.result().status == 128 + 9, "SignalProcess: SIGKILL; all who wait hear of it")
    agent.SignalProcess(container_id="life", signal=signal.SIGTERM)
    agent.SignalProcess(container_id="life", signal=signal.SIGKILL)
    tap.check(True, "SignalProcess of what has ended is no failure")
    agent.RemoveContainer(container_id="life")
    fails("SignalProcess of what was removed", "NOT_FOUND", agent.SignalProcess, container_id="life", signal=9)
    fails("WaitProcess of what was removed", "NOT_FOUND", agent.wait, "life")


def test_signals(agent):
    agent.run("term", "/bin/sleep", "1000")
    agent.SignalProcess(container_id="term", signal=signal.SIGTERM)
    tap.check(agent.wait("term") == 128 + 9, "SignalProcess: SIGTERM to a first process without a handler kills it")
    agent.remove("term")
    agent.run("traps", "/bin/sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    agent.ReadStdout(container_id="traps", len=100)
    agent.SignalProcess(container_id="traps", signal=signal.SIGTERM)
    tap.check(agent.wait("traps") == 7, "SignalProcess: one that has a handler runs it")
    agent.remove("traps")
    agent.run("all", "/bin/sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000 & wait")
    agent.exec("all", "x", "/bin/sleep", "1000")
    agent.SignalProcess(container_id="all", exec_id="x", signal=signal.SIGTERM)
    tap.check(agent.wait("all", "x") == 128 + 15, "SignalProcess: to one process of several")
    agent.exec("all", "y", "/bin/sleep", "1000")
    agent.SignalProcess(container_id="all", signal=signal.SIGKILL)
    tap.check(agent.wait("all", "y") == 128 + 9 == agent.wait("all"), "SignalProcess: SIGKILL to the container is for all in it")
    agent.remove("all")
    fails("SignalProcess of signal 0", "INVALID_ARGUMENT", agent.SignalProcess, container_id="nobody", signal=0)


def test_exec(agent):
    agent.run("main", "/bin/sleep", "1000")
    agent.exec("main", "e1", "/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    got = agent.output("main", "e1"), agent.output("main", "e1", "ReadStderr"), agent.wait("main", "e1")
    tap.check(got == (b"out\n", b"err\n", 3), "ExecProcess: output, error output, status", got)
    fails("ExecProcess: a name that is taken", "ALREADY_EXISTS", agent.exec, "main", "e1", "/bin/true")
    fails("ExecProcess: the container's own", "INVALID_ARGUMENT", agent.exec, "main", "main", "/bin/true")
    fails("ExecProcess without a process", "INVALID_ARGUMENT", agent.ExecProcess, container_id="main", exec_id="e2")
    fails("ExecProcess in an unknown container", "NOT_FOUND", agent.exec, "nobody", "e2", "/bin/true")
    fails("ExecProcess: streams on ports of their own", "UNIMPLEMENTED", agent.ExecProcess, container_id="main",
          exec_id="e2", process=agent.process("/bin/true"), stdout_port=9)
    fails("WaitProcess of an unknown process", "NOT_FOUND", agent.wait, "main", "nobody")
    bare = agent.process("/bin/sh", "-c", "echo $HOME; grep CapEff /proc/self/status || cat /proc/self/status")
    bare.ClearField("Capabilities")
    agent.exec("main", "e3", process=bare)
    tap.check(agent.output("main", "e3").startswith(b"/root\n"), "ExecProcess: HOME is what the root's passwd says")
    agent.exec("main", "e4", process=agent.oci.Process(Args=["/bin/cat", "/proc/self/status"], Cwd="/", User={}))
    caps = [line for line in agent.output("main", "e4").decode().splitlines() if line.startswith("CapEff")]
    tap.check(caps == ["CapEff:\t00000000000000e3"], "ExecProcess: without capabilities it has the container's", caps)
    agent.create("waits", "/bin/sleep", "1000")
    fails("ExecProcess in what wasn't started", "FAILED_PRECONDITION", agent.exec, "waits", "e1", "/bin/true")
    agent.remove("waits")
    agent.remove("main")


def test_exec_ends(agent):
    """64 ends that were told are kept; those that nobody has asked for, all."""
    agent.run("many", "/bin/sleep", "1000")
    for i in range(2):
        agent.exec("many", "quiet%d" % i, "/bin/sh", "-c", "exit %d" % (5 + i))
    for i in range(65):
        agent.exec("many", "e%d" % i, "/bin/sh", "-c", "exit %d" % (i % 7))
    got = [agent.wait("many", "e%d" % i) for i in range(64)]
    again = agent.wait("many", "e0")
    tap.check(got == [i % 7 for i in range(64)] and again == 0, "WaitProcess: 64 ends that were told are told again",
              (got, again))
    tap.check(agent.wait("many", "e64") == 64 % 7 and agent.wait("many", "e1") == 1, "with the 65th the others stay")
    fails("WaitProcess of the oldest of 65 ends that were told", "NOT_FOUND", agent.wait, "many", "e0")
    got = [agent.wait("many", "quiet%d" % i) for i in range(2)]
    tap.check(got == [5, 6], "ends that nobody has asked for are kept, however many came after", got)
    agent.remove("many")


def test_output(agent):
    agent.run("much", "/bin/sh", "-c", "seq 1 200000; echo end >&2")
    want = b"".join(b"%d\n" % i for i in range(1, 200001))
    got = agent.output("much")
    tap.check(got == want, "ReadStdout: all of it, in order", (len(got), len(want)))
    tap.check(agent.output("much", "", "ReadStderr") == b"end\n", "ReadStderr: apart from it")
    tap.check(agent.wait("much") == 0 and agent.output("much") == b"", "and the end remains the end")
    agent.remove("much")
    fails("ReadStdout of what was removed", "NOT_FOUND", agent.ReadStdout, container_id="much", len=1)
    agent.run("late", "/bin/sh", "-c", "echo one; echo two")
    tap.check(agent.wait("late") == 0, "a process that ends before anybody reads")
    fails("ReadStdout of no bytes", "INVALID_ARGUMENT", agent.ReadStdout, container_id="late", len=0)
    piece = agent.ReadStdout(container_id="late", len=3).data
    tap.check(piece == b"one" and agent.output("late") == b"\ntwo\n", "ReadStdout: no more than len; the rest stays", piece)
    agent.remove("late")
    agent.run("slow", "/bin/cat")
    e = ttrpc.error_of(agent.ReadStdout, container_id="slow", len=10, _timeout=0.2)
    tap.check(e and e.code == "DEADLINE_EXCEEDED", "ReadStdout waits for data; its time-out is kept", e)
    two = [agent.start_ReadStdout(container_id="slow", len=2) for _ in range(2)]
    tap.check(agent.WriteStdin(container_id="slow", data=b"abcd").len == 4, "WriteStdin: all that was given")
    tap.check([r.result().data for r in two] == [b"ab", b"cd"], "and no byte went to the call that had given up")
    big = b"x" * 300000
    write = agent.start_WriteStdin(container_id="slow", data=big)
    got = b""
    while len(got) < len(big):
        got += agent.ReadStdout(container_id="slow", len=1 << 30).data
    tap.check(got == big and write.result().len == len(big), "WriteStdin of more than pipes hold is whole")
    agent.CloseStdin(container_id="slow")
    tap.check(agent.output("slow") == b"" and agent.wait("slow") == 0, "CloseStdin: the process sees the end of its input")
    fails("WriteStdin of what has ended", "FAILED_PRECONDITION", agent.WriteStdin, container_id="slow", data=b"x")
    agent.CloseStdin(container_id="slow")
    tap.check(True, "CloseStdin of what has ended is no failure")
    agent.remove("slow")
    agent.run("empty", "/bin/cat")
    tap.check(agent.WriteStdin(container_id="empty", data=b"last").len == 4 and
              agent.WriteStdin(container_id="empty", data=b"").len == 0 and agent.output("empty") == b"last",
              "WriteStdin of nothing closes it, after what was written before")
    agent.remove("empty")


def test_terminal(agent):
    agent.run("tty", "/bin/sh", "-c", "stty -echo; echo hello; read x; stty size; exit 4", terminal=True)
    tap.check(agent.ReadStdout(container_id="tty", len=100).data == b"hello\r\n", "a terminal: output")
    agent.TtyWinResize(container_id="tty", row=33, column=77)
    agent.WriteStdin(container_id="tty", data=b"go\n")
    got = agent.output("tty")
    tap.check(got == b"33 77\r\n", "TtyWinResize, WriteStdin to a terminal", got)
    tap.check(agent.output("tty", "", "ReadStderr") == b"" and agent.wait("tty") == 4, "a terminal has no error output")
    agent.remove("tty")


def test_stats(agent):
    agent.run("load", "/bin/sh", "-c", "x=0; while test $x -lt 20000; do x=$((x+1)); done; echo done; sleep 1000")
    agent.ReadStdout(container_id="load", len=10)
    agent.UpdateContainer(container_id="load", resources={"Memory": {"Limit": 64 << 20}, "Pids": {"Limit": 50}})
    s = agent.StatsContainer(container_id="load").cgroup_stats
    tap.check(s.cpu_stats.cpu_usage.total_usage > 1000000, "StatsContainer: nanoseconds of CPU time", s.cpu_stats)
    tap.check(0 < s.memory_stats.usage.usage < s.memory_stats.usage.limit == 64 << 20, "StatsContainer: memory, and its limit",
              s.memory_stats.usage)
    tap.check(s.memory_stats.stats["pgfault"] > 0, "StatsContainer: the lines of memory.stat", s.memory_stats.stats)
    tap.check(s.pids_stats.current >= 1 and s.pids_stats.limit == 50, "StatsContainer: processes", s.pids_stats)
    agent.remove("load")


def test_unknown(agent):
    for call in (agent.UpdateContainer, agent.PauseContainer, agent.ResumeContainer, agent.StatsContainer):
        fails("an unknown container", "INVALID_ARGUMENT", call, container_id="nobody")
    for call in (agent.StartContainer, agent.WaitProcess, agent.CloseStdin, agent.RemoveContainer):
        fails("a process of an unknown container", "NOT_FOUND", call, container_id="nobody")
    fails("TtyWinResize of an unknown one", "NOT_FOUND", agent.TtyWinResize, container_id="nobody", row=1, column=1)
    fails("WriteStdin of an unknown one", "NOT_FOUND", agent.WriteStdin, container_id="nobody", data=b"x")
    fails("ReadStderr of an unknown one", "NOT_FOUND", agent.ReadStderr, container_id="nobody", len=1)


def main():
    with bh.Scratch() as folder:
        root = kata_agent.make_root(folder)
        d = bh.Daemon(folder, settings=kata_agent.SETTINGS).start()
        agent = kata_agent.Agent(d, root)
        before = bh.kernel_truth(d)
        for test in (test_sandbox, test_create, test_life, test_signals, test_exec, test_exec_ends, test_output, test_terminal,
                     test_stats, test_unknown):
            test(agent)
        agent.DestroySandbox()
        bh.wait_for(lambda: bh.kernel_truth(d) == before, 5)
        tap.check(bh.kernel_truth(d) == before, "nothing is left", bh.differences(before, bh.kernel_truth(d)))
        d.stop()
    tap.done()


main()
