"""Keyed hashes in place of names, with the key and the map in one file that only its owner may read."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from bonefrac.errors import OutputError
from bonefrac.sinks import sync_folder

_LENGTH = 16  # hex digits: among a million names, two that meet have a chance of 1 in 37 million


class Redaction:
    """Names to pseudonyms: HMAC-SHA-256 (RFC 2104) under a random key.

    `path` holds JSON Lines: the key, then one line a name, each on disk before its pseudonym is used. Raises
    OutputError where the file is not what this class wrote.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if not (lines := _whole_lines(path)):
                self._append({"key": secrets.token_hex(32)})
                sync_folder(path.parent)
                lines = _whole_lines(path)
            self._key = bytes.fromhex(lines[0]["key"])
            self._names = {line["name"]: line["pseudonym"] for line in lines[1:]}
        except OSError as error:
            raise OutputError(f"{path}: cannot be read or written: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path}: is no map of names; move it aside, and choose a new --out") from error

    def __call__(self, name: str) -> str:
        """The pseudonym of a film's name, the same for ever."""
        known = self._names.get(name)
        if known is None:
            known = hmac.new(self._key, os.fsencode(name), hashlib.sha256).hexdigest()[:_LENGTH]
            self._append({"pseudonym": known, "name": name})
            self._names[name] = known
        return known

    def _append(self, line: dict[str, str]) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(handle, "ab", buffering=0) as file:
            end, data = file.seek(0, os.SEEK_END), json.dumps(line).encode() + b"\n"
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
            except OSError:
                file.truncate(end)  # or the next line would go on where this one was cut off
                raise


def _whole_lines(path: Path) -> list[dict[str, str]]:
    """The lines of the file; one that a power cut left half-written is cut off, for its pseudonym was never used."""
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]
