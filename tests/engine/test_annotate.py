"""annotate.py: one finding drawn on one film."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bonefrac.annotate import PICTURE_SIDE, Drawing, annotate, arrow, thumbnail
from bonefrac.header import MARK
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Finding, Radiograph, Region, Source

Pixels = np.ndarray[Any, Any]
Make = Callable[..., Any]
SPEC = InputSpec(320, 320)
REGION = Region((100.0, 150.0, 260.0, 330.0), (180.0, 240.0), 0.9)


def film_and_drawing(pixels: Pixels, warmth: float = 0.0, level: float = 0.45) -> tuple[Radiograph, Drawing]:
    film = Radiograph(pixels, pixels.shape[1], pixels.shape[0])
    heatmap = np.zeros((20, 20), np.float32)
    heatmap[8:11, 8:11] = warmth
    return film, Drawing(heatmap, SPEC, to_input(film, SPEC)[1], level, "flagship 1.0 int8")


def finding_of(film: Radiograph, name: Any = "fracture", regions: tuple[Region, ...] = ()) -> Finding:
    return Finding(Source("a.jpg", ""), name, 0.7, regions, film.width, film.height)


def seen(data: bytes) -> Pixels:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture.astype(int)


def coloured(picture: Pixels) -> Pixels:
    return picture.max(axis=2) - picture.min(axis=2) > 60


def segments(data: bytes) -> dict[int, bytes]:
    """Marker -> body, up to the start of scan."""
    found, at = {}, 2
    while data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        found[data[at + 1]] = data[at + 4 : at + 2 + length]
        at += 2 + length
    return found


@pytest.mark.parametrize("name", ["fracture", "doubt", "no_fracture_detected"])
def test_the_band_is_added_below_and_hides_nothing(grey: Pixels, name: str) -> None:
    film, drawing = film_and_drawing(grey)
    picture = seen(annotate(film, finding_of(film, name), drawing))
    height, width = grey.shape
    assert picture.shape[1] == width
    assert height < picture.shape[0] < height * 1.3
    assert np.abs(picture[: height - 8] - grey[: height - 8, :, None]).mean() < 3
    band = picture[height + 2 :]
    assert np.median(band) < 20
    assert (band.min(axis=2) > 150).sum() > 50  # white letters


@pytest.mark.parametrize("part", ["caption", "finding", "probability"])
def test_the_band_tells_model_finding_and_probability(grey: Pixels, part: str) -> None:
    film, drawing = film_and_drawing(grey)
    finding = finding_of(film)
    changed = {
        "caption": annotate(film, finding, replace(drawing, caption="flagship 2.0 int8")),
        "finding": annotate(film, replace(finding, finding="doubt"), drawing),
        "probability": annotate(film, replace(finding, probability=0.3), drawing),
    }[part]
    usual, other = seen(annotate(film, finding, drawing)), seen(changed)
    assert usual.shape != other.shape or np.abs(usual[510:] - other[510:]).max() > 100
    if part != "finding":  # which also changes the arrow's colour
        assert np.array_equal(usual[:480], other[:480])


def test_the_band_fits_a_film_of_extreme_shape() -> None:
    """A long narrow film that was decoded small leaves few px for the words, but they must be there."""
    film = Radiograph(np.full((1250, 12), 90, np.uint8), 96, 10_000)
    drawing = Drawing(np.zeros((20, 20), np.float32), SPEC, to_input(film, SPEC)[1], 0.45, "flagship 1.0 int8")
    picture = seen(annotate(film, finding_of(film), drawing))
    assert (picture[PICTURE_SIDE + 10 :].min(axis=2) > 100).sum() > 100


def test_a_16_bit_film_is_drawn_through_its_window(drawn: Make) -> None:
    film, drawing = film_and_drawing(drawn())
    picture = seen(annotate(film, finding_of(film), drawing))
    assert picture[:490].max() > 240
    assert np.percentile(picture[:490], 1) < 15


def test_a_box_is_solid_for_a_fracture_and_dashed_for_doubt(grey: Pixels) -> None:
    film, drawing = film_and_drawing(grey)
    share = {}
    for name in ("fracture", "doubt"):
        picture = coloured(seen(annotate(film, finding_of(film, name, (REGION,)), drawing)))
        share[name] = picture[150, 100:261].mean(), picture[150:331, 100].mean(), picture[330, 100:261].mean()
    assert min(share["fracture"]) > 0.95
    assert min(share["doubt"]) > 0.3
    assert max(share["doubt"]) < 0.8


def test_an_arrow_leads_to_the_best_region_only(grey: Pixels) -> None:
    film, drawing = film_and_drawing(grey)
    other = Region((10.0, 400.0, 60.0, 460.0), (35.0, 430.0), 0.6)
    picture = coloured(seen(annotate(film, finding_of(film, "fracture", (REGION, other)), drawing)))
    assert picture[237:244, 177:184].any()
    assert not picture[405:455, 15:55].any()


def test_no_finding_means_no_overlay_no_box_no_arrow(grey: Pixels) -> None:
    film, drawing = film_and_drawing(grey, warmth=0.9)
    finding = finding_of(film, "no_fracture_detected", (REGION,))
    assert not coloured(seen(annotate(film, finding, drawing))).any()


def test_heat_is_shown_on_a_fixed_scale(grey: Pixels) -> None:
    strength = {}
    for warmth in (0.2, 0.45, 0.9):
        film, drawing = film_and_drawing(grey, warmth)
        picture = seen(annotate(film, finding_of(film), drawing))[:490]
        strength[warmth] = np.abs(picture - grey[:490, :, None]).max(axis=2)[225:265, 190:230].mean()
    assert strength[0.2] < 5  # below half the region level
    assert strength[0.2] + 8 < strength[0.45]
    assert strength[0.45] * 1.3 < strength[0.9]


@pytest.mark.parametrize(("height", "width"), [(900, 500), (500, 900)])
def test_heat_lies_where_the_map_says(height: int, width: int) -> None:
    film, drawing = film_and_drawing(np.full((height, width), 100, np.uint8))
    drawing.heatmap[:] = 0
    drawing.heatmap[12, 11] = 1.0
    elsewhere = finding_of(film, regions=(Region((2.0, 2.0, 9.0, 9.0), (5.0, 5.0), 0.9),))  # box and arrow away
    cold = replace(drawing, heatmap=np.zeros_like(drawing.heatmap))
    warm, plain = (seen(annotate(film, elsewhere, it))[: height - 8] for it in (drawing, cold))
    shown = np.abs(warm - plain).max(axis=2) > 30
    centre = np.argwhere(shown).mean(axis=0) + 0.5
    x, y = drawing.to_film(11.5 * 16, 12.5 * 16)
    assert centre == pytest.approx([y, x], abs=8)


def test_without_a_region_the_arrow_leads_to_the_peak_and_the_band_says_so(grey: Pixels) -> None:
    film, drawing = film_and_drawing(grey, 0.2)  # below the level, and too cold to be shown
    drawing.heatmap[12, 11] = 0.21
    picture = seen(annotate(film, finding_of(film, "doubt"), drawing))
    x, y = drawing.to_film(11.5 * 16, 12.5 * 16)
    tip = coloured(picture)[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7]
    assert tip.any()
    with_region = seen(annotate(film, finding_of(film, "doubt", (REGION,)), drawing))
    assert not np.array_equal(picture[503:], with_region[503:])


def test_boxes_are_drawn_to_scale_on_a_reduced_film(grey: Pixels) -> None:
    film = Radiograph(grey, grey.shape[1] * 4, grey.shape[0] * 4)
    drawing = Drawing(np.zeros((20, 20), np.float32), SPEC, to_input(film, SPEC)[1], 0.45, "m")
    region = Region((400.0, 600.0, 1040.0, 1320.0), (720.0, 960.0), 0.9)
    picture = coloured(seen(annotate(film, finding_of(film, "fracture", (region,)), drawing)))
    assert picture[150, 100:261].mean() > 0.95
    assert picture[150:331, 260].mean() > 0.95


def test_a_picture_is_a_clean_jpeg_with_our_mark_and_full_colour(grey: Pixels) -> None:
    film, drawing = film_and_drawing(grey)
    found = segments(annotate(film, finding_of(film), drawing))
    assert found[0xFE] == MARK.encode()
    assert not [marker for marker in found if 0xE1 <= marker <= 0xEF]  # no EXIF, XMP, ICC
    frame = found[0xC0]
    assert frame[5] == 3
    assert [frame[7 + 3 * component] for component in range(3)] == [0x11] * 3  # 4:4:4


@example(1, 1, 2, 2)
@given(st.floats(-50, 3000), st.floats(-50, 3000), st.integers(2, 2500), st.integers(2, 2500))
def test_an_arrow_is_on_the_picture_and_has_a_length(x: float, y: float, width: int, height: int) -> None:
    tail, head = arrow((x, y), width, height)
    assert tail != head
    for point in (tail, head):
        assert 0 <= point[0] < width
        assert 0 <= point[1] < height
    assert head == (min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(96, 2500), st.integers(96, 2500))
def test_an_arrow_on_a_film_is_long_enough_to_be_seen(x: float, y: float, width: int, height: int) -> None:
    tail, head = arrow((x * width, y * height), width, height)
    assert np.hypot(tail[0] - head[0], tail[1] - head[1]) >= 0.04 * min(width, height)


@pytest.mark.parametrize("corner", [(0, 0), (379, 0), (0, 499), (379, 499)])
def test_an_arrow_to_a_corner_comes_from_the_middle(corner: tuple[int, int]) -> None:
    tail, head = arrow(corner, 380, 500)
    assert head == corner
    assert np.hypot(tail[0] - head[0], tail[1] - head[1]) == pytest.approx(60, abs=2)


def test_a_thumbnail_is_small_and_shows_the_boxes(grey: Pixels) -> None:
    film, _ = film_and_drawing(grey)
    pixels, to_film = to_input(film, SPEC)
    plain = seen(thumbnail(pixels, finding_of(film), to_film))
    boxed = seen(thumbnail(pixels, finding_of(film, "fracture", (REGION,)), to_film))
    assert max(plain.shape[:2]) == 112
    changed = np.argwhere(np.abs(plain - boxed).max(axis=2) > 60)
    x0, y0 = (value * 112 / 320 for value in to_film.inverse(*REGION.box[:2]))
    x1, y1 = (value * 112 / 320 for value in to_film.inverse(*REGION.box[2:]))
    assert changed.min(axis=0) == pytest.approx([y0, x0], abs=3)
    assert changed.max(axis=0) == pytest.approx([y1, x1], abs=3)
