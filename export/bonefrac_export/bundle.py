"""Everything a bundle holds, made and measured in one go: nothing ships unmeasured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bonefrac.errors import UsageError
from bonefrac.labelled import files_hash
from bonefrac.model import FORMAT, FileEntry, Manifest, Model, OperatingPoints, Precision, TrainingData
from bonefrac_benchmarks.accuracy import Films
from bonefrac_benchmarks.accuracy_report import write_report
from bonefrac_benchmarks.accuracy_run import Accuracy, make_folder
from bonefrac_export.calibration import Method
from bonefrac_export.cam import with_class_activation
from bonefrac_export.canonical import canonical
from bonefrac_export.card import NOT_KNOWN, limits, save_card
from bonefrac_export.convert import to_onnx
from bonefrac_export.films import FilmSets, files_in, film_sets, load_films, load_pictures
from bonefrac_export.gates import Check, Gate, agreement_of, cpu_checks, speed_check
from bonefrac_export.golden import write_golden
from bonefrac_export.half import halved
from bonefrac_export.int8 import Int8, make_int8
from bonefrac_export.measure import check_parity, choose, compare_unlabelled, measure, platt, save_manifest, set_limit
from bonefrac_export.network import Network, Reading, open_network
from bonefrac_export.quantize import folded
from bonefrac_export.record import Record, write_record
from bonefrac_export.speed import TIMED, interleaved, times_faster


@dataclass(frozen=True)
class ExportSettings:
    """`network`: any trained Keras network; `reading` says what its file does not; `classifier` decides for one that
    gives a box alone. `calibration` and `labels`: films, see `film_sets`; without labels nothing is measured, and
    `points` (sensitive, specific) must be given. `fold`: the one that training never saw, where no `training.json`
    beside the network says it. The `data_` texts credit the training films; `unlike` is a folder of pictures of other
    things, to measure how many of them are set aside. `report`: a folder for the page, which shows films; `asked` the
    command's arguments, for the manifest."""

    network: Path
    calibration: Path
    out: Path
    data_name: str = "films that were not named"
    data_licence: str = "not stated"
    data_source: str = "not stated"
    labels: Path | None = None
    fold: int | None = None
    reading: Reading = field(default_factory=Reading)
    classifier: Path | None = None
    points: tuple[float, float] | None = None
    precision: Precision = "int8"
    method: Method = "percentile"
    float16: bool = False
    other_cpus: bool = True
    name: str = "flagship"
    version: str = "0.1.0"
    unlike: Path | None = None
    report: Path | None = None
    asked: str = "not told"


def export_bundle(settings: ExportSettings) -> dict[str, str]:
    """Make, measure and write a bundle; returns the card's figures.

    Raises UsageError for unusable input, BonefracError when a check fails; then nothing is written under `out`.
    """
    begun, points = time.monotonic(), _given_points(settings)
    _check_out(settings.out)
    network = open_network(settings.network, settings.reading, settings.classifier)
    fold = network.history.get("fold") if settings.fold is None else settings.fold
    sets = film_sets(settings.calibration, settings.labels, fold)
    calibration = load_pictures(sets.calibration, network.spec)
    validation = load_films(sets.validation, network.spec) if sets.validation else None

    pixels = calibration if validation is None else validation.pixels
    logits = network.predict(pixels)["logit"]
    slope, offset = (1.0, 0.0) if validation is None else platt(logits, validation.fractured)
    float32 = folded(with_class_activation(to_onnx(network, slope, offset), network.head, calibration))
    gate = Gate(float32, pixels, None if validation is None else validation.fractured, points)
    int8 = (
        make_int8(float32, calibration, gate, settings.method, other_cpus=settings.other_cpus)
        if settings.precision == "int8"
        else Int8(None, "not asked for")
    )

    part = settings.out.with_name(settings.out.name + ".part")
    with _removed(part):
        made = _Made(network, sets, slope, offset, calibration, validation, points, gate)
        manifest, accuracy, seconds = _finish(part, settings, made, float32, int8)
        if faults := [check for check in _final(accuracy) if not check.holds]:  # points were chosen anew since the gate
            int8 = Int8(None, f"left out: {'; '.join(map(str, faults))}")
            manifest, accuracy, seconds = _finish(part, settings, made, float32, int8)
        expected = 1 / (1 + np.exp(-(slope * logits + offset)))
        parity = check_parity(part, pixels, expected.astype(np.float32))
        manifest = replace(manifest, figures={**manifest.figures, "float32 file against Keras": parity})
        save_manifest(part, manifest)
        save_card(part, manifest)
        Model(part)  # the finished bundle loads, checks its hashes and passes its golden samples
        if accuracy is not None and settings.report is not None:
            make_folder(settings.report)
            minutes = (time.monotonic() - begun) / 60
            _report(settings.report, part, manifest, accuracy, seconds, int8.story, minutes)
        _replace(settings.out, part)
    return manifest.figures


