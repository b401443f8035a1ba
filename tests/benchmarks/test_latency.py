"""`bonefrac-bench latency` and `watch`: which quantiles are told, what is timed, and at what moments films come."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bonefrac_benchmarks.arrivals import Watch, WatchSettings, arrivals
from bonefrac_benchmarks.artefact import artefact
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.machine import this_machine
from bonefrac_benchmarks.passes import SoakSettings
from bonefrac_benchmarks.quantiles import lines, quantiles, windows


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("films", "told"),
    [
        (10, []),
        (11, ["p50"]),
        (63, ["p50"]),
        (64, ["p50", "p90"]),
        (129, ["p50", "p90"]),
        (130, ["p50", "p90", "p95"]),
        (661, ["p50", "p90", "p95"]),
        (662, ["p50", "p90", "p95", "p99"]),
    ],
)
def test_only_quantiles_that_the_sample_allows_are_told(films: int, told: list[str]) -> None:
    found = quantiles([0.001 * film for film in range(1, films + 1)])
    assert [name for name, figure in found.items() if figure["value"] is not None] == told
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    said = lines(found, "ms", 1000)
    assert [row.split()[0] for row in said[1:] if "not told" not in row] == told


def test_quantiles_are_samples_between_their_ends() -> None:
    found = quantiles([0.001 * film for film in range(1, 663)])
    assert [found[name]["value"] for name in found] == pytest.approx([0.331, 0.596, 0.629, 0.656])
    assert all(f["low"] < f["value"] < f["high"] for f in found.values())
    assert "596.0" in lines(found, "ms", 1000)[2]


def test_windows_are_thirds_in_the_order_of_time() -> None:
    assert windows([1, 1, 1, 5, 5, 5, 9, 9, 9]).samples == (1, 5, 9)
    assert len(windows([1, 2]).samples) == 2, "too few to be stable"


def test_latency_times_single_films_of_the_shipped_network(tmp_path: Path, xrays: Path, flagship: Path) -> None:
    out = tmp_path / "latency.json"
    done = bench("latency", xrays, "--films", 12, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    samples = record["row_s"]["samples"]
    assert (len(samples), record["films"]) == (12, 3)
    assert all(0.001 < sample < 10 for sample in samples)
    assert record["row_s"]["quantiles"]["p50"]["value"] == sorted(samples)[5]
    assert record["row_s"]["quantiles"]["p90"]["value"] is None
    assert record["artefact"]["sha256"] in done.output
    assert record["validity"]["valid"] is False, "12 films are not 64"
    assert "12 films, 64 needed for the p90, each other quantile as its row says;" in done.output
    assert str(tmp_path) not in out.read_text(), "a report names no folder of the machine"


def test_a_film_that_takes_longer_is_seen(tmp_path: Path, xrays: Path, blank: Path) -> None:
    """With a network that does nothing a film takes a small part of the time: the network is really timed."""
    with_network, without = tmp_path / "with.json", tmp_path / "without.json"
    for out, model in ((with_network, "flagship"), (without, blank)):
        assert bench("latency", xrays, "--films", 11, "--model", model, "--json", out).exit_code == 0
    p50 = [json.loads(out.read_text())["row_s"]["quantiles"]["p50"]["value"] for out in (with_network, without)]
    assert p50[0] > 1.5 * p50[1]


def test_films_come_at_poisson_times() -> None:
    """Gaps of a Poisson process are exponential: mean and standard deviation 1 / rate, and any film count in a second
    has a variance like its mean. 20,000 gaps: four standard errors are 3 %."""
    moments = np.array(arrivals(4.0, 20_000, seed=2))
    gaps = np.diff(moments, prepend=0)
    assert (gaps > 0).all()
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() == pytest.approx(0.25, rel=0.04)
    assert np.exp(-4 * gaps).mean() == pytest.approx(0.5, rel=0.03), "1 - exp(-rate gap) is even from 0 to 1"
    counts = np.bincount(moments.astype(int))[:-1]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.1)
    assert arrivals(4.0, 10, seed=2) == moments[:10].tolist()
    assert arrivals(4.0, 10, seed=3) != moments[:10].tolist()


def test_watch_judges_the_time_beyond_the_settle_time(flagship: Path) -> None:
    """Beside a constant of two seconds, a watcher that takes half as long again would look steady."""

    def measured(*beyond_s: float) -> Watch:
        row_s = tuple(2.0 + each for each in beyond_s for _ in range(221))
        return Watch(WatchSettings(settle=2.0), this_machine(), artefact(flagship), 2.0, row_s)

    shaken = measured(0.10, 0.10, 0.156)
    assert (shaken.validity.valid, shaken.validity.windows["watch"].apart) == (False, pytest.approx(0.56))
    assert "beyond the settle time; 3 windows within 56.0% of their median" in shaken.validity.line()
    assert measured(0.10, 0.10, 0.105).validity.valid


def test_no_watcher_is_measured_on_whatever_was_tuned_here() -> None:
    for settings in (WatchSettings(), SoakSettings()):
        assert settings.options[settings.options.index("--device") + 1] == settings.device == "cpu"
    assert "openvino" in WatchSettings(device="openvino").options


def test_watch_times_each_film_from_drop_to_row(tmp_path: Path, blank: Path) -> None:
    out = tmp_path / "watch.json"
    done = bench(
        "watch", tmp_path / "work", "--films", 12, "--rate", 8, "--settle", 0.3, "--model", blank, "--json", out
    )
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert (record["settings"]["device"], "--device cpu" in done.output) == ("cpu", True)
    assert len(record["row_s"]["samples"]) == 12
    assert all(0.3 <= sample < 60 for sample in record["row_s"]["samples"]), "no film is taken before the settle time"
    rows = (tmp_path / "work" / "out" / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 13
    assert "TOO FEW: 12 films, 662 needed" in done.output or "TOO FEW and UNSTABLE" in done.output
    assert str(tmp_path) not in out.read_text()
    assert record["dropped_a_second"] == pytest.approx(12 / arrivals(8, 12, WatchSettings.seed)[-1], rel=0.2)
