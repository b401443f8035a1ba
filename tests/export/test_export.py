"""From a Keras file to a verified bundle, on drawn films: small, but every step is the real one."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

from bonefrac.decode import decode
from bonefrac.errors import BonefracError, BundleError, UsageError
from bonefrac.labelled import read_labelled
from bonefrac.model import Model
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Radiograph
from bonefrac.synthetic import draw_radiograph
from bonefrac_export import films, quantize
from bonefrac_export.bundle import ExportSettings, export_bundle
from bonefrac_export.cli import main
from bonefrac_export.convert import to_onnx
from bonefrac_export.evaluate import operating_points, wilson
from bonefrac_export.films import calibration_films, load_films
from bonefrac_export.golden import DRAWN
from bonefrac_export.measure import platt, set_limit
from bonefrac_export.network import open_network
from bonefrac_training.familiarity import with_familiarity
from bonefrac_training.flagship import flagship, for_export
from bonefrac_training.fused import for_training

SIZE = 128
SPEC = InputSpec(SIZE, SIZE)


@pytest.fixture(scope="module")
def network(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flagship that learned these films by heart, from nothing, in half a minute."""
    import keras

    keras.utils.set_random_seed(3)
    plain = flagship(SIZE)
    for layer in plain.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    golden = [draw_radiograph(seed, fractured=fractured).pixels for seed, fractured in DRAWN]
    decoded = [decode(film.path.read_bytes(), long_side=SIZE) for film in read_labelled(data)]
    decoded += [Radiograph(pixels, pixels.shape[1], pixels.shape[0]) for pixels in golden]
    truth = np.array([film.fractured for film in read_labelled(data)] + [fractured for _, fractured in DRAWN])
    pixels = np.stack([to_input(film, SPEC)[0] for film in decoded]).astype(np.float32)

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
    return ExportSettings(
        network, data, out, "drawn films", "none needed", "bonefrac's tests", labels=data, name="tiny", float16=True,
        other_cpus=False, report=out.with_name("report"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def exported(network: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export_bundle(settings(network, data, out))
    return out


def test_a_bundle_holds_what_its_manifest_says_and_passes_its_self_test(exported: Path) -> None:
    for precision in ("int8", "float32", "float16"):
        model = Model(exported, precision=precision)
        entry = model.manifest.precisions[precision]
        assert hashlib.sha256((exported / entry.file).read_bytes()).hexdigest() == entry.sha256 == model.sha256
        assert model.check_golden() <= 1e-5
    assert {path.name for path in exported.iterdir()} == {
        "manifest.json", "int8.onnx", "float32.onnx", "float16.onnx", "golden.npz", "CARD.md"
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
    assert "decisions changed 0 of 24" in manifest.figures["float16 against float32, on the CPU"]
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
    import keras

    model, keras_model = Model(exported, precision="float32"), keras.saving.load_model(network)
    pixels = np.stack([to_input(decode(film.path.read_bytes(), long_side=SIZE), SPEC)[0]
                       for film in read_labelled(data)[:16]])  # fmt: skip
    slope, offset = (
        float(part.strip(" *+"))
        for part in model.manifest.made_with["probability"].split("sigmoid(")[1].split(")")[0].split("* logit +")
    )
    expected = keras_model.predict_on_batch(pixels.astype(np.float32))
    probability, heatmap, familiarity = model.predict(pixels)
    assert np.abs(probability - 1 / (1 + np.exp(-(slope * expected["logit"] + offset)))).max() <= 1e-4
    assert np.abs(heatmap - 1 / (1 + np.exp(-expected["heatmap"]))).max() <= 1e-4
    assert not np.array_equal(heatmap[0], heatmap[1]), "the heat map does not depend on the film"
    assert np.abs(familiarity - expected["familiarity"]).max() <= 1e-4


def test_int8_is_clean_inside_and_takes_pixels_as_they_are(exported: Path) -> None:
    graph = onnx.load(exported / "int8.onnx")
    story = Model(exported).manifest.made_with["int8"]
    in_float = re.search(r"\((\d+) of \d+ layers", story)
    assert quantize.conversions_inside(graph, int(in_float[1]) if in_float else 0) == []
    assert not [node for node in graph.graph.node if node.op_type == "Cast"]
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_the_limit_lets_99_of_100_validation_films_pass(exported: Path, data: Path) -> None:
    model = Model(exported)
    films = [film for film in read_labelled(data) if film.fold == 3]
    pixels = np.stack([to_input(decode(film.path.read_bytes(), long_side=SIZE), SPEC)[0] for film in films])
    assert 0 < model.manifest.familiarity_limit <= np.quantile(model.predict(pixels).familiarity, 0.01)
    assert model.manifest.figures["validation films set aside as unlike"].endswith(
        "0 of 12; of those with a fracture 0 of 6"
    )
    assert "the same films inverted, set aside" in model.manifest.figures


def test_pictures_of_other_things_are_counted(exported: Path, data: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 300)).astype(np.uint8)
    cv2.imwrite(str(others / "noise.png"), noise)
    shutil.copy(next((data / "images").iterdir()), others / "film.png")
    seen = load_films([film for film in read_labelled(data) if film.fold == 3], SPEC)
    (others / "frames").mkdir()
    cv2.imwrite(str(others / "frames" / "blank.png"), np.full((300, 300), 7, np.uint8))
    cv2.imwrite(str(others / "frames" / "blue.png"), np.full((300, 300, 3), (255, 60, 0), np.uint8))
    counted = set_limit(exported, Model(exported).manifest, seen, others)
    assert counted.figures["frames, set aside"].endswith("2 of 2")
    assert counted.figures["pictures of other things, set aside"].endswith("1 of 2")
    (others / "letter.txt").write_text("Dear colleague")
    with pytest.raises(UsageError, match="no picture"):
        set_limit(exported, counted, seen, others)


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

    model = keras.saving.load_model(network)
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


def test_calibration_films_are_of_training_folds_and_both_classes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "CALIBRATION_FILMS", 12)
    training = [film for film in read_labelled(data) if film.fold != 3]
    chosen = calibration_films(training)
    assert len(chosen) == len({film.path for film in chosen}) == 12
    assert sum(film.fractured for film in chosen) == 4
    assert {film.fold for film in chosen} <= {0, 1, 2}
    assert len({film.regions for film in chosen}) == len({film.regions for film in training})
    assert chosen == calibration_films(training)


def test_the_float_graph_has_one_operator_for_upsampling(network: Path) -> None:
    kinds = [node.op_type for node in to_onnx(open_network(network), 1.0, 0.0).graph.node]
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


# ---- the command: what it was asked, what it says again, what it is summed up in


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_verify_asks_the_finished_bundle_again_without_tensorflow(exported: Path, data: Path, tmp_path: Path) -> None:
    report, checks = tmp_path / "report", tmp_path / "checks.json"
    done = run(
        "verify", exported, "--labels", data, "--fold", 3, "--no-other-cpus", "--report", report, "--json", checks
    )
    told = json.loads(checks.read_text())
    assert done.exit_code == (0 if all(check["holds"] for check in told) else 1), done.output
    assert [line.split()[0] for line in done.output.splitlines()[-len(told) :]] == [
        "holds" if check["holds"] else "FAILS" for check in told
    ]
    asked = " ".join(check["what"] for check in told)
    for what in ("golden samples, int8", "golden samples, float16", "AUROC", "decisions changed",
                 "correlation", "peaks", "films a second"):  # fmt: skip
        assert what in asked
    assert (report / "accuracy.html").exists()
    program = "import sys; from bonefrac_export import verify; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_verify_tells_a_file_that_is_not_the_one_exported(exported: Path, data: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(exported, changed)
    with open(changed / "float32.onnx", "ab") as file:
        file.write(b"\0")
    done = run("verify", changed, "--labels", data, "--fold", 3, "--no-other-cpus")
    assert done.exit_code == 2
    assert "is not the file that was verified" in done.output


def test_verify_fails_where_int8_decides_otherwise(exported: Path, data: Path, tmp_path: Path) -> None:
    """A float32 file of the opposite opinion, under its own right hash."""
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    model = onnx.load(other / "float32.onnx")
    last = next(node for node in model.graph.node if "probability" in node.output)
    last.output[0] = "meant"
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "one"))
    model.graph.node.append(helper.make_node("Sub", ["one", "meant"], ["probability"]))
    onnx.save(model, other / "float32.onnx")
    raw = json.loads((other / "manifest.json").read_text())
    raw["precisions"]["float32"]["sha256"] = hashlib.sha256((other / "float32.onnx").read_bytes()).hexdigest()
    with np.load(other / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["float32"] = 1 - arrays["float32"]
    np.savez(other / "golden.npz", **arrays)
    raw["golden"]["sha256"] = hashlib.sha256((other / "golden.npz").read_bytes()).hexdigest()
    (other / "manifest.json").write_text(json.dumps(raw))
    done = run("verify", other, "--labels", data, "--fold", 3, "--no-other-cpus")
    assert done.exit_code == 1, done.output
    assert "FAILS  decisions changed: 2" in done.output


def test_the_report_shows_films_and_the_record_does_not(exported: Path) -> None:
    report = exported.with_name("report")
    record = json.loads((report / "export.json").read_text())
    assert set(record["bytes"]) == {"int8", "float32", "float16"}
    assert record["bytes"]["int8"] == (exported / "int8.onnx").stat().st_size
    assert record["films"] == 12
    assert ".png" not in json.dumps(record)
    page = (report / "accuracy.html").read_text()
    assert "Decisions that differ between" in page
    assert "keep it as you keep them" in page
    shown = run("table", report / "export.json").output
    assert f"{record['auroc']['float32']:.3f} → {record['auroc']['int8']:.3f}" in shown
    assert f"{record['bytes']['float32'] / 1e6:.1f} → {record['bytes']['int8'] / 1e6:.1f}" in shown


def test_exports_of_different_films_stand_in_no_table(exported: Path, tmp_path: Path) -> None:
    here = exported.with_name("report") / "export.json"
    (tmp_path / "other.json").write_text(json.dumps({**json.loads(here.read_text()), "data": "others"}))
    assert "several sets of films" in run("table", here, tmp_path / "other.json").output
    (tmp_path / "no.json").write_text("{}")
    done = run("table", tmp_path / "no.json")
    assert (done.exit_code, "no record of an export" in done.output) == (2, True)


def test_the_manifest_says_with_which_arguments(network: Path, data: Path, tmp_path: Path) -> None:
    """And nothing of the folders of this machine."""
    out = tmp_path / "bundle"
    done = run(network, "--out", out, "--data", data, "--precision", "float32", "--name", "a b")
    assert done.exit_code == 0, done.output
    manifest = Model(out).manifest
    assert manifest.made_with["asked"] == (
        f"bonefrac-export network.keras --out bundle --data {data.name} --precision float32 --name 'a b'"
    )
    assert (manifest.default_precision, list(manifest.precisions)) == ("float32", ["float32"])
    assert manifest.name == "a b"
    assert manifest.made_with["int8"].startswith("not asked for")
    assert str(tmp_path) not in (out / "manifest.json").read_text() + (out / "CARD.md").read_text()
    assert (tmp_path / "bundle-report" / "accuracy.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "films are needed: give --calibration"),
        (["--calibration", "{data}"], "no operating points can be chosen: give --labels"),
        (["--calibration", "{data}", "--sensitive-point", "0.1"], "go together"),
        (["--calibration", "{data}", "--sensitive-point", "0.9", "--specific-point", "0.1"], "the sensitive one first"),
        (["--calibration", "{empty}", "--labels", "{data}"], "holds no files"),
        (["--calibration", "{data}", "--labels", "{data}", "--fold", "9"], "nothing can be measured"),
    ],
)  # fmt: skip
def test_what_is_missing_is_asked_for(
    network: Path, data: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"data": data, "empty": tmp_path / "empty"}
    done = run(network, "--out", tmp_path / "out", *(argument.format(**places) for argument in arguments))
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert not (tmp_path / "out").exists()


