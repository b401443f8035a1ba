"""SQLite: what was judged, with which content. The truth of a run; every other output is made from it.

Schema: one row a film, keyed on its name. The journal belongs to one model and one group of settings (`key`): a run
with another key begins anew. Rollback journal with synchronous=FULL: a committed row survives a power cut (SQLite's
documentation), and no shared memory is needed, so that it works on any file system that can lock.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from bonefrac.errors import OutputError
from bonefrac.results import Failure, Finding, Region, Result, Source

_SCHEMA = """
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS film (
    name BLOB PRIMARY KEY,      -- relative path, as the file system has it
    sha256 TEXT NOT NULL,
    status TEXT NOT NULL,
    finding TEXT NOT NULL,
    probability REAL,
    regions TEXT NOT NULL,      -- JSON
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    message TEXT NOT NULL,
    thumbnail BLOB NOT NULL
) WITHOUT ROWID;
"""
_COMMIT_EVERY_S = 1.0


class Journal:
    """A context manager. Rows are committed about once a second and on leaving; what is committed survives anything.

    Raises OutputError when the file is in use, damaged, or the disk is full.
    """

    def __init__(self, path: Path, key: str, *, restart: bool = False) -> None:
        self._path, self._last_commit = path, time.monotonic()
        if restart:
            path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0.2)
        try:
            self._open(key)
        except sqlite3.Error as error:
            self._db.close()
            raise self._translated(error) from error

    def _open(self, key: str) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN EXCLUSIVE")
        for statement in _SCHEMA.split(";\n"):
            self._db.execute(statement)
        stored = self._db.execute("SELECT value FROM setting WHERE name = 'key'").fetchone()
        if stored is None or stored[0] != key:
            self._db.execute("DELETE FROM film")
            self._db.execute("INSERT OR REPLACE INTO setting VALUES ('key', ?)", (key,))
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def _translated(self, error: sqlite3.Error) -> OutputError:
        folder = self._path.parent
        if "locked" in str(error):
            return OutputError(f"{folder}: another run is writing there; wait for it, or choose another --out")
        if "full" in str(error) or "disk I/O" in str(error):
            return OutputError(f"{folder}: the disk is full or broken; free some space and run the same command again")
        return OutputError(f"{folder}: the journal cannot be used ({error}); add --restart to begin anew")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as failure:
            if kind is None:
                raise self._translated(failure) from failure
        finally:
            self._db.close()

    def known(self) -> dict[str, str]:
        """Film name -> SHA-256 of the content it was last judged with. Failed films are left out, to be tried again."""
        rows = self._db.execute("SELECT name, sha256 FROM film WHERE status != 'failed'")
        return {os.fsdecode(name): sha256 for name, sha256 in rows}

    def record(self, result: Result) -> None:
        """Write or replace a film's row."""
        row = (os.fsencode(result.source.path), result.source.sha256, *_columns(result))
        try:
            self._db.execute("INSERT OR REPLACE INTO film VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            if time.monotonic() - self._last_commit > _COMMIT_EVERY_S:
                self.commit()
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def commit(self) -> None:
        """Make all rows so far survive a power cut."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        self._last_commit = time.monotonic()

    def keep_only(self, names: set[str]) -> list[str]:
        """Forget films that are no longer there; returns their names."""
        gone = [name for name in map(os.fsdecode, self._names()) if name not in names]
        self._db.executemany("DELETE FROM film WHERE name = ?", [(os.fsencode(name),) for name in gone])
        return gone

    def _names(self) -> list[bytes]:
        return [row[0] for row in self._db.execute("SELECT name FROM film")]

    def results(self, order: str = "name") -> Iterator[Result]:
        """All rows: by `name`, or by `suspicion`, the most suspicious first."""
        query = {
            "name": "SELECT * FROM film ORDER BY name",
            "suspicion": "SELECT * FROM film ORDER BY probability IS NULL, probability DESC, name",
        }[order]
        for row in self._db.execute(query):
            yield _result(row)


def _columns(result: Result) -> tuple[object, ...]:
    size = (result.width, result.height, result.message)
    if isinstance(result, Failure):
        return (result.status, "", None, "[]", *size, b"")
    regions = json.dumps([asdict(region) for region in result.regions])
    return ("ok", result.finding, result.probability, regions, *size, result.thumbnail)


def _result(row: tuple[bytes, str, str, str, float, str, int, int, str, bytes]) -> Result:
    name, sha256, status, finding, probability, regions, width, height, message, thumbnail = row
    source = Source(os.fsdecode(name), sha256)
    if status != "ok":
        return Failure(source, status, message, width, height)  # type: ignore[arg-type]  # written by _columns
    places = tuple(Region(tuple(r["box"]), tuple(r["peak"]), r["score"]) for r in json.loads(regions))
    return Finding(source, finding, probability, places, width, height, message, thumbnail)  # type: ignore[arg-type]
