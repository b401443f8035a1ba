"""The watcher's journal: every film that ever arrived, what was claimed, what came out. The truth of a watched inbox.

A film is a name and a content: a file that changes is a new film. It is claimed, with its attempt counted, before it is
decoded; a claim of an earlier process is void. Rows are never deleted, so that nothing is ever analysed twice.
"""

# ruff: noqa: S608  # what queries are put together from stands in this file
from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bonefrac.database import Advice, Database
from bonefrac.errors import OutputError
from bonefrac.journal import as_result, columns
from bonefrac.results import Result, Source

_ADVICE = Advice(
    where="the watcher's journal",  # no path: this is logged
    elsewhere="choose another --out or --state",
    damaged="move it aside to begin anew, and keep the tables that are there",
    full="it goes on by itself once there is space",
)
_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS film (
        number INTEGER PRIMARY KEY,   -- in the order of arrival
        name BLOB NOT NULL,           -- relative path, as the file system has it
        sha256 TEXT NOT NULL,         -- "" where the file could not be read
        shown BLOB NOT NULL,          -- the name in tables, pictures and pages
        day TEXT NOT NULL,            -- on which it was first claimed
        picture BLOB NOT NULL,        -- relative path of its picture
        key TEXT NOT NULL DEFAULT '', -- of the model and the settings that the result came from
        claimed_by TEXT NOT NULL,     -- the process that has it in hand; "" when it is done
        attempts INTEGER NOT NULL,
        arrived TEXT NOT NULL,
        analysed TEXT NOT NULL DEFAULT '',  -- "" until there is a result
        first INTEGER NOT NULL DEFAULT 0,   -- number of the film that had this content first
        gone INTEGER NOT NULL DEFAULT 0,    -- from the tables: 1 pruned, 2 a failure that was mended
        status TEXT, finding TEXT, probability REAL, regions TEXT, width INTEGER, height INTEGER, message TEXT,
        model TEXT, model_sha256 TEXT, precision TEXT,
        UNIQUE (name, sha256)
    )""",
    "CREATE INDEX IF NOT EXISTS content ON film (sha256)",
    "CREATE INDEX IF NOT EXISTS by_shown ON film (day, shown, number)",
    "CREATE TABLE IF NOT EXISTS thumbnail (number INTEGER PRIMARY KEY, jpeg BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS look"
    " (name BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS day (number INTEGER PRIMARY KEY, day TEXT UNIQUE NOT NULL)",
    "CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
_JUDGED = "status, finding, probability, regions, width, height, message"
_MODEL = "model, model_sha256, precision"
_PRUNED, _MENDED = 1, 2


@dataclass(frozen=True)
class Film:
    """A film's place in the ledger. `attempts` counts those that have begun and of which nothing came back."""

    number: int
    attempts: int
    done: bool
    picture: str
    day: str


@dataclass(frozen=True)
class New:
    """What is known of a film on its arrival: its name, its content's hash, and where its outputs will lie."""

    name: str
    sha256: str
    shown: str
    day: str
    picture: str
    arrived: str


@dataclass(frozen=True)
class Row:
    """A film as tables and pages show it. `first` is the shown name of the film whose content this is a copy of."""

    number: int
    result: Result
    model: dict[str, str]
    picture: str
    arrived: str
    analysed: str
    first: str


