"""A Kata host, as far as tests need one: the agent's calls over ttrpc, and specifications as Kata's Go shim sends them."""

import os
import shutil

import bulkhead as bh
import ttrpc_client as ttrpc

SETTINGS = ["endpoint.agent.services=agent", "endpoint.agent.protocol=ttrpc"]
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
COMMANDS = ("sh", "sleep", "cat", "echo", "seq", "head", "dd", "hostname", "stty", "true", "kill", "yes", "id", "test")


def make_root(folder):
    """A root file system of busybox."""
    root = os.path.join(folder, "root")
    for d in ("bin", "proc", "dev", "sys", "tmp", "run", "etc"):
        os.makedirs(os.path.join(root, d))
    shutil.copy("/bin/busybox", os.path.join(root, "bin", "busybox"))
    for n in COMMANDS:
        os.symlink("busybox", os.path.join(root, "bin", n))
    with open(os.path.join(root, "etc", "passwd"), "w") as f:
        f.write("root:x:0:0:root:/root:/bin/sh\n")
    return root


class Agent:
    """The calls as methods (CreateContainer(...), start_WaitProcess(...)), and what tests make of them."""

    def __init__(self, daemon, root):
        self.daemon, self.root = daemon, root
        self.socket = daemon.run + "/agent.sock"
        self.pb, self.oci = bh.stubs_of("kata/agent.proto")[0], bh.stubs_of("oci/oci.proto")[0]
        self.connection, self.calls = None, None
        self.connect()

    def connect(self):
        if self.connection:
            self.connection.close()
        self.connection = ttrpc.Connection.unix(self.socket)
        self.calls = ttrpc.Service(self.connection, self.pb, "AgentService")

    def health(self):
        return ttrpc.Service(self.connection, bh.stubs_of("kata/health.proto")[0], "Health")

    def __getattr__(self, name):
        return getattr(self.calls, name)

    def process(self, *args, terminal=False, **fields):
        """As a process of ExecProcess, too."""
        caps = {kind: CAPABILITIES for kind in ("Bounding", "Effective", "Permitted")}
        p = {"Args": list(args), "Env": ["PATH=/bin"], "Cwd": "/", "User": {}, "Terminal": terminal, "Capabilities": caps}
        return self.oci.Process(**{**p, **fields})

    def spec(self, container, process, cgroup=None, mounts=()):
        """Namespaces as they come: those that the guest stands for aren't named, and paths are empty."""
        fixed = [("/proc", "proc", "proc", []), ("/dev", "tmpfs", "tmpfs", ["nosuid", "mode=755"]),
                 ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"])]
        return self.oci.Spec(
            Version="1.0.2", Process=process, Root={"Path": self.root},
            Mounts=[{"destination": d, "type": t, "source": s, "options": o} for d, t, s, o in fixed + list(mounts)],
            Linux={"CgroupsPath": cgroup if cgroup is not None else "%s/%s" % (self.daemon.cgroup, container),
                   "Namespaces": [{"Type": t} for t in ("ipc", "uts", "mount")], "Resources": {}})

    def create(self, container, *args, terminal=False, process=None, cgroup=None, mounts=(), **fields):
        p = process or self.process(*args, terminal=terminal)
        self.CreateContainer(container_id=container, exec_id=container, OCI=self.spec(container, p, cgroup, mounts), **fields)

    def run(self, container, *args, **fields):
        self.create(container, *args, **fields)
        self.StartContainer(container_id=container)

    def exec(self, container, exec_id, *args, process=None, **fields):
        self.ExecProcess(container_id=container, exec_id=exec_id, process=process or self.process(*args, **fields))

    def output(self, container, exec_id="", stream="ReadStdout", length=32768):
        """All of it, read as the shim does: until nothing comes."""
        data = b""
        while True:
            piece = getattr(self, stream)(container_id=container, exec_id=exec_id, len=length).data
            if not piece:
                return data
            data += piece

    def wait(self, container, exec_id=""):
        return self.WaitProcess(container_id=container, exec_id=exec_id).status

    def remove(self, container):
        self.SignalProcess(container_id=container, signal=9)
        self.RemoveContainer(container_id=container)
