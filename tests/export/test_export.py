"""From a Keras file to a verified bundle, on drawn films: small, but every step is the real one."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

from bonefrac.decode import decode
from bonefrac.errors import BonefracError, BundleError, UsageError
from bonefrac.labelled import read_labelled
from bonefrac.model import Model
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Radiograph
from bonefrac.synthetic import draw_radiograph
from bonefrac_export import bundle, quantize
from bonefrac_export.bundle import ExportSettings, export_bundle
from bonefrac_export.convert import keras_logits, load_keras, to_onnx
from bonefrac_export.evaluate import operating_points, wilson
from bonefrac_training.familiarity import with_familiarity
from bonefrac_training.flagship import flagship, for_export
from bonefrac_training.fused import for_training

SIZE = 128
SPEC = InputSpec(SIZE, SIZE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 drawn films in four folds, half of them fractured, as `bonefrac-train` and `bonefrac-export` read them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    with (
        open(folder / "labels.csv", "w", newline="") as labels_file,
        open(folder / "boxes.csv", "w", newline="") as boxes_file,
    ):
        labels, boxes = csv.writer(labels_file), csv.writer(boxes_file)
        labels.writerow(["image_id", "fractured", "fold", "group", "use", "hand", "leg", "hip", "shoulder"])
        boxes.writerow(["image_id", "x_min", "y_min", "x_max", "y_max"])
        for index in range(48):
            drawn = draw_radiograph(100 + index, fractured=index % 2 == 0)
            name = f"{index:02}.png"
            cv2.imwrite(str(folder / "images" / name), (drawn.pixels >> 4).astype(np.uint8))
            labels.writerow(
                [name, int(index % 2 == 0), index % 8 // 2, f"group-{index // 8}", 1, index % 3 == 0, 1, 0, 0]
            )
            if drawn.box is not None:
                boxes.writerow([name, *drawn.box])
    return folder


@pytest.fixture(scope="module")
def network(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flagship that learned these films by heart, from nothing, in half a minute."""
    import keras

    keras.utils.set_random_seed(3)
    plain = flagship(SIZE)
    for layer in plain.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    golden = [draw_radiograph(seed, fractured=fractured).pixels for seed, fractured in bundle._GOLDEN]
    films = [decode(film.path.read_bytes(), long_side=SIZE) for film in read_labelled(data)]
    films += [Radiograph(pixels, pixels.shape[1], pixels.shape[0]) for pixels in golden]
    truth = np.array([film.fractured for film in read_labelled(data)] + [fractured for _, fractured in bundle._GOLDEN])
    pixels = np.stack([to_input(film, SPEC)[0] for film in films]).astype(np.float32)

    training = for_export(for_training(plain))
    training.compile(keras.optimizers.Adam(2e-3), {"logit": keras.losses.BinaryCrossentropy(from_logits=True)})
    for _ in range(35):
        training.train_on_batch(pixels, {"logit": truth.astype(np.float32)})
    model = for_export(plain)
    model.set_weights(training.get_weights())
    model = with_familiarity(model, "top_relu", [pixels])
    folder = tmp_path_factory.mktemp("network")
    model.save(folder / "network.keras")
    (folder / "input.json").write_text(json.dumps(SPEC.__dict__))
    (folder / "training.json").write_text(json.dumps({"fold": 3}))
    return folder / "network.keras"


def settings(network: Path, data: Path, out: Path) -> ExportSettings:
    return ExportSettings(network, data, out, "drawn films", "none needed", "bonefrac's tests", name="tiny")


