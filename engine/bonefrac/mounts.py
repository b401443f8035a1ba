"""Where a folder lies: its mount point, and whether a network or another machine is behind it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

# File systems whose other end is another machine, or the host of this one: changes made there raise no events here
# (inotify(7), "Limitations and caveats"), and their locks are not to be trusted with SQLite (sqlite.org/faq.html).
_REMOTE = frozenset({
    "nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afpfs", "afs", "ncpfs", "webdav", "davfs", "9p", "drvfs",
    "virtiofs", "vboxsf", "vmhgfs", "vmhgfs-fuse", "prl_fs", "osxfs", "grpcfuse", "ceph", "glusterfs", "lustre",
    "sshfs", "davfs2", "rclone", "s3fs", "gvfsd-fuse", "kio-fuse",
})  # fmt: skip


def mount_point(path: Path) -> str:
    """The folder that the file system of `path` is mounted on; for a path that is not there, that of its parents."""
    at = os.path.realpath(path)
    while not os.path.ismount(at) and os.path.dirname(at) != at:
        at = os.path.dirname(at)
    return at


def away(path: Path, mounted_on: str) -> str:
    """Why `path` is not the folder whose file system was mounted on `mounted_on`, or "": an empty folder where a share
    was mounted is not the share."""
    if not path.is_dir():
        return "is not there: its share, disk or folder is away"
    point = mount_point(path)
    if mounted_on.startswith(point) and mounted_on != point:
        return "is not the one it was: its share or disk is not mounted"
    return ""


def file_system(path: Path) -> str:
    """The kind of file system that `path` lies on, as the machine calls it (`ext4`, `cifs`), or "" if unknown."""
    point = os.path.normcase(mount_point(path))
    kinds = [
        part.fstype
        for part in psutil.disk_partitions(all=True)
        if os.path.normcase(part.mountpoint) in (point, point + os.sep)
    ]
    return kinds[-1] if kinds else ""  # the last mount covers the earlier ones


def is_remote(path: Path) -> bool:
    """Whether `path` lies on another machine, as far as can be known from here."""
    real = os.path.realpath(path)
    if os.name == "nt" and _windows_remote(real):
        return True
    return file_system(path).lower().removeprefix("fuse.").removeprefix("fuseblk.") in _REMOTE


def _windows_remote(path: str) -> bool:
    drive = os.path.splitdrive(path)[0]
    if drive.startswith("\\\\"):
        return True
    return any(
        "remote" in part.opts
        for part in psutil.disk_partitions(all=True)
        if part.device.lower().startswith(drive.lower())
    )
