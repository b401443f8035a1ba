"""`bonefrac-bench` on drawn films: what is measured, how it is judged, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bonefrac import run
from bonefrac.errors import UsageError
from bonefrac.model import load_model
from bonefrac.run import BatchSettings, Summary
from bonefrac_benchmarks import commands, peers
from bonefrac_benchmarks.artefact import artefact, bundle_folder
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.figures import Goal, Spread
from bonefrac_benchmarks.films import fill, sample
from bonefrac_benchmarks.machine import this_machine
from bonefrac_benchmarks.peers import PEERS, Job, naive_float32, naive_probability, naive_session
from bonefrac_benchmarks.processes import started
from bonefrac_benchmarks.startup import Startup, StartupSettings
from bonefrac_benchmarks.throughput import Throughput, ThroughputSettings, bound
from bonefrac_benchmarks.validity import Validity

FLAGSHIP = bundle_folder("flagship")


def films(xrays: Path) -> tuple[Path, ...]:
    return tuple(sorted(xrays.glob("*.jpg")))


def job(xrays: Path) -> Job:
    return Job(films(xrays), FLAGSHIP, workers=2)


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def broken_bundle(folder: Path, *precisions: str) -> Path:
    """The flagship with only these precisions in its manifest."""
    folder.mkdir()
    manifest = json.loads((FLAGSHIP / "manifest.json").read_text(encoding="utf-8"))
    manifest["precisions"] = {name: manifest["precisions"][name] for name in precisions}
    for file in FLAGSHIP.iterdir():
        if file.suffix in (".onnx", ".npz"):
            os.symlink(file, folder / file.name)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


# ---- figures


def test_a_spread_keeps_its_rounds() -> None:
    spread = Spread((4.0, 1.0, 2.0))
    assert (spread.median, spread.low, spread.high) == (2.0, 1.0, 4.0)
    assert spread.record()["samples"] == [4.0, 1.0, 2.0]
    assert spread.text() == "2.0 (1.0 to 4.0)"


@pytest.mark.parametrize(
    ("samples", "unstable"),
    [((100.0, 95.0, 104.9), False), ((100.0, 95.0, 105.1), True), ((50.0,), True), ((50.0, 50.0), False)],
)
def test_rounds_that_differ_by_more_than_a_tenth_are_unstable(samples: tuple[float, ...], unstable: bool) -> None:
    assert Spread(samples).unstable is unstable


def test_ratios_are_formed_round_by_round() -> None:
    """The second round was twice as slow for both: the ratio does not notice."""
    ratio = Spread((60.0, 30.0, 60.0)).over(Spread((20.0, 10.0, 15.0)))
    assert ratio.samples == (3.0, 3.0, 4.0)


def test_the_bound_is_cores_over_the_seconds_of_one_film() -> None:
    alone = {
        "read": Spread((99.0, 99.0)),
        "decode": Spread((12.0, 20.0)),
        "prepare": Spread((1.0, 2.0)),
        "infer": Spread((7.0, 9.0)),
        "infer one": Spread((8.0, 3.0)),
    }
    assert bound(2, alone).samples == pytest.approx((2 / 0.020, 2 / 0.025))  # the faster way to infer
    assert bound(2, alone, inferring=False).samples == pytest.approx((2 / 0.013, 2 / 0.022))  # on a GPU


def throughput(workers: int, cores: int, device: str = "cpu", **rates: tuple[float, ...]) -> Throughput:
    """Decoding and inferring of one film take 5 ms each."""
    names = ("pipeline", "batch", "batch, annotate all", "naive float32")
    measured = {name: Spread((100.0, 100.0, 100.0)) for name in names} | {
        name.replace("_", " "): Spread(rate) for name, rate in rates.items()
    }
    alone = {name: Spread((5.0, 5.0, 5.0)) for name in ("decode", "infer", "infer one")}
    alone["prepare"] = Spread((0.0, 0.0, 0.0))
    settings = ThroughputSettings(Path("films"), device=device, workers=workers, rounds=3)
    machine = replace(this_machine(), cores=cores)
    return Throughput(settings, machine, (artefact(FLAGSHIP),), workers, 1, 0, {}, measured, alone, {}, Spread((1.0,)))


@pytest.mark.parametrize(("workers", "cores", "reached"), [(1, 4, 1), (4, 4, 4), (3, 2, 2)])
def test_the_bound_is_of_as_many_cores_as_can_be_at_work(workers: int, cores: int, reached: int) -> None:
    found = throughput(workers, cores)
    assert found.bound.samples == pytest.approx([reached * 100.0] * 3)
    assert found.bound_is.startswith(f"{reached} cores / ")
    assert found.goals[0].value.median == pytest.approx(1 / reached)


def test_the_bound_of_cores_that_do_not_infer_is_told_as_such() -> None:
    assert throughput(2, 2, "cuda").bound.median == pytest.approx(400)
    assert "do not infer" in throughput(2, 2, "cuda").bound_is


def test_a_ratio_is_as_good_as_both_its_parts() -> None:
    steady = throughput(1, 1)
    assert (steady.validity.valid, [goal.unstable for goal in steady.goals]) == (True, [(), (), ()])
    shaken = throughput(1, 1, naive_float32=(50.0, 100.0, 100.0))
    assert (shaken.validity.valid, shaken.validity.record()["unstable_ones"]) == (False, ["naive float32"])
    assert [goal.unstable for goal in shaken.goals] == [(), ("naive float32",), ()]
    assert shaken.goals[1].line().endswith("but not valid: 'naive float32' unstable")
    assert [goal.record()["valid"] for goal in shaken.goals] == [True, False, True]


@pytest.mark.parametrize(
    ("median", "at_least", "verdict"),
    [(0.85, True, ": reached"), (0.8499, True, ": NOT reached"), (2.0, False, ": reached"), (2.01, False, "NOT")],
)
def test_a_goal_says_whether_it_was_reached(median: float, at_least: bool, verdict: str) -> None:
    goal = Goal("a / b", Spread((median, median)), 0.85 if at_least else 2.0, at_least=at_least)
    assert verdict in goal.line()
    assert goal.record()["reached"] is ("NOT" not in verdict)


# ---- films


def test_the_sample_leaves_out_what_a_peer_cannot_read(xrays: Path) -> None:
    found, left_out = sample(xrays, 48, 448)
    assert ([path.name for path in found], left_out) == (["0.jpg", "1.jpg", "2.jpg"], 1)


def test_the_sample_is_spread_over_the_folder(tmp_path: Path, xrays: Path) -> None:
    fill(tmp_path / "many", films(xrays)[:1], 9)
    found, _ = sample(tmp_path / "many", 3, 448)
    assert [path.stem for path in found] == ["000000", "000003", "000006"]


def test_a_filled_folder_repeats_the_films_without_copying(tmp_path: Path, xrays: Path) -> None:
    fill(tmp_path / "many", films(xrays), 7)
    made = sorted((tmp_path / "many").iterdir())
    assert len(made) == 7
    assert [os.path.samefile(made[i], films(xrays)[i % 3]) for i in range(7)] == [True] * 7


def test_a_filled_folder_holds_copies_where_links_are_refused(
    tmp_path: Path, xrays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "link", refuse)
    fill(tmp_path / "many", films(xrays), 4)
    assert (tmp_path / "many" / "000003.jpg").read_bytes() == films(xrays)[0].read_bytes()


# ---- peers


def test_the_naive_loop_gives_the_models_probability_for_its_input(xrays: Path) -> None:
    """The same network at work, fed as student projects do: colour, squeezed, bilinear."""
    model = load_model("flagship", device="cpu", precision="float32")
    spec = model.manifest.input
    session = naive_session(FLAGSHIP / model.manifest.precisions["float32"].file)
    for path in films(xrays):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        fed = np.asarray(cv2.resize(grey, (spec.width, spec.height)), np.uint8)
        expected = float(model.predict(fed[None, :, :, None])[0][0])
        assert naive_probability(str(path), session, spec) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("peer", sorted(PEERS))
def test_each_peer_examines_every_film_of_every_pass(peer: str, xrays: Path) -> None:
    window = PEERS[peer](job(xrays))(2)
    assert window.films == 6
    assert window.seconds > 0
    if peer == "stages":
        assert set(window.stages) == {"read", "decode", "prepare", "infer", "infer one"}
        assert sum(window.stages.values()) == pytest.approx(window.seconds)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Summary, int]]:
    """Each run of the engine, and how many pictures it made; its folder is gone afterwards."""
    found: list[tuple[Summary, int]] = []

    def noted(settings: BatchSettings) -> Summary:
        summary = run.run_batch(settings)
        found.append((summary, len(list((summary.out / "annotated").rglob("*.jpg")))))
        return summary

    monkeypatch.setattr(peers, "run_batch", noted)
    return found


def test_annotating_all_films_is_measured_with_a_picture_of_each(xrays: Path, ran: list[tuple[Summary, int]]) -> None:
    for peer in ("batch", "batch, annotate all"):
        PEERS[peer](job(xrays))(2)
    (some, of_findings), (every, of_all) = ran
    assert some.counts["no_fracture_detected"] > 0, "else there is no difference to see"
    assert (of_findings, of_all) == (6 - some.counts["no_fracture_detected"], every.counts["analysed"])


@pytest.mark.parametrize("peer", ["pipeline", "batch", "batch, annotate all"])
def test_the_engine_runs_on_the_device_that_was_named(
    peer: str, xrays: Path, blank: Path, ran: list[tuple[Summary, int]]
) -> None:
    pytest.importorskip("openvino")
    window = PEERS[peer](Job(films(xrays), blank, device="openvino"))(1)
    if peer == "pipeline":
        assert window.note == "float32 on OpenVINO"
    else:
        assert [summary.ready.model.provider for summary, _ in ran] == ["OpenVINO"]


def test_a_peers_refusal_arrives_as_it_is(tmp_path: Path, xrays: Path) -> None:
    bundle = broken_bundle(tmp_path / "bundle", "int8")
    lacking = Job(films(xrays), bundle, workers=1)
    with started(naive_float32, lacking) as measure, pytest.raises(UsageError, match="no float32 file, only int8"):
        measure(1)


# ---- validity


@pytest.mark.parametrize(
    ("samples", "windows", "says"),
    [
        (64, (10.0, 10.0, 10.0), "Valid: 64 films, 64 needed; warmed up"),
        (63, (10.0, 10.0, 10.0), "TOO FEW: 63 films"),
        (64, (10.0, 10.0, 11.1), "UNSTABLE: 64 films"),
        (64, (10.0, 10.0), "UNSTABLE: 64 films"),
        (1, (10.0, 12.0), "TOO FEW and UNSTABLE: 1 films"),
    ],
)
def test_a_measurement_says_whether_it_may_be_believed(samples: int, windows: tuple[float, ...], says: str) -> None:
    validity = Validity(samples, 64, "films", "warmed up", {"films": Spread(windows)})
    assert validity.line().startswith(says)
    assert validity.valid is says.startswith("Valid") is ("quiet the machine" not in validity.line() and samples >= 64)


def test_of_several_measured_things_the_worst_is_told_and_each_unstable_one_named() -> None:
    steady, shaken, short = Spread((9.9, 10.0, 10.1)), Spread((10.0, 10.0, 14.0)), Spread((10.0, 10.0))
    validity = Validity(3, 3, "rounds", "warmed up", {"a": steady, "b, c": shaken, "d": short})
    assert validity.line().startswith(
        "UNSTABLE: 3 rounds, 3 needed; warmed up; 2 windows of each within 40.0% of their median, 10 % allowed,"
        " 3 windows needed; unstable: 'b, c' and 'd'; quiet the machine"
    )
    assert validity.record()["unstable_ones"] == ["b, c", "d"]
    assert validity.record()["windows"] == steady.record()
    assert Validity(3, 3, "rounds", "warmed up", {"a": steady, "b": steady}).valid


def test_medians_have_intervals_from_six_rounds_on() -> None:
    assert Spread((1.0, 2.0, 3.0, 4.0, 5.0)).interval is None
    assert Spread((3.0, 1.0, 2.0, 6.0, 5.0, 4.0)).interval == (1.0, 6.0)
    assert "95 % interval of the median 1.00 to 6.00" in Goal("a", Spread((3, 1, 2, 6, 5, 4)), 1, digits=2).line()


# ---- commands


def test_throughput_prints_rates_ratios_and_the_hash_of_what_was_measured(tmp_path: Path, xrays: Path) -> None:
    out = tmp_path / "figures.json"
    done = bench("throughput", xrays, "--rounds", 2, "--seconds", 0.01, "--films", 2, "--workers", 1, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    hashes = {m["precision"]: m["sha256"] for m in (record["artefact"], *record["other_files"])}
    for precision in ("int8", "float32"):
        assert hashes[precision] == hashlib.sha256((FLAGSHIP / f"{precision}.onnx").read_bytes()).hexdigest()
        assert hashes[precision] in done.output
    rates = record["films_a_second"]
    assert {len(rate["samples"]) for rate in rates.values()} == {2}
    against = [a / b for a, b in zip(rates["pipeline"]["samples"], rates["naive float32"]["samples"], strict=True)]
    goals = {goal["name"]: goal for goal in record["goals"]}
    assert goals["pipeline / naive float32"]["samples"] == pytest.approx(against)
    assert goals["pipeline / naive float32"]["at_least"] == 3
    assert goals["pipeline / bound"]["at_least"] == 0.92
    assert "TOO FEW" in done.output, "two rounds are no three windows"
    assert (record["validity"]["valid"], record["validity"]["unstable"]) == (False, True)
    assert done.output.count("target >=") == 3
    against = [a / b for a, b in zip(rates["batch, annotate all"]["samples"], rates["batch"]["samples"], strict=True)]
    assert goals["batch, annotate all / batch"]["samples"] == pytest.approx(against)
    assert goals["batch, annotate all / batch"]["at_least"] == 0.75
    assert (record["bound_cores"], record["settings"]["workers"], record["settings"]["device"]) == (1, 1, "cpu")
    assert f"SHA-256 {hashes['int8']}, on cpu\n" in done.output
    assert "in another run with other films: do not compare" in done.output
    assert "in another run with other films: do not compare" in rates["pipeline"]["what"]
    assert 0 < record["cores_had_by_pipeline"]["median"] < record["machine"]["cores"] + 0.1
    assert record["machine"]["versions"]["onnxruntime"] in done.output


def test_startup_sets_one_film_against_the_imports(tmp_path: Path, xrays: Path) -> None:
    out = tmp_path / "startup.json"
    done = bench("startup", films(xrays)[0], "--rounds", 2, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert len(record["batch_s"]["samples"]) == len(record["imports_s"]["samples"]) == 2
    assert record["batch_s"]["median"] > record["imports_s"]["median"]
    assert "target <= 1.6" in done.output
    assert record["artefact"]["sha256"] == hashlib.sha256((FLAGSHIP / "int8.onnx").read_bytes()).hexdigest()
    assert record["settings"] == {"model": "flagship", "device": "cpu", "rounds": 2}
    assert f"{record['artefact']['sha256']}, on cpu\n" in done.output


def test_startup_judges_the_imports_too() -> None:
    steady, shaken = Spread((1.0, 1.0, 1.0)), Spread((0.5, 0.7, 0.7))
    settings, file = StartupSettings(FLAGSHIP), artefact(FLAGSHIP)
    assert Startup(settings, this_machine(), file, steady, steady).validity.valid
    found = Startup(settings, this_machine(), file, steady, shaken)
    assert (found.validity.valid, found.goal.unstable) == (False, ("imports alone",))
    assert "'imports alone' unstable" in found.goal.line()


def test_the_imports_are_those_of_the_device() -> None:
    assert commands.imports("cpu") == "import onnxruntime, cv2, numpy"
    assert commands.imports("openvino") == "import openvino, cv2, numpy"


def test_throughput_and_startup_run_on_openvino_end_to_end(tmp_path: Path, xrays: Path, blank: Path) -> None:
    pytest.importorskip("openvino")
    out, device = tmp_path / "figures.json", ("--device", "openvino", "--model", blank)
    done = bench("throughput", xrays, "--rounds", 1, "--seconds", 0.01, "--films", 2, *device, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    cores = record["machine"]["cores"]
    assert (record["settings"]["device"], record["settings"]["workers"]) == ("openvino", cores + 1)
    assert record["bound_cores"] == cores, "a worker more than cores computes nothing more"
    assert ", on openvino\n" in done.output
    done = bench("startup", films(xrays)[0], "--rounds", 1, *device, "--json", out)
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text(encoding="utf-8"))["settings"]["device"] == "openvino"
    assert "--device openvino" in done.output
    assert "import openvino, cv2, numpy" in done.output


@pytest.mark.parametrize("name", ["auto", "gpu"])
@pytest.mark.parametrize("command", ["throughput", "latency", "scale", "startup", "watch"])
def test_a_device_has_to_be_named(command: str, name: str, tmp_path: Path) -> None:
    """`auto` is whatever was tuned on this machine, and no figure would say what."""
    done = bench(command, tmp_path, "--device", name)
    assert (done.exit_code, "name what is measured: cpu, " in done.output) == (2, True)


@pytest.mark.parametrize("command", ["throughput", "latency", "scale", "startup", "watch"])
def test_a_device_that_is_not_there_is_one_sentence(command: str, tmp_path: Path, xrays: Path, blank: Path) -> None:
    missing = "directml" if sys.platform != "win32" else "coreml"
    target = {"startup": films(xrays)[0], "watch": tmp_path / "work"}.get(command, xrays)
    done = bench(command, target, "--device", missing, "--model", blank)
    assert (done.exit_code, f"device '{missing}' is not there" in done.output) == (2, True), done.output
    assert done.output.count("\n") == 1


def test_startup_takes_one_film(xrays: Path) -> None:
    done = bench("startup", xrays)
    assert (done.exit_code, done.output) == (
        2, f"Error: {xrays}: is a folder, and one film is started with; name one radiograph\n"
    )  # fmt: skip


@pytest.mark.parametrize("command", ["throughput", "latency", "peers", "scale", "startup"])
def test_what_cannot_be_measured_is_one_sentence(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "missing"):
        done = bench(command, target)
        assert done.exit_code == 2, done.output
        assert done.output.startswith(f"Error: {target}: ")
        assert done.output.count("\n") == 1


def test_a_folder_without_a_film_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")
    done = bench("throughput", tmp_path)
    assert (done.exit_code, "none of the 1 files looked at is a radiograph" in done.output) == (2, True)
    done = bench("scale", tmp_path, "--films", 2, "--rounds", 1)
    assert (done.exit_code, "none of the films could be analysed" in done.output) == (2, True)


def test_a_film_that_cannot_be_analysed_is_no_startup_time(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("text")
    done = bench("startup", tmp_path / "a.jpg", "--rounds", 1)
    assert (done.exit_code, "there is nothing to measure" in done.output) == (2, True)


def test_a_bundle_without_float32_is_refused(tmp_path: Path, xrays: Path) -> None:
    done = bench("throughput", xrays, "--model", broken_bundle(tmp_path / "bundle", "int8"))
    assert (done.exit_code, "the bundle has no float32 file, only int8" in done.output) == (2, True)


def test_a_json_file_that_cannot_be_written_is_told_before_measuring(tmp_path: Path, xrays: Path) -> None:
    done = bench("throughput", xrays, "--json", tmp_path / "missing" / "figures.json")
    assert (done.exit_code, "its folder does not exist" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("changed", "arguments"),
    [
        ("int8", ("throughput", "XRAYS")),
        ("int8", ("latency", "XRAYS")),
        ("int8", ("peers", "XRAYS")),
        ("int8", ("scale", "XRAYS")),
        ("int8", ("startup", "FILM")),
        ("int8", ("watch",)),
        ("float32", ("throughput", "XRAYS")),  # which bonefrac itself would never open
        ("float32", ("peers", "XRAYS")),
    ],
    ids=lambda part: part if isinstance(part, str) else part[0],
)
def test_a_changed_bundle_is_refused(changed: str, arguments: tuple[str, ...], tmp_path: Path, xrays: Path) -> None:
    """One byte of a network is another: whatever is measured then is not what its card tells of."""
    bundle = broken_bundle(tmp_path / "bundle", "int8", "float32")
    network = (FLAGSHIP / f"{changed}.onnx").read_bytes()
    (bundle / f"{changed}.onnx").unlink()
    (bundle / f"{changed}.onnx").write_bytes(network[:-1] + bytes([network[-1] ^ 1]))
    places = {"XRAYS": xrays, "FILM": films(xrays)[0]}
    done = bench(*(places.get(word, word) for word in arguments), "--model", bundle)
    assert (done.exit_code, f"{changed}.onnx is not the file that its manifest names" in done.output) == (2, True)
    assert done.output.count("\n") == 1
