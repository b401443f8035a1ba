"""What int8 must keep of float32 before it ships, measured on films: each gate with its limit, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bonefrac.machine import usable_cores
from bonefrac.model import OperatingPoints
from bonefrac_benchmarks.accuracy import maps_agree
from bonefrac_benchmarks.statistics import Interval
from bonefrac_export.cpus import OtherCpu
from bonefrac_export.evaluate import operating_points
from bonefrac_export.session import one_thread

AUROC_DROP = 0.005
FLIPS = 0.01  # of the decisions, two a film: at the sensitive and at the specific point
CORRELATION = 0.95  # of heat maps, the mean over films with a fracture
PEAKS = 0.90  # of their peaks lie in one cell, or in neighbours
FASTER = 1.1
CPU_DIFFERENCE, CPU_FLIPS = 0.01, 0.005


@dataclass(frozen=True)
class Check:
    """One gate: what was asked, what was measured, what it must be, and whether it `holds`."""

    what: str
    measured: str
    must: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.measured}, must be {self.must}"


@dataclass(frozen=True)
class Agreement:
    """int8 against float32 on the same films: AUROC of int8 less that of float32, None without labels; the number of
    decisions that differ, by the name of the point; `maps` as `maps_agree` gives it."""

    films: int
    auroc_difference: float | None
    flips: Mapping[str, int]
    maps: Mapping[str, Any] | None

    def checks(self) -> list[Check]:
        """The gates of accuracy."""
        found = []
        if (drop := self.auroc_difference) is not None:
            found.append(Check("AUROC less float32's", f"{drop:+.4f}", f"{-AUROC_DROP} or more", drop >= -AUROC_DROP))
        changed, decisions = sum(self.flips.values()), self.films * len(self.flips)
        at = ", ".join(f"{count} at the {name} point" for name, count in self.flips.items())
        words = f"{changed} of {decisions} ({changed / decisions:.2%}; {at})"
        found.append(Check("decisions changed", words, f"at most {FLIPS:.0%}", changed <= FLIPS * decisions))
        if self.maps is not None:
            alike, near = self.maps["correlation"], self.maps["peak_within_a_cell"]
            same, words = alike >= CORRELATION, f"{near['count']} of {near['of']}"
            found.append(Check("heat maps' correlation", f"{alike:.4f}", f"{CORRELATION} or more", same))
            same = near["value"] >= PEAKS
            found.append(Check("heat maps' peaks in one cell or neighbours", words, f"{PEAKS:.0%} or more", same))
        return found


def agreement_of(between: dict[str, Any]) -> Agreement:
    """What `bonefrac-bench accuracy` found between int8 and float32, as the gates see it."""
    sign = 1 if between["precisions"][0] == "int8" else -1
    flips = {name: point["flips"] for name, point in between["points"].items()}
    return Agreement(between["films"], sign * between["auroc_difference"], flips, between["heatmaps"])


@dataclass(frozen=True)
class Said:
    """What a graph says of n films: `probability` (n,), to four digits as rows have it, and `heatmap` (n, h, w),
    (n, 0, 0) where it has none."""

    probability: NDArray[np.float64]
    heatmap: NDArray[np.float32]


def say(model: onnx.ModelProto, films: NDArray[np.uint8]) -> Said:
    """Run a graph on uint8 (n, height, width, 1), film by film."""
    session = one_thread(model)
    outputs = [output.name for output in session.get_outputs() if output.name in ("probability", "heatmap")]

    def run(film: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(outputs, session.run(outputs, {"pixels": film[None]}), strict=True))

    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(run, films))
    flat = np.zeros((1, 0, 0), np.float32)
    return Said(
        np.array([round(float(of_film["probability"][0]), 4) for of_film in found]),
        np.concatenate([of_film.get("heatmap", flat) for of_film in found]),
    )


class Gate:
    """Does a graph decide as `float32` does? On `films`, uint8 (n, height, width, 1), of which `fractured` (n,) says
    what they show, where that is known; with the `points` given, or those that the graph's own scores give."""

    def __init__(
        self,
        float32: onnx.ModelProto,
        films: NDArray[np.uint8],
        fractured: NDArray[np.bool_] | None,
        points: OperatingPoints | None,
    ) -> None:
        self.films = films
        self._fractured = fractured
        self._points = points
        self._exact = say(float32, films)

    def faults(self, model: onnx.ModelProto) -> list[Check]:
        """What does not hold; empty where all does."""
        return [check for check in self.agreement(model).checks() if not check.holds]

    def agreement(self, model: onnx.ModelProto) -> Agreement:
        """Heat maps are compared on films with a fracture, without labels on those that are suspicious."""
        said, exact, truth = say(model, self.films), self._exact, self._fractured
        limits = self._limits(said)
        flips = {name: int(((said.probability >= p) != (exact.probability >= p)).sum()) for name, p in limits.items()}
        shown = exact.probability >= limits["sensitive"] if truth is None else truth
        drop = None
        if truth is not None:
            drop = float(roc_auc_score(truth, said.probability) - roc_auc_score(truth, exact.probability))
        return Agreement(len(self.films), drop, flips, maps_agree(said.heatmap[shown], exact.heatmap[shown]))

    def some(self, count: int) -> NDArray[np.uint8]:
        """See `some_of_both`."""
        return some_of_both(self.films, self._fractured, count)

    def limits(self, model: onnx.ModelProto) -> dict[str, float]:
        """The operating points by name that `model` would get."""
        return self._limits(say(model, self.films))

    def _limits(self, said: Said) -> dict[str, float]:
        if self._points is not None:
            return {"sensitive": self._points.sensitive, "specific": self._points.specific}
        assert self._fractured is not None
        sensitive, specific = operating_points(self._fractured, said.probability)
        return {"sensitive": sensitive, "specific": specific}


def some_of_both(films: NDArray[np.uint8], fractured: NDArray[np.bool_] | None, count: int) -> NDArray[np.uint8]:
    """`count` films (n, height, width, 1), or all where there are fewer: half of them fractured as far as there are so
    many, from the whole list."""
    if fractured is None:
        fractured = np.zeros(len(films), bool)
    rows = [np.flatnonzero(fractured), np.flatnonzero(~fractured)]
    half = min(len(rows[0]), max(count // 2, count - len(rows[1])))
    chosen = [
        of[np.linspace(0, len(of) - 1, min(many, len(of))).astype(int)]
        for of, many in zip(rows, (half, count - half), strict=True)
    ]
    return films[np.sort(np.concatenate(chosen))]


def speed_check(ratio: Interval) -> Check:
    """int8's films a second over float32's."""
    words = f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    return Check("films a second, times float32's", words, f"{FASTER} or more", ratio.value >= FASTER)


def cpu_checks(others: list[OtherCpu] | None) -> list[Check]:
    """One for each processor that was emulated; none where nothing was."""
    found = []
    for other in others or ():
        flips = max(len(rows) for rows in other.flips.values())
        words = f"probabilities differ by at most {other.difference:.4f}, {flips} of {other.films} decisions change"
        holds = other.difference <= CPU_DIFFERENCE and flips <= CPU_FLIPS * other.films
        found.append(Check(f"on {other.cpu}", words, f"{CPU_DIFFERENCE} and {CPU_FLIPS:.1%} or less", holds))
    return found
