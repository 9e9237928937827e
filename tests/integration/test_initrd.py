"""bulkhead-initrd: what it packs, in which order a kernel's modules come, and what it refuses."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

tap = bh.Tap()


def initrd(*args):
    p = subprocess.run([os.path.join(bh.BUILD, "bulkhead-initrd")] + list(args), stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
    return p.returncode, p.stderr


def listed(path, *options):
    p = subprocess.run(["bsdtar"] + list(options) + ["-tf", path], stdout=subprocess.PIPE, text=True, check=True)
    return p.stdout.split("\n")[:-1]


def content(path, name):
    return subprocess.run(["bsdtar", "-xOf", path, name], stdout=subprocess.PIPE, text=True, check=True).stdout


def module(folder, name, depends):
    path = os.path.join(folder, name + ".ko")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(b"\x7fELF\0license=GPL\0depends=%s\0retpoline=Y\0" % depends.encode())


def test_plain(folder):
    out = os.path.join(folder, "a.cpio")
    status, text = initrd("/bin/true", out)
    tap.check(status == 0, "an initrd of an executable alone", text)
    names = listed(out)
    tap.check("init" in names and {"dev", "proc", "sys", "run"} <= set(names), "init, and what it mounts on", names)
    console = [line for line in listed(out, "-v") if line.endswith("dev/console")]
    tap.check(len(console) == 1 and console[0].startswith("crw") and "5,1" in console[0].replace(" ", ""),
              "the console's device, without root", console)
    with open("/bin/true", "rb") as f:
        same = subprocess.run(["bsdtar", "-xOf", out, "init"], stdout=subprocess.PIPE, check=True).stdout == f.read()
    tap.check(same, "init is the executable")


def test_modules(folder):
    kernel, out = os.path.join(folder, "modules"), os.path.join(folder, "b.cpio")
    module(kernel, "kernel/a/top-part", "middle,low")
    module(kernel, "kernel/b/middle", "low")
    module(kernel, "kernel/c/low", "")
    module(kernel, "kernel/c/unused", "")
    status, text = initrd("-m", kernel, "-l", "top_part builtin low", "/bin/true", out)
    order = content(out, "lib/bulkhead/modules").split()
    tap.check(status == 0 and [os.path.basename(p) for p in order] == ["low.ko", "middle.ko", "top-part.ko"],
              "each module after those that it needs, once; what the kernel has built in is left out", (text, order))
    tap.check(all(p[1:] in listed(out) for p in order), "the files are where the list says", listed(out))
    with open(os.path.join(kernel, "zipped.ko.xz"), "wb") as f:
        f.write(b"\xfd7zXZ\0")
    status, text = initrd("-m", kernel, "-l", "zipped", "/bin/true", out + "2")
    tap.check(status == 1 and "compressed" in text and not os.path.exists(out + "2"),
              "a compressed module is refused, and nothing is left", text)
    status, text = initrd("-m", kernel + "/none", "-l", "low", "/bin/true", out + "2")
    tap.check(status == 1 and kernel + "/none" in text, "a folder that isn't there is named", text)


def test_add(folder):
    out = os.path.join(folder, "c.cpio")
    status, text = initrd("-a", "/usr/bin/tool=/bin/true", "/bin/true", out)
    names = listed(out)
    tap.check(status == 0 and names.index("usr") < names.index("usr/bin") < names.index("usr/bin/tool"),
              "a file that is added, after the folders above it", (text, names))
    tap.check(initrd("-a", "tool", "/bin/true", out)[0] == 1, "a path that isn't one is refused")
    tap.check(initrd("/nowhere/agent", out)[0] == 1, "an executable that isn't there")
    tap.check(initrd()[0] == 2, "without arguments it says how it is used")


with bh.Scratch() as scratch:
    test_plain(scratch)
    test_modules(scratch)
    test_add(scratch)
tap.done()
