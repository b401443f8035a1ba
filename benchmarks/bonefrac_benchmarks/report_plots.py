"""The plots of a report: one SVG for each part that has something to see. No film is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bonefrac_benchmarks.plotting import LINE, MARK, SOFT, svg
from bonefrac_benchmarks.report import Part, Report

_ROOM = 1.08  # above the highest dot, which is drawn whole


def plots(report: Report) -> dict[str, str]:
    """`<svg>` elements by the part's name."""
    return {name: _DRAWN[name](part) for name, part in report.parts.items() if name in _DRAWN}


def _peers(part: Part) -> str:
    """Each peer's films a second: the median, and a line over all rounds."""

    def fill(sheet: Figure) -> None:
        axes = sheet.subplots()
        names = list(part["peers"])
        rates = [part["peers"][name]["films_a_second"] for name in names]
        places = np.arange(len(names))
        medians = [rate["median"] for rate in rates]
        ours = [MARK if name.startswith("bonefrac") else LINE for name in names]
        axes.barh(places, medians, color=ours, height=0.6)
        for place, rate in zip(places, rates, strict=True):
            axes.plot([rate["min"], rate["max"]], [place, place], color=SOFT, lw=1.2)
            axes.annotate(f"{rate['median']:.1f}", (rate["max"], place), xytext=(4, -3), textcoords="offset points")
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set(
            title="Films a second: median, and all rounds as a line", xlim=(0, 1.12 * max(r["max"] for r in rates))
        )

    return svg((9, 0.42 * len(part["peers"]) + 0.9), fill)


def _throughput(part: Part) -> str:
    """The rounds of the pipeline beside the bound, and where a film's time goes on one thread."""

    def fill(sheet: Figure) -> None:
        left, right = sheet.subplots(1, 2)
        rounds = np.arange(1, len(part["bound_films_a_second"]["samples"]) + 1)
        for name, color in (("pipeline", MARK), ("batch", LINE)):
            left.plot(rounds, part["films_a_second"][name]["samples"], "o-", color=color, ms=4, label=name)
        left.plot(rounds, part["bound_films_a_second"]["samples"], ":", color=SOFT, label="bound")
        left.set(title="Films a second, round by round", xlabel="round", ylim=(0, None), xticks=rounds)
        left.legend(frameon=False)
        stages = part["stage_alone_ms_a_film"]
        places = np.arange(len(stages))
        right.barh(places, [spent["median"] for spent in stages.values()], color=LINE, height=0.6)
        right.set_yticks(places, list(stages))
        right.invert_yaxis()
        right.set(title="Milliseconds a film, each stage alone on one thread")

    return svg((9, 3.2), fill)


def _waiting(part: Part, *, scale: float, unit: str, title: str, least: float = 0.0) -> str:
    """How many films waited no longer than so long, and the quantiles that the sample allows. None can wait less than
    `least`."""

    def fill(sheet: Figure) -> None:
        left, right = sheet.subplots(1, 2)
        samples = scale * np.asarray(part["row_s"]["samples"])
        _share(left, np.sort(samples), part["row_s"]["quantiles"], scale)
        left.set(title=title, xlabel=unit, ylabel="share of films", ylim=(0, 1.02))
        right.plot(np.arange(1, len(samples) + 1), samples, ".", color=LINE, ms=3)
        right.set(title="In the order in which they came", xlabel="film", ylabel=unit,
                  ylim=(least, least + _ROOM * (max(samples) - least)))  # fmt: skip

    return svg((9, 3.2), fill)


def _share(axes: Axes, ordered: Any, quantiles: dict[str, Any], scale: float) -> None:
    axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=LINE)
    for name, found in quantiles.items():
        if found["value"] is not None:
            place = (scale * found["value"], int(name[1:]) / 100)
            axes.plot(*place, "o", color=MARK, ms=5)
            axes.annotate(name, place, xytext=(6, -10), textcoords="offset points", color=MARK)


def _latency(part: Part) -> str:
    return _waiting(part, scale=1000, unit="ms", title="One film after the other")


def _watch(part: Part) -> str:
    settle_s = part["settings"]["settle"]
    unit = f"s, of which {settle_s:g} are the settle time"
    return _waiting(part, scale=1, unit=unit, title="From drop to row", least=min(settle_s, *part["row_s"]["samples"]))


def _scale(part: Part) -> str:
    """Cost and peak memory over the folder's size, every run a dot."""

    def fill(sheet: Figure) -> None:
        sizes = [run["films"] for run in part["runs"]]
        for axes, title, values in zip(
            sheet.subplots(1, 2),
            ("Milliseconds a film", "Peak memory, MB"),
            ([1000 * run["seconds"] / run["films"] for run in part["runs"]], [run["peak_mb"] for run in part["runs"]]),
            strict=True,
        ):
            axes.plot(sizes, values, "o", color=LINE, ms=4)
            axes.set(title=title, xlabel="films in the folder", xscale="log", ylim=(0, _ROOM * max(values)))

    return svg((9, 3.0), fill)


def _accuracy(part: Part) -> str:
    """Reliability: the only curve that needs no single film."""

    def fill(sheet: Figure) -> None:
        axes = sheet.subplots()
        axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=":")
        for found in part["calibration"]["reliability"]:
            size = 2 + 1.2 * np.log10(found["films"])
            axes.plot(found["probability"], found["fractured"], "o", color=LINE, ms=size)
        axes.set(title=f"Reliability, ECE {part['calibration']['ece']:.3f}", xlabel="probability", aspect="equal",
                 ylabel="share with a fracture", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))  # fmt: skip

    return svg((4.5, 4), fill)


_DRAWN = {
    "throughput": _throughput, "latency": _latency, "watch": _watch, "peers": _peers, "scale": _scale,
    "scale, blank network": _scale, "accuracy": _accuracy,
}  # fmt: skip
