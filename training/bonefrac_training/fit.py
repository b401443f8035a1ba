"""Train a network; the same command goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from bonefrac.errors import UsageError
from bonefrac.preprocess import InputSpec
from bonefrac_training import checkpoint
from bonefrac_training.augment import AUGMENTATIONS
from bonefrac_training.batches import Batches
from bonefrac_training.checkpoint import State
from bonefrac_training.familiarity import add_familiarity
from bonefrac_training.films import Inputs, load_inputs
from bonefrac_training.fused import for_training
from bonefrac_training.networks import Network, find
from bonefrac_training.schedule import Schedule
from bonefrac_training.split import read_split
from bonefrac_training.trainer import Limits, Trainer
from bonefrac_training.weights import load_application, load_trained

# what a run may change when it goes on: none of it decides what a step does
_FREE = ("budget_minutes", "patience", "checkpoint_s", "resume")
_NO_FACTS = ("data", "out", "weights", "split", *_FREE)


@dataclass(frozen=True)
class FitSettings:
    """What a training run is made of. `weights`: an ImageNet trunk `.npz`, `imagenet`, a `.keras` file to go on from,
    or None; `split`: a table of films instead of the data's own; None elsewhere stands for the network's own default.
    `without`: augmentations to leave out. `resume`: go on from the folder's checkpoint; else begin anew."""

    data: Path
    out: Path
    model: str = "flagship"
    image_size: int | None = None
    fold: int = 3
    epochs: int = 6
    learning_rate: float | None = None
    weights: Path | str | None = None
    seed: int = 1
    batch_size: int = 16
    frozen_epochs: int | None = None
    fixed_until: str | None = None
    positive_class: str | None = None
    split: Path | None = None
    mixed_precision: bool = False
    without: tuple[str, ...] = ()
    budget_minutes: float | None = None
    patience: int = 8
    checkpoint_s: float = 120.0
    resume: bool = True


def fit(settings: FitSettings) -> Path:
    """Train on all folds but `fold`, validate on it after each epoch; returns the folder with what came out.

    There: `network.keras`, `input.json` and `training.json` for export, `best.keras`, the same of the best epoch,
    `model.keras` to go on from with other settings, `checkpoint.npz` to go on with these; `history.csv` with a row an
    epoch, `steps.csv` with one a step, `figures.json` and `training.html`. Raises UsageError for what cannot be done.
    """
    network = find(settings.model)
    settings = _filled(settings, network)
    split = read_split(
        settings.data, settings.fold, table=settings.split, positive_class=settings.positive_class
    )  # fmt: skip
    facts = {**provenance(settings), "films": split.digest}
    state = _state(settings, facts)
    size, cache = int(settings.image_size or 0), settings.out.parent / "cache"
    train, validation = (load_inputs(films, size, cache) for films in (split.train, split.validation))
    batches = Batches(
        train, network.of_kind, seed=settings.seed, size=settings.batch_size, without=settings.without
    )  # fmt: skip
    trainer = _trainer(settings, network, batches, validation, state)
    _write_facts(settings, facts)
    print(f"{settings.out}: ended, {trainer.train()}; best epoch {trainer.best}", flush=True)
    if network.features:
        add_familiarity(settings.out / "network.keras", network.features, train.pixels)
    return settings.out


def provenance(settings: FitSettings) -> dict[str, Any]:
    """How a network came about, for its card: the settings, and those of the run whose weights it began with."""
    facts: dict[str, Any] = {name: value for name, value in asdict(settings).items() if name not in _NO_FACTS}
    facts |= {"data": settings.data.resolve().name, "without": list(settings.without)}
    if settings.weights is None:
        return {**facts, "began_from": "from scratch", "weights": "none, from scratch"}
    if isinstance(settings.weights, str):
        return {**facts, "began_from": "ImageNet", "weights": "keras.applications, ImageNet"}
    digest = hashlib.sha256(settings.weights.read_bytes()).hexdigest()
    if settings.weights.suffix == ".npz":
        return {**facts, "began_from": "ImageNet", "weights": f"{settings.weights.name}, sha256 {digest}"}
    before = settings.weights.parent / "training.json"
    began_with = json.loads(before.read_text(encoding="utf-8")) if before.exists() else {}
    began_from = began_with.get("began_from", "a network trained before")
    return {**facts, "began_from": began_from, "weights": f"sha256 {digest}", "began_with": began_with}


