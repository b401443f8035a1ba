"""The machine as this process may use it: how many cores, and of what processor."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Literal


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut by a quota of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = quota()
    return min(cores, max(1, round(allowed))) if isinstance(allowed, float) else cores


def quota(system: Path = Path("/")) -> float | Literal["unknown"] | None:
    """Cores that Linux' control groups leave this process: the least quota of its group and of those above it.

    None where none is set, "unknown" where no group can be looked at (kernel documentation, cgroup-v2.rst, and
    sched-bwc.rst for the first version).
    """
    groups = list(_groups(system))
    found = [cores for group in groups if (cores := _allowed(group)) is not None]
    return min(found, default=None) if groups else "unknown"


def _groups(system: Path) -> Iterator[Path]:
    """The folders of this process' groups, and of those above them, in both versions' hierarchies."""
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for _, controllers, group in (line.split(":", 2) for line in lines):
        names = controllers.split(",")
        mounts = ("", "unified") if names == [""] else ("cpu", "cpu,cpuacct") if "cpu" in names else ()
        for mount in mounts:
            top = system / "sys/fs/cgroup" / mount
            place = top / group.lstrip("/")
            yield from (folder for folder in (place, *place.parents)
                        if folder.is_relative_to(top) and (folder / "cgroup.procs").is_file())  # fmt: skip


def _allowed(group: Path) -> float | None:
    """The cores of a group's own quota, None where it has none."""
    try:
        if (group / "cpu.max").is_file():
            allowed, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            allowed, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (OSError, ValueError):  # "max", or a group without the controller
        return None


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
