"""The int8 graph that passes the gates, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from bonefrac.errors import BonefracError
from bonefrac_export.calibration import Method
from bonefrac_export.cpus import OtherCpu, on_other_cpus
from bonefrac_export.gates import Check, Gate, cpu_checks
from bonefrac_export.guilty import Freed, Make, free_fewest, layer_errors
from bonefrac_export.quantizable import quantizable
from bonefrac_export.quantize import activation_ranges, layers, quantize_within, rounded_weights
from bonefrac_export.session import one_thread
from bonefrac_export.speed import TIMED, interleaved, times_faster

ON_CPUS = 64  # films that other processors are given: they are emulated, and slow
_ASKED = 6  # films that tell which layer is guilty: each layer is tried on all of them


@dataclass(frozen=True)
class Int8:
    """`model` None: there is none that holds what it must. `story`: how it was made, or why it was not, in words;
    `cpus`: what other processors make of it, None where that was not checked."""

    model: onnx.ModelProto | None
    story: str
    cpus: list[OtherCpu] | None = None


def make_int8(
    float32: onnx.ModelProto, calibration: NDArray[np.uint8], gate: Gate, method: Method, *, other_cpus: bool = True
) -> Int8:
    """Quantize, calibrated on `calibration` uint8 (n, height, width, 1), until the `gate` holds: with the ranges of
    `method`, or of another method, or with the fewest of the guiltiest layers in float. Weights are such that no CPU
    saturates (`reduce_range`)."""
    if not any(node.op_type == "Conv" for node in float32.graph.node):
        return Int8(None, "left out, for the network has no convolution")
    try:
        model, story = _gated(quantizable(float32), calibration, gate, method)
        others = on_other_cpus(model, gate.some(ON_CPUS), gate.limits(model)) if other_cpus else None
    except BonefracError as error:
        return Int8(None, f"left out: {error}")
    if bad := [check for check in cpu_checks(others) if not check.holds]:
        return Int8(None, f"left out: {_words(bad)}", others)
    return Int8(
        model, f"static QDQ per channel, weights rounded by GPTQ so that no pair saturates 16 bits, {story}", others
    )


def _gated(
    graph: onnx.ModelProto, calibration: NDArray[np.uint8], gate: Gate, method: Method
) -> tuple[onnx.ModelProto, str]:
    """The first that the gate lets pass, and how its ranges were found. Raises BonefracError where none does."""
    weights = rounded_weights(graph, calibration, reduce_range=True)

    def with_ranges(method: Method) -> Make:
        ranges = activation_ranges(graph, calibration, method)
        return partial(quantize_within, graph, ranges, reduce_range=True, weights=weights)

    make = with_ranges(method)
    plain = make(())
    if not (faults := gate.faults(plain)):
        return plain, f"ranges by {method}"
    for other in get_args(Method):
        if other != method and not gate.faults(model := with_ranges(other)(())):
            return model, f"ranges by {other}, for with {method} {_words(faults)}"
    freed = _freed(graph, make, gate, calibration)
    if freed is None:
        raise BonefracError(f"{_words(faults)}; no other ranges and no few layers in float mend that")
    return freed.model, f"ranges by {method}; {_cost(plain, freed, len(layers(graph)), faults, calibration)}"


def _freed(graph: onnx.ModelProto, make: Make, gate: Gate, calibration: NDArray[np.uint8]) -> Freed | None:
    guilty = layer_errors(graph, make, calibration[:: max(1, len(calibration) // _ASKED)][:_ASKED])
    return free_fewest(make, list(guilty), lambda model: not gate.faults(model))


def _words(checks: list[Check]) -> str:
    return "; ".join(map(str, checks))


def _cost(plain: onnx.ModelProto, freed: Freed, of: int, faults: list[Check], films: NDArray[np.uint8]) -> str:
    sessions = {"plain": one_thread(plain), "freed": one_thread(freed.model)}

    def predict(name: str, films: NDArray[np.uint8]) -> None:
        sessions[name].run(["probability"], {"pixels": films})

    seconds = interleaved({name: partial(predict, name) for name in sessions}, films[:TIMED])
    return (
        f"in float {', '.join(freed.layers)} ({len(freed.layers)} of {of} layers, {freed.bytes_more / 1e6:+.2f} MB,"
        f" {times_faster(seconds['plain'], seconds['freed']).value:.2f} times as many films a second), for without that"
        f" {_words(faults)}"
    )
