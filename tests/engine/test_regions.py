"""regions.py: from a heat map to boxes on the film."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bonefrac.preprocess import InputSpec, ToFilm, to_input
from bonefrac.regions import MAX_REGIONS, find_regions
from bonefrac.results import Radiograph

Pixels = np.ndarray[Any, Any]
Make = Callable[..., Any]
SPEC = InputSpec(320, 320)
CELLS = 20  # the map's side: 16 px of input to a cell


def map_back(width: int, height: int) -> ToFilm:
    return to_input(Radiograph(np.zeros((96, 96), np.uint8), width, height), SPEC)[1]


def heat(*hot: tuple[int, int, float]) -> Pixels:
    """A map of zeros but for (row, column, value)."""
    values = np.zeros((CELLS, CELLS), np.float32)
    for row, column, value in hot:
        values[row, column] = value
    return values


def test_a_hot_block_gives_its_box() -> None:
    values = heat()
    values[4:8, 10:13] = 1.0
    (region,) = find_regions(values, 0.5, SPEC, map_back(640, 640), (640, 640))
    cell = 32  # px of film
    assert region.box == pytest.approx((10 * cell, 4 * cell, 13 * cell, 8 * cell), abs=cell / 4)
    assert region.score == 1.0


def test_a_single_cell_on_a_portrait_film_lies_where_the_map_says() -> None:
    (region,) = find_regions(heat((10, 7, 0.9)), 0.45, SPEC, map_back(400, 800), (400, 800))
    middle = ((7.5 * 16 - 80) * 2.5, 10.5 * 16 * 2.5)
    assert region.peak == pytest.approx(middle, abs=6)
    assert ((region.box[0] + region.box[2]) / 2, (region.box[1] + region.box[3]) / 2) == pytest.approx(middle, abs=6)


@pytest.mark.parametrize(("row", "column"), [(10, 7), (0, 0), (10, 19)])
def test_the_score_is_the_maps_value_at_the_peak(row: int, column: int) -> None:
    (region,) = find_regions(heat((row, column, 0.9)), 0.45, SPEC, map_back(320, 320), (320, 320))
    assert region.score == pytest.approx(0.9, abs=0.001)


def test_the_best_region_comes_first_and_there_are_not_too_many() -> None:
    spots = [
        (row, column, 0.5 + 0.001 * (row * CELLS + column)) for row in range(2, 18, 4) for column in range(2, 18, 4)
    ]
    regions = find_regions(heat(*spots), 0.3, SPEC, map_back(320, 320), (320, 320))
    scores = [region.score for region in regions]
    assert len(regions) == MAX_REGIONS
    assert scores == sorted(scores, reverse=True)
    assert regions[0].peak == pytest.approx((14.5 * 16, 14.5 * 16), abs=3)


def test_a_cold_map_gives_no_region() -> None:
    assert find_regions(heat((5, 5, 0.44)), 0.45, SPEC, map_back(320, 320), (320, 320)) == ()


@pytest.mark.parametrize(("width", "height"), [(1000, 500), (500, 1000)])
@pytest.mark.parametrize("level", [0.1, 0.3, 0.45, 0.6])
def test_heat_in_the_letterbox_border_alone_gives_no_region(width: int, height: int, level: float) -> None:
    values = np.ones((CELLS, CELLS), np.float32)
    if width > height:
        values[5:15] = 0
    else:
        values[:, 5:15] = 0
    assert find_regions(values, level, SPEC, map_back(width, height), (width, height)) == ()


_maps = hnp.arrays(np.float32, (CELLS, CELLS), elements=st.floats(0, 1, width=32), fill=st.just(np.float32(0)))


@given(_maps, st.floats(0.1, 0.9), st.integers(96, 3000), st.integers(96, 3000))
def test_every_region_lies_on_the_film_and_reaches_the_level(
    values: Pixels, level: float, width: int, height: int
) -> None:
    regions = find_regions(values, level, SPEC, map_back(width, height), (width, height))
    for region in regions:
        x0, y0, x1, y1 = region.box
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert x0 <= region.peak[0] <= x1
        assert y0 <= region.peak[1] <= y1
        assert 0 <= region.peak[0] <= width - 1
        assert 0 <= region.peak[1] <= height - 1
        assert level - 0.0005 <= region.score <= values.max() + 0.0005
        assert all(value == round(value) for value in (*region.box, *region.peak))
    assert list(regions) == sorted(regions, key=lambda region: -region.score)
    if values.max() < level:
        assert regions == ()
