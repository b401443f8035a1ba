"""`bonefrac-bench`: what has to do with a watched inbox. Thin, as `cli`, which takes the commands in."""

from __future__ import annotations

from pathlib import Path

import click

from bonefrac_benchmarks.cli_shared import check_writable, device_option, json_option, model_option, one_sentence, tell

_seed = click.option("--seed", default=1, show_default=True, type=click.IntRange(0),
                     help="What is drawn by chance is drawn from it: the same again.")  # fmt: skip
_workdir = click.argument("workdir", required=False, type=click.Path(file_okay=False, path_type=Path))
_settle = click.option("--settle", default=2.0, show_default=True, type=click.FloatRange(0.1), metavar="SECONDS",
                       help="As for bonefrac watch.")  # fmt: skip
_rescan = click.option("--rescan", default=30.0, show_default=True, type=click.FloatRange(0.5), metavar="SECONDS",
                       help="As for bonefrac watch.")  # fmt: skip


@click.command(short_help="Drop films in every way there is, kill the watcher, count them.")
@_workdir
@click.option("--films", default=10_000, show_default=True, type=click.IntRange(1), help="Dropped in each of two runs.")
@click.option("--writers", default=8, show_default=True, type=click.IntRange(1, 64), help="Processes that drop them.")
@click.option("--kills", default=50, show_default=True, type=click.IntRange(0),
              help="How often the watcher is killed in the second run.")  # fmt: skip
@_seed
@click.option("--pause", default=6.0, show_default=True, type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Of a writer in the middle of a film; longer than the settle time.")  # fmt: skip
@click.option("--pauses", default=0.02, show_default=True, type=click.FloatRange(0, 0.5), metavar="SHARE",
              help="Of the films that are written with such a pause.")  # fmt: skip
@_settle
@_rescan
@model_option
@json_option
def soak(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """Drop films into a watched inbox in every way there is, kill the watcher meanwhile, account for every film.

    WORKDIR keeps films and results; without it they lie in a temporary folder.

    \b
    Example: bonefrac-bench soak --films 10000 --writers 8 --kills 50
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.passes import SoakSettings
        from bonefrac_benchmarks.soak import measure_soak

        tell(measure_soak(workdir, SoakSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@click.command(short_help="What a watcher costs that has nothing to do.")
@_workdir
@click.option("--films", default=50_000, show_default=True, type=click.IntRange(1),
              help="In the inbox, dealt with before it begins.")  # fmt: skip
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="How long it is looked at after all the films have their rows.")  # fmt: skip
@_settle
@_rescan
@model_option
@json_option
def idle(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """What bonefrac watch costs that has nothing to do: processor, memory, open files.

    \b
    Example: bonefrac-bench idle --films 50000 --minutes 60
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.idle import IdleSettings, measure_idle

        tell(measure_idle(workdir, IdleSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@click.command(short_help="From a film's drop to its row, one film at a time.")
@_workdir
@click.option("--films", default=20, show_default=True, type=click.IntRange(1), help="Dropped one after the other.")
@click.option("--beside", default=0, show_default=True, type=click.IntRange(0),
              help="Films that have their rows already: the table that is written is as long.")  # fmt: skip
@click.option("--gap", default=3.0, show_default=True, type=click.FloatRange(0), metavar="SECONDS",
              help="From one film's row to the next film, at most; a third of it at least.")  # fmt: skip
@_settle
@_rescan
@model_option
@json_option
def drop(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """From the end of a film's writing to its row, one film at a time.

    \b
    Example: bonefrac-bench drop --films 20
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.drop import DropSettings, measure_drop

        tell(measure_drop(workdir, DropSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@click.command(short_help="From a film's drop to its row, films at random times.")
@_workdir
@click.option("--rate", default=2.0, show_default=True, type=click.FloatRange(0, min_open=True), metavar="FILMS",
              help="A second, in the mean.")  # fmt: skip
@click.option("--films", default=662, show_default=True, type=click.IntRange(1), help="662 are needed for a p99.")
@_seed
@_settle
@_rescan
@device_option
@model_option
@json_option
def watch(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """From the end of a film's writing to its row, where films come at random (Poisson) times.

    \b
    Example: bonefrac-bench watch --rate 2 --films 662
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.arrivals import WatchSettings, measure_watch

        tell(measure_watch(workdir, WatchSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@click.command(short_help="Drop films while the queue of file events overflows.")
@_workdir
@click.option("--films", default=1000, show_default=True, type=click.IntRange(1), help="In all bursts together.")
@click.option("--bursts", default=4, show_default=True, type=click.IntRange(1), help="Times that the queue overflows.")
@click.option("--probes", default=8, show_default=True, type=click.IntRange(1), help="Films one by one, afterwards.")
@_settle
@_rescan
@model_option
@json_option
def overflow(workdir: Path | None, json_file: Path | None, **options: object) -> None:
    """Drop films while the kernel's queue of file events overflows, and measure when they are picked up.

    As root, the limit of new queues (fs.inotify.max_queued_events) is lowered while the watcher starts.

    \b
    Example: bonefrac-bench overflow --films 1000 --rescan 30
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.overflow import OverflowSettings, measure_overflow

        tell(measure_overflow(workdir, OverflowSettings(**options)), json_file)  # type: ignore[arg-type]  # checked


@click.command(short_help="What the four above wrote with --json, as tables in Markdown.")
@click.argument("reports", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def held(reports: tuple[Path, ...]) -> None:
    """What soak, idle, drop and overflow wrote with --json, as tables in Markdown.

    \b
    Example: bonefrac-bench held benchmarks/reports/soak.json
    """
    with one_sentence():
        from bonefrac_benchmarks.holds import markdown

        click.echo("\n".join(markdown(reports)))


COMMANDS = (watch, soak, drop, overflow, idle, held)
