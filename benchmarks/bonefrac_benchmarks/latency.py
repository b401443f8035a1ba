"""`bonefrac-bench latency`: how long one film takes, one after the other (MLPerf's *single stream*).

The next film begins when the row of the one before is there. A film goes through the engine's own path, from the bytes
of its file in memory to the bytes of its row in `results.csv`, on one worker with one thread, as it does in a watched
inbox.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from bonefrac.errors import UsageError
from bonefrac.model import load_model, read_manifest
from bonefrac.pipeline import Examiner, Unchanged, examine
from bonefrac.results import Finding
from bonefrac.sinks import csv_line
from bonefrac.sources import FilmFile
from bonefrac_benchmarks.artefact import Artefact, artefact, bundle_folder
from bonefrac_benchmarks.films import sample
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.quantiles import WINDOWS, lines, needed_for, quantiles, windows
from bonefrac_benchmarks.statistics import fewest_for
from bonefrac_benchmarks.validity import Validity

SINGLE_STREAM = 0.90  # the quantile that MLPerf judges a single stream by
_WARM_UP = 8  # films, unmeasured


@dataclass(frozen=True)
class LatencySettings:
    """What was asked for: so many films are timed, a third of them different ones of the folder, or as many as it
    has."""

    folder: Path
    model: str = "flagship"
    device: str = "cpu"
    films: int = 662


@dataclass(frozen=True)
class Latency:
    """What was measured: seconds from bytes to row, one sample a film, in their order. `different`: films of the
    folder."""

    settings: LatencySettings
    machine: Machine
    artefact: Artefact
    provider: str
    different: int
    left_out: int
    row_s: tuple[float, ...]

    @property
    def quantiles(self) -> dict[str, dict[str, Any]]:
        return quantiles(self.row_s)

    @property
    def validity(self) -> Validity:
        return Validity(
            len(self.row_s), fewest_for(SINGLE_STREAM), "films", f"{_WARM_UP} films before",
            {"latency": windows(self.row_s)}, needed_for(SINGLE_STREAM),
        )  # fmt: skip

    def lines(self) -> list[str]:
        left_out = f" ({self.left_out} more cannot be read)" if self.left_out else ""
        return [
            *self.machine.lines(),
            f"{self.artefact.line()}, on {self.provider}",
            f"Films:   {len(self.row_s)} one after the other, {self.different} different ones{left_out}; from a film's"
            " bytes to its row, one worker, one thread",
            *lines(self.quantiles, "ms a film", 1000),
            self.validity.line(),
        ]

    def record(self) -> dict[str, Any]:
        """For JSON: every sample."""
        return {
            "benchmark": "latency",
            "settings": {
                **vars(self.settings),
                "folder": self.settings.folder.name,
                "model": Path(self.settings.model).name,
            },
            "machine": self.machine.record(),
            "artefact": self.artefact.record(),
            "provider": self.provider,
            "films": self.different,
            "films_left_out": self.left_out,
            "row_s": {"quantiles": self.quantiles, "samples": list(self.row_s)},
            "goals": [],
            "validity": self.validity.record(),
        }


def measure_latency(settings: LatencySettings) -> Latency:
    """Run it. Raises UsageError or BundleError for what cannot be measured with, before any waiting."""
    machine, bundle = this_machine(), bundle_folder(settings.model)
    measured = artefact(bundle)
    different = max(1, settings.films // WINDOWS)  # so that each window has the same films
    paths, left_out = sample(settings.folder, different, read_manifest(bundle).input.long_side)
    model = load_model(str(bundle), device=settings.device)
    made_by = {"model": measured.model, "model_sha256": measured.sha256, "precision": measured.precision}
    films = [FilmFile(path, path.name, content=path.read_bytes()) for path in paths]
    how = Examiner(model)
    row_s: list[float] = []
    for film in islice(cycle(films), _WARM_UP + settings.films):
        began_s = time.perf_counter()
        for result in examine([film], how):
            assert not isinstance(result, Unchanged), "nothing is known before"
            csv_line(result, made_by)
            row_s.append(time.perf_counter() - began_s)
            if not isinstance(result, Finding) and result.status == "failed":
                raise UsageError(f"{film.path}: {result.message}; leave damaged films out")
    return Latency(
        settings, machine, measured, model.provider, len(films), left_out, tuple(row_s[_WARM_UP:])
    )  # fmt: skip
