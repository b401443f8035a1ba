"""`bonefrac-bench peers`: other engines on the same films, what they compute, and who is left out or refused."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("onnx", reason='needs the extra: pip install ".[bench]"')

from bonefrac.errors import UsageError
from bonefrac.model import load_model, read_manifest
from bonefrac_benchmarks import engines, peers_run
from bonefrac_benchmarks.artefact import artefact
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.figures import Spread
from bonefrac_benchmarks.installs import install_mb, missing
from bonefrac_benchmarks.machine import this_machine
from bonefrac_benchmarks.peers import Job, Measure, Window, naive_float32, naive_input, pipeline, timed
from bonefrac_benchmarks.peers_run import KERAS_LOOP, RIVALS, Peers, PeersSettings, Rival, Standing, apart
from bonefrac_benchmarks.processes import started

OURS, OPENVINO = "bonefrac", "OpenVINO, int8"


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def films(xrays: Path) -> tuple[Path, ...]:
    return tuple(sorted(xrays.glob("*.jpg")))


def exact(job: Job, precision: str) -> np.ndarray[Any, Any]:
    return peers_run._probabilities(job.films, job.model, precision, read_manifest(job.model).input)


@pytest.fixture(scope="module")
def keras_twin(tmp_path_factory: pytest.TempPathFactory, blank: Path) -> tuple[Path, Path]:
    """The blank network as a Keras file, as a logit and scaled by a calibration, and a bundle that says it was made
    from it."""
    keras = pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"')
    pixels = keras.Input((512, 512, 1), dtype="uint8")
    mean = keras.ops.mean(keras.ops.cast(pixels[:, ::16, ::16], "float32"), axis=(1, 2, 3)) / 255
    logit = -0.5 * (keras.ops.log(mean) - keras.ops.log(1 - mean)) + 0.25
    folder = tmp_path_factory.mktemp("twin")
    file, bundle = folder / "network.keras", folder / "bundle"
    keras.Model(pixels, {"logit": logit, "other": mean[:, None, None]}).save(file)
    shutil.copytree(blank, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["made_with"] = {"network.keras sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return file, bundle


# ---- engines


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_onnxruntime_computes_what_the_engine_does(precision: str, xrays: Path, flagship: Path) -> None:
    job = Job(films(xrays), flagship, 1)
    window = {"int8": engines.onnxruntime_int8, "float32": engines.onnxruntime_float32}[precision](job)(2)
    assert window.films == 6
    assert window.probabilities == pytest.approx(exact(job, precision), abs=1e-3)
    assert 0 < window.cpu_s < 100
    assert window.seconds > 0


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_openvino_computes_what_the_engine_does(precision: str, xrays: Path, flagship: Path) -> None:
    """Where the processor has bfloat16, float parts are as coarse as that. In a process of its own, as it is
    measured."""
    pytest.importorskip("openvino")
    job = Job(films(xrays), flagship, 1)
    with started({"int8": engines.openvino_int8, "float32": engines.openvino_float32}[precision], job) as measure:
        window = measure(2)
    assert window.films == 6
    assert window.probabilities == pytest.approx(exact(job, precision), abs=0.05)
    assert "requests at once" in window.note
    assert 0 < window.cpu_s < 100


def test_openvino_lets_its_process_end_in_peace(xrays: Path, flagship: Path) -> None:
    """Right after its last film: callbacks, which are Python in OpenVINO's threads, aborted every third one."""
    pytest.importorskip("openvino")
    program = (
        "import sys\nfrom pathlib import Path\nfrom bonefrac_benchmarks.engines import openvino_int8\n"
        "from bonefrac_benchmarks.peers import Job\n"
        "bundle, *films = map(Path, sys.argv[1:])\nprint(openvino_int8(Job(tuple(films), bundle))(1).films)"
    )
    for _ in range(8):
        done = subprocess.run(
            [sys.executable, "-c", program, flagship, *films(xrays)], capture_output=True, check=False
        )
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"3"], b"")


def test_openvino_keeps_each_films_probability_apart(xrays: Path, flagship: Path) -> None:
    """More films than requests: each request has many films, one after the other."""
    pytest.importorskip("openvino")
    one, other, *_ = films(xrays)
    many = [one if number % 3 == 0 else other for number in range(40)]
    with started(engines.openvino_int8, Job(tuple(many), flagship)) as measure:
        found = measure(1).probabilities
    assert len(set(found)) == 2
    assert found == pytest.approx([found[0] if film == one else found[1] for film in many])


def test_the_pipeline_tells_the_probability_of_each_film_of_the_last_pass(xrays: Path, flagship: Path) -> None:
    job = Job((*films(xrays), xrays / "notes.txt"), flagship, 2)
    window = pipeline(job)(2)
    assert (window.films, len(window.probabilities)) == (8, 4)
    assert np.isnan(window.probabilities[3]), "what is no film has no probability"
    assert window.probabilities[:3] == pytest.approx(exact(Job(films(xrays), flagship, 1), "int8"), abs=1e-4)


