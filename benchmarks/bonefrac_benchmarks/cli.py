"""`bonefrac-bench`: thin. Options become settings; errors become one sentence and status 2."""

from __future__ import annotations

from pathlib import Path

import click

from bonefrac.errors import UsageError
from bonefrac_benchmarks.cli_inbox import COMMANDS
from bonefrac_benchmarks.cli_shared import check_writable, device_option, json_option, model_option, one_sentence, tell

_SECTIONS = {
    "Commands": ("throughput", "latency", "watch", "accuracy", "peers", "scale", "report"),
    "Commands for work on bonefrac itself": ("startup", "soak", "drop", "overflow", "idle", "held"),
}


class _Bench(click.Group):
    """What a user measures stands first, not in the order of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in _SECTIONS.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str()) for name in names])


_films = click.option("--films", default=48, show_default=True, type=click.IntRange(1),
                      help="Films taken from FOLDER at most, evenly spread.")  # fmt: skip
_seconds = click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0, min_open=True),
                        help="What a window lasts at least; the films are repeated as often as needed.")  # fmt: skip


@click.group(cls=_Bench)
def main() -> None:
    """Measure the bundle that ships, on this machine, beside the targets. Exit status 0 even where one is missed."""


@main.command(short_help="Films a second, beside the bound and the naive loop.")
@click.argument("folder", type=click.Path(path_type=Path))
@model_option
@device_option
@click.option("--workers", default=0, type=click.IntRange(0, 256),
              help="Films examined at once; the bound is of so many cores. [default: as bonefrac-batch]")  # fmt: skip
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100),
              help="How often each is measured, in turn; three are needed.")  # fmt: skip
@_seconds
@_films
@json_option
def throughput(json_file: Path | None, **options: object) -> None:
    """Films a second of pipeline, stages and the naive loop, interleaved, and how far from the bound.

    \b
    Example: bonefrac-bench throughput ./xrays
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.throughput import ThroughputSettings, measure_throughput  # OpenCV: not for --help

        tell(measure_throughput(ThroughputSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command(short_help="How long one film takes, from its bytes to its row.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--films", default=662, show_default=True, type=click.IntRange(1), help="662 are needed for a p99.")
@device_option
@model_option
@json_option
def latency(json_file: Path | None, **options: object) -> None:
    """How long one film takes, one after the other, from its bytes to its row: quantiles that the sample allows.

    \b
    Example: bonefrac-bench latency ./xrays
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.latency import LatencySettings, measure_latency

        tell(measure_latency(LatencySettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command(short_help="Keras, ONNX Runtime and OpenVINO with the same network.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--keras", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="The Keras file that the bundle was made from; without it Keras is left out.")  # fmt: skip
@_films
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1, 100),
              help="How often each is measured, in turn; six and more give intervals.")  # fmt: skip
@click.option("--starts", default=3, show_default=True, type=click.IntRange(1, 100),
              help="How often each is started afresh.")  # fmt: skip
@_seconds
@model_option
@json_option
def peers(json_file: Path | None, **options: object) -> None:
    """Keras, ONNX Runtime and OpenVINO with the same network on the same films, interleaved, beside bonefrac.

    \b
    Example: bonefrac-bench peers ./xrays --keras network.keras
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.peers_run import PeersSettings, measure_peers

        tell(measure_peers(PeersSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command(short_help="Time and memory of folders of up to 50,000 films.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--films", multiple=True, default=(100, 1_000, 10_000, 50_000), show_default=True, type=click.IntRange(1),
              help="Films in the folder; give it again for each size.")  # fmt: skip
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100),
              help="How often each size is measured, in turn; three are needed.")  # fmt: skip
@click.option(
    "--blank", is_flag=True, help="With a network that does nothing: what is left is all that stands round it."
)
@device_option
@model_option
@json_option
def scale(json_file: Path | None, **options: object) -> None:
    """What a film costs in folders of N films, made of FOLDER's films as hard links: time, its growth, and peak memory.

    \b
    Example: bonefrac-bench scale ./xrays --blank --films 1000 --films 10000 --films 50000
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.scale import ScaleSettings, measure_scale

        tell(measure_scale(ScaleSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command(short_help="From the start of a process to the row of one film.")
@click.argument("film", type=click.Path(path_type=Path))
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1, 1000),
              help="How often both are started, in turn; three are needed.")  # fmt: skip
@device_option
@model_option
@json_option
def startup(json_file: Path | None, **options: object) -> None:
    """Time to the first result of one FILM in a fresh process, over that of the imports alone.

    \b
    Example: bonefrac-bench startup ./xrays/wrist.jpg
    """
    with one_sentence():
        check_writable(json_file)
        from bonefrac_benchmarks.startup import StartupSettings, measure_startup

        tell(measure_startup(StartupSettings(**options)), json_file)  # type: ignore[arg-type]  # Click checked


@main.command(short_help="How good a bundle is on labelled films.")
@click.argument("bundle")
@click.option("--labels", required=True, type=click.Path(exists=True, path_type=Path), metavar="DIR|CSV",
              help="Folder with images/, labels.csv and boxes.csv, or another such table beside them.")  # fmt: skip
@click.option("--fold", type=click.IntRange(0),
              help="Its films alone. [default: the fold that the bundle was never trained on]")  # fmt: skip
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
    with one_sentence():
        from bonefrac_benchmarks.accuracy_report import write_report
        from bonefrac_benchmarks.accuracy_run import AccuracySettings, measure_accuracy

        if options["all_folds"] and options["fold"] is not None:
            raise UsageError("--fold and --all-folds do not go together; leave one out")
        measured = measure_accuracy(AccuracySettings(**options, out=out))  # type: ignore[arg-type]  # Click checked
        click.echo("\n".join(measured.lines()))
        if out is not None:
            write_report(out, measured.figures, measured.judged, measured.again)
            click.echo(f"\nWritten: {out / 'accuracy.html'}, accuracy.md and accuracy.json")


@main.command(short_help="One page of what single commands wrote with --json.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Write report.html, report.md and report.json there.")  # fmt: skip
@click.option("--labels", type=click.Path(exists=True, path_type=Path), metavar="DIR|CSV",
              help="Measure the accuracy of --model on these films as well (see accuracy).")  # fmt: skip
@model_option
@click.option("--table", "as_table", is_flag=True, help="Print the short table of a README, also with --out.")
@click.option("--compare", "comparing", is_flag=True, help="FILES are two report.json: print one beside the other.")
def report(
    files: tuple[Path, ...], out: Path | None, labels: Path | None, model: str, as_table: bool, comparing: bool
) -> None:
    """Put together what single commands wrote with --json (accuracy: --out), of one file on one machine.

    FILES may also be a report.json. Parts of different files are refused.

    \b
    Example: bonefrac-bench report throughput.json latency.json accuracy/accuracy.json --out report
    """
    with one_sentence():
        from bonefrac_benchmarks.report import collect, read_parts, write_report
        from bonefrac_benchmarks.report_tables import compare, readme

        if comparing:
            if out is not None or labels is not None or as_table:
                raise UsageError("--compare prints two reports side by side: leave --out, --labels and --table out")
            if len(files) != 2:
                raise UsageError(f"--compare takes two report.json, not {len(files)}")
            click.echo("\n".join(compare(*(collect(read_parts([file])) for file in files))))
            return
        parts = read_parts(files)
        if labels is not None:
            from bonefrac_benchmarks.accuracy_run import AccuracySettings, measure_accuracy

            parts.append(measure_accuracy(AccuracySettings(model, labels)).figures)
        found = collect(parts)
        if out is not None:
            write_report(out, found)
            click.echo(f"Written: {out / 'report.html'}, report.md and report.json")
        if as_table or out is None:
            click.echo(readme(found))


for command in COMMANDS:
    main.add_command(command)
