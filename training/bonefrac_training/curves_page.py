"""`training.html`: a run's curves, one file that opens from disk in any browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from bonefrac.sinks import atomic

_WIDTH, _HEIGHT = 560, 150


def write_page(path: Path, facts: dict[str, Any], history: list[dict[str, float]], *, best: int) -> None:
    """Draw a curve for each column of the history; the epoch `best` is marked."""
    columns = [name for name in history[0] if name not in ("epoch", "step")] if history else []
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("bonefrac_training"), jinja2.PackageLoader("bonefrac")]),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    curves = [curve(name, [row[name] for row in history]) for name in columns]
    text = environment.get_template("training.html").render(
        facts=facts, history=history, curves=curves, best=best, width=_WIDTH, height=_HEIGHT
    )
    with atomic(path, durable=False) as file:
        file.write(text.encode("utf-8"))


def curve(name: str, values: list[float]) -> dict[str, Any]:
    """A column as points of a picture, left to right, the highest value on top."""
    low, high = min(values), max(values)
    across = _WIDTH / max(1, len(values) - 1)
    down = _HEIGHT / ((high - low) or 1)
    points = [(round(i * across, 1), round((high - value) * down, 1)) for i, value in enumerate(values)]
    return {"name": name, "low": low, "high": high, "last": values[-1], "points": points}