def test_keras_reads_the_same_network_whatever_its_head_is(keras_twin: tuple[Path, Path], xrays: Path) -> None:
    """A logit of the other polarity, half as steep, with an offset: the golden samples tell how to read it."""
    file, bundle = keras_twin
    job = Job(films(xrays), bundle, 1, keras=file)
    loop = engines.keras_loop(job)(1)
    spec = read_manifest(bundle).input
    fed = np.stack([naive_input(str(path), spec) for path in job.films])
    assert loop.probabilities == pytest.approx(load_model(str(bundle)).predict(fed).probability, abs=1e-3)
    assert naive_float32(job)(1).probabilities == pytest.approx(loop.probabilities, abs=1e-3)
    folder = engines.keras_folder(job)(2)
    assert folder.films == 6
    assert folder.probabilities == pytest.approx(loop.probabilities, abs=0.02), "resized by another program"


def test_the_keras_file_is_on_record(keras_twin: tuple[Path, Path]) -> None:
    file, bundle = keras_twin
    assert engines.check_keras(file, bundle) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_keras_file_is_refused(keras_twin: tuple[Path, Path], xrays: Path, tmp_path: Path) -> None:
    file, bundle = keras_twin
    other = tmp_path / "other.keras"
    other.write_bytes(file.read_bytes() + b"\0")
    done = bench("peers", xrays, "--keras", other, "--model", bundle)
    assert (done.exit_code, "is not the Keras file that bundle was made from" in done.output) == (2, True)


def test_a_head_that_no_reading_explains_is_refused() -> None:
    expected = np.array([0.1, 0.9, 0.2, 0.8])
    with pytest.raises(UsageError, match="other probabilities"):
        engines._reading(np.array([1.0, 1.1, 3.0, 0.2])[:, None], expected, Path("network.keras"))
    for said in (
        expected[:, None],
        1 - expected,
        np.stack([1 - expected, expected], 1),
        [np.log(expected / (1 - expected))],
    ):
        read = engines._reading(said, expected, Path("network.keras"))
        assert read(said) == pytest.approx(expected, abs=1e-6)


# ---- who computes something else


@pytest.mark.parametrize("found", [[0.5, 0.5, 0.5], [float("nan")] * 3])
def test_a_peer_that_computes_something_else_is_refused(found: list[float]) -> None:
    same = Rival(pipeline, "", (), "auto")
    with pytest.raises(UsageError, match="'rival' computes something else than the engine"):
        apart("rival", same, found, np.array([0.1, 0.2, 0.3]))


def test_a_peer_with_films_prepared_its_own_way_tells_how_far_it_is_off() -> None:
    own = Rival(pipeline, "", (), "auto", own_input="squeezed")
    assert apart("rival", own, [0.5, 0.5, float("nan")], np.array([0.1, 0.2, 0.3])) == pytest.approx((0.35, 0.4))


def wrong(job: Job) -> Measure:
    """A peer that is fast and says nothing of the films."""
    return lambda passes: timed(passes * len(job.films), lambda: [0.9] * len(job.films))


