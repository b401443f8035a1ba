"""Every network that bonefrac-train can make becomes a graph with its own numbers; a box is drawn as a map."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

import keras
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from sklearn.metrics import roc_auc_score

from bonefrac.errors import UsageError
from bonefrac.labelled import read_labelled
from bonefrac.model import Model
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Radiograph
from bonefrac.run import BatchSettings, run_batch
from bonefrac.synthetic import draw_radiograph
from bonefrac_export.boxes import CELL, box_heat
from bonefrac_export.bundle import ExportSettings, export_bundle
from bonefrac_export.cam import with_class_activation
from bonefrac_export.convert import to_onnx
from bonefrac_export.films import load_films
from bonefrac_export.gates import AUROC_DROP, FLIPS
from bonefrac_export.golden import DRAWN
from bonefrac_export.heads import Asked
from bonefrac_export.inputs import Told
from bonefrac_export.network import Network, Reading, open_network
from bonefrac_export.quantizable import quantizable
from bonefrac_export.quantize import activation_ranges, folded, quantize_within
from bonefrac_export.quantize import layers as layers_of
from bonefrac_export.record import read_record
from bonefrac_training.networks import NETWORKS, find

SIDE = 64
SPEC = InputSpec(SIDE, SIDE, "bilinear", "stretch")
STEPS = 30  # of a training by heart, until it tells the films apart
MAPS = {"ann": None, "box": (16, 16), "flagship": (8, 8), "cnn": (4, 4)}  # of 64 px; others 2 x 2
Array = np.ndarray[Any, Any]
Save = Callable[..., Path]


def narrow(layer: Any) -> Any:
    """The layer with an eighth of its channels, so that the test is quick; a network's structure stays. Batch
    statistics follow a training of seconds."""
    config = layer.get_config()
    for key in ("filters", "units"):
        if config.get(key, 0) > 4:
            config[key] //= 8
    if "momentum" in config:
        config["momentum"] = 0.5
    return type(layer).from_config(config)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shake: Callable[..., Any]) -> Save:
    """trained(name): the network's file with shaken weights, and what bonefrac-train writes beside it."""

    def save(name: str) -> Path:
        network = find(name)
        model = shake(keras.models.clone_model(network.of_kind.exported(network.build(SIDE)), clone_function=narrow))
        for layer in model.layers:
            if layer.name == "head_dense":  # every feature speaks for a fracture, so that the map is not empty
                layer.kernel.assign(np.abs(layer.kernel))
        return saved(model, name, tmp_path_factory.mktemp(name))

    return save


def saved(model: keras.Model, name: str, folder: Path) -> Path:
    """`network.keras`, with what bonefrac-train writes beside it."""
    model.save(folder / "network.keras")
    (folder / "input.json").write_text(json.dumps(asdict(SPEC)))
    (folder / "training.json").write_text(json.dumps({"fold": 2, "network": name}))
    return folder / "network.keras"


