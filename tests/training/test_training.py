"""Training on drawn films: targets lie where the boxes are, batches are balanced, and a stopped run goes on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[train]"')

from bonefrac.errors import UsageError
from bonefrac.labelled import read_labelled
from bonefrac.synthetic import draw_radiograph
from bonefrac_training.efficientnet_lite import load_imagenet
from bonefrac_training.films import Batches, Inputs, heat_target, load_inputs, random_affine, random_tone
from bonefrac_training.fit import FitSettings, fit, provenance
from bonefrac_training.flagship import STRIDE, flagship, focal_loss, for_export

SIZE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 small drawn films in two folds (one of them not to be used)."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    with open(folder / "labels.csv", "w", newline="") as labels, open(folder / "boxes.csv", "w", newline="") as boxes:
        rows, places = csv.writer(labels), csv.writer(boxes)
        rows.writerow(["image_id", "fractured", "fold", "group", "use", "hand"])
        places.writerow(["image_id", "x_min", "y_min", "x_max", "y_max"])
        for index in range(41):
            fractured = index % 2 == 0
            drawn = draw_radiograph(index, fractured=fractured, height=250, width=190)
            cv2.imwrite(str(folder / "images" / f"{index}.png"), (drawn.pixels >> 4).astype(np.uint8))
            rows.writerow(
                [f"{index}.png", int(fractured), 3 if index >= 32 else 0, f"g{index // 4}", int(index < 40), 1]
            )
            if drawn.box:
                places.writerow([f"{index}.png", *drawn.box])
    return folder


@pytest.fixture(scope="module")
def inputs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return load_inputs(read_labelled(data), SIZE, tmp_path_factory.mktemp("cache"))


def test_only_films_for_use_are_read_with_their_boxes(data: Path) -> None:
    films = read_labelled(data)
    assert len(films) == 40
    assert all(bool(film.boxes) == film.fractured for film in films)


def test_labels_that_lack_a_column_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_labelled(tmp_path)
    (tmp_path / "boxes.csv").write_text("image_id,x_min,y_min,x_max,y_max\n")
    (tmp_path / "labels.csv").write_text("image_id,use\na.png,1\n")
    with pytest.raises(UsageError, match="lacks a column"):
        read_labelled(tmp_path)


def test_boxes_follow_the_film_into_the_input(inputs: Inputs) -> None:
    for boxes in inputs.boxes:
        for x0, y0, x1, y1 in boxes:
            assert x0 < x1
            assert y0 < y1
            assert 0 < (x0 + x1) / 2 < SIZE
            assert 0 < (y0 + y1) / 2 < SIZE


@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(8, 40))
def test_the_target_moves_with_the_pixels(seed: int, x: int, y: int) -> None:
    """A bright square and its box go through the same augmentation: the brightest cell is a positive one."""
    size = 128
    pixels = np.zeros((size, size), np.uint8)
    pixels[y : y + 60, x : x + 60] = 255
    matrix = random_affine(np.random.default_rng(seed), size)
    cells = heat_target(((x, y, x + 60, y + 60),), matrix, size)
    moved = cv2.warpAffine(pixels, matrix, (size, size))
    bright = cv2.resize(moved, cells.shape, interpolation=cv2.INTER_AREA)
    assert cells.flat[bright.argmax()] == 1
    assert cells[bright > 128].all()
    assert cells.sum() <= ((60 * 1.2 * 1.41) / STRIDE + 2) ** 2


def test_no_box_no_positive_cell() -> None:
    assert heat_target((), np.eye(2, 3), 64).sum() == 0


@given(st.integers(0, 1000))
def test_tones_stay_in_the_models_range(seed: int) -> None:
    toned = random_tone(np.random.default_rng(seed), np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert toned.dtype == np.float32
    assert toned.min() >= 0
    assert toned.max() <= 255


def test_batches_are_balanced_reproducible_and_new_each_epoch(inputs: Inputs) -> None:
    first, again, later = (Batches(inputs, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert len(first) == 2
    for index in range(len(first)):
        (grey, targets), (grey_again, _) = first[index], again[index]
        assert grey.shape == (16, SIZE, SIZE, 1)
        assert targets["whole"].sum() == targets["local"].sum() == 6
        assert targets["heatmap"].shape == (16, SIZE // STRIDE, SIZE // STRIDE)
        assert not targets["heatmap"][targets["whole"] == 0].any()
        assert np.array_equal(grey, grey_again)
    assert not np.array_equal(first[0][0], later[0][0])
    again.on_epoch_end()
    assert np.array_equal(again[0][0], later[0][0]), "a resumed run does not see what an undisturbed one sees"


def test_the_focal_loss_is_the_papers() -> None:
    """Lin et al., arXiv 1708.02002, equation 5, summed over cells, divided by the positive ones."""
    truth, logits = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([[2.0, -1.0], [0.5, -3.0]], np.float32)
    p = 1 / (1 + np.exp(-logits))
    terms = np.where(truth == 1, -0.75 * (1 - p) ** 2 * np.log(p), -0.25 * p**2 * np.log(1 - p))
    assert float(np.asarray(focal_loss(truth, logits))) == pytest.approx(terms.sum() / 2, rel=1e-5)


def test_the_exported_logit_is_the_mean_of_both_heads() -> None:
    network = flagship(SIZE)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 1)).astype(np.float32)
    outputs, exported = network.predict_on_batch(pixels), for_export(network).predict_on_batch(pixels)
    highest = np.sort(outputs["heatmap"].reshape(3, -1), axis=1)[:, -4:].mean(axis=1)
    assert np.allclose(outputs["local"], highest, atol=1e-5)
    assert np.allclose(exported["logit"], (outputs["local"] + outputs["whole"]) / 2, atol=1e-5)


def test_weights_that_do_not_fit_to_the_last_array_are_refused(tmp_path: Path) -> None:
    network = flagship(SIZE)
    arrays = {
        f"{layer.name}/{variable.path.rsplit('/', 1)[-1]}": np.asarray(variable)
        for layer in network.layers
        for variable in layer.weights
        if layer.name.startswith(("stem", "block", "top"))
    }
    rgb = np.repeat(arrays["stem_conv/kernel"] / 3, 3, axis=2)
    good: dict[str, Any] = {**arrays, "stem_conv/kernel": rgb}
    np.savez(tmp_path / "good.npz", **good)
    other = flagship(SIZE)
    load_imagenet(other, tmp_path / "good.npz")
    assert np.allclose(other.get_layer("stem_conv").get_weights()[0], arrays["stem_conv/kernel"], atol=1e-6)
    assert np.array_equal(other.get_layer("top_conv").get_weights()[0], arrays["top_conv/kernel"])

    odd: dict[str, Any] = {**arrays, "block9z_conv/kernel": rgb}
    np.savez(tmp_path / "odd.npz", **odd)
    with pytest.raises(ValueError, match="block9z_conv/kernel"):
        load_imagenet(flagship(SIZE), tmp_path / "odd.npz")


def test_a_stopped_run_goes_on_where_it_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in its second epoch, it ends with the steps, the schedule and the rows of an undisturbed one."""
    import keras

    from bonefrac_training import fit as module

    settings = FitSettings(data, tmp_path / "run", image_size=SIZE, epochs=2)
    write, calls = module._checkpoint, 0

    def stop_at_the_second(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(module, "_checkpoint", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        fit(settings)
    first = (tmp_path / "run" / "history.csv").read_text()
    monkeypatch.setattr(module, "_checkpoint", write)
    fit(settings)
    fit(settings)  # finished: nothing to do
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert (tmp_path / "run" / "history.csv").read_text().startswith(first)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras", custom_objects={"focal_loss": focal_loss})
    assert int(model.optimizer.iterations) == 2 * (32 // 16)
    assert float(np.asarray(model.optimizer.learning_rate)) == pytest.approx(0, abs=1e-6), "the cosine did not end at 0"
    assert {"network.keras", "input.json", "training.json"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_network_says_what_it_began_with(data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "first" / "model.keras"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    (weights.parent / "training.json").write_text('{"epochs": 5}')
    facts = provenance(FitSettings(data, tmp_path, weights=weights))
    assert facts["began_with"] == {"epochs": 5}
    assert str(facts["weights"]).startswith("sha256 ")
    assert provenance(FitSettings(data, tmp_path))["weights"] == "none, from scratch"
    assert str(tmp_path) not in str(facts)
