"""Figures are what they are called, and the table is made from them alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

from bonefrac_training.cli import main
from bonefrac_training.figures import figures
from bonefrac_training.films import Inputs


def films(fractured: list[int], groups: list[str], boxes: tuple[Any, ...] = ()) -> Inputs:
    pixels = np.zeros((len(groups), 64, 64, 1), np.uint8)
    return Inputs(pixels, np.array(fractured, bool), boxes or ((),) * len(groups), tuple(groups))


def test_a_classifiers_figures_point_the_right_way() -> None:
    truth = films([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])
    right = figures({"logit": np.array([3, 2, -1, -2, 1, 0], np.float32)}, truth)
    assert right["auroc"]["value"] == right["auprc"] == right["sensitivity_at_specificity_0.90"] == 1
    wrong = figures({"logit": -np.array([3, 2, -1, -2, 1, 0], np.float32)}, truth)
    assert wrong["auroc"]["value"] == 0
    assert right["validated_on"] == {"films": 6, "fractured": 3, "groups": 3}


def test_a_boxs_figures_count_fractured_films_and_the_box_met_best() -> None:
    truth = films([1, 1, 0], ["a", "b", "c"], (((0, 0, 32, 32), (32, 32, 64, 64)), ((0, 0, 16, 64),), ()))
    boxes = np.array([(0.5, 0.5, 1, 1), (0, 0, 1, 1), (0, 0, 1, 1)], np.float32)
    found = figures({"box": boxes}, truth)
    assert found["mean_iou"]["value"] == pytest.approx((1 + 0.25) / 2)
    assert found["iou_from_0.3"]["value"] == 0.5


def run(folder: Path, model: str, **changes: Any) -> Path:
    interval = {"value": 0.8, "low": 0.75, "high": 0.85}
    facts: dict[str, Any] = {
        "model": model, "summary": f"what {model} is", "began_from": "ImageNet", "split": "films, fold 3",
        "image_size": 224, "parameters": 2_259_265, "multiply_adds": 300_774_272, "bytes": 9_100_000,
        "epochs": 5, "minutes": 7.96, "epoch": 4, "auroc": interval, "auprc": 0.5123,
        "sensitivity_at_specificity_0.90": 0.6,
        "validated_on": {"films": 786, "fractured": 134, "groups": 300}, **changes,
    }  # fmt: skip
    (folder / model).mkdir()
    (folder / model / "figures.json").write_text(json.dumps(facts))
    return folder / model


def test_the_table_is_made_from_the_figures_alone(tmp_path: Path) -> None:
    interval = {"value": 0.2, "low": 0.1, "high": 0.3}
    runs = [
        run(tmp_path, "flagship", multiply_adds=1_500_000_000),
        run(tmp_path, "mobilenetv2"),
        run(tmp_path, "vgg16", began_from="from scratch"),
        run(tmp_path, "box", mean_iou=interval, **{"iou_from_0.3": interval}),
    ]
    done = CliRunner().invoke(main, ["table", *map(str, runs)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split("`")[1] for line in lines[2:6]] == ["box", "vgg16", "mobilenetv2", "flagship"]
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert lines[4] == (
        "| `mobilenetv2` | ImageNet | 224 | 2.26 M | 0.30 G | 9.1 MB |"
        " AUROC 0.800 (0.750 to 0.850) | 0.512 | 0.600 | 4 of 5 | 8.0 |"
    )
    assert "| from scratch | 224 |" in lines[3]
    assert "IoU 0.200 (0.100 to 0.300)" in lines[2]
    assert "films, fold 3: 786 films, 134 with a fracture, in 300 groups that training never saw." in done.output
    other = run(tmp_path, "ann", split="films, fold 2")
    assert "0.800" in CliRunner().invoke(main, ["table", str(other)]).output
    done = CliRunner().invoke(main, ["table", *map(str, runs), str(other)])
    assert done.exit_code == 2
    assert "films, fold 2; films, fold 3" in done.output
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(main, ["table", str(tmp_path / "empty")])
    assert done.exit_code == 2
    assert "has no figures.json" in done.output
