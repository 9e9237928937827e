"""The daemon as an agent: which processes it has, and what it does to its guest: details, metrics, CPUs and memory (on a
/sys that is a folder), clock, swap, random numbers, files, volumes, mounts. What is the machine's and has no namespace
is not changed: the clock is asked for times that the kernel refuses, swap is asked for devices that can't be swapped to,
and the random numbers get what the machine itself has made up."""

import os
import signal
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import ttrpc_client as ttrpc
from agent import Agent

bh.isolate()
tap = bh.Tap()


def fails(name, code, text, function, *args, **kwargs):
    e = ttrpc.error_of(function, *args, **kwargs)
    tap.check(e and e.code == code and text in e.message, "%s is %s" % (name, code), e)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def test_processes(d):
    names = sorted(d.processes())
    tap.check(names == ["api", "guest", "keeper", "metadata", "supervisor", "task"],
              "an agent has no image, snapshot or stream worker", names)
    tap.check(not os.path.exists(d.state + "/content") and not os.path.exists(d.state + "/layers"),
              "nor their folders", os.listdir(d.state))
    tap.check(os.path.isdir(d.kata), "agent_run_root is made")


def test_deaths(d, agent):
    first = d.processes()["guest"]
    os.kill(first[0], signal.SIGKILL)
    tap.check(agent.GetGuestDetails().agent_details.version != "", "the guest worker's death: calls wait for its successor")
    tap.check(d.processes()["guest"] != first, "the guest worker is replaced")


def test_details(d, agent):
    reply = agent.GetGuestDetails(mem_block_size=True, mem_hotplug_probe=True)
    tap.check(reply.mem_block_size_bytes == 0 and not reply.support_mem_hotplug_probe,
              "GetGuestDetails: neither blocks nor probe", reply)
    d.file("devices/system/memory/block_size_bytes", "8000000\n")
    d.file("devices/system/memory/probe")
    reply = agent.GetGuestDetails(mem_block_size=True, mem_hotplug_probe=True)
    tap.check(reply.mem_block_size_bytes == 0x8000000 and reply.support_mem_hotplug_probe,
              "GetGuestDetails: the size of blocks, and the probe", reply)
    a = reply.agent_details
    tap.check(a.version and not a.init_daemon and a.supports_seccomp and "virtio-fs" in a.storage_handlers and
              "ephemeral" in a.storage_handlers and "9p" not in a.storage_handlers and "blk" in a.device_handlers,
              "GetGuestDetails: the agent's own", a)
    reply = agent.GetGuestDetails()
    tap.check(reply.mem_block_size_bytes == 0 and not reply.support_mem_hotplug_probe,
              "GetGuestDetails: only what was asked for")


METRICS = ["kata_agent_scrape_count", "kata_agent_threads", "kata_agent_total_time", "kata_agent_total_vm",
           "kata_agent_total_rss", "kata_agent_proc_status", "kata_agent_io_stat", "kata_agent_proc_stat",
           "kata_guest_load", "kata_guest_tasks", "kata_guest_cpu_time", "kata_guest_vm_stat",
           "kata_guest_netdev_stat", "kata_guest_diskstat", "kata_guest_meminfo", "kata_guest_filesystem_bytes",
           "kata_guest_filesystem_inodes"]


def parse(text):
    """{metric: {labels: value}} of Prometheus' text form; what isn't of that form is an error."""
    found, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            types[line.split()[2]] = line.split()[3]
        if line.startswith("#"):
            continue
        name, value = line.rsplit(" ", 1)
        labels = ""
        if "{" in name:
            name, labels = name.split("{", 1)
            assert labels.endswith("}")
        assert types[name] == "gauge"
        assert labels not in found.setdefault(name, {}), line
        found[name][labels] = float(value)
    return found


