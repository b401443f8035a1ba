"""`bonefrac-bench watch`: films dropped at random into a watched inbox, and how long each waits for its row (MLPerf's
*server*).

They come as patients do, independent of one another: a Poisson process of a stated rate, drawn beforehand from a seed,
so that a slow watcher does not slow the films down. `drop` measures the same with one film at a time.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.errors import UsageError
from bonefrac_benchmarks.artefact import Artefact, artefact, bundle_folder
from bonefrac_benchmarks.daemon import WatcherSettings
from bonefrac_benchmarks.dropping import PICTURES, dropping
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.quantiles import lines, needed_for, quantiles, windows
from bonefrac_benchmarks.statistics import fewest_for
from bonefrac_benchmarks.validity import Validity

SERVER = 0.99  # the quantile that MLPerf judges a server by


@dataclass(frozen=True)
class WatchSettings(WatcherSettings):
    """What was asked for: `rate` films a second in the mean, the watcher's `settle` and `rescan`, in seconds."""

    rate: float = 2.0
    films: int = 662
    seed: int = 1


@dataclass(frozen=True)
class Watch:
    """What was measured: seconds from the end of writing to the row, one sample a film in the order of dropping, and
    the films a second that were really dropped."""

    settings: WatchSettings
    machine: Machine
    artefact: Artefact
    dropped_a_second: float
    row_s: tuple[float, ...]

    @property
    def quantiles(self) -> dict[str, dict[str, Any]]:
        return quantiles(self.row_s)

    @property
    def validity(self) -> Validity:
        """Windows that differ are those of a watcher that falls behind, too. Each film waits for the settle time, which
        is no part of them: beside it they would always agree."""
        beyond = [row_s - self.settings.settle for row_s in self.row_s]
        return Validity(
            len(self.row_s), fewest_for(SERVER), "films",
            "the watcher was at rest before; windows are of the time beyond the settle time",
            {"watch": windows(beyond)}, needed_for(SERVER),
        )  # fmt: skip

    def lines(self) -> list[str]:
        shown = tuple(Path(word).name if word == self.settings.model else word for word in self.settings.options)
        return [
            *self.machine.lines(),
            self.artefact.line(),
            f"Watcher: bonefrac watch INBOX --out DIR {' '.join(shown)}",
            f"Films:   {len(self.row_s)} of {PICTURES} drawn pictures, no two alike, at Poisson times of"
            f" {self.settings.rate:g} a second ({self.dropped_a_second:.2f} were dropped, seed {self.settings.seed})",
            f"From the end of writing to the row in results.csv, {self.settings.settle:g} s settle time included:",
            *lines(self.quantiles, "s", digits=2),
            self.validity.line(),
        ]

    def record(self) -> dict[str, Any]:
        """For JSON: every sample."""
        return {
            "benchmark": "watch",
            "settings": {**vars(self.settings), "model": Path(self.settings.model).name},
            "machine": self.machine.record(),
            "artefact": self.artefact.record(),
            "dropped_a_second": self.dropped_a_second,
            "row_s": {"quantiles": self.quantiles, "samples": list(self.row_s)},
            "goals": [],
            "validity": self.validity.record(),
        }


def arrivals(rate: float, films: int, seed: int) -> list[float]:
    """Seconds from the start to each film, rising: a Poisson process has independent gaps, exponential of mean 1 /
    rate."""
    rng, moment_s, moments = random.Random(seed), 0.0, []
    for _ in range(films):
        moment_s += rng.expovariate(rate)
        moments.append(moment_s)
    return moments


def measure_watch(folder: Path | None, settings: WatchSettings) -> Watch:
    """Run it. Raises UsageError or BundleError for a bundle that cannot be measured, for a film without a row, and
    where the rows are of another file than the one that is told."""
    machine, measured = this_machine(), artefact(bundle_folder(settings.model))
    with dropping(folder, settings.options, settings.settle) as inbox:
        began_s = time.monotonic()
        for moment_s in arrivals(settings.rate, settings.films, settings.seed):
            inbox.look_until(began_s + moment_s)
            inbox.drop()
        seconds = time.monotonic() - began_s
        inbox.wait()
        row_s, networks = inbox.row_s(), inbox.networks()
    if networks != {measured.sha256}:
        raise UsageError(f"the watcher ran another file than {measured.file}, {measured.sha256}: {sorted(networks)}")
    return Watch(settings, machine, measured, settings.films / seconds, row_s)
