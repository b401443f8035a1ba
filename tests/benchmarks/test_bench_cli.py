"""`bonefrac-bench --help`: what a user needs stands first, and every option says what it is."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from bonefrac_benchmarks.cli import main

USERS = ["throughput", "latency", "watch", "accuracy", "peers", "scale", "report"]
OTHERS = ["startup", "soak", "drop", "overflow", "idle", "held"]


def test_what_users_measure_stands_first_and_no_help_is_cut() -> None:
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    told = [line.split(maxsplit=1) for line in text[text.index("Commands:") :].splitlines() if line.startswith("  ")]
    assert [(name, short) for name, short in told] == [
        (name, main.commands[name].short_help) for name in [*USERS, *OTHERS]
    ]


def test_every_command_is_listed() -> None:
    assert main.list_commands(click.Context(main)) == [*USERS, *OTHERS]
    assert set(main.commands) == {*USERS, *OTHERS}


@pytest.mark.parametrize("name", [*USERS, *OTHERS])
def test_every_option_says_what_it_is(name: str) -> None:
    options = [option for option in main.commands[name].params if isinstance(option, click.Option)]
    assert [option.name for option in options if len((option.help or "").partition("[")[0]) < 10] == []
