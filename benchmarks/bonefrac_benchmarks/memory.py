"""`bonefrac-bench memory`: the peak resident memory of bonefrac-batch on folders of many films, and whether it grows.

The figure counts library pages that are shared with other processes too, as a task manager does.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bonefrac.model import load_model
from bonefrac_benchmarks.commands import BATCH_WITH_PEAK, finished_run, run_python
from bonefrac_benchmarks.figures import Goal, Spread, table
from bonefrac_benchmarks.films import files_below, fill
from bonefrac_benchmarks.machine import Machine, this_machine

PEAK_TARGET_MB = 400.0  # issue 2, section 4
FLAT_TARGET = 1.1  # "flat": the largest folder's peak over the smallest's

_MB = 1e6


@dataclass(frozen=True)
class Peak:
    """One run: films in the folder, of which so many gave a finding, and the process's peak in MB (10^6 bytes)."""

    films: int
    analysed: int
    peak_mb: float
    films_a_second: float


@dataclass(frozen=True)
class Memory:
    """The peaks by rising number of films, on one machine with one model file."""

    machine: Machine
    model: str
    sha256: str
    peaks: tuple[Peak, ...]

    @property
    def goals(self) -> tuple[Goal, ...]:
        first, last = self.peaks[0], self.peaks[-1]
        highest = Spread((max(peak.peak_mb for peak in self.peaks),))
        goals = [Goal("highest peak", highest, PEAK_TARGET_MB, at_least=False, unit=" MB", digits=0)]
        if last.films > first.films:
            name = f"peak of {last.films} films / peak of {first.films}"
            goals.append(Goal(name, Spread((last.peak_mb / first.peak_mb,)), FLAT_TARGET, at_least=False))
        return tuple(goals)

    def lines(self) -> list[str]:
        rows = [("films", "analysed", "peak MB", "films a second"), *(
            (str(p.films), str(p.analysed), f"{p.peak_mb:.0f}", f"{p.films_a_second:.1f}") for p in self.peaks
        )]  # fmt: skip
        return [
            *self.machine.lines(),
            f"Model:   {self.model}, SHA-256 {self.sha256}",
            "Peak resident memory of bonefrac-batch, a process of its own, pictures and report included:",
            *table(rows),
            *(goal.line() for goal in self.goals),
        ]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "benchmark": "memory",
            "machine": self.machine.record(),
            "model": {"model": self.model, "sha256": self.sha256},
            "peaks": [vars(peak) for peak in self.peaks],
            "goals": [goal.record() for goal in self.goals],
        }


def measure_memory(folder: Path, counts: tuple[int, ...], model: str) -> Memory:
    """Run bonefrac-batch once for each count. Raises UsageError for what cannot be measured with."""
    files = files_below(folder)
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
        bundle = load_model(model, device="cpu")
        name, sha256 = f"{bundle.name} {bundle.precision}", bundle.sha256
        peaks = tuple(_peak(files, count, model, Path(temporary)) for count in sorted(set(counts)))
    return Memory(machine, name, sha256, peaks)


def _peak(files: list[Path], count: int, model: str, temporary: Path) -> Peak:
    """One run on `count` films. Raises UsageError where none was analysed: the figure would say nothing."""
    films, out, report = (temporary / f"{kind}-{count}" for kind in ("films", "out", "peak"))
    fill(films, files, count)
    options = (report, films, "--out", out, "--model", model, "--device", "cpu", "--quiet")
    run_python(BATCH_WITH_PEAK, options, allowed=(0, 1))  # 1: some of the films are damaged
    run = finished_run(out)
    analysed = int(run["counts"]["analysed"])
    return Peak(count, analysed, int(report.read_text(encoding="ascii")) / _MB, float(run["films_a_second"]))
