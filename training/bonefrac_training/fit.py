"""Train a network, a checkpoint each epoch; the same command goes on where it was stopped."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bonefrac.labelled import read_labelled
from bonefrac.preprocess import InputSpec
from bonefrac_training.efficientnet_lite import load_imagenet
from bonefrac_training.films import Batches, Inputs, heat_target, load_inputs
from bonefrac_training.flagship import flagship, focal_loss, for_export

_WARM_UP = 200  # steps, or a fifth of a short run


@dataclass(frozen=True)
class FitSettings:
    """What a training run is made of. `weights`: an ImageNet trunk `.npz`, a `.keras` file to go on from, or None."""

    data: Path
    out: Path
    image_size: int = 448
    fold: int = 3
    epochs: int = 6
    learning_rate: float = 1e-3
    weights: Path | None = None
    seed: int = 1


def fit(settings: FitSettings) -> Path:
    """Train on all folds but `fold`, validate on it after each epoch; returns the folder with what came out.

    There: `network.keras`, `input.json` and `training.json` for export, `history.csv` with a row an epoch, and
    `model.keras`, the checkpoint with the optimiser's state.
    """
    out = settings.out
    out.mkdir(parents=True, exist_ok=True)
    films = read_labelled(settings.data)
    cache = out.parent / "cache"
    train = load_inputs([film for film in films if film.fold != settings.fold], settings.image_size, cache)
    validation = load_inputs([film for film in films if film.fold == settings.fold], settings.image_size, cache)
    (out / "input.json").write_text(json.dumps(asdict(InputSpec(settings.image_size, settings.image_size)), indent=1))
    (out / "training.json").write_text(json.dumps(provenance(settings), indent=1))

    keras.utils.set_random_seed(settings.seed)
    model, done = _begin(settings, steps=len(Batches(train, seed=settings.seed)))
    batches = Batches(train, seed=settings.seed, epoch=done)
    for epoch in range(done, settings.epochs):
        started = time.monotonic()
        losses = model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, verbose=2).history
        row = {
            "epoch": epoch + 1,
            "minutes": round((time.monotonic() - started) / 60, 2),
            **{name: round(values[-1], 4) for name, values in losses.items()},
            **validate(model, validation),
        }
        _checkpoint(model, out, row)
        print(row, flush=True)
    return out


def provenance(settings: FitSettings) -> dict[str, object]:
    """How a network came about, for its card: the settings, and those of the run whose weights it began with."""
    facts: dict[str, object] = {
        name: value for name, value in asdict(settings).items() if name not in ("data", "out", "weights")
    }
    if settings.weights is None:
        return {**facts, "weights": "none, from scratch"}
    digest = hashlib.sha256(settings.weights.read_bytes()).hexdigest()
    before = settings.weights.parent / "training.json"
    if settings.weights.suffix == ".keras" and before.exists():
        return {**facts, "weights": f"sha256 {digest}", "began_with": json.loads(before.read_text())}
    return {**facts, "weights": f"{settings.weights.name}, sha256 {digest}"}


def _begin(settings: FitSettings, *, steps: int) -> tuple[keras.Model, int]:
    """The compiled model and the number of epochs it has behind it: from the last checkpoint, or from `weights`."""
    last = settings.out / "model.keras"
    if last.exists():
        model = keras.saving.load_model(last, custom_objects={"focal_loss": focal_loss})
        return model, round(int(model.optimizer.iterations) / steps)
    model = flagship(settings.image_size)
    if settings.weights is not None and settings.weights.suffix == ".npz":
        load_imagenet(model, settings.weights)
    elif settings.weights is not None:
        model.set_weights(keras.saving.load_model(settings.weights, compile=False).get_weights())
    total = steps * settings.epochs
    warm_up = min(_WARM_UP, total // 5)
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 100, total - warm_up, warmup_target=settings.learning_rate, warmup_steps=warm_up
    )
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5.0),
        loss={"heatmap": focal_loss, "local": cross_entropy, "whole": cross_entropy},
        loss_weights={"heatmap": 1.0, "local": 0.5, "whole": 0.5},
    )
    return model, 0


def _checkpoint(model: keras.Model, out: Path, row: dict[str, float]) -> None:
    for name, network in (("model", model), ("network", for_export(model))):
        part = out / f"{name}.part.keras"
        network.save(part)
        part.replace(out / f"{name}.keras")
    history = out / "history.csv"
    new = not history.exists()
    with open(history, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def predict(model: keras.Model, pixels: NDArray[np.uint8], batch: int = 16) -> dict[str, NDArray[np.float32]]:
    """The network's logits for uint8 inputs (n, size, size, 1), by the name of the output."""
    parts = [model.predict_on_batch(pixels[at : at + batch].astype(np.float32)) for at in range(0, len(pixels), batch)]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def validate(model: keras.Model, films: Inputs) -> dict[str, float]:
    """AUROC of the film's logit, and how often the map's peak lies in a cell that a box touches."""
    outputs = predict(for_export(model), films.pixels)
    size = films.pixels.shape[1]
    hits = [
        heat_target(films.boxes[row], np.eye(2, 3), size).flat[outputs["heatmap"][row].argmax()]
        for row in np.flatnonzero(films.fractured)
        if films.boxes[row]
    ]
    return {
        "auroc": round(float(roc_auc_score(films.fractured, outputs["logit"])), 4),
        "peak_in_box": round(float(np.mean(hits)), 4),
    }
