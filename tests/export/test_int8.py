"""int8 ships as it is, with the guiltiest layers in float, or not at all, and says which and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("tf2onnx", reason='needs the extra: pip install ".[export]"')

from bonefrac.errors import BonefracError
from bonefrac.model import OperatingPoints
from bonefrac_export import quantize
from bonefrac_export.bundle import _faster
from bonefrac_export.cpus import CPUS
from bonefrac_export.gates import Gate, say
from bonefrac_export.int8 import Int8, make_int8

FILMS = 60  # at one point each more than half a decision in a hundred


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (FILMS, 16, 16, 1)).astype(np.uint8)


def between(float32: onnx.ModelProto, other: onnx.ModelProto, films: np.ndarray, count: int) -> OperatingPoints:
    """Both points where `other` decides `count` films otherwise than `float32`, or more."""
    exact, found = say(float32, films).probability, say(other, films).probability
    for point in np.unique((exact + found) / 2):
        if ((exact >= point) != (found >= point)).sum() >= count:
            return OperatingPoints(float(point), float(point), "by the test")
    raise AssertionError("the two graphs decide alike everywhere")


def test_what_decides_as_float32_does_ships_as_it_is(coarse: onnx.ModelProto, films: np.ndarray) -> None:
    gate = Gate(coarse, films, None, OperatingPoints(1e-4, 1 - 1e-4, "by the test"))
    made = make_int8(coarse, films[:12], gate, "minmax", other_cpus=False)
    assert made.model is not None
    assert quantize.conversions_inside(made.model) == []
    assert "in float" not in made.story
    assert made.cpus is None


def test_the_guiltiest_layers_go_back_to_float_and_are_named_with_what_they_cost(
    coarse: onnx.ModelProto, films: np.ndarray
) -> None:
    never = Gate(coarse, films, None, OperatingPoints(1e-4, 1 - 1e-4, "by the test"))
    plain = make_int8(coarse, films[:12], never, "minmax", other_cpus=False).model
    assert plain is not None
    gate = Gate(coarse, films, None, between(coarse, plain, films, 2))
    assert gate.faults(plain)
    made = make_int8(coarse, films[:12], gate, "minmax", other_cpus=False)
    assert made.model is not None, made.story
    assert gate.faults(made.model) == []
    assert "in float wide" in made.story or "in float after" in made.story
    assert re.search(
        r"\(\d of 4 layers, [+-]\d\.\d\d MB, \d\.\d\d times as many films a second\), for without that", made.story
    )
    assert "decisions changed: " in made.story


def test_other_ranges_are_tried_before_layers_are_freed(coarse: onnx.ModelProto, films: np.ndarray) -> None:
    """The gate asks for what int8 with the ranges of another method says."""
    never = Gate(coarse, films, None, OperatingPoints(1e-4, 1 - 1e-4, "by the test"))
    minmax, entropy = (make_int8(coarse, films[:12], never, n, other_cpus=False).model for n in ("minmax", "entropy"))
    assert minmax is not None
    assert entropy is not None
    gate = Gate(entropy, films, None, between(entropy, minmax, films, 2))
    made = make_int8(coarse, films[:12], gate, "minmax", other_cpus=False)
    assert made.model is not None
    assert "ranges by entropy, for with minmax decisions changed: " in made.story
    assert "in float" not in made.story


def test_what_no_layer_mends_is_left_out_with_the_reason(
    coarse: onnx.ModelProto, films: np.ndarray, shaken: Callable[[onnx.ModelProto], onnx.ModelProto]
) -> None:
    """The gate asks for what another network says."""
    other = shaken(coarse)
    gate = Gate(other, films, None, between(other, coarse, films, 5))
    made = make_int8(coarse, films[:12], gate, "minmax", other_cpus=False)
    assert made.model is None
    assert made.story.startswith("left out: decisions changed: ")
    assert made.story.endswith("no other ranges and no few layers in float mend that")


def test_int8_that_another_processor_reads_otherwise_is_left_out(
    coarse: onnx.ModelProto, films: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the emulator computes with every film inverted."""
    fake = tmp_path / "qemu-x86_64"
    turn = "import sys, numpy; numpy.save(sys.argv[1], 255 - numpy.load(sys.argv[1]))"
    fake.write_text(f'#!/bin/sh\nshift 2\n"$1" -c "{turn}" "$5"\nexec "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setattr("bonefrac_export.cpus.emulator", lambda: str(fake))
    gate = Gate(coarse, films, None, OperatingPoints(1e-4, 1 - 1e-4, "by the test"))
    made = make_int8(coarse, films[:12], gate, "minmax")
    assert made.model is None
    assert made.cpus is not None
    assert {cpu.cpu for cpu in made.cpus} == set(CPUS)
    for name in CPUS:
        assert f"on {name}: probabilities differ by at most" in made.story


def test_a_graph_that_cannot_be_quantized_is_left_out_with_what_was_wrong(
    coarse: onnx.ModelProto, films: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise BonefracError("conversions were left inside: relu_3")

    monkeypatch.setattr("bonefrac_export.int8.quantize_within", fail)
    gate = Gate(coarse, films, None, OperatingPoints(0.1, 0.9, "by the test"))
    assert make_int8(coarse, films[:12], gate, "minmax") == Int8(None, "left out: conversions were left inside: relu_3")


@pytest.mark.parametrize(("times", "default"), [(1.2, "int8"), (1.05, "float32"), (0.8, "float32")])
def test_int8_that_is_not_worth_it_is_not_the_default(times: float, default: str, manifest: Any) -> None:
    seconds = {"float32": np.full(9, 0.1) * times, "int8": np.full(9, 0.1)}
    said = _faster(manifest, seconds)
    assert said.default_precision == default
    assert f"{times:.2f} " in said.figures["films a second, int8 against float32"]
    assert ("default" in said.figures) == (default == "float32")
    assert _faster(manifest, {"float32": np.full(9, 0.1)}) == manifest


@pytest.fixture
def manifest() -> Any:
    from bonefrac.model import find_bundle, read_manifest

    return read_manifest(find_bundle("flagship"))


@pytest.fixture(scope="module")
def shaken() -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    def shake(model: onnx.ModelProto) -> onnx.ModelProto:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        for tensor in other.graph.initializer:
            if tensor.name.startswith("last/"):
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
        return other

    return shake
