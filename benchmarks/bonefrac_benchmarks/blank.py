"""A bundle whose network does next to nothing: what is measured with it is all that stands round a network.

A network of 20 ms a film hides whether listing, journal or report grow faster than the films do; without it ten times
as many films are looked at in the same time. Its answers mean nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from bonefrac.model import Manifest
from bonefrac.synthetic import draw_radiograph

NAME = "blank"
_STEP = 16  # every so many-th pixel in either direction is looked at
_OPSET = 17
_GOLDEN = 4  # drawn films


def make_blank(folder: Path, like: Manifest) -> Path:
    """Write a bundle that takes films as `like` does and calls their mean brightness a probability; returns
    `folder`."""
    folder.mkdir(parents=True)
    network = _network(like.input.height, like.input.width)
    (folder / "float32.onnx").write_bytes(network)
    size = {"height": like.input.height, "width": like.input.width}
    drawn = np.stack([draw_radiograph(seed, fractured=True, **size).pixels for seed in range(_GOLDEN)])
    pixels = (drawn >> 4).astype(np.uint8)[..., None]
    probability = pixels[:, ::_STEP, ::_STEP].astype(np.float32).mean(axis=(1, 2, 3)) / np.float32(255)
    np.savez(folder / "golden.npz", pixels=pixels, float32=probability)
    manifest = {
        **asdict(like),
        "name": NAME,
        "precisions": {"float32": _entry(folder / "float32.onnx")},
        "default_precision": "float32",
        "operating_points": {"sensitive": 0.25, "specific": 0.35, "chosen_on": "nothing: its answers mean nothing"},
        "familiarity_limit": 0.0,
        "golden": _entry(folder / "golden.npz"),
        "figures": {},
        "limits": ["The network does nothing: it is there to measure what stands round a network."],
        "made_with": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _network(height: int, width: int) -> bytes:
    """`pixels` uint8 (N, height, width, 1) -> `probability` float32 (N,): the mean of some pixels over 255."""
    constants = {"start": [0, 0], "end": [height, width], "axes": [1, 2], "step": [_STEP, _STEP]}
    nodes = [
        helper.make_node("Slice", ["pixels", "start", "end", "axes", "step"], ["some"]),
        helper.make_node("Cast", ["some"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["grey"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes, NAME,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", height, width, 1])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
        [
            *(helper.make_tensor(name, TensorProto.INT64, [2], values) for name, values in constants.items()),
            helper.make_tensor("white", TensorProto.FLOAT, [], [255.0]),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _entry(file: Path) -> dict[str, str]:
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
