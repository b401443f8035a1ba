"""`bonefrac-bench throughput`: films a second of the pipeline, of each stage and of the naive loop, in one run.

The peers take turns (A B C A B C ...), because a shared machine is faster in one minute than in the next; ratios are
formed round by round. A window is a number of whole passes over the same films, fixed after the warm-up, and its rate
is films over wall clock: the mean of single films' times is no throughput where films overlap.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.backends import OPENVINO, PROVIDERS, on_processor, usual_workers
from bonefrac.model import read_manifest
from bonefrac_benchmarks.artefact import Artefact, artefact, bundle_folder
from bonefrac_benchmarks.figures import Goal, Spread, table
from bonefrac_benchmarks.films import sample
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.peers import PEERS, Job, Window
from bonefrac_benchmarks.processes import started
from bonefrac_benchmarks.validity import FEWEST_WINDOWS, Validity, unstable

BOUND_TARGET = 0.92
NAIVE_TARGET = 3.0
ANNOTATE_ALL_TARGET = 0.75  # of the films a second with pictures of the findings alone
BATCH, ANNOTATE_ALL = "batch", "batch, annotate all"

_WHAT = {
    "pipeline": "read, decode, prepare, infer, find regions; no pictures, no outputs; model loaded before;"
    " `peers` calls it bonefrac, in another run with other films: do not compare the two",
    BATCH: "the whole bonefrac-batch but for Python's start: listing, loading, journal, pictures, CSV, report",
    ANNOTATE_ALL: "the same with --annotate all: a picture of each film, not of the findings alone",
    "naive float32": "cv2.imread, cv2.resize, session of default settings, batch 1, one loop",
    "naive int8": "the same loop with the int8 file, for information",
}


@dataclass(frozen=True)
class ThroughputSettings:
    """What was asked for. `films` are taken from the folder at most, `seconds` a window lasts at least; `workers` 0 are
    as many as bonefrac-batch takes for the device."""

    folder: Path
    model: str = "flagship"
    device: str = "cpu"
    workers: int = 0
    rounds: int = 5
    seconds: float = 5.0
    films: int = 48


@dataclass(frozen=True)
class Throughput:
    """What was measured. `rates` are films a second; `alone_ms` and `within_ms` milliseconds a film and thread, each
    stage alone on an idle machine and inside the pipeline, where the workers wait for one another. `cores_had`:
    processor seconds a second of the pipeline: fewer than `machine.cores` where other work or waiting had the rest."""

    settings: ThroughputSettings
    machine: Machine
    models: tuple[Artefact, ...]
    workers: int
    films: int
    left_out: int
    films_a_window: dict[str, int]
    rates: dict[str, Spread]
    alone_ms: dict[str, Spread]
    within_ms: dict[str, Spread]
    cores_had: Spread

    @property
    def cores(self) -> int:
        """So many can be at work at once."""
        return min(self.workers, self.machine.cores)

    @property
    def bound(self) -> Spread:
        return bound(self.cores, self.alone_ms, inferring=on_processor(provider(self.settings.device)))

    @property
    def bound_is(self) -> str:
        """How it is reckoned, in words."""
        if on_processor(provider(self.settings.device)):
            return f"{self.cores} cores / (decode + prepare + infer), infer as batch or one, whichever is faster"
        return f"{self.cores} cores / (decode + prepare), for they do not infer"

    @property
    def goals(self) -> list[Goal]:
        asked = [
            ("pipeline", "bound", BOUND_TARGET),
            ("pipeline", "naive float32", NAIVE_TARGET),
            (ANNOTATE_ALL, BATCH, ANNOTATE_ALL_TARGET),
        ]
        windows = self._windows
        return [
            Goal(f"{one} / {other}", windows[one].over(windows[other]), target,
                 unstable=unstable({name: windows[name] for name in (one, other)}))
            for one, other, target in asked
        ]  # fmt: skip

    @property
    def validity(self) -> Validity:
        kind = f"rounds of all {self.films} films"
        return Validity(self.settings.rounds, FEWEST_WINDOWS, kind, "one pass before", self._windows)

    @property
    def _windows(self) -> dict[str, Spread]:
        """What the goals are formed of."""
        rates = {name: self.rates[name] for name in ("pipeline", BATCH, ANNOTATE_ALL, "naive float32")}
        return {**rates, "bound": self.bound}

    def lines(self) -> list[str]:
        return [*self._heading(), "", *self._rate_lines(), "", *self._stage_lines(), "", *self._goal_lines()]

    def record(self) -> dict[str, Any]:
        """For JSON: every sample, and the SHA-256 of the files measured."""
        return {
            "benchmark": "throughput",
            "settings": {
                **vars(self.settings),
                "folder": self.settings.folder.name,
                "model": Path(self.settings.model).name,
                "workers": self.workers,
            },
            "machine": self.machine.record(),
            "artefact": self.models[0].record(),
            "other_files": [model.record() for model in self.models[1:]],
            "films": self.films,
            "films_left_out": self.left_out,
            "films_a_window": self.films_a_window,
            "films_a_second": {name: {**rate.record(), "what": _WHAT[name]} for name, rate in self.rates.items()},
            "stage_alone_ms_a_film": {name: spent.record() for name, spent in self.alone_ms.items()},
            "stage_within_pipeline_ms_a_film": {name: spent.record() for name, spent in self.within_ms.items()},
            "bound_films_a_second": self.bound.record(),
            "bound_is": self.bound_is,
            "bound_cores": self.cores,
            "cores_had_by_pipeline": self.cores_had.record(),
            "goals": [goal.record() for goal in self.goals],
            "validity": self.validity.record(),
        }

    def _heading(self) -> list[str]:
        first, *others = [model.line() for model in self.models]
        models = [f"{first}, on {self.settings.device}", *others]
        left_out = f" ({self.left_out} more cannot be read by every peer)" if self.left_out else ""
        how = (
            f"{self.films} films{left_out}, whole passes of at least {self.settings.seconds:g} s,"
            f" {self.settings.rounds} rounds in turn, each peer a process of its own, warmed up"
        )
        return [*self.machine.lines(), *models, f"Films:   {how}"]

    def _rate_lines(self) -> list[str]:
        rows = [("films a second", "median", "min", "max", "films a window")]
        rows += [
            (name, f"{rate.median:.1f}", f"{rate.low:.1f}", f"{rate.high:.1f}", str(self.films_a_window[name]))
            for name, rate in self.rates.items()
        ]
        head, *body = table(rows)
        return [head, *(f"{line}   {_WHAT[name]}" for line, name in zip(body, self.rates, strict=True))]

    def _stage_lines(self) -> list[str]:
        rows = [("ms a film, one thread", "median", "min", "max", f"inside the pipeline, {self.workers} workers")]
        for name, spent in self.alone_ms.items():
            within = f"{self.within_ms[name].median:.1f}" if name in self.within_ms else ""
            rows.append((name, f"{spent.median:.2f}", f"{spent.low:.2f}", f"{spent.high:.2f}", within))
        return [
            *table(rows),
            "  read: with the SHA-256; infer: a film's share of a batch as in the pipeline; infer one: a batch of one",
        ]

    def _goal_lines(self) -> list[str]:
        return [
            f"Bound: {self.bound.text()} films a second = {self.bound_is}",
            f"The pipeline had {self.cores_had.text(2)} of {self.machine.cores} cores; the bound is for {self.cores} of"
            " them",
            *(goal.line() for goal in self.goals),
            self.validity.line(),
        ]


def bound(cores: int, alone_ms: dict[str, Spread], *, inferring: bool = True) -> Spread:
    """Films a second that the cores could do at best: `cores / (decode + prepare + infer seconds of one film on one
    thread)`, round by round, with the faster way to infer, so that it is not flattering; without it where a GPU
    infers."""
    parts = zip(*(alone_ms[name].samples for name in ("decode", "prepare", "infer", "infer one")), strict=True)
    return Spread(
        tuple(1000 * cores / (decode + prepare + inferring * min(infer)) for decode, prepare, *infer in parts)
    )


def provider(device: str) -> str:
    """What computes on a device."""
    return PROVIDERS.get(device, OPENVINO)


def measure_throughput(settings: ThroughputSettings) -> Throughput:
    """Run it. Raises UsageError for a folder or a bundle that cannot be measured with, before any waiting."""
    machine = this_machine()
    model = bundle_folder(settings.model)
    manifest = read_manifest(model)
    shipped = dict.fromkeys((manifest.default_precision, "float32"))  # what the pipeline runs, and the naive loop
    models = tuple(artefact(model, precision) for precision in shipped)
    films, left_out = sample(settings.folder, settings.films, manifest.input.long_side)
    job = Job(tuple(path.resolve() for path in films), model, settings.workers, settings.device)
    peers = ["pipeline", BATCH, ANNOTATE_ALL, "stages", "naive float32"]
    peers += ["naive int8"] * ("int8" in manifest.precisions)
    windows = _interleaved(peers, job, settings)
    rates = {
        name: Spread(tuple(window.films_a_second for window in of_peer))
        for name, of_peer in windows.items()
        if name != "stages"
    }
    workers = settings.workers or usual_workers(provider(settings.device), machine.cores)
    return Throughput(
        settings, machine, models, workers, len(films), left_out, {name: w[0].films for name, w in windows.items()},
        rates, _stage_ms(windows["stages"]), _stage_ms(windows["pipeline"]),
        Spread(tuple(window.cpu_s / window.seconds for window in windows["pipeline"])),
    )  # fmt: skip


def _interleaved(peers: list[str], job: Job, settings: ThroughputSettings) -> dict[str, list[Window]]:
    """Each peer's windows, one a round. The first pass of each warms it up and tells how many passes fill a window."""
    with ExitStack() as stack:
        measures = {name: stack.enter_context(started(PEERS[name], job)) for name in peers}
        passes = {name: passes_for(measure(1), settings.seconds) for name, measure in measures.items()}
        windows: dict[str, list[Window]] = {name: [] for name in peers}
        for _ in range(settings.rounds):
            for name, measure in measures.items():
                windows[name].append(measure(passes[name]))
        return windows


def passes_for(warm_up: Window, seconds: float) -> int:
    """How many passes like the first fill a window."""
    return max(1, math.ceil(seconds / warm_up.seconds))


def _stage_ms(windows: list[Window]) -> dict[str, Spread]:
    """Milliseconds a film, by stage, one sample a round; stages in the order in which a film passes them."""
    order = [name for name in ("read", "decode", "prepare", "infer", "infer one") if name in windows[0].stages]
    return {name: Spread(tuple(1000 * w.stages[name] / w.films for w in windows)) for name in order}
