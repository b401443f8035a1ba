"""bonefrac-batch, and at its end how long it took and the peak of its own resident memory, written to the file named
first.

It takes from the command's first line to its last, with journal, pictures and report on disk, but without the start of
Python and the imports. Only the process itself can tell its peak exactly: a parent's `ru_maxrss` of a child counts what
the parent held when it started the child (Linux, `exec` keeps the high-water mark), and polling misses the last
moments.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """`python -c "from bonefrac_benchmarks.peak import main; main()" FILE INPUT... [options of bonefrac-batch]`."""
    import bonefrac.run  # noqa: F401  # which the command would import on its way
    from bonefrac.cli import batch_main

    report = Path(sys.argv.pop(1))
    began_s = time.perf_counter()
    try:
        batch_main()
    finally:
        told = {"seconds": time.perf_counter() - began_s, "peak_bytes": peak_bytes()}
        report.write_text(json.dumps(told), encoding="ascii")


def peak_bytes() -> int:
    """Highest resident memory of this process so far, in bytes."""
    if sys.platform == "linux":  # proc_pid_status(5): VmHWM in kB, that is 1024 bytes
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS getrusage(2): bytes
