"""gpu.py, on a GPU that the CPU plays: ONNX Runtime's own binding and arithmetic, under another provider's name."""

from __future__ import annotations

import csv
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bonefrac import gpu
from bonefrac.cli import batch
from bonefrac.errors import UsageError
from bonefrac.gpu import FILMS
from bonefrac.machine import usable_cores
from bonefrac.model import Model
from bonefrac.synthetic import draw_radiograph
from bonefrac.tune import tune
from bonefrac.tuned import load_ready

ort: Any = pytest.importorskip("onnxruntime")

CUDA = "CUDAExecutionProvider"


class PlayedGpu(ort.InferenceSession):
    """A CPU's session that says it is a GPU's, and notes by whom and with how many films it is called."""

    feeders: set[str]
    batches: list[int]
    refuses = 0  # so many calls fail first
    asked: list[Any]

    def __init__(self, onnx: bytes, options: Any, providers: list[Any]) -> None:
        self._played = providers[0][0] != "CPUExecutionProvider"
        if self._played:
            self.asked.append(providers[0])
        super().__init__(onnx, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return [CUDA, "CPUExecutionProvider"] if getattr(self, "_played", False) else super().get_providers()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        assert not self._played, "a GPU is called through its binding alone"
        return super().run(*args, **kwargs)

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        self.feeders.add(threading.current_thread().name)
        self.batches.append(iobinding._bound_inputs["pixels"].shape()[0])
        if PlayedGpu.refuses:
            PlayedGpu.refuses -= 1
            raise RuntimeError("CUDA failure 2: out of memory\nat line 1")
        super().run_with_iobinding(iobinding, run_options)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[PlayedGpu]:
    monkeypatch.setattr(ort, "InferenceSession", PlayedGpu)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(gpu, "_MEMORY", "cpu")
    for name, empty in (("feeders", set()), ("batches", []), ("asked", []), ("refuses", 0)):
        monkeypatch.setattr(PlayedGpu, name, empty, raising=False)
    return PlayedGpu


def test_scores_do_not_depend_on_how_many_films_came_together(
    played: type[PlayedGpu], flagship: Path, model: Model
) -> None:
    """Any cut of the films into calls, from any number of threads, gives each film the scores it has alone."""
    on_gpu = Model(flagship, device="cuda")
    assert on_gpu.provider == CUDA
    golden, _ = on_gpu.golden()
    films = np.concatenate([golden, golden[:, ::-1], golden[:, :, ::-1]])
    expected = model.predict(films)

    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.integers(1, FILMS + 3), min_size=1, max_size=4), st.integers(1, 4))
    def holds(sizes: list[int], workers: int) -> None:
        starts = np.cumsum([0, *sizes])
        calls = [np.arange(i, i + size) % len(films) for i, size in zip(starts, sizes, strict=False)]
        with ThreadPoolExecutor(workers) as pool:
            for call, found in zip(calls, pool.map(lambda call: on_gpu.predict(films[call]), calls), strict=True):
                for ours, theirs in zip(found, expected, strict=True):
                    assert np.array_equal(ours, theirs[call])

    holds()
    assert set(played.batches) == {FILMS}
    assert len(played.feeders) == 1


def test_what_makes_scores_uncertain_is_switched_off(played: type[PlayedGpu], flagship: Path) -> None:
    Model(flagship, device="cuda")
    ((name, options),) = played.asked
    assert name == CUDA
    assert options == {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


def test_auto_takes_a_gpu_that_works_with_workers_that_decode_while_others_wait(
    played: type[PlayedGpu], flagship: Path
) -> None:
    ready = load_ready(str(flagship))
    assert ready.model.provider == CUDA
    assert (ready.way.workers, ready.way.batch_size) == (2 * usable_cores(), FILMS)


def test_a_folder_gives_the_same_rows(played: type[PlayedGpu], flagship: Path, tmp_path: Path) -> None:
    folder = tmp_path / "xrays"
    folder.mkdir()
    for i in range(FILMS + 5):
        assert cv2.imwrite(str(folder / f"{i:02}.png"), draw_radiograph(i, fractured=i % 2 == 0).pixels)
    (folder / "cut.png").write_bytes((folder / "00.png").read_bytes()[:2000])
    rows = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        done = CliRunner().invoke(batch, [str(folder), "--out", str(out), "--model", str(flagship), "--device", device])
        assert done.exit_code == 1, done.output  # the file that was cut
        with open(out / "results.csv", newline="") as file:
            rows[device] = list(csv.DictReader(file))
    assert len(rows["cuda"]) == FILMS + 6
    assert rows["cuda"] == rows["cpu"]
    assert set(played.batches) == {FILMS}


def test_a_gpu_that_stops_is_one_sentence_and_holds_no_batch_back(played: type[PlayedGpu], flagship: Path) -> None:
    on_gpu = Model(flagship, device="cuda")
    films, _ = on_gpu.golden()
    expected = on_gpu.predict(films).probability
    played.refuses = 7
    for _ in range(7):  # more often than there are batches of memory
        with pytest.raises(UsageError, match=r"^the GPU stopped .*: CUDA failure 2: out of memory; .*--device cpu$"):
            on_gpu.predict(films)
    assert np.array_equal(on_gpu.predict(films).probability, expected)


def test_tuning_tries_a_gpu_with_its_one_batch(
    played: type[PlayedGpu], flagship: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ways = [way for way in tune(flagship, seconds=0).rates if way.device == "cuda"]
    assert [(way.workers, way.batch_size) for way in ways] == [(2 * usable_cores(), FILMS)]


class PlayedDirectMl(ort.InferenceSession):
    """A CPU's session that says it is DirectML's, which takes one call at a time and no memory pattern."""

    inside = 0

    def __init__(self, onnx: bytes, options: Any, providers: list[Any]) -> None:
        assert providers == ["DmlExecutionProvider"]
        assert not options.enable_mem_pattern
        super().__init__(onnx, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return ["DmlExecutionProvider", "CPUExecutionProvider"]

    def run(self, *args: Any, **kwargs: Any) -> Any:
        PlayedDirectMl.inside += 1
        assert PlayedDirectMl.inside == 1
        found = super().run(*args, **kwargs)
        PlayedDirectMl.inside -= 1
        return found


def test_directml_is_called_by_one_worker_at_a_time(monkeypatch: pytest.MonkeyPatch, flagship: Path) -> None:
    monkeypatch.setattr(ort, "InferenceSession", PlayedDirectMl)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["DmlExecutionProvider", "CPUExecutionProvider"])
    on_directml = Model(flagship, device="directml")
    films, _ = on_directml.golden()
    expected = on_directml.predict(films).probability
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(on_directml.predict, [films] * 8):
            assert np.array_equal(found.probability, expected)
