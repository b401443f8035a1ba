"""mounts.py: on what a folder lies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bonefrac.mounts import file_system, is_remote, mount_point


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str, Path], None]]:
    """mounted("tmpfs", path): mounts something there."""
    places: list[Path] = []

    def mount(kind: str, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", kind, kind, path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("nothing can be mounted here: needs root")
        places.append(path)

    yield mount
    for path in reversed(places):
        subprocess.run(["umount", path], check=True)


def test_the_mount_point_is_the_nearest_folder_above(mounted: Callable[[str, Path], None], tmp_path: Path) -> None:
    disk, outside = tmp_path / "a disk\tof ours", mount_point(tmp_path)
    assert os.path.ismount(outside)
    mounted("tmpfs", disk)
    inside = disk / "deep" / "er"
    inside.mkdir(parents=True)
    real = os.path.realpath(disk)
    assert mount_point(disk) == mount_point(inside) == mount_point(inside / "not there" / "yet") == real
    (tmp_path / "link").symlink_to(inside)
    assert mount_point(tmp_path / "link") == real
    assert mount_point(tmp_path / "beside") == outside
    assert file_system(inside) == "tmpfs"
    assert not is_remote(inside)


def test_the_last_mount_covers_the_earlier_ones(mounted: Callable[[str, Path], None], tmp_path: Path) -> None:
    mounted("tmpfs", tmp_path / "disk")
    mounted("ramfs", tmp_path / "disk")
    assert file_system(tmp_path / "disk") == "ramfs"


@pytest.mark.parametrize(
    ("kind", "remote"),
    [("nfs4", True), ("cifs", True), ("smb3", True), ("9p", True), ("drvfs", True), ("fuse.sshfs", True),
     ("fuse.gvfsd-fuse", True), ("FUSE.VMHGFS-FUSE", True), ("ext4", False), ("fuseblk", False), ("NTFS", False),
     ("overlay", False), ("fuse.gocryptfs", False)],
)  # fmt: skip
def test_what_lies_on_another_machine_is_known_by_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, remote: bool
) -> None:
    """No share can be mounted in a test; what the machine says of one is known."""
    disk = SimpleNamespace(mountpoint=mount_point(tmp_path), fstype=kind, device="x", opts="")
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [disk])
    assert file_system(tmp_path) == kind
    assert is_remote(tmp_path) is remote


def test_a_file_system_that_nobody_names_is_not_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [])
    assert file_system(tmp_path) == ""
    assert not is_remote(tmp_path)