@pytest.fixture(scope="module")
def exported(network: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export_bundle(settings(network, data, out))
    return out


def test_a_bundle_holds_what_its_manifest_says_and_passes_its_self_test(exported: Path) -> None:
    for precision in ("int8", "float32"):
        model = Model(exported, precision=precision)
        entry = model.manifest.precisions[precision]
        assert hashlib.sha256((exported / entry.file).read_bytes()).hexdigest() == entry.sha256 == model.sha256
        assert model.check_golden() <= 1e-5
    assert {path.name for path in exported.iterdir()} == {
        "manifest.json", "int8.onnx", "float32.onnx", "golden.npz", "CARD.md"
    }  # fmt: skip
    assert not exported.with_name("tiny.part").exists()


def test_the_card_states_the_figures_of_the_very_file(exported: Path) -> None:
    card, manifest = (exported / "CARD.md").read_text(), Model(exported).manifest
    assert manifest.precisions["int8"].sha256 in card
    for name, value in manifest.figures.items():
        if not name.startswith("among "):
            assert f"| {name} | {value} |" in card
    assert manifest.figures["among films of the leg"] == "12, 6 with a fracture; AUROC –; sensitivity –; specificity –"
    assert "| of the leg | 12, 6 with a fracture | – | – | – |" in card
    assert "drawn films" in card
    assert "Not a medical device" in card


def test_points_were_chosen_so_that_both_promises_hold(exported: Path, data: Path) -> None:
    model = Model(exported)
    films = [film for film in read_labelled(data) if film.fold == 3]
    pixels = np.stack([to_input(decode(film.path.read_bytes(), long_side=SIZE), SPEC)[0] for film in films])
    probability = np.array([round(float(p), 4) for p in model.predict(pixels)[0]])
    truth = np.array([film.fractured for film in films])
    points = model.manifest.operating_points
    assert (probability[truth] >= points.sensitive).mean() >= 0.95
    assert (probability[~truth] < points.specific).mean() >= 0.95


def test_keras_and_the_float32_file_agree(exported: Path, network: Path, data: Path) -> None:
    model, keras_model = Model(exported, precision="float32"), load_keras(network)
    films = read_labelled(data)[:16]
    pixels = np.stack([to_input(decode(film.path.read_bytes(), long_side=SIZE), SPEC)[0] for film in films])
    logits, maps = keras_logits(keras_model, pixels)
    slope, offset = (
        float(part.strip(" *+"))
        for part in model.manifest.made_with["probability"].split("sigmoid(")[1].split(")")[0].split("* logit +")
    )
    probability, heatmap, familiarity = model.predict(pixels)
    assert np.abs(probability - 1 / (1 + np.exp(-(slope * logits + offset)))).max() <= 1e-4
    assert np.abs(heatmap - 1 / (1 + np.exp(-maps))).max() <= 1e-4
    assert not np.array_equal(heatmap[0], heatmap[1]), "the heat map does not depend on the film"
    expected = keras_model.predict_on_batch(pixels.astype(np.float32))["familiarity"]
    assert np.abs(familiarity - expected).max() <= 1e-4


def test_int8_is_clean_inside_and_takes_pixels_as_they_are(exported: Path) -> None:
    graph = onnx.load(exported / "int8.onnx")
    assert quantize.conversions_inside(graph) == []
    assert not [node for node in graph.graph.node if node.op_type == "Cast"]
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_the_limit_lets_99_of_100_validation_films_pass(exported: Path, data: Path) -> None:
    model = Model(exported)
    films = [film for film in read_labelled(data) if film.fold == 3]
    pixels = np.stack([to_input(decode(film.path.read_bytes(), long_side=SIZE), SPEC)[0] for film in films])
    assert 0 < model.manifest.familiarity_limit <= np.quantile(model.predict(pixels).familiarity, 0.01)
    assert model.manifest.figures["validation films set aside as unlike"].endswith("0 of 12")
    assert "the same films inverted, set aside" in model.manifest.figures


def test_pictures_of_other_things_are_counted(exported: Path, data: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300)).astype(np.uint8)
    cv2.imwrite(str(others / "noise.png"), noise)
    shutil.copy(next((data / "images").iterdir()), others / "film.png")
    films = bundle._load([film for film in read_labelled(data) if film.fold == 3], SPEC)
    counted = bundle._set_limit(exported, Model(exported).manifest, films, others)
    assert counted.figures["pictures of other things, set aside"].endswith("1 of 2")
    (others / "letter.txt").write_text("Dear colleague")
    with pytest.raises(UsageError, match="no picture"):
        bundle._set_limit(exported, counted, films, others)