def test_a_planted_peer_that_computes_something_else_ends_the_run(
    xrays: Path, blank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(rivals: dict[str, Rival], job: Job, settings: PeersSettings) -> dict[str, list[Window]]:
        return {name: [rival.start(job)(1)] for name, rival in rivals.items()}

    monkeypatch.setattr(peers_run, "RIVALS", {OURS: RIVALS[OURS], "wrong": Rival(wrong, "", (), "auto")})
    monkeypatch.setattr(peers_run, "_starts", lambda rivals, *_: {name: Spread((1.0,)) for name in rivals})
    monkeypatch.setattr(peers_run, "_interleaved", here)
    with pytest.raises(UsageError, match="'wrong' computes something else"):
        peers_run.measure_peers(PeersSettings(xrays, str(blank)))


# ---- the whole


def test_peers_are_measured_in_turn_and_who_cannot_be_is_named(tmp_path: Path, xrays: Path, blank: Path) -> None:
    out = tmp_path / "peers.json"
    done = bench("peers", xrays, "--model", blank, "--rounds", 2, "--starts", 1, "--seconds", 0.01, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    there, absent = record["peers"], record["absent"]
    assert {*there, *absent} == set(RIVALS)
    assert {OURS, "ONNX Runtime, float32", "ONNX Runtime, film by film"} <= set(there)
    assert "--keras FILE" in absent["Keras, folder"] or "not installed" in absent["Keras, folder"]
    assert absent["ONNX Runtime, int8"] == "the bundle has no int8 file"
    assert all(f"left out: {name}: {why}" in done.output for name, why in absent.items())
    for peer in there.values():
        assert len(peer["films_a_second"]["samples"]) == len(peer["cpu_ms_a_film"]["samples"]) == 2
        assert (40 < peer["peak_mb"] < 4000, peer["start_s"]["median"] > 0.05, peer["install_mb"] > 50) == (True,) * 3
        assert peer["validity"]["unstable"] is True, "two rounds are no three windows"
    assert set(record["validity"]["unstable_ones"]) == set(there)
    assert all(goal["valid"] is False for goal in record["goals"])
    assert done.output.count("in another run with other films: do not compare") == 1
    assert "in another run with other films: do not compare" in there[OURS]["what"]
    assert there["ONNX Runtime, film by film"]["own_input"]
    assert record["artefact"]["sha256"] == artefact(blank).sha256
    assert "TOO FEW" in done.output
    assert str(tmp_path) not in out.read_text()


def test_a_peer_that_is_not_installed_is_left_out_by_name(xrays: Path, flagship: Path) -> None:
    job, files = Job(films(xrays), flagship, 1), {"int8": artefact(flagship)}
    why = peers_run._absent(Rival(pipeline, "", ("onnxruntime", "no-such-engine"), "auto"), files, job)
    assert why == "no-such-engine not installed"
    assert peers_run._absent(RIVALS[OURS], files, job) == ""
    assert "no float32 file" in peers_run._absent(RIVALS["ONNX Runtime, float32"], files, job)


def standing(rate: float) -> Standing:
    flat = Spread((1.0, 1.0))
    return Standing(RIVALS[OURS], "", Spread((rate, rate / 2)), flat, flat, 1.0, 1.0, (0.0, 0.0))


def measured(**rates: float) -> Peers:
    names = {
        "ours": OURS,
        "ours_openvino": "bonefrac with OpenVINO",
        "openvino": OPENVINO,
        "openvino_float": "OpenVINO, float32 file",
        "folder": "Keras, folder",
        "loop": "Keras, film by film",
    }
    standings = {names[name]: standing(rate) for name, rate in rates.items()}
    return Peers(PeersSettings(Path("films")), this_machine(), (), 1, 0, standings, {})


def test_the_targets_are_those_of_the_best_backend_against_the_best_mode() -> None:
    goals = measured(ours=90, ours_openvino=120, openvino=100, openvino_float=60, folder=12, loop=5).goals
    assert [(g.name, g.value.median, g.target, g.reached) for g in goals] == [
        ("bonefrac with OpenVINO / Keras, folder", 10, 8, True),
        ("bonefrac with OpenVINO / Keras, film by film", 24, 20, True),
        ("bonefrac with OpenVINO / OpenVINO, int8", 1.2, 1, True),
        ("bonefrac / OpenVINO, int8", 0.9, 0.9, True),
    ]


def test_targets_of_peers_that_are_not_there_are_not_asked() -> None:
    assert [goal.name for goal in measured(ours=90, loop=5).goals] == ["bonefrac / Keras, film by film"]


def test_every_peers_windows_are_judged_and_a_ratio_by_both_its_peers(flagship: Path) -> None:
    """Beside a steady pipeline, a peer that is slow in one round makes its ratios worthless, and no other."""
    found = replace(measured(ours=90, openvino=100, folder=12, loop=5), artefacts=(artefact(flagship),))
    steady = {
        name: replace(one, rate=Spread((one.rate.samples[0],) * 3)) for name, one in found.standings.items()
    }  # fmt: skip
    assert replace(found, standings=steady).validity.valid
    shaken = replace(found, standings=steady | {KERAS_LOOP: replace(steady[KERAS_LOOP], rate=Spread((5.0, 5.0, 4.0)))})
    assert not shaken.validity.valid
    assert f"unstable: '{KERAS_LOOP}'" in shaken.lines()[-1]
    assert {goal.name: goal.unstable for goal in shaken.goals} == {
        "bonefrac / Keras, folder": (),
        "bonefrac / Keras, film by film": (KERAS_LOOP,),
        "bonefrac / OpenVINO, int8": (),
    }
    assert f"reached, but not valid: '{KERAS_LOOP}' unstable" in "\n".join(shaken.lines())
    record = shaken.record()
    assert record["validity"]["unstable_ones"] == [KERAS_LOOP]
    assert [name for name, peer in record["peers"].items() if not peer["validity"]["valid"]] == [KERAS_LOOP]


# ---- what an engine weighs


def test_an_install_counts_every_dependency_once() -> None:
    def alone(name: str) -> float:
        there = importlib.metadata.distribution(name).files or []
        return sum(p.stat().st_size for p in (Path(str(f.locate())) for f in there) if p.is_file()) / 1e6

    assert install_mb(["numpy"]) == pytest.approx(alone("numpy"))
    assert install_mb(["numpy", "numpy"]) == install_mb(["numpy"])
    assert install_mb(["opencv-python-headless"]) == pytest.approx(alone("opencv-python-headless") + alone("numpy"))
    assert install_mb(["no-such-engine"]) == 0
    assert missing(["numpy", "no-such-engine"]) == ["no-such-engine"]


def test_our_own_install_has_the_extra_that_is_named() -> None:
    whole, without = install_mb(["bonefrac[cpu]"]), install_mb(["bonefrac"])
    assert whole - without >= install_mb(["onnxruntime"]) - install_mb(["onnxruntime", "numpy"]) + 10
    assert without > install_mb(["opencv-python-headless"])
