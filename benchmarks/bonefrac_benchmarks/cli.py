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
    """Errors of ours, and a missing package, become one line and status 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise _UsageFailure(f'{error.name} is missing: type  pip install "bonefrac[bench]"') from error
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


@main.command()
@click.argument("bundle")
@click.option("--labels", required=True, type=click.Path(exists=True, path_type=Path), metavar="DIR|CSV",
              help="Folder with images/, labels.csv and boxes.csv, or another such table beside them.")  # fmt: skip
@click.option("--fold", type=click.IntRange(0), help="[default: the fold that the bundle was never trained on]")
@click.option("--all-folds", is_flag=True, help="Every film, also those that it was trained on.")
@click.option("--precision", default="auto", show_default=True,
              type=click.Choice(["auto", "int8", "float32", "float16"]),
              help="Which of the bundle's files; auto is its default.")  # fmt: skip
@click.option("--prevalence", "prevalences", multiple=True, default=(0.02, 0.1), show_default=True,
              type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
              help="Of fractured films, for the predictive values. Repeatable.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Write accuracy.json, accuracy.md and accuracy.html, which shows films, there.")  # fmt: skip
def accuracy(out: Path | None, **options: object) -> None:
    """How good a BUNDLE (a folder, or an installed name) is on labelled films, with intervals and its worst errors.

    \b
    Example: bonefrac-bench accuracy flagship --labels fracatlas --out accuracy
    """
    with _one_sentence():
        from bonefrac_benchmarks.accuracy_report import write_report
        from bonefrac_benchmarks.accuracy_run import AccuracySettings, measure_accuracy

        if options["all_folds"] and options["fold"] is not None:
            raise UsageError("--fold and --all-folds do not go together; leave one out")
        measured = measure_accuracy(AccuracySettings(**options, out=out))  # type: ignore[arg-type]  # Click checked
        click.echo("\n".join(measured.lines()))
        if out is not None:
            write_report(out, measured.figures, measured.judged, measured.again)
            click.echo(f"\nWritten: {out / 'accuracy.html'}, accuracy.md and accuracy.json")


_workdir = click.argument("workdir", required=False, type=click.Path(file_okay=False, path_type=Path))
_settle = click.option("--settle", default=2.0, show_default=True, type=click.FloatRange(0.1), metavar="SECONDS",
                       help="As for bonefrac watch.")  # fmt: skip
_rescan = click.option("--rescan", default=30.0, show_default=True, type=click.FloatRange(0.5), metavar="SECONDS",
                       help="As for bonefrac watch.")  # fmt: skip


@main.command()
@_workdir
@click.option("--films", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--writers", default=8, show_default=True, type=click.IntRange(1, 64))
@click.option("--kills", default=50, show_default=True, type=click.IntRange(0))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--pause", default=6.0, show_default=True, type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Of a writer in the middle of a film; longer than the settle time.")  # fmt: skip
@click.option("--pauses", default=0.02, show_default=True, type=click.FloatRange(0, 0.5), metavar="SHARE",
              help="Of the films that are written with such a pause.")  # fmt: skip
@_settle
@_rescan
@_model
@_json
def soak(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """Drop films into a watched inbox in every way there is, kill the watcher meanwhile, account for every film.

    WORKDIR keeps films and results; without it they lie in a temporary folder.

    \b
    Example: bonefrac-bench soak --films 10000 --writers 8 --kills 50
    """
    with _one_sentence():
        _check_writable(json_file)
        from bonefrac_benchmarks.passes import SoakSettings
        from bonefrac_benchmarks.soak import measure_soak

        _tell(measure_soak(workdir, SoakSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command()
@_workdir
@click.option("--films", default=50_000, show_default=True, type=click.IntRange(1))
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="How long it is looked at after all the films have their rows.")  # fmt: skip
@_settle
@_rescan
@_model
@_json
def idle(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """What bonefrac watch costs that has nothing to do: processor, memory, open files.

    \b
    Example: bonefrac-bench idle --films 50000 --minutes 60
    """
    with _one_sentence():
        _check_writable(json_file)
        from bonefrac_benchmarks.idle import IdleSettings, measure_idle

        _tell(measure_idle(workdir, IdleSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command()
@_workdir
@click.option("--films", default=20, show_default=True, type=click.IntRange(1))
@click.option("--beside", default=0, show_default=True, type=click.IntRange(0),
              help="Films that have their rows already: the table that is written is as long.")  # fmt: skip
@click.option("--gap", default=3.0, show_default=True, type=click.FloatRange(0), metavar="SECONDS",
              help="From one film's row to the next film, at most; a third of it at least.")  # fmt: skip
@_settle
@_rescan
@_model
@_json
def drop(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """From the end of a film's writing to its row, one film at a time.

    \b
    Example: bonefrac-bench drop --films 20
    """
    with _one_sentence():
        _check_writable(json_file)
        from bonefrac_benchmarks.drop import DropSettings, measure_drop

        _tell(measure_drop(workdir, DropSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command()
@_workdir
@click.option("--films", default=1000, show_default=True, type=click.IntRange(1), help="In all bursts together.")
@click.option("--bursts", default=4, show_default=True, type=click.IntRange(1))
@click.option("--probes", default=8, show_default=True, type=click.IntRange(1), help="Films one by one, afterwards.")
@_settle
@_rescan
@_model
@_json
def overflow(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """Drop films while the kernel's queue of file events overflows, and measure when they are picked up.

    As root, the limit of new queues (fs.inotify.max_queued_events) is lowered while the watcher starts.

    \b
    Example: bonefrac-bench overflow --films 1000 --rescan 30
    """
    with _one_sentence():
        _check_writable(json_file)
        from bonefrac_benchmarks.overflow import OverflowSettings, measure_overflow

        _tell(measure_overflow(workdir, OverflowSettings(**options)), json_file)  # type: ignore[arg-type]  # checked


@main.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def held(reports: tuple[Path, ...]) -> None:
    """What soak, idle, drop and overflow wrote with --json, as tables in Markdown.

    \b
    Example: bonefrac-bench held benchmarks/reports/soak.json
    """
    from bonefrac_benchmarks.holds import markdown

    click.echo("\n".join(markdown(reports)))


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
