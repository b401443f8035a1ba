"""The report of the machine that the project was measured on: the README's table is made of it, and it is of what
ships."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

pytest.importorskip("matplotlib", reason='needs the extra: pip install ".[bench]"')

from bonefrac_benchmarks.artefact import artefact
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.report import ORDER, collect, read_parts, write_report
from bonefrac_benchmarks.report_tables import readme, sections

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "reports" / "machine"
REPORT = collect(read_parts([FOLDER / "report.json"]))


def test_the_readme_shows_the_table_of_the_committed_report() -> None:
    assert readme(REPORT) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_commands_measure_every_part_and_take_the_options_shown() -> None:
    readme_text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [shlex.split(line) for line in re.findall(r"^bonefrac-bench .*", readme_text, re.MULTILINE)]
    assert {line[1] for line in lines} == {*(name.split(",")[0] for name in ORDER), "report"}
    for line in lines:
        options = {option for param in main.commands[line[1]].params for option in param.opts}
        assert {word for word in line if word.startswith("--")} <= options
        assert isinstance(main.commands[line[1]], click.Command)


def test_the_committed_report_has_every_part_and_is_of_the_bundle_that_ships() -> None:
    shipped = artefact(ROOT / "models" / "flagship")
    assert {name: REPORT.artefact[name] for name in ("model", "precision", "file", "sha256")} == shipped.record()
    assert set(REPORT.parts) == set(ORDER)
    for name, part in REPORT.parts.items():
        assert (part["artefact"]["sha256"] == shipped.sha256) is (name != "scale, blank network"), name


def test_the_committed_page_is_that_of_its_json(tmp_path: Path) -> None:
    write_report(tmp_path, REPORT)
    for name in ("report.json", "report.md"):
        assert (FOLDER / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8")
    page, again = ((folder / "report.html").read_text(encoding="utf-8") for folder in (FOLDER, tmp_path))
    assert page.count("<svg") == again.count("<svg") == 7
    assert page[: page.index("<svg")] == again[: again.index("<svg")], (
        "plots alone may look otherwise with another version"
    )


def test_each_row_of_the_committed_report_has_the_hash_of_the_file_that_ships() -> None:
    table = sections(REPORT)[list(REPORT.parts).index("peers") + 1].tables[0]
    files = {row[0]: row[table.header.index("file")] for row in table.rows}
    for name, file in files.items():
        if name.startswith("Keras"):
            assert file.startswith("network.keras")
            continue
        precision = "int8" if name.startswith("bonefrac") or name.endswith("int8") else "float32"
        assert file == f"{precision} {artefact(ROOT / 'models' / 'flagship', precision).sha256[:8]}", name
    assert set(files.values()) >= {files["bonefrac"], files["ONNX Runtime, float32"]}
    assert files["bonefrac"] != files["ONNX Runtime, float32"]


def test_no_film_and_no_folder_of_the_machine_is_named() -> None:
    for file in sorted(FOLDER.iterdir()):
        text = file.read_text(encoding="utf-8")
        assert ".jpg" not in text, file.name
        assert "<img" not in text
    assert not [
        part for part in json.loads((FOLDER / "report.json").read_text())["parts"] if "/" in str(part.get("settings"))
    ]
