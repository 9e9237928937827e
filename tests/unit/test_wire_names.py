"""The public .proto files say what a peer sees, and none of it changes by accident: wire_names.txt has it all."""

import difflib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh

PINNED = os.path.join(bh.TOP, "tests", "unit", "wire_names.txt")


def by_file(text):
    """The listing's blocks by the name that each begins with."""
    return {block.split(":", 1)[0]: block for block in text.strip().split("\n\n")}


def main():
    tap = bh.Tap()
    run = subprocess.run([os.path.join(bh.TOP, "tools", "wire-names")], capture_output=True, text=True)
    tap.check(run.returncode == 0 and run.stderr == "", "the files compile without a warning", run.stderr)
    with open(PINNED) as f:
        pinned = by_file(f.read())
    now = by_file(run.stdout)
    for name in sorted(pinned.keys() | now.keys()):
        diff = difflib.unified_diff(pinned.get(name, "").splitlines(), now.get(name, "").splitlines(),
                                    "wire_names.txt", "proto/" + name, lineterm="", n=2)
        tap.check(pinned.get(name) == now.get(name), name + " is the wire that it was",
                  "\n".join(diff) + "\nIf this is meant: tools/wire-names >tests/unit/wire_names.txt")
    tap.done()


main()
