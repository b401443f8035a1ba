"""`bonefrac-bench scale`: what a film costs in folders of a hundred to fifty thousand films, in time and in memory.

Each size is a run of bonefrac-batch in a process of its own, pictures and report included, on the same few films over
and over, as hard links. Time is that of the whole command, from the model's loading to the last file that it writes,
without the start of Python and the imports. Peak memory counts library pages that are shared with other processes too,
as a task manager does.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.model import read_manifest
from bonefrac_benchmarks.artefact import Artefact, artefact, bundle_folder
from bonefrac_benchmarks.commands import BATCH_WITH_PEAK, finished_run, run_python
from bonefrac_benchmarks.figures import Goal, Spread, table
from bonefrac_benchmarks.films import files_below, fill, spread
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.statistics import Interval, growth
from bonefrac_benchmarks.validity import FEWEST_WINDOWS, Validity
from bonefrac_benchmarks.wording import interval, shown

PEAK_TARGET_MB = 350.0
FLAT_TARGET = 1.1  # the peak of the largest folder over that of the smallest that counts
GROWTH_TARGET = 0.02  # how far the exponent may be from 1
FROM = 1000  # films: in smaller folders the start of the program counts for more than the films

_DIFFERENT = 100  # films of the folder, so that every size has the same mix
_MB = 1e6


@dataclass(frozen=True)
class ScaleSettings:
    """What was asked for. `films` are the sizes, each measured once a round; `blank`: with a network that does nothing,
    in the place of `model`'s."""

    folder: Path
    model: str = "flagship"
    device: str = "cpu"
    blank: bool = False
    films: tuple[int, ...] = (100, 1_000, 10_000, 50_000)
    rounds: int = 3


@dataclass(frozen=True)
class Run:
    """One run: films in the folder, of which so many gave a finding, its seconds, and the process's peak in MB (10^6
    bytes)."""

    films: int
    analysed: int
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Scale:
    """What was measured, in the order of time: each round from the smallest folder to the largest."""

    settings: ScaleSettings
    machine: Machine
    artefact: Artefact
    runs: tuple[Run, ...]

    @property
    def sizes(self) -> list[int]:
        return sorted({run.films for run in self.runs})

    def ms_a_film(self, size: int) -> Spread:
        return Spread(tuple(1000 * run.seconds / size for run in self.runs if run.films == size))

    def peak_mb(self, size: int) -> Spread:
        return Spread(tuple(run.peak_mb for run in self.runs if run.films == size))

    @property
    def growth(self) -> Interval | None:
        """The exponent of time, over the sizes from 1,000 on; None for fewer than two of them."""
        counted = [run for run in self.runs if run.films >= FROM]
        if len({run.films for run in counted}) < 2:
            return None
        return growth([run.films for run in counted], [run.seconds for run in counted])

    @property
    def goals(self) -> list[Goal]:
        of = ", blank network" * self.settings.blank
        highest = Spread((max(run.peak_mb for run in self.runs),))
        goals = [Goal(f"highest peak memory{of}", highest, PEAK_TARGET_MB, at_least=False, unit=" MB", digits=0)]
        counted = [size for size in self.sizes if size >= FROM] or self.sizes
        if len(counted) > 1:
            first, last = counted[0], counted[-1]
            flat = self.peak_mb(last).over(self.peak_mb(first))
            goals.append(Goal(f"peak memory of {last} films / of {first}{of}", flat, FLAT_TARGET, at_least=False))
        if (found := self.growth) is not None:
            off = Spread((abs(found.value - 1),))
            goals.append(Goal(f"growth exponent of time, off 1 by{of}", off, GROWTH_TARGET, at_least=False))
        return goals

    @property
    def validity(self) -> Validity:
        """The windows are the rounds at the largest size."""
        rounds = self.ms_a_film(self.sizes[-1])
        return Validity(len(rounds.samples), FEWEST_WINDOWS, "rounds", "one run before", {"scale": rounds})

    def lines(self) -> list[str]:
        rows = [("films", "ms a film", "films a second", "peak MB")]
        for size in self.sizes:
            cost = self.ms_a_film(size)
            rows.append((str(size), cost.text(2), f"{1000 / cost.median:.1f}", self.peak_mb(size).text(0)))
        found = interval(self.growth) if self.growth is not None else None
        exponent = f"Time grows as films to the power of {shown(found)}, from {FROM} films on"
        return [
            *self.machine.lines(),
            self.artefact.line()
            + f", on {self.settings.device}"
            + (": a network that does nothing" if self.settings.blank else ""),
            f"Films:   {_DIFFERENT} different ones at most, repeated as hard links; bonefrac-batch with pictures and"
            f" report, {self.settings.rounds} rounds",
            *table(rows),
            *([exponent] if found is not None else []),
            *(goal.line() for goal in self.goals),
            self.validity.line(),
        ]

    def record(self) -> dict[str, Any]:
        """For JSON: every run."""
        return {
            "benchmark": "scale",
            "settings": {
                **vars(self.settings),
                "folder": self.settings.folder.name,
                "model": Path(self.settings.model).name,
                "films": list(self.settings.films),
            },
            "machine": self.machine.record(),
            "artefact": self.artefact.record(),
            "runs": [vars(run) for run in self.runs],
            "sizes": [
                {"films": s, "ms_a_film": self.ms_a_film(s).record(), "peak_mb": self.peak_mb(s).record()}
                for s in self.sizes
            ],
            "growth": self.growth and interval(self.growth),
            "goals": [goal.record() for goal in self.goals],
            "validity": self.validity.record(),
        }


def measure_scale(settings: ScaleSettings) -> Scale:
    """Run bonefrac-batch once a round for each size. Raises UsageError for what cannot be measured with."""
    files = spread(files_below(settings.folder), _DIFFERENT)
    machine, bundle = this_machine(), bundle_folder(settings.model)
    measured = artefact(bundle)
    with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
        work = Path(temporary)
        if settings.blank:
            from bonefrac_benchmarks.blank import make_blank

            bundle = make_blank(work / "blank", read_manifest(bundle))
            measured = artefact(bundle)
        films = _copies(files, work / "originals")
        sizes = sorted(set(settings.films))
        model = (str(bundle), settings.device)
        _run(films, sizes[0], *model, work / "warm-up")
        runs = tuple(
            _run(films, size, *model, work / f"{number}-{size}") for number in range(settings.rounds) for size in sizes
        )
    return Scale(settings, machine, measured, runs)


def _copies(files: list[Path], folder: Path) -> list[Path]:
    """Of the films, on the disk where they will be linked."""
    folder.mkdir()
    return [Path(shutil.copyfile(file, folder / f"{number}{file.suffix}")) for number, file in enumerate(files)]


def _run(films: list[Path], size: int, bundle: str, device: str, work: Path) -> Run:
    """One run in a folder of its own, removed afterwards. Raises UsageError where none was analysed: the figure would
    say nothing."""
    fill(work / "films", films, size)
    report = work / "told.json"
    options = (report, work / "films", "--out", work / "out", "--model", bundle, "--device", device, "--quiet")
    run_python(BATCH_WITH_PEAK, options, allowed=(0, 1))  # 1: some of the films are damaged
    analysed = int(finished_run(work / "out")["counts"]["analysed"])
    told = json.loads(report.read_text(encoding="ascii"))
    shutil.rmtree(work)
    return Run(size, analysed, told["seconds"], told["peak_bytes"] / _MB)
