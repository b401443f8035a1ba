"""SQLite, the one door to it: opening a journal for one writer alone, its errors as sentences, commits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from bonefrac.errors import OutputError

Kind = TypeVar("Kind", bound="Database")


class DamagedError(OutputError):
    """The file is no journal, or no longer."""


@dataclass(frozen=True)
class Advice:
    """Errors in a command's own words: `where` the journal lies, and what to do where it cannot be used, is damaged, or
    the disk is full."""

    where: str
    elsewhere: str
    damaged: str
    full: str


class Database:
    """A SQLite file that only this process may touch; a transaction is always open. A context manager.

    synchronous=FULL: a committed row survives a power cut. EXCLUSIVE: the file is locked from opening to closing, and
    no shared memory is needed (SQLite's documentation, pragma.html).

    Raises OutputError when the file is in use, damaged, or the disk is full.
    """

    def __init__(self, path: Path, *, advice: Advice, journal_mode: str = "DELETE") -> None:
        self._advice = advice
        with self._translated():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.2)
            try:
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute(f"PRAGMA journal_mode = {journal_mode}")
                self._db.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error:
                self._db.close()
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as one sentence on what to do."""
        where = self._advice.where
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise OutputError(
                    f"{where}: another run is writing there; wait, or {self._advice.elsewhere}"
                ) from error
            if "full" in str(error) or "disk I/O" in str(error):
                raise OutputError(f"{where}: the disk is full or broken; {self._advice.full}") from error
            raise OutputError(
                f"{where}: the journal cannot be opened or written ({error}); {self._advice.elsewhere}"
            ) from error
        except sqlite3.DatabaseError as error:
            raise DamagedError(f"{where}: the journal is damaged ({error}); {self._advice.damaged}") from error

    def execute(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        with self._translated():
            return self._db.execute(statement, tuple(values))

    def execute_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._translated():
            self._db.executemany(statement, rows)

    def rows(self, statement: str, values: Iterable[Any] = ()) -> Iterator[Any]:
        """The rows of a query, one after the other."""
        cursor = self.execute(statement, values)
        while True:
            with self._translated():
                row = cursor.fetchone()
            if row is None:
                return
            yield row

    def commit(self) -> None:
        """Make all so far survive a power cut."""
        with self._translated():
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")

    def rollback(self) -> None:
        """Go back to the last commit, as after an error; SQLite may have done so itself."""
        with self._translated():
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN")

    def close(self) -> None:
        """Leave without a commit: what was not committed is undone."""
        self._db.close()

    def __enter__(self: Kind) -> Kind:
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
