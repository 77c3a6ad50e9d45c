"""Files of every kind that is read, damaged by number: each is read, or refused in one sentence.

    python -m tests.fuzz [--count 500] [--first 0] [--only jpg coco]

Prints a line for each kind: how many were read, how many refused. Whatever else happens, a traceback, a process that is
ended or hangs for 20 seconds, is named with the number of the mutation, and the exit code is 1. Each kind has a process
of its own, with 4 GB more of memory than it begins with.
"""

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from tests.fuzz.detection_labels import LABELS
from tests.fuzz.other_files import OTHERS
from tests.fuzz.subject import outcomes

KINDS = LABELS | OTHERS
HANGS_AFTER, MEMORY = 20, 4 * 2**30
FORK = multiprocessing.get_context("fork")


def watched(name: str, numbers: range) -> tuple[int, int, list[str]]:
    """How many mutations were read and refused, and what else happened."""
    counts: Any = FORK.Array("q", [numbers.start, 0, 0], lock=False)  # the present number, read, refused
    faults = []
    while counts[0] < numbers.stop:
        with tempfile.TemporaryDirectory() as folder:
            child = FORK.Process(target=_child, args=(name, Path(folder), numbers.stop, counts))
            child.start()
            child.join()
        if child.exitcode:
            how = signal.Signals(-child.exitcode).name if child.exitcode < 0 else "an error, see above"
            faults.append(f"{name} {counts[0]}: {'it hangs' if how == 'SIGALRM' else how}")
            counts[0] += 1
    return counts[1], counts[2], faults


def _child(name: str, folder: Path, stop: int, counts: Any) -> None:
    signal.alarm(60)  # until the subject is made
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    try:
        for outcome in outcomes(KINDS[name](folder), range(counts[0], stop)):
            signal.alarm(HANGS_AFTER)
            counts[0] += 1
            counts[("read", "refused").index(outcome) + 1] += 1
    except AssertionError:
        traceback.print_exc()
        sys.exit(1)


def main() -> int:
    """Reads the command line; gives the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    all_faults: list[str] = []
    for name in options.only:
        read, refused, faults = watched(name, range(options.first, options.first + options.count))
        print(f"{name:18s} read {read:5d}  refused {refused:5d}  faults {len(faults)}", flush=True)
        all_faults += faults
    print("\n".join(all_faults))
    return int(bool(all_faults))


if __name__ == "__main__":
    sys.exit(main())
