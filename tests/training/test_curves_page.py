"""A run's page: what was measured first, marks on both axes, settings in words."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from bonefrac_training.curves_page import curve, write_page

FACTS: dict[str, Any] = {
    "model": "cnn", "image_size": 64, "fold": 3, "epochs": 30, "fixed_until": None, "without": [],
    "films": "ab" * 32, "mixed_precision": False, "weights": f"lite.npz, sha256 {'cd' * 32}",
    "began_with": {"image_size": 320, "seed": None},
}  # fmt: skip


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {"epoch": i, "step": 9 * i, "minutes": i / 2, "map_loss": 2 / i, "loss": 1 / i, "auroc": 0.5 + i / 100}
        for i in range(1, epochs + 1)
    ]


def test_what_validation_measured_comes_first_and_minutes_are_no_curve(tmp_path: Path) -> None:
    write_page(tmp_path / "training.html", FACTS, history(30), best=30)
    page = (tmp_path / "training.html").read_text("utf-8")
    assert re.findall(r"<h2>(.+?) <span", page) == ["auroc", "loss", "map loss"]
    assert "15.0 minutes of training" in page
    assert len(re.findall(r'<circle[^>]* class="best"', page)) == 3


def test_both_axes_have_marks(tmp_path: Path) -> None:
    write_page(tmp_path / "training.html", FACTS, history(30), best=30)
    page = (tmp_path / "training.html").read_text("utf-8")
    first = page[page.index("<svg") : page.index("</svg>")]
    assert re.findall(r'class="value"[^>]*>([^<]+)<', first) == ["0.8", "0.655", "0.51"]
    epochs = re.findall(r'class="epoch" x="([^"]+)"[^>]*>(\d+)<', first)
    assert [epoch for _, epoch in epochs] == [str(epoch) for epoch in range(1, 31, 3)]
    points = {epoch: x for x, epoch in re.findall(r'<circle cx="([^"]+)"[^>]*><title>epoch (\d+)<', first)}
    assert all(points[epoch] == x for x, epoch in epochs), "a mark is not below its epoch's point"


def test_settings_are_words(tmp_path: Path) -> None:
    write_page(tmp_path / "training.html", FACTS, history(1), best=1)
    page = (tmp_path / "training.html").read_text("utf-8")
    table = dict(re.findall(r"<tr><td>(.+?)</td><td>(.*?)</td></tr>", page))
    assert table == {
        "model": "cnn", "image size": "64", "fold": "3", "epochs": "30", "films": "abababababab…",
        "mixed precision": "no", "weights": "lite.npz, sha256 cdcdcdcdcdcd…", "began with": "image size 320",
    }  # fmt: skip


def test_what_was_never_measured_has_no_curve_and_a_gap_no_point(tmp_path: Path) -> None:
    drawn = curve("peak_in_box", [0.2, math.nan, 0.4], 3)
    assert [epoch for epoch, _, _ in drawn["points"]] == [1, 3]
    write_page(tmp_path / "training.html", FACTS, [{**row, "peak_in_box": math.nan} for row in history(3)], best=3)
    page = (tmp_path / "training.html").read_text("utf-8")
    assert page.count("<svg") == 3
    assert "peak in box" not in page
