"""The reckoning: what a watcher made of a plan, film by film, against what the plan says it must be."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from bonefrac.header import MARK
from bonefrac.sinks import PART, picture_path
from bonefrac_benchmarks.daemon import read_table
from bonefrac_benchmarks.plan import Expected

_LEDGER = Path(".bonefrac", "ledger.sqlite")
_COPY = "same content as "
_WITH_PICTURE = ("fracture", "doubt")


@dataclass(frozen=True)
class Accounts:
    """What is wrong, by the paths of the films; all empty where nothing is."""

    lost: tuple[str, ...] = ()  # without their row
    doubled: tuple[str, ...] = ()  # rows or journal entries too many
    half_written: tuple[str, ...] = ()  # of a content that was never a whole file
    uninvited: tuple[str, ...] = ()  # of a content that was gone before it had come to rest
    not_ok: tuple[str, ...] = ()  # failed, set aside, not analysed
    mixed_up: tuple[str, ...] = ()  # another result than other films of the same drawn picture got
    copies: tuple[str, ...] = ()  # that do not point to the first one, or are pointed away without reason
    pictures_missing: tuple[str, ...] = ()
    pictures_broken: tuple[str, ...] = ()
    pictures_extra: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()  # temporary files, and films still claimed

    @property
    def faults(self) -> int:
        return sum(len(getattr(self, field.name)) for field in fields(self))

    def record(self) -> dict[str, object]:
        """For JSON: how many of each, and the first few names."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: {"count": len(paths), "first": list(paths[:5])} for name, paths in found.items()}


def audit(expected: Expected, out: Path) -> Accounts:
    """Compare table, journal and pictures in `out` with what is expected. The watcher must have ended."""
    rows = read_table(out / "results.csv")
    journal = [(name, sha256) for name, sha256, _, _ in _journal(out)]
    in_table = Counter((row["path"], row["sha256"]) for row in rows)
    in_journal = Counter(journal)
    analysed = [*in_table, *in_journal]
    missing, broken, extra = _pictures(rows, out)
    return Accounts(
        lost=_paths((expected.rows - in_table) + (expected.rows - in_journal)),
        doubled=_paths(_more(in_table, expected.rows) | _more(in_journal, expected.rows)),
        half_written=_unique(path for path, sha256 in analysed if sha256 not in expected.whole),
        uninvited=_unique(p for p, sha256 in analysed if sha256 in expected.whole and (p, sha256) not in expected.rows),
        not_ok=_unique(row["path"] for row in rows if row["status"] != "ok"),
        mixed_up=_mixed_up(rows, expected.picture_of),
        copies=_wrong_copies(rows),
        pictures_missing=missing, pictures_broken=broken, pictures_extra=extra,
        unfinished=_unique([*(str(part.relative_to(out)) for part in out.rglob(PART + "*")),
                            *(name for name, _, claimed_by, _ in _journal(out) if claimed_by)]),
    )  # fmt: skip


def claims(out: Path) -> dict[tuple[str, str, str], int]:
    """Films that the journal of a killed watcher has as begun and not finished, (path, SHA-256, which watcher began
    it), with the attempts that each has had."""
    return {(name, sha256, by): attempts for name, sha256, by, attempts in _journal(out) if by}


def _journal(out: Path) -> list[tuple[str, str, str, int]]:
    """(name, SHA-256, claimed by, attempts) of each film, read from a copy: opening it would tidy up what a killed
    watcher left, which is the next one's task."""
    with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
        for file in (out / _LEDGER).parent.glob(_LEDGER.name + "*"):
            shutil.copyfile(file, Path(temporary) / file.name)
        if not (Path(temporary) / _LEDGER.name).exists():
            return []
        with closing(sqlite3.connect(Path(temporary) / _LEDGER.name)) as database:
            found = database.execute("SELECT name, sha256, claimed_by, attempts FROM film ORDER BY number").fetchall()
    return [(bytes(name).decode(), sha256, claimed_by, attempts) for name, sha256, claimed_by, attempts in found]


def _more(found: Counter[tuple[str, str]], expected: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """What is there more often than once, or than expected."""
    return Counter({key: count - 1 for key, count in found.items() if count > max(1, expected[key])})


def _paths(found: Counter[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted(path for path, _ in found))


def _unique(paths: Iterator[str] | list[str]) -> tuple[str, ...]:
    return tuple(sorted(set(paths)))


def _mixed_up(rows: list[dict[str, str]], picture_of: dict[str, int]) -> tuple[str, ...]:
    """Films whose result is not the one that most films of the same drawn picture got."""
    by_picture: defaultdict[int, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for row in rows:
        if row["sha256"] in picture_of:
            judged = tuple(row[name] for name in ("finding", "probability", "regions", "width", "height"))
            by_picture[picture_of[row["sha256"]]].append((judged, row["path"]))
    odd: list[str] = []
    for results in by_picture.values():
        usual = Counter(judged for judged, _ in results).most_common(1)[0][0]
        odd += [path for judged, path in results if judged != usual]
    return _unique(odd)


def _wrong_copies(rows: list[dict[str, str]]) -> tuple[str, ...]:
    """Of each content, all rows but one must name the path of that one."""
    by_content: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_content[row["sha256"]].append(row)
    wrong: list[str] = []
    for same in by_content.values():
        firsts = [row["path"] for row in same if not row["message"].startswith(_COPY)]
        wrong += firsts[1:]
        told = [row for row in same if row["message"].startswith(_COPY)]
        wrong += [row["path"] for row in told if row["message"][len(_COPY) :].split("; ")[0] not in firsts]
    return _unique(wrong)


def _pictures(rows: list[dict[str, str]], out: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(missing, broken, extra): each film with a finding has its own picture, a copy none, a second content of a name
    one that bears its hash."""
    expected: set[str] = set()
    seen: set[str] = set()
    for row in rows:  # those of one path in the order of arrival
        name = f"{row['path']}.{row['sha256'][:12]}" if row["path"] in seen else row["path"]
        seen.add(row["path"])
        if row["finding"] in _WITH_PICTURE and not row["message"].startswith(_COPY):
            expected.add(picture_path(Path("annotated"), name).as_posix())
    there = {path.relative_to(out).as_posix() for path in (out / "annotated").rglob("*") if path.is_file()}
    broken = [name for name in there & expected if not _is_whole(out / name)]
    return _unique(list(expected - there)), _unique(broken), _unique(list(there - expected))


def _is_whole(picture: Path) -> bool:
    data = picture.read_bytes()
    ended = data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9" and MARK.encode() in data
    return ended and cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
