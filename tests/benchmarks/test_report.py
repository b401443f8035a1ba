"""`bonefrac-bench report`: parts of one file on one machine become a page; all others are refused."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("onnx", reason='needs the extra: pip install ".[bench]"')

from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.report import ORDER, collect, read_parts, without_films
from bonefrac_benchmarks.report_tables import compare, figures, readme, sections

FILM = "IMG0001234.jpg"


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, xrays: Path, blank: Path) -> list[Path]:
    """What the commands themselves write, of a bundle that costs nothing."""
    folder, some = tmp_path_factory.mktemp("measured"), ("--model", blank)
    runs: dict[str, tuple[object, ...]] = {
        "throughput": (xrays, "--rounds", 3, "--seconds", 0.01, *some),
        "latency": (xrays, "--films", 70, *some),
        "watch": ("--films", 12, "--rate", 8, "--settle", 0.3, *some),
        "startup": (xrays / "0.jpg", "--rounds", 1, *some),
        "peers": (xrays, "--rounds", 2, "--starts", 1, "--seconds", 0.01, *some),
        "scale": (xrays, "--films", 4, "--films", 8, "--rounds", 1, *some),
    }
    for name, arguments in runs.items():
        done = bench(name, *arguments, "--json", folder / f"{name}.json")
        assert done.exit_code == 0, done.output
    return [folder / f"{name}.json" for name in runs]


@pytest.fixture
def parts(measured: list[Path]) -> list[dict[str, Any]]:
    return read_parts(measured)


def an_accuracy(artefact: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """As `accuracy --out` writes it, with the names of films that it has."""
    share = {"value": 0.9, "low": 0.8, "high": 0.95, "count": 9, "of": 10}
    point = {"sensitivity": share, "specificity": share}
    flips = {"flips": 1, "films": [{"film": FILM}], "right": {}, "mcnemar_p": 1.0}
    return {
        "benchmark": "accuracy", "artefact": artefact, "machine": machine, "films": 20, "fractured": 10, "groups": 5,
        "split": {"name": "drawn, fold 0", "films": 21, "warning": ""},
        "without_finding": [{"film": FILM, "fractured": False, "reason": "damaged"}],
        "points": {"sensitive": point, "specific": point},
        "ranking": {"auroc": {"value": 0.91, "low": 0.85, "high": 0.97}},
        "calibration": {"bins": 15, "ece": 0.02, "brier": 0.03,
                        "reliability": [{"films": 10, "probability": 0.1, "fractured": 0.1}]},
        "localisation": {"froc": {"threshold": [0.5]}},
        "between_precisions": {"precisions": ["int8", "float32"], "films": 20, "points": {"specific": flips}},
    }  # fmt: skip


class _Page(HTMLParser):
    """Every part of it must be closed again."""

    open_tags: tuple[str, ...] = ()
    images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag in ("img", "image")
        if tag not in ("meta", "br"):
            self.open_tags += (tag,)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag in ("img", "image")

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags[-1] == tag, (self.open_tags[-5:], tag)
        self.open_tags = self.open_tags[:-1]


def test_a_page_has_every_part_its_plot_and_the_hash_at_every_figure(
    tmp_path: Path, measured: list[Path], parts: list[dict[str, Any]]
) -> None:
    accuracy = tmp_path / "accuracy.json"
    accuracy.write_text(json.dumps(an_accuracy(parts[0]["artefact"], parts[0]["machine"])))
    done = bench("report", *measured, accuracy, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    parser = _Page()
    parser.feed(page)
    assert (parser.open_tags, parser.images) == ((), 0), "it is whole, and shows no film"
    sha256 = parts[0]["artefact"]["sha256"]
    assert page.count("<svg") == 6
    assert page.count(f"SHA-256 {sha256[:16]}…") >= page.count("<table") + page.count("<svg")
    assert sha256 in page
    for part in parts:
        assert part["validity"]["line"].split(";")[0] in page
    assert "avx2" in page or "flags" in page
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    for found in (page, text, (tmp_path / "report" / "report.json").read_text(encoding="utf-8")):
        assert FILM not in found, "no film is named"
        assert "AUROC" in found or '"auroc"' in found
        assert str(tmp_path) not in found
    assert text.count(f"SHA-256 {sha256[:16]}…") >= len(re.findall(r"^## ", text, re.MULTILINE))


def test_a_report_can_be_made_of_its_own_json(tmp_path: Path, measured: list[Path]) -> None:
    assert bench("report", *measured, "--out", tmp_path / "a").exit_code == 0
    assert bench("report", tmp_path / "a" / "report.json", "--out", tmp_path / "b").exit_code == 0
    for name in ("report.html", "report.json", "report.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_every_kind_of_part_has_its_place() -> None:
    from bonefrac_benchmarks import report_tables

    assert set(report_tables._FIGURES) == set(report_tables._TABLES) == set(ORDER)


# ---- what is refused


def test_speed_of_one_file_and_accuracy_of_another_are_refused(
    tmp_path: Path, measured: list[Path], flagship: Path
) -> None:
    other = json.loads(measured[1].read_text(encoding="utf-8"))
    other["artefact"]["sha256"] = 64 * "0"
    (tmp_path / "other.json").write_text(json.dumps(other))
    done = bench("report", measured[0], tmp_path / "other.json", "--out", tmp_path / "report")
    assert (done.exit_code, "'throughput' and 'latency' are of different files" in done.output) == (2, True)
    assert done.output.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_parts_of_two_machines_are_refused(tmp_path: Path, measured: list[Path]) -> None:
    other = json.loads(measured[1].read_text(encoding="utf-8"))
    other["machine"]["cpu"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(other))
    done = bench("report", measured[0], tmp_path / "other.json")
    assert (done.exit_code, "parts of different machines (cpu:" in done.output) == (2, True)


def test_a_part_twice_a_strange_part_and_no_json_are_refused(tmp_path: Path, measured: list[Path]) -> None:
    (tmp_path / "text.json").write_text("[1, 2")
    (tmp_path / "soak.json").write_text('{"benchmark": "soak"}')
    (tmp_path / "list.json").write_text("[]")
    for files, said in (
        ((measured[0], measured[0]), "'throughput' was named twice"),
        ((tmp_path / "text.json",), "is no file that bonefrac-bench has written"),
        ((tmp_path / "list.json",), "is no file that bonefrac-bench has written"),
        ((tmp_path / "soak.json",), "a report has no place for 'soak'"),
    ):
        done = bench("report", *files)
        assert (done.exit_code, said in done.output) == (2, True), done.output


def test_a_blank_network_may_stand_beside_and_is_in_no_figure_of_the_file(parts: list[dict[str, Any]]) -> None:
    blank = copy.deepcopy(parts[5])
    blank["settings"]["blank"] = True
    blank["artefact"]["sha256"] = 64 * "0"
    report = collect([*parts, blank])
    assert list(report.parts)[-1] == "scale, blank network"
    whole, *others = sections(report)
    assert not any("blank" in row[0] for row in whole.tables[0].rows)
    assert "0" * 16 in others[-1].caption
    assert collect([blank]).artefact["sha256"] == 64 * "0"


def test_nothing_else_of_an_accuracy_is_lost(parts: list[dict[str, Any]]) -> None:
    found = an_accuracy(parts[0]["artefact"], parts[0]["machine"])
    left = without_films(found)
    assert FILM not in json.dumps(left)
    assert found.keys() - left.keys() == {"without_finding"}
    assert left["between_precisions"]["points"]["specific"]["flips"] == 1
    assert found["without_finding"], "what was handed in is as it was"


# ---- table and comparison


def test_the_readmes_table_has_peers_and_targets(measured: list[Path], parts: list[dict[str, Any]]) -> None:
    done = bench("report", *measured, "--table")
    assert done.output == readme(collect(parts)) + "\n"
    for goal in collect(parts).goals:
        assert f"| {goal['name']} | " in done.output
    for name in parts[4]["peers"]:
        assert f"| {name} | " in done.output
    assert parts[0]["artefact"]["sha256"][:16] in done.output
    assert "not stable or too few samples" in done.output, "two rounds may not be believed"


def test_two_reports_are_compared_figure_by_figure(
    tmp_path: Path, measured: list[Path], parts: list[dict[str, Any]]
) -> None:
    faster = copy.deepcopy(parts)
    for part in faster:
        part["machine"]["cpu"] = "another"
    rate = faster[0]["films_a_second"]["pipeline"]
    rate.update({name: 2 * rate[name] for name in ("median", "min", "max")})
    one, other = collect(parts), collect(faster[:2])
    lines = compare(one, other)
    assert "One file on two machines." in lines
    assert next(line for line in lines if line.startswith("| films a second, pipeline")).endswith("| 2.000 |")
    assert sum(line.startswith("| ") for line in lines) - 2 == len(figures(other)), "what only one has is left out"
    for name, report in (("a", one), ("b", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(report.record()))
    done = bench("report", "--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert done.output.splitlines() == lines
    done = bench("report", "--compare", tmp_path / "a.json")
    assert (done.exit_code, "takes two report.json, not 1" in done.output) == (2, True)
