"""Copies of one film are found however they were turned or stored again; other films of the same kind are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.synthetic import draw_radiograph
from bonefrac_training.catalogue import Film
from bonefrac_training.duplicates import TURNS, detail, find_copies, hash_signs, likeness, unite
from bonefrac_training.duplicates import _turn_signs as turn_signs
from bonefrac_training.facts import DISC, VIEW, Facts, gather, look, looks_inverted
from bonefrac_training.rotations import find_pairs, find_rotated, signature

Pixels = np.ndarray[Any, Any]
Encode = Callable[..., bytes]


@pytest.fixture(scope="module")
def films() -> list[Pixels]:
    """Twelve limbs, each taken from nearer or farther and with another end of its bones in sight, uint8 (250, 190)."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(12):
        pixels = (draw_radiograph(seed, fractured=seed % 2 == 0).pixels >> 4).astype(np.uint8)
        height = int(rng.integers(400, 900))
        width = height * 190 // 250
        top, left = (1000 - height) * (seed // 2 % 2), int(rng.integers(0, 760 - width))
        window = pixels[top : top + height, left : left + width]
        found.append(np.asarray(cv2.resize(window, (190, 250), interpolation=cv2.INTER_AREA), np.uint8))
    return found


def view(pixels: Pixels, side: int = VIEW) -> Pixels:
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def disc(pixels: Pixels) -> Pixels:
    top = (pixels.shape[0] - pixels.shape[1]) // 2
    return view(pixels[top : top + pixels.shape[1]], DISC)


def again(pixels: Pixels, quality: int = 60) -> Pixels:
    """Stored as JPEG at another size and read back."""
    smaller = cv2.resize(pixels, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    stored = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_UNCHANGED), np.uint8)


def facts_of(folder: Path, **files: bytes) -> list[Facts]:
    films = []
    for name, data in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(data)
        films.append(Film(path, path.name, "normal"))
    return gather(films)


# --- the eight flips and turns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_the_hash_of_a_turned_film_is_the_turned_hash(films: list[Pixels], turn: Any) -> None:
    small = view(films[3], 32).astype(np.float32)
    signs = hash_signs(np.stack([small, np.ascontiguousarray(turn(small))]))
    assert (turn_signs(signs[:1], turn)[0] == signs[1]).mean() > 0.96


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_copy_is_found_under_every_turn_and_its_turn_is_told(films: list[Pixels], turn: Any) -> None:
    copy = again(np.ascontiguousarray(turn(films[5])))
    views = [view(film) for film in (*films, copy)]
    found = list(find_copies(views))
    assert [(first, second) for first, second, _, _ in found] == [(5, 12)]
    _, _, told, alike = found[0]
    assert alike > 0.85
    assert np.array_equal(told(np.asarray(turn(views[5]))), views[5]), "the turn does not lead back"


def test_a_copy_that_was_moved_is_found(films: list[Pixels]) -> None:
    moved = cv2.copyMakeBorder(films[4][:-6, :-4], 6, 0, 4, 0, cv2.BORDER_REPLICATE)
    plain = float(np.corrcoef(detail(view(films[4])).ravel(), detail(view(moved)).ravel())[0, 1])
    assert plain < 0.5
    assert [(a, b) for a, b, _, _ in find_copies([view(f) for f in (*films, moved)])] == [(4, 12)]


def test_different_films_are_not_copies(films: list[Pixels]) -> None:
    assert list(find_copies([view(film) for film in films])) == []
    assert list(find_copies([view(films[0])])) == []


def test_the_hash_alone_is_no_proof(films: list[Pixels]) -> None:
    """Two films with the same coarse look and other detail: proposed, and refused by the correlation of detail."""
    coarse = cv2.GaussianBlur(films[2], (0, 0), 9).astype(np.float32)
    rng = np.random.default_rng(0)
    grain = [cv2.GaussianBlur(rng.normal(0, 60, coarse.shape), (0, 0), 2) for _ in range(2)]
    one, two = (np.clip(coarse + g, 0, 255).astype(np.uint8) for g in grain)
    signs = hash_signs(np.stack([view(one, 32), view(two, 32)]).astype(np.float32))
    assert (signs[0] == signs[1]).mean() > 0.85
    assert list(find_copies([view(one), view(two)])) == []
    assert likeness(detail(view(one)), detail(view(two))) < 0.5


