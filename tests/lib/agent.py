"""The daemon as a Kata agent, in the namespaces of the test: the machine's own are never touched."""

import os

import bulkhead as bh
import ttrpc_client as ttrpc


class Agent(bh.Daemon):
    """bulkheadd in its mode "agent" on a unix socket, with a /sys that is a folder."""

    def __init__(self, folder, settings=()):
        super().__init__(folder, cni=False, settings=settings)
        self.kata = os.path.join(folder, "kata")
        self.sys = os.path.join(folder, "sys")
        self.path = os.path.join(self.run, "agent.sock")
        os.makedirs(self.sys, exist_ok=True)

    def keys(self):
        return {"mode": "agent", "run_root": self.run, "state_root": self.state, "endpoint.agent.socket": self.path,
                "agent_run_root": self.kata, "agent_sysfs": self.sys, "cgroup_parent": self.cgroup}

    def ready(self, seconds=10):
        """Whether Health.Check comes back with SERVING."""
        def up():
            if self.process.poll() is not None:
                return False
            try:
                return self.health().Check().status == 1
            except (OSError, ttrpc.Error, TimeoutError):
                return False
        return bool(bh.wait_for(up, seconds))

    def health(self):
        return ttrpc.Service(ttrpc.Connection.unix(self.path), bh.stubs_of("kata/health.proto")[0], "Health")

    def service(self):
        """grpc.AgentService, on a connection of its own."""
        return ttrpc.Service(ttrpc.Connection.unix(self.path), bh.stubs_of("kata/agent.proto")[0], "AgentService")

    def file(self, name, text=""):
        """Makes a file of the /sys that is a folder; its path."""
        path = os.path.join(self.sys, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path
