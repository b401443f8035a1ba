"""Everything a bundle holds, made and measured in one go: nothing ships unmeasured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from bonefrac.decode import decode
from bonefrac.errors import BonefracError, FilmError, UsageError
from bonefrac.labelled import LabelledFilm, list_hash, read_labelled
from bonefrac.model import FORMAT, FileEntry, Manifest, Model, OperatingPoints, Precision, TrainingData
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Radiograph
from bonefrac.synthetic import draw_radiograph
from bonefrac_benchmarks.accuracy import Films, compare, judge, load, predict_all
from bonefrac_export.convert import keras_logits, load_keras, to_onnx
from bonefrac_export.evaluate import figures, operating_points, region_level, wilson
from bonefrac_export.quantize import folded, quantize

_CALIBRATION_FILMS = 240
_FAMILIAR = 0.99  # of the validation films are like enough to the training films to be analysed
_PARITY = 1e-4  # largest difference of a probability between Keras and the float32 file
_GOLDEN = ((1, True), (1, False), (2, True), (2, False))  # seed of the drawing, with a fracture or not

LIMITS = [
    "Not a medical device; not for diagnosis. It was never tested in a clinic.",
    "Learned from hands, legs, hips and shoulders of one collection. Spine, skull, chest and ribs are"
    " unknown to it, and so is how well it does on films from elsewhere.",
    "The operating points, the calibration of the probability and the region level were chosen on the very fold"
    " that the figures are from; sensitivity, specificity and hit rate are a little too good. AUROC is not affected.",
    "Only AUROC's interval is drawn over groups: those of sensitivity, specificity and hit rate count films as"
    " independent, and are too narrow. AUROC was watched on this fold during training; no epoch was chosen by it.",
    "Inverted films (bones dark) are not recognised and get a meaningless score.",
    "Neighbouring films of the collection stand for patients, which it does not name: one patient may be in two folds.",
    "On processors without VNNI instructions int8 scores may differ in the third digit; not checked.",
]


@dataclass(frozen=True)
class ExportSettings:
    """`network` is bonefrac-train's `network.keras`, with `input.json` and `training.json` beside it; `data_name`,
    `data_licence` and `data_source` credit the films in `data`; `unlike` is a folder of pictures of other things, to
    measure how many of them are set aside."""

    network: Path
    data: Path
    out: Path
    data_name: str
    data_licence: str
    data_source: str
    name: str = "flagship"
    version: str = "0.1.0"
    unlike: Path | None = None


def export_bundle(settings: ExportSettings) -> dict[str, str]:
    """Make, measure and write a bundle; returns the card's figures.

    Raises UsageError for unusable input, BonefracError when a check fails; then nothing is written under `out`.
    """
    spec, history = _read_training(settings.network.parent)
    labelled, fold = read_labelled(settings.data), history["fold"]
    training = [film for film in labelled if film.fold != fold]
    validation = _load([film for film in labelled if film.fold == fold], spec)
    calibration = _calibration_films(training)

    network = load_keras(settings.network)
    logits, _ = keras_logits(network, validation.pixels)
    slope, offset = _platt(logits, validation.fractured)
    float32 = folded(to_onnx(network, slope, offset))
    int8 = quantize(float32, _load(calibration, spec).pixels)

    part = settings.out.with_name(settings.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    manifest = Manifest(
        format=FORMAT,
        name=settings.name,
        version=settings.version,
        input=spec,
        precisions={
            "int8": _write(part / "int8.onnx", int8.SerializeToString(deterministic=True)),
            "float32": _write(part / "float32.onnx", float32.SerializeToString(deterministic=True)),
        },
        default_precision="int8",
        operating_points=OperatingPoints(0.5, 0.5, "not yet"),
        region_level=0.5,
        familiarity_limit=0.0,
        golden=_write_golden(part, spec, {"int8": int8, "float32": float32}),
        training_data=TrainingData(
            settings.data_name, settings.data_licence, settings.data_source, list_hash(training)
        ),
        figures={},
        limits=LIMITS,
        made_with=_made_with(settings, history, (slope, offset), calibration),
    )
    _save(part, manifest)
    manifest = _set_limit(part, manifest, validation, settings.unlike)
    _save(part, manifest)
    manifest = _measure(part, manifest, validation, slope * logits + offset)
    _save(part, manifest)
    _save_card(part, manifest)
    Model(part)  # the finished bundle loads, checks its hashes and passes its golden samples
    shutil.rmtree(settings.out, ignore_errors=True)
    os.replace(part, settings.out)
    return manifest.figures


def _read_training(folder: Path) -> tuple[InputSpec, dict[str, Any]]:
    """What bonefrac-train wrote beside the network: its input spec, and how it was trained (with the fold)."""
    try:
        spec = InputSpec(**json.loads((folder / "input.json").read_text(encoding="utf-8")))
        history = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        history["fold"] = int(history["fold"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{folder}: input.json or training.json is missing or bad") from error
    return spec, history


def _load(labelled: list[LabelledFilm], spec: InputSpec) -> Films:
    """Films as the model sees them. Raises UsageError where one cannot be decoded."""
    films, left_out = load(labelled, spec)
    if left_out:
        raise UsageError(f"{left_out[0].film.path}: {left_out[0].reason}; take it out of labels.csv")
    return films


def _calibration_films(films: list[LabelledFilm]) -> list[LabelledFilm]:
    """A third of them fractured, body regions in turn, drawn with a fixed seed from the training folds."""
    shuffled = [films[index] for index in np.random.default_rng(0).permutation(len(films))]
    chosen: list[LabelledFilm] = []
    for fractured, count in ((True, _CALIBRATION_FILMS // 3), (False, _CALIBRATION_FILMS - _CALIBRATION_FILMS // 3)):
        pools: dict[tuple[str, ...], list[LabelledFilm]] = {}
        for film in shuffled:
            if film.fractured == fractured:
                pools.setdefault(film.regions, []).append(film)
        before = len(chosen)
        while len(chosen) - before < count and any(pools.values()):
            chosen += [pool.pop() for pool in pools.values() if pool]
        del chosen[before + count :]
    return chosen


def _platt(logits: NDArray[np.float64], fractured: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset that calibrate logits (Platt, 1999). Raises BonefracError if they point the wrong way."""
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], fractured)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope <= 0:
        raise BonefracError(
            "the network scores films without fracture higher: its polarity is wrong, nothing was exported"
        )
    return slope, offset


