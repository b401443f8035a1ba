"""`bonefrac-bench report`: parts of one file on one machine become a page; all others are refused."""

from __future__ import annotations

import copy
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("onnx", reason='needs the extra: pip install ".[bench]"')

from matplotlib.figure import Figure

from bonefrac.errors import UsageError
from bonefrac_benchmarks import report_plots, report_tables
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.machine import engine_digest, quota_words, this_machine
from bonefrac_benchmarks.report import ORDER, Report, collect, read_parts, without_films
from bonefrac_benchmarks.report_figures import figures, quota_text
from bonefrac_benchmarks.report_shape import SHAPES
from bonefrac_benchmarks.report_tables import about, compare, goals_table, readme, sections, summary
from bonefrac_benchmarks.report_targets import missed, targets

FILM = "IMG0001234.jpg"
INT8, FLOAT32, KERAS = ("1f" * 32, "2e" * 32, "3d" * 32)

Part = dict[str, Any]


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
def parts(measured: list[Path]) -> list[Part]:
    return read_parts(measured)


def an_accuracy(artefact: Part, machine: Part) -> Part:
    """As `accuracy --out` writes it, with the names of films that it has."""
    share = {"value": 0.9, "low": 0.8, "high": 0.95, "count": 9, "of": 10}
    figure = {name: share[name] for name in ("value", "low", "high")}
    confusion = dict.fromkeys(("true_positive", "false_negative", "false_positive", "true_negative"), 5)
    point = {"threshold": 0.5, "confusion": confusion, "f1": figure,
             **dict.fromkeys(("sensitivity", "specificity", "precision", "accuracy"), share)}  # fmt: skip
    flips = {"flips": 3, "films": [{"film": FILM, "fractured": True, "int8": 0.4, "float32": 0.6}],
             "right": {"int8": 1, "float32": 2}, "mcnemar_p": 0.625}  # fmt: skip
    values = {"ppv": {**figure, "value": 0.246}, "npv": {**figure, "value": 0.995}}
    return {
        "benchmark": "accuracy",
        "artefact": {**artefact, "region_level": 0.45, "points_chosen_on": "drawn, fold 0: sensitivity >= 0.95",
                     "points_chosen_with": "int8"},
        "machine": machine, "films": 20, "fractured": 10, "groups": 5,
        "split": {"name": "drawn, fold 0", "films": 21, "warning": ""},
        "without_finding": [{"film": FILM, "fractured": False, "reason": "damaged"}],
        "points": {"sensitive": point, "specific": point},
        "ranking": {"auroc": {"value": 0.91, "low": 0.85, "high": 0.97}, "auroc_delong": figure,
                    "auprc": {**figure, "value": 0.842}, "sensitivity_at_specificity_0.90": figure},
        "prevalence": [{"prevalence": 0.02, "sensitive": values, "specific": values}],
        "calibration": {"bins": 15, "ece": 0.0306, "brier": 0.03,
                        "reliability": [{"films": 10, "probability": 0.1, "fractured": 0.1}]},
        "body_regions": [{"of": "hand", "films": 12, "fractured": 6, "auroc": None, "sensitivity": None,
                          "specificity": None}],
        "hardware": [],
        "localisation": {"films_with_boxes": 10, "best_region_centre_in_box": {**share, "count": 7},
                         **dict.fromkeys(("map_peak_in_box", "best_region_iou_from_0.3", "heat_in_boxes",
                                          "regions_on_a_film_without_fracture"), figure),
                         "froc": {"threshold": [0.5]}},
        "between_precisions": {"precisions": ["int8", "float32"], "other_sha256": FLOAT32, "films": 20,
                               "auroc_difference": -0.0007, "delong_p": 0.431,
                               "heatmaps": {"films": 10, "correlation": 0.9976, "peak_within_a_cell": share},
                               "points": {"specific": flips}},
        "limits": ["Not a medical device.", "Points were chosen on the very fold that the figures are from."],
    }  # fmt: skip


def of_two_files(parts: list[Part]) -> list[Part]:
    """The same, as a bundle with an int8 file beside the float32 one and its Keras file would give it."""
    found = copy.deepcopy(parts)
    for part in found:
        one = part["artefact"]
        other, keras = ({**one, "precision": name, "file": file, "sha256": sha256}
                        for name, file, sha256 in (("float32", "float32.onnx", FLOAT32), ("keras", "n.keras", KERAS))
                        )  # fmt: skip
        part["artefact"] = {**one, "precision": "int8", "file": "int8.onnx", "sha256": INT8}
        part["other_files"] = [other] if part["benchmark"] != "peers" else [other, keras]
    rates, peers = found[0]["films_a_second"], found[4]["peers"]
    rates["naive int8"] = rates["naive float32"]
    for name in ("OpenVINO, int8", "OpenVINO, float32 file", "ONNX Runtime, int8", "Keras, folder"):
        peers[name] = copy.deepcopy(peers["bonefrac"])
    return found