def test_metrics(agent):
    first = parse(agent.GetMetrics().metrics)
    second = parse(agent.GetMetrics().metrics)
    missing = [m for m in METRICS if m not in second]
    tap.check(not missing, "GetMetrics: all of Kata's", missing)
    count = [m["kata_agent_scrape_count"][""] for m in (first, second)]
    tap.check(count[1] == count[0] + 1, "GetMetrics: counts how often it was asked", count)
    total = second["kata_guest_meminfo"]['item="memtotal"}']
    with open("/proc/meminfo") as f:
        kernel = int(f.readline().split()[1]) * 1024
    tap.check(total == kernel, "GetMetrics: memory is the kernel's, in bytes", (total, kernel))
    tap.check(second["kata_agent_total_rss"][""] > 1 << 20 and second["kata_agent_threads"][""] >= 6,
              "GetMetrics: the agent's own memory and threads", second["kata_agent_total_rss"])
    tap.check(any('path="/proc"' in k or 'path="/"' in k for k in second["kata_guest_filesystem_bytes"]) and
              'interface="lo",item="recv_bytes"}' in second["kata_guest_netdev_stat"],
              "GetMetrics: file systems and interfaces by name")


def test_hotplug(d, agent):
    cpus = [d.file("devices/system/cpu/cpu%d/online" % n, state) for n, state in [(1, "1\n"), (2, "0\n"), (3, "0\n")]]
    d.file("devices/system/cpu/cpu0/topology")
    d.file("devices/system/cpu/cpufreq/online", "0\n")
    memory = d.file("devices/system/memory/memory32/online", "0\n")
    agent.OnlineCPUMem(nb_cpus=3, cpu_only=True)
    states = [read(c)[:1] for c in cpus]
    tap.check(sorted(states) == [b"0", b"1", b"1"] and states[0] == b"1", "OnlineCPUMem: as many as are wanted in all",
              states)
    tap.check(read(memory) == b"0\n", "OnlineCPUMem: cpu_only leaves the memory")
    agent.OnlineCPUMem(nb_cpus=4)
    tap.check([read(c)[:1] for c in cpus] == [b"1"] * 3 and read(memory)[:1] == b"1", "OnlineCPUMem: and the memory")
    tap.check(read(d.sys + "/devices/system/cpu/cpufreq/online") == b"0\n", "OnlineCPUMem: nothing but CPUs")
    begin = time.monotonic()
    fails("OnlineCPUMem of more than there are", "INTERNAL", "4 of 9 CPUs", agent.OnlineCPUMem, nb_cpus=9)
    tap.check(4 < time.monotonic() - begin < 15, "after some seconds")
    probe = d.sys + "/devices/system/memory/probe"
    agent.MemHotplugByProbe(memHotplugProbeAddr=[0x140000000])
    tap.check(read(probe) == b"0x140000000", "MemHotplugByProbe: the address goes to the kernel", read(probe))
    os.unlink(probe)
    fails("MemHotplugByProbe without a probe", "FAILED_PRECONDITION", "probe", agent.MemHotplugByProbe,
          memHotplugProbeAddr=[1])


def test_machine(agent):
    now = time.time()
    fails("SetGuestDateTime before the epoch", "INVALID_ARGUMENT", "no time", agent.SetGuestDateTime, Sec=-1)
    fails("SetGuestDateTime with a second of microseconds", "INVALID_ARGUMENT", "no time", agent.SetGuestDateTime, Sec=1,
          Usec=1000000)
    # It goes as far as the kernel: no clock can be before the time since boot.
    e = ttrpc.error_of(agent.SetGuestDateTime, Sec=0)
    tap.check(e and e.code == "INVALID_ARGUMENT" and "set it" in e.message,
              "SetGuestDateTime: the kernel refuses a time before its boot", e)
    tap.check(abs(time.time() - now) < 60, "the machine's clock is what it was")
    fails("ReseedRandomDev without data", "INVALID_ARGUMENT", "1 to", agent.ReseedRandomDev)
    agent.ReseedRandomDev(data=os.urandom(512))
    tap.check(True, "ReseedRandomDev: the kernel takes it")
    fails("AddSwapPath of no device", "INVALID_ARGUMENT", "no device", agent.AddSwapPath, path="/etc/passwd")
    fails("AddSwapPath of what is no block device", "INVALID_ARGUMENT", "no block device", agent.AddSwapPath,
          path="/dev/null")
    fails("AddSwapPath of one that never comes", "NOT_FOUND", "has appeared", agent.AddSwapPath, path="/dev/vdzz")
    fails("AddSwap of slots that are none", "INVALID_ARGUMENT", "PCI slots", agent.AddSwap, PCIPath=[99])
    fails("AddSwap of one that never comes", "NOT_FOUND", "02/05", agent.AddSwap, PCIPath=[2, 5])


