"""The class activation map in closed form: nodes of the graph, no gradient at run time.

Grad-CAM (Selvaraju et al., ICCV 2017) of the logit z of "fractured" on the last feature map A (N, C, h, w):
relu(sum_k a_k A_k), where a_k is the mean of dz/dA_k over the cells. Behind A come only pooling or flattening and dense
layers, whose derivative is walked back here: a constant as long as nothing is switched on the way; then all is one 1x1
convolution (Zhou et al., CVPR 2016). A ReLU on the way is a comparison, its input above 0.

The map is divided by one constant, the peak that all but few films stay below, never by a film's own: noise on a clean
film shall not look like a finding.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bonefrac_export.graph import Graph, attribute, without_unused
from bonefrac_export.heads import Head

_PEAK = 0.99  # of the films have their map's peak at or below 1
_MAP = "heat_logit_cam"  # begins the names of what is added: quantization leaves what is called heat_logit in float
_RENAMES = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "AveragePool", "MaxPool")

Values = NDArray[np.float32]
Slope = Values | str  # of the logit in a layer of n values: constant (1, n), or a tensor's name (N, n)


def with_class_activation(model: onnx.ModelProto, head: Head, films: NDArray[np.uint8]) -> onnx.ModelProto:
    """The model with an output `heatmap` float32 (N, h, w) in [0, 1] instead of `scores`. As it is but for `scores`
    where it has a heat map already, or where no single feature map meets the scores through pooling or flattening and
    dense layers.

    `films` uint8 (n, height, width, 1) set the constant that the map is divided by.
    """
    if any(output.name == "heatmap" for output in model.graph.output):
        return _without_scores(model)
    raw = _with_map(model, head, None)
    if raw is None:
        return _without_scores(model)
    highest = float(np.quantile(_peaks(raw, films), _PEAK, method="lower"))
    return _without_scores(_with_map(model, head, highest if highest > 0 else 1.0) or model)


def _without_scores(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.output.remove(next(output for output in model.graph.output if output.name == "scores"))
    return without_unused(model)


def _peaks(model: onnx.ModelProto, films: NDArray[np.uint8]) -> Values:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.array([session.run(["heatmap"], {"pixels": film[None]})[0].max() for film in films], np.float32)


def _with_map(model: onnx.ModelProto, head: Head, highest: float | None) -> onnx.ModelProto | None:
    """A copy with the output `heatmap`, divided by `highest` and cut at 1 where that is given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    walk = _Walk(Graph(copy))
    features = walk.to_features("scores", walk.first(head)) if head.ending != "probability" else None
    if features is None:
        return None
    graph, (rows, columns) = walk.graph, walk.graph.shape(features[0])[2:]
    heat = _weighted_sum(graph, *features, 1 / (highest or 1.0))
    bounds = [0] if highest is None else [0, 1]
    limits = [graph.add_constant(f"{_MAP}_bound_{bound}", np.array(bound, np.float32)) for bound in bounds]
    heat = graph.add("Clip", [heat, *limits], f"{_MAP}_clip")
    graph.add("Reshape", [heat, graph.add_constant(f"{_MAP}_shape", np.array([-1, rows, columns]))], "heatmap")
    copy.graph.output.append(helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["N", rows, columns]))
    onnx.checker.check_model(copy, full_check=True)
    return copy


def _weighted_sum(graph: Graph, features: str, slope: Slope, factor: float) -> str:
    """sum_k slope_k A_k * factor, over the channels of (N, C, h, w)."""
    if not isinstance(slope, str):
        kernel = graph.add_constant(f"{_MAP}_kernel", (slope * factor).reshape(1, -1, 1, 1).astype(np.float32))
        return graph.add("Conv", [features, kernel], f"{_MAP}_sum")
    row = graph.add("Unsqueeze", [slope, graph.add_constant(f"{_MAP}_axis", np.array([1]))], f"{_MAP}_row")
    cells = graph.add("Reshape", [features, graph.add_constant(f"{_MAP}_flat", np.array([0, 0, -1]))], f"{_MAP}_cells")
    total = graph.add("MatMul", [row, cells], f"{_MAP}_total")
    return graph.add("Mul", [total, graph.add_constant(f"{_MAP}_factor", np.array(factor, np.float32))], f"{_MAP}_sum")


