"""What was asked of the flagship, and whether it is reached, stands in the README as the bundle's manifest has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bonefrac.model import read_manifest

ROOT = Path(__file__).parents[1]
GOALS = [  # a figure of the card, what was asked, and its sign
    ("AUROC", "at least 0.95", 0.95, 1),
    ("sensitivity at a specificity of 0.90", "at least 0.87", 0.87, 1),
    ("best region's centre in a true box", "at least 0.85", 0.85, 1),
    ("regions shown on a film without fracture", "fewer than 0.3", 0.3, -1),
]


@pytest.mark.parametrize(("figure", "asked", "limit", "sign"), GOALS, ids=lambda value: str(value))
def test_the_readme_says_what_is_reached(figure: str, asked: str, limit: float, sign: int) -> None:
    told = read_manifest(ROOT / "models" / "flagship").figures[figure]
    reached = "yes" if sign * (float(told.split()[0]) - limit) >= 0 else "NO"
    assert f"| {figure} | {asked} | {told} | {reached} |" in (ROOT / "README.md").read_text(encoding="utf-8")