@dataclass(frozen=True)
class _Made:
    """What a bundle is made of and measured with, whether it has int8 or not."""

    network: Network
    sets: FilmSets
    slope: float
    offset: float
    calibration: NDArray[np.uint8]
    validation: Films | None
    points: OperatingPoints | None
    gate: Gate


def _finish(
    part: Path, settings: ExportSettings, made: _Made, float32: onnx.ModelProto, int8: Int8
) -> tuple[Manifest, Accuracy | None, dict[str, NDArray[np.float64]]]:
    """Write all files and measure them: manifest, every figure where films are labelled, and seconds a film."""
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    fold = made.network.history.get("fold") if settings.fold is None else settings.fold
    made_with = {
        **_made_from(settings, made.network),
        "probability": f"sigmoid({made.slope:.6f} * logit + {made.offset:.6f}), {_fitted_on(made.sets, fold)}",
        "int8": f"{int8.story}; calibrated on {len(made.calibration)} films {files_hash(made.sets.calibration)}",
        **_installed(),
    }
    graphs = _graphs(float32, int8, settings)
    manifest = _manifest(part, settings, made, graphs, made_with, cpus_unknown=_cpus_unknown(int8))
    save_manifest(part, manifest)
    pixels = made.calibration if made.validation is None else made.validation.pixels
    seconds = _race(part, manifest, pixels)
    manifest = _faster(
        replace(manifest, figures={**_about_int8(settings, int8), **_about_float16(made.gate, graphs)}), seconds
    )
    save_manifest(part, manifest)
    if made.validation is None:
        return compare_unlabelled(part, manifest, made.calibration), None, seconds
    name = _called(settings, fold)
    for step in (partial(set_limit, unlike=settings.unlike), partial(choose, points=made.points, name=name)):
        manifest = step(part, manifest, made.validation)
        save_manifest(part, manifest)
    manifest, accuracy = measure(part, manifest, made.validation, name, _warning(made.network))
    return manifest, accuracy, seconds


def _final(accuracy: Accuracy | None) -> list[Check]:
    """int8's gates once more, by the points that ship, on the films that get a finding."""
    between = None if accuracy is None else accuracy.figures["between_precisions"]
    return [] if between is None else agreement_of(between).checks()


def _check_out(out: Path) -> None:
    """Only a bundle is ever replaced, or an empty folder. Raises UsageError."""
    if out.name in ("", ".."):
        raise UsageError(f"{out}: name the bundle's folder itself, as models/mine")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").is_file())):
        raise UsageError(f"{out}: is there, and is no bundle; it is left alone: name another folder")


