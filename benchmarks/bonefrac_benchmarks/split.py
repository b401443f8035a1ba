"""Which films are measured, and whether the model was trained on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.labelled import LabelledFilm, list_hash, read_labelled
from bonefrac.model import Manifest


@dataclass(frozen=True)
class Split:
    """The films, what they are called, and a warning: empty where the model never saw them."""

    films: list[LabelledFilm]
    name: str
    warning: str


def choose(manifest: Manifest, labels: Path, fold: int | None, *, every_fold: bool = False) -> Split:
    """The films of `fold`, of every fold, or of the fold that the manifest says training never saw.

    That fold is believed where the other folds are, byte for byte, the films of the manifest's hash. Raises UsageError
    where it is not known and none was named, and for films without both classes.
    """
    labelled = read_labelled(labels)
    kept = unseen_fold(manifest)
    known = kept is not None and _is_training_list(manifest, [film for film in labelled if film.fold != kept])
    folds = ", ".join(map(str, sorted({film.fold for film in labelled})))
    if fold is None and not every_fold:
        if not known:
            raise UsageError(
                f"{labels}: which of these films {manifest.name} was never trained on cannot be told: they are not the"
                f" collection that its manifest names; choose with --fold N (there are {folds}) or --all-folds"
            )
        fold = kept
    films = [film for film in labelled if every_fold or film.fold == fold]
    name = "all folds" if every_fold else f"fold {fold}"
    if len({film.fractured for film in films}) < 2:
        raise UsageError(
            f"{labels}: {name} lacks films with or without a fracture, and both are needed; there are the folds {folds}"
        )
    seen = sum(film.fold != kept for film in films)
    if not known:
        warning = "It cannot be told whether the model was trained on these films: its manifest names other ones."
    elif seen:
        warning = f"These films were trained on: {seen} of {len(films)}. The figures are too good to be believed."
    else:
        warning = ""
    folder = labels.parent if labels.is_file() else labels
    return Split(films, f"{folder.resolve().name}, {name}", warning)


def unseen_fold(manifest: Manifest) -> int | None:
    """The fold that no run behind the bundle was trained on; None where its facts do not say, or name several."""
    try:
        facts, folds = json.loads(manifest.made_with["training"]), set()
        while facts:
            folds.add(int(facts["fold"]))
            facts = facts.get("began_with")
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return folds.pop() if len(folds) == 1 else None


def _is_training_list(manifest: Manifest, films: list[LabelledFilm]) -> bool:
    try:
        return list_hash(films) == manifest.training_data.sha256
    except UsageError:  # a film that is not there is not the one it was trained on
        return False