def by(parts: list[Part], name: str) -> Part:
    return next(part for part in parts if part["benchmark"] == name)


def markdown_rows(lines: str) -> dict[str, str]:
    return {line[2:].split(" | ")[0]: line for line in lines.splitlines() if line.startswith("| ")}


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


# ---- the page


def test_a_page_has_every_part_its_plot_and_the_hash_at_every_figure(
    tmp_path: Path, measured: list[Path], parts: list[Part]
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
    assert page.count(f"SHA-256 {sha256[:16]}") >= page.count("<table") + page.count("<svg")
    assert sha256 in page
    for part in parts:
        assert part["validity"]["line"].split(";")[-1] in page
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    for found in (page, text, (tmp_path / "report" / "report.json").read_text(encoding="utf-8")):
        assert FILM not in found, "no film is named"
        assert "AUROC" in found or '"auroc"' in found
        assert str(tmp_path) not in found
    assert text.count(f"SHA-256 {sha256[:16]}") >= len(re.findall(r"^## ", text, re.MULTILINE))
    assert "…." not in page + text
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert len(heads) == len(set(heads))
    assert heads[0] == "Targets"
    for line in summary(collect([*parts, json.loads(accuracy.read_text())])):
        assert text.index(f"- {line}") < text.index("## Targets")
        assert html.unescape(page).index(f"<p>{line}</p>") < page.index("<h2>Targets")


def test_each_row_has_the_hash_of_the_file_that_it_ran(parts: list[Part]) -> None:
    report = collect(of_two_files(parts))
    throughput, peers = (next(s for s in sections(report) if s.name == name) for name in ("throughput", "peers"))
    short = {"int8": f"int8 {INT8[:8]}", "float32": f"float32 {FLOAT32[:8]}", "keras": f"n.keras {KERAS[:8]}"}
    expected = {"pipeline": "int8", "batch": "int8", "batch, annotate all": "int8", "naive float32": "float32",
                "naive int8": "int8"}  # fmt: skip
    table = throughput.tables[0]
    assert {row[0]: row[table.header.index("file")] for row in table.rows} == {k: short[v] for k, v in expected.items()}
    assert table.of.endswith(f"int8, SHA-256 {INT8[:16]}; float32, SHA-256 {FLOAT32[:16]}")
    assert throughput.tables[1].of.endswith(f"int8, SHA-256 {INT8[:16]}"), "the stages are of the file that ships alone"
    expected = {"bonefrac": "int8", "bonefrac with OpenVINO": "int8", "OpenVINO, int8": "int8",
                "OpenVINO, float32 file": "float32", "ONNX Runtime, int8": "int8", "ONNX Runtime, float32": "float32",
                "ONNX Runtime, film by film": "float32", "Keras, folder": "keras"}  # fmt: skip
    table = peers.tables[0]
    found = {row[0]: row[table.header.index("file")] for row in table.rows}
    assert found == {name: short[expected[name]] for name in report.parts["peers"]["peers"]}
    rows = markdown_rows(readme(report))
    assert short["float32"] in rows["ONNX Runtime, film by film"]
    assert short["int8"] not in rows["ONNX Runtime, film by film"]


def test_a_file_that_was_not_recorded_is_not_told_as_another(parts: list[Part]) -> None:
    found = of_two_files(parts)
    found[4]["other_files"], found[0]["other_files"] = [], []
    found[4]["settings"]["keras"] = "network.keras"
    found[4]["peers"]["a new one"] = found[4]["peers"]["bonefrac"]
    rows = markdown_rows(readme(collect(found)))
    assert rows["Keras, folder"].endswith("| network.keras |")
    assert rows["ONNX Runtime, film by film"].endswith("| float32 |")
    assert rows["a new one"].endswith("| not recorded |")


def test_speed_beside_accuracy_is_ours_alone_and_says_who_measured_it(parts: list[Part]) -> None:
    found = of_two_files(parts)
    report = collect([*found, an_accuracy(found[0]["artefact"], found[0]["machine"])])
    table = next(t for t in sections(report)[0].tables if t.title == "Speed and accuracy of this file")
    told = {row[0]: row[2] for row in table.rows}
    assert told["films a second, pipeline"] == "throughput"
    assert told["films a second, bonefrac"] == "peers"
    assert told["AUROC, drawn, fold 0"] == "accuracy"
    assert not [name for name in told if re.search(r"naive|, OpenVINO|ONNX Runtime|Keras|CPU ms|peak", name)]
    assert table.of == f"blank 0.3.0 int8, SHA-256 {INT8[:16]}"


def test_what_the_machine_tells_is_on_the_page(tmp_path: Path, measured: list[Path], parts: list[Part]) -> None:
    for number, part in enumerate(parts):
        part["machine"].update(
            flags=["avx9", "amx_drawn"], power={"governor": "powersave", "profile": "quiet"}, memory_gb=12.34,
            load=number / 4, quota=1.5,
        )  # fmt: skip
        (tmp_path / f"{number}.json").write_text(json.dumps(part))
    done = bench("report", *(tmp_path / f"{number}.json" for number in range(6)), "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "flags that matter: avx9 amx_drawn; power mode: governor powersave, profile quiet" in text
        assert "12.3 GB" in text
        assert "a quota of 1.5 cores" in text
        assert f"engine {engine_digest()}" in text
        assert "throughput 0.00, latency 0.25, watch 0.50, startup 0.75, peers 1.00, scale 1.25" in text
        assert text.count("NOT QUIET: load") == 3
        for load in ("0.75", "1.00", "1.25"):
            assert f"NOT QUIET: load {load} before it, 0.5 allowed" in text
    assert "not quiet before: startup, peers, scale" in readme(collect(parts))
    for part in parts:
        part["machine"].update(flags=[], power={}, load=None)
    lines = about(collect(parts))
    assert "flags that matter: not told by the system; power mode: not told by the system" in lines[2]
    assert "throughput unknown" in lines[4]
    assert not any("NOT QUIET" in line for section in sections(collect(parts)) for line in section.said)


def test_a_quota_that_nobody_looked_for_is_unknown() -> None:
    machine = this_machine().record()
    assert [quota_words(cores) for cores in (None, 1.5, "unknown")] == [
        "no quota", "a quota of 1.5 cores", "quota unknown"
    ]  # fmt: skip
    assert quota_text({**machine, "quota": None}) == "no quota"
    older = {**machine, "quota": None, "versions": {"bonefrac": "0.1.0"}}
    assert quota_text(older) == "quota unknown", "older files have null for both"
    assert quota_text({**older, "quota": 2.0}) == "a quota of 2 cores"
    assert quota_text({key: value for key, value in machine.items() if key != "quota"}) == "quota unknown"


def test_the_engines_digest_is_of_every_source_file(tmp_path: Path) -> None:
    def of(**files: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "inner").mkdir(parents=True)
        for name, text in files.items():
            (folder / f"{name.replace('__', '/')}.py").write_text(text)
        (folder / "cache.pyc").write_text(str(folder))
        return engine_digest(folder)

    found = [of(a="x", b="y"), of(a="x", b="z"), of(a="x", c="y"), of(a="xy", b=""), of(a="x", b="y", inner__c="")]
    assert len(set(found)) == 5
    assert found[0] == of(b="y", a="x")
    assert this_machine().versions["engine"] == engine_digest()
    assert len(engine_digest()) == 12


def test_dots_are_drawn_whole_and_waiting_begins_at_the_settle_time(
    parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets: list[Figure] = []

    def draw(size: tuple[float, float], fill: Callable[[Figure], None]) -> str:
        sheets.append(Figure(figsize=size))
        fill(sheets[-1])
        return "<svg/>"

    monkeypatch.setattr(report_plots, "svg", draw)
    report_plots.plots(collect([by(parts, "scale"), by(parts, "watch")]))
    watch, scale = sheets
    for axes in scale.axes:
        highest = max(float(np.max(line.get_ydata())) for line in axes.lines)
        assert axes.get_ylim()[1] > 1.05 * highest
        assert axes.get_ylim()[0] == 0
    bottom, top = watch.axes[1].get_ylim()
    assert bottom == by(parts, "watch")["settings"]["settle"] == 0.3
    assert top > max(by(parts, "watch")["row_s"]["samples"])


def test_no_table_is_wider_than_the_page(tmp_path: Path, measured: list[Path]) -> None:
    assert bench("report", *measured, "--out", tmp_path).exit_code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('<div class="wide"><table>') == page.count("<table") > 5
    assert "td:first-child { white-space: normal }" in page[page.index("white-space: nowrap") :]


def test_a_report_can_be_made_of_its_own_json(tmp_path: Path, measured: list[Path], parts: list[Part]) -> None:
    accuracy = tmp_path / "accuracy.json"
    accuracy.write_text(json.dumps(an_accuracy(parts[0]["artefact"], parts[0]["machine"])))
    assert bench("report", *measured, accuracy, "--out", tmp_path / "a").exit_code == 0
    assert bench("report", tmp_path / "a" / "report.json", "--out", tmp_path / "b").exit_code == 0
    for name in ("report.html", "report.json", "report.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_every_kind_of_part_has_its_place() -> None:
    from bonefrac_benchmarks import report_figures

    assert set(report_figures._FIGURES) == set(report_tables._TABLES) == set(ORDER)
    assert set(SHAPES) == {name.split(",")[0] for name in ORDER}


# ---- accuracy


def test_accuracy_stands_with_all_that_makes_it_smaller(parts: list[Part]) -> None:
    found = an_accuracy(parts[0]["artefact"], parts[0]["machine"])
    report = collect([*parts, found])
    section = sections(report)[-1]
    titles = {table.title: table for table in section.tables}
    may = titles["Accuracy: May int8 be used? int8 against float32"]
    assert may.rows[0] == ("specific point", "3", "1", "2", "0.625")
    assert "-0.0007, DeLong's p 0.431" in may.note
    assert FLOAT32[:16] in may.note
    assert titles["Accuracy: Heat maps of 10 films with a fracture, int8 against float32"].rows[0][0] == "0.9976"
    told = str([table.rows for table in section.tables])
    for words in ("0.246", "0.995", "0.842", "hand", "7 of 10", "0.0306"):
        assert words in told
    caveat = "were chosen on these very films"
    for title in ("At the operating points", "Calibration", "Does it look where the fracture is?"):
        assert caveat in titles[f"Accuracy: {title}"].note
    assert caveat in summary(report)[2]
    assert caveat in next(t for t in sections(report)[0].tables if "accuracy" in t.title).note
    assert list(section.limits) == found["limits"]
    found["artefact"]["points_chosen_on"] = "others, fold 1: sensitivity >= 0.95"
    assert caveat not in str(sections(collect([*parts, found])))


def test_the_limits_are_on_page_and_markdown(tmp_path: Path, measured: list[Path], parts: list[Part]) -> None:
    found = an_accuracy(parts[0]["artefact"], parts[0]["machine"])
    (tmp_path / "accuracy.json").write_text(json.dumps(found))
    assert bench("report", *measured, tmp_path / "accuracy.json", "--out", tmp_path / "out").exit_code == 0
    for name in ("report.html", "report.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert all(limit in text for limit in found["limits"])


def test_accuracy_of_another_machine_and_seen_films_is_told(parts: list[Part]) -> None:
    found = an_accuracy(parts[0]["artefact"], {**parts[0]["machine"], "cpu": "another"})
    found["split"]["warning"] = "These films were trained on."
    said = sections(collect([*parts, found]))[-1].said
    assert said[0] == "WARNING: These films were trained on."
    assert f"computed elsewhere than the speed was measured: cpu: {parts[0]['machine']['cpu']} and another" in said[1]
    found["machine"] = {**parts[0]["machine"], "versions": {**parts[0]["machine"]["versions"], "numpy": "1.0"}}
    assert "numpy: " in sections(collect([*parts, found]))[-1].said[1]
    found["machine"] = parts[0]["machine"]
    assert len(sections(collect([*parts, found]))[-1].said) == 1


def test_nothing_else_of_an_accuracy_is_lost(parts: list[Part]) -> None:
    found = an_accuracy(parts[0]["artefact"], parts[0]["machine"])
    left = without_films(found)
    assert FILM not in json.dumps(left)
    assert found.keys() - left.keys() == {"without_finding"}
    assert left["between_precisions"]["points"]["specific"]["flips"] == 3
    assert found["without_finding"], "what was handed in is as it was"


# ---- targets


def verdicts(report: Report) -> dict[str, tuple[str, str]]:
    return {target.key: (target.measured, target.verdict()) for target in targets(report)}


def goal(name: str, value: float, bound: Part, **others: Any) -> Part:
    return {"name": name, "median": value, "min": value, "max": value, "interval": None, "samples": [value], **bound,
            "unit": "", "digits": 3, "reached": True, **others}  # fmt: skip


def test_what_nothing_measured_is_told_and_other_networks_name_their_report(parts: list[Part]) -> None:
    found = verdicts(collect([by(parts, "latency")]))
    assert len(found) == 13
    for name in (
        "pipeline / bound", "batch, annotate all / batch", "fastest of bonefrac / Keras, folder",
        "fastest of bonefrac / Keras, film by film", "fastest of bonefrac / fastest of OpenVINO",
        "bonefrac / fastest of OpenVINO", "highest peak memory", "peak memory of 50000 films / of 1000",
        "growth exponent of time, off 1 by, 1000 to 50000 films", "cold start / imports alone",
    ):  # fmt: skip
        assert found[name] == ("not measured", "not measured")
    for name in ("flagship", "mobilenetv2", "resnet50v2"):
        measured, verdict = found[f"{name}: fastest of bonefrac / fastest of OpenVINO"]
        assert (measured.startswith("see benchmarks/reports/machine"), verdict) == (True, "see there")
    parts[1]["artefact"]["model"] = "mobilenetv2 0.1.0"
    found = verdicts(collect([by(parts, "latency")]))
    assert "mobilenetv2: fastest of bonefrac / fastest of OpenVINO" not in found
    assert found["flagship: fastest of bonefrac / fastest of OpenVINO"][0] == "see benchmarks/reports/machine"


def test_growth_in_smaller_folders_is_not_the_growth_that_is_asked_of(parts: list[Part]) -> None:
    scale, key = by(parts, "scale"), "growth exponent of time, off 1 by, 1000 to 50000 films"
    scale["goals"].append(goal("growth exponent of time, off 1 by", 0.01, {"at_most": 0.02}))
    assert verdicts(collect([scale]))[key][0] == "not measured"
    for sizes, measured in (
        ((1000, 10_000), "not measured"),
        ((100, 50_000), "not measured"),
        ((1000, 50_000), "0.010"),
    ):
        for size, films in zip(scale["sizes"], sizes, strict=True):
            size["films"] = films
        assert verdicts(collect([scale]))[key][0] == measured


def test_a_verdict_of_an_unstable_part_is_marked(parts: list[Part]) -> None:
    scale, throughput = by(parts, "scale"), by(parts, "throughput")
    scale["validity"].update(unstable=True, enough=False)
    scale["goals"] = [goal("a", 1, {"at_least": 0.5}, unstable=[]), goal("b", 0, {"at_least": 0.5}, reached=False)]
    throughput["validity"].update(unstable=True, enough=True)
    throughput["goals"] = [
        goal("c", 1, {"at_least": 0.5}, unstable=[]), goal("d", 1, {"at_least": 0.5}, unstable=["naive float32"]),
        goal("e", 1, {"at_least": 0.5}),
    ]  # fmt: skip
    report = collect([scale, throughput])
    found = {name: verdict for name, (_, verdict) in verdicts(report).items()}
    assert [found[name] for name in "abcde"] == [
        "yes, unstable and too few", "NO, unstable and too few", "yes", "yes, unstable", "yes, unstable"
    ]  # fmt: skip
    assert "| yes, unstable |" in readme(report)
    judged = [verdict for verdict in found.values() if verdict.startswith(("yes", "NO"))]
    doubted = sum("unstable" in verdict for verdict in judged)
    assert f"{doubted} of the {len(judged)} verdicts" in summary(report)[0]
    scale["validity"].update(unstable=False, enough=True)
    assert verdicts(collect([scale]))["a"][1] == "yes"


def test_the_highest_memory_is_that_of_every_part_that_ran_the_engine(parts: list[Part]) -> None:
    scale, peers = by(parts, "scale"), by(parts, "peers")
    scale["runs"][0]["peak_mb"], scale["runs"][1]["peak_mb"] = 300.0, 290.0
    peers["peers"]["bonefrac"]["peak_mb"] = 350.3
    peers["peers"]["ONNX Runtime, float32"]["peak_mb"] = 999.0
    for part in (scale, peers):
        part["validity"].update(unstable=False, enough=True)
    report = collect([scale, peers])
    assert verdicts(report)["highest peak memory"] == ("350.3 MB (peers, bonefrac)", "NO")
    assert verdicts(collect([scale]))["highest peak memory"] == ("300 MB (scale, 4 films)", "yes")
    assert [row[0] for row in goals_table(report).rows].count("highest peak memory") == 1
    assert "ONNX Runtime, float32 999" in dict(missed(report))["highest peak memory"]


@pytest.mark.parametrize(
    ("value", "bound", "reached", "text"),
    [(0.0201, {"at_most": 0.02}, False, "0.0201"), (0.02009, {"at_most": 0.02}, False, "0.0201"),
     (0.0199, {"at_most": 0.02}, True, "0.020"), (0.9196, {"at_least": 0.92}, False, "0.9196"),
     (0.9204, {"at_least": 0.92}, True, "0.920"), (0.851, {"at_least": 0.92}, False, "0.851")],
)  # fmt: skip
def test_rounding_does_not_hide_a_verdict(
    parts: list[Part], value: float, bound: Part, reached: bool, text: str
) -> None:
    throughput = by(parts, "throughput")
    throughput["goals"] = [goal("one / other", value, bound, reached=reached)]
    assert verdicts(collect([throughput]))["one / other"][0] == text


def test_each_missed_target_tells_where_it_goes(parts: list[Part]) -> None:
    found = of_two_files(parts)
    throughput, peers, startup = found[0], found[4], found[3]
    throughput["goals"][0].update(reached=False)
    peers["peers"]["bonefrac"]["cpu_ms_a_film"]["median"] = 19.24
    peers["peers"]["bonefrac"]["films_a_second"]["median"] = 100.0
    peers["goals"] = [goal("bonefrac / OpenVINO, int8", 0.7, {"at_least": 0.9}, reached=False)]
    startup["batch_s"]["median"], startup["imports_s"]["median"] = 0.5, 0.2
    startup["goals"][0].update(reached=False)
    growth = {"value": 0.97, "low": 0.96, "high": 0.98}
    blank = {**copy.deepcopy(found[5]), "growth": growth}
    blank["settings"]["blank"] = True
    blank["goals"] = [goal("growth exponent of time, off 1 by, blank network", 0.03, {"at_most": 0.02}, reached=False)]
    report = collect([*found, blank])
    told = dict(missed(report))
    assert set(told) == {target.name for target in targets(report) if target.reached is False}
    for stage, spent in throughput["stage_within_pipeline_ms_a_film"].items():
        alone = throughput["stage_alone_ms_a_film"][stage]["median"]
        assert f"{stage} {spent['median']:.2f} (alone {alone:.2f})" in told["pipeline / bound"]
    busy = f"19.2 ms of processor a film, and 1.92 of {peers['machine']['cores']} cores kept busy."
    assert f"bonefrac: {busy}" in told["bonefrac / OpenVINO, int8"]
    assert "OpenVINO, int8: " in told["bonefrac / OpenVINO, int8"]
    assert "the other 0.300 s" in told["bonefrac-batch of one film / imports alone"]
    assert "0.970 (0.960 to 0.980)" in told["growth exponent of time, off 1 by, blank network"]
    assert "Blank network: one that does nothing" in goals_table(report).note
    assert "Blank network: one that does nothing" in about(report)[-1]
    assert sections(report)[0].tables[1].rows == missed(report)
    throughput["goals"] = [goal("pipeline / bound", 1, {"at_least": 0.9})]
    assert len(sections(collect([throughput]))[0].tables) == 2, "nothing is explained where nothing is missed"


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
    assert (done.exit_code, "parts of different machines, 'throughput' and 'latency' (cpu:" in done.output) == (2, True)


@pytest.mark.parametrize("name", ["onnxruntime", "bonefrac", "engine", "Python"])
def test_parts_of_two_versions_are_refused_and_named(parts: list[Part], name: str) -> None:
    machine = parts[1]["machine"]
    was = machine["python"] if name == "Python" else machine["versions"][name]
    if name == "Python":
        machine["python"] = "2.7"
    else:
        machine["versions"][name] = "2.7"
    with pytest.raises(UsageError, match=rf"'throughput' and 'latency'.*\({name}: {was} and 2\.7\)"):
        collect(parts)


def test_files_without_a_digest_of_the_engine_are_read_but_not_mixed_with_others(parts: list[Part]) -> None:
    for part in parts:
        del part["machine"]["versions"]["engine"]
    assert len(collect(parts).parts) == 6
    parts[2]["machine"]["versions"]["engine"] = "a state"
    with pytest.raises(UsageError, match=r"\(engine: not told and a state\)"):
        collect(parts)


def test_parts_on_two_devices_are_refused(parts: list[Part]) -> None:
    parts[1]["settings"]["device"] = "cuda"
    with pytest.raises(UsageError, match=r"different devices .*throughput on cpu, latency on cuda"):
        collect(parts[:2])
    assert about(collect(parts[1:2]))[1].endswith("; on cuda")


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


def _without(*path: str) -> Callable[[Part], None]:
    def change(part: Part) -> None:
        *places, last = path
        for place in places:
            part = part[place]
        del part[last]

    return change


def _with(value: Any, *path: str) -> Callable[[Part], None]:
    def change(part: Part) -> None:
        *places, last = path
        for place in places:
            part = part[place]
        part[last] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("scale", _without("settings"), "settings is missing"),
        ("scale", _with([], "sizes"), "sizes is empty"),
        ("scale", _with([{"films": 3}], "runs"), "runs[0].seconds is missing"),
        ("throughput", _without("machine"), "machine is missing"),
        ("throughput", _without("films_a_second", "batch"), "films_a_second.batch is missing"),
        ("throughput", _with("fast", "bound_films_a_second", "median"), "bound_films_a_second.median is no number"),
        ("throughput", _with([{"name": "x"}], "goals"), "goals[0].median is missing"),
        ("throughput", _with([goal("x", 1, {})], "goals"), "goals[0] has no target"),
        ("throughput", _with("a list", "goals"), "goals is no list"),
        ("latency", _with(7, "row_s"), "row_s is no table of names and values"),
        ("latency", _with(["a"], "row_s", "samples"), "row_s.samples[0] is no number"),
        ("latency", _with([], "row_s", "samples"), "row_s.samples is empty"),
        ("latency", _with(float("nan"), "row_s", "quantiles", "p50", "value"), "p50.value is no number"),
        ("latency", _with(True, "machine", "cores"), "machine.cores is no whole number"),
        ("watch", _without("settings", "settle"), "settings.settle is missing"),
        ("startup", _without("validity"), "validity is missing"),
        ("startup", _with(3, "artefact", "sha256"), "artefact.sha256 is no text"),
        ("peers", _with({}, "peers"), "peers.bonefrac is missing"),
        ("peers", _with(None, "peers", "bonefrac", "peak_mb"), "peers.bonefrac.peak_mb is no number"),
        ("accuracy", _without("between_precisions"), "between_precisions is missing"),
        ("accuracy", _with({}, "between_precisions", "points", "specific", "right"), "how often each is right"),
        ("accuracy", _with(None, "ranking", "auroc_delong"), "ranking.auroc_delong is no table"),
        ("accuracy", _without("limits"), "limits is missing"),
    ],
)
def test_a_part_that_lacks_what_a_report_reads_is_refused_in_one_sentence(
    tmp_path: Path, parts: list[Part], name: str, change: Callable[[Part], None], said: str
) -> None:
    part = by([*parts, an_accuracy(parts[0]["artefact"], parts[0]["machine"])], name)
    change(part)
    (tmp_path / "part.json").write_text(json.dumps(part))
    (tmp_path / "report.json").write_text(json.dumps({"benchmark": "report", "parts": [part]}))
    for arguments in (
        ("report", tmp_path / "part.json", "--out", tmp_path / "out"),
        ("report", tmp_path / "report.json"),
        ("report", "--compare", tmp_path / "part.json", tmp_path / "report.json"),
    ):
        done = bench(*arguments)
        assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
        assert f"json: its '{name}' is not as bonefrac-bench writes it: " in done.output
        assert said in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"benchmark": "scale"}', "artefact is missing"),
        ('{"benchmark": "report", "parts": [1, 2]}', "it does not say what was measured"),
        ('{"benchmark": "report", "parts": [{}]}', "it does not say what was measured"),
        ('{"benchmark": "report", "parts": []}', "there is nothing to report"),
        ('{"benchmark": "report", "parts": 3}', "is no file that bonefrac-bench has written"),
        ('{"benchmark": ["scale"]}', "it does not say what was measured"),
        ('{"parts": []}', "is no file that bonefrac-bench has written"),
    ],
)
def test_a_file_of_another_shape_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "part.json").write_text(text)
    done = bench("report", tmp_path / "part.json")
    assert (done.exit_code, done.output.count("\n"), said in done.output) == (2, 1, True), done.output


