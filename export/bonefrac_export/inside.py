"""What a network computes on the way: tensors inside its graph, film by film."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper


def inside(
    model: onnx.ModelProto, tensors: Collection[str], films: NDArray[np.uint8]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The float32 `tensors` of `model` by name, for each of `films`, uint8 (n, height, width, 1), a batch of one each.

    The graph is computed as it is written: nothing is fused, or tensors would be gone.
    """
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names, entry = list(tensors), session.get_inputs()[0].name
    for film in films:
        yield dict(zip(names, session.run(names, {entry: film[None]}), strict=True))
