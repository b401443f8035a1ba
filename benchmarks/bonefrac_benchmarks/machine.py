"""What a figure was measured on: a number without its machine, its versions and its model file says nothing."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

import bonefrac
from bonefrac.machine import cpu_name, quota, usable_cores

QUIET = 0.5  # cores: with more than that busy before it, a part was not measured on a quiet machine

_PACKAGES = ("bonefrac", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorflow", "keras", "opencv-python-headless",
             "opencv-python", "simplejpeg", "numpy")  # fmt: skip
# what decides how fast small integers and short floats are multiplied, as Linux calls it
_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16",
          "asimd", "asimddp", "i8mm", "bf16")  # fmt: skip
_POWER = {
    "governor": Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    "profile": Path("/sys/firmware/acpi/platform_profile"),
}


@dataclass(frozen=True)
class Machine:
    """`cores` are those this process may use, `quota` those that control groups allow (see `bonefrac.machine.quota`),
    `flags` those of the processor that matter here, `memory_gb` all there is (10^9 bytes), `power` what Linux tells of
    governor and profile, empty where it tells nothing. `versions` are those of the packages, and the `engine_digest`.
    `load` is the one-minute load average before the run, None where the system tells none: other work on the machine
    makes every figure smaller."""

    cpu: str
    cores: int
    quota: float | Literal["unknown"] | None
    flags: tuple[str, ...]
    memory_gb: float
    power: dict[str, str]
    system: str
    python: str
    versions: dict[str, str]
    load: float | None

    def lines(self) -> list[str]:
        load = "unknown" if self.load is None else f"{self.load:.2f}"
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        power = ", ".join(f"{name} {value}" for name, value in self.power.items()) or "power mode unknown"
        return [
            f"Machine: {self.cpu}, {self.cores} cores used, {quota_words(self.quota)}, {self.memory_gb:.1f} GB,"
            f" {self.system}; load before the run {load}",
            f"         {' '.join(self.flags) or 'processor flags unknown'}; {power}",
            f"Versions: Python {self.python}, {packages}",
        ]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def this_machine() -> Machine:
    """Facts of the machine this runs on, now."""
    versions = {name: found for name in _PACKAGES if (found := _version(name))} | {"engine": engine_digest()}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(
        cpu_name(), usable_cores(), quota(), _flags(), psutil.virtual_memory().total / 1e9, _power(),
        f"{platform.system()} {platform.machine()}", platform.python_version(), versions, load,
    )  # fmt: skip


def quota_words(cores: float | str | None) -> str:
    """A quota, for people."""
    if isinstance(cores, str):
        return f"quota {cores}"
    return "no quota" if cores is None else f"a quota of {cores:g} cores"


def engine_digest(folder: Path = Path(bonefrac.__file__).parent) -> str:
    """Which state of the engine's code was measured, for its version does not change with every line: the first 12
    digits of the SHA-256 of all its source files, by name and content."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        data = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:12]


def _flags() -> tuple[str, ...]:
    """Linux has them in /proc/cpuinfo: `flags` on x86, `Features` on Arm; no other system tells them to a program."""
    found = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return tuple(flag for flag in _FLAGS if flag in found)


def _cpuinfo(wanted: str) -> str:
    if sys.platform != "linux":
        return ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == wanted:
            return value.strip()
    return ""


def _power() -> dict[str, str]:
    return {name: file.read_text(encoding="utf-8").strip() for name, file in _POWER.items() if file.is_file()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
