"""What the tests in Python share: namespaces of their own, a registry, images, the daemon, a gRPC client, and the
kernel's truth. Debian's python3-grpcio is the client; its stubs are made from proto/ at first use."""

import ctypes
import glob
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULKHEAD_BUILD", os.path.join(TOP, "build", "plain"))


def isolate():
    """Runs this program again in network, mount and pid namespaces of its own, where it is init's only child: whatever
    it starts dies with it, and nothing that it does to the network or to mounts is seen outside."""
    if os.environ.get("BULKHEAD_ISOLATED") == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    env = dict(os.environ, BULKHEAD_ISOLATED="1")
    cmd = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable] + sys.argv
    sys.exit(subprocess.run(cmd, env=env).returncode)


class Tap:
    """One line per check, as the other tests print them."""

    def __init__(self):
        self.count = self.failed = 0

    def check(self, condition, name, detail=""):
        self.count += 1
        self.failed += not condition
        print("%sok %d - %s" % ("" if condition else "not ", self.count, name), flush=True)
        if not condition and detail != "":
            for line in str(detail).splitlines()[:40]:
                print("#   " + line, flush=True)
        return condition

    def skip(self, name, reason):
        self.count += 1
        print("ok %d - %s # SKIP %s" % (self.count, name, reason), flush=True)

    def done(self):
        if sanitizer_reports:
            self.check(False, "the sanitisers found nothing in the daemon", "\n".join(sanitizer_reports))
        print("1..%d" % self.count, flush=True)
        sys.exit(1 if self.failed else 0)


def wait_for(condition, seconds=10, step=0.02):
    """The condition's first true value, or None."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            return None
        time.sleep(step)


# --- what a daemon built with sanitisers says in its log ---

SANITIZER = re.compile("ERROR: AddressSanitizer|ERROR: LeakSanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL")
sanitizer_reports = []


def sanitizer_collect(log_path):
    """Keeps the first report of a log, until Tap.done fails because of it."""
    with open(log_path, errors="replace") as f:
        lines = f.read().splitlines()
    for i, line in enumerate(lines):
        if SANITIZER.search(line):
            sanitizer_reports.append("\n".join(lines[i:i + 30]))
            return


# --- the gRPC client ---

def imported(names):
    """The .proto files of names and all that they import, but for Google's, which grpc_tools has."""
    todo, found = list(names), []
    while todo:
        name = todo.pop()
        if name in found or name.startswith("google/"):
            continue
        found.append(name)
        source = os.path.join(TOP, "proto", name)
        if os.path.exists(source):
            with open(source) as f:
                todo += re.findall(r'^import "(.*)";', f.read(), re.M)
    return sorted(found)


def stubs_of(*names):
    """What protoc makes of files of proto/: for each its messages and its stubs, one after the other. A process may
    load either today's API or its seed, not both: some of their messages share full names."""
    out = os.path.join(BUILD, "python")
    files = imported(names)
    sources = [s for s in (os.path.join(TOP, "proto", n) for n in files) if os.path.exists(s)]
    made = [os.path.join(out, n.replace("-", "_").replace(".proto", "_pb2_grpc.py")) for n in files]
    if not all(map(os.path.exists, made)) or min(map(os.path.getmtime, made)) < max(map(os.path.getmtime, sources)):
        os.makedirs(out, exist_ok=True)
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I" + os.path.join(TOP, "proto"), "-I/usr/include",
                        "--python_out=" + out, "--grpc_python_out=" + out] + files, check=True)
    if out not in sys.path:
        sys.path.insert(0, out)
    modules = [n.replace("/", ".").replace(".proto", kind) for n in names for kind in ("_pb2", "_pb2_grpc")]
    return [importlib.import_module(m) for m in modules]


def stubs():
    """Modules made by protoc from proto/: runtime, admin."""
    return stubs_of("cri/runtime.proto", "internal/admin.proto")


def seed_stubs():
    """Modules made by protoc from proto/cri_seed. Their descriptors' file has another name than that of the CRI."""
    return stubs_of("cri_seed/runtime.proto")