# --- any angle -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [7, 33, 90, 145, 211])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_turned_by_any_angle_is_found(films: list[Pixels], angle: int, mirrored: bool) -> None:
    height, width = films[8].shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    turned = cv2.warpAffine(films[8], matrix, (width, height))
    copy = again(np.ascontiguousarray(turned[:, ::-1]) if mirrored else turned, 80)
    found = list(find_rotated([disc(film) for film in (*films, copy)]))
    assert [(first, second) for first, second, _, _ in found] == [(8, 12)]
    expected = "mirrored and turned" if mirrored else f"turned by about {min(angle, 360 - angle)}°"
    told = found[0][2]
    assert told == expected or (not mirrored and abs(int(told.split()[-1][:-1]) - min(angle, 360 - angle)) <= 2)


def test_different_films_are_not_rotated_copies(films: list[Pixels]) -> None:
    assert list(find_rotated([disc(film) for film in films])) == []
    assert list(find_rotated([])) == []


def test_the_signature_does_not_see_a_turn(films: list[Pixels]) -> None:
    square = disc(films[1])
    turned, other = np.ascontiguousarray(np.rot90(square)), disc(films[2])
    assert signature(square) @ signature(turned) > 0.999
    assert signature(square) @ signature(other) < 0.99


# --- files -----------------------------------------------------------------------------------------------------


def test_bytes_pixels_and_copies_are_told_apart(tmp_path: Path, films: list[Pixels], as_file: Encode) -> None:
    png = as_file(".png", films[0])
    tif, jpg, other = as_file(".tif", films[0]), as_file(".jpg", films[0]), as_file(".png", films[1])
    pairs = find_pairs(facts_of(tmp_path, a__png=png, b__png=png, c__tif=tif, d__jpg=jpg, e__png=other))
    assert {(pair.first, pair.second, pair.kind) for pair in pairs} == {
        (0, 1, "bytes"),
        (0, 2, "pixels"),
        (0, 3, "copy"),
    }
    assert unite(5, [(pair.first, pair.second) for pair in pairs]) == [0, 0, 0, 0, 4]


def test_unreadable_files_with_the_same_bytes_are_paired(
    tmp_path: Path, jpeg: bytes, as_file: Encode, films: list[Pixels]
) -> None:
    cut = jpeg[: len(jpeg) // 2]
    facts = facts_of(tmp_path, a__jpg=cut, b__jpg=cut, c__png=as_file(".png", films[1]), d__jpg=b"", e__txt=b"words")
    assert [fact.readable for fact in facts] == [False, False, True, False, False]
    assert "cut short" in facts[0].problem
    assert [(pair.first, pair.second, pair.kind) for pair in find_pairs(facts)] == [(0, 1, "bytes")]


def test_empty_files_are_no_copies_of_one_another(tmp_path: Path) -> None:
    assert find_pairs(facts_of(tmp_path, a__jpg=b"", b__png=b"")) == []


def test_facts_are_those_of_the_upright_film(tmp_path: Path, jpeg: bytes, with_exif: Callable[..., bytes]) -> None:
    upright, turned = facts_of(tmp_path, a__jpg=jpeg, b__jpg=with_exif(jpeg, 6))
    assert (upright.width, upright.height) == (turned.height, turned.width) == (380, 500)
    assert turned.header is not None
    assert turned.header.orientation == 6
    missing = look(Film(tmp_path / "gone.png", "gone.png", "normal"))
    assert "cannot be read" in missing.problem


def test_a_jpeg_is_looked_at_in_full_size(tmp_path: Path, jpeg: bytes, grey: Pixels, as_file: Encode) -> None:
    stored = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert stored.shape == grey.shape
    facts = facts_of(tmp_path, a__jpg=jpeg, b__png=as_file(".png", stored))
    assert [pair.kind for pair in find_pairs(facts)] == ["pixels"]


def test_a_dark_film_is_not_inverted_for_a_smooth_strip(films: list[Pixels]) -> None:
    dark = np.clip(np.random.default_rng(0).normal(60, 20, (VIEW, VIEW)), 0, 255).astype(np.uint8)
    dark[:, : VIEW // 2] = 100
    assert not looks_inverted(dark)


def test_inverted_films_are_noticed(films: list[Pixels]) -> None:
    assert not any(looks_inverted(view(film)) for film in films)
    in_air = [np.pad(film, ((0, 0), (110, 110)), constant_values=16) for film in films]
    assert not any(looks_inverted(view(film)) for film in in_air)
    assert all(looks_inverted(view(255 - film)) for film in in_air)


# --- union-find ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_united_are_exactly_those_that_a_chain_of_pairs_connects(pairs: list[tuple[int, int]]) -> None:
    roots = unite(20, pairs)
    reach = np.eye(20, dtype=bool)
    for a, b in pairs:
        reach[a, b] = reach[b, a] = True
    for _ in range(5):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    for a in range(20):
        assert roots[a] == int(np.flatnonzero(reach[a])[0])
