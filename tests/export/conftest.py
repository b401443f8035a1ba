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


@pytest.fixture(scope="session")
def coarse() -> Any:
    """Three convolutions one after another. The second one's channels have ranges as far apart as 1 and 300, and the
    third makes up for that: its input is coarse in int8."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    spread = np.geomspace(1, 300, 8)
    constants: dict[str, Any] = {
        "scale": np.float32(1 / 128), "offset": np.float32(-127 / 128), "shape": np.array([-1, 1, 16, 16], np.int64),
        "zero": np.float32(0), "six": np.float32(6),
        "first/w": rng.normal(0, 0.5, (8, 1, 3, 3)),
        "wide/w": rng.normal(0, 0.4, (8, 8, 1, 1)) * spread[:, None, None, None],
        "after/w": rng.normal(0, 0.4, (8, 8, 1, 1)) / spread[:, None, None], "last/w": rng.normal(0, 0.4, (8, 8, 1, 1)),
        "heat_logit/w": rng.normal(0, 0.4, (1, 8, 1, 1)),
    }  # fmt: skip
    names = ["first", "wide", "after", "last", "heat_logit"]
    constants |= {f"{name}/b": np.zeros(len(constants[f"{name}/w"])) for name in names}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["scaled"], "mul"),
        helper.make_node("Add", ["scaled", "offset"], ["seen"], "offset"),
        helper.make_node("Reshape", ["seen", "shape"], ["entry"], "entry"),
    ]
    source = "entry"
    for name in names:
        inputs, pads = [source, f"{name}/w", f"{name}/b"], [1, 1, 1, 1] if name == "first" else [0, 0, 0, 0]
        nodes.append(helper.make_node("Conv", inputs, [name], name, pads=pads))
        source = name
        if name in ("first", "after", "last"):
            source = f"{name}/clip"
            nodes.append(helper.make_node("Clip", [name, "zero", "six"], [source], source))
    nodes += [
        helper.make_node("ReduceMax", ["heat_logit"], ["logit"], "pool", axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], ["probability"], "probability"),
    ]
    tensors = [
        numpy_helper.from_array(np.asarray(value, np.int64 if name == "shape" else np.float32), name)
        for name, value in constants.items()
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 16, 16, 1])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph(nodes, "chain", [pixels], [probability], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
