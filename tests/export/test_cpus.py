"""Other processors: what is compared, what happens without an emulator, and one that saturates where this does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bonefrac.errors import BonefracError
from bonefrac_export import cpus
from bonefrac_export.cpus import compared, emulator, on_other_cpus, probabilities

needs_emulator = pytest.mark.skipif(emulator() is None, reason="there is no qemu-x86_64 here")


def test_differences_and_flips_are_counted() -> None:
    here = np.array([0.10, 0.49, 0.50, 0.90], np.float32)
    there = np.array([0.10, 0.51, 0.50, 0.87], np.float32)
    found = compared("SSE", here, there, {"low": 0.3, "middle": 0.5, "high": 0.9})
    assert (found.cpu, found.films) == ("SSE", 4)
    assert found.difference == pytest.approx(0.03, abs=1e-6)
    assert found.flips == {"low": [], "middle": [1], "high": [3]}
    assert compared("SSE", here[:0], here[:0], {"low": 0.3}).difference == 0


def test_without_an_emulator_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert emulator() is None
    assert on_other_cpus(product(), films(), {}) is None


def test_on_a_machine_of_another_kind_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus.platform, "machine", lambda: "arm64")
    assert emulator() is None


def test_the_child_computes_what_this_process_computes() -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(product().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(["probability"], {"pixels": films()})[0]
    found = probabilities(product(), films())
    assert found == pytest.approx(expected, abs=1e-6)
    assert np.ptp(found) > 0


def test_what_the_child_says_reaches_the_person() -> None:
    broken = product()
    del broken.graph.initializer[:]
    with pytest.raises(BonefracError, match=r"does not run on a CPU \(this machine's\): .*\w"):
        probabilities(broken, films())


def films() -> Any:
    return np.array([[255, 255, 255, 255], [255, 255, 0, 0], [1, 2, 3, 4]], np.uint8).reshape(3, 2, 2, 1)


def product(weight: int = 127) -> onnx.ModelProto:
    """sigmoid of a sum of four pixels times `weight` in int8, which ONNX Runtime makes one integer product: two of them
    of 255 do not fit into 16 bits with 127, and do with 64."""
    constants: dict[str, Any] = {
        "scale": np.array(1 / 255, np.float32), "zero": np.array(0, np.uint8),
        "weight_scale": np.array(1 / weight, np.float32), "weight_zero": np.array(0, np.int8),
        "weights": np.full((4, 1), weight, np.int8), "shape": np.array([-1, 4], np.int64),
        "flat": np.array([-1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Reshape", ["pixels", "shape"], ["rows"]),
        helper.make_node("MatMulInteger", ["rows", "weights", "zero", "weight_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "weight_scale"], ["logits"]),
        helper.make_node("Reshape", ["logits", "flat"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 2, 2, 1])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", [pixels], [probability], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@needs_emulator
def test_a_processor_without_vnni_saturates_what_7_bits_do_not() -> None:
    whole = on_other_cpus(product(127), films(), {"point": 0.97}, {"AVX2": "Haswell-noTSX"})
    reduced = on_other_cpus(product(64), films(), {"point": 0.97}, {"AVX2": "Haswell-noTSX"})
    assert whole is not None
    assert reduced is not None
    assert whole[0].difference > 0.001
    assert whole[0].flips == {"point": [0]}
    assert reduced[0].difference < 1e-5
    assert reduced[0].flips == {"point": []}


@needs_emulator
def test_an_emulator_that_does_not_know_the_processor_is_no_result() -> None:
    with pytest.raises(BonefracError, match=r"does not run on a CPU \(no-such\)"):
        on_other_cpus(product(), films(), {}, {"odd": "no-such"})


def test_libraries_are_not_told_to_take_this_machines_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for the emulator shows what it is started with."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "SkylakeX")
    shown = tmp_path / "shown"
    fake = tmp_path / "qemu"
    fake.write_text(f'#!/bin/sh\necho "$1 $2 ${{OPENBLAS_CORETYPE:-none}}" > {shown}\nshift 2\nexec "$@"\n')
    fake.chmod(0o755)
    probabilities(product(), films(), str(fake), "Nehalem")
    assert shown.read_text().split() == ["-cpu", "Nehalem", "none"]
