"""Where films come from: a folder, listed in the order of the result rows."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bonefrac.errors import UsageError

_LITTER = frozenset({"thumbs.db", "desktop.ini"})
_LITTER_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
OWN_FOLDER = ".bonefrac"  # marks an output folder of ours, which is never input


@dataclass(frozen=True, slots=True)
class FilmFile:
    """One file of a run. `at` is where it lies; `name` is relative to the run's base folder, with `/`, and is what rows
    are keyed on.

    `problem` is set where the file system already refused: a folder that cannot be listed gets one row of its own.
    `content` is set where the bytes were read before.
    """

    at: Path | str
    name: str
    problem: str = ""
    content: bytes | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.at)


@dataclass(frozen=True)
class FilmFiles(Collection[FilmFile]):
    """The files of a run, in the order of its rows. Of each, `names` alone is kept, for there may be very many;
    `problems` has what the file system said of some."""

    base: str
    names: list[str]
    problems: dict[str, str]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[FilmFile]:
        for name in self.names:
            yield FilmFile(os.path.join(self.base, name), name, self.problems.get(name, ""))

    def __contains__(self, name: object) -> bool:
        """Whether there is a file of this name."""
        if not isinstance(name, str):
            return False
        place = bisect_left(self.names, os.fsencode(name), key=os.fsencode)
        return place < len(self) and self.names[place] == name


def base_folder(inputs: list[Path]) -> Path:
    """The folder that names are relative to: the one input, a single file's folder, or what all have in common."""
    try:
        common = Path(os.path.commonpath(inputs))
    except ValueError as error:
        raise UsageError("the inputs lie on different drives; run bonefrac-batch once for each") from error
    return common if os.path.isdir(common) else common.parent


def list_films(inputs: list[Path], base: Path, out: Path) -> FilmFiles:
    """All regular files below the inputs, sorted by name, without operating-system litter and outputs of our own.

    Links to files count as files. Links to folders are followed where they lead outside of `base` and not above it,
    so that a loop ends and no file is listed twice. `out` and every other output folder of ours are left out.
    """
    seen = {os.path.realpath(out)}
    real_base = os.path.realpath(base)
    names: list[str] = []
    problems: dict[str, str] = {}
    for entry in inputs:
        found = walk(str(entry), real_base, seen) if os.path.isdir(entry) else iter([(str(entry), None, "")])
        for path, _, problem in found:
            names.append(Path(path).relative_to(base).as_posix())
            if problem:
                problems[names[-1]] = problem
    names.sort(key=os.fsencode)
    return FilmFiles(str(base), [name for name, _ in groupby(names)], problems)


def walk(folder: str, real_base: str, seen: set[str]) -> Iterator[tuple[str, os.stat_result | None, str]]:
    """(path, stat, problem) of each file below `folder`, `seen` folders left out.

    Pipes and devices are left out, for they may block whoever opens them. A link that leads nowhere is a file without
    a stat: somebody expects a film there, and reading it tells what is wrong. `problem` is empty but for a folder that
    cannot be listed to its end. Files come in no order, for a watched folder of many is walked often.
    """
    real = os.path.realpath(folder)
    if real in seen or os.path.isdir(os.path.join(folder, OWN_FOLDER)):
        return
    seen.add(real)
    folders: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_litter(entry.name):
                    continue
                try:
                    found = entry.stat()
                except OSError:
                    yield entry.path, None, ""
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield entry.path, found, ""
                elif stat.S_ISDIR(found.st_mode) and entry.name.lower() not in _LITTER_FOLDERS:
                    folders.append(entry)
    except OSError as error:
        yield folder, None, f"the folder cannot be listed: {error.strerror}"
    for entry in sorted(folders, key=lambda entry: os.fsencode(entry.name)):
        if not (entry.is_symlink() and _leads_back(entry.path, real_base)):
            yield from walk(entry.path, real_base, seen)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _leads_back(link: str, real_base: str) -> bool:
    """Whether a link's target lies inside the base folder, where it is listed anyway, or above it."""
    target = os.path.realpath(link)
    return os.path.commonpath([target, real_base]) in (target, real_base)
