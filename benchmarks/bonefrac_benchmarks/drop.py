"""`bonefrac-bench drop`: how long a film takes from the end of its writing to its row, on a quiet PC.

The next film comes only after the row of the one before: `watch` measures films that come whenever they like."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from bonefrac_benchmarks.daemon import WatcherSettings
from bonefrac_benchmarks.dropping import dropping
from bonefrac_benchmarks.figures import Spread
from bonefrac_benchmarks.holds import Held, sheet
from bonefrac_benchmarks.machine import Machine, this_machine

ALLOWED_S = 1.0  # beyond the settle time


@dataclass(frozen=True)
class DropSettings(WatcherSettings):
    """What was asked for. `beside` films have their rows already; `gap`: seconds at most from a row to the next film;
    the watcher's `settle` and `rescan`, in seconds."""

    films: int = 20
    beside: int = 0
    gap: float = 3.0


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
    with dropping(folder, settings.options, settings.settle, beside=settings.beside) as inbox:
        for _ in range(settings.films):
            inbox.look_until(time.monotonic() + moments.uniform(settings.gap / 3, settings.gap))
            inbox.drop()
            inbox.wait()
        row_s = inbox.row_s()
    return Drop(settings, machine, Spread(row_s))