class _Walk:
    """From the scores back to the feature map, the logit's derivative at hand; adds nodes where it is no constant."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._count = 0

    def first(self, head: Head) -> Slope:
        """The logit's derivative in the scores (see `heads`)."""
        if head.width == 1:
            return np.array([[1.0 if head.positive else -1.0]], np.float32)
        unit = np.eye(head.width, dtype=np.float32)
        if head.ending == "sigmoid":
            return unit[head.positive : head.positive + 1]
        others = np.delete(np.arange(head.width), head.positive)
        if len(others) == 1:
            return unit[[head.positive]] - unit[others]
        rest = self._add("Gather", ["scores", self._constant(others)], axis=1)
        shares = self._add("MatMul", [self._add("Softmax", [rest], axis=1), self._constant(-unit[others])])
        return self._add("Add", [shares, self._constant(unit[[head.positive]])])

    def to_features(self, tensor: str, slope: Slope) -> tuple[str, Slope] | None:
        """The feature map (N, C, h, w) and the derivative in it, its mean over the cells; None where there is none."""
        while (node := self.graph.maker(tensor)) is not None:
            read = node.input[:1] if node.op_type in _RENAMES else node.input  # a new shape may be computed
            varying = [name for name in read if name and self.graph.constant(name) is None]
            if len(varying) != 1:
                return None
            tensor, shape = varying[0], self.graph.shape(varying[0])
            cells = int(np.prod(shape[2:])) if len(shape) == 4 else 1
            if node.op_type in _POOLS or (node.op_type in _RENAMES and cells > 1):
                return self._at_features(node, tensor, slope)
            if node.op_type not in _RENAMES:
                before = self._through(node, tensor, slope)
                if before is None:
                    return None
                slope = before
        return None

    def _at_features(self, node: onnx.NodeProto, tensor: str, slope: Slope) -> tuple[str, Slope] | None:
        shape, after, before = self.graph.shape(tensor), self.graph.shape(node.output[0]), self.graph.maker(tensor)
        if len(shape) != 4 or not all(shape[1:]) or not self._seen_by_convolution(tensor):
            return None
        _, channels, rows, columns = shape
        if rows * columns == 1 or (before is not None and before.op_type == "Transpose"):
            return None
        if node.op_type in _RENAMES:
            return (tensor, self._mean_of_cells(slope, channels, rows * columns)) if len(after) == 2 else None
        whole = after[1:] in ((channels,), (channels, 1, 1)) and attribute(node, "axes", [2, 3]) in ([2, 3], [-2, -1])
        return (tensor, self._times(slope, np.float32(1 / (rows * columns)))) if whole else None

    def _through(self, node: onnx.NodeProto, tensor: str, slope: Slope) -> Slope | None:
        """The derivative before a layer of the head, from that behind it."""
        constants = [np.asarray(value, np.float32) for name in node.input
                     if (value := self.graph.constant(name)) is not None]  # fmt: skip
        match node.op_type:
            case "MatMul" if node.input[0] == tensor and constants[0].ndim == 2:
                return self._matmul(slope, constants[0].T)
            case "Conv" if self.graph.shape(tensor)[2:] == (1, 1) and constants[0].shape[2:] == (1, 1):
                return self._matmul(slope, constants[0][:, :, 0, 0]) if attribute(node, "group", 1) == 1 else None
            case "Add":
                return slope
            case "Sub":
                return slope if node.input[0] == tensor else self._times(slope, np.float32(-1))
            case "Mul":
                return self._times(slope, constants[0].reshape(1, -1))
            case "Div" if node.input[0] == tensor:
                return self._times(slope, np.reciprocal(constants[0]).reshape(1, -1))
            case "Relu":
                return self._times(slope, self._where("Greater", tensor, np.zeros(1, np.float32)))
            case "Max" if constants[0].size == 1:
                return self._times(slope, self._where("Greater", tensor, constants[0]))
            case "Min" if constants[0].size == 1:
                return self._times(slope, self._where("Less", tensor, constants[0]))
            case "Clip" if len(constants) == 2:
                above = self._times(slope, self._where("Greater", tensor, constants[0]))
                return self._times(above, self._where("Less", tensor, constants[1]))
        return None

    def _where(self, kind: str, tensor: str, bound: Values) -> str:
        """1 where a value is greater or less than the bound, 0 elsewhere: (N, n)."""
        gate = self._add(kind, [self._add("Flatten", [tensor]), self._constant(bound.reshape(()))])
        return self._add("Cast", [gate], to=TensorProto.FLOAT)

    def _times(self, slope: Slope, other: Values | np.float32 | str) -> Slope:
        if isinstance(slope, str) or isinstance(other, str):
            return self._add("Mul", [self._name(slope), self._name(other)])
        return np.asarray(slope * other, np.float32)

    def _matmul(self, slope: Slope, weights: Values) -> Slope:
        if isinstance(slope, str):
            return self._add("MatMul", [slope, self._constant(weights)])
        return np.asarray(slope @ weights, np.float32)

    def _mean_of_cells(self, slope: Slope, channels: int, cells: int) -> Slope:
        if isinstance(slope, str):
            by_cell = self._add("Reshape", [slope, self._constant(np.array([0, channels, cells]))])
            return self._add("ReduceMean", [by_cell], axes=[2], keepdims=0)
        return slope.reshape(1, channels, cells).mean(axis=2)

    def _seen_by_convolution(self, tensor: str) -> bool:
        """Does the map come from a convolution? Pixels are no feature map."""
        ahead, seen = [tensor], {tensor}
        while ahead:
            node = self.graph.maker(ahead.pop())
            if node is not None and node.op_type == "Conv":
                return True
            ahead += [name for name in node.input if name not in seen] if node is not None else []
            seen.update(ahead)
        return False

    def _name(self, value: Values | np.float32 | str) -> str:
        return value if isinstance(value, str) else self._constant(np.asarray(value))

    def _constant(self, values: NDArray[np.generic]) -> str:
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        self._count += 1
        return self.graph.add_constant(f"{_MAP}_constant_{self._count}", values)

    def _add(self, kind: str, inputs: list[str], **attributes: object) -> str:
        self._count += 1
        return self.graph.add(kind, inputs, f"{_MAP}_{kind.lower()}_{self._count}", **attributes)
