#!/usr/bin/python3
"""Every fuzzer for a while, as many at once as there are processors (and two at least); TAP, one line each with its
executions and its coverage.

usage: run.py           SECONDS (60) is the time of each, ONLY a part of the name of those to run
       run.py --merge   makes the committed corpora anew: about as few inputs as cover the same of the code as they
                        and what was found do

A fuzzer starts from tests/fuzz/corpus/NAME. What it finds goes to build/fuzz-clang/corpus/NAME: new inputs, and the
input of a crash, leak or time-out, so that the next run begins with it and fails until the code is mended. Then that
input belongs into tests/fuzz/corpus/NAME, under a name that says what it was: --merge keeps those."""

import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, "build", "fuzz-clang")
SECONDS = int(os.environ.get("SECONDS") or 60)
ONLY = os.environ.get("ONLY") or "fuzz_"
LIMITS = ["-rss_limit_mb=1024", "-timeout=10", "-max_len=65536"]
CORPUS_FILES, CORPUS_BYTES = 200, 200 << 10


def names():
    sources = glob.glob(os.path.join(TOP, "tests", "fuzz", "fuzz_*.c"))
    return sorted(n for n in (os.path.basename(s)[:-2] for s in sources) if ONLY in n)


def committed(name):
    return os.path.join(TOP, "tests", "fuzz", "corpus", name)


def found(name):
    folder = os.path.join(BUILD, "corpus", name)
    os.makedirs(folder, exist_ok=True)
    return folder


def run(name, options, folders, seconds):
    """libFuzzer's exit status and what it printed."""
    command = [os.path.join(BUILD, "fuzz", name)] + LIMITS + options + folders
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=seconds, cwd=TOP)
    except subprocess.TimeoutExpired as e:
        return "no end after %d s" % seconds, (e.stdout or b"").decode(errors="replace")
    return p.returncode, p.stdout.decode(errors="replace")


def fuzz(name):
    """(whether all is well, one line, what it printed)."""
    files = os.listdir(committed(name)) if os.path.isdir(committed(name)) else []
    if not files:
        return False, name + " has no corpus", ""
    status, text = run(name, ["-max_total_time=%d" % SECONDS, "-print_final_stats=1",
                              "-artifact_prefix=" + found(name) + "/"], [found(name), committed(name)], SECONDS + 60)
    executions = re.search(r"stat::number_of_executed_units: *(\d+)", text)
    coverage = re.findall(r"cov: (\d+) ft: (\d+)", text)
    if status != 0 or not executions or not coverage:
        artifact = re.search(r"Test unit written to (\S+)", text)
        return False, "%s: exit status %s%s" % (name, status, ", " + artifact.group(1) if artifact else ""), text
    return True, "%s # NOTE %s executions, %s edges, %s features, from %d inputs" % (
        (name, executions.group(1)) + coverage[-1] + (len(files),)), ""


def main():
    failed = 0
    todo = names()
    with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        for i, (good, line, text) in enumerate(pool.map(fuzz, todo), 1):
            failed += not good
            print("%sok %d - %s" % ("" if good else "not ", i, line), flush=True)
            for said in text.splitlines()[-60:]:
                print("#   " + said, flush=True)
    print("1..%d" % len(todo))
    return 1 if failed or not todo else 0


def merge():
    for name in names():
        target = os.path.join(BUILD, "merged", name)
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        # Edges alone, not how often: a fuzzer finds the counts again in a moment.
        status, text = run(name, ["-set_cover_merge=1", "-use_counters=0"], [target, committed(name), found(name)], 1800)
        files = glob.glob(target + "/*")
        if status != 0 or not files:
            sys.exit("%s: exit status %s\n%s" % (name, status, text[-3000:]))
        os.makedirs(committed(name), exist_ok=True)
        for path in glob.glob(committed(name) + "/*"):
            if re.fullmatch("[0-9a-f]{40}", os.path.basename(path)):
                os.unlink(path)
        for path in files:
            shutil.copy(path, committed(name))
        size = sum(map(os.path.getsize, files))
        print("%s: %d inputs, %d bytes" % (name, len(files), size))
        if len(files) > CORPUS_FILES or size > CORPUS_BYTES:
            sys.exit("%s: that is more than %d inputs or %d bytes" % (name, CORPUS_FILES, CORPUS_BYTES))
    return 0


sys.exit(merge() if sys.argv[1:] == ["--merge"] else main())
