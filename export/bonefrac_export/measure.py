"""What a bundle is worth, measured with the very files that ship; and what is chosen by it: limit, points, level."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from bonefrac.decode import decode
from bonefrac.errors import BonefracError, FilmError, NotAnalysed, UsageError
from bonefrac.header import read_header
from bonefrac.machine import usable_cores
from bonefrac.model import Manifest, Model, OperatingPoints
from bonefrac.preprocess import to_input
from bonefrac_benchmarks.accuracy import Films, judge, predict_all
from bonefrac_benchmarks.accuracy_run import PREVALENCES, Accuracy, accuracy_of
from bonefrac_benchmarks.split import Split
from bonefrac_export.evaluate import figures, operating_points, region_level, wilson
from bonefrac_export.films import files_in
from bonefrac_export.gates import agreement_of

_FAMILIAR = 0.99  # of the validation films are like enough to the training films to be analysed
PROMISE = "sensitivity >= 0.95, specificity >= 0.95"
_PARITY = 1e-4  # largest difference of a probability between Keras and the float32 file


def platt(logits: NDArray[np.float32], fractured: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset that calibrate logits (Platt, 1999). Raises BonefracError if they point the wrong way."""
    fitted = LogisticRegression(C=1e6).fit(logits[:, None].astype(np.float64), fractured)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    auroc = float(roc_auc_score(fractured, logits))
    if auroc >= 0.5 and (slope <= 0 or auroc == 0.5):
        raise BonefracError(
            f"the network does not tell films with a fracture from those without (AUROC {auroc:.3f}): nothing was"
            " exported"
        )
    if slope <= 0 or auroc < 0.5:
        raise BonefracError(
            f"the network scores films without fracture higher (AUROC {auroc:.3f}): its polarity is wrong, nothing was"
            " exported; look at --classes and --positive-class"
        )
    return slope, offset


def check_parity(folder: Path, pixels: NDArray[np.uint8], expected: NDArray[np.float32]) -> str:
    """Compare the float32 file with probabilities (n,) as Keras has them; returns the card's words. Raises
    BonefracError where they differ."""
    model = Model(folder, precision="float32")
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(lambda at: model.predict(pixels[at : at + 4]).probability, range(0, len(pixels), 4)))
    parity = float(np.abs(np.concatenate(found) - expected).max())
    if not parity <= _PARITY:
        raise BonefracError(f"Keras and the float32 file differ by {parity:.6f} in a probability (limit {_PARITY})")
    return f"probabilities differ by at most {parity:.1e} on {len(pixels)} films"