def _replace(out: Path, part: Path) -> None:
    """The new bundle in the old one's place, which goes last."""
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(part, out)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _removed(part: Path) -> Iterator[None]:
    """Nothing is left of it, however this ends."""
    try:
        yield
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _given_points(settings: ExportSettings) -> OperatingPoints | None:
    if settings.points is None:
        if settings.labels is None:
            raise UsageError(
                "without labelled films no operating points can be chosen: give --labels, or --sensitive-point (doubt"
                " from that probability on) and --specific-point (fracture from that one on)"
            )
        return None
    sensitive, specific = settings.points
    if not 0 < sensitive <= specific < 1:
        raise UsageError(f"operating points {sensitive} and {specific}: they must lie in 0..1, the sensitive one first")
    return OperatingPoints(sensitive, specific, "given by hand at export")


def _graphs(float32: onnx.ModelProto, int8: Int8, settings: ExportSettings) -> dict[Precision, onnx.ModelProto]:
    """By precision, the default first."""
    graphs: dict[Precision, onnx.ModelProto] = {} if int8.model is None else {"int8": int8.model}
    graphs["float32"] = float32
    if settings.float16:
        graphs["float16"] = halved(float32)
    return graphs


def _race(folder: Path, manifest: Manifest, films: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Seconds a film, round by round, through the engine's session with one thread."""
    names = [name for name in ("float32", "int8") if name in manifest.precisions]
    return interleaved({name: Model(folder, precision=name).predict for name in names}, films[:TIMED])


def _faster(manifest: Manifest, seconds: dict[str, NDArray[np.float64]]) -> Manifest:
    """Where int8 is not worth its differences on this machine, float32 is the default, and the card says why."""
    if "int8" not in seconds:
        return manifest
    check = speed_check(times_faster(seconds["float32"], seconds["int8"]))
    words = f"{check.measured} times as many, {len(seconds['int8'])} rounds in turns, one thread, where it was exported"
    figures = {**manifest.figures, "films a second, int8 against float32": words}
    if check.holds:
        return replace(manifest, figures=figures)
    figures["default"] = f"float32, for int8 must be {check.must} times as fast"
    return replace(manifest, figures=figures, default_precision="float32")


def _cpus_unknown(int8: Int8) -> bool:
    return int8.model is not None and int8.cpus is None


def _about_int8(settings: ExportSettings, int8: Int8) -> dict[str, str]:
    """The card's words where there is none though it was asked for, or on processors that were emulated."""
    if int8.model is None:
        return {"int8": int8.story} if settings.precision == "int8" else {}
    if int8.cpus is None:
        return {"int8 on CPUs without VNNI": "not checked"}
    return {f"int8 {check.what}": check.measured for check in cpu_checks(int8.cpus)}


def _about_float16(gate: Gate, graphs: dict[Precision, onnx.ModelProto]) -> dict[str, str]:
    """The card's words; a GPU may sum in another order, and none is asked."""
    if "float16" not in graphs:
        return {}
    checks = gate.agreement(graphs["float16"]).checks()
    return {"float16 against float32, on the CPU": "; ".join(f"{check.what} {check.measured}" for check in checks)}


def _called(settings: ExportSettings, fold: int | None) -> str:
    """What the measured films are called."""
    labels = settings.labels or settings.calibration
    folder = labels.parent if labels.is_file() else labels
    return f"{folder.resolve().name}, {'all labelled films' if fold is None else f'fold {fold}'}"


def _warning(network: Network) -> str:
    return "" if network.history else "It cannot be told whether the network was trained on these films."


def _manifest(
    folder: Path, settings: ExportSettings, made: _Made, graphs: dict[Precision, onnx.ModelProto],
    made_with: dict[str, str], *, cpus_unknown: bool,
) -> Manifest:  # fmt: skip
    """Write the models and golden samples; the manifest as far as nothing is measured."""
    network, sets = made.network, made.sets
    place = _place(network, graphs["float32"])
    return Manifest(
        format=FORMAT,
        name=settings.name,
        version=settings.version,
        input=network.spec,
        precisions={name: _write(folder / f"{name}.onnx", _bytes(graph, settings)) for name, graph in graphs.items()},
        default_precision=next(iter(graphs)),
        operating_points=made.points or OperatingPoints(0.5, 0.5, "not yet"),
        region_level=0.5,
        familiarity_limit=0.0,
        golden=write_golden(folder, network.spec, graphs, ranked=place == "trained"),
        training_data=TrainingData(settings.data_name, settings.data_licence, settings.data_source, sets.trained_on),
        figures={},
        limits=limits(
            place,
            measured=bool(sets.validation),
            ours=network.history.get("model") == "flagship",
            cpus_unknown=cpus_unknown,
            films=len(sets.validation),
            calibration=len(sets.calibration),
        ),
        made_with={"heat map": place, **made_with},
    )


def _bytes(graph: onnx.ModelProto, settings: ExportSettings) -> bytes:
    """The same network gives the same bytes."""
    told = onnx.ModelProto()
    told.CopyFrom(graph)
    about = {"name": settings.name, "version": settings.version, "use": "not a medical device, not for diagnosis"}
    onnx.helper.set_model_props(told, about)
    return canonical(told).SerializeToString(deterministic=True)


def _report(
    out: Path, folder: Path, manifest: Manifest, accuracy: Accuracy, seconds: dict[str, NDArray[np.float64]],
    story: str, minutes: float,
) -> None:  # fmt: skip
    """The page, which shows films, and the record, which does not."""
    write_report(out, accuracy.figures, accuracy.judged, accuracy.again)
    between = accuracy.figures["between_precisions"]
    of = {judged.model.precision: judged for judged in (accuracy.judged, accuracy.again) if judged is not None}
    record = Record(
        model=manifest.name,
        version=manifest.version,
        data=accuracy.figures["split"]["name"],
        image_size=max(manifest.input.width, manifest.input.height),
        default=manifest.default_precision,
        story=story,
        unseen=manifest.made_with["training"] != NOT_KNOWN,
        bytes={name: (folder / entry.file).stat().st_size for name, entry in manifest.precisions.items()},
        films_a_second={name: round(float(1 / np.median(found)), 2) for name, found in seconds.items()},
        auroc={name: round(float(roc_auc_score(j.films.fractured, j.probability)), 4) for name, j in of.items()},
        films=accuracy.figures["films"],
        flips={name: point["flips"] for name, point in between["points"].items()} if between else {},
        minutes=round(minutes, 1),
    )
    write_record(out, record)


def _place(network: Network, model: onnx.ModelProto) -> str:
    """How the bundle says where: see `card.limits`."""
    if network.box is not None:
        return "box"
    if network.has_heatmap:
        return "trained"
    return "class activation" if any(output.name == "heatmap" for output in model.graph.output) else "none"


def _write(path: Path, data: bytes) -> FileEntry:
    path.write_bytes(data)
    return FileEntry(path.name, hashlib.sha256(data).hexdigest())


def _made_from(settings: ExportSettings, network: Network) -> dict[str, str]:
    """The networks' hashes, how they were read, and how the one that decides was trained, as far as that is known."""
    files = [path for path in (settings.network, settings.classifier) if path is not None]
    said = {name: value for name, value in asdict(settings.reading).items() if value is not None}
    return {
        "asked": settings.asked,
        **{f"{path.name} sha256": _hash(path) for path in files},
        "read as": json.dumps({"head": asdict(network.head), "input": asdict(network.eye.arithmetic), "told": said}),
        "training": json.dumps(network.history) if network.history else NOT_KNOWN,
    }


def _hash(path: Path) -> str:
    """Of a file; of a SavedModel's folder that of the list of its files."""
    return files_hash(files_in(path)) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def _fitted_on(sets: FilmSets, fold: int | None) -> str:
    if not sets.validation:
        return "not fitted: no labelled films were given"
    return f"fitted on {'all labelled films' if fold is None else f'fold {fold}'}"


def _installed() -> dict[str, str]:
    """The versions of what the files depend on."""
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
    return installed
