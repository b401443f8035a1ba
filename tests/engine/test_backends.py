"""backends.py: native OpenVINO computes as ONNX Runtime does; a self-check that runs beside lets no score out."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonefrac.backends import Share, installed, usual_workers
from bonefrac.errors import BundleError, UsageError
from bonefrac.machine import usable_cores
from bonefrac.model import Model

openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def on_openvino(flagship: Path) -> Model:
    return Model(flagship, device="openvino", share=Share(workers=2))


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_openvino_gives_the_golden_scores(flagship: Path, precision: str) -> None:
    """In bfloat16, which it chooses itself where the processor has that, float32 would be off by some 0.005."""
    model = Model(flagship, device="openvino", precision=precision)
    assert model.provider == "OpenVINO"
    assert model.check_golden() < (0.02 if precision == "int8" else 1e-4)


def test_openvinos_scores_do_not_depend_on_the_batch_and_are_copies(on_openvino: Model) -> None:
    films, _ = on_openvino.golden()
    together = on_openvino.predict(films)
    for i, film in enumerate(films):
        alone = on_openvino.predict(film[None])
        for ours, other in zip(together, alone, strict=True):
            assert np.array_equal(ours[i], other[0])
    again = [part.copy() for part in together]
    on_openvino.predict(films[::-1].copy())
    for ours, before in zip(together, again, strict=True):
        assert np.array_equal(ours, before)


def test_openvino_serves_many_threads_from_its_first_call(flagship: Path) -> None:
    model = Model(flagship, device="openvino", share=Share(workers=4))
    films, _ = model.golden()
    expected, start = model.predict(films), threading.Barrier(4)

    def predict(number: int) -> Any:
        start.wait(60)
        return [model.predict(film[None]).probability[0] for film in films]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(predict, range(4)):
            assert np.array_equal(found, expected.probability)


def test_openvino_computes_on_every_core_and_is_tied_to_none(flagship: Path) -> None:
    """With a worker more than cores, which prepares meanwhile, there are not more streams."""
    cores = usable_cores()
    session: Any = Model(flagship, device="openvino", share=Share(usual_workers("OpenVINO", cores)))._session
    assert session._compiled.get_property("NUM_STREAMS") == cores
    assert session._compiled.get_property("INFERENCE_NUM_THREADS") == cores
    assert session._compiled.get_property("ENABLE_CPU_PINNING") is False


def test_openvino_that_is_missing_is_told_with_what_to_type(flagship: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r'pip install "bonefrac\[openvino\]"'):
        Model(flagship, device="openvino")
    assert "openvino" not in installed()
    assert "cpu" in installed()


def test_a_self_check_that_fails_beside_lets_no_score_out(flagship: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Model.golden
    monkeypatch.setattr(Model, "golden", lambda self: (right(self)[0], right(self)[1] + 0.1))
    with ThreadPoolExecutor(1) as beside:
        model = Model(flagship, beside=beside)
        for _ in range(2):
            with pytest.raises(BundleError, match="self-test"):
                model.predict(right(model)[0])