def _write(path: Path, data: bytes) -> FileEntry:
    path.write_bytes(data)
    return FileEntry(path.name, hashlib.sha256(data).hexdigest())


def _write_golden(folder: Path, spec: InputSpec, models: dict[str, onnx.ModelProto]) -> FileEntry:
    """Drawn films and their probabilities. Raises BonefracError where a fracture does not outscore every clean film."""
    import onnxruntime as ort

    drawn = [draw_radiograph(seed, fractured=fractured).pixels for seed, fractured in _GOLDEN]
    pixels = np.stack([to_input(Radiograph(film, film.shape[1], film.shape[0]), spec)[0] for film in drawn])
    scores = {}
    for precision, model in models.items():
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        scores[precision] = session.run(["probability"], {"pixels": pixels})[0]
        if scores[precision][::2].min() <= scores[precision][1::2].max():
            raise BonefracError(f"{precision} scores a drawn film without fracture above one with: {scores[precision]}")
    np.savez_compressed(folder / "golden.npz", pixels=pixels, **scores)
    return FileEntry("golden.npz", hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest())


def _made_with(
    settings: ExportSettings, history: dict[str, Any], platt: tuple[float, float], calibration: list[LabelledFilm]
) -> dict[str, str]:
    packages = (
        "tensorflow",
        "keras",
        "tf2onnx",
        "onnx",
        "onnxruntime",
        "numpy",
        "opencv-python-headless",
        "simplejpeg",
    )
    installed = {}
    for package in packages:
        try:
            installed[package] = version(package)
        except ModuleNotFoundError:  # tensorflow-cpu is tensorflow by another name
            installed[package] = version(f"{package}-cpu")
    return {
        "network.keras sha256": hashlib.sha256(settings.network.read_bytes()).hexdigest(),
        "training": json.dumps(history),
        "probability": f"sigmoid({platt[0]:.6f} * logit + {platt[1]:.6f}), fitted on fold {history['fold']}",
        "int8": f"static QDQ, per channel, min-max over {len(calibration)} training films {list_hash(calibration)}",
        **installed,
    }