def _make_private(path: Path) -> None:
    """The journal holds names, whatever the tables show: it is for its owner alone, and so is what SQLite puts beside
    it, which has the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(path, 0o600)
    except OSError as error:
        raise OutputError(
            f"{_ADVICE.where} cannot be opened or written ({error.strerror}); {_ADVICE.elsewhere}"
        ) from error


class Ledger(Database):
    """A context manager. `owner` names this process, `key` the model and the settings that results depend on.

    Raises OutputError when the file is in use, damaged, or the disk is full.
    """

    def __init__(self, path: Path, *, owner: str, key: str) -> None:
        _make_private(path)
        super().__init__(path, advice=_ADVICE, journal_mode="WAL")  # one sync a commit
        self._owner, self._key = owner, key
        self.mended: set[str] = set()  # days of which a failure was withdrawn; their tables are no longer right
        try:
            for statement in _SCHEMA:
                self.execute(statement)
            self.commit()
        except BaseException:
            self.close()
            raise

    def recall(self, name: str) -> str:
        """A setting, or "" where it was never remembered."""
        return next((value for (value,) in self.rows("SELECT value FROM setting WHERE name = ?", (name,))), "")

    def remember(self, name: str, value: str) -> None:
        if self.recall(name) != value:
            self.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def looks(self, *, but: str = "") -> dict[str, tuple[int, int, int]]:
        """What each file looked like when it was dealt with, by name; those judged by another model, or with the status
        `but`, are left out, to be dealt with again."""
        rows = self.rows(
            "SELECT name, size, mtime_ns, inode FROM look"
            " WHERE name NOT IN (SELECT name FROM film WHERE key != ? OR status = ?)",
            (self._key, but),
        )
        return {os.fsdecode(name): (size, mtime_ns, inode) for name, size, mtime_ns, inode in rows}

    def find(self, name: str, sha256: str) -> Film | None:
        """The film of this name and content. A withdrawn failure is not done: it counts should it come back."""
        return self._one("name = ? AND sha256 = ?", os.fsencode(name), sha256)

    def same_content(self, name: str, sha256: str) -> Film | None:
        """The first film of this content under another name: done, or in this process' hands."""
        return self._one(
            "sha256 = ? AND name != ? AND first = 0 AND gone = 0 AND (key = ? AND claimed_by = '' OR claimed_by = ?)",
            sha256, os.fsencode(name), self._key, self._owner,
        )  # fmt: skip

    def has_name(self, name: str) -> bool:
        """Whether a film of this name is there, whatever its content."""
        return self._one("name = ?", os.fsencode(name)) is not None

    def _one(self, condition: str, *values: object) -> Film | None:
        columns_ = "number, attempts, key, claimed_by, picture, day, gone"
        query = f"SELECT {columns_} FROM film WHERE {condition} ORDER BY number LIMIT 1"
        for number, attempts, key, claimed_by, picture, day, gone in self.rows(query, values):
            done = key == self._key and not claimed_by and gone != _MENDED
            return Film(number, attempts, done, os.fsdecode(picture), day)
        return None

    def outcome(self, name: str, sha256: str) -> tuple[str, str]:
        """(status, message) of a film that is done."""
        query = "SELECT status, message FROM film WHERE name = ? AND sha256 = ?"
        return next(self.rows(query, (os.fsencode(name), sha256)))

    def claim(self, film: Film | None, new: New) -> Film:
        """Take a film in hand and count the attempt; on disk when this returns."""
        if film is None:
            number = self._insert(new, claimed_by=self._owner, attempts=1)
            film = Film(number, 0, False, new.picture, new.day)
        else:
            film = replace(film, picture=film.picture or new.picture)
            self.execute(
                "UPDATE film SET claimed_by = ?, attempts = attempts + 1, picture = ? WHERE number = ?",
                (self._owner, os.fsencode(film.picture), film.number),
            )
        self.commit()
        return replace(film, attempts=film.attempts + 1)

    def _insert(self, new: New, *, claimed_by: str, attempts: int) -> int:
        self.execute(
            "INSERT INTO film (name, sha256, shown, day, picture, arrived, claimed_by, attempts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                os.fsencode(new.name),
                new.sha256,
                os.fsencode(new.shown),
                new.day,
                os.fsencode(new.picture),
                new.arrived,
                claimed_by,
                attempts,
            ),
        )
        return next(self.rows("SELECT last_insert_rowid()"))[0]

    def finish(self, film: Film, result: Result, model: dict[str, str], *, picture: str, now: str) -> None:
        """What came out. A finding withdraws earlier failures of the same name: that file was not finished yet."""
        *judged, thumbnail = columns(result)
        self.execute(
            f"UPDATE film SET ({_JUDGED}, {_MODEL}) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?),"
            " key = ?, claimed_by = '', attempts = 0, picture = ?, analysed = ?, first = 0, gone = 0 WHERE number = ?",
            (*judged, *model.values(), self._key, os.fsencode(picture), now, film.number),
        )
        self.execute("INSERT OR REPLACE INTO thumbnail VALUES (?, ?)", (film.number, thumbnail))
        self._withdraw_failures(film.number)

    def copy(self, first: Film, new: New, known: Film | None) -> int:
        """A film whose content another one had before: the same result, no picture of its own. Returns its number."""
        number = known.number if known else self._insert(new, claimed_by="", attempts=0)
        self.execute(
            f"UPDATE film SET ({_JUDGED}, {_MODEL}, key, analysed) ="
            f" (SELECT {_JUDGED}, {_MODEL}, key, ? FROM film WHERE number = ?),"
            " claimed_by = '', attempts = 0, first = ?, gone = 0, picture = x'' WHERE number = ?",
            (new.arrived, first.number, first.number, number),
        )
        self._withdraw_failures(number)
        return number

    def _withdraw_failures(self, number: int) -> None:
        earlier = (
            "status = 'failed' AND gone = 0 AND number != ?"
            " AND name = (SELECT name FROM film WHERE number = ? AND status = 'ok')"
        )
        self.mended |= {day for (day,) in self.rows(f"SELECT day FROM film WHERE {earlier}", (number, number))}
        self.execute(f"UPDATE film SET gone = {_MENDED} WHERE {earlier}", (number, number))

    def saw(self, name: str, look: tuple[int, int, int]) -> None:
        """The file that looks like this has been dealt with."""
        self.execute("INSERT OR REPLACE INTO look VALUES (?, ?, ?, ?)", (os.fsencode(name), *look))

    def cut_off_pictures(self) -> list[str]:
        """Relative paths of the pictures of films that an earlier process had in hand when it ended: drawn or not, they
        belong to no row."""
        query = "SELECT picture FROM film WHERE analysed = '' AND claimed_by NOT IN ('', ?)"
        return [os.fsdecode(picture) for (picture,) in self.rows(query, (self._owner,))]

    def undo(self) -> None:
        """Go back to the last commit and give back what this process has in hand, the attempt uncounted: it was not the
        film that failed."""
        self.rollback()
        self.execute("UPDATE film SET claimed_by = '', attempts = attempts - 1 WHERE claimed_by = ?", (self._owner,))
        self.commit()

    def table(self, day: str = "") -> Iterator[tuple[int, str]]:
        """The films of a day's table, or of the one for all, in the order of shown names: number, and the key of what
        it was last judged with."""
        yield from self.rows(
            "SELECT number, key FROM film WHERE analysed != '' AND gone = 0 AND (day = ? OR ? = '')"
            " ORDER BY shown, number",
            (day, day),
        )

    def row(self, number: int) -> Row:
        """One film's row."""
        return next(self._rows("film.number = ?", number, order="film.number"))

    def latest(self, count: int) -> Iterator[Row]:
        """The films that arrived last, the most suspicious first, with their thumbnails."""
        yield from self._rows(
            "film.number IN (SELECT number FROM film WHERE analysed != '' AND gone = 0 ORDER BY number DESC LIMIT ?)",
            count, order="film.probability IS NULL, film.probability DESC, film.number DESC", thumbnail="jpeg",
        )  # fmt: skip

    def _rows(self, condition: str, *values: object, order: str, thumbnail: str = "x''") -> Iterator[Row]:
        judged = ", ".join("film." + name for name in f"{_JUDGED}, {_MODEL}".split(", "))
        query = (
            "SELECT film.number, film.shown, film.sha256, COALESCE(one.picture, film.picture), film.arrived,"
            f" film.analysed, one.shown, {judged}, COALESCE({thumbnail}, x'')"
            " FROM film LEFT JOIN film AS one ON one.number = film.first"
            " LEFT JOIN thumbnail ON thumbnail.number = COALESCE(one.number, film.number)"
            f" WHERE film.analysed != '' AND {condition} ORDER BY {order}"
        )
        for number, shown, sha256, picture, arrived, analysed, first, *rest in self.rows(query, values):
            *judged_values, model, model_sha256, precision, jpeg = rest
            yield Row(
                number,
                as_result(Source(os.fsdecode(shown), sha256), [*judged_values, jpeg]),
                {"model": model, "model_sha256": model_sha256, "precision": precision},
                os.fsdecode(picture),
                arrived,
                analysed,
                os.fsdecode(first) if first is not None else "",
            )

    def counts(self) -> dict[str, int]:
        """Films in the tables by finding, or by status where there is none."""
        query = (
            "SELECT CASE status WHEN 'ok' THEN finding ELSE status END, COUNT(*)"
            " FROM film WHERE analysed != '' AND gone = 0 GROUP BY 1"
        )
        return dict(self.rows(query))

    def days(self) -> list[str]:
        """The days that have tables."""
        return [
            day for (day,) in self.rows(f"SELECT DISTINCT day FROM film WHERE analysed != '' AND gone != {_PRUNED}")
        ]

    def open_day(self, day: str) -> None:
        """Note that this day has begun, now. Days are told apart and counted, never compared with a clock: one that was
        set wrong, and right again, changes nothing."""
        self.execute("DELETE FROM day WHERE day = ?", (day,))
        self.execute("INSERT INTO day (number, day) SELECT COALESCE(MAX(number), 0) + 1, ? FROM day", (day,))

    def pruned_days(self, keep: int) -> list[str]:
        """The days of which films are still in the tables, and after which more than `keep` others have begun: one more
        than is kept, for the day of a jumping clock is none."""
        query = (
            "SELECT day FROM day WHERE (SELECT COUNT(*) FROM day AS later WHERE later.number > day.number) > ?"
            f" AND day IN (SELECT day FROM film WHERE analysed != '' AND gone != {_PRUNED}) ORDER BY number"
        )
        return [day for (day,) in self.rows(query, (keep,))]

    def pictures(self, day: str) -> list[str]:
        """Relative paths of the pictures of a day's films."""
        query = "SELECT picture FROM film WHERE day = ? AND picture != x''"
        return [os.fsdecode(path) for (path,) in self.rows(query, (day,))]

    def prune(self, day: str) -> None:
        """Take a day's films out of the tables; that they were analysed stays known."""
        self.execute("DELETE FROM thumbnail WHERE number IN (SELECT number FROM film WHERE day = ?)", (day,))
        self.execute(f"UPDATE film SET gone = {_PRUNED}, picture = x'' WHERE day = ? AND analysed != ''", (day,))
