"""preprocess.py: what a model sees, and the map back to the film."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.decode import decode
from bonefrac.preprocess import InputSpec, ToFilm, to_8_bit, to_input
from bonefrac.results import Radiograph

Pixels = np.ndarray[Any, Any]
Make = Callable[..., Any]
SPEC = InputSpec(320, 320)


def film_of(pixels: Pixels) -> Radiograph:
    return Radiograph(pixels, pixels.shape[1], pixels.shape[0])


@pytest.mark.parametrize("spec", [SPEC, InputSpec(200, 300), InputSpec(300, 200, "bilinear", "stretch")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_input_is_uint8_of_the_specs_size(drawn: Make, spec: InputSpec, dtype: type) -> None:
    pixels, _ = to_input(film_of((drawn() >> 4).astype(dtype)), spec)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (spec.height, spec.width, 1)
    assert pixels.max() > 150


@given(st.integers(96, 1200), st.integers(96, 1200))
def test_a_letterbox_keeps_the_aspect_ratio_and_fills_with_black(width: int, height: int) -> None:
    pixels, to_film = to_input(film_of(np.full((height, width), 200, np.uint8)), SPEC)
    inside = pixels[:, :, 0] == 200
    rows, columns = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    assert max(rows, columns) == 320
    assert min(rows, columns) == pytest.approx(320 * min(width, height) / max(width, height), abs=0.51)
    assert not pixels[:, :, 0][~inside].any()
    assert inside.sum() == rows * columns
    assert to_film.x_scale == pytest.approx(to_film.y_scale, rel=0.51 / min(rows, columns))
    middle = np.argwhere(inside).mean(axis=0) + 0.5
    assert middle == pytest.approx([160, 160], abs=0.51)


def test_stretch_fills_the_whole_input() -> None:
    pixels, to_film = to_input(film_of(np.full((100, 400), 200, np.uint8)), InputSpec(320, 320, fit="stretch"))
    assert (pixels == 200).all()
    assert (to_film.x_scale, to_film.y_scale) == (400 / 320, 100 / 320)


_coordinate = st.floats(-500, 3000)


@given(
    _coordinate, _coordinate, st.integers(96, 3000), st.integers(96, 3000), st.sampled_from(["letterbox", "stretch"])
)
def test_the_map_and_its_inverse_cancel(x: float, y: float, width: int, height: int, fit: Any) -> None:
    film = Radiograph(np.full((96, 96), 9, np.uint8), width, height)
    _, to_film = to_input(film, InputSpec(320, 288, fit=fit))
    assert to_film.inverse(*to_film(x, y)) == pytest.approx((x, y), abs=1e-6)
    assert to_film(*to_film.inverse(x, y)) == pytest.approx((x, y), abs=1e-6)


@pytest.mark.parametrize(("width", "height"), [(500, 900), (900, 500), (320, 320), (150, 100), (1300, 97)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("resize", ["area", "bilinear"])
def test_a_dot_on_the_film_lies_where_the_map_says(width: int, height: int, fit: Any, resize: Any) -> None:
    film = np.zeros((height, width), np.uint8)
    x, y = round(width * 0.8), round(height * 0.3)
    cv2.circle(film, (x, y), 12, 255, -1)
    pixels, to_film = to_input(film_of(film), InputSpec(320, 320, resize, fit))
    weights = pixels[:, :, 0].astype(float)
    rows, columns = np.mgrid[0:320, 0:320] + 0.5
    seen = (columns * weights).sum() / weights.sum(), (rows * weights).sum() / weights.sum()
    assert to_film(*seen) == pytest.approx((x + 0.5, y + 0.5), abs=1.5)
    assert to_film.inverse(x + 0.5, y + 0.5) == pytest.approx(seen, abs=1.5 / min(to_film.x_scale, to_film.y_scale))


@pytest.mark.parametrize(("width", "height"), [(1500, 2700), (2700, 1500)])
def test_a_dot_on_a_reduced_jpeg_lies_where_the_map_says(as_file: Make, width: int, height: int) -> None:
    film = np.tile(np.linspace(10, 60, width).astype(np.uint8), (height, 1))
    x, y = round(width * 0.8), round(height * 0.3)
    cv2.circle(film, (x, y), 30, 255, -1)
    radiograph = decode(as_file(".jpg", film), long_side=SPEC.long_side)
    assert radiograph.pixels.shape[0] < height // 2
    pixels, to_film = to_input(radiograph, SPEC)
    bright = np.argwhere(pixels[:, :, 0] > 160) + 0.5
    seen = bright.mean(axis=0)
    assert to_film(seen[1], seen[0]) == pytest.approx((x + 0.5, y + 0.5), abs=0.5 * to_film.x_scale)


def test_an_8_bit_film_keeps_its_tones(grey: Pixels) -> None:
    dark = grey // 2
    assert np.array_equal(to_8_bit(dark), dark)
    square = dark[:320, :320]
    assert np.array_equal(to_input(film_of(square), SPEC)[0][:, :, 0], square)


def test_a_16_bit_film_looks_the_same_however_many_bits_its_scanner_fills(drawn: Make) -> None:
    film = drawn()
    inputs = [to_input(film_of(other.astype(np.uint16)), SPEC)[0].astype(int) for other in (film, film // 4, film * 16)]
    for other in inputs[1:]:
        assert np.abs(other - inputs[0]).max() <= 3
    assert inputs[0].max() == 255


def test_a_single_hot_pixel_does_not_darken_a_16_bit_film(drawn: Make) -> None:
    film = drawn().copy()
    film[3, 3] = 65535
    clean, hot = to_8_bit(drawn()), to_8_bit(film)
    assert np.abs(clean.astype(int) - hot)[10:].max() <= 3


def test_area_is_antialiased_and_bilinear_is_not() -> None:
    stripes = np.zeros((960, 960), np.uint8)
    stripes[:, ::3] = 255
    area, _ = to_input(film_of(stripes), SPEC)
    bilinear, _ = to_input(film_of(stripes), InputSpec(320, 320, "bilinear"))
    assert np.abs(area.astype(int) - 85).max() <= 1
    assert set(np.unique(bilinear)) <= {0, 255}


def test_the_decoder_is_asked_for_the_longer_side() -> None:
    assert InputSpec(320, 448).long_side == InputSpec(448, 320).long_side == 448


def test_the_map_counts_from_pixel_edges() -> None:
    to_film = ToFilm(40, 0, 2, 3)
    assert to_film(40, 0) == (0, 0)
    assert to_film(50, 10) == (20, 30)