class Client:
    """Stubs of one daemon: runtime, images, admin; pb has the messages."""

    def __init__(self, path):
        import grpc
        self.pb, g, self.admin_pb, ag = stubs()
        self.channel = grpc.insecure_channel("unix://" + path, options=[
            ("grpc.max_send_message_length", 64 << 20), ("grpc.max_receive_message_length", 64 << 20),
            ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)])
        self.runtime = g.RuntimeServiceStub(self.channel)
        self.images = g.ImageServiceStub(self.channel)
        self.admin = ag.AdminStub(self.channel)

    def close(self):
        self.channel.close()


def error_of(call, *args, **kwargs):
    """The grpc.RpcError that the call ends with, or None."""
    import grpc
    try:
        call(*args, **kwargs)
    except grpc.RpcError as e:
        return e
    return None


# --- images and a registry ---

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Registry:
    """Debian's docker-registry on loopback, with its storage below a folder."""

    def __init__(self, folder, htpasswd=None):
        self.port = free_port()
        self.host = "127.0.0.1:%d" % self.port
        self.storage = os.path.join(folder, "registry")
        config = os.path.join(folder, "registry.yml")
        with open(config, "w") as f:
            f.write("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\n"
                    "  delete: {enabled: true}\nhttp: {addr: %s}\n" % (self.storage, self.host))
            if htpasswd:
                f.write("auth:\n  htpasswd: {realm: test, path: %s}\n" % htpasswd)
        self.log = open(os.path.join(folder, "registry.log"), "w")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=self.log, stderr=self.log)
        if not wait_for(self._answers, 20):
            raise RuntimeError("docker-registry doesn't answer, see " + self.log.name)

    def _answers(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.kill()
        self.process.wait()


BUSYBOX_ROOT = {"bin": 0o755, "etc": 0o755, "tmp": 0o1777, "root": 0o700, "var": 0o755, "home": 0o755}


def busybox_root(root):
    """A root file system of Debian's busybox-static."""
    for name, mode in BUSYBOX_ROOT.items():
        os.makedirs(os.path.join(root, name), exist_ok=True)
        os.chmod(os.path.join(root, name), mode)
    shutil.copy("/bin/busybox", os.path.join(root, "bin", "busybox"))
    applets = subprocess.run(["/bin/busybox", "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    for applet in applets:
        link = os.path.join(root, "bin", applet)
        if applet != "busybox" and not os.path.lexists(link):
            os.symlink("busybox", link)
    with open(os.path.join(root, "etc", "passwd"), "w") as f:
        f.write("root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/var:/bin/sh\n")
    with open(os.path.join(root, "etc", "group"), "w") as f:
        f.write("root:x:0:\nwww:x:34:\nextra:x:77:www\n")


def make_image(folder, name, prepare=busybox_root, config=()):
    """An OCI image layout with one layer, by umoci; returns skopeo's name of it."""
    layout = os.path.join(folder, "image-" + name.replace(":", "-").replace("/", "-"))
    bundle = layout + "-bundle"
    quiet = dict(check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    subprocess.run(["umoci", "init", "--layout", layout], **quiet)
    subprocess.run(["umoci", "new", "--image", layout + ":latest"], **quiet)
    subprocess.run(["umoci", "unpack", "--image", layout + ":latest", bundle], **quiet)
    prepare(os.path.join(bundle, "rootfs"))
    subprocess.run(["umoci", "repack", "--image", layout + ":latest", bundle], **quiet)
    subprocess.run(["umoci", "config", "--image", layout + ":latest", "--config.cmd", "/bin/sh"] + list(config), **quiet)
    shutil.rmtree(bundle)
    return "oci:%s:latest" % layout


def push(source, registry, name, *options):
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"] + list(options) +
                   [source, "docker://%s/%s" % (registry.host, name)], check=True, stdout=subprocess.DEVNULL)


# --- the daemon ---

CONFINED = "api", "metadata", "image", "snapshot", "stream", "task"


def seccomp(pid):
    """The mode of its filter: 2 when it has one."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return next((line.split()[1] for line in f if line.startswith("Seccomp:")), None)
    except OSError:
        return None


# What a keeper forks, by its title.
OF_POD = {"bulkhead-init": "pod-init", "bulkhead-hold": "pod-hold", "bulkhead-vm": "pod-vm",
          "bulkhead-guest-process": "pod-guest"}


class Daemon:
    """bulkheadd on roots of its own below folder. cgroups go below /bulkhead-test-PID."""

    def __init__(self, folder, cni=True, settings=()):
        self.folder = folder
        self.run = os.path.join(folder, "run")
        self.state = os.path.join(folder, "state")
        self.socket = os.path.join(self.run, "bulkhead.sock")
        self.containerd = os.path.join(self.run, "containerd.sock")
        self.logs = os.path.join(folder, "logs")
        self.cni = os.path.join(folder, "cni")
        self.cgroup = "/bulkhead-test-%d-%s" % (os.getpid(), os.path.basename(folder)[-6:])
        self.bridge = "bh" + os.path.basename(folder)[-6:].replace("_", "x").lower()
        for d in (self.run, self.state, self.logs, self.cni):
            os.makedirs(d, exist_ok=True)
        if cni:
            self.write_cni()
        self.settings = list(settings)
        self.program = os.path.join(BUILD, "bulkheadd")
        self.process = None
        self.log_path = os.path.join(folder, "daemon.log")

    def write_cni(self):
        plugins = [{"type": "bridge", "bridge": self.bridge, "isGateway": True, "ipMasq": True, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.231.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": os.path.join(self.folder, "ipam")}}, {"type": "portmap", "capabilities": {"portMappings": True}}]
        with open(os.path.join(self.cni, "10-test.conflist"), "w") as f:
            json.dump({"cniVersion": "1.0.0", "name": "test", "plugins": plugins}, f)

    def keys(self):
        """The configuration."""
        return {"run_root": self.run, "state_root": self.state, "endpoint.cri.socket": self.socket,
                "endpoint.containerd.socket": self.containerd,
                "cni_conf_dir": self.cni, "cni_cache_dir": os.path.join(self.folder, "cni-cache"), "cgroup_parent": self.cgroup,
                "certs_dir": os.path.join(self.folder, "certs.d"),
                "cni_bin_dirs": os.path.join(self.folder, "cni-bin") + ":/usr/lib/cni"}

    def start(self, wait=True, before=None):
        """before: what the process calls that becomes the daemon."""
        command = [self.program, "-c", "/dev/null"]
        for key, value in self.keys().items():
            command += ["--set", "%s=%s" % (key, value)]
        for setting in self.settings:
            command += ["--set", setting]
        self.log = open(self.log_path, "a")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        preexec_fn=before)
        if wait and not self.ready():
            raise RuntimeError("the daemon doesn't answer:\n" + self.log_tail())
        return self

    def ready(self, seconds=10):
        """Whether Status comes back with the runtime ready: then every worker is up."""
        import grpc
        client = Client(self.socket)
        pb = client.pb

        def up():
            if self.process.poll() is not None:
                return False
            try:
                status = client.runtime.Status(pb.StatusRequest(), timeout=2).status
                return any(c.type == "RuntimeReady" and c.status for c in status.conditions)
            except grpc.RpcError:
                return False
        try:
            answers = bool(wait_for(up, seconds))
        finally:
            client.close()
        wait_for(self.confined, seconds)
        return answers

    def confined(self):
        """Whether each worker has become what it is: namespaces of its own are there then, too. Some do so after the first
        answer."""
        found = self.processes()
        return all(seccomp(pid) == "2" for name in CONFINED for pid in found.get(name, []))

    def client(self):
        return Client(self.socket)

    def stop(self, seconds=10):
        """SIGTERM; the exit status. Containers run on."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def log_tail(self, lines=40):
        with open(self.log_path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])

    def processes(self):
        """{worker name: [pid, ...]} of the daemon's own processes; the zygote is "keeper". Its copies under a pod's name
        are "pod-keeper", and "pod-init" is process 1 of a pod that shares its pids; "pod-vm" and "pod-guest" are of a
        pod in a virtual machine. A keeper that has no pod yet comes and goes, see ahead(). What a keeper has just forked, and
        doesn't have a name of its own yet, isn't counted."""
        found, parents = {}, {}
        for pid in pids():
            try:
                exe = os.path.basename(os.readlink("/proc/%d/exe" % pid)).replace(" (deleted)", "").replace("memfd:", "")
                with open("/proc/%d/cmdline" % pid) as f:
                    title = f.read().replace("\0", " ").split()
                with open("/proc/%d/stat" % pid) as f:
                    parents[pid] = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if exe == "bulkheadd":
                found.setdefault("supervisor", []).append(pid)
            elif exe.startswith("bulkhead-"):
                name = exe[len("bulkhead-"):]
                if title[:1] == [AHEAD]:
                    continue
                if name == "keeper" and len(title) > 1:
                    name = OF_POD.get(title[0], "pod-keeper")
                found.setdefault(name, []).append(pid)
        keepers = found.get("pod-keeper", [])
        found["pod-keeper"] = [p for p in keepers if parents[p] not in keepers]
        return {name: ps for name, ps in found.items() if ps}

    def ahead(self):
        """The keeper that waits for the next pod, or None."""
        return next((p for p in pids() if comm(p) == AHEAD), None)

    def remove_cgroups(self):
        for root in cgroup_roots():
            top = root + self.cgroup
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass


def pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


AHEAD = "bulkhead-ahead"


def comm(pid):
    try:
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return None


def namespace(pid, kind):
    """What names it; None when the process is gone."""
    try:
        return os.readlink("/proc/%d/ns/%s" % (pid, kind))
    except OSError:
        return None


def cgroup_roots():
    roots = []
    with open("/proc/self/mounts") as f:
        for line in f:
            fields = line.split()
            if fields[2] in ("cgroup", "cgroup2"):
                roots.append(fields[1])
    return roots


def kernel_truth(daemon):
    """What a pod leaves in the kernel and on disk: to be equal before and after."""
    truth = {}
    with open("/proc/self/mountinfo") as f:
        truth["mounts"] = sorted(line.split()[4] for line in f)
    truth["cgroups"] = sorted(d for root in cgroup_roots() for d, _, _ in os.walk(root + daemon.cgroup)
                              if d != root + daemon.cgroup)
    links = subprocess.run(["ip", "-o", "link"], stdout=subprocess.PIPE, text=True).stdout
    truth["links"] = sorted(line.split(":")[1].strip().split("@")[0] for line in links.splitlines()
                            if daemon.bridge not in line.split(":")[1])
    nft = subprocess.run(["nft", "-j", "list", "ruleset"], stdout=subprocess.PIPE, text=True).stdout
    truth["nft elements"] = sorted(json.dumps(e) for o in (json.loads(nft)["nftables"] if nft else [])
                                   for kind in ("set", "map") for e in o.get(kind, {}).get("elem", []))
    spaces = [(namespace(p, "net"), comm(p)) for p in pids()]
    truth["netns"] = sorted({n for n, name in spaces if n and name != AHEAD})
    truth["addresses"] = sorted(os.path.basename(p) for p in glob.glob(daemon.folder + "/ipam/*/*")
                                if not os.path.basename(p).startswith(("last_reserved", "lock")))
    truth["pods"] = sorted(os.listdir(os.path.join(daemon.run, "pods"))) if os.path.isdir(daemon.run + "/pods") else []
    truth["snapshots"] = sorted(glob.glob(daemon.state + "/snapshots/*"))
    truth["keepers"] = sorted(daemon.processes().get("pod-keeper", []))
    return truth


def differences(before, after):
    def line(was, now):
        if isinstance(was, int):
            return "%d became %d" % (was, now)
        return "gone %s, new %s" % (sorted(set(was) - set(now)), sorted(set(now) - set(was)))
    return "\n".join("%s: %s" % (k, line(before[k], after[k])) for k in before if before[k] != after[k])


class Scratch:
    """A folder that is removed at the end; on a tmpfs, as /run is on a real machine."""

    def __init__(self):
        base = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.path = tempfile.mkdtemp(prefix="bulkhead-", dir=base)
        os.chmod(self.path, 0o711)

    def __enter__(self):
        return self.path

    def __exit__(self, *exc):
        for folder, _, files in os.walk(self.path):  # no links followed: images have any
            if "daemon.log" in files:
                sanitizer_collect(os.path.join(folder, "daemon.log"))
        shutil.rmtree(self.path, ignore_errors=True)


# --- a process's control groups ---

def group_of(pid):
    """{controller: path}, "" for cgroup v2."""
    with open("/proc/%d/cgroup" % pid) as f:
        return {name: path for _, names, path in (line.strip().split(":", 2) for line in f) for name in names.split(",")}


def group_value(pid, v1, v2):
    """The value of a file of the pid's control group: ("memory", "memory.limit_in_bytes"), "memory.max"."""
    groups = group_of(pid)
    for place in ("/sys/fs/cgroup/%s%s/%s" % (v1[0], groups.get(v1[0]), v1[1]), "/sys/fs/cgroup%s/%s" % (groups.get(""), v2),
                  "/sys/fs/cgroup/unified%s/%s" % (groups.get(""), v2)):
        if os.path.exists(place):
            with open(place) as f:
                return f.read().strip()
    return None


def is_frozen(pid):
    """By the kernel's word."""
    return group_value(pid, ("freezer", "freezer.state"), "cgroup.freeze") in ("FROZEN", "1")


# --- pods as the tests make them ---

def sandbox_config(client, name, network="pod", **more):
    pb = client.pb
    mode = pb.NODE if network == "host" else pb.POD
    options = pb.NamespaceOption(network=mode, pid=more.pop("pid", pb.CONTAINER), ipc=more.pop("ipc", pb.POD))
    security = pb.LinuxSandboxSecurityContext(namespace_options=options, privileged=more.pop("privileged", False))
    linux = pb.LinuxPodSandboxConfig(security_context=security, sysctls=more.pop("sysctls", {}),
                                     cgroup_parent=more.pop("cgroup_parent", ""))
    return pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name=name, uid="uid-" + name, namespace="test"),
                               hostname="" if network == "host" else name, linux=linux, **more)


