"""Four curves as one SVG: ROC, precision and recall, reliability, free response. The only door to Matplotlib."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from bonefrac_benchmarks.judged import Judged
from bonefrac_benchmarks.statistics import wilson

_LINE, _MARK, _SOFT = "#1f6f9f", "#b35900", "#5d6778"  # as the page's style sheet has them
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # words stay words: smaller, and they can be searched
    "svg.hashsalt": "bonefrac",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _SOFT,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
}


def draw(figures: dict[str, Any], judged: Judged) -> str:
    """The `<svg>` element."""
    with mpl.rc_context(_STYLE):
        sheet = Figure(figsize=(9, 8), layout="constrained")
        axes = sheet.subplots(2, 2)
        _roc(axes[0, 0], figures, judged)
        _precision(axes[0, 1], figures, judged)
        _reliability(axes[1, 0], figures)
        _froc(axes[1, 1], figures)
        file = io.StringIO()
        sheet.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    return text[text.index("<svg") :]


def _roc(axes: Axes, figures: dict[str, Any], judged: Judged) -> None:
    false_positive, true_positive, _ = roc_curve(judged.films.fractured, judged.probability)
    axes.plot([0, 1], [0, 1], color=_SOFT, lw=0.8, ls=":")
    axes.plot(false_positive, true_positive, color=_LINE)
    for name, point in figures["points"].items():
        _mark(axes, 1 - point["specificity"]["value"], point["sensitivity"]["value"], name)
    _frame(axes, f"ROC, area {figures['ranking']['auroc']['value']:.3f}", "1 - specificity", "sensitivity")


def _precision(axes: Axes, figures: dict[str, Any], judged: Judged) -> None:
    precision, recall, _ = precision_recall_curve(judged.films.fractured, judged.probability)
    axes.axhline(figures["fractured"] / figures["films"], color=_SOFT, lw=0.8, ls=":")
    axes.plot(recall, precision, color=_LINE, drawstyle="steps-post")
    for name, point in figures["points"].items():
        if point["precision"] is not None:
            _mark(axes, point["sensitivity"]["value"], point["precision"]["value"], name)
    title = f"Precision and recall, average precision {figures['ranking']['auprc']['value']:.3f}"
    _frame(axes, title, "recall (sensitivity)", "precision")


def _reliability(axes: Axes, figures: dict[str, Any]) -> None:
    """Each bin with Wilson's interval: bins of few films say little."""
    axes.plot([0, 1], [0, 1], color=_SOFT, lw=0.8, ls=":")
    for found in figures["calibration"]["reliability"]:
        interval = wilson(round(found["fractured"] * found["films"]), found["films"])
        axes.plot([found["probability"]] * 2, [interval.low, interval.high], color=_LINE, lw=0.8)
        axes.plot(found["probability"], found["fractured"], "o", color=_LINE, ms=2 + 1.2 * np.log10(found["films"]))
    _frame(axes, f"Reliability, ECE {figures['calibration']['ece']:.3f}", "probability", "share with a fracture")


def _froc(axes: Axes, figures: dict[str, Any]) -> None:
    froc = figures["localisation"]["froc"]
    if froc is None or not froc["threshold"]:
        axes.set_axis_off()
        axes.text(0, 0.5, "No boxes, or no region: no free-response curve.", color=_SOFT)
        return
    axes.step([0, *froc["false_a_film"]], [0, *froc["sensitivity"]], where="post", color=_LINE)
    _frame(axes, f"Free response, {froc['lesions']} boxes", "false regions a film", "boxes found", square=False)


def _mark(axes: Axes, x: float, y: float, name: str) -> None:
    axes.plot(x, y, "o", color=_MARK, ms=5)
    right = x < 0.7
    axes.annotate(name, (x, y), xytext=(6 if right else -6, -10), textcoords="offset points", color=_MARK,
                  ha="left" if right else "right")  # fmt: skip


def _frame(axes: Axes, title: str, x: str, y: str, *, square: bool = True) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, ylim=(-0.02, 1.02))
    if square:
        axes.set(xlim=(-0.02, 1.02), aspect="equal")
    else:
        axes.set_xlim(left=0)
