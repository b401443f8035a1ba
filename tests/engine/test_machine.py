"""machine.py: the cores that a control group leaves are found wherever its quota is set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bonefrac import machine
from bonefrac.machine import quota, usable_cores


def system(root: Path, groups: str, **quotas: str) -> Path:
    """A Linux' /proc and /sys with these groups of this process; a quota's key is its folder, `_` for `/`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in quotas.items():
        group = root / "sys/fs/cgroup" / name.replace("_", "/")
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").touch()
        if name.startswith("cpu"):
            allowed, period = text.split()
            (group / "cpu.cfs_quota_us").write_text(allowed)
            (group / "cpu.cfs_period_us").write_text(period)
        elif text:
            (group / "cpu.max").write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "quotas", "cores"),
    [
        ("0::/\n", {"": "150000 100000\n"}, 1.5),  # a container
        ("0::/\n", {"": "max 100000\n"}, None),
        ("0::/\n", {"": ""}, None),  # the root group has no such file
        (
            "0::/slice/unit\n",
            {"": "", "slice": "max 100000", "slice_unit": "50000 100000\n"},
            0.5,
        ),  # systemd's CPUQuota
        (
            "0::/slice/unit\n",
            {"": "", "slice": "200000 100000", "slice_unit": "300000 100000"},
            2.0,
        ),  # the least counts
        ("0::/slice/unit\n", {"": "", "other": "50000 100000"}, None),
        ("5:cpu:/\n0::/\n", {"cpu": "-1 100000\n", "unified": ""}, None),
        ("5:cpu,cpuacct:/docker/1\n", {"cpu": "250000 100000"}, 2.5),  # version 1, seen from inside the container
        ("5:cpu,cpuacct:/a\n4:cpuset:/\n", {"cpu": "-1 100000", "cpu_a": "100000 100000"}, 1.0),
        ("4:cpuset:/\n", {}, "unknown"),
    ],
)
def test_the_least_quota_of_all_groups_counts(
    tmp_path: Path, groups: str, quotas: dict[str, str], cores: float | str | None
) -> None:
    assert quota(system(tmp_path, groups, **quotas)) == cores


def test_what_cannot_be_looked_at_is_unknown(tmp_path: Path) -> None:
    assert quota(tmp_path) == "unknown"


@pytest.mark.parametrize(("allowed", "cores"), [(0.4, 1), (1.0, 1), (None, 64), ("unknown", 64), (1.6, 2), (99.0, 64)])
def test_a_quota_cuts_the_cores_that_are_used(
    monkeypatch: pytest.MonkeyPatch, allowed: float | str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(machine, "quota", lambda: allowed)
    assert usable_cores() == cores
