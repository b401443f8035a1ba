"""What README promises: its commands exist, its options exist, its picture is drawn, its demo finds something."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bonefrac.cli import main
from bonefrac.errors import NotAnalysed
from bonefrac.header import read_header

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_blocks_are_the_two_commands() -> None:
    """`.ci/run` runs them as they stand."""
    assert COMMANDS[0].strip().endswith("bonefrac demo")
    assert COMMANDS[1].strip().endswith("pytest")
    assert all(len(block.strip().splitlines()) == 1 for block in COMMANDS[:2])


def test_the_demo_finds_what_it_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.output
    with open(tmp_path / "xrays-results" / "results.csv", newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    found = [row["finding"] for name, row in rows.items() if "fracture" in name]
    assert "no_fracture_detected" not in found
    assert found.count("fracture") >= len(found) / 2
    assert "fracture" not in [row["finding"] for name, row in rows.items() if "clean" in name]
    assert rows["damaged.jpg"]["status"] == "failed"
    assert any(name.endswith("16-bit.png") and row["status"] == "ok" for name, row in rows.items())
    assert any("/" in name for name in rows)
    assert CliRunner().invoke(main, ["demo"]).exit_code == 2, "a folder that is there was written into"


def test_every_option_in_the_readme_exists() -> None:
    from bonefrac_export.cli import main as export
    from bonefrac_training.cli import main as train

    commands = [main.commands["batch"], main.commands["watch"], main.commands["check"], *train.commands.values()]
    parameters = [
        parameter for command in [*commands, export, *export.commands.values()] for parameter in command.params
    ]
    known = {option for parameter in parameters if isinstance(parameter, click.Option) for option in parameter.opts}
    named = set(re.findall(r"`(--[a-z-]+)[ `]", README))
    assert {"--jsonl", "--settle"} <= named
    assert named <= known | {"--help"}


@pytest.mark.parametrize("command", ["bonefrac-train fit", "bonefrac-export"])
def test_commands_that_make_the_model_take_the_options_shown(command: str) -> None:
    from bonefrac_export.cli import main as export
    from bonefrac_training.cli import main as train

    blocks = [block for block in COMMANDS if command in block]
    assert len(blocks) == (2 if command == "bonefrac-export" else 1)
    lines = " ".join("\n".join(blocks).replace("\\\n", " ").split("\n"))
    words = [part for part in re.split(r"(?=bonefrac-)", lines) if part.startswith(command)]
    assert words
    target: click.Command = export.commands["export"] if command == "bonefrac-export" else train.commands["fit"]
    known = {option for parameter in target.params if isinstance(parameter, click.Option) for option in parameter.opts}
    for line in words:
        assert {word for word in shlex.split(line) if word.startswith("--")} <= known


def test_the_picture_is_one_of_ours() -> None:
    """Only annotated pictures bear the mark, and the demo's films are drawn."""
    with pytest.raises(NotAnalysed, match="made by bonefrac"):
        read_header((ROOT / "docs" / "demo.jpg").read_bytes())


def test_help_of_every_command_ends_in_an_example() -> None:
    for name, command in main.commands.items():
        assert command.help, name
        assert command.help.strip().splitlines()[-1].strip().startswith("Example: bonefrac"), name


def test_the_page_of_what_was_measured_on_a_watched_inbox_is_that_of_the_reports() -> None:
    from bonefrac_benchmarks.holds import markdown

    reports = sorted((ROOT / "benchmarks" / "reports").glob("*.json"))
    page = (ROOT / "docs" / "watched-inbox.md").read_text(encoding="utf-8")
    assert len(reports) >= 4
    assert page[page.index("## ") :].splitlines() == markdown(reports)
