"""What a batch judged, with which content. The truth of a run; every other output is made from it.

Schema: one row a film, keyed on its name. The journal belongs to one model and one group of settings (`key`): a run
with another key begins anew. It keeps SQLite's rollback journal, which works on any file system that can lock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Container, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bonefrac.database import Advice, DamagedError, Database
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


class Journal(Database):
    """A context manager. Rows are committed ten times a second and on leaving; what is committed survives anything.

    Raises OutputError when the file is in use, damaged, or the disk is full.
    """

    def __init__(self, path: Path, key: str, *, restart: bool = False) -> None:
        self._last_commit = time.monotonic()
        try:
            self._open(path, key, restart)
        except DamagedError:
            if not restart:
                raise
            path.unlink()
            self._open(path, key, restart)

    def _open(self, path: Path, key: str, restart: bool) -> None:
        advice = Advice(
            where=str(path.parent),
            elsewhere="choose another --out",
            damaged="add --restart to begin anew",
            full="free some space, run the same again",
        )
        super().__init__(path, advice=advice)
        try:
            self.execute("CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            stored = next(self.rows("SELECT value FROM setting WHERE name = 'key'"), None)
            if restart or stored is None or stored[0] != key:
                self.execute("DROP TABLE IF EXISTS film")  # whatever columns an older version gave it
                self.execute(_FILM)
                self.execute("INSERT OR REPLACE INTO setting VALUES ('key', ?)", (key,))
        except BaseException:
            self.close()
            raise

    def known(self) -> dict[str, str]:
        """Film name -> SHA-256 of the content it was last judged with. Failed films are left out, to be tried again."""
        rows = self.rows("SELECT name, sha256 FROM film WHERE status != 'failed'")
        return {os.fsdecode(name): sha256 for name, sha256 in rows}

    def record(self, result: Result) -> None:
        """Write or replace a film's row."""
        row = (os.fsencode(result.source.path), result.source.sha256, *columns(result))
        self.execute("INSERT OR REPLACE INTO film VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if time.monotonic() - self._last_commit > _COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """Make all rows so far survive a power cut."""
        super().commit()
        self._last_commit = time.monotonic()

    def keep_only(self, names: Container[object]) -> list[str]:
        """Forget films that are no longer there; returns their names."""
        there = (os.fsdecode(row[0]) for row in self.rows("SELECT name FROM film"))
        gone = [name for name in there if name not in names]
        self.execute_many("DELETE FROM film WHERE name = ?", [(os.fsencode(name),) for name in gone])
        return gone

    def results(self, order: str = "name") -> Iterator[Result]:
        """All rows: by `name`, or by `suspicion`, the most suspicious first."""
        query = {
            "name": "SELECT * FROM film ORDER BY name",
            "suspicion": "SELECT * FROM film ORDER BY probability IS NULL, probability DESC, name",
        }[order]
        for name, sha256, *judged in self.rows(query):
            yield as_result(Source(os.fsdecode(name), sha256), judged)


def columns(result: Result) -> tuple[object, ...]:
    """A result as stored: status, finding, probability, regions (JSON), width, height, message, thumbnail."""
    size = (result.width, result.height, result.message)
    if isinstance(result, Failure):
        return (result.status, "", None, "[]", *size, b"")
    regions = json.dumps([asdict(region) for region in result.regions])
    return ("ok", result.finding, result.probability, regions, *size, result.thumbnail)


def as_result(source: Source, stored: list[Any]) -> Result:
    """The result that `columns` stored."""
    status, finding, probability, regions, width, height, message, thumbnail = stored
    if status != "ok":
        return Failure(source, status, message, width, height)
    places = tuple(Region(tuple(r["box"]), tuple(r["peak"]), r["score"]) for r in json.loads(regions))
    return Finding(source, finding, probability, places, width, height, message, thumbnail)
