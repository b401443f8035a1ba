"""`bonefrac-bench`: thin. Options become settings; errors become one sentence and status 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click

from bonefrac.errors import BonefracError, UsageError


class _UsageFailure(click.ClickException):
    exit_code = 2


class _Measured(Protocol):
    def lines(self) -> list[str]: ...

    def record(self) -> dict[str, object]: ...


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Errors of ours become one line and status 2."""
    try:
        yield
    except BonefracError as error:
        raise _UsageFailure(str(error)) from error


_model = click.option("--model", default="flagship", show_default=True, metavar="NAME|PATH",
                      help="An installed bundle or a bundle's folder.")  # fmt: skip
_json = click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path),
                     help="Also write every sample to this file.")  # fmt: skip


@click.group()
def main() -> None:
    """Measure the bundle that ships, on this machine, beside the targets. Exit status 0 even where one is missed."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_model
@click.option("--workers", default=0, type=click.IntRange(0, 256), help="[default: one for each core]")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="What a window lasts at least; the films are repeated as often as needed.")  # fmt: skip
@click.option("--films", default=48, show_default=True, type=click.IntRange(1),
              help="Films taken from FOLDER at most, evenly spread.")  # fmt: skip
@_json
def throughput(json_file: Path | None, **options: object) -> None:
    """Films a second of pipeline, stages and the naive loop, interleaved, and how far from the bound.

    \b
    Example: bonefrac-bench throughput ./xrays
    """
    with _one_sentence():
        _check_writable(json_file)
        from bonefrac_benchmarks.throughput import ThroughputSettings, measure_throughput  # OpenCV: not for --help

        _tell(measure_throughput(ThroughputSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--films", "counts", multiple=True, default=(500, 5000), show_default=True, type=click.IntRange(1),
              help="Films in the folder; give it again for each size.")  # fmt: skip
@_model
@_json
def memory(folder: Path, counts: tuple[int, ...], model: str, json_file: Path | None) -> None:
    """Peak resident memory of bonefrac-batch on folders of N films, made of FOLDER's films as hard links.

    \b
    Example: bonefrac-bench memory ./xrays --films 500 --films 5000
    """
    with _one_sentence():
        _check_writable(json_file)
        from bonefrac_benchmarks.memory import measure_memory

        _tell(measure_memory(folder, counts, _absolute(model)), json_file)


@main.command()
@click.argument("film", type=click.Path(path_type=Path))
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1, 1000))
@_model
@_json
def startup(film: Path, rounds: int, model: str, json_file: Path | None) -> None:
    """Time to the first result of one FILM in a fresh process, over that of the imports alone.

    \b
    Example: bonefrac-bench startup ./xrays/wrist.jpg
    """
    with _one_sentence():
        _check_writable(json_file)
        from bonefrac_benchmarks.startup import measure_startup

        _tell(measure_startup(film, rounds, _absolute(model)), json_file)


def _absolute(model: str) -> str:
    from bonefrac_benchmarks.peers import bundle_folder

    return str(bundle_folder(model))


def _check_writable(json_file: Path | None) -> None:
    """Before minutes of measuring, not after."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UsageError(f"{json_file}: its folder does not exist; make it first or name another file")


def _tell(measured: _Measured, json_file: Path | None) -> None:
    click.echo("\n".join(measured.lines()))
    if json_file is not None:
        from bonefrac.sinks import atomic

        try:
            with atomic(json_file) as file:
                file.write(json.dumps(measured.record(), indent=1).encode() + b"\n")
        except OSError as error:
            raise UsageError(f"{json_file}: cannot be written: {error.strerror}; name another file") from error
