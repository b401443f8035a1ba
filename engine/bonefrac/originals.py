"""Copies of originals: analysed ones into an archive, failed ones into a quarantine. Nothing is removed unverified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bonefrac.errors import OutputError
from bonefrac.inbox import Look, look_of
from bonefrac.sinks import atomic

_BLOCK = 2**20
REASON = ".reason.txt"


def archive(path: Path, name: str, *, sha256: str, look: Look, folder: Path) -> bool:
    """Move a film into the archive: copy, verify, then remove. False, with nothing removed, if it changed meanwhile.

    Raises OutputError where the archive cannot be written or the original not removed.
    """
    try:
        target = _target(folder, name, sha256)
        if not target.exists():
            _copy(path, target, sha256)
        if _hash(target) != sha256:
            raise OutputError("the archive's copy of a film does not read back as it was written; its original stays")
        with _gone_is_changed():
            if look_of(os.stat(path)) != look:
                return False
            os.unlink(path)
    except _ChangedError:
        return False
    except OSError as error:
        raise OutputError(f"a film cannot be moved to the archive: {error.strerror}; its original stays") from error
    return True


def quarantine(path: Path, name: str, *, sha256: str, reason: str, folder: Path) -> None:
    """Copy a failed film, and the reason beside it. Raises OutputError where the folder cannot be written."""
    try:
        target = _target(folder, name, sha256)
        if not target.exists() and sha256:
            _copy(path, target, sha256)
        with atomic(target.with_name(target.name + REASON)) as file:
            file.write(reason.encode("utf-8", "backslashreplace") + b"\n")
    except _ChangedError:
        return  # gone or changed: then it is another film, with a result of its own
    except OSError as error:
        raise OutputError(f"a failed film cannot be copied to the quarantine: {error.strerror}") from error


class _ChangedError(Exception):
    """The file no longer has the content that was analysed, or is gone."""


@contextmanager
def _gone_is_changed() -> Iterator[None]:
    """Round what is done to the original alone: a file that the archive lacks is no original that was taken away."""
    try:
        yield
    except FileNotFoundError as error:
        raise _ChangedError from error


def _target(folder: Path, name: str, sha256: str) -> Path:
    """Where a film goes: the inbox mirrored; another content under a taken name bears its hash."""
    target = folder / name
    if target.exists() and (target.is_dir() or _hash(target) != sha256):
        return target.with_name(f"{target.stem}.{sha256[:12]}{target.suffix}")
    return target


def _copy(path: Path, target: Path, sha256: str) -> None:
    with _gone_is_changed():
        source = open(path, "rb")  # noqa: SIM115  # closed below
    with source, atomic(target) as copy:
        if _pump(source, copy) != sha256:
            raise _ChangedError


def _pump(source: IO[bytes], copy: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := source.read(_BLOCK):
        digest.update(block)
        copy.write(block)
    return digest.hexdigest()


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