def set_limit(folder: Path, manifest: Manifest, films: Films, unlike: Path | None) -> Manifest:
    """Set the limit that 99 % of the validation films pass, and count what it sets aside; no change for a network that
    does not tell. Raises BonefracError where a drawn film of the self-test would be set aside."""
    model = Model(folder)

    def familiarity(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        return predict_all(model, pixels)[2].astype(np.float64)

    of_films = familiarity(films.pixels)
    if of_films.min() == 1:
        return manifest
    limit = float(np.floor(np.quantile(of_films, 1 - _FAMILIAR, method="lower") * 1e4) / 1e4)
    with np.load(folder / manifest.golden.file) as golden:
        of_drawn = familiarity(golden["pixels"])
    if of_drawn.min() < limit:
        raise BonefracError(f"drawn films would be set aside as unlike: {of_drawn} where the limit is {limit}")
    aside = of_films < limit
    measured = {
        "validation films set aside as unlike": f"{wilson(int(aside.sum()), len(aside))}; of those with a fracture"
        f" {int((aside & films.fractured).sum())} of {int(films.fractured.sum())}"
    }
    turned = familiarity(255 - films.pixels)
    measured["the same films inverted, set aside"] = wilson(int((turned < limit).sum()), len(turned))
    for kind, paths in {} if unlike is None else _kinds(unlike).items():
        gone = sum(1 for path in paths if (shown := _shown(path, manifest)) is None or familiarity(shown)[0] < limit)
        measured[f"{kind}, set aside"] = wilson(gone, len(paths))
    return replace(manifest, familiarity_limit=limit, figures={**manifest.figures, **measured})


def _kinds(folder: Path) -> dict[str, list[Path]]:
    """The pictures below a folder by what they show: the name of the folder that each lies in."""
    kinds: dict[str, list[Path]] = {}
    for path in files_in(folder):
        kinds.setdefault("pictures of other things" if path.parent == folder else path.parent.name, []).append(path)
    return kinds


def _shown(path: Path, manifest: Manifest) -> NDArray[np.uint8] | None:
    """A picture as the model sees it, (1, height, width, 1); None where it is set aside before that, blank or coloured.
    Raises UsageError where it cannot be read."""
    try:
        data = path.read_bytes()
        read_header(data)
    except (FilmError, OSError) as error:
        raise UsageError(f"{path}: is no picture that can be used: {error}") from error
    try:
        film = decode(data, long_side=manifest.input.long_side)
    except NotAnalysed:
        return None
    except FilmError as error:
        raise UsageError(f"{path}: {error}") from error
    return to_input(film, manifest.input)[0][None]


def choose(folder: Path, manifest: Manifest, films: Films, points: OperatingPoints | None, name: str) -> Manifest:
    """Choose points, unless they are given, and the regions' level with the file that ships, on the films that it does
    not set aside; `name` is what they are called."""
    judged = judge(Model(folder), films)
    if points is None:
        sensitive, specific = operating_points(judged.films.fractured, judged.probability)
        chosen_on = f"{name}: {PROMISE}"
        points = OperatingPoints(sensitive, specific, chosen_on)
    manifest = replace(manifest, operating_points=points)
    save_manifest(folder, manifest)
    return replace(
        manifest, region_level=region_level(judged.films, judged.probability, judged.heatmaps, Model(folder))
    )


def measure(folder: Path, manifest: Manifest, films: Films, name: str, warning: str) -> tuple[Manifest, Accuracy]:
    """Measure the file that ships through the engine: the manifest with its figures, and all of them for the report.
    `name` is what the films are called, `warning` what is to be said of
    them first."""
    judged = judge(Model(folder), films)
    accuracy = accuracy_of(folder, judged, Split(films.labels, name, warning), [], PREVALENCES)
    found = {**figures(accuracy.figures, heatmap=judged.heatmaps.size > 0), **manifest.figures}
    if (between := accuracy.figures["between_precisions"]) is not None:
        found["int8 against float32"] = _words(between)
    return replace(manifest, figures=found), accuracy


def _words(between: dict[str, Any]) -> str:
    points = " and ".join(
        f"{point['flips']} of {between['films']} at the {name} point (McNemar's p {point['mcnemar_p']:.2f})"
        for name, point in between["points"].items()
    )
    words = f"AUROC {agreement_of(between).auroc_difference:+.4f}; decisions changed: {points}"
    if maps := between["heatmaps"]:
        near = maps["peak_within_a_cell"]
        words += (
            f"; heat maps of films with a fracture correlate at {maps['correlation']:.3f} in the mean, their peaks lie"
            f" in one cell or neighbours on {near['count']} of {near['of']}"
        )
    return words


def compare_unlabelled(folder: Path, manifest: Manifest, pixels: NDArray[np.uint8]) -> Manifest:
    """How far int8 lies from float32 on films without labels."""
    if "int8" not in manifest.precisions:
        return manifest
    int8, float32 = (predict_all(Model(folder, precision=name), pixels)[0] for name in ("int8", "float32"))
    low, high = np.quantile(np.abs(int8 - float32), (0.5, 0.95))
    words = f"probabilities differ by {low:.4f} in the median, by less than {high:.4f} on 95 % of {len(pixels)} films"
    return replace(manifest, figures={**manifest.figures, "int8 against float32": words})


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
