"""Tasks/Metrics of containerd's API: the kernel's own figures, by Debian's ctr and by a client made from proto/."""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh  # noqa: E402

tap = bh.Tap()
NAMESPACE = "metrics"
LIMIT = 64 << 20


def ctr(d, *args, namespace=NAMESPACE):
    p = subprocess.run(["ctr", "-a", d.containerd, "-n", namespace] + list(args), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return p.returncode, p.stdout.decode()


def pid_of(d, name):
    _, out = ctr(d, "tasks", "ls")
    return int(re.search(r"^%s +(\d+) " % name, out, re.M).group(1))


class Group:
    """The control group of a process; version as the daemon's: 1 where any controller is v1's."""

    def __init__(self, pid):
        with open("/proc/%d/cgroup" % pid) as f:
            paths = {c: line.rstrip("\n").split(":", 2)[2] for line in f for c in line.split(":")[1].split(",")}
        self.version = 1 if "memory" in paths else 2
        self.folders = {}
        with open("/proc/self/mounts") as f:
            for _, mount, kind, options, *_ in map(str.split, f):
                if kind == "cgroup2" and self.version == 2:
                    self.folders[""] = mount + paths[""]
                elif kind == "cgroup":
                    self.folders.update({c: mount + paths[c] for c in options.split(",") if c in paths})

    def read(self, controller, name):
        with open(os.path.join(self.folders[controller if self.version == 1 else ""], name)) as f:
            return f.read()

    def number(self, controller, name):
        text = self.read(controller, name).strip()
        return (1 << 64) - 1 if text == "max" else int(text)

    def lines(self, controller, name):
        return {k: int(v) for k, v in map(str.split, self.read(controller, name).splitlines())}


class Api:
    def __init__(self, d):
        import grpc
        self.pb, stubs, self.v1, _, self.v2, _ = bh.stubs_of("containerd/tasks.proto", "containerd/cgroups_v1.proto",
                                                            "containerd/cgroups_v2.proto")
        self.channel = grpc.insecure_channel("unix://" + d.containerd)
        self.tasks = stubs.TasksStub(self.channel)

    def metrics(self, *filters, namespace=NAMESPACE):
        return self.tasks.Metrics(self.pb.MetricsRequest(filters=filters), timeout=20,
                                  metadata=[("containerd-namespace", namespace)] if namespace else []).metrics

    def error(self, *filters, namespace=NAMESPACE):
        e = bh.error_of(self.metrics, *filters, namespace=namespace)
        return (e.code().name, e.details()) if e else None

    def decoded(self, metric):
        kind = {"io.containerd.cgroups.v1.Metrics": self.v1, "io.containerd.cgroups.v2.Metrics": self.v2}
        message = kind[metric.data.type_url].Metrics()
        message.ParseFromString(metric.data.value)
        return message


def table_of(text):
    return dict(re.split(r"\s+", line.strip(), maxsplit=1) for line in text.splitlines() if re.match(r"[a-z]+\.", line))


NAMES_V1 = {"pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault",
            "hierarchical_memsw_limit": "hierarchical_swap_limit"}


def name_v1(line):
    total = "total_" if line.startswith("total_") else ""
    short = line[len(total):]
    return total + NAMES_V1.get(short, short)


def differences_v1(m, g):
    """What the message says otherwise than the kernel's files."""
    found = []

    def same(name, got, wanted):
        if got != wanted:
            found.append((name, got, wanted))
    for line, value in g.lines("memory", "memory.stat").items():
        if isinstance(getattr(m.memory, name_v1(line), None), int):
            same(line, getattr(m.memory, name_v1(line)), value)
    for field, name in ("usage", "usage_in_bytes"), ("limit", "limit_in_bytes"), ("max", "max_usage_in_bytes"):
        same(name, getattr(m.memory.usage, field), g.number("memory", "memory." + name))
    same("cpuacct.usage", m.cpu.usage.total, g.number("cpuacct", "cpuacct.usage"))
    same("percpu", list(m.cpu.usage.per_cpu), list(map(int, g.read("cpuacct", "cpuacct.usage_percpu").split())))
    for line, value in g.lines("memory", "memory.oom_control").items():
        same(line, getattr(m.memory_oom_control, line), value)
    if "pids" in g.folders:
        same("pids.current", m.pids.current, g.number("pids", "pids.current"))
        limit = g.number("pids", "pids.max")
        same("pids.max", m.pids.limit, limit if limit < (1 << 64) - 1 else 0)
    return found


def differences_v2(m, g):
    found = []

    def same(name, got, wanted):
        if got != wanted:
            found.append((name, got, wanted))
    for line, value in g.lines("memory", "memory.stat").items():
        if line in m.memory.DESCRIPTOR.fields_by_name:
            same(line, getattr(m.memory, line), value)
    for line, value in g.lines("cpu", "cpu.stat").items():
        if line in m.cpu.DESCRIPTOR.fields_by_name:
            same(line, getattr(m.cpu, line), value)
    for line, value in g.lines("memory", "memory.events").items():
        if line in m.memory_events.DESCRIPTOR.fields_by_name:
            same(line, getattr(m.memory_events, line), value)
    same("memory.current", m.memory.usage, g.number("memory", "memory.current"))
    same("memory.max", m.memory.usage_limit, g.number("memory", "memory.max"))
    same("pids.current", m.pids.current, g.number("pids", "pids.current"))
    same("pids.max", m.pids.limit, g.number("pids", "pids.max"))
    return found


def test_figures(d, api):
    g = Group(pid_of(d, "one"))
    compare = differences_v1 if g.version == 1 else differences_v2
    last = [None]

    def equal():
        metrics = api.metrics("id==one")
        m = api.decoded(metrics[0])
        used = m.memory.usage.usage and m.cpu.usage.total if g.version == 1 else m.memory.usage and m.cpu.usage_usec
        last[0] = compare(m, g) or (None if used else "nothing used")
        return len(metrics) == 1 and metrics[0].id == "one" and not last[0]
    tap.check(bh.wait_for(equal, seconds=5, step=0.1), "figures are those of the kernel's files, cgroup v%d" % g.version,
              last[0])
    status, out = ctr(d, "tasks", "metrics", "one")
    table = table_of(out)
    limit = table.get("memory.limit_in_bytes" if g.version == 1 else "memory.usage_limit")
    tap.check(status == 0 and limit == str(LIMIT) and table.get("pids.current") == "1", "ctr tasks metrics", out)
    status, out = ctr(d, "tasks", "metrics", "--format", "json", "one")
    try:
        memory = json.loads(out)["memory"]
        shown = memory["usage"]["limit"] if g.version == 1 else memory["usage_limit"]
    except (ValueError, KeyError) as e:
        shown = repr(e)
    tap.check(status == 0 and shown == LIMIT, "ctr tasks metrics --format json", (shown, out))


def test_filters(api):
    def ids(*filters, **more):
        return sorted(m.id for m in api.metrics(*filters, **more))
    for filters, wanted in (((), ["one", "two"]), (("id==two",), ["two"]), (("id==one", "id==two"), ["one", "two"]),
                            (("id!=one",), ["two"]), (("id~=/^t/",), ["two"]), (("id==one,id==two",), []),
                            (("namespace==%s" % NAMESPACE,), ["one", "two"]), (("namespace==other",), []),
                            (("id==three",), []), (("id==one,namespace==other",), [])):
        tap.check(ids(*filters) == wanted, "filters %s" % (filters,), ids(*filters))
    tap.check(ids(namespace="other") == [], "another namespace has none")
    tap.check((api.error("id==") or [""])[0] == "INVALID_ARGUMENT", "a filter without a value is refused", api.error("id=="))
    tap.check((api.error(namespace="") or [""])[0] == "INVALID_ARGUMENT", "a namespace is required", api.error(namespace=""))


def test_stopped(d, api):
    ctr(d, "tasks", "kill", "-s", "SIGKILL", "one")
    tap.check(bh.wait_for(lambda: [m.id for m in api.metrics()] == ["two"]), "what has ended has no figures")
    status, out = ctr(d, "tasks", "metrics", "one")
    tap.check(status != 0 and "no metrics received" in out, "ctr says so", out)


def main():
    bh.isolate()
    if bh.shutil.which("ctr") is None:
        tap.skip("figures of tasks", "no ctr (Debian's package containerd)")
        tap.done()
    with bh.Scratch() as folder:
        d = bh.Daemon(folder).start()
        root = os.path.join(folder, "rootfs")
        bh.busybox_root(root)
        try:
            for name in "one", "two":
                status, out = ctr(d, "run", "-d", "--memory-limit", str(LIMIT), "--cgroup", d.cgroup + "/" + name,
                                  "--rootfs", root, name, "/bin/sleep", "1000")
                tap.check(status == 0, "ctr run -d %s" % name, out)
            api = Api(d)
            test_figures(d, api)
            test_filters(api)
            test_stopped(d, api)
            for name in "one", "two":
                ctr(d, "tasks", "kill", "-s", "SIGKILL", name)
                ctr(d, "tasks", "rm", "-f", name)
                ctr(d, "containers", "rm", name)
            api.channel.close()
        finally:
            if tap.failed:
                print("# the daemon's log:\n" + "".join("# " + line + "\n" for line in d.log_tail(60).splitlines()))
            d.stop()
            d.remove_cgroups()
    tap.done()


main()