def test_a_blank_network_may_stand_beside_and_is_in_no_figure_of_the_file(parts: list[Part]) -> None:
    blank = copy.deepcopy(parts[5])
    blank["settings"]["blank"] = True
    blank["artefact"]["sha256"] = 64 * "0"
    report = collect([*parts, blank])
    assert list(report.parts)[-1] == "scale, blank network"
    whole, *others = sections(report)
    assert not any("blank" in row[0] for row in whole.tables[-1].rows)
    assert "0" * 16 in others[-1].tables[0].of
    assert others[-1].tables[0].title != others[-2].tables[0].title
    assert "blank" in others[-1].tables[0].title
    assert collect([blank]).artefact["sha256"] == 64 * "0"


# ---- table and comparison


def test_the_readmes_table_has_peers_and_targets(measured: list[Path], parts: list[Part]) -> None:
    done = bench("report", *measured, "--table")
    assert done.output == readme(collect(parts)) + "\n"
    for one in collect(parts).goals:
        assert f"| {one['name']} | " in done.output
    for name in parts[4]["peers"]:
        assert f"| {name} | " in done.output
    assert parts[0]["artefact"]["sha256"][:16] in done.output
    assert "not stable or too few samples" in done.output, "two rounds may not be believed"


def test_two_reports_are_compared_figure_by_figure(tmp_path: Path, measured: list[Path], parts: list[Part]) -> None:
    faster = copy.deepcopy(parts)
    for part in faster:
        part["machine"].update(cpu="another", memory_gb=7.5, power={"governor": "powersave"})
        part["machine"]["versions"]["onnxruntime"] = "9.9"
    rate = faster[0]["films_a_second"]["pipeline"]
    rate.update({name: 2 * rate[name] for name in ("median", "min", "max")})
    faster[0]["goals"][0].update(median=0.95, min=0.95, max=0.95, reached=True)
    one, other = collect(parts), collect([faster[0], faster[1], faster[4]])
    lines = compare(one, other)
    was = parts[0]["machine"]
    assert f"One file on two machines; other versions: onnxruntime: {was['versions']['onnxruntime']} and 9.9." in lines
    text = "\n".join(lines)
    rows = markdown_rows(text)
    assert rows["films a second, pipeline"].endswith("| 2.000 | more |")
    assert rows["one film after the other, p50, ms"].endswith("| 1.000 | less |")
    for name in ("CPU ms a film, bonefrac", "peak MB, bonefrac", "first result s, bonefrac"):
        assert rows[name].endswith(" | 1.000 | less |")
    assert rows["memory"] == f"| memory | {was['memory_gb']:.1f} GB | 7.5 GB |"
    assert rows["power mode"].endswith("| governor powersave |")
    assert rows["processor"].endswith("| another |")
    assert rows["onnxruntime"].endswith("| 9.9 |")
    assert rows["scale"].endswith("| not measured |")
    assert parts[4]["validity"]["line"].split(";")[-1] in rows["peers"]
    assert "| 0.950 (0.950 to 0.950) | yes" in rows["pipeline / bound, at least 0.92"]
    assert "| not measured | not measured |" in rows["cold start / imports alone, at most 1.6"]
    listed = text[text.index("## Figures") : text.index("## Targets")]
    assert listed.count("\n| ") - 2 == len(figures(other)), "what only one has is left out"
    for name, report in (("a", one), ("b", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(report.record()))
    done = bench("report", "--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert done.output.splitlines() == lines
    done = bench("report", "--compare", tmp_path / "a.json", tmp_path / "b.json", "--table")
    assert (done.exit_code, "leave --out, --labels and --table out" in done.output) == (2, True)
    done = bench("report", "--compare", tmp_path / "a.json")
    assert (done.exit_code, "takes two report.json, not 1" in done.output) == (2, True)


def test_memory_of_large_folders_is_compared(parts: list[Part]) -> None:
    more = copy.deepcopy(parts[5])
    more["sizes"][1]["peak_mb"].update(
        {name: 2 * more["sizes"][1]["peak_mb"][name] for name in ("median", "min", "max")}
    )
    rows = markdown_rows("\n".join(compare(collect(parts[5:]), collect([more]))))
    assert rows["peak MB, folder of 8"].endswith("| 2.000 | less |")


def test_what_alone_differs_is_told(parts: list[Part]) -> None:
    same = collect(copy.deepcopy(parts))
    assert compare(collect(parts), same)[2] == "The same file on the same machine, with the same versions."
    for part in parts:
        part["machine"]["versions"]["engine"] = "a state"
    assert compare(collect(parts), same)[2] == (
        f"The same file on the same machine; other versions: engine: a state and {engine_digest()}."
    )
    for part in parts:
        part["artefact"]["sha256"] = 64 * "0"
        part["machine"]["versions"]["engine"] = engine_digest()
    assert compare(collect(parts), same)[2].startswith("Two files on one machine, with the same versions.")


def test_nothing_in_common_is_an_error(tmp_path: Path, measured: list[Path]) -> None:
    done = bench("report", "--compare", measured[1], measured[3])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "there is nothing to compare: A has latency, B has startup" in done.output
