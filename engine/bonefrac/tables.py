"""What a watched inbox shows: the tables, the live page, and what is pruned from both. All made from the ledger."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path

from bonefrac.ledger import Ledger, Row
from bonefrac.report import write_index
from bonefrac.results import Result
from bonefrac.sinks import CSV_HEADER, atomic, csv_line, printable
from bonefrac.status import Status

TABLE = "results.csv"
_STAND_INS = [f"results.{number}.csv" for number in range(1, 10)]
_ON_PAGE = 200
_IN_USE_S = 10.0  # how soon a table is tried again that another program holds open


class Tables:
    """`results.csv`, one or one a day, and `index.html`, in the folder `out`."""

    def __init__(self, out: Path, ledger: Ledger, *, by_day: bool) -> None:
        self._out, self._ledger, self._by_day = out, ledger, by_day
        self._changed = {""} if not by_day else set(ledger.days())  # after a crash, no table is known to be right
        self._page_changed = True
        self._lines: dict[int, tuple[str, bytes]] = {}  # key of the result and line, by the film's number
        self._soonest_s = 0.0
        self.in_use = ""  # what another program holds open, and where its newest version lies

    @property
    def due_s(self) -> float:
        """When to write, on the monotonic clock; never where nothing changed."""
        return self._soonest_s if self._changed or self._page_changed else math.inf

    def changed(self, day: str) -> None:
        """A film of this day has a new row."""
        self._changed.add(day if self._by_day else "")
        self._page_changed = True

    def postpone(self, until_s: float) -> None:
        self._soonest_s = until_s

    def write(self, status: Status, now_s: float) -> None:
        """Write what changed. The larger the tables, the rarer: they take a tenth of the time at most."""
        started_s = time.monotonic()
        self.in_use = ""
        if self._by_day:
            self._changed |= self._ledger.mended
        self._ledger.mended.clear()
        self._changed = {day for day in sorted(self._changed) if not self._write_table(self._out / day, day)}
        rows = ((_told(row), row.picture, row.analysed) for row in self._ledger.latest(_ON_PAGE))
        write_index(self._out / "index.html", rows, status=status, most_rows=_ON_PAGE)
        self._page_changed = False
        self._soonest_s = now_s + max(10 * (time.monotonic() - started_s), _IN_USE_S if self._changed else 0.0)

    def _write_table(self, folder: Path, day: str) -> bool:
        """The table under its name; or, where a spreadsheet holds that open (Windows), under the next free one, and
        False."""
        stand_ins = [folder / name for name in _STAND_INS]
        for place in (folder / TABLE, *stand_ins):
            try:
                with atomic(place) as file:
                    file.write(CSV_HEADER)
                    for number, key in self._ledger.table(day):
                        file.write(self._line(number, key))
            except PermissionError:
                if place == stand_ins[-1] or not place.exists():
                    raise
                self.in_use = f"{TABLE} is open in another program; close it there"
                continue
            _remove([stand_in for stand_in in stand_ins if stand_in != place])
            if place.name != TABLE:
                self.in_use += f": the newest is {place.name}"
            return place.name == TABLE
        raise AssertionError("the last stand-in is written or raises")

    def _line(self, number: int, key: str) -> bytes:
        """A film's line, kept for the next time: most of a long table has not changed."""
        kept = self._lines.get(number)
        if kept is None or kept[0] != key:
            row = self._ledger.row(number)
            kept = self._lines[number] = key, csv_line(_told(row), row.model)
        return kept[1]

    def prune(self, keep_days: int) -> int:
        """Remove pictures, thumbnails and rows of all but the last days on which there was work; returns how many
        days went. The ledger still knows that the films were analysed."""
        pruned = 0
        for day in self._ledger.pruned_days(keep_days):
            files = [self._out / picture for picture in self._ledger.pictures(day)]
            if self._by_day:
                files += [self._out / day / name for name in (TABLE, *_STAND_INS)]
            if not _remove(files):
                continue  # one of them is open in another program: the next time
            _remove_empty(self._out / day if self._by_day else self._out / "annotated")
            pruned += 1
            self._ledger.prune(day)
            self._ledger.commit()
            self._changed.discard(day)
            self._page_changed = True
            if not self._by_day:
                self._changed.add("")
        return pruned


def _told(row: Row) -> Result:
    """The result with a word on whose copy it is."""
    if not row.first:
        return row.result
    words = [f"same content as {printable(row.first)}", row.result.message]
    return replace(row.result, message="; ".join(filter(None, words)))


def _remove(paths: list[Path]) -> bool:
    """False where one of them is open in another program (Windows)."""
    gone = True
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except PermissionError:
            if os.name != "nt":
                raise
            gone = False
    return gone


def _remove_empty(folder: Path) -> None:
    """The folder and those below it, where nothing is left in them."""
    for place, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(place):
            os.rmdir(place)
