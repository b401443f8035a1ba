"""What each augmentation is worth: runs that differ in nothing but what was left out, on the same films, film by film.

Every run counts as it was after its last epoch, for the best one would be chosen on the very films it is measured on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bonefrac.errors import UsageError
from bonefrac.sinks import atomic
from bonefrac_benchmarks.statistics import Interval, auroc, by_group
from bonefrac_training.films import Inputs, load_inputs
from bonefrac_training.split import read_split
from bonefrac_training.table import interval, line, read_figures
from bonefrac_training.trainer import predict

Scores = NDArray[np.float64]
_MAY_DIFFER = ("without", "seed", "budget_minutes")
_HEADER = ("left out", "AUROC", "less than with all of them")


@dataclass(frozen=True)
class AblationSettings:
    """`runs`: folders of `fit`, one of them with all augmentations, of which the first is what the others are compared
    with; `split` and `positive_class` as with fit; `out`: the file that the figures go to."""

    runs: tuple[Path, ...]
    data: Path
    out: Path
    split: Path | None = None
    positive_class: str | None = None


def ablation(settings: AblationSettings) -> dict[str, Any]:
    """Measure every run on the fold that none was trained on, and write it all to `out`; returns what was written.

    AUROC, and the difference to the run with all augmentations, with 95 % intervals drawn over groups; a difference
    is of the same draws of both. Raises UsageError for runs that differ in more, or have no network.
    """
    facts = [_facts(run) for run in settings.runs]
    whole = next((i for i, fact in enumerate(facts) if not fact["without"]), None)
    if whole is None or len(facts) < 2:
        raise UsageError("give a run with all augmentations, and others of which something was left out")
    for run, fact in zip(settings.runs, facts, strict=True):
        if differ := [
            name for name in facts[whole] if name not in _MAY_DIFFER and fact.get(name) != facts[whole][name]
        ]:
            raise UsageError(f"{run}: differs from {settings.runs[whole]} in {differ[0].replace('_', ' ')} too")
    fact = facts[whole]
    for run in settings.runs:
        if (epochs := read_figures(run)["epochs"]) != fact["epochs"]:
            raise UsageError(f"{run}: ended after {epochs} of {fact['epochs']} epochs: let it go on")
    split = read_split(settings.data, fact["fold"], table=settings.split, positive_class=settings.positive_class)
    if split.digest != fact["films"]:
        raise UsageError(f"{settings.data}: its films are not those that the runs were trained with")
    films = load_inputs(split.validation, fact["image_size"], settings.runs[0].parent / "cache")
    scores = [_scores(run, films.pixels) for run in settings.runs]

    rows = [
        {
            "without": mine["without"],
            "seed": mine["seed"],
            "auroc": _auroc(films, score),
            "less": None if i == whole else _less(films, scores[whole], score),
        }
        for i, (mine, score) in enumerate(zip(facts, scores, strict=True))
    ]
    record = {
        "model": fact["model"],
        "split": f"{fact['data']}, fold {fact['fold']}",
        "image_size": fact["image_size"],
        "epochs": fact["epochs"],
        "validated_on": {
            "films": len(films.fractured), "fractured": int(films.fractured.sum()), "groups": len(set(films.groups)),
        },
        "runs": rows,
    }  # fmt: skip
    with atomic(settings.out) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")
    return record


def ablation_table(record: dict[str, Any]) -> str:
    """Markdown of what `ablation` wrote: the run with all augmentations, then the others, the greatest loss first."""
    whole = next(run for run in record["runs"] if run["less"] is None)
    others = sorted((run for run in record["runs"] if run["less"]), key=lambda run: -run["less"]["value"])
    rows = [line(_cells(run, whole["seed"])) for run in (whole, *others)]
    on = record["validated_on"]
    caption = (
        f"`{record['model']}`, {record['image_size']} px, {record['epochs']} epochs each; {record['split']}:"
        f" {on['films']} films, {on['fractured']} with a fracture, in {on['groups']} groups that training never saw;"
        " the networks of the last epoch. Intervals: 95 %, bootstrap over groups."
    )
    return "\n".join([line(_HEADER), line(["---"] * len(_HEADER)), *rows, "", caption]) + "\n"


def _cells(run: dict[str, Any], seed: int) -> list[str]:
    name = ", ".join(run["without"]) or "nothing"
    other = f", another seed ({run['seed']})" if run["seed"] != seed else ""
    return [name + other, interval(run["auroc"]), interval(run["less"]) if run["less"] else "–"]


def _facts(run: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((run / "training.json").read_text(encoding="utf-8"))
        return {**facts, "without": list(facts["without"]), "seed": int(facts["seed"])}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{run}: has no training.json that can be read; bonefrac-train fit writes it") from error


def _scores(run: Path, pixels: NDArray[np.uint8]) -> Scores:
    try:
        network = keras.saving.load_model(run / "network.keras", compile=False, safe_mode=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{run}: has no network.keras that can be loaded; give a run that has ended") from error
    outputs = predict(network, pixels)
    if "logit" not in outputs:
        raise UsageError(f"{run}: its network tells boxes, no probability; give runs of a classifier")
    return outputs["logit"].astype(np.float64)


def _auroc(films: Inputs, scores: Scores) -> dict[str, float]:
    return _rounded(by_group(lambda weights: auroc(films.fractured, scores, weights), films.groups))


def _less(films: Inputs, whole: Scores, scores: Scores) -> dict[str, float]:
    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return auroc(films.fractured, whole, weights) - auroc(films.fractured, scores, weights)

    return _rounded(by_group(difference, films.groups))


def _rounded(found: Interval) -> dict[str, float]:
    return {name: round(value, 4) for name, value in vars(found).items()}