def test_swap(d, agent, folder):
    """A device that holds no swap space: the kernel reads it, and refuses."""
    image = folder + "/noswap"
    with open(image, "wb") as f:
        f.truncate(1 << 20)
    loop = subprocess.run(["losetup", "--find", "--show", image], stdout=subprocess.PIPE, text=True)
    if loop.returncode:
        tap.skip("swap", "no loop device can be made here")
        return
    device = loop.stdout.strip()
    try:
        fails("AddSwapPath of a device without swap space", "INVALID_ARGUMENT", "swap to", agent.AddSwapPath, path=device)
        d.file("devices/pci0000:00/0000:00:06.0/virtio9/block/%s/x" % os.path.basename(device))
        fails("AddSwap by its slots", "INVALID_ARGUMENT", device, agent.AddSwap, PCIPath=[6])
    finally:
        subprocess.run(["losetup", "-d", device])


# --- files ---

def file_of(d, name):
    return d.kata + "/shared/containers/" + name


def test_copy(d, agent):
    os.umask(0)
    path = file_of(d, "c1/etc/hosts")
    agent.CopyFile(path=path, file_size=5, file_mode=stat.S_IFREG | 0o640, dir_mode=0x80000000 | 0o750, uid=7, gid=8,
                   data=b"hello")
    st, above = os.stat(path), os.stat(os.path.dirname(path))
    tap.check(read(path) == b"hello" and (st.st_mode, st.st_uid, st.st_gid) == (0o100640, 7, 8),
              "CopyFile: a file with mode and owner", st)
    tap.check((above.st_mode & 0o7777, above.st_uid, above.st_gid) == (0o750, 7, 8),
              "CopyFile: its folders, of Go's mode", above)
    inode = os.stat(path).st_ino
    agent.CopyFile(path=path, file_size=10, file_mode=0o4755, data=b"12345")
    tap.check(read(path) == b"hello" and os.stat(path).st_ino == inode, "CopyFile: until it is whole the old one is there")
    agent.CopyFile(path=path, file_size=10, file_mode=0o4755, offset=5, data=b"67890")
    tap.check(read(path) == b"1234567890" and os.stat(path).st_mode == 0o104755, "CopyFile: in parts, setuid kept",
              os.stat(path).st_mode)
    agent.CopyFile(path=path, file_size=10, file_mode=0o4755, offset=5, data=b"67890")
    tap.check(read(path) == b"1234567890", "CopyFile: the last part twice")
    tap.check(os.listdir(os.path.dirname(path)) == ["hosts"], "CopyFile: nothing else is left",
              os.listdir(os.path.dirname(path)))
    agent.CopyFile(path=file_of(d, "c1/empty"), file_mode=0o600)
    tap.check(read(file_of(d, "c1/empty")) == b"", "CopyFile: an empty file")
    big = os.urandom(3 << 20)
    for at in range(0, len(big), 1 << 20):
        agent.CopyFile(path=file_of(d, "c1/big"), file_size=len(big), file_mode=0o600, offset=at, data=big[at:at + (1 << 20)])
    tap.check(read(file_of(d, "c1/big")) == big, "CopyFile: three megabytes")


def test_copy_kinds(d, agent):
    folder, link = file_of(d, "c2/vol"), file_of(d, "c2/vol/link")
    agent.CopyFile(path=folder, file_mode=stat.S_IFDIR | 0o1777, uid=3, gid=4)
    st = os.stat(folder)
    tap.check((st.st_mode, st.st_uid, st.st_gid) == (stat.S_IFDIR | 0o1777, 3, 4), "CopyFile: a folder", st)
    agent.CopyFile(path=folder + "/kept", file_size=1, file_mode=0o600, data=b"x")
    agent.CopyFile(path=folder, file_mode=stat.S_IFDIR | 0o755, uid=3, gid=4)
    tap.check(os.path.exists(folder + "/kept") and os.stat(folder).st_mode == stat.S_IFDIR | 0o755,
              "CopyFile: a folder that is there keeps its files")
    agent.CopyFile(path=link, file_mode=stat.S_IFLNK | 0o777, uid=5, gid=6, data=b"kept")
    tap.check(os.readlink(link) == "kept" and os.lstat(link).st_uid == 5, "CopyFile: a link")
    agent.CopyFile(path=link, file_mode=stat.S_IFLNK | 0o777, data=b"other")
    tap.check(os.readlink(link) == "other", "CopyFile: a link is replaced")
    agent.CopyFile(path=link, file_size=1, file_mode=0o600, data=b"y")
    tap.check(not os.path.islink(link) and read(link) == b"y", "CopyFile: a link is replaced by a file, not followed")
    agent.CopyFile(path=folder, file_size=1, file_mode=0o600, data=b"z")
    tap.check(read(folder) == b"z", "CopyFile: a folder is replaced by a file")
    agent.CopyFile(path=folder, file_mode=stat.S_IFDIR | 0o755)
    tap.check(os.path.isdir(folder), "CopyFile: a file is replaced by a folder")


