"""Whole films put into the inbox of a watcher that runs, and when each had its row: what `drop` and `watch` share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac_benchmarks.contents import Content, Contents, draw_pictures, fill_with_old
from bonefrac_benchmarks.daemon import Daemon, Rows, read_table
from bonefrac_benchmarks.workdir import working_in

PICTURES = 20
_PATIENCE_S = 120.0  # beyond the settle time, for a film to get its row


class Dropping:
    """A watcher at work, and the films that were dropped into its inbox so far."""

    def __init__(self, daemon: Daemon, contents: Contents, settle_s: float) -> None:
        self._daemon, self._contents, self._patience_s = daemon, contents, settle_s + _PATIENCE_S
        self._rows = Rows(daemon.table)
        self._written_s: dict[str, float] = {}

    def drop(self) -> str:
        """Write the next film, no two of which are alike; returns its name."""
        number = len(self._written_s)
        content = Content(number % len(self._contents), number + 1)
        name = f"{number:04}{self._contents.suffix(content)}"
        (self._daemon.inbox / name).write_bytes(self._contents.data(content))
        self._written_s[name] = time.monotonic()
        return name

    def look_until(self, moment_s: float) -> None:
        """Notice new rows until that moment (monotonic); at least once."""
        while True:
            self._rows.look()
            left_s = moment_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(0.01, left_s))

    def wait(self) -> None:
        """Until every film has its row. Raises UsageError for one without a row after two minutes."""
        if missing := self._rows.wait_for(set(self._written_s), self._patience_s):
            raise UsageError(
                f"{min(missing)} has no row after {self._patience_s:g} s, and {len(missing) - 1} others have none:"
                f" {self._daemon.status()}"
            )

    def networks(self) -> set[str]:
        """SHA-256 of the files that the watcher's rows say they were judged with."""
        return {row["model_sha256"] for row in read_table(self._daemon.table)}

    def row_s(self) -> tuple[float, ...]:
        """Seconds from the end of each film's writing to its row, in the order of dropping."""
        return tuple(self._rows.seen_s[name] - written_s for name, written_s in self._written_s.items())


@contextmanager
def dropping(folder: Path | None, options: tuple[str, ...], settle_s: float, *, beside: int = 0) -> Iterator[Dropping]:
    """A watcher with these options that has dealt with `beside` films before; `folder` keeps films and results."""
    with working_in(folder) as work:
        draw_pictures(work / "pictures", PICTURES, seed=1)
        daemon = Daemon(work, options)
        fill_with_old(daemon.inbox, work, beside)
        with daemon:
            daemon.wait_until_watching()
            daemon.wait_until_through(beside)
            yield Dropping(daemon, Contents(work / "pictures"), settle_s)
            daemon.stop()
