"""Four curves as one SVG: ROC, precision and recall, reliability, free response."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from bonefrac_benchmarks.judged import Judged
from bonefrac_benchmarks.plotting import LINE, MARK, SOFT, svg
from bonefrac_benchmarks.statistics import wilson


def draw(figures: dict[str, Any], judged: Judged) -> str:
    """The `<svg>` element."""

    def fill(sheet: Figure) -> None:
        axes = sheet.subplots(2, 2)
        _roc(axes[0, 0], figures, judged)
        _precision(axes[0, 1], figures, judged)
        _reliability(axes[1, 0], figures)
        _froc(axes[1, 1], figures)

    return svg((9, 8), fill)


def _roc(axes: Axes, figures: dict[str, Any], judged: Judged) -> None:
    false_positive, true_positive, _ = roc_curve(judged.films.fractured, judged.probability)
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=":")
    axes.plot(false_positive, true_positive, color=LINE)
    for name, point in figures["points"].items():
        _mark(axes, 1 - point["specificity"]["value"], point["sensitivity"]["value"], name)
    _frame(axes, f"ROC, area {figures['ranking']['auroc']['value']:.3f}", "1 - specificity", "sensitivity")


def _precision(axes: Axes, figures: dict[str, Any], judged: Judged) -> None:
    precision, recall, _ = precision_recall_curve(judged.films.fractured, judged.probability)
    axes.axhline(figures["fractured"] / figures["films"], color=SOFT, lw=0.8, ls=":")
    axes.plot(recall, precision, color=LINE, drawstyle="steps-post")
    for name, point in figures["points"].items():
        if point["precision"] is not None:
            _mark(axes, point["sensitivity"]["value"], point["precision"]["value"], name)
    title = f"Precision and recall, average precision {figures['ranking']['auprc']['value']:.3f}"
    _frame(axes, title, "recall (sensitivity)", "precision")


def _reliability(axes: Axes, figures: dict[str, Any]) -> None:
    """Each bin with Wilson's interval: bins of few films say little."""
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=":")
    for found in figures["calibration"]["reliability"]:
        interval = wilson(round(found["fractured"] * found["films"]), found["films"])
        axes.plot([found["probability"]] * 2, [interval.low, interval.high], color=LINE, lw=0.8)
        axes.plot(found["probability"], found["fractured"], "o", color=LINE, ms=2 + 1.2 * np.log10(found["films"]))
    _frame(axes, f"Reliability, ECE {figures['calibration']['ece']:.3f}", "probability", "share with a fracture")


def _froc(axes: Axes, figures: dict[str, Any]) -> None:
    froc = figures["localisation"]["froc"]
    if froc is None or not froc["threshold"]:
        axes.set_axis_off()
        axes.text(0, 0.5, "No boxes, or no region: no free-response curve.", color=SOFT)
        return
    axes.step([0, *froc["false_a_film"]], [0, *froc["sensitivity"]], where="post", color=LINE)
    _frame(axes, f"Free response, {froc['lesions']} boxes", "false regions a film", "boxes found", square=False)


def _mark(axes: Axes, x: float, y: float, name: str) -> None:
    axes.plot(x, y, "o", color=MARK, ms=5)
    right = x < 0.7
    axes.annotate(name, (x, y), xytext=(6 if right else -6, -10), textcoords="offset points", color=MARK,
                  ha="left" if right else "right")  # fmt: skip


def _frame(axes: Axes, title: str, x: str, y: str, *, square: bool = True) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, ylim=(-0.02, 1.02))
    if square:
        axes.set(xlim=(-0.02, 1.02), aspect="equal")
    else:
        axes.set_xlim(left=0)
