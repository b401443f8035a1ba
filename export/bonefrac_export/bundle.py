"""Everything a bundle holds, made and measured in one go: nothing ships unmeasured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from bonefrac.decode import decode
from bonefrac.errors import BonefracError, UsageError
from bonefrac.labelled import LabelledFilm, read_labelled
from bonefrac.model import FORMAT, FileEntry, Manifest, Model, OperatingPoints, Precision, TrainingData
from bonefrac.preprocess import InputSpec, ToFilm, to_input
from bonefrac.results import Radiograph
from bonefrac.synthetic import draw_radiograph
from bonefrac_export.convert import keras_logits, load_keras, to_onnx
from bonefrac_export.evaluate import Films, figures, operating_points, predict, region_level
from bonefrac_export.quantize import folded, quantize

_CALIBRATION_FILMS = 240
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
    `data_licence` and `data_source` credit the films in `data`."""

    network: Path
    data: Path
    out: Path
    data_name: str
    data_licence: str
    data_source: str
    name: str = "flagship"
    version: str = "0.1.0"


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
        golden=_write_golden(part, spec, {"int8": int8, "float32": float32}),
        training_data=TrainingData(
            settings.data_name, settings.data_licence, settings.data_source, _list_hash(training)
        ),
        figures={},
        limits=LIMITS,
        made_with=_made_with(settings, history, (slope, offset), calibration),
    )
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


def _load(films: list[LabelledFilm], spec: InputSpec) -> Films:
    def prepare(film: LabelledFilm) -> tuple[NDArray[np.uint8], ToFilm, tuple[int, int]]:
        radiograph: Radiograph = decode(film.path.read_bytes(), long_side=spec.long_side)
        return *to_input(radiograph, spec), (radiograph.width, radiograph.height)

    with ThreadPoolExecutor() as pool:
        pixels, maps, sizes = zip(*pool.map(prepare, films), strict=True)
    return Films(films, np.stack(pixels), list(maps), list(sizes))


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


def _list_hash(films: list[LabelledFilm]) -> str:
    """SHA-256 of the sorted lines `sha256  name` of the films, as `sha256sum` prints them."""
    lines = sorted(f"{hashlib.sha256(film.path.read_bytes()).hexdigest()}  {film.path.name}\n" for film in films)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
        "int8": f"static QDQ, per channel, min-max over {len(calibration)} training films {_list_hash(calibration)}",
        **installed,
    }


def _measure(folder: Path, manifest: Manifest, films: Films, keras_logit: NDArray[np.float64]) -> Manifest:
    """Choose points and level with the file that ships, and measure it through the engine."""
    int8, float32 = Model(folder, precision="int8"), Model(folder, precision="float32")
    probability, heatmaps = predict(int8, films.pixels)
    sensitive, specific = operating_points(films.fractured, probability)
    folds = sorted({film.fold for film in films.labels})
    chosen_on = f"{manifest.training_data.name}, fold {folds[0]}: sensitivity >= 0.95, specificity >= 0.95"
    manifest = replace(manifest, operating_points=OperatingPoints(sensitive, specific, chosen_on))
    _save(folder, manifest)
    level = region_level(films, probability, heatmaps, Model(folder, precision="int8"))
    manifest = replace(manifest, region_level=level)
    _save(folder, manifest)

    reference = np.concatenate([float32.predict(films.pixels[at : at + 4])[0] for at in range(0, len(films.pixels), 4)])
    parity = float(np.abs(reference - 1 / (1 + np.exp(-keras_logit))).max())
    if not parity <= _PARITY:
        raise BonefracError(f"Keras and the float32 file differ by {parity:.6f} in a probability (limit {_PARITY})")
    flips = [int(((probability >= point) != (reference >= point)).sum()) for point in (sensitive, specific)]
    drop = roc_auc_score(films.fractured, reference) - roc_auc_score(films.fractured, probability)
    measured = figures(films, Model(folder, precision="int8"))
    measured["float32 file against Keras"] = f"probabilities differ by at most {parity:.1e} on {len(reference)} films"
    measured["int8 against float32"] = (
        f"AUROC {-drop:+.4f}; decisions changed: {flips[0]} of {len(reference)} at the sensitive,"
        f" {flips[1]} at the specific point"
    )
    return replace(manifest, figures=measured)


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
