"""Train a network; the same command goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
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
from bonefrac_training.films import Inputs, load_inputs, make_folder
from bonefrac_training.fused import for_training
from bonefrac_training.networks import Network, find
from bonefrac_training.npz import read_npz
from bonefrac_training.schedule import Schedule
from bonefrac_training.split import read_split
from bonefrac_training.table import read_facts
from bonefrac_training.trainer import Limits, Trainer
from bonefrac_training.weights import load_application, load_trained

# what a run may change when it goes on: none of it decides what a step does
_FREE = ("budget_minutes", "patience", "checkpoint_s", "resume")
_NO_FACTS = ("data", "out", "weights", "split", *_FREE)
# all that a run leaves in its folder
_FILES = (checkpoint.NAME, "history.csv", "steps.csv", "figures.json", "training.html", "training.json", "input.json",
          "network.keras", "best.keras", "model.keras")  # fmt: skip


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
    epoch, `steps.csv` with one a step, `figures.json` and `training.html`. Decoded films are kept in `cache` beside the
    folder, for other runs; it may be deleted. Raises UsageError for what cannot be done, and leaves the folder's run
    as it was.
    """
    network = find(settings.model)
    settings = _filled(settings, network)
    split = read_split(
        settings.data, settings.fold, table=settings.split, positive_class=settings.positive_class
    )  # fmt: skip
    facts = {**provenance(settings), "films": split.digest}
    state = _state(settings, facts)
    make_folder(settings.out)
    size, cache = int(settings.image_size or 0), settings.out.parent / "cache"
    train, validation = (load_inputs(films, size, cache) for films in (split.train, split.validation))
    _look_for_boxes(network, train, validation, settings.fold)
    batches = Batches(
        train, network.of_kind, seed=settings.seed, size=settings.batch_size, without=settings.without
    )  # fmt: skip
    trainer = _trainer(settings, network, batches, validation, state)
    if not settings.resume:  # all has been checked: only now may the run before go
        for name in _FILES:
            (settings.out / name).unlink(missing_ok=True)
    _write_facts(settings, facts)
    print(f"{settings.out}: ended, {trainer.train()}; best epoch {trainer.best}", flush=True)
    if network.features:
        _add_familiarity(settings.out, network.features, train, best_is_last=trainer.best_is_last)
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
    before = settings.weights.parent
    began_with = read_facts(before) if (before / "training.json").exists() else {}
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
        if weights.suffix not in (".npz", ".keras") or not weights.is_file():
            raise UsageError(f"--weights {weights}: give an .npz or a .keras file that is there, imagenet, or none")
        if weights.name in _FILES and weights.resolve().parent == settings.out.resolve():
            raise UsageError(f"--weights {weights}: the run would write over it; name another folder with --out")
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
    if settings.resume and not path.exists() and (settings.out / "history.csv").exists():
        raise UsageError(f"{settings.out}: holds a run without {checkpoint.NAME}; take another folder, or --restart")
    if not settings.resume or not path.exists():
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


def _look_for_boxes(network: Network, train: Inputs, validation: Inputs, fold: int) -> None:
    """Say how many fractures' places no map can learn. Raises UsageError where boxes have nothing to be judged by."""
    if network.kind == "box" and not validation.boxed.any():
        raise UsageError(f"no fracture in fold {fold} has a box: {network.kind} has nothing to be validated with")
    unknown = int((train.fractured & ~train.boxed).sum())
    if network.kind == "heatmap" and unknown:
        print(f"{unknown} of {train.fractured.sum()} films with a fracture have no box: the map learns nothing of them")


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
        read_npz(weights)  # a damaged file is told as one
        try:
            network.imagenet(model, weights)
        except ValueError as error:
            told = str(error).splitlines()[0].removeprefix(f"{weights}: ")
            raise UsageError(f"{weights}: does not fit {settings.model}: {told}") from error
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


def _add_familiarity(out: Path, layer: str, train: Inputs, *, best_is_last: bool) -> None:
    """To `network.keras` and to `best.keras`, which a run that goes on may have given it before."""
    last, best = out / "network.keras", out / "best.keras"
    add_familiarity(last, layer, train.pixels)
    if best_is_last:
        part = best.with_suffix(".part.keras")
        shutil.copyfile(last, part)
        part.replace(best)
    elif "familiarity" not in keras.saving.load_model(best, compile=False, safe_mode=True).output:
        add_familiarity(best, layer, train.pixels)


def _write_facts(settings: FitSettings, facts: dict[str, Any]) -> None:
    """What export reads beside the network, and the budget, which may change as the run goes on."""
    size, facts = int(settings.image_size or 0), {**facts, "budget_minutes": settings.budget_minutes}
    (settings.out / "input.json").write_text(json.dumps(asdict(InputSpec(size, size)), indent=1), encoding="utf-8")
    (settings.out / "training.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
