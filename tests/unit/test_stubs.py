"""Python's stubs of the public interfaces load, each age of containerd's API in a process of its own."""

import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import bulkhead as bh


def load(folders):
    """Every file of the folders in this process."""
    proto = os.path.join(bh.TOP, "proto")
    files = [os.path.relpath(p, proto) for folder in folders for p in sorted(glob.glob(os.path.join(proto, folder, "*")))]
    bh.stubs_of(*files)


def main():
    tap = bh.Tap()
    for folders in (["containerd", "cri", "kata", "oci", "health", "internal"], ["containerd_seed", "cri_seed"]):
        run = subprocess.run([sys.executable, __file__] + folders, capture_output=True, text=True)
        tap.check(run.returncode == 0, "loaded into one process: " + ", ".join(folders), run.stderr)

    tasks, tasks_grpc = bh.stubs_of("containerd/tasks.proto")
    request = tasks.UpdateTaskRequest(container_id="c")
    request.resources.type_url = "u"
    tap.check(request.SerializeToString() == b"\x0a\x01c\x12\x03\x0a\x01u", "a message with one of Google's in it")
    tap.check(hasattr(tasks_grpc, "TasksStub"), "stubs of a service")
    tap.done()


if len(sys.argv) > 1:
    load(sys.argv[1:])
else:
    main()