def test_without_labels_the_card_says_that_nothing_was_measured(network: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    points = ["--sensitive-point", "0.2", "--specific-point", "0.6"]
    done = run(network, "--out", out, "--calibration", data / "images", *points, "--no-other-cpus")
    assert done.exit_code == 0, done.output
    manifest = Model(out).manifest
    assert (manifest.operating_points.sensitive, manifest.operating_points.specific) == (0.2, 0.6)
    assert "Nothing was measured" in (out / "CARD.md").read_text()
    assert "AUROC" not in manifest.figures
    assert "in the median" in manifest.figures["int8 against float32"]


@pytest.mark.parametrize("place", ["other", "file", "."])
def test_what_is_no_bundle_is_never_replaced(network: Path, data: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a letter")
    out = "." if place == "." else tmp_path / place
    done = run(network, "--out", out, "--data", data)
    assert done.exit_code == 2, done.output
    assert ("no bundle" in done.output) or ("name the bundle's folder" in done.output)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} == {"other", "file"}


def test_a_network_that_tells_nothing_apart_is_not_accused_of_its_polarity(data: Path) -> None:
    truth = np.arange(40) % 2 == 0
    with pytest.raises(BonefracError, match=r"does not tell films .* \(AUROC 0\.500\)"):
        platt(np.zeros(40, np.float32), truth)
    with pytest.raises(BonefracError, match="polarity is wrong"):
        platt(np.where(truth, -1, 1).astype(np.float32) + np.linspace(0, 0.1, 40, dtype=np.float32), truth)


def test_verify_fails_on_films_that_are_the_other_way_round(exported: Path, data: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(data, turned)
    (turned / "boxes.csv").unlink()  # places are not needed
    text = (turned / "labels.csv").read_text().splitlines()
    rows = [row.split(",") for row in text]
    lines = [",".join([row[0], str(1 - int(row[1])), *row[2:]]) for row in rows[1:]]
    (turned / "labels.csv").write_text("\n".join([text[0], *lines]) + "\n")
    done = run("verify", exported, "--labels", turned, "--fold", 3, "--no-other-cpus")
    assert done.exit_code == 1, done.output
    assert "FAILS  AUROC" in done.output


def test_labels_that_are_neither_yes_nor_no_are_refused(exported: Path, data: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(data, odd)
    (odd / "labels.csv").write_text((odd / "labels.csv").read_text().replace("00.png,1,", "00.png,yes,"))
    done = run("verify", exported, "--labels", odd, "--fold", 3, "--no-other-cpus")
    assert (done.exit_code, "yes" in done.output) == (2, True), done.output
