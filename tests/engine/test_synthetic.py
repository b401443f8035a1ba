"""synthetic.py: drawn films that look enough like films."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonefrac.model import Model
from bonefrac.preprocess import to_input
from bonefrac.results import Radiograph
from bonefrac.synthetic import draw_radiograph

Make = Callable[..., Any]


def test_the_same_seed_draws_the_same_film() -> None:
    first, second = (draw_radiograph(3, fractured=True, height=200, width=160) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)
    assert first.box == second.box
    other = draw_radiograph(4, fractured=True, height=200, width=160)
    assert not np.array_equal(first.pixels, other.pixels)


def test_a_film_is_16_bit_with_12_bits_used_and_bone_bright(drawn: Make) -> None:
    film = drawn(5, fractured=False)
    assert film.dtype == np.uint16
    assert film.shape == (500, 380)
    assert 3000 < film.max() <= 4095
    air, limb = film[:, :10].mean(), film[240:260, 140:240].max(axis=1).mean()
    assert limb > 5 * air


def test_only_a_fractured_film_has_a_box() -> None:
    assert draw_radiograph(1, fractured=False, height=200, width=160).box is None


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_box_of_a_fracture_reaches_into_the_film(seed: int) -> None:
    box = draw_radiograph(seed, fractured=True, height=250, width=190).box
    assert box is not None
    x0, y0, x1, y1 = box
    assert 0 < (x0 + x1) / 2 < 190
    assert 0 < (y0 + y1) / 2 < 250
    assert x1 - x0 > 20
    assert y1 - y0 > 20


@pytest.mark.parametrize("seed", [11, 12])
def test_a_fracture_changes_the_film_inside_its_box_most(seed: int) -> None:
    drawing = draw_radiograph(seed, fractured=True)
    assert drawing.box is not None
    x0, y0, x1, y1 = (max(0, round(value)) for value in drawing.box)
    steepness = np.abs(np.diff(drawing.pixels.astype(np.int32), axis=0))
    middle = steepness[250:750]
    assert steepness[y0:y1, x0:x1].mean() > 1.1 * middle.mean()


def test_the_shipped_model_finds_the_drawn_fractures(model: Model, drawn: Make) -> None:
    """The first thing that a newcomer sees must be a finding: these are the demo's films. None is left alone, and half
    of them or more are called fractures."""
    films = [drawn(seed, fractured=True, height=1000, width=760) for seed in range(11, 17)]
    inputs = [to_input(Radiograph(film, 760, 1000), model.manifest.input)[0] for film in films]
    findings = [model.finding(float(probability)) for probability in model.predict(np.stack(inputs)).probability]
    assert "no_fracture_detected" not in findings
    assert findings.count("fracture") >= 3
