"""`bonefrac-bench idle`: what a watcher costs that has nothing to do, beside many films dealt with long ago."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac_benchmarks.contents import draw_pictures, fill_with_old
from bonefrac_benchmarks.daemon import Daemon
from bonefrac_benchmarks.holds import Held, sheet
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.workdir import working_in

MOST_CPU = 0.01  # of one core
FLAT = 1.02  # "memory flat": at the end over at the beginning
_PICTURES = 20
_WARM_UP_LOOKS = 2.5  # whole looks at the inbox before the measuring begins


@dataclass(frozen=True)
class IdleSettings:
    """What was asked for; `settle` and `rescan` are the watcher's own options, in seconds."""

    films: int = 50_000
    minutes: float = 60.0
    settle: float = 2.0
    rescan: float = 30.0
    model: str = "flagship"
    device: str = "cpu"


@dataclass(frozen=True)
class Sample:
    """`at_s` since the measuring began, processor seconds spent until then, MB (10^6 bytes), open files."""

    at_s: float
    cpu_s: float
    resident_mb: float
    files: int


@dataclass(frozen=True)
class Idle:
    """What was measured. `drained_s`: how long the first look at all the films took, until each had its row."""

    settings: IdleSettings
    machine: Machine
    options: tuple[str, ...]
    drained_s: float
    peak_before_mb: float
    samples: tuple[Sample, ...]
    peak_mb: float
    most_files: int
    rows: int

    @property
    def seconds(self) -> float:
        return self.samples[-1].at_s - self.samples[0].at_s

    @property
    def cpu(self) -> float:
        """Share of one core."""
        return (self.samples[-1].cpu_s - self.samples[0].cpu_s) / self.seconds

    @property
    def held(self) -> list[Held]:
        first, last = self.samples[0], self.samples[-1]
        what = f"idle for {self.seconds / 60:.3g} min beside {self.settings.films} films"
        return [
            Held(what, f"under {MOST_CPU:.0%} of one core", f"{self.cpu:.2%}", self.cpu < MOST_CPU),
            Held("resident memory", f"flat: at the end <= {FLAT:g} x at the beginning",
                 f"{first.resident_mb:.1f} -> {last.resident_mb:.1f} MB, peak {self.peak_mb:.1f}",
                 last.resident_mb <= FLAT * first.resident_mb),
            Held("open files", "no growth", f"{first.files} -> {last.files}, most {self.most_files}",
                 last.files <= first.files),
            Held("films with a row", str(self.settings.films), str(self.rows), self.rows == self.settings.films),
        ]  # fmt: skip

    def lines(self) -> list[str]:
        return [
            *self.machine.lines(),
            f"Watcher: bonefrac watch INBOX --out DIR {' '.join(self.options)}",
            f"{self.settings.films} films of {_PICTURES} contents were dealt with in {self.drained_s:.0f} s,"
            f" with a peak of {self.peak_before_mb:.0f} MB",
            *sheet(self.held),
        ]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "benchmark": "idle",
            "settings": vars(self.settings),
            "machine": self.machine.record(),
            "options": list(self.options),
            "drained_s": self.drained_s,
            "peak_until_drained_mb": self.peak_before_mb,
            "seconds": self.seconds,
            "cpu_share_of_one_core": self.cpu,
            "peak_mb": self.peak_mb,
            "most_open_files": self.most_files,
            "samples": [vars(sample) for sample in self.samples],
            "held": [one.record() for one in self.held],
        }


def measure_idle(folder: Path | None, settings: IdleSettings) -> Idle:
    """Let a watcher drain a full inbox, then look at it doing nothing. Raises UsageError where it does not drain."""
    machine = this_machine()
    options = (
        "--annotate", "none", "--settle", f"{settings.settle:g}", "--rescan", f"{settings.rescan:g}",
        "--model", settings.model, "--device", settings.device, "--quiet",
    )  # fmt: skip
    with working_in(folder) as work:
        draw_pictures(work / "pictures", _PICTURES, seed=1)
        daemon = Daemon(work, options)
        fill_with_old(daemon.inbox, work, settings.films)
        with daemon:
            daemon.wait_until_watching()
            started_s = time.monotonic()
            drained_s = daemon.wait_until_through(settings.films)
            _rest(daemon, _WARM_UP_LOOKS * settings.rescan)
            before_mb = daemon.peak_mb
            samples = tuple(_samples(daemon, settings.minutes * 60))
            rows = int(daemon.status()["done"])
    peak_mb, files = max(sample.resident_mb for sample in samples), max(sample.files for sample in samples)
    return Idle(settings, machine, options, drained_s - started_s, before_mb, samples, peak_mb, files, rows)


def _samples(daemon: Daemon, seconds: float) -> Iterator[Sample]:
    """One now, one every half a minute, one at the end."""
    started_s = time.monotonic()
    while True:
        at_s = time.monotonic() - started_s
        resident_mb, files = daemon.sample()
        yield Sample(at_s, daemon.cpu_s(), resident_mb, files)
        if at_s >= seconds:
            return
        _rest(daemon, min(30.0, seconds - at_s))


def _rest(daemon: Daemon, seconds: float) -> None:
    time.sleep(max(0.0, seconds))
    if not daemon.alive:
        raise UsageError(f"bonefrac watch ended with status {daemon.process.returncode}: {daemon.last_words()}")
