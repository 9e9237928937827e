"""A virtual machine whose init is the agent: QEMU without KVM, Debian's cloud kernel (tools/guest-kernel), our initrd."""

import glob
import os
import shutil
import socket
import subprocess
import time

import bulkhead as bh
import ttrpc_client as ttrpc

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
KERNEL = os.path.join(TOP, "build", "guest", "boot", "vmlinux")
AGENT = os.path.join(TOP, "build", "agent")
INITRD = os.path.join(AGENT, "initrd.cpio")
UML = os.path.join(TOP, "build", "uml", "usr", "bin", "linux.uml")
UML_INITRD = os.path.join(AGENT, "initrd-uml.cpio")
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
SHARED = "/run/kata-containers/shared/containers"
MEMORY = "256M"


def settings(initrd=INITRD):
    """Of a daemon that has the runtime handler "vm"."""
    return ["vm_kernel=" + os.path.abspath(KERNEL), "vm_initrd=" + os.path.abspath(initrd), "vm_accel=tcg",
            "vm_virtiofsd=" + VIRTIOFSD]


def uml_settings(initrd=UML_INITRD):
    return ["vm_vmm=uml", "vm_uml=" + os.path.abspath(UML), "vm_initrd=" + os.path.abspath(initrd),
            "vm_virtiofsd=" + VIRTIOFSD]


def missing():
    """Why none can be had here, or None."""
    if not shutil.which("qemu-system-x86_64"):
        return "there is no qemu-system-x86_64"
    return absent((KERNEL, "tools/guest-kernel"), (INITRD, "make initrd"), (VIRTIOFSD, "qemu-system-common"))


def uml_missing():
    """The same of user-mode Linux."""
    if os.uname().machine != "x86_64":
        return "user-mode Linux is for x86-64"
    return absent((UML, "tools/guest-kernel"), (UML_INITRD, "make initrd"), (VIRTIOFSD, "qemu-system-common"))


def absent(*files):
    for path, maker in files:
        if not os.path.exists(path):
            return "%s isn't there (%s)" % (os.path.basename(path), maker)
    return None


