"""tune.py and tuned.py: the fastest way is measured, kept for this machine alone, and used only where all fits."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bonefrac import tune as tune_module
from bonefrac import tuned
from bonefrac.cli import batch, main
from bonefrac.errors import OutputError, UsageError
from bonefrac.machine import usable_cores
from bonefrac.model import Model, read_manifest
from bonefrac.tune import tune
from bonefrac.tuned import Profile, Way, conditions, keep_profile, load_ready, profile_path, read_profile

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def settings_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def sha256(flagship: Path) -> str:
    manifest = read_manifest(flagship)
    return manifest.precisions[manifest.default_precision].sha256


@pytest.fixture
def kept(sha256: str) -> Path:
    """A profile of one worker of two threads, four films at a time."""
    return keep_profile(Profile(conditions(sha256), Way("cpu", 1, 2, 4), 12.5))


# --- what is measured ------------------------------------------------------------------------------------------


def test_every_backend_takes_part_and_the_fastest_is_kept(flagship: Path, sha256: str) -> None:
    found = tune(flagship, seconds=0)
    devices = {way.device for way in found.rates}
    assert devices >= {"cpu"}
    assert {way.batch_size for way in found.rates if way.device == "cpu"} == {1, 4}
    assert all(way.workers * way.threads <= max(1, usable_cores()) for way in found.rates if way.device == "cpu")
    assert all(len(rates) >= 3 and min(rates) > 0 for rates in found.rates.values())
    medians = [statistics.median(rates) for rates in found.rates.values()]
    assert medians == sorted(medians, reverse=True)
    profile = read_profile(sha256)
    assert profile is not None
    assert profile.way == next(iter(found.rates))
    assert found.path == profile_path(sha256)
    if "openvino" in tune_module.installed():
        assert Way("openvino", usable_cores() + 1, 1, 1) in found.rates  # one prepares while the others' films compute


def test_a_backend_with_other_scores_takes_no_part(flagship: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    right = Model._scores

    def scores(self: Model, batch: Any) -> Any:
        found = right(self, batch)
        wrong = np.where(found.probability < 0.5, np.float32(0.1), np.float32(0))  # not the film that loading replays
        return found._replace(probability=found.probability + wrong) if self.provider == "OpenVINO" else found

    monkeypatch.setattr(Model, "_scores", scores)
    found = tune(flagship, seconds=0)
    assert {way.device for way in found.rates} == {"cpu"}
    assert all("self-test gives other scores" in why for why in found.left_out.values())
    assert any(name.startswith("openvino") for name in found.left_out)


def test_batches_that_change_a_films_scores_take_no_part(flagship: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Model._scores

    def scores(self: Model, batch: Any) -> Any:
        found = right(self, batch)
        return found._replace(probability=found.probability + np.float32(1e-6 * len(batch)))

    monkeypatch.setattr(Model, "_scores", scores)
    found = tune(flagship, seconds=0)
    assert {way.batch_size for way in found.rates} == {1}
    assert any("depend on the others in its batch" in why for why in found.left_out.values())


def test_no_backend_at_all_is_told(flagship: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_module, "installed", dict)
    with pytest.raises(UsageError, match="no backend of this machine runs it: none is installed"):
        tune(flagship, seconds=0)


def test_another_precision_is_tuned_for_those_alone_who_ask(flagship: Path, sha256: str) -> None:
    tune(flagship, precision="float32", seconds=0)
    assert read_profile(sha256) is None
    assert "not measured" in load_ready(str(flagship)).why
    assert load_ready(str(flagship), precision="float32").why.startswith("the fastest")
    assert load_ready(str(flagship)).model.precision == "int8"


# --- what is used ----------------------------------------------------------------------------------------------


def test_a_profile_that_fits_is_used(flagship: Path, kept: Path) -> None:
    ready = load_ready(str(flagship))
    assert ready.way == Way("cpu", 1, 2, 4)
    assert ready.why == (
        "the fastest that bonefrac check --tune measured on this machine: 12.5 films a second of inference alone"
    )
    assert ready.warning == ""


def test_what_is_asked_for_stands_above_the_profile(flagship: Path, kept: Path) -> None:
    asked = load_ready(str(flagship), workers=3, batch_size=2)
    assert asked.way == Way("cpu", 3, 2, 2)
    assert asked.why.startswith("workers 3 and batch 2 as was asked for; else the fastest")
    named = load_ready(str(flagship), device="cpu")
    assert named.way == Way("cpu", usable_cores(), 1, 1)
    assert named.why == "device cpu was asked for"


def test_without_a_profile_the_model_runs_in_the_usual_way(flagship: Path) -> None:
    ready = load_ready(str(flagship))
    assert ready.way == Way("auto", usable_cores(), 1, 1)
    assert "has not measured" in ready.why


@pytest.mark.parametrize("what", ["cpu", "cores", "backends", "model_sha256"])
def test_a_profile_of_other_conditions_is_not_used(flagship: Path, kept: Path, what: str) -> None:
    record = json.loads(kept.read_text())
    other = {"cpu": "another", "cores": 999, "backends": {"onnxruntime": "0.0.0"}, "model_sha256": "0"}[what]
    record["conditions"][what] = other
    kept.write_text(json.dumps(record))
    ready = load_ready(str(flagship))
    assert ready.way == Way("auto", usable_cores(), 1, 1)
    assert "not those that were measured" in ready.why


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"way": 1}', "workers", "unknown"])
def test_a_damaged_profile_is_ignored_with_a_sentence(flagship: Path, kept: Path, damage: str) -> None:
    record = json.loads(kept.read_text())
    if damage == "workers":
        record["way"]["workers"] = 0
    record |= {"more": 1} if damage == "unknown" else {}
    kept.write_text(json.dumps(record) if damage in ("workers", "unknown") else damage)
    ready = load_ready(str(flagship))
    assert ready.way == Way("auto", usable_cores(), 1, 1)
    assert str(kept) in ready.warning
    assert "damaged" in ready.warning
    assert "bonefrac check --tune" in ready.warning


def test_a_profile_that_cannot_be_written_is_told(sha256: str, settings_folder: Path) -> None:
    settings_folder.write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        keep_profile(Profile(conditions(sha256), Way("cpu", 1, 1, 1), 1.0))


# --- the commands ----------------------------------------------------------------------------------------------


def test_tune_explain_and_run_json_agree(tmp_path: Path, write_film: Any, sha256: str) -> None:
    done = CliRunner().invoke(main, ["check", "--tune", "--seconds", "0"])
    assert done.exit_code == 0, done.output
    assert str(profile_path(sha256)) in done.output
    profile = read_profile(sha256)
    assert profile is not None
    assert str(profile.way) in done.output.splitlines()[1]
    write_film(tmp_path / "xrays" / "1.jpg")
    done = CliRunner().invoke(batch, [str(tmp_path / "xrays"), "--explain"])
    assert done.exit_code == 0, done.output
    assert str(profile.way) in done.output
    assert "the fastest that bonefrac check --tune measured" in done.output
    run = json.loads((tmp_path / "xrays-results" / "run.json").read_text())
    assert Way(**{name: run["runs"][name] for name in ("device", "workers", "threads", "batch_size")}) == profile.way


def test_check_replays_on_what_batch_would_use(flagship: Path, sha256: str) -> None:
    pytest.importorskip("openvino")
    keep_profile(Profile(conditions(sha256), Way("openvino", 1, 1, 1), 12.5))
    done = CliRunner().invoke(main, ["check"])
    assert done.exit_code == 0, done.output
    assert [line.split(":")[0] for line in done.output.splitlines()] == [
        f"{Model(flagship).name} int8 on OpenVINO",
        f"{Model(flagship).name} float32 on CPUExecutionProvider",
    ]
    one = CliRunner().invoke(main, ["check", "--precision", "float32", "--device", "cpu"])
    assert one.output.count("golden samples pass") == 1


def test_tuning_one_device_is_misuse() -> None:
    done = CliRunner().invoke(main, ["check", "--tune", "--device", "cpu"])
    assert (done.exit_code, "leave --device out" in done.output) == (2, True)


def test_a_damaged_profile_is_told_at_the_terminal(tmp_path: Path, write_film: Any, kept: Path) -> None:
    kept.write_text("{")
    write_film(tmp_path / "xrays" / "1.jpg")
    done = CliRunner().invoke(batch, [str(tmp_path / "xrays"), "--quiet"])
    assert done.exit_code == 0
    assert str(kept) in done.stderr


def test_no_backend_is_imported_to_read_a_profile(kept: Path, monkeypatch: pytest.MonkeyPatch, sha256: str) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    profile = read_profile(sha256)
    assert profile is not None
    assert profile.conditions == tuned.conditions(sha256)