def _filled(settings: FitSettings, network: Network) -> FitSettings:
    """The settings with the network's defaults. Raises UsageError for what does not go together."""
    size = settings.image_size or network.image_size
    if size % 32:
        raise UsageError(f"--image-size {size}: must be a multiple of 32")
    if unknown := set(settings.without) - set(AUGMENTATIONS):
        raise UsageError(f"--without {min(unknown)}: there is no such augmentation; known: {', '.join(AUGMENTATIONS)}")
    weights = settings.weights
    if weights == "none":
        weights = None
    elif weights not in (None, "imagenet"):
        weights = Path(str(weights))
        if weights.suffix not in (".npz", ".keras") or not weights.exists():
            raise UsageError(f"--weights {weights}: give an .npz or a .keras file that is there, imagenet, or none")
    pretrained = weights == "imagenet" or (isinstance(weights, Path) and weights.suffix == ".npz")
    frozen = network.frozen_epochs if settings.frozen_epochs is None else settings.frozen_epochs
    return replace(
        settings,
        image_size=size,
        learning_rate=settings.learning_rate or network.learning_rate,
        weights=weights,
        frozen_epochs=min(frozen, settings.epochs) if pretrained else 0,
    )


def _state(settings: FitSettings, facts: dict[str, Any]) -> State:
    """Where the run stands. Raises UsageError where the folder's run is another one."""
    path, facts = settings.out / checkpoint.NAME, json.loads(json.dumps(facts))
    if not settings.resume:
        path.unlink(missing_ok=True)
    elif not path.exists() and (settings.out / "history.csv").exists():
        raise UsageError(f"{settings.out}: holds a run without {checkpoint.NAME}; take another folder, or --restart")
    if not path.exists():
        return State(facts)
    state = checkpoint.read(path)
    differ = [name for name in {**facts, **state.facts} if facts.get(name) != state.facts.get(name)]
    if differ:
        was, wanted = (str(side.get(differ[0]))[:80] for side in (state.facts, facts))
        raise UsageError(
            f"{settings.out}: holds a run with {differ[0].replace('_', ' ')} {was}, not {wanted}: take another folder,"
            " or --restart to begin anew"
        )
    return state


def _trainer(settings: FitSettings, network: Network, batches: Batches, validation: Inputs, state: State) -> Trainer:
    size = int(settings.image_size or 0)
    schedule = Schedule(
        len(batches), settings.epochs, float(settings.learning_rate or 0), int(settings.frozen_epochs or 0)
    )
    minutes = settings.budget_minutes
    limits = Limits(settings.patience, float("inf") if minutes is None else minutes * 60, settings.checkpoint_s)
    keras.utils.set_random_seed(settings.seed)
    plain = network.build(size)
    if not state.step:
        _begin_with(plain, network, settings)
    model = for_training(plain)
    if settings.mixed_precision:
        with _precision(mixed=True):
            model = network.build(size)
        model.set_weights(plain.get_weights())
    if settings.fixed_until:
        network = replace(network, fixed=_layers_until(plain, settings.fixed_until))
    return Trainer(network, model, plain, batches, validation, schedule, limits, state, settings.out)


def _layers_until(model: keras.Model, last: str) -> frozenset[str]:
    names = [layer.name for layer in model.layers]
    if last not in names:
        raise UsageError(f"--fixed-until {last}: the network has no such layer; its layers are {', '.join(names)}")
    return frozenset(names[: names.index(last) + 1])


def _begin_with(model: keras.Model, network: Network, settings: FitSettings) -> None:
    """Fill a new model from `weights`. Raises UsageError where they are for another network."""
    weights = settings.weights
    if isinstance(weights, Path) and weights.suffix == ".keras":
        load_trained(model, weights)
    elif isinstance(weights, Path):
        if network.imagenet is None:
            raise UsageError(f"{settings.model} takes no ImageNet weights: leave --weights out")
        try:
            network.imagenet(model, weights)
        except ValueError as error:
            raise UsageError(str(error)) from error
    elif weights is not None:
        if network.application is None:
            raise UsageError(f"keras.applications has no weights for {settings.model}: give an .npz")
        load_application(model, network.application)


@contextmanager
def _precision(*, mixed: bool) -> Iterator[None]:
    """bfloat16 has float32's range: no loss need be scaled. The weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _write_facts(settings: FitSettings, facts: dict[str, Any]) -> None:
    """What export reads beside the network."""
    size = int(settings.image_size or 0)
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "input.json").write_text(json.dumps(asdict(InputSpec(size, size)), indent=1), encoding="utf-8")
    (settings.out / "training.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