def test_a_network_that_does_not_tell_has_no_limit(exported: Path, tmp_path: Path) -> None:
    """The same bundle without the output: every film is familiar, and a limit in its manifest is refused."""
    silent = tmp_path / "silent"
    shutil.copytree(exported, silent)
    raw = json.loads((silent / "manifest.json").read_text())
    for entry in raw["precisions"].values():
        graph = onnx.load(silent / entry["file"])
        outputs = graph.graph.output
        outputs.remove(next(output for output in outputs if output.name == "familiarity"))
        (silent / entry["file"]).write_bytes(graph.SerializeToString())
        entry["sha256"] = hashlib.sha256((silent / entry["file"]).read_bytes()).hexdigest()
    (silent / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="does not fit its manifest"):
        Model(silent)
    (silent / "manifest.json").write_text(json.dumps({**raw, "familiarity_limit": 0.0}))
    model = Model(silent)
    assert model.is_familiar(float(model.predict(np.zeros((1, SIZE, SIZE, 1), np.uint8)).familiarity[0]))


def test_a_naive_quantization_is_found_out(exported: Path, tmp_path: Path) -> None:
    """Without Clip among the quantized operators, conversions stay inside."""
    films = np.zeros((4, SIZE, SIZE, 1), np.uint8)
    quantize_static(
        str(exported / "float32.onnx"), str(tmp_path / "naive.onnx"), quantize._Films(films),
        quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], weight_type=QuantType.QInt8,
    )  # fmt: skip
    assert quantize.conversions_inside(onnx.load(tmp_path / "naive.onnx"))


def test_wrong_polarity_exports_nothing_and_keeps_the_old_bundle(network: Path, data: Path, tmp_path: Path) -> None:
    import keras

    model = load_keras(network)
    layer = model.get_layer("heat_logit")
    layer.set_weights([-2 * weight for weight in layer.get_weights()])
    turned = tmp_path / "turned"
    shutil.copytree(network.parent, turned)
    keras.Model(model.input, model.output).save(turned / "network.keras")
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "old").write_text("an older bundle")
    with pytest.raises(BonefracError, match="polarity"):
        export_bundle(settings(turned / "network.keras", data, out))
    assert [path.name for path in out.iterdir()] == ["old"]


def test_what_is_no_network_of_ours_is_refused_in_one_sentence(network: Path, data: Path, tmp_path: Path) -> None:
    import keras

    text = tmp_path / "network.keras"
    text.write_text("no network")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_keras(text)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(UsageError, match="no outputs 'logit' and 'heatmap'"):
        load_keras(tmp_path / "other.keras")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(network, alone)
    with pytest.raises(UsageError, match=r"input\.json or training\.json"):
        export_bundle(settings(alone / "network.keras", data, tmp_path / "out"))


def test_calibration_films_are_of_training_folds_and_both_classes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_CALIBRATION_FILMS", 12)
    training = [film for film in read_labelled(data) if film.fold != 3]
    chosen = bundle._calibration_films(training)
    assert len(chosen) == len({film.path for film in chosen}) == 12
    assert sum(film.fractured for film in chosen) == 4
    assert {film.fold for film in chosen} <= {0, 1, 2}
    assert len({film.regions for film in chosen}) == len({film.regions for film in training})
    assert chosen == bundle._calibration_films(training)


def test_the_float_graph_has_one_operator_for_upsampling(network: Path) -> None:
    kinds = [node.op_type for node in to_onnx(load_keras(network), 1.0, 0.0).graph.node]
    assert kinds.count("Resize") == 2
    assert not {"Tile", "Loop", "Shape"} & set(kinds)


def test_wilson_against_a_known_interval() -> None:
    assert wilson(90, 100) == "0.900 (0.826 to 0.945), 90 of 100"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9990)), min_size=4, max_size=60))
def test_operating_points_keep_their_promise_for_any_scores(films: list[tuple[bool, int]]) -> None:
    truth = np.array([True, False] + [fractured for fractured, _ in films])
    probability = np.array([0.9, 0.1] + [round(score / 10000, 4) for _, score in films])
    sensitive, specific = operating_points(truth, probability)
    assert 0 < sensitive <= specific < 1
    assert (probability[truth] >= sensitive).mean() >= 0.95
    assert (probability[~truth] < specific).mean() >= 0.95
