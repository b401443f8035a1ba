"""Runs of one training on several folds are summed up as mean and spread, and only such runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bonefrac.errors import UsageError
from bonefrac_training.cli import main
from bonefrac_training.cross_validation import cross_validation


def run(folder: Path, fold: int, auroc: float, **other: Any) -> Path:
    folder.mkdir()
    figures = {
        "model": "cnn", "image_size": 160, "began_from": "from scratch", "epochs": 3,
        "auroc": {"value": auroc, "low": auroc - 0.1, "high": auroc + 0.05}, "auprc": auroc - 0.2,
        "sensitivity_at_specificity_0.90": 0.5, "validated_on": {"films": 40, "fractured": 8, "groups": 5}, **other,
    }  # fmt: skip
    (folder / "figures.json").write_text(json.dumps(figures))
    (folder / "training.json").write_text(json.dumps({"fold": fold}))
    return folder


def test_mean_and_sample_standard_deviation(tmp_path: Path) -> None:
    runs = [run(tmp_path / "b", 2, 0.9), run(tmp_path / "a", 0, 0.8), run(tmp_path / "c", 3, 0.85)]
    lines = cross_validation(runs).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| 0", "| 2", "| 3"]
    assert lines[2] == "| 0 | 40 | 8 | 5 | 0.800 (0.700 to 0.850) | 0.600 | 0.500 |"
    assert lines[5] == "| mean (standard deviation) |  |  |  | 0.850 (0.050) | 0.650 (0.050) | 0.500 (0.000) |"
    assert CliRunner().invoke(main, ["folds", *map(str, runs)]).output == "\n".join(lines) + "\n"


def test_other_runs_are_refused(tmp_path: Path) -> None:
    one = run(tmp_path / "one", 0, 0.8)
    for others, words in (
        ([], "two runs or more"),
        ([run(tmp_path / "same", 0, 0.9)], "each of another fold"),
        ([run(tmp_path / "longer", 1, 0.9, epochs=4)], "differ in more than the fold"),
    ):
        with pytest.raises(UsageError, match=words):
            cross_validation([one, *others])
    (one / "training.json").write_text("{}")
    done = CliRunner().invoke(main, ["folds", str(one), str(tmp_path / "same")])
    assert (done.exit_code, "tells its fold" in done.output) == (2, True)