class Vm:
    """folder/shared is the guest's share "kataShared", folder/agent.sock its agent's port."""

    def __init__(self, folder, parameters="", initrd=INITRD):
        self.folder, self.parameters, self.initrd = folder, parameters, initrd
        self.shared, self.console, self.path = (os.path.join(folder, n) for n in ("shared", "console", "agent.sock"))
        self.files_path = os.path.join(folder, "files.sock")
        self.files = self.process = None
        os.makedirs(self.shared, exist_ok=True)

    def log(self):
        """What the guest has said on its console."""
        try:
            with open(self.console, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def start(self):
        """Returns before the guest has."""
        self.files = subprocess.Popen([VIRTIOFSD, "--socket-path=" + self.files_path, "-o", "source=" + self.shared,
                                       "-o", "sandbox=chroot", "-o", "xattr", "-o", "cache=auto"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not bh.wait_for(lambda: os.path.exists(self.files_path)):
            raise RuntimeError("virtiofsd doesn't listen")
        line = "console=ttyS0 quiet tsc=reliable no_timer_check panic=-1 agent.server_addr=serial:///dev/virtio-ports/agent.0 "
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "q35,memory-backend=mem", "-accel", "tcg", "-cpu", "max", "-smp", "1",
             "-m", MEMORY, "-object", "memory-backend-memfd,id=mem,size=%s,share=on" % MEMORY, "-nodefaults",
             "-no-user-config", "-no-reboot", "-display", "none", "-serial", "file:" + self.console,
             "-kernel", KERNEL, "-initrd", self.initrd, "-append", line + self.parameters,
             "-chardev", "socket,id=agent,path=%s,server=on,wait=off" % self.path, "-device", "virtio-serial-pci",
             "-device", "virtserialport,chardev=agent,name=agent.0",
             "-chardev", "socket,id=files,path=" + self.files_path,
             "-device", "vhost-user-fs-pci,chardev=files,tag=kataShared"], stdin=subprocess.DEVNULL)
        return self

    def connect(self):
        """A connection of the port. There is one at a time, so the one before must be closed."""
        s = socket.socket(socket.AF_UNIX)
        if not bh.wait_for(lambda: self.process.poll() is not None or s.connect_ex(self.path) == 0):
            raise RuntimeError("QEMU doesn't listen")
        return ttrpc.Connection(s)

    def ready(self, seconds=120):
        """A connection on which the agent has said that it serves. What is sent before the guest has opened the port
        waits for it."""
        c = self.connect()
        health = ttrpc.Service(c, bh.stubs_of("kata/health.proto")[0], "Health")
        status = health.start_Check().result(seconds).status
        if status != 1:
            raise RuntimeError("Health.Check says %d" % status)
        return c

    def ended(self, seconds=60):
        """Whether QEMU has ended by itself, because the guest has turned itself off."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        return self.process.poll() == 0

    def kill(self):
        for p in (self.process, self.files):
            if p and p.poll() is None:
                p.kill()
                p.wait()


def modules():
    return glob.glob(os.path.join(TOP, "build", "guest", "lib", "modules", "*"))[0]


def uml_modules():
    return (glob.glob(os.path.join(TOP, "build", "uml", "usr", "lib", "uml", "modules", "*")) or [""])[0]


def initrd(folder, files, kernel=None):
    """An initrd with more in it: {path there: file here}; kernel: its modules."""
    out = os.path.join(folder, "initrd.cpio")
    kernel = kernel or modules()
    command = [os.path.join(AGENT, "bulkhead-initrd"), "-m", kernel, "-l", "virtio_pci virtio_console virtio_net virtiofs overlay"]
    for there, here in files.items():
        command += ["-a", "%s=%s" % (there, here)]
    subprocess.run(command + [os.path.join(AGENT, "bulkhead-agent"), out], check=True)
    return out


class Net:
    """A network namespace of the client's: eth0 with an address, and its other end on the host."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "100000"])
        bh.wait_for(lambda: bh.namespace(self.holder.pid, "net") not in (None, bh.namespace(1, "net")))
        self.path = "/proc/%d/ns/net" % self.holder.pid
        self.here("ip link add vmhost type veth peer name eth0 netns %d" % self.holder.pid)
        self.here("ip addr add 10.232.0.1/24 dev vmhost")
        self.here("ip link set vmhost up")
        for command in ("ip link set lo up", "ip addr add 10.232.0.2/24 dev eth0", "ip link set eth0 up",
                        "ip route add default via 10.232.0.1"):
            self.there(*command.split())

    def here(self, command):
        subprocess.run(command.split(), check=True)

    def there(self, *command):
        return subprocess.run(["nsenter", "--target", str(self.holder.pid), "--net"] + list(command), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)

    def close(self):
        self.holder.kill()
        self.holder.wait()


def heard(call):
    """The first line that somebody says to a port here, which call is told, and who does."""
    with socket.socket() as s:
        s.bind(("", 0))
        s.listen()
        s.settimeout(60)
        call(s.getsockname()[1])
        try:
            connection, peer = s.accept()
            with connection:
                return connection.recv(100), peer[0]
        except OSError as e:
            return e


def run(tap, body, files=None, more=None):
    """body(daemon), of one that has the runtime handler "vm"; skipped where no virtual machine can be had. files are in its
    initrd, too; more(folder) gives further settings."""
    reason = missing()
    if reason:
        tap.skip("a virtual machine", reason)
        tap.done()
        return
    with bh.Scratch() as folder:
        of = settings(initrd(folder, files) if files else INITRD) + (more(folder) if more else [])
        d = bh.Daemon(folder, settings=of).start()
        try:
            body(d)
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.stop()
            d.remove_cgroups()
    tap.done()
