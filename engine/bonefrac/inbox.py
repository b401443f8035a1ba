"""The folder that films are dropped into: what lies there, and which of it is whole and at rest.

The listing is the truth; nothing here listens to events. Time is a parameter: seconds of a monotonic clock.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from typing import BinaryIO

from bonefrac.decode import MAX_BYTES
from bonefrac.errors import BonefracError, FilmError
from bonefrac.header import MAGIC_BYTES, has_film_magic, read_header
from bonefrac.mounts import away, mount_point
from bonefrac.sources import walk

Look = tuple[int, int, int]  # size, mtime in ns, inode: a file that looks the same has the same content
_UNSEEN = (-1, 0, 0)  # a link that leads nowhere, or what may not be looked at
_HAS_INODES = os.name != "nt"  # there, a folder's listing has none (os.DirEntry.stat)

# how writers call a file until it is whole
_UNFINISHED = ("*.part", "*.partial", "*.tmp", "*.temp", "*.filepart", "*.crdownload", "*.download", "*.opdownload",
               "*.!ut", "*.swp", "*~", "~*")  # fmt: skip
_UNFINISHED_NAME = re.compile("|".join(translate(pattern) for pattern in _UNFINISHED), re.IGNORECASE)
_LONGEST_RETRY_S = 600.0
_POSTPONED_S = 60.0
_BLOCK = 2**20


def look_of(found: os.stat_result) -> Look:
    """What tells a file's content from a later one, in numbers that SQLite can hold: inodes have 64 bits, and a wrong
    clock any year."""
    return found.st_size, found.st_mtime_ns % 2**63, found.st_ino % 2**63 if _HAS_INODES else 0


class InboxAway(BonefracError):
    """The inbox cannot be listed, or is not the one it was: its films are away, not deleted."""


@dataclass(frozen=True)
class Arrival:
    """A file whose waiting is over. `problem` is set, and `sha256` empty, where it could not be read for too long;
    `content` is None for a file too large to be a film."""

    name: str
    path: Path
    look: Look
    sha256: str
    content: bytes | None
    problem: str = ""


@dataclass
class _Waiting:
    path: str
    look: Look
    first_s: float  # when it was first seen
    since_s: float  # how long it has looked the same
    again_s: float  # not to be opened before
    told: bool = False  # that it cannot be read
    postponed: bool = False  # it was examined, but its original not looked after


class Inbox:
    """What waits in a folder. `known` maps names to what they looked like when they were dealt with.

    A file is ready when it has looked the same for `settle_s` and its format's own end is there; without an end it is
    taken as it is after `give_up_s`.
    """

    def __init__(
        self, folder: Path, known: dict[str, Look], *, settle_s: float, give_up_s: float, mounted_on: str = ""
    ) -> None:
        self.folder, self._known = folder, known
        self._settle_s, self._give_up_s = settle_s, give_up_s
        self.mounted_on = mounted_on  # where the folder's file system was mounted when it was last seen
        self._waiting: dict[str, _Waiting] = {}
        self.unfinished_names = 0  # files that bear a writer's temporary name
        self.unlisted = 0  # folders that could not be listed

    def look(self, now_s: float) -> None:
        """List the folder and note what is new or changed. Raises InboxAway where that cannot be done."""
        self._check_presence()
        start, skip = str(self.folder), len(os.path.join(self.folder, ""))  # a drive's root ends in a separator
        waiting: dict[str, _Waiting] = {}
        self.unfinished_names = self.unlisted = 0
        for path, found, problem in walk(start, os.path.realpath(start), set()):
            name = path[skip:] if os.sep == "/" else path[skip:].replace(os.sep, "/")
            if problem:
                if path == start:
                    raise InboxAway(f"the inbox cannot be listed: {problem}")
                self.unlisted += 1
                waiting.update(self._below(name))
                continue
            look = look_of(found) if found else _UNSEEN
            known = self._known.get(name)
            if known == look or (known and not found):  # dealt with, or it was, and cannot be looked at just now
                continue
            if _UNFINISHED_NAME.match(os.path.basename(path)):
                self.unfinished_names += 1
                continue
            waiting[name] = self._note(self._waiting.get(name), path, look, now_s)
        self._waiting = waiting

    def _check_presence(self) -> None:
        if why := away(self.folder, self.mounted_on):
            raise InboxAway(f"the inbox {why}")
        self.mounted_on = mount_point(self.folder)

    def _below(self, folder: str) -> dict[str, _Waiting]:
        """What waits below a folder that cannot be listed just now: it is not gone."""
        return {name: item for name, item in self._waiting.items() if name.startswith(folder + "/")}

    def _note(self, item: _Waiting | None, path: str, look: Look, now_s: float) -> _Waiting:
        if item is None:
            return _Waiting(path, look, now_s, now_s, now_s + self._settle_s)
        if item.look != look:
            item.look, item.since_s, item.again_s, item.told = look, now_s, now_s + self._settle_s, False
        return item

    def ready(self, now_s: float, enough: Callable[[], bool] = lambda: False) -> Iterator[Arrival]:
        """Read what is due, the longest waiting first, until `enough`; give what is whole, or will not become so."""
        due = [(item.first_s, os.fsencode(name), name) for name, item in self._waiting.items() if item.again_s <= now_s]
        for _, _, name in sorted(due):
            if enough():
                return
            arrival = self._take(name, self._waiting[name], now_s)
            if arrival is not None:
                yield arrival

    def _take(self, name: str, item: _Waiting, now_s: float) -> Arrival | None:
        given_up = now_s >= item.since_s + self._give_up_s
        try:
            with open(item.path, "rb") as file:
                if not given_up and not has_film_magic(file.read(MAGIC_BYTES)):
                    item.again_s = item.since_s + self._give_up_s  # no end is known that it could have reached
                    return None
                file.seek(0)
                content, sha256 = _read(file)
                after = os.fstat(file.fileno())
        except OSError as error:  # in use by its writer, or not for us to read: tried again, ever more rarely
            item.again_s = now_s + min(max(now_s - item.since_s, self._settle_s), _LONGEST_RETRY_S)
            if item.told or not given_up:
                return None
            self._check_presence()
            if isinstance(error, FileNotFoundError) and item.look != _UNSEEN:
                return None  # taken away since the last listing: the next one leaves it out
            item.told = True
            return Arrival(name, Path(item.path), item.look, "", b"", f"the file cannot be read: {error.strerror}")
        except MemoryError:
            item.again_s, item.told = now_s + _LONGEST_RETRY_S, True
            return Arrival(name, Path(item.path), item.look, "", b"", "the file is too large for this PC's memory")
        if look_of(after) != item.look:
            item.again_s = now_s + self._settle_s  # the next listing notes the change
            return None
        if not given_up and not (content is not None and _is_whole(content)):
            item.again_s = item.since_s + self._give_up_s
            return None
        return Arrival(name, Path(item.path), item.look, sha256, content)

    def done(self, arrival: Arrival, *, moved: bool = False) -> None:
        """The arrival has been dealt with: as long as it looks the same, it is not taken again."""
        if not arrival.sha256:
            return
        self._waiting.pop(arrival.name, None)
        if not moved:
            self._known[arrival.name] = arrival.look

    def postpone(self, arrival: Arrival, now_s: float) -> None:
        """Give it again after a while."""
        if arrival.name in self._waiting:
            self._waiting[arrival.name].again_s = now_s + _POSTPONED_S
            self._waiting[arrival.name].postponed = True

    @property
    def postponed(self) -> bool:
        """Whether something that was postponed still waits."""
        return any(item.postponed for item in self._waiting.values())

    @property
    def waiting(self) -> int:
        """Films that are seen and not yet dealt with."""
        return sum(not item.told for item in self._waiting.values())

    def oldest_s(self, now_s: float) -> float:
        """How long the longest waiting film has waited, 0 where none does."""
        return max((now_s - item.first_s for item in self._waiting.values() if not item.told), default=0.0)

    @property
    def next_s(self) -> float | None:
        """When something may be ready, None where nothing waits."""
        return min((item.again_s for item in self._waiting.values()), default=None)


def _read(file: BinaryIO) -> tuple[bytes | None, str]:
    """(content, SHA-256). Of what is no film only the beginning is kept, which tells what it is; nothing of a file that
    is too large to be one."""
    content = file.read(_BLOCK)
    if has_film_magic(content):
        content += file.read(MAX_BYTES + 1 - len(content))
    digest, size = hashlib.sha256(content), len(content)
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    return content if size <= MAX_BYTES else None, digest.hexdigest()


def _is_whole(content: bytes) -> bool:
    """Whether the format's own end is there. What is no film has no end that is known, and is not in a hurry."""
    try:
        read_header(content)
    except FilmError:
        return False
    return True
