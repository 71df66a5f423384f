"""Runs a command and prints its seconds, its seconds of processor time, and its peak memory in MB.

    python -m benchmarks.timed COMMAND...

The memory is the largest resident set of the command, without this process. It is a module of its
own because the system counts the largest of all children that a process has ever had.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time


def main() -> int:
    began = time.perf_counter()
    code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False).returncode
    wall = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
    return code


if __name__ == "__main__":
    sys.exit(main())
