"""graphs.py: what is kept of ONNX Runtime's optimising is whole, this machine's and this file's, or is not used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonefrac import backends, graphs
from bonefrac.model import Model

ort = pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "bonefrac" / "graphs"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each session that is opened: whether ONNX Runtime optimises its graph."""
    seen: list[bool] = []
    real = ort.InferenceSession

    def session(onnx: bytes, options: Any, providers: list[str]) -> Any:
        seen.append(options.graph_optimization_level != ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        return real(onnx, options, providers=providers)

    monkeypatch.setattr(ort, "InferenceSession", session)
    return seen


def test_the_second_start_optimises_nothing_and_scores_the_same(
    folder: Path, opened: list[bool], flagship: Path
) -> None:
    first, second = Model(flagship), Model(flagship)
    assert opened == [True, False]
    films, _ = first.golden()
    for ours, others in zip(first.predict(films), second.predict(films), strict=True):
        assert np.array_equal(ours, others)
    assert len(list(folder.iterdir())) == 1, "something else was left behind"


def spoil(data: bytearray) -> bytes:
    data[len(data) // 2] ^= 1
    return bytes(data)


@pytest.mark.parametrize("damage", [spoil, lambda data: bytes(data[:-1]), lambda data: b"", lambda data: bytes(40)])
def test_a_damaged_graph_is_made_anew(
    folder: Path, opened: list[bool], flagship: Path, damage: Callable[[bytearray], bytes]
) -> None:
    Model(flagship)
    (path,) = folder.iterdir()
    path.write_bytes(damage(bytearray(path.read_bytes())))
    assert graphs.kept(path) is None
    Model(flagship)
    assert opened == [True, True]
    assert graphs.kept(path) is not None


@pytest.mark.parametrize("what", ["cpu", "runtime", "precision"])
def test_a_graph_serves_one_processor_runtime_and_file_alone(
    folder: Path, opened: list[bool], flagship: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    Model(flagship)
    if what == "cpu":
        monkeypatch.setattr(backends, "cpu", lambda: "another processor")
    if what == "runtime":
        monkeypatch.setattr(ort, "__version__", "0.0.0")
    Model(flagship, precision="float32" if what == "precision" else "auto")
    assert opened == [True, True]


@pytest.mark.skipif(os.name != "posix", reason="permission bits of POSIX")
def test_a_folder_that_cannot_be_written_is_no_error(
    folder: Path, flagship: Path, tmp_path: Path, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    bundle = tmp_path / "bundle"  # nobody may be let into the package's own folder
    shutil.copytree(flagship, bundle)
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    with as_nobody():
        Model(bundle).check_golden()
    assert list(folder.iterdir()) == []


def test_a_file_in_the_folders_place_is_no_error(folder: Path, flagship: Path) -> None:
    folder.parent.mkdir()
    folder.write_bytes(b"")
    Model(flagship).check_golden()


def test_only_the_newest_graphs_are_kept(folder: Path) -> None:
    for number in range(12):
        graphs.keep(graphs.place(str(number)), b"graph")
        os.utime(graphs.place(str(number)), (number, number))
    assert {path.name for path in folder.iterdir()} == {graphs.place(str(number)).name for number in range(4, 12)}
