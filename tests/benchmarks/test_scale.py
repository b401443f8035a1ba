"""`bonefrac-bench scale`: real runs in folders of different sizes, with a network that does nothing."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("onnx", reason='needs the extra: pip install ".[bench]"')

from bonefrac import run
from bonefrac.model import load_model, read_manifest
from bonefrac_benchmarks import commands, peak
from bonefrac_benchmarks import scale as scale_room
from bonefrac_benchmarks.artefact import Artefact
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.films import fill
from bonefrac_benchmarks.machine import this_machine
from bonefrac_benchmarks.scale import Run, Scale, ScaleSettings


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def scale(exponent: float, mb_at_end: float = 200.0) -> Scale:
    """Runs whose time grows as told."""
    sizes, artefact = (100, 1_000, 10_000, 50_000), Artefact("drawn 1", "int8", "int8.onnx", 64 * "0")
    runs = [Run(n, n, 0.01 * n**exponent, mb_at_end if n == 50_000 else 190.0) for _ in range(3) for n in sizes]
    return Scale(ScaleSettings(Path("films")), this_machine(), artefact, tuple(runs))


def test_the_blank_network_tells_the_brightness_of_what_the_engine_feeds_it(blank: Path) -> None:
    model = load_model(str(blank), device="cpu")
    batch = np.random.default_rng(1).integers(0, 256, (3, 512, 512, 1)).astype(np.uint8)
    expected = batch[:, ::16, ::16].mean(axis=(1, 2, 3)) / 255
    assert model.predict(batch).probability == pytest.approx(expected, abs=1e-5)
    assert model.check_golden() < 1e-5
    assert read_manifest(blank).name == "blank"


@pytest.mark.parametrize(
    ("exponent", "reached"), [(1.0, True), (1.019, True), (1.03, False), (0.97, False), (2.0, False)]
)
def test_growth_is_that_of_large_folders_and_judged_both_ways(exponent: float, reached: bool) -> None:
    found = scale(exponent)
    assert found.growth is not None
    assert found.growth.value == pytest.approx(exponent)
    assert found.goals[2].reached is reached
    assert (found.goals[2].target, found.goals[0].target, found.goals[1].target) == (0.02, 350, 1.1)


def test_memory_is_compared_between_large_folders() -> None:
    assert scale(1, 190.0 * 1.09).goals[1].reached
    assert not scale(1, 190.0 * 1.11).goals[1].reached
    assert scale(1).goals[1].name == "peak memory of 50000 films / of 1000"
    assert not scale(1, 360.0).goals[0].reached


def test_the_time_of_a_run_has_the_writing_of_its_outputs_in_it(
    tmp_path: Path, xrays: Path, blank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seconds that a run tells itself end before: the page that holds them is still to be written."""
    wrote_s, write_outputs = [], run.write_outputs

    def noted(*arguments: Any, **named: Any) -> None:
        began_s = time.perf_counter()
        write_outputs(*arguments, **named)
        wrote_s.append(time.perf_counter() - began_s)

    fill(tmp_path / "films", [xrays / "0.jpg"], 2)
    fill(tmp_path / "films" / "others", [xrays / "notes.txt"], 1500)  # rows that cost next to nothing to make
    out, told = tmp_path / "out", tmp_path / "told.json"
    options = [told, tmp_path / "films", "--out", out, "--model", blank, "--device", "cpu", "--quiet"]
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr(run, "write_outputs", noted)
    monkeypatch.setattr(sys, "argv", ["bonefrac-batch", *map(str, options)])
    with pytest.raises(SystemExit):
        peak.main()
    before_s = json.loads((out / "run.json").read_text(encoding="utf-8"))["seconds"]  # rounded
    assert wrote_s[0] > 0.02
    assert json.loads(told.read_text())["seconds"] >= before_s - 0.005 + wrote_s[0]


def test_scale_takes_that_time(tmp_path: Path, xrays: Path, blank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []

    def noted(out: Path) -> dict[str, Any]:
        told.append(json.loads((out.parent / "told.json").read_text())["seconds"])
        return commands.finished_run(out)

    monkeypatch.setattr(scale_room, "finished_run", noted)
    done = bench("scale", xrays, "--model", blank, "--films", 4, "--rounds", 2, "--json", tmp_path / "scale.json")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "scale.json").read_text(encoding="utf-8"))
    assert [run["seconds"] for run in record["runs"]] == told[1:], "the first is the warm-up"
    assert record["settings"]["device"] == "cpu"
    assert f"{record['artefact']['sha256']}, on cpu\n" in done.output


def test_scale_tells_time_and_peak_of_runs_that_really_analysed(tmp_path: Path, xrays: Path) -> None:
    out = tmp_path / "scale.json"
    done = bench("scale", xrays, "--blank", "--films", 60, "--films", 8, "--rounds", 2, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [(run["films"], run["analysed"]) for run in record["runs"]] == [(8, 6), (60, 45), (8, 6), (60, 45)]
    assert all(60 < run["peak_mb"] < 4000 for run in record["runs"])  # OpenCV and ONNX Runtime alone take 60
    assert all(0 < run["seconds"] < 60 for run in record["runs"])
    assert record["growth"] is None, "folders of less than a thousand films say more of the start than of the films"
    assert "a network that does nothing" in done.output
    assert record["artefact"]["model"].startswith("blank")
    assert "highest peak memory, blank network" in done.output


def test_scale_runs_the_bundle_that_was_named(tmp_path: Path, xrays: Path, flagship: Path) -> None:
    out = tmp_path / "scale.json"
    done = bench("scale", xrays, "--films", 4, "--rounds", 1, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["artefact"]["sha256"] == hashlib.sha256((flagship / "int8.onnx").read_bytes()).hexdigest()
    assert "TOO FEW and UNSTABLE: 1 rounds, 3 needed" in done.output
