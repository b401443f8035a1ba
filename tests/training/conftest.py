"""A small collection of drawn films, for all tests of the training room."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from bonefrac.synthetic import draw_radiograph

if TYPE_CHECKING:
    from bonefrac_training.fit import FitSettings


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 small drawn films, every other one fractured, in the folds 0 (32) and 3 (8), and one not to be used."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "images").mkdir()
    with open(folder / "labels.csv", "w", newline="") as labels, open(folder / "boxes.csv", "w", newline="") as boxes:
        rows, places = csv.writer(labels), csv.writer(boxes)
        rows.writerow(["image_id", "fractured", "fold", "group", "use", "hand"])
        places.writerow(["image_id", "x_min", "y_min", "x_max", "y_max"])
        for index in range(41):
            fractured = index % 2 == 0
            drawn = draw_radiograph(index, fractured=fractured, height=250, width=190)
            cv2.imwrite(str(folder / "images" / f"{index}.png"), (drawn.pixels >> 4).astype(np.uint8))
            rows.writerow(
                [f"{index}.png", int(fractured), 3 if index >= 32 else 0, f"g{index // 4}", int(index < 40), 1]
            )
            if drawn.box:
                places.writerow([f"{index}.png", *drawn.box])
    return folder


@pytest.fixture
def settings(collection: Path, tmp_path: Path) -> FitSettings:
    """A run of `cnn` of seconds: 2 epochs of 4 steps."""
    from bonefrac_training.fit import FitSettings

    return FitSettings(collection, tmp_path / "run", model="cnn", image_size=64, epochs=2, batch_size=8)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tracing, which takes half a minute for a deep network."""
    from bonefrac_training import trainer

    compile_for = trainer.compile_for

    def compile_eagerly(model: Any, *rest: Any) -> None:
        compile_for(model, *rest)
        model.run_eagerly = True

    monkeypatch.setattr(trainer, "compile_for", compile_eagerly)
