"""One training on several folds: what each came to on the films it never saw, their mean and their spread."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bonefrac.errors import UsageError
from bonefrac_training.table import interval, line, read_figures

_SAME = ("model", "image_size", "began_from", "epochs", "mean_of_px")  # of all runs; all but the fold
_HEADER = ("fold", "films", "with a fracture", "groups", "AUROC", "AUPRC", "sensitivity at specificity 0.90")


def cross_validation(runs: Iterable[Path]) -> str:
    """Markdown, a row a fold, then mean and standard deviation over the folds.

    Raises UsageError for fewer than two runs, a run without figures, two of one fold, or runs whose settings differ in
    more than the fold.
    """
    found = sorted(((_fold(run), read_figures(run)) for run in runs), key=lambda one: one[0])
    if len({fold for fold, _ in found}) < 2 or len({fold for fold, _ in found}) < len(found):
        raise UsageError("give two runs or more, each of another fold")
    if len({json.dumps([figures.get(name) for name in _SAME]) for _, figures in found}) > 1:
        raise UsageError(f"the runs differ in more than the fold: {', '.join(_SAME)} must be the same")
    rows = [_cells(fold, figures) for fold, figures in found]
    summary = ["mean (standard deviation)", "", "", "", *(_spread(found, name) for name in _FIGURES)]
    return "\n".join([line(_HEADER), line(["---"] * len(_HEADER)), *map(line, [*rows, summary])]) + "\n"


_FIGURES = ("auroc", "auprc", "sensitivity_at_specificity_0.90")


def _cells(fold: int, figures: dict[str, Any]) -> list[str]:
    on, (auroc, *others) = figures["validated_on"], (figures[name] for name in _FIGURES)
    counts = [str(on[name]) for name in ("films", "fractured", "groups")]
    return [str(fold), *counts, interval(auroc), *(f"{figure:.3f}" for figure in others)]


def _spread(found: list[tuple[int, dict[str, Any]]], name: str) -> str:
    values = [figures[name]["value"] if name == "auroc" else figures[name] for _, figures in found]
    return f"{mean(values):.3f} ({stdev(values):.3f})"


def _fold(run: Path) -> int:
    """As the run's settings have it. Raises UsageError."""
    try:
        return int(json.loads((run / "training.json").read_text(encoding="utf-8"))["fold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{run}: has no training.json that tells its fold; bonefrac-train fit writes it") from error
