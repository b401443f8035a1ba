"""`bonefrac-bench drop`: how long a film takes from the end of its writing to its row, on a quiet PC."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac_benchmarks.contents import Content, Contents, draw_pictures, fill_with_old
from bonefrac_benchmarks.daemon import Daemon, Rows
from bonefrac_benchmarks.figures import Spread
from bonefrac_benchmarks.holds import Held, sheet
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.workdir import working_in

ALLOWED_S = 1.0  # beyond the settle time: issue 6, "Reach"
_PATIENCE_S = 120.0
_PICTURES = 20


@dataclass(frozen=True)
class DropSettings:
    """What was asked for. `beside` films have their rows already; `gap`: seconds at most from a row to the next film;
    the watcher's `settle` and `rescan`, in seconds."""

    films: int = 20
    beside: int = 0
    gap: float = 3.0
    settle: float = 2.0
    rescan: float = 30.0
    model: str = "flagship"

    @property
    def options(self) -> tuple[str, ...]:
        return ("--settle", f"{self.settle:g}", "--rescan", f"{self.rescan:g}", "--model", self.model, "--quiet")


@dataclass(frozen=True)
class Drop:
    """What was measured: seconds from the end of writing to the row, one sample a film."""

    settings: DropSettings
    machine: Machine
    row_s: Spread

    @property
    def held(self) -> list[Held]:
        allowed_s = self.settings.settle + ALLOWED_S
        must = f"settle time + 1 s = {allowed_s:g} s"
        return [
            Held("from drop to row, median", must, f"{self.row_s.median:.2f} s", self.row_s.median <= allowed_s),
            Held("from drop to row, worst", must, f"{self.row_s.high:.2f} s", self.row_s.high <= allowed_s),
        ]

    def lines(self) -> list[str]:
        return [
            *self.machine.lines(),
            f"Watcher: bonefrac watch INBOX --out DIR {' '.join(self.settings.options)}",
            f"{self.settings.films} films, each {self.settings.gap / 3:g} to {self.settings.gap:g} s after the row of"
            f" the one before, beside {self.settings.beside} that have their rows;",
            f"from the end of writing to the row in results.csv: {self.row_s.text(2)} s",
            *sheet(self.held),
        ]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "benchmark": "drop",
            "settings": vars(self.settings),
            "machine": self.machine.record(),
            "options": list(self.settings.options),
            "row_s": self.row_s.record(),
            "held": [one.record() for one in self.held],
        }


def measure_drop(folder: Path | None, settings: DropSettings) -> Drop:
    """One film at a time, at moments that have nothing to do with the rescans. Raises UsageError for one without a
    row."""
    machine = this_machine()
    moments = random.Random(1)
    row_s: list[float] = []
    with working_in(folder) as work:
        draw_pictures(work / "pictures", _PICTURES, seed=1)
        contents = Contents(work / "pictures")
        daemon = Daemon(work, settings.options)
        fill_with_old(daemon.inbox, work, settings.beside)
        with daemon:
            daemon.wait_until_watching()
            daemon.wait_until_through(settings.beside)
            rows = Rows(daemon.table)
            for number in range(settings.films):
                time.sleep(moments.uniform(settings.gap / 3, settings.gap))
                content = Content(number % len(contents), number + 1)
                name = f"{number:04}{contents.suffix(content)}"
                (daemon.inbox / name).write_bytes(contents.data(content))
                dropped_s = time.monotonic()
                if rows.wait_for({name}, settings.settle + _PATIENCE_S):
                    raise UsageError(f"{name} has no row after {settings.settle + _PATIENCE_S:g} s: {daemon.status()}")
                row_s.append(rows.seen_s[name] - dropped_s)
            daemon.stop()
    return Drop(settings, machine, Spread(tuple(row_s)))
