"""The table of all networks, from the `figures.json` of their runs: no figure is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bonefrac.errors import UsageError

ORDER = (
    "box", "ann", "cnn", "vgg16", "resnet50", "densenet121", "mobilenetv2", "resnet18", "resnet50v2", "flagship",
)  # fmt: skip
_FREE_FACTS = ("budget_minutes",)
_HEADER = (
    "network", "weights", "px", "parameters", "multiply-adds", "size",
    "validation", "AUPRC", "sensitivity at specificity 0.90", "best epoch", "minutes",
)  # fmt: skip


def table(runs: Iterable[Path]) -> str:
    """Markdown, a row a run, in the order of the networks. Raises UsageError where a run has no figures, or where runs
    were not validated on the same films: their figures do not compare."""
    found = sorted((read_figures(run) for run in runs), key=_place)
    if len(splits := {figures["split"] for figures in found}) > 1:
        raise UsageError(f"the runs are of several splits: {'; '.join(sorted(splits))}; give those of one")
    lines = [line(_HEADER), line(["---"] * len(_HEADER)), *(line(_cells(figures)) for figures in found)]
    return "\n".join([*lines, "", *_captions(found)]) + "\n"


def read_figures(run: Path) -> dict[str, Any]:
    """What a run wrote. Raises UsageError."""
    try:
        figures: dict[str, Any] = json.loads((run / "figures.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{run}: has no figures.json that can be read; bonefrac-train fit writes it") from error
    return figures


def read_facts(run: Path) -> dict[str, Any]:
    """What decided a run, from its `training.json`, without what it may change as it goes on. Raises UsageError."""
    try:
        facts: dict[str, Any] = json.loads((run / "training.json").read_text(encoding="utf-8"))
        return {name: value for name, value in facts.items() if name not in _FREE_FACTS}
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{run}: has no training.json that can be read; bonefrac-train fit writes it") from error


def _place(figures: dict[str, Any]) -> tuple[int, str, int]:
    name = figures["model"]
    return ORDER.index(name) if name in ORDER else len(ORDER), name, figures["image_size"]


def _cells(figures: dict[str, Any]) -> list[str]:
    is_box = "mean_iou" in figures
    return [
        f"`{figures['model']}`",
        figures["began_from"],
        str(figures["image_size"]),
        f"{figures['parameters'] / 1e6:.2f} M",
        f"{figures['multiply_adds'] / 1e9:.2f} G",
        f"{figures['bytes'] / 1e6:.1f} MB",
        _box_result(figures) if is_box else f"AUROC {interval(figures['auroc'])}",
        "–" if is_box else f"{figures['auprc']:.3f}",
        "–" if is_box else f"{figures['sensitivity_at_specificity_0.90']:.3f}",
        f"{figures['epoch']} of {figures['epochs']}" if "epoch" in figures else _mean_of(figures),
        f"{figures['minutes']:.1f}",
    ]


def _box_result(figures: dict[str, Any]) -> str:
    return f"IoU {interval(figures['mean_iou'])}, at least 0.3: {interval(figures['iou_from_0.3'])}"


def _mean_of(figures: dict[str, Any]) -> str:
    sizes = " and ".join(map(str, figures["mean_of_px"]))
    return f"mean of the runs at {sizes} px, {figures['epochs']} epochs"


def interval(figure: dict[str, float]) -> str:
    """A figure with its interval."""
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _captions(found: list[dict[str, Any]]) -> list[str]:
    """What the splits are, and what the figures are not."""
    on = found[0]["validated_on"]
    return [
        f"{found[0]['split']}: {on['films']} films, {on['fractured']} with a fracture, in {on['groups']} groups that"
        " training never saw.",
        "Intervals: 95 %, bootstrap over groups. The best epoch was chosen on the very fold that the figures are from,"
        " so they are a little too good. Size: the network's Keras file, float32.",
    ]


def line(cells: Iterable[str]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
