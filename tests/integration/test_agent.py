"""grpc.AgentService over ttrpc, in front of tasks. What makes containers isn't served yet: containerd's API makes them,
in the agent's namespace."""

import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import ttrpc_client as ttrpc

bh.isolate()
tap = bh.Tap()
NAMESPACE = [("containerd-namespace", "kata")]


def make_root(folder):
    root = os.path.join(folder, "root")
    for d in ("bin", "proc", "dev", "sys", "tmp", "run"):
        os.makedirs(os.path.join(root, d))
    shutil.copy("/bin/busybox", os.path.join(root, "bin", "busybox"))
    for n in ("sh", "sleep", "cat"):
        os.symlink("busybox", os.path.join(root, "bin", n))
    return root


class Maker:
    """containerd's API, as far as it is needed to have a task."""

    def __init__(self, d, root):
        import grpc
        self.d, self.root = d, root
        self.pb, stubs = bh.stubs_of("containerd/tasks.proto")
        self.tasks = stubs.TasksStub(grpc.insecure_channel("unix://" + d.containerd))

    def create(self, name, *command, stdin=""):
        p = subprocess.run(["ctr", "-a", self.d.containerd, "-n", "kata", "containers", "create", "--rootfs", self.root,
                            name] + list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        if p.returncode:
            raise RuntimeError(p.stdout.decode())
        return self.tasks.Create(self.pb.CreateTaskRequest(container_id=name, stdin=stdin), metadata=NAMESPACE).pid

    def status(self, name):
        reply = self.tasks.Get(self.pb.GetRequest(container_id=name), metadata=NAMESPACE)
        return reply.DESCRIPTOR.fields_by_name["process"].message_type.fields_by_name["status"].enum_type \
            .values_by_number[reply.process.status].name

    def delete(self, name):
        self.tasks.Delete(self.pb.DeleteTaskRequest(container_id=name), metadata=NAMESPACE)


def memory_limit(pid):
    with open("/proc/%d/cgroup" % pid) as f:
        for number, controllers, path in (line.strip().split(":", 2) for line in f):
            for place in ("/sys/fs/cgroup/memory%s/memory.limit_in_bytes" % path if "memory" in controllers else "",
                          "/sys/fs/cgroup%s/memory.max" % path if number == "0" else ""):
                if os.path.exists(place):
                    with open(place) as limit:
                        return int(limit.read())
    return None


def fails(name, code, function, *args, **kwargs):
    e = ttrpc.error_of(function, *args, **kwargs)
    tap.check(e and e.code == code, name + " is " + code, e)


def test_life(agent, maker):
    pid = maker.create("bh-life", "/bin/sleep", "1000")
    wait = agent.start_WaitProcess(container_id="bh-life")
    agent.StartContainer(container_id="bh-life")
    tap.check(maker.status("bh-life") == "RUNNING", "StartContainer: RUNNING", maker.status("bh-life"))
    fails("StartContainer: a second start", "FAILED_PRECONDITION", agent.StartContainer, container_id="bh-life")
    agent.PauseContainer(container_id="bh-life")
    tap.check(maker.status("bh-life") == "PAUSED", "PauseContainer: PAUSED")
    agent.ResumeContainer(container_id="bh-life")
    tap.check(maker.status("bh-life") == "RUNNING", "ResumeContainer: RUNNING")
    agent.UpdateContainer(container_id="bh-life")
    tap.check(maker.status("bh-life") == "RUNNING", "UpdateContainer without resources is no failure")
    agent.UpdateContainer(container_id="bh-life", resources={"Memory": {"Limit": 64 << 20}})
    tap.check(memory_limit(pid) == 64 << 20, "UpdateContainer: the kernel has the new limit", memory_limit(pid))
    fails("TtyWinResize without a terminal", "UNAVAILABLE", agent.TtyWinResize, container_id="bh-life", row=1, column=1)
    tap.check(not wait.over.is_set(), "WaitProcess waits meanwhile")
    e = ttrpc.error_of(agent.WaitProcess, container_id="bh-life", exec_id="bh-life", _timeout=0.2)
    tap.check(e and e.code == "DEADLINE_EXCEEDED", "and its time-out is kept", e)
    agent.SignalProcess(container_id="bh-life", signal=signal.SIGKILL)
    status = wait.result().status
    tap.check(status == 128 + 9, "SignalProcess: SIGKILL ends it")
    again = agent.WaitProcess(container_id="bh-life", exec_id="bh-life").status
    tap.check(again == status, "WaitProcess: 128 + signal, and the same to whoever asks later", again)
    agent.SignalProcess(container_id="bh-life", signal=signal.SIGTERM)
    agent.SignalProcess(container_id="bh-life", signal=signal.SIGKILL)
    tap.check(maker.status("bh-life") == "STOPPED", "SignalProcess of what has ended is no failure")
    maker.delete("bh-life")
    fails("SignalProcess of what was removed", "NOT_FOUND", agent.SignalProcess, container_id="bh-life", signal=9)
    fails("WaitProcess of what was removed", "NOT_FOUND", agent.WaitProcess, container_id="bh-life")


def test_input(agent, maker, folder):
    fifo = os.path.join(folder, "stdin")
    os.mkfifo(fifo)
    maker.create("bh-cat", "/bin/cat", stdin=fifo)
    agent.StartContainer(container_id="bh-cat")
    fd = os.open(fifo, os.O_WRONLY)
    wait = agent.start_WaitProcess(container_id="bh-cat")
    agent.CloseStdin(container_id="bh-cat")
    os.close(fd)
    tap.check(wait.result().status == 0, "CloseStdin: the input ends")
    maker.delete("bh-cat")


def test_unknown(agent):
    for call in (agent.UpdateContainer, agent.PauseContainer, agent.ResumeContainer):
        fails("an unknown container", "INVALID_ARGUMENT", call, container_id="nobody")
    for call in (agent.StartContainer, agent.WaitProcess, agent.CloseStdin):
        fails("a process of an unknown container", "NOT_FOUND", call, container_id="nobody")
    fails("SignalProcess of signal 0", "INVALID_ARGUMENT", agent.SignalProcess, container_id="nobody", signal=0)
    fails("what isn't there yet", "UNIMPLEMENTED", agent.ReadStdout, container_id="nobody", len=1)


def main():
    with bh.Scratch() as folder:
        root = make_root(folder)
        d = bh.Daemon(folder, settings=["endpoint.agent.services=agent", "endpoint.agent.protocol=ttrpc"]).start()
        agent = ttrpc.Service(ttrpc.Connection.unix(folder + "/run/agent.sock"), bh.stubs_of("kata/agent.proto")[0],
                              "AgentService")
        maker = Maker(d, root)
        test_life(agent, maker)
        test_input(agent, maker, folder)
        test_unknown(agent)
        d.stop()
    tap.done()


main()
