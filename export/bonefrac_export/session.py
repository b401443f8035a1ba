"""A graph ready to compute as the engine computes it on a CPU: one thread, and no words."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime as ort


def one_thread(model: onnx.ModelProto) -> Any:
    """ONNX Runtime's session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