@pytest.fixture(scope="module")
def taught(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Save:
    """taught(name): the network's file after it learned the drawn films and the self-test's by heart; one that gives
    boxes learns nothing."""
    films = read_labelled(data)
    golden = [draw_radiograph(seed, fractured=fractured).pixels for seed, fractured in DRAWN]
    shown = [to_input(Radiograph(film, film.shape[1], film.shape[0]), SPEC)[0] for film in golden]
    pixels = np.concatenate([load_films(films, SPEC).pixels, np.stack(shown)]).astype(np.float32)
    truth = np.array([film.fractured for film in films] + [fractured for _, fractured in DRAWN], np.float32)

    def save(name: str) -> Path:
        keras.utils.set_random_seed(1)
        network = find(name)
        model = keras.models.clone_model(network.of_kind.exported(network.build(SIDE)), clone_function=narrow)
        if name != "box":
            logit = keras.Model(model.input, model.output["logit"])
            logit.compile(
                keras.optimizers.Adam(3 * network.learning_rate), keras.losses.BinaryCrossentropy(from_logits=True)
            )
            for step in range(1, 8 * STEPS + 1):
                logit.train_on_batch(pixels, truth[:, None])
                if step % STEPS == 0 and roc_auc_score(truth, logit.predict_on_batch(pixels).ravel()) > 0.8:
                    break
        return saved(model, name, tmp_path_factory.mktemp(f"taught-{name}"))

    return save


@pytest.fixture(scope="module")
def cnn(trained: Save) -> Path:
    return trained("cnn")


def graph_of(network: Network, pixels: Array, slope: float) -> onnx.ModelProto:
    return with_class_activation(to_onnx(network, slope, 0.0), network.head, pixels)


def shipped(network: Network, pixels: Array, slope: float) -> dict[str, Array]:
    return said_by(graph_of(network, pixels, slope), pixels)


def said_by(model: onnx.ModelProto, pixels: Array) -> dict[str, Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_learned_becomes_a_gated_bundle_that_examines_films(
    name: str, taught: Save, data: Path, pixels: Array, tmp_path: Path
) -> None:
    """The whole way: int8 either keeps what every gate asks or is left out with its reason, and the engine runs it.
    That float32 says what Keras says is checked on the way."""
    path, classifier, out = taught(name), taught("cnn") if name == "box" else None, tmp_path / "bundle"
    export_bundle(ExportSettings(
        path, data, out, labels=data, other_cpus=False, name=name, classifier=classifier, report=tmp_path / "report",
    ))  # fmt: skip
    manifest = Model(out).manifest
    assert json.loads(manifest.made_with["training"])["network"] == ("cnn" if name == "box" else name)

    record = read_record(tmp_path / "report" / "export.json")
    assert record.unseen
    if "int8" in manifest.precisions:
        assert record.auroc["int8"] >= record.auroc["float32"] - AUROC_DROP
        assert sum(record.flips.values()) <= FLIPS * 2 * record.films
        assert record.bytes["int8"] < record.bytes["float32"]
        onnx.checker.check_model(onnx.load(out / "int8.onnx"), full_check=True)
    else:
        assert manifest.figures["int8"].startswith("left out")
        assert manifest.default_precision == "float32"

    heatmap = Model(out, precision="float32").predict(pixels).heatmap
    sides = MAPS.get(name, (2, 2))
    assert heatmap.shape == (len(pixels), *(sides or (0, 0)))
    if name in ("box", "flagship"):
        expected = open_network(path, classifier=classifier).predict(pixels)["heatmap"]
        assert np.abs(heatmap - expected).max() <= 1e-4

    summary = run_batch(BatchSettings((data / "images",), tmp_path / "results", str(out), annotate="all", quiet=True))
    assert summary.counts["analysed"] + summary.counts["not_analysed"] == summary.counts["files"] == 48
    with open(tmp_path / "results" / "results.csv", newline="") as table:
        regions = [json.loads(row["regions"] or "[]") for row in csv.DictReader(table)]
    if not sides:
        assert not any(regions), "it cannot say where"


def test_the_classifier_decides_and_the_box_is_where_it_says(trained: Save, cnn: Path, pixels: Array) -> None:
    path = trained("box")
    corners = np.asarray(keras.saving.load_model(path)(pixels.astype(np.float32))["box"])
    assert (corners[:, :2] < corners[:, 2:]).all()
    found = shipped(open_network(path, classifier=cnn), pixels, 1.0)
    alone = shipped(open_network(cnn), pixels, 1.0)
    assert np.array_equal(found["probability"], alone["probability"])
    for heat, (x0, y0, x1, y1) in zip(found["heatmap"], corners * (SIDE / CELL), strict=True):
        assert heat.sum() == pytest.approx(max(x1 - x0, 2) * max(y1 - y0, 2), abs=1e-2)
        rows, columns = np.nonzero(heat)
        assert abs((rows.min() + rows.max() + 1) / 2 - (y0 + y1) / 2) <= 1.5
        assert abs((columns.min() + columns.max() + 1) / 2 - (x0 + x1) / 2) <= 1.5


def test_a_cell_holds_the_part_of_it_that_the_box_covers() -> None:
    heat = np.asarray(box_heat(tf.constant([[0.25, 0.5, 0.625, 0.8125]]), InputSpec(32, 64)))[0]
    assert heat.shape == (16, 8)
    assert heat[9:12, 2:6].tolist() == [[1, 1, 1, 0]] * 3
    assert heat[[7, 13]].sum() == 0
    half = np.asarray(box_heat(tf.constant([[0.0, 0.0, 1.0, 0.59375]]), InputSpec(32, 64)))[0]
    assert half[:, 0].tolist() == [1] * 9 + [0.5] + [0] * 6


@given(st.lists(st.floats(-1, 2, width=32), min_size=4, max_size=4))
def test_corners_come_in_any_order_and_a_box_is_never_lost(corners: list[float]) -> None:
    spec = InputSpec(48, 64)
    x0, y0, x1, y1 = corners
    one, turned = (np.asarray(box_heat(tf.constant([box]), spec)) for box in ([x0, y0, x1, y1], [x1, y1, x0, y0]))
    assert np.allclose(one, turned, atol=1e-5)
    assert one.max() == pytest.approx(1, abs=1e-4)
    assert one.min() >= 0
    assert one.sum() >= 4 - 1e-3


def foreign(path: Path, width: int, *, end: Any = None, scaled: bool = False, side: int = SIDE) -> Path:
    """A network of somebody else's, with no file beside it."""
    picture = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 255)(picture) if scaled else picture
    x = layers.Dense(width)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, strides=4, activation="relu")(x)))
    path.mkdir()
    keras.Model(picture, x if end is None else end(x)).save(path / "network.keras")
    return path / "network.keras"