def _set_limit(folder: Path, manifest: Manifest, films: Films, unlike: Path | None) -> Manifest:
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
    measured = {"validation films set aside as unlike": wilson(int((of_films < limit).sum()), len(of_films))}
    turned = familiarity(255 - films.pixels)
    measured["the same films inverted, set aside"] = wilson(int((turned < limit).sum()), len(turned))
    if unlike is not None:
        of_others = familiarity(_load_pictures(unlike, manifest.input))
        measured["pictures of other things, set aside"] = wilson(int((of_others < limit).sum()), len(of_others))
    return replace(manifest, familiarity_limit=limit, figures=measured)


def _measure(folder: Path, manifest: Manifest, films: Films, keras_logit: NDArray[np.float64]) -> Manifest:
    """Choose points and level with the file that ships, and measure it through the engine, on the films that it does
    not set aside."""
    int8, float32 = Model(folder, precision="int8"), Model(folder, precision="float32")
    reference = [float32.predict(films.pixels[at : at + 4]).probability for at in range(0, len(films.pixels), 4)]
    parity = float(np.abs(np.concatenate(reference) - 1 / (1 + np.exp(-keras_logit))).max())
    if not parity <= _PARITY:
        raise BonefracError(f"Keras and the float32 file differ by {parity:.6f} in a probability (limit {_PARITY})")
    judged = judge(int8, films)
    sensitive, specific = operating_points(judged.films.fractured, judged.probability)
    folds = sorted({film.fold for film in films.labels})
    chosen_on = f"{manifest.training_data.name}, fold {folds[0]}: sensitivity >= 0.95, specificity >= 0.95"
    manifest = replace(manifest, operating_points=OperatingPoints(sensitive, specific, chosen_on))
    _save(folder, manifest)
    level = region_level(judged.films, judged.probability, judged.heatmaps, Model(folder))
    manifest = replace(manifest, region_level=level)
    _save(folder, manifest)

    judged = judge(Model(folder), films)
    measured = {**figures(judged), **manifest.figures}
    measured["float32 file against Keras"] = (
        f"probabilities differ by at most {parity:.1e} on {len(films.labels)} films"
    )
    between = compare(judged, Model(folder, precision="float32"))
    flips = {name: between["points"][name]["flips"] for name in ("sensitive", "specific")}
    measured["int8 against float32"] = (
        f"AUROC {between['auroc_difference']:+.4f}; decisions changed: {flips['sensitive']} of {between['films']} at"
        f" the sensitive, {flips['specific']} at the specific point"
    )
    return replace(manifest, figures=measured)


def _load_pictures(folder: Path, spec: InputSpec) -> NDArray[np.uint8]:
    """All pictures of a folder as the model sees them. Raises UsageError where there is none, or one is no picture."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    if not paths:
        raise UsageError(f"{folder}: holds no pictures")
    try:
        return np.stack([to_input(decode(path.read_bytes(), long_side=spec.long_side), spec)[0] for path in paths])
    except FilmError as error:
        raise UsageError(f"{folder}: holds a file that is no picture: {error}") from error


def _save(folder: Path, manifest: Manifest) -> None:
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")


def _save_card(folder: Path, manifest: Manifest) -> None:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bonefrac_export"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    sizes = {name: (folder / entry.file).stat().st_size for name, entry in manifest.precisions.items()}
    precision: Precision = manifest.default_precision
    text = environment.get_template("CARD.md").render(manifest=manifest, sizes=sizes, precision=precision)
    (folder / "CARD.md").write_text(text, encoding="utf-8")
