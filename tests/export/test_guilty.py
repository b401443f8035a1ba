"""Which layers spoil int8 is found, and the fewest are taken back."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
import pytest

from bonefrac_export.guilty import Freed, free_fewest, layer_errors
from bonefrac_export.quantize import activation_ranges, quantize_within


def search(
    needed: Collection[str], guilty: Sequence[str], most: int = 16
) -> tuple[Freed | None, list[tuple[str, ...]]]:
    """free_fewest where a model passes as soon as all of `needed` are in float; and what it asked about."""
    asked: list[tuple[str, ...]] = []

    def make(in_float: Sequence[str]) -> onnx.ModelProto:
        return onnx.ModelProto(doc_string=",".join(in_float))

    def passes(model: onnx.ModelProto) -> bool:
        asked.append(tuple(model.doc_string.split(",")))
        return set(needed) <= set(asked[-1])

    return free_fewest(make, guilty, passes, most), asked


LAYERS = [f"layer{at:02}" for at in range(30)]


def test_nothing_is_freed_where_int8_passes() -> None:
    found, asked = search([], LAYERS)
    assert found is not None
    assert (found.layers, found.bytes_more) == ((), 0)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "needed", [["layer00"], ["layer04"], ["layer00", "layer06"], ["layer02", "layer03", "layer11"], LAYERS[:16]]
)
def test_just_the_needed_layers_are_freed(needed: list[str]) -> None:
    found, asked = search(needed, LAYERS)
    assert found is not None
    assert list(found.layers) == needed
    assert found.model.doc_string == ",".join(needed)
    assert found.bytes_more == found.model.ByteSize() - search([], LAYERS)[0].model.ByteSize() > 0  # type: ignore[union-attr]
    freed = LAYERS.index(needed[-1]) + 1
    assert len(asked) <= 3 + 2 * np.log2(freed) + freed


def test_the_limit_holds() -> None:
    assert search(["layer16"], LAYERS)[0] is None
    assert search(["layer16"], LAYERS, most=17)[0] is not None
    found, asked = search(["layer02"], LAYERS[:3], most=16)
    assert found is not None
    assert found.layers == ("layer02",)
    assert max(map(len, asked)) == 3
    assert search(["elsewhere"], LAYERS[:3])[0] is None
    assert search(["elsewhere"], [])[0] is None


def test_the_layers_about_a_coarse_tensor_are_guilty(coarse: onnx.ModelProto) -> None:
    model = coarse
    films = np.random.default_rng(1).integers(0, 256, (12, 16, 16, 1)).astype(np.uint8)
    limits = activation_ranges(model, films)

    def make(in_float: Collection[str]) -> onnx.ModelProto:
        return quantize_within(model, limits, in_float)

    errors = layer_errors(model, make, films)
    assert set(list(errors)[:2]) == {"wide", "after"}
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    assert errors["wide"] > 2 * errors["last"] > 0