def told(scaling: Any = "0..1", *, output: Any = None, resize: Any = "bilinear") -> Reading:
    return Reading(Asked(("fractured", "normal"), "fractured", output), Told(scaling, None, resize, "stretch"))


@pytest.mark.parametrize("pool", ["GlobalAveragePooling2D", "GlobalMaxPooling2D", "Flatten"])
def test_every_common_head_stays_in_float_behind_int8(tmp_path: Path, pixels: Array, shake: Any, pool: str) -> None:
    picture = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(picture)
    x = getattr(layers, pool)()(layers.Conv2D(8, 3, strides=4, activation="relu")(x))
    x = layers.Dense(1, activation="sigmoid")(layers.Dense(6, activation="relu")(x))
    shake(keras.Model(picture, x)).save(tmp_path / "network.keras")
    network = open_network(tmp_path / "network.keras", told("0..1"))
    slope = 1 / float(np.abs(network.predict(pixels)["logit"]).max())
    graph = quantizable(folded(graph_of(network, pixels, slope)))
    int8 = quantize_within(graph, activation_ranges(graph, pixels))
    found, exact = (said_by(model, pixels)["probability"] for model in (int8, graph))
    assert 0 < np.abs(found - exact).max() <= 0.05
    assert len(layers_of(graph)) == 2


@pytest.mark.parametrize("output", [None, "box"])
def test_a_foreign_box_with_a_foreign_classifier(tmp_path: Path, pixels: Array, output: Any) -> None:
    box, softmax = foreign(tmp_path / "box", 4), foreign(tmp_path / "two", 2, end=layers.Softmax())
    network = open_network(box, told("-1..1", output=output), classifier=softmax)
    assert network.head.positive == 0
    assert network.box is not None
    assert network.box.arithmetic == network.eye.arithmetic
    assert network.box.arithmetic.scale == pytest.approx((1 / 127.5,) * 3)
    assert set(shipped(network, pixels, 1.0)) == {"probability", "heatmap"}


def test_what_is_said_of_pixels_is_said_of_that_one_which_does_not_scale_them(tmp_path: Path, trained: Save) -> None:
    softmax = foreign(tmp_path / "two", 2, end=layers.Softmax())
    network = open_network(trained("box"), told("0..1"), classifier=softmax)
    assert network.box is not None
    assert network.box.arithmetic.scale == (1.0,)
    assert network.eye.arithmetic.scale == pytest.approx((1 / 255,) * 3)
    other = open_network(foreign(tmp_path / "box", 4), Reading(told=told("-1..1").told), classifier=trained("cnn"))
    assert other.box is not None
    assert other.box.arithmetic.scale == pytest.approx((1 / 127.5,) * 3)
    assert other.eye.arithmetic.scale == (1.0,)
    both = foreign(tmp_path / "both", 2, end=layers.Softmax(), scaled=True)
    with pytest.raises(UsageError, match="scaled twice"):
        open_network(trained("box"), told("0..1"), classifier=both)


def test_a_box_alone_and_a_classifier_too_many_are_refused(tmp_path: Path, trained: Save, cnn: Path) -> None:
    box = trained("box")
    with pytest.raises(UsageError, match="name with --classifier a network that decides"):
        open_network(box)
    with pytest.raises(UsageError, match="does not decide"):
        open_network(box, classifier=box)
    with pytest.raises(UsageError, match=r"says itself what it gives \(logit"):
        open_network(cnn, classifier=cnn)
    with pytest.raises(UsageError, match="output of 2 is no box"):
        open_network(foreign(tmp_path / "two", 2, end=layers.Softmax()), told(), classifier=cnn)


def test_a_pair_must_see_the_same_picture(tmp_path: Path, trained: Save) -> None:
    larger = foreign(tmp_path / "larger", 2, end=layers.Softmax(), side=96)
    with pytest.raises(UsageError, match="both must see the same picture"):
        open_network(trained("box"), told(), classifier=larger)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fold": "two"}'])
def test_a_damaged_history_is_refused(text: str, trained: Save) -> None:
    path = trained("cnn")
    (path.parent / "training.json").write_text(text)
    with pytest.raises(UsageError, match=r"training.json: is damaged: it does not say which fold"):
        open_network(path)
