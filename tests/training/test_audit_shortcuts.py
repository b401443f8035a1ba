"""What tells a class without looking at the film is found when it is there, and not when it is not; features measure
what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

pytest.importorskip("skimage", reason='needs the extra: pip install ".[train]"')

from bonefrac.header import Header
from bonefrac_benchmarks.statistics import auroc as auroc_of_draws
from bonefrac_benchmarks.statistics import by_group
from bonefrac_training.catalogue import Film, Label
from bonefrac_training.facts import Facts
from bonefrac_training.features import (
    bone_contours,
    chain_code,
    feature_page,
    lbp_map,
    measure,
    open_film,
    pick,
)  # fmt: skip
from bonefrac_training.shortcuts import auroc, levels, numbers, predictability

Pixels = np.ndarray[Any, Any]
EMPTY = np.zeros((0, 0), np.uint8)
SIZES = np.random.default_rng(0).integers(20_000, 25_000, 300)


def fact(
    number: int, label: Label, *, suffix: str = ".jpg", problem: str = "", width: int = 400, size: int = 0
) -> Facts:
    path = Path(f"{number}{suffix}")
    header = None if problem else Header("PNG" if suffix == ".png" else "JPEG", width, 500, 1, 8)
    return Facts(Film(path, path.name, label), size or int(SIZES[number]), str(number), problem, header,
                 0 if problem else width, 0 if problem else 500, str(number), EMPTY, EMPTY, False)  # fmt: skip


def labels(count: int = 120) -> list[Label]:
    return ["fractured" if number % 3 == 0 else "normal" for number in range(count)]


def alone(facts: Sequence[Facts]) -> list[str]:
    return [one.sha256 for one in facts]


def telling(facts: Sequence[Facts]) -> set[tuple[str, str]]:
    return {(one.fact, one.level) for one in levels(facts, alone(facts)) if one.telling}


def test_a_clean_set_has_no_shortcut() -> None:
    facts = [fact(number, label) for number, label in enumerate(labels())]
    found = predictability(facts, alone(facts))
    assert found is not None
    assert found.low < 0.5 < found.high
    assert telling(facts) == set()


def test_positives_as_png_are_a_shortcut() -> None:
    facts = [fact(n, label, suffix=".png" if label == "fractured" else ".jpg") for n, label in enumerate(labels())]
    found = predictability(facts, alone(facts))
    assert found is not None
    assert found.low > 0.95
    assert telling(facts) == {("ending of the name", ".jpg"), ("ending of the name", ".png"), ("format", "JPEG"),
                              ("format", "PNG")}  # fmt: skip


def test_truncated_negatives_are_a_shortcut() -> None:
    facts = [
        fact(n, label, problem="cut short" if label == "normal" and n % 2 else "") for n, label in enumerate(labels())
    ]
    found = predictability(facts, alone(facts))
    assert found is not None
    assert found.low > 0.6
    assert telling(facts) == {("readable", "yes"), ("readable", "no")}
    damaged = next(one for one in levels(facts, alone(facts)) if one.level == "no")
    assert (damaged.fractured, damaged.share, damaged.low) == (0, 0, 0)


def test_a_size_and_a_number_of_bytes_are_shortcuts() -> None:
    wide = [fact(n, label, width=800 if label == "fractured" else 400) for n, label in enumerate(labels())]
    assert ("size", "800 x 500 px") in telling(wide)
    assert dict(numbers(wide, alone(wide)))["width"].low > 0.95
    heavy = [
        fact(n, label, size=90_000 + n if label == "fractured" else 20_000 + n) for n, label in enumerate(labels())
    ]
    assert dict(numbers(heavy, alone(heavy)))["bytes"].value == 1
    assert telling(heavy) == set()
    found = predictability(heavy, alone(heavy))
    assert found is not None
    assert found.low > 0.95


def test_a_group_does_not_betray_its_label() -> None:
    """Films of a group share their size: a forest that saw half of the group would know the other half."""
    facts = [fact(n, "fractured" if n // 20 % 2 else "normal", width=400 + n // 20 * 50) for n in range(200)]
    leaky, honest = (predictability(facts, groups) for groups in (alone(facts), [str(n // 20) for n in range(200)]))
    assert leaky is not None
    assert honest is not None
    assert leaky.value > 0.8
    assert honest.low < 0.6


def test_too_few_films_give_no_figure() -> None:
    few = [fact(n, label) for n, label in enumerate(labels(30))]
    assert predictability(few, alone(few)) is None
    grouped = [fact(n, label) for n, label in enumerate(labels())]
    assert predictability(grouped, ["a"] * 60 + ["b"] * 60) is None


@given(st.integers(0, 1000))
def test_the_auroc_lies_in_its_interval_and_is_the_known_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, scores = rng.random(60) < 0.4, rng.random(60)
    found = auroc(truth, scores, [str(n) for n in range(60)])
    assert found.value == pytest.approx(roc_auc_score(truth, scores))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_groups_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.random(12) < 0.5, 20)
    scores = np.repeat(rng.random(12), 20) + truth * 0.2
    films, groups = (auroc(truth, scores, [str(n // step) for n in range(240)]) for step in (1, 20))
    assert groups.high - groups.low > 2 * (films.high - films.low)


def test_the_interval_is_the_houses_own_however_many_films_there_are() -> None:
    """The draws are judged in parts, and nothing changes by it."""
    rng = np.random.default_rng(0)
    truth, scores, groups = rng.random(5000) < 0.4, rng.random(5000), [str(n // 2) for n in range(5000)]
    assert auroc(truth, scores, groups) == by_group(lambda weights: auroc_of_draws(truth, scores, weights), groups)


def test_copies_and_films_of_one_patient_count_once() -> None:
    """Of 10 truncated films that are all normal, 5 times each, no more is known than of 10."""
    facts = [fact(n, label, problem="cut short" if 40 <= n < 90 else "") for n, label in enumerate(labels())]
    facts = [one if one.readable else fact(n, "normal", problem="cut short") for n, one in enumerate(facts)]
    groups = [f"copy {n // 5}" if 40 <= n < 90 else str(n) for n in range(120)]
    assert ("readable", "no") in telling(facts)
    damaged = next(one for one in levels(facts, groups) if one.level == "no")
    assert (damaged.films, damaged.fractured, damaged.telling) == (10, 0, False)
    assert not [one for one in levels(facts, ["a"] * 60 + ["b"] * 60) if one.telling]
    assert levels([], []) == []


# --- features --------------------------------------------------------------------------------------------------


def test_the_chain_code_of_a_square_goes_round() -> None:
    square = np.array([[0, 0], [0, 1], [0, 2], [1, 2], [2, 2], [2, 1], [2, 0], [1, 0]], np.int32)
    assert chain_code(square).tolist() == [6, 6, 0, 0, 2, 2, 4, 4]
    diamond = np.array([[2, 0], [1, 1], [0, 2], [1, 3], [2, 4], [3, 3], [4, 2], [3, 1]], np.int32)
    assert chain_code(diamond).tolist() == [5, 5, 7, 7, 1, 1, 3, 3]


def test_contours_surround_what_is_bright() -> None:
    film = np.full((400, 300), 40, np.uint8)
    cv2.rectangle(film, (130, 100), (159, 299), 200, -1)
    film = cv2.GaussianBlur(film, (0, 0), 2).astype(np.uint8)
    contours = bone_contours(film)
    assert len(contours) == 1
    x0, y0, x1, y1 = *contours[0].min(axis=0), *contours[0].max(axis=0)
    assert abs(np.array([x0, y0, x1, y1]) - [130, 100, 159, 299]).max() <= 5
    assert bone_contours(np.full((200, 200), 7, np.uint8)) == []


def test_textures_tell_smooth_from_rough() -> None:
    rng = np.random.default_rng(0)
    smooth = np.tile(np.linspace(0, 255, 200).astype(np.uint8), (200, 1))
    rough = rng.integers(0, 256, (200, 200)).astype(np.uint8)
    even, noisy = measure(smooth), measure(rough)
    assert noisy.values["GLCM contrast"] > 20 * even.values["GLCM contrast"]
    assert even.values["GLCM correlation"] > 0.95 > 0.2 > noisy.values["GLCM correlation"]
    assert noisy.values["LBP not uniform"] > 0.2 > 0.05 > even.values["LBP not uniform"]
    assert noisy.values["SIFT key points"] > even.values["SIFT key points"]
    assert set(np.unique(lbp_map(rough))) <= set(range(10))
    for one in (even, noisy):
        assert one.lbp.sum() == pytest.approx(1)
        assert one.chain.sum() == pytest.approx(1) or not one.values["bone contours"]


def test_a_blank_film_has_features_too() -> None:
    found = measure(np.full((200, 200), 9, np.uint8))
    assert found.values["bone contours"] == found.values["SIFT key points"] == 0
    assert np.isfinite(list(found.values.values())).all()


def test_the_page_tells_a_planted_difference(tmp_path: Path, as_file: Callable[..., bytes], grey: Pixels) -> None:
    """Noise on the fractured films alone: the texture's AUROC says so."""
    rng, small = np.random.default_rng(0), grey[::2, ::2]
    facts = []
    for number in range(12):
        noisy = number % 2 == 0
        pixels = np.clip(small + rng.normal(0, 2.5 if noisy else 1, small.shape), 0, 255).astype(np.uint8)
        path = tmp_path / f"{number}.png"
        path.write_bytes(as_file(".png", pixels))
        film = Film(path, path.name, "fractured" if noisy else "normal")
        facts.append(Facts(film, 1, str(number), "", None, 190, 250, "", EMPTY, EMPTY, False))
    page = feature_page(facts, alone(facts), each=5)
    assert page is not None
    assert page.films == {"fractured": 5, "normal": 5}
    spreads = {one.name: one for one in page.spreads}
    assert spreads["GLCM contrast"].auroc.value == 1
    assert spreads["GLCM contrast"].fractured[0] > spreads["GLCM contrast"].normal[4]
    strength = [abs(one.auroc.value - 0.5) for one in page.spreads]
    assert strength == sorted(strength, reverse=True), "the most telling feature does not come first"
    assert sum(page.histograms["lbp"]["normal"]) == pytest.approx(1, abs=1e-3)
    assert max(open_film(facts[0], 120).shape) == 120
    assert len(pick(facts, 2)) == 4
    assert feature_page(facts[:6], alone(facts[:6]), each=40) is None
