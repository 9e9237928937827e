"""hypervisor.Hypervisor as a Kata shim calls it: a virtual machine by its four calls, and the guest's agent through the socket
that CreateVM has named, by a client that is nothing but that."""

import os
import signal
import stat
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402
import kata_agent  # noqa: E402
import sandbox_client as sc  # noqa: E402
import ttrpc_client as ttrpc  # noqa: E402
import vm  # noqa: E402

tap = bh.Tap()
ROOT = "/test/root"  # of the initrd
NAMESPACE = "hypervisor"


class Host:
    """A shim: a connection for each call, as Kata's has it."""

    def __init__(self, d):
        self.daemon, self.socket, self.pb = d, d.run + "/hypervisor.sock", bh.stubs_of("kata/hypervisor.proto")[0]

    def __getattr__(self, method):
        def call(**fields):
            connection = ttrpc.Connection.unix(self.socket)
            try:
                return getattr(ttrpc.Service(connection, self.pb, "Hypervisor"), method)(_timeout=150, **fields)
            finally:
                connection.close()
        return call


class Guest(kata_agent.Agent):
    """The agent, through agentSocketPath."""

    def __init__(self, d, path):
        self.daemon, self.root, self.socket = d, ROOT, path
        self.pb, self.oci = bh.stubs_of("kata/agent.proto")[0], bh.stubs_of("oci/oci.proto")[0]
        self.connection = self.calls = None
        self.connect()

    def spec(self, container, process, cgroup=None, mounts=()):
        return super().spec(container, process, cgroup or "/pod/" + container, mounts)


def fails(name, code, call, text="", **fields):
    e = ttrpc.error_of(call, **fields)
    tap.check(e and e.code == code and text in e.message, name, e)


def named(name):
    return [p for p in bh.pids() if (bh.comm(p) or "").startswith(name)]


def test_create(host, net):
    tap.check(host.Version(version="0.0.1").version, "Version")
    fails("StartVM of what wasn't created", "NOT_FOUND", host.StartVM, id="pod", text='"pod"')
    fails("StopVM of it", "NOT_FOUND", host.StopVM, id="pod")
    fails("CreateVM of an id that is none", "INVALID_ARGUMENT", host.CreateVM, id="a/b")
    fails("CreateVM in no network namespace", "INVALID_ARGUMENT", host.CreateVM, id="pod", networkNamespacePath="here",
          text="netns_path")
    path = host.CreateVM(id="pod", networkNamespacePath=net.path,
                         annotations={"io.kubernetes.cri.sandbox-name": "web"}).agentSocketPath
    tap.check(os.path.isabs(path) and not os.path.exists(path) and not named("qemu-system"),
              "CreateVM: where the agent will be; there is no machine yet", path)
    fails("a second CreateVM", "ALREADY_EXISTS", host.CreateVM, id="pod")
    return path


def test_start(host, path):
    host.StartVM(id="pod")
    tap.check(len(named("qemu-system")) == 1 and stat.S_ISSOCK(os.stat(path).st_mode),
              "StartVM: the machine runs, its agent is there")
    tap.check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "for root alone", oct(os.stat(path).st_mode))
    fails("a second StartVM", "FAILED_PRECONDITION", host.StartVM, id="pod", text="before")


def test_agent(host, path):
    guest = Guest(host.daemon, path)
    tap.check(guest.health().Check().status == 1, "Health.Check through agentSocketPath")
    guest.connect()
    tap.check(guest.health().Check().status == 1, "again by a second connection")
    eth, = [i for i in guest.ListInterfaces().Interfaces if i.name == "eth0"]
    tap.check("10.232.0.2" in [a.address for a in eth.IPAddresses], "the guest has the network namespace's devices", eth)
    guest.CreateSandbox(sandbox_id="pod", hostname="in-a-vm")
    guest.run("one", "/bin/busybox", "sh", "-c", "hostname; cat /proc/version; exit 7")
    said, status = guest.output("one").decode().splitlines(), guest.wait("one")
    tap.check(status == 7 and said[0] == "in-a-vm" and "cloud-amd64" in said[1], "a container of the client's runs there",
              (said, status))
    return guest


