"""The machine as this process may use it: how many cores, and of what processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut by a cgroup v2 CPU quota (kernel documentation, cgroup-v2.rst)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2: the affinity stands
    return cores


def cpu_name() -> str:
    """The processor's name, for people: `AMD EPYC 7B13`."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a 64-bit Arm
        return platform.processor() or platform.machine()


def cpu() -> str:
    """Name and instructions of the processor: what is made for one must not be used on another.

    The instructions are those that NumPy found by asking the processor, for a name says nothing of what a virtual
    machine or an emulator leaves out of it.
    """
    from numpy._core._multiarray_umath import __cpu_features__ as features  # type: ignore[import-not-found]

    return " ".join([cpu_name(), platform.machine(), *sorted(name for name, there in features.items() if there)])
