"""Shared by the export room's tests: drawn, labelled films on disk."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Radiograph
from bonefrac.synthetic import draw_radiograph


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 drawn films in four folds, half of them fractured, as `bonefrac-train` and `bonefrac-export` read them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    with (
        open(folder / "labels.csv", "w", newline="") as labels_file,
        open(folder / "boxes.csv", "w", newline="") as boxes_file,
    ):
        labels, boxes = csv.writer(labels_file), csv.writer(boxes_file)
        labels.writerow(["image_id", "fractured", "fold", "group", "use", "hand", "leg", "hip", "shoulder"])
        boxes.writerow(["image_id", "x_min", "y_min", "x_max", "y_max"])
        for index in range(48):
            drawn = draw_radiograph(100 + index, fractured=index % 2 == 0)
            name = f"{index:02}.png"
            cv2.imwrite(str(folder / "images" / name), (drawn.pixels >> 4).astype(np.uint8))
            labels.writerow(
                [name, int(index % 2 == 0), index % 8 // 2, f"group-{index // 8}", 1, index % 3 == 0, 1, 0, 0]
            )
            if drawn.box is not None:
                boxes.writerow([name, *drawn.box])
    return folder


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    """Six drawn films as a network of 64 px sees them: uint8 (6, 64, 64, 1)."""
    spec = InputSpec(64, 64, "bilinear", "stretch")
    drawn = [draw_radiograph(seed, fractured=seed % 2 == 0).pixels for seed in range(6)]
    return np.stack([to_input(Radiograph(film, film.shape[1], film.shape[0]), spec)[0] for film in drawn])


@pytest.fixture(scope="session")
def shake() -> Callable[..., Any]:
    """shake(model, seed=0): weights, biases and batch statistics as far from a new network's as from each other."""

    def apply(model: Any, seed: int = 0) -> Any:
        rng = np.random.default_rng(seed)

        def shaken(value: NDArray[np.float32]) -> NDArray[np.float64]:
            if value.ndim == 1:
                return rng.uniform(0.2, 1.0, value.shape)
            depthwise = value.ndim == 4 and value.shape[-1] == 1 and value.shape[0] > 1
            return rng.normal(0, 1.5 / np.sqrt(value[..., 0, 0].size if depthwise else value[..., 0].size), value.shape)

        model.set_weights([shaken(np.asarray(weight)) for weight in model.get_weights()])
        return model

    return apply
