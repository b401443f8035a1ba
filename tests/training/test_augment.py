"""Augmentation and batches: targets move with the pixels, values stay in range, the same step is the same batch."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

from bonefrac.errors import UsageError
from bonefrac.labelled import read_labelled
from bonefrac_training.augment import AUGMENTATIONS, moved, random_affine, random_collimation, random_tone
from bonefrac_training.batches import Batches
from bonefrac_training.films import Inputs, load_inputs
from bonefrac_training.flagship import STRIDE
from bonefrac_training.kinds import KINDS, box_target, heat_target

SIZE = 64


@pytest.fixture(scope="module")
def inputs(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return load_inputs(read_labelled(collection), SIZE, tmp_path_factory.mktemp("cache"))


@given(st.integers(0, 10_000), st.integers(8, 40), st.integers(8, 40))
def test_targets_move_with_the_pixels(seed: int, x: int, y: int) -> None:
    """A bright square and its box go through the same augmentation: the cells that say fracture lie in the square's
    middle, those that say nothing cover its rest, and the box lies where the square is."""
    size = 128
    pixels = np.zeros((size, size), np.uint8)
    pixels[y : y + 60, x : x + 60] = 255
    matrix = random_affine(np.random.default_rng(seed), size)
    corners = moved(((x, y, x + 60, y + 60),), matrix)
    cells = heat_target(corners, size)
    turned = cv2.warpAffine(pixels, matrix, (size, size))
    bright = cv2.resize(turned, cells.shape, interpolation=cv2.INTER_AREA)
    assert cells[bright > 224].all()
    assert (bright[cells == 1] > 128).all()
    assert (30 * 0.8 / STRIDE) ** 2 <= (cells == 1).sum() <= (30 * 1.2 / STRIDE + 2) ** 2 * 2
    assert (cells != 0).sum() <= ((60 * 1.2 * 1.41) / STRIDE + 2) ** 2
    rows, columns = np.nonzero(turned > 128)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / size
    assert box_target(corners, size) == pytest.approx(seen, abs=2 / size)


def test_the_largest_box_is_the_target() -> None:
    corners = moved(((0, 0, 8, 8), (16, 16, 48, 32)), np.eye(2, 3))
    assert box_target(corners, 64) == pytest.approx([0.25, 0.25, 0.75, 0.5])


def test_no_box_no_positive_cell() -> None:
    assert heat_target(moved((), np.eye(2, 3)), 64).sum() == 0


def test_a_fracture_whose_place_is_unknown_says_nothing_of_any_cell() -> None:
    """A fracture with a box, one without, and a film without a fracture."""
    label = np.array([1, 1, 0], np.float32)
    corners = [moved(boxes, np.eye(2, 3)) for boxes in (((16, 16, 48, 48),), (), ())]
    heat = KINDS["heatmap"].targets(label, corners, 64)["heatmap"]
    assert set(np.unique(heat[0])) == {-1, 0, 1}
    assert (heat[1] == -1).all()
    assert (heat[2] == 0).all()


@given(st.integers(0, 1000))
def test_tones_stay_in_the_models_range(seed: int) -> None:
    toned = random_tone(np.random.default_rng(seed), np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert toned.dtype == np.float32
    assert toned.min() >= 0
    assert toned.max() <= 255


@given(st.integers(0, 10_000), st.integers(0, 50), st.integers(0, 50))
def test_collimation_keeps_range_and_boxes(seed: int, x: int, y: int) -> None:
    pixels = np.full((SIZE, SIZE), 150, np.float32)
    corners = moved(((x, y, x + 12, y + 9),), np.eye(2, 3))
    seen = random_collimation(np.random.default_rng(seed), pixels, corners)
    assert seen.dtype == np.float32
    assert seen.min() >= 0
    assert seen.max() <= 255
    assert (seen[y : y + 9, x : x + 12] == 150).all(), "a fracture was hidden"
    outside = set(np.unique(seen)) - {150}
    assert len(outside) <= 1
    assert all(level <= 50 or level >= 205 for level in outside), "outside the field a film is dark or white"


def test_collimation_happens_straight_and_slanting_black_dark_and_white() -> None:
    pixels = np.full((SIZE, SIZE), 150, np.float32)
    fields = [random_collimation(np.random.default_rng(seed), pixels, np.empty((0, 4, 2))) for seed in range(200)]
    drawn_in = [field for field in fields if (field != 150).any()]
    assert 30 < len(drawn_in) < 90
    slanting = [bool(((field != 150).any(axis=0) & (field == 150).any(axis=0)).sum() % SIZE) for field in drawn_in]
    assert any(slanting)
    assert not all(slanting)
    outside = [float(field[field != 150][0]) for field in drawn_in]
    assert {0 < level <= 50 for level in outside} == {True, False}
    assert 0.05 < np.mean([level >= 205 for level in outside]) < 0.3
    assert all((field == 150).mean() > 0.2 for field in drawn_in)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_what_is_left_out_leaves_the_rest_as_it_was(name: str, inputs: Inputs) -> None:
    """A run without one augmentation differs in that one: the same random numbers for all others."""
    kind = KINDS["classifier"]
    with_it = [Batches(inputs, kind, seed=1).batch(step).grey for step in range(2)]
    without = [Batches(inputs, kind, seed=1, without=[name]).batch(step).grey for step in range(2)]
    others = [a for a in AUGMENTATIONS if a != name]
    alone = [Batches(inputs, kind, seed=1, without=others).batch(step).grey for step in range(2)]
    none = [Batches(inputs, kind, seed=1, without=AUGMENTATIONS).batch(step).grey for step in range(2)]
    assert not np.array_equal(with_it, without), "leaving it out changes nothing"
    assert not np.array_equal(alone, none), "alone it does nothing"


def test_without_any_augmentation_films_are_as_they_are(inputs: Inputs) -> None:
    batch = Batches(inputs, KINDS["classifier"], seed=1, without=AUGMENTATIONS).batch(0)
    films = inputs.pixels.astype(np.float32)
    assert all(any(np.abs(film - grey).max() < 0.01 for film in films) for grey in batch.grey)


def test_batches_are_balanced_reproducible_and_new_each_epoch(inputs: Inputs) -> None:
    first, again = (Batches(inputs, KINDS["heatmap"], seed=1) for _ in range(2))
    assert len(first) == 2
    for step in range(2 * len(first)):
        batch, same = first.batch(step), again.batch(step)
        assert batch.grey.shape == (16, SIZE, SIZE, 1)
        assert batch.targets["whole"].sum() == batch.targets["local"].sum() == 6
        assert batch.targets["heatmap"].shape == (16, SIZE // STRIDE, SIZE // STRIDE)
        assert not batch.targets["heatmap"][batch.targets["whole"] == 0].any()
        assert np.array_equal(batch.grey, same.grey)
        assert batch.check == same.check
    assert len({first.batch(step).check for step in range(4)}) == 4
    other = Batches(inputs, KINDS["heatmap"], seed=2)
    assert other.batch(0).check != first.batch(0).check


def test_the_stream_gives_the_same_batches_from_any_step(inputs: Inputs) -> None:
    batches = Batches(inputs, KINDS["classifier"], seed=1, size=4)
    assert [batch.check for batch in batches.stream(3, 9)] == [batches.batch(step).check for step in range(3, 9)]


def test_boxes_are_learned_from_films_that_have_one(inputs: Inputs) -> None:
    batches = Batches(inputs, KINDS["box"], seed=1, size=4)
    assert len(batches) == 20 // 4
    target = batches.batch(0).targets["box"]
    assert target.shape == (4, 4)
    assert (target[:, 2:] > target[:, :2]).all()
    assert target.min() >= 0
    assert target.max() <= 1


def test_too_few_films_are_told(inputs: Inputs) -> None:
    with pytest.raises(UsageError, match="too few films"):
        Batches(inputs, KINDS["classifier"], seed=1, size=64)
    clean = Inputs(inputs.pixels, np.zeros(len(inputs.pixels), bool), inputs.boxes, inputs.groups)
    with pytest.raises(UsageError, match="0 with a fracture"):
        Batches(clean, KINDS["classifier"], seed=1)
