"""The mean of networks that were trained one from the other: it costs what one of them costs. On the one fold where it
was measured, its AUROC was above that of each alone, by less than the intervals' width; no paired interval was drawn.

Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022 (arXiv 2109.01903): the mean of the weights before
and after fine-tuning. Means of networks that do not share a beginning are worth nothing.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bonefrac.errors import UsageError
from bonefrac_training.familiarity import add_familiarity
from bonefrac_training.figures import figures
from bonefrac_training.films import load_inputs, make_folder
from bonefrac_training.networks import find
from bonefrac_training.split import read_split
from bonefrac_training.table import read_facts, read_figures
from bonefrac_training.trainer import describe, predict, save_network, write_figures


@dataclass(frozen=True)
class AverageSettings:
    """`runs` are folders that `fit` wrote, of one network and one fold, each begun with the weights of the one before;
    the last gives the input's size."""

    runs: Sequence[Path]
    data: Path
    out: Path
    split: Path | None = None
    positive_class: str | None = None


def average(settings: AverageSettings) -> Path:
    """Write the mean as a run of its own: `network.keras`, `input.json` and `training.json` for export, `model.keras`,
    and `figures.json`, measured on the fold that none of the runs was trained on. Raises UsageError for other runs."""
    facts = [read_facts(run) for run in settings.runs]
    last, fold = facts[-1], facts[-1]["fold"]
    for run, other in zip(settings.runs, facts, strict=True):
        if (other["model"], other["fold"]) != (last["model"], fold):
            raise UsageError(f"{run}: is a {other['model']} without fold {other['fold']}, the last is another")
    for before, before_facts, after, run in zip(settings.runs, facts, facts[1:], settings.runs[1:], strict=False):
        if after.get("began_with") != before_facts:
            raise UsageError(f"{run}: was not begun with the weights of {before}: their mean is worth nothing")
    network, size = find(last["model"]), int(last["image_size"])
    split = read_split(settings.data, fold, table=settings.split, positive_class=settings.positive_class)
    if any(run["films"] != split.digest for run in facts):
        raise UsageError(f"{settings.data}: its films are not those that the runs were trained with")

    model = network.build(size)
    model.set_weights(_mean([_weights(run) for run in settings.runs]))
    exported = network.of_kind.exported(model)
    make_folder(settings.out)
    cache = settings.out.parent / "cache"
    train, validation = (load_inputs(films, size, cache) for films in (split.train, split.validation))

    save_network(model, settings.out / "model.keras")
    save_network(exported, settings.out / "network.keras")
    trained = [read_figures(run) for run in settings.runs]
    found = {
        **describe(network, last, exported, settings.out / "network.keras"),
        "mean_of_px": [run["image_size"] for run in facts],
        "epochs": sum(run["epochs"] for run in trained),
        "minutes": round(sum(run["minutes"] for run in trained), 2),
        **figures(predict(exported, validation.pixels), validation),
    }
    write_figures(settings.out, found)
    if network.features:
        add_familiarity(settings.out / "network.keras", network.features, train.pixels)
    shutil.copy(settings.runs[-1] / "input.json", settings.out)
    history = {**last, "mean_of_weights": [str(run["image_size"]) + " px" for run in facts]}
    (settings.out / "training.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    return settings.out


def _weights(run: Path) -> list[np.ndarray[Any, Any]]:
    try:
        model = keras.saving.load_model(run / "model.keras", compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{run}: its model.keras cannot be read: {str(error).splitlines()[0]}") from error
    weights: list[np.ndarray[Any, Any]] = model.get_weights()
    return weights


def _mean(networks: Sequence[Sequence[np.ndarray[Any, Any]]]) -> list[np.ndarray[Any, Any]]:
    """Variable by variable; the states of random generators are the last network's."""
    return [
        np.asarray(np.mean(values, axis=0, dtype=np.float64), np.float32)
        if values[-1].dtype == np.float32
        else values[-1]
        for values in zip(*networks, strict=True)
    ]
