"""What a figure was measured on: a number without its machine, its versions and its model file says nothing."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bonefrac.examiner import usable_cores

_PACKAGES = ("bonefrac", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "opencv-python", "numpy")


@dataclass(frozen=True)
class Machine:
    """`cores` are those this process may use. `load` is the one-minute load average before the run, None where the
    system tells none: other work on the machine makes every figure smaller."""

    cpu: str
    cores: int
    system: str
    python: str
    versions: dict[str, str]
    load: float | None

    def lines(self) -> list[str]:
        load = "unknown" if self.load is None else f"{self.load:.2f}"
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return [
            f"Machine: {self.cpu}, {self.cores} cores used, {self.system}; load before the run {load}",
            f"Versions: Python {self.python}, {packages}",
        ]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def this_machine() -> Machine:
    """Facts of the machine this runs on, now."""
    versions = {name: found for name in _PACKAGES if (found := _version(name))}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(_cpu(), usable_cores(), f"{platform.system()} {platform.machine()}", platform.python_version(),
                   versions, load)  # fmt: skip


def _cpu() -> str:
    """The processor's name. Linux tells it in /proc/cpuinfo only, by the key `model name` on x86."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