def test_copy_escape(d, agent, folder):
    """What a container can make of the folder that is shared with it."""
    outside = folder + "/outside"
    os.makedirs(outside)
    os.makedirs(file_of(d, "c3"))
    os.symlink(outside, file_of(d, "c3/absolute"))
    os.symlink("../../../../outside", file_of(d, "c3/relative"))
    os.symlink("/proc/self/root", file_of(d, "c3/magic"))
    os.symlink(outside + "/file", file_of(d, "c3/file"))
    for name in ("absolute", "relative", "magic"):
        e = ttrpc.error_of(agent.CopyFile, path=file_of(d, "c3/%s/x" % name), file_size=1, file_mode=0o600, data=b"x")
        tap.check(not os.listdir(outside) and not os.path.exists("/x"), "CopyFile: no escape by a link: " + name, e)
    agent.CopyFile(path=file_of(d, "c3/file"), file_size=1, file_mode=0o600, data=b"x")
    tap.check(not os.listdir(outside) and read(file_of(d, "c3/file")) == b"x", "CopyFile: no escape by the last link")
    agent.CopyFile(path=file_of(d, "c3/file"), file_mode=stat.S_IFDIR | 0o755)
    tap.check(os.stat(outside).st_mode & 0o777 == os.stat(outside).st_mode & 0o777 and os.path.isdir(file_of(d, "c3/file")),
              "CopyFile: nor by a folder in a link's place")
    for what, path in [("elsewhere", folder + "/x"), ("with ..", file_of(d, "../../../x")), ("relative", "x"),
                       ("the folder itself", d.kata + "/shared/containers"), ("with a part too many", file_of(d, "/x")),
                       ("beside it", d.kata + "/shared/containersx/y")]:
        fails("CopyFile to a path " + what, "INVALID_ARGUMENT", "no clean path", agent.CopyFile, path=path, file_size=1,
              file_mode=0o600, data=b"x")


def test_copy_errors(d, agent):
    path = file_of(d, "c4/x")
    for what, text, q in [("of a device", "no file's", dict(file_mode=stat.S_IFCHR)),
                          ("with a negative offset", "negative", dict(offset=-1)),
                          ("with a negative owner", "negative", dict(uid=-1)),
                          ("with more than its size", "more than its size", dict(file_size=1, data=b"xy")),
                          ("beyond its size", "more than its size", dict(file_size=1, offset=2)),
                          ("of a link to nothing", "write it", dict(file_mode=stat.S_IFLNK))]:
        fails("CopyFile " + what, "INVALID_ARGUMENT", text, agent.CopyFile, path=path, **q)
    fails("CopyFile from the middle", "FAILED_PRECONDITION", "offset 0", agent.CopyFile, path=path, file_size=9, offset=3,
          data=b"xyz")
    agent.CopyFile(path=path, file_size=1, file_mode=0o600, data=b"x")
    fails("CopyFile below a file", "INVALID_ARGUMENT", "folder", agent.CopyFile, path=path + "/y", file_size=0)


# --- mounts ---

