"""The gates of a finished bundle again: on other films, or on another machine. Without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bonefrac.errors import BundleError, UsageError
from bonefrac.model import Model, find_bundle
from bonefrac_benchmarks.accuracy import shown
from bonefrac_benchmarks.accuracy_report import write_report
from bonefrac_benchmarks.accuracy_run import Accuracy, AccuracySettings, measure_accuracy
from bonefrac_export.cpus import on_other_cpus
from bonefrac_export.gates import Check, agreement_of, cpu_checks, some_of_both, speed_check
from bonefrac_export.int8 import ON_CPUS
from bonefrac_export.measure import PROMISE
from bonefrac_export.speed import TIMED, interleaved, times_faster

_NOT_CHECKED = Check("on other processors", "not checked", "tried; qemu-x86_64 is not installed", holds=True)


@dataclass(frozen=True)
class VerifySettings:
    """What was asked for: the bundle's name or folder, labelled films, and which folds of them; `other_cpus`: also
    under an emulator; `report`: a folder for the page of figures, which shows films."""

    bundle: str
    labels: Path
    fold: int | None = None
    all_folds: bool = False
    other_cpus: bool = True
    report: Path | None = None


def verify_bundle(settings: VerifySettings) -> list[Check]:
    """Replay the golden samples in each precision, and measure all that export's gates ask. Raises BundleError for a
    bundle that is not what was verified or computes something else here, UsageError for films that cannot be used."""
    folder = find_bundle(settings.bundle)
    accuracy = measure_accuracy(
        AccuracySettings(settings.bundle, settings.labels, settings.fold, settings.all_folds, out=settings.report)
    )
    if settings.report is not None:
        write_report(settings.report, accuracy.figures, accuracy.judged, accuracy.again)
    manifest = accuracy.judged.model.manifest
    checks = [_golden(folder, precision) for precision in manifest.precisions]
    checks += _of_labels(accuracy.figures, manifest.operating_points.chosen_on)
    if "int8" in manifest.precisions:
        checks += _of_int8(folder, accuracy, other_cpus=settings.other_cpus)
    return checks


def _golden(folder: Path, precision: str) -> Check:
    must = "as the bundle says"
    try:
        worst = Model(folder, device="cpu", precision=precision).check_golden()
    except BundleError as error:
        return Check(f"golden samples, {precision}", str(error), must, holds=False)
    return Check(f"golden samples, {precision}", f"off by at most {worst:.4f}", must, holds=True)


def _of_labels(figures: dict[str, Any], chosen_on: str) -> list[Check]:
    """Do the scores point the right way, and are the points' promises within their intervals?"""
    area = figures["ranking"]["auroc"]
    found = [Check("AUROC", shown(area), "above 0.5", area["value"] > 0.5)]
    if PROMISE in chosen_on:
        for figure, point in (("sensitivity", "sensitive"), ("specificity", "specific")):
            share = figures["points"][point][figure]
            words = f"{figure} at the {point} point"
            found.append(Check(words, shown(share), "0.95, or its interval reaches that", share["high"] >= 0.95))
    return found


def _of_int8(folder: Path, accuracy: Accuracy, *, other_cpus: bool) -> list[Check]:
    judged, between = accuracy.judged, accuracy.figures["between_precisions"]
    if between is None:
        raise UsageError(f"{folder}: has int8 alone: there is nothing to compare it with")
    pixels, points = judged.films.pixels, judged.model.manifest.operating_points
    predict = {name: Model(folder, device="cpu", precision=name).predict for name in ("float32", "int8")}
    seconds = interleaved(predict, pixels[:TIMED])
    checks = [*agreement_of(between).checks(), speed_check(times_faster(seconds["float32"], seconds["int8"]))]
    if other_cpus:
        graph = onnx.load(folder / judged.model.manifest.precisions["int8"].file)
        limits = {"sensitive": points.sensitive, "specific": points.specific}
        others = on_other_cpus(graph, some_of_both(pixels, judged.films.fractured, ON_CPUS), limits)
        checks += cpu_checks(others) if others else [_NOT_CHECKED]
    return checks