def test_reaches(guest):
    guest.run("two", "/bin/busybox", "sleep", "1000")
    said = vm.heard(lambda port: guest.exec("two", "n%d" % port, "/bin/busybox", "sh", "-c",
                                            "echo guest | /bin/busybox nc 10.232.0.1 %d" % port))
    tap.check(said == (b"guest\n", "10.232.0.2"), "and reaches the host by it", said)


def test_beside(host):
    """What clients of containerd's API can't do to it."""
    client = sc.Client(host.daemon, NAMESPACE)
    tap.check(client.control("Status", "pod").state == "SANDBOX_READY", "the Controller shows it in a namespace of its own")
    e = bh.error_of(client.run, "c", "pod", "/", "/bin/true")
    tap.check(e is not None and e.code().name == "FAILED_PRECONDITION" and "agent" in e.details(),
              "whose containers are its shim's alone", e)
    client(client.containers, "Delete", sc.containers.DeleteContainerRequest(id="c"))


def test_deaths(host, guest):
    """Each when the one before has a successor that has heard of the keeper: of task and keeper one must live."""
    client = sc.Client(host.daemon, NAMESPACE)
    for name in "api", "metadata", "task", "pod-keeper":
        old = host.daemon.processes()[name]
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        tap.check(bh.wait_for(lambda: len(set(host.daemon.processes().get(name, [])) - set(old)) >= len(old), 30) and
                  guest.health().Check().status == 1, "kill -9 of %s: the agent's connection isn't touched" % name)
        tap.check(bh.wait_for(lambda: not bh.error_of(client.control, "Metrics", "pod"), 30), "the daemon has it again")


def test_stop(host, guest, path):
    open_call = guest.start_WaitProcess(container_id="two")
    ends = threading.Thread(target=lambda: ttrpc.error_of(open_call.result, 60))
    ends.start()
    guest.SignalProcess(container_id="two", signal=9)
    ends.join(60)
    guest.DestroySandbox()
    tap.check(bh.wait_for(lambda: not named("qemu-system"), 60), "DestroySandbox: the machine turns itself off")
    host.StopVM(id="pod")
    tap.check(not os.path.exists(path) and not named("bulkhead-vm") and not named("virtiofsd"), "StopVM: nothing of it is left")
    fails("a second StopVM", "NOT_FOUND", host.StopVM, id="pod")


def test_stop_at_once(host):
    path = host.CreateVM(id="brief").agentSocketPath
    fails("one that was never started has no agent", "NOT_FOUND", host.StopVM, id="briefer")
    host.StartVM(id="brief")
    guest = Guest(host.daemon, path)
    tap.check(guest.health().Check().status == 1 and [i.name for i in guest.ListInterfaces().Interfaces] == ["lo"],
              "a machine without a network namespace has its loopback alone")
    host.StopVM(id="brief")
    tap.check(not named("qemu-system") and not os.path.exists(path), "StopVM of one whose sandbox wasn't destroyed: it is gone")
    host.CreateVM(id="brief")
    host.StopVM(id="brief")
    tap.check(True, "StopVM of one that wasn't started")


def run_all(d):
    host, net = Host(d), vm.Net()
    before = bh.kernel_truth(d)
    count = len(before.pop("netns"))  # a worker's successor has another
    path = test_create(host, net)
    test_start(host, path)
    guest = test_agent(host, path)
    test_reaches(guest)
    test_beside(host)
    test_deaths(host, guest)
    test_stop(host, guest, path)
    test_stop_at_once(host)

    def left():
        now = bh.kernel_truth(d)
        return len(now.pop("netns")) == count and now == before
    tap.check(bh.wait_for(left, 20), "nothing is left", bh.differences(before, bh.kernel_truth(d)))
    net.close()


def main():
    bh.isolate()
    sc.load()
    vm.run(tap, run_all, {ROOT + "/bin/busybox": "/bin/busybox"},
           lambda folder: ["endpoint.hypervisor.socket=%s/run/hypervisor.sock" % folder])


main()