def test_volumes(d, agent):
    os.makedirs(d.kata + "/vol")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=100", "tmpfs", d.kata + "/vol"], check=True)
    with open(d.kata + "/vol/file", "wb") as f:
        f.write(bytes(8192))
    reply = agent.GetVolumeStats(volume_guest_path=d.kata + "/vol")
    usage = {u.unit: (u.total, u.used, u.available) for u in reply.usage}
    tap.check(usage == {1: (1 << 20, 8192, (1 << 20) - 8192), 2: (100, 2, 98)}, "GetVolumeStats: bytes and inodes", usage)
    tap.check(not reply.volume_condition.abnormal and reply.volume_condition.message == "OK", "GetVolumeStats: and it is well")
    fails("GetVolumeStats of nothing", "NOT_FOUND", "nothing", agent.GetVolumeStats, volume_guest_path=d.kata + "/nothing")
    fails("GetVolumeStats elsewhere", "INVALID_ARGUMENT", "/etc", agent.GetVolumeStats, volume_guest_path="/etc")
    fails("ResizeVolume", "UNIMPLEMENTED", "ResizeVolume", agent.ResizeVolume, volume_guest_path=d.kata + "/vol", size=1)
    ephemeral = dict(driver="ephemeral", source="tmpfs", fstype="tmpfs", mount_point=d.kata + "/vol")
    agent.UpdateEphemeralMounts(storages=[dict(ephemeral, options=["remount", "size=2M", "fsgid=55"])])
    st = os.statvfs(d.kata + "/vol")
    tap.check(st.f_blocks * st.f_frsize == 2 << 20 and os.path.exists(d.kata + "/vol/file"),
              "UpdateEphemeralMounts: another size, the same files")
    agent.UpdateEphemeralMounts(storages=[dict(ephemeral, mount_point=d.kata + "/made/by/it")])
    tap.check(os.path.isdir(d.kata + "/made/by/it"), "UpdateEphemeralMounts: without options a folder")
    fails("UpdateEphemeralMounts of another driver", "INVALID_ARGUMENT", "not ephemeral", agent.UpdateEphemeralMounts,
          storages=[dict(ephemeral, driver="local")])
    fails("UpdateEphemeralMounts elsewhere", "INVALID_ARGUMENT", "clean path", agent.UpdateEphemeralMounts,
          storages=[dict(ephemeral, mount_point="/etc", options=["remount"])])
    agent.RemoveStaleVirtiofsShareMounts()
    tap.check(True, "RemoveStaleVirtiofsShareMounts: never fails")
    subprocess.run(["umount", d.kata + "/vol"], check=True)


def test_diagnostics(agent):
    tap.check(agent.GetDiagnosticData(log_type="termination_log", container_id="c1").data == "",
              "GetDiagnosticData: of a container without any")
    fails("GetDiagnosticData of another log", "INVALID_ARGUMENT", "dmesg", agent.GetDiagnosticData, log_type="dmesg",
          container_id="c1")
    fails("GetDiagnosticData of no id", "INVALID_ARGUMENT", "no id", agent.GetDiagnosticData, log_type="termination_log",
          container_id="../x")


def test_absent(agent):
    fails("SetPolicy", "UNIMPLEMENTED", "SetPolicy", agent.SetPolicy, policy="package x")
    fails("MemAgentMemcgSet", "UNIMPLEMENTED", "MemAgentMemcgSet", agent.MemAgentMemcgSet)
    fails("MemAgentCompactSet", "UNIMPLEMENTED", "MemAgentCompactSet", agent.MemAgentCompactSet)


def test_host(folder):
    """The same calls to a daemon that is no agent."""
    os.makedirs(folder + "/host")
    d = bh.Daemon(folder + "/host", settings=["endpoint.agent.services=agent", "endpoint.agent.protocol=ttrpc"]).start()
    agent = ttrpc.Service(ttrpc.Connection.unix(d.run + "/agent.sock"), bh.stubs_of("kata/agent.proto")[0], "AgentService")
    fails("GetGuestDetails of a daemon that is no agent", "UNIMPLEMENTED", "mode = agent", agent.GetGuestDetails)
    tap.check("guest" not in d.processes(), "a daemon that is no agent has no guest worker")
    d.stop()
    d.remove_cgroups()


def main():
    with bh.Scratch() as folder:
        d = Agent(folder).start()
        agent = d.service()
        test_processes(d)
        test_details(d, agent)
        test_metrics(agent)
        test_deaths(d, agent)
        test_hotplug(d, agent)
        test_machine(agent)
        test_swap(d, agent, folder)
        test_copy(d, agent)
        test_copy_kinds(d, agent)
        test_copy_escape(d, agent, folder)
        test_copy_errors(d, agent)
        test_volumes(d, agent)
        test_diagnostics(agent)
        test_absent(agent)
        tap.check(d.stop() == 0, "it ends when it is told to")
        d.remove_cgroups()
        test_host(folder)
    tap.done()


main()
