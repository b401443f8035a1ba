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
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from bonefrac.errors import OutputError
from bonefrac.results import Failure, Finding, Region, Result, Source

_FILM = """
CREATE TABLE film (
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
) WITHOUT ROWID
"""
_COMMIT_EVERY_S = 0.1


class _DamagedError(OutputError):
    """The file is no journal, or no longer."""


class Journal:
    """A context manager. Rows are committed ten times a second and on leaving; what is committed survives anything.

    Raises OutputError when the file is in use, damaged, or the disk is full.
    """

    def __init__(self, path: Path, key: str, *, restart: bool = False) -> None:
        self._path, self._last_commit = path, time.monotonic()
        try:
            with self._translated():
                self._db = self._open(key, restart)
        except _DamagedError:
            if not restart:
                raise
            path.unlink()
            with self._translated():
                self._db = self._open(key, restart)

    def _open(self, key: str, restart: bool) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=0.2)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN EXCLUSIVE")
            db.execute("CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            stored = db.execute("SELECT value FROM setting WHERE name = 'key'").fetchone()
            if restart or stored is None or stored[0] != key:
                db.execute("DROP TABLE IF EXISTS film")  # whatever columns an older version gave it
                db.execute(_FILM)
                db.execute("INSERT OR REPLACE INTO setting VALUES ('key', ?)", (key,))
            db.execute("COMMIT")
            db.execute("BEGIN")
        except sqlite3.Error:
            db.close()
            raise
        return db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as one sentence on what to do."""
        folder = self._path.parent
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise OutputError(f"{folder}: another run is writing there; wait, or choose another --out") from error
            if "full" in str(error) or "disk I/O" in str(error):
                raise OutputError(
                    f"{folder}: the disk is full or broken; free some space, run the same again"
                ) from error
            raise OutputError(
                f"{folder}: the journal cannot be opened or written ({error}); choose another --out"
            ) from error
        except sqlite3.DatabaseError as error:
            raise _DamagedError(f"{folder}: the journal is damaged ({error}); add --restart to begin anew") from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._translated():
                self._db.execute("COMMIT")
        except OutputError:
            if kind is None:  # else the first error says what happened
                raise
        finally:
            self._db.close()

    def known(self) -> dict[str, str]:
        """Film name -> SHA-256 of the content it was last judged with. Failed films are left out, to be tried again."""
        with self._translated():
            rows = self._db.execute("SELECT name, sha256 FROM film WHERE status != 'failed'")
            return {os.fsdecode(name): sha256 for name, sha256 in rows}

    def record(self, result: Result) -> None:
        """Write or replace a film's row."""
        row = (os.fsencode(result.source.path), result.source.sha256, *_columns(result))
        with self._translated():
            self._db.execute("INSERT OR REPLACE INTO film VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if time.monotonic() - self._last_commit > _COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """Make all rows so far survive a power cut."""
        with self._translated():
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")
        self._last_commit = time.monotonic()

    def keep_only(self, names: set[str]) -> list[str]:
        """Forget films that are no longer there; returns their names."""
        with self._translated():
            there = [os.fsdecode(row[0]) for row in self._db.execute("SELECT name FROM film")]
            gone = [name for name in there if name not in names]
            self._db.executemany("DELETE FROM film WHERE name = ?", [(os.fsencode(name),) for name in gone])
        return gone

    def results(self, order: str = "name") -> Iterator[Result]:
        """All rows: by `name`, or by `suspicion`, the most suspicious first."""
        query = {
            "name": "SELECT * FROM film ORDER BY name",
            "suspicion": "SELECT * FROM film ORDER BY probability IS NULL, probability DESC, name",
        }[order]
        with self._translated():
            rows = self._db.execute(query)
        while True:
            with self._translated():
                row = rows.fetchone()
            if row is None:
                return
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
