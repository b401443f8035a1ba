"""`bonefrac-bench accuracy`: a bundle's file on labelled films, measured as its card was, and the report of it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.errors import OutputError, UsageError
from bonefrac.model import Model, find_bundle
from bonefrac_benchmarks.accuracy import compare, judge, judge_again, measure
from bonefrac_benchmarks.accuracy_tables import about, summary
from bonefrac_benchmarks.judged import Judged, LeftOut, load
from bonefrac_benchmarks.machine import this_machine
from bonefrac_benchmarks.split import Split, choose

_PRECISIONS = ("int8", "float32")
PREVALENCES = (0.02, 0.1)
_COLUMNS = {
    "labels.csv": ("image_id", "fractured", "fold", "group", "use"),
    "boxes.csv": ("image_id", "x_min", "y_min", "x_max", "y_max"),
}


@dataclass(frozen=True)
class AccuracySettings:
    """What was asked for. `fold` None is the one that the model never saw, `precision` `auto` the bundle's default;
    `prevalences` are shares of fractured films, for which the predictive values are told."""

    bundle: str
    labels: Path
    fold: int | None = None
    all_folds: bool = False
    precision: str = "auto"
    prevalences: tuple[float, ...] = PREVALENCES
    out: Path | None = None


@dataclass(frozen=True)
class Accuracy:
    """What was measured: `figures` for JSON, without a picture or a pixel, the films it was measured on, and the same
    films by the bundle's other file, where it has one."""

    figures: dict[str, Any]
    judged: Judged
    again: Judged | None

    def lines(self) -> list[str]:
        return [*about(self.figures), "", *summary(self.figures)]


def measure_accuracy(settings: AccuracySettings) -> Accuracy:
    """Run it. Raises UsageError for a bundle, labels or a folder that cannot be used, before any waiting."""
    if settings.out is not None:
        make_folder(settings.out)
    _check_tables(settings.labels)
    folder = find_bundle(settings.bundle)
    model = Model(folder, device="cpu", precision=settings.precision)
    manifest = model.manifest
    if (other := _other_precision(model)) is not None:
        Model(folder, device="cpu", precision=other)  # is it whole? Not after minutes of judging with the one
    split = choose(manifest, settings.labels, settings.fold, every_fold=settings.all_folds)
    films, undecoded = load(split.films, manifest.input)
    if len(films.labels) == 0:
        raise UsageError(f"{settings.labels}: none of the {len(undecoded)} films can be read: {undecoded[0].reason}")
    judged = judge(model, films)
    truth = judged.films.fractured
    if min(truth.sum(), (~truth).sum()) < 2:
        raise UsageError(
            f"{settings.labels}: of {split.name}, {truth.sum()} films with and {(~truth).sum()} without a fracture have"
            " a finding; two of each are needed"
        )
    return accuracy_of(folder, judged, split, undecoded, settings.prevalences)


def accuracy_of(
    folder: Path, judged: Judged, split: Split, undecoded: list[LeftOut], prevalences: Sequence[float]
) -> Accuracy:
    """The figures of a bundle's file that has judged films, beside those of the bundle's other file, if it has one."""
    model, manifest, other = judged.model, judged.model.manifest, _other_precision(judged.model)
    again = judge_again(judged, Model(folder, device="cpu", precision=other)) if other else None
    figures: dict[str, Any] = {
        "benchmark": "accuracy",
        "artefact": {
            "model": model.name,
            "precision": model.precision,
            "file": manifest.precisions[model.precision].file,
            "sha256": model.sha256,
            "region_level": manifest.region_level,
            "points_chosen_on": manifest.operating_points.chosen_on,
            "points_chosen_with": manifest.default_precision,
        },
        "split": {"name": split.name, "films": len(split.films), "warning": split.warning},
        "machine": this_machine().record(),
        "without_finding": [
            {"film": item.film.path.name, "fractured": item.film.fractured, "reason": item.reason}
            for item in (*undecoded, *judged.left_out)
        ],
        **measure(judged, prevalences),
        "between_precisions": compare(judged, again) if again else None,
        "limits": manifest.limits,
    }
    return Accuracy(figures, judged, again)


def _other_precision(model: Model) -> str | None:
    """The bundle's other file, which the model is compared with."""
    return next((p for p in _PRECISIONS if p != model.precision and p in model.manifest.precisions), None)


def _check_tables(labels: Path) -> None:
    """Raises UsageError for a file that is no table of labelled films, or none with boxes beside it; what cannot be
    opened is told by who reads it."""
    folder, table = (labels.parent, labels) if labels.is_file() else (labels, labels / "labels.csv")
    for file, columns in ((table, _COLUMNS["labels.csv"]), (folder / "boxes.csv", _COLUMNS["boxes.csv"])):
        if not file.is_file():
            continue
        with open(file, newline="", encoding="utf-8", errors="replace") as lines:
            try:
                found, *rows = csv.reader(lines)
            except (csv.Error, ValueError):  # a picture, say, or nothing at all
                found, rows = [], []
        if lacking := [name for name in columns if name not in found]:
            raise UsageError(
                f"{file}: has no column {', '.join(lacking)} in its first line; name a folder with images/, labels.csv"
                f" ({', '.join(_COLUMNS['labels.csv'])}) and boxes.csv ({', '.join(_COLUMNS['boxes.csv'])})"
            )
        if file == table and not any(dict(zip(found, row, strict=False)).get("use") == "1" for row in rows):
            raise UsageError(f"{file}: none of its films has 'use' 1, so there is nothing to measure; give some a 1")


def make_folder(out: Path) -> None:
    """Before minutes of measuring, not after. Raises OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: the folder cannot be made: {error.strerror}; name another with --out") from error
