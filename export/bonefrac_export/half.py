"""float32 ONNX -> float16 inside, for GPUs; the same uint8 in, the same float32 out."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from bonefrac_export.canonical import canonical


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and arithmetic in float16, but for what has no such kernel, by ONNX Runtime's own converter, which leaves
    the nodes out of order."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    return canonical(convert_float_to_float16(half, keep_io_types=True))
