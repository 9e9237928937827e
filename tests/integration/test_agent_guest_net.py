"""The agent's network calls, in a network namespace of the test's own: interfaces, routes, neighbours, iptables."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh
import ttrpc_client as ttrpc
from agent import Agent

bh.isolate()
tap = bh.Tap()


def ip(*args):
    out = subprocess.run(["ip", "-j"] + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return json.loads(out.stdout or "[]")


def run(*args):
    subprocess.run(args, check=True)


def link(name):
    found = ip("addr", "show", "dev", name)
    return found[0] if found else {}


def addresses(name):
    return sorted("%s/%d" % (a["local"], a["prefixlen"]) for a in link(name).get("addr_info", [])
                  if a["scope"] != "link")


def fails(name, code, text, function, *args, **kwargs):
    e = ttrpc.error_of(function, *args, **kwargs)
    tap.check(e and e.code == code and text in e.message, "%s is %s" % (name, code), e)


def addr(text, mask, family=0):
    return {"family": family, "address": text, "mask": mask}


def test_interface(agent):
    run("ip", "link", "add", "tap0", "address", "02:00:00:00:00:01", "type", "bridge")
    run("ip", "addr", "add", "192.0.2.77/24", "dev", "tap0")
    wanted = dict(name="eth0", hwAddr="02:00:00:00:00:01", mtu=1400,
                  IPAddresses=[addr("10.9.0.2", "16"), addr("fd00::2", "64", 1)])
    reply = agent.UpdateInterface(interface=wanted)
    eth0 = link("eth0")
    tap.check(reply.name == "eth0" and reply.mtu == 1400, "UpdateInterface: the interface comes back", reply)
    tap.check(not link("tap0") and eth0.get("mtu") == 1400 and "UP" in eth0["flags"],
              "UpdateInterface: it is found by its MAC, has its name and MTU, and is up", eth0)
    tap.check(addresses("eth0") == ["10.9.0.2/16", "fd00::2/64"], "UpdateInterface: its addresses replace those before",
              addresses("eth0"))
    agent.UpdateInterface(interface=wanted)
    tap.check(addresses("eth0") == ["10.9.0.2/16", "fd00::2/64"], "UpdateInterface: once more changes nothing",
              addresses("eth0"))
    run("ip", "link", "add", "eth7", "address", "02:00:00:00:00:07", "type", "bridge")
    run("ip", "link", "set", "eth7", "up")
    agent.UpdateInterface(interface=dict(name="eth0", hwAddr="02:00:00:00:00:07"))
    tap.check(link("eth0").get("address") == "02:00:00:00:00:07" and link("eth7").get("address") == "02:00:00:00:00:01"
              and "UP" in link("eth7")["flags"], "UpdateInterface: a name that is taken is exchanged", link("eth7"))
    agent.UpdateInterface(interface=wanted)
    tap.check(link("eth0").get("address") == "02:00:00:00:00:01", "UpdateInterface: and back")
    agent.UpdateInterface(interface=dict(name="eth7", hwAddr="02:00:00:00:00:99", raw_flags=0x80))
    tap.check(link("eth7").get("address") == "02:00:00:00:00:99" and "NOARP" in link("eth7")["flags"],
              "UpdateInterface: found by its name, its MAC is set, and no ARP", link("eth7"))


def test_interface_errors(agent):
    fails("UpdateInterface without an interface", "INVALID_ARGUMENT", "no interface", agent.UpdateInterface)
    for what, text, i in [
            ("with a MAC that is none", "02:00", dict(name="eth0", hwAddr="02:00")),
            ("with a name that is none", "a/b", dict(name="a/b", hwAddr="02:00:00:00:00:01")),
            ("with neither", "neither", dict(mtu=1)),
            ("with an address that is none", "10.9.0", dict(name="eth0", IPAddresses=[addr("10.9.0", "16")])),
            ("with a mask that is none", "255.255", dict(name="eth0", IPAddresses=[addr("10.9.0.2", "255.255.0.0")])),
            ("with slots that are none", "PCI slots", dict(name="eth0", devicePath="02/zz"))]:
        fails("UpdateInterface " + what, "INVALID_ARGUMENT", text, agent.UpdateInterface, interface=i)
    tap.check(addresses("eth0") == ["10.9.0.2/16", "fd00::2/64"], "what is refused has changed nothing")
    fails("UpdateInterface of one that isn't there", "NOT_FOUND", "nothere", agent.UpdateInterface,
          interface=dict(name="nothere", hwAddr="02:00:00:00:00:55"))
    fails("UpdateInterface of a device that never comes", "NOT_FOUND", "has appeared", agent.UpdateInterface,
          interface=dict(name="eth0", devicePath="02/03"))


def test_hotplug(d, agent):
    d.file("devices/pci0000:00/0000:00:02.0/pci_bus/0000:01/x")
    d.file("devices/pci0000:00/0000:00:02.0/0000:01:03.0/virtio5/net/eth0/x")
    reply = agent.UpdateInterface(interface=dict(name="eth0", hwAddr="02:00:00:00:00:01", devicePath="02/03",
                                                 IPAddresses=[addr("10.9.0.2", "16")]))
    tap.check(reply.devicePath == "02/03", "UpdateInterface: a device at a path of PCI slots")


def test_list(agent):
    found = {i.name: i for i in agent.ListInterfaces().Interfaces}
    eth0 = found.get("eth0")
    tap.check(sorted(found) == ["eth0", "eth7", "lo"], "ListInterfaces: all of them", sorted(found))
    tap.check(eth0 and eth0.hwAddr == "02:00:00:00:00:01" and eth0.mtu == 1400 and eth0.type == "bridge" and
              ("10.9.0.2", "16") in [(a.address, a.mask) for a in eth0.IPAddresses],
              "ListInterfaces: with MAC, MTU, kind and addresses", eth0)
    tap.check(found["eth7"].raw_flags == 0x80, "ListInterfaces: with NOARP", found["eth7"])


def test_routes(agent):
    # In the wrong order: the gateway's own route comes last.
    reply = agent.UpdateRoutes(routes={"Routes": [
        dict(gateway="10.8.0.1", device="eth0"),
        dict(dest="198.51.100.0/24", gateway="10.8.0.1", device="eth0", mtu=1300),
        dict(dest="10.8.0.1", device="eth0", scope=253, source="10.9.0.2"),
        dict(dest="fd01::/64", device="eth0", family=1)]})
    routes = {(r.dest, r.gateway): r for r in reply.Routes}
    tap.check(("0.0.0.0", "10.8.0.1") in routes and ("198.51.100.0/24", "10.8.0.1") in routes and
              ("10.8.0.1/32", "") in routes and ("fd01::/64", "") in routes,
              "UpdateRoutes: those with a gateway come after it; it returns the table", reply)
    tap.check(routes[("198.51.100.0/24", "10.8.0.1")].mtu == 1300 and
              routes[("10.8.0.1/32", "")].source == "10.9.0.2" and routes[("10.8.0.1/32", "")].scope == 253,
              "UpdateRoutes: with MTU, source and scope", reply)
    agent.UpdateRoutes(routes={"Routes": [dict(dest="203.0.113.0/24", device="eth0")]})
    kernel = {r["dst"] for r in ip("route")}
    tap.check({"default", "198.51.100.0/24", "10.8.0.1", "203.0.113.0/24"} <= kernel,
              "UpdateRoutes: what is there stays", kernel)
    agent.UpdateRoutes(routes={"Routes": [dict(dest="198.51.100.0/24", gateway="10.8.0.1", device="eth0", mtu=1200)]})
    metrics = [r["metrics"][0]["mtu"] for r in ip("route") if r["dst"] == "198.51.100.0/24"]
    tap.check(metrics == [1200], "UpdateRoutes: a route to the same replaces it", metrics)
    listed = {(r.dest, r.gateway) for r in agent.ListRoutes().Routes}
    tap.check(("0.0.0.0", "10.8.0.1") in listed and ("203.0.113.0/24", "") in listed and
              all(r.device in ("eth0", "eth7") for r in agent.ListRoutes().Routes),
              "ListRoutes: the main table, both families", listed)
    fails("UpdateRoutes without routes", "INVALID_ARGUMENT", "no routes", agent.UpdateRoutes)
    fails("UpdateRoutes to what is no address", "INVALID_ARGUMENT", "10.8/x", agent.UpdateRoutes,
          routes={"Routes": [dict(dest="10.8/x", device="eth0")]})
    fails("UpdateRoutes of two families", "INVALID_ARGUMENT", "two families", agent.UpdateRoutes,
          routes={"Routes": [dict(dest="10.8.0.0/16", gateway="fd00::1", device="eth0")]})
    fails("UpdateRoutes on no interface", "NOT_FOUND", "nothere", agent.UpdateRoutes,
          routes={"Routes": [dict(dest="10.8.0.0/16", device="nothere")]})
    e = ttrpc.error_of(agent.UpdateRoutes, routes={"Routes": [dict(gateway="172.31.0.1", device="eth0")]})
    tap.check(e and "172.31.0.1" in e.message, "UpdateRoutes by a gateway that can't be reached says so", e)


def test_neighbors(agent):
    def neighbor(text):
        return {n["dst"]: n for n in ip("neigh", "show", "dev", "eth0", "nud", "all")}.get(text, {})
    agent.AddARPNeighbors(neighbors={"ARPNeighbors": [
        dict(toIPAddress=addr("10.9.0.9", ""), device="eth0", lladdr="02:00:00:00:00:09"),
        dict(toIPAddress=addr("fd00::9", "", 1), device="eth0", lladdr="02:00:00:00:00:09")]})
    tap.check(neighbor("10.9.0.9").get("lladdr") == "02:00:00:00:00:09" and
              neighbor("10.9.0.9").get("state") == ["PERMANENT"] and neighbor("fd00::9"),
              "AddARPNeighbors: permanent ones, of both families", neighbor("10.9.0.9"))
    agent.AddARPNeighbors(neighbors={"ARPNeighbors": [
        dict(toIPAddress=addr("10.9.0.9", ""), device="eth0", lladdr="02:00:00:00:00:0a", state=0x40)]})
    tap.check(neighbor("10.9.0.9").get("lladdr") == "02:00:00:00:00:0a" and
              neighbor("10.9.0.9").get("state") == ["NOARP"], "AddARPNeighbors: replaced, with a state",
              neighbor("10.9.0.9"))
    fails("AddARPNeighbors without any", "INVALID_ARGUMENT", "no neighbours", agent.AddARPNeighbors)
    fails("AddARPNeighbors without an address", "INVALID_ARGUMENT", "no address", agent.AddARPNeighbors,
          neighbors={"ARPNeighbors": [dict(device="eth0")]})
    fails("AddARPNeighbors with a MAC that is none", "INVALID_ARGUMENT", "no MAC", agent.AddARPNeighbors,
          neighbors={"ARPNeighbors": [dict(toIPAddress=addr("10.9.0.9", ""), device="eth0", lladdr="x")]})
    fails("AddARPNeighbors on no interface", "NOT_FOUND", "nothere", agent.AddARPNeighbors,
          neighbors={"ARPNeighbors": [dict(toIPAddress=addr("10.9.0.9", ""), device="nothere")]})


RULES = b"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" \
        b"-A INPUT -p tcp -m tcp --dport 4242 -j DROP\nCOMMIT\n"


def test_iptables(agent):
    e = ttrpc.error_of(agent.SetIPTables, data=RULES)
    if e and e.code == "FAILED_PRECONDITION":
        tap.skip("iptables", e.message)
        return
    tap.check(e is None, "SetIPTables: rules are restored", e)
    tap.check(b"--dport 4242 -j DROP" in agent.GetIPTables().data, "GetIPTables: they are there")
    tap.check(b"4242" not in agent.GetIPTables(is_ipv6=True).data, "GetIPTables: not for IPv6")
    agent.SetIPTables(is_ipv6=True, data=RULES.replace(b"4242", b"6666"))
    tap.check(b"6666" in agent.GetIPTables(is_ipv6=True).data and b"6666" not in agent.GetIPTables().data,
              "SetIPTables: for IPv6 alone")
    fails("SetIPTables of no rules", "INTERNAL", "restore", agent.SetIPTables, data=b"*filter\nnonsense\nCOMMIT\n")
    big = RULES.replace(b"COMMIT", b"".join(b"-A INPUT -p udp -m udp --dport %d -j DROP\n" % n for n in range(1, 4000)) +
                        b"COMMIT")
    agent.SetIPTables(data=big)
    tap.check(agent.GetIPTables().data.count(b"--dport") >= 3999, "SetIPTables: more than a pipe holds")


def main():
    with bh.Scratch() as folder:
        d = Agent(folder).start()
        agent = d.service()
        test_interface(agent)
        test_interface_errors(agent)
        test_hotplug(d, agent)
        test_list(agent)
        test_routes(agent)
        test_neighbors(agent)
        test_iptables(agent)
        d.stop()
        d.remove_cgroups()
    tap.done()


main()
