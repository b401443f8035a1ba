"""Films as training sees them, and the flagship: boxes follow the film, the loss is the paper's, files fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

from bonefrac.errors import UsageError
from bonefrac.labelled import LabelledFilm, read_labelled
from bonefrac.synthetic import draw_radiograph
from bonefrac_training.efficientnet_lite import load_imagenet
from bonefrac_training.films import load_inputs
from bonefrac_training.flagship import flagship, focal_loss, for_export

SIZE = 64


def test_only_films_for_use_are_read_with_their_boxes(collection: Path) -> None:
    films = read_labelled(collection)
    assert len(films) == 40
    assert all(bool(film.boxes) == film.fractured for film in films)


def test_labels_that_lack_a_column_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_labelled(tmp_path)
    (tmp_path / "boxes.csv").write_text("image_id,x_min,y_min,x_max,y_max\n")
    (tmp_path / "labels.csv").write_text("image_id,use\na.png,1\n")
    with pytest.raises(UsageError, match="lacks a column"):
        read_labelled(tmp_path)


def test_boxes_follow_the_film_into_the_input(collection: Path, tmp_path: Path) -> None:
    inputs = load_inputs(read_labelled(collection), SIZE, tmp_path)
    assert inputs.boxed.sum() == inputs.fractured.sum() == 20
    for boxes in inputs.boxes:
        for x0, y0, x1, y1 in boxes:
            assert x0 < x1
            assert y0 < y1
            assert 0 < (x0 + x1) / 2 < SIZE
            assert 0 < (y0 + y1) / 2 < SIZE


def test_films_are_decoded_once(collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = read_labelled(collection)
    first = load_inputs(films, SIZE, tmp_path)
    monkeypatch.setattr("bonefrac_training.films.decode", None)
    assert np.array_equal(load_inputs(films, SIZE, tmp_path).pixels, first.pixels)


def test_films_of_one_name_and_length_are_told_apart(collection: Path, tmp_path: Path) -> None:
    """Two folders of the same names and bytes a file; then the same films by other names, which need no decoding."""
    sets = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            film = draw_radiograph(number + 2 * (folder == "b"), fractured=False, height=130, width=110).pixels >> 4
            plain = [cv2.IMWRITE_PNG_COMPRESSION, 0]
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), film.astype(np.uint8), plain)
        sets.append([LabelledFilm(p, False, 0, "", (), ()) for p in sorted((tmp_path / folder).iterdir())])
    assert [[(f.path.name, f.path.stat().st_size) for f in films] for films in sets] == [
        [(f.path.name, f.path.stat().st_size) for f in sets[0]]
    ] * 2
    first, second = (load_inputs(films, SIZE, tmp_path / "cache").pixels for films in sets)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, load_inputs(sets[1], SIZE, tmp_path / "other").pixels)


def test_the_same_films_elsewhere_are_not_decoded_again(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = read_labelled(collection)[:3]
    first = load_inputs(films, SIZE, tmp_path / "cache")
    copies = [replace(film, path=Path(shutil.copy(film.path, tmp_path / f"copy{film.path.name}"))) for film in films]
    monkeypatch.setattr("bonefrac_training.films.decode", None)
    assert np.array_equal(load_inputs(copies, SIZE, tmp_path / "cache").pixels, first.pixels)


@pytest.mark.parametrize("spoil", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"no arrays"])
def test_a_damaged_cache_is_made_anew(spoil: Callable[[bytes], bytes], collection: Path, tmp_path: Path) -> None:
    films = read_labelled(collection)[:3]
    first = load_inputs(films, SIZE, tmp_path)
    (stored,) = tmp_path.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(spoil(whole))
    assert np.array_equal(load_inputs(films, SIZE, tmp_path).pixels, first.pixels)
    assert len(stored.read_bytes()) == len(whole)
    assert list(tmp_path.iterdir()) == [stored]


def test_the_focal_loss_is_the_papers() -> None:
    """Lin et al., arXiv 1708.02002, equation 5, summed over cells, divided by the positive ones."""
    truth, logits = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([[2.0, -1.0], [0.5, -3.0]], np.float32)
    p = 1 / (1 + np.exp(-logits))
    terms = np.where(truth == 1, -0.75 * (1 - p) ** 2 * np.log(p), -0.25 * p**2 * np.log(1 - p))
    assert float(np.asarray(focal_loss(truth, logits))) == pytest.approx(terms.sum() / 2, rel=1e-5)


def test_a_cell_without_a_say_has_no_loss() -> None:
    truth, logits = np.array([[1.0, 0.0]], np.float32), np.array([[2.0, -1.0]], np.float32)
    more = np.array([[1.0, 0.0, -1.0]], np.float32), np.array([[2.0, -1.0, 9.0]], np.float32)
    assert float(np.asarray(focal_loss(*more))) == pytest.approx(float(np.asarray(focal_loss(truth, logits))))


def test_the_exported_logit_is_that_of_the_highest_cells() -> None:
    network = flagship(SIZE)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE, 1)).astype(np.float32)
    outputs, exported = network(pixels, training=False), for_export(network)(pixels, training=False)
    outputs = {name: np.asarray(value) for name, value in outputs.items()}
    highest = np.sort(outputs["heatmap"].reshape(3, -1), axis=1)[:, -16:].mean(axis=1)
    assert set(exported) == {"logit", "heatmap"}
    assert np.allclose(exported["logit"], highest, atol=1e-5)


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