def container_config(client, name, image, command, **more):
    pb = client.pb
    linux = more.pop("linux", None)
    return pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name), image=pb.ImageSpec(image=image), command=command,
                              log_path=more.pop("log_path", name + ".log"), linux=linux, **more)


# Counts in its log, and ends with 9 when it is told to.
COUNTER = ["sh", "-c", "trap 'exit 9' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done"]


class Pod:
    """A pod sandbox with containers, through the CRI."""

    def __init__(self, daemon, client, name, network="pod", **more):
        self.daemon, self.client = daemon, client
        self.config = sandbox_config(client, name, network, log_directory=daemon.logs, **more)
        self.id = client.runtime.RunPodSandbox(client.pb.RunPodSandboxRequest(config=self.config)).pod_sandbox_id
        self.containers = []

    def create(self, name, image, command, **more):
        pb = self.client.pb
        config = container_config(self.client, name, image, command, **more)
        request = pb.CreateContainerRequest(pod_sandbox_id=self.id, config=config, sandbox_config=self.config)
        id = self.client.runtime.CreateContainer(request).container_id
        self.containers.append(id)
        return id

    def run(self, name, image, command, **more):
        id = self.create(name, image, command, **more)
        self.client.runtime.StartContainer(self.client.pb.StartContainerRequest(container_id=id))
        return id

    def status(self, id, verbose=False):
        return self.client.runtime.ContainerStatus(
            self.client.pb.ContainerStatusRequest(container_id=id, verbose=verbose))

    def wait(self, id, seconds=15):
        """The status once it has exited, or None."""
        def over():
            s = self.status(id).status
            return s if s.state == self.client.pb.CONTAINER_EXITED else None
        return wait_for(over, seconds)

    def exec(self, id, *command, timeout=10):
        return self.client.runtime.ExecSync(
            self.client.pb.ExecSyncRequest(container_id=id, cmd=command, timeout=timeout))

    def log(self, name):
        """[(stream, tag, text), ...] of the container's log file."""
        with open(os.path.join(self.daemon.logs, name + ".log"), errors="replace") as f:
            return [tuple(line.rstrip("\n").split(" ", 3)[1:]) for line in f]

    def goes_on(self, name, seconds=10):
        """Whether its log grows."""
        n = len(self.log(name))
        return wait_for(lambda: len(self.log(name)) > n + 2, seconds)

    def stands_still(self, name, seconds=0.5):
        """Whether its log doesn't, when what was on its way has arrived."""
        time.sleep(0.2)
        n = len(self.log(name))
        time.sleep(seconds)
        return len(self.log(name)) == n

    def remove(self):
        pb = self.client.pb
        self.client.runtime.StopPodSandbox(pb.StopPodSandboxRequest(pod_sandbox_id=self.id))
        self.client.runtime.RemovePodSandbox(pb.RemovePodSandboxRequest(pod_sandbox_id=self.id))
