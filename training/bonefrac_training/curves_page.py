"""`training.html`: a run's curves, one file that opens from disk in any browser."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import jinja2

from bonefrac.sinks import atomic

_WIDTH, _HEIGHT = 560, 150  # of a curve, px
_LEFT, _BELOW = 60, 22  # for the marks of its axes
_MOST_MARKS = 12
_NO_CURVES = ("epoch", "step", "minutes")
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def write_page(path: Path, facts: dict[str, Any], history: list[dict[str, float]], *, best: int) -> None:
    """Draw a curve for each column of the history, what validation measured before the losses; the epoch `best` is
    marked."""
    columns = sorted((name for name in history[0] if name not in _NO_CURVES), key=_rank)
    curves = [curve(name, [row[name] for row in history], best) for name in columns]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("bonefrac_training"), jinja2.PackageLoader("bonefrac")]),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("training.html").render(
        facts=facts, settings=settings(facts), history=history, curves=[drawn for drawn in curves if drawn["points"]],
        epochs=_across(len(history))[:: -(-len(history) // _MOST_MARKS)], best=best,
        width=_WIDTH, height=_HEIGHT, left=_LEFT, below=_BELOW,
    )  # fmt: skip
    with atomic(path, durable=False) as file:
        file.write(text.encode("utf-8"))


def curve(name: str, values: list[float], best: int) -> dict[str, Any]:
    """A column as points (epoch, x, y) of a picture, left to right, the highest value on top, with marks (y, value) of
    its axis. NaN is no point."""
    known = [value for value in values if not math.isnan(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    scale = _HEIGHT / ((high - low) or 1)

    def down(value: float) -> float:
        return round((high - value) * scale, 1)

    across = dict(_across(len(values)))
    return {
        "name": name,
        "points": [(epoch, across[epoch], down(v)) for epoch, v in enumerate(values, 1) if not math.isnan(v)],
        "marks": [(down(value), f"{value:.4g}") for value in dict.fromkeys((high, (low + high) / 2, low))],
        "best": f"{values[best - 1]:.4g}",
        "last": f"{values[-1]:.4g}",
    }


def settings(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What a run was made with, in words; what was not asked for is left out."""
    return [(name.replace("_", " "), _said(value)) for name, value in facts.items() if value not in (None, [], {})]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name} {said}" for name, said in settings(value))
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return _DIGEST.sub(r"\1…", str(value))


def _rank(column: str) -> tuple[bool, bool]:
    return column.endswith("loss"), column != "loss"


def _across(epochs: int) -> list[tuple[int, float]]:
    """Each epoch, and where it stands."""
    return [(epoch, round((epoch - 1) * _WIDTH / max(1, epochs - 1), 1)) for epoch in range(1, epochs + 1)]
