"""The command line: thin. Options become settings; errors become one sentence and an exit status."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bonefrac import __version__
from bonefrac.cli_errors import one_sentence
from bonefrac.cli_watch import service_command, status_command, watch_command


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Look for bone fractures in radiographs, offline. It assists; it does not diagnose."""


def _inputs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """Paths; an empty one is refused, for a script's empty variable must not mean the folder it stands in."""
    if not all(values):
        raise click.BadParameter("an empty name; give a file or a folder")
    return tuple(map(Path, values))


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", callback=_inputs)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for results. [default: INPUT-results, beside INPUT]"
)
@click.option(
    "--model",
    default="flagship",
    show_default=True,
    metavar="NAME|PATH",
    help="An installed bundle or a bundle's folder.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|...",
              help="auto: CUDA where it works, else the CPU. A named one that is missing is an error.")  # fmt: skip
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "int8", "float32", "float16"]),
    help="float16 is for GPUs.",
)
@click.option(
    "--batch-size",
    default=0,
    type=click.IntRange(0, 256),
    help="Films a worker infers at once. [default: 1 on a CPU, 16 elsewhere]",
)
@click.option("--workers", default=0, type=click.IntRange(0, 256), help="[default: one for each core]")
@click.option("--annotate", default="findings", show_default=True, type=click.Choice(["findings", "all", "none"]),
              help="Which films get an annotated picture.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Forget what was finished before and begin anew.")
@click.option("--jsonl", is_flag=True, help="Also write results.jsonl.")
@click.option("--quiet", is_flag=True, help="No progress, no summary; errors are still told.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first file that fails.")
@click.version_option(__version__, prog_name="bonefrac-batch")
def batch(**options: object) -> None:
    """Examine every radiograph below INPUT; write results.csv, annotated pictures and report.html.

    Originals are never touched. A second run analyses only what is new or changed.
    Exit status: 0 all analysed or rightly set aside, 1 a file failed, 2 cannot be done as asked, 130 stopped.

    \b
    Example: bonefrac-batch ./xrays
    """
    from bonefrac.run import BatchSettings, run_batch  # decoders and ONNX Runtime: not for --help

    with one_sentence():
        settings = BatchSettings(**options)  # type: ignore[arg-type]  # Click has checked the types
        summary = run_batch(settings)
        if summary.first_failure is not None:
            raise _failed_fast(summary.first_failure.source.path, summary.first_failure.message)
        if not settings.quiet:
            _tell(summary.counts, summary.out)
    sys.exit(1 if summary.counts["failed"] else 0)


def _failed_fast(name: str, message: str) -> click.ClickException:
    """Status 1, as for any failed file; the name is repr'd, for it may hold line breaks."""
    return click.ClickException(f"stopped at the first file that failed: {name!r}: {message}")


def _tell(counts: dict[str, int], out: Path) -> None:
    click.echo(f"{counts['files']} files ({counts['new']} analysed now, {counts['unchanged']} before)")
    for name in ("fracture", "doubt", "no_fracture_detected", "not_analysed", "failed"):
        click.echo(f"  {counts[name]:6}  {name.replace('_', ' ')}")
    if counts["not_analysed"] + counts["failed"]:
        click.echo(
            "Files without a finding are listed with their reasons at the end of the report: look at them yourself."
        )
    click.echo(f"Report: {out / 'report.html'}\nTable:  {out / 'results.csv'}")
    click.echo("It assists and does not diagnose: every film still needs a person's eyes.")


@main.command()
@click.argument("folder", default="xrays", type=click.Path(path_type=Path))
@click.pass_context
def demo(context: click.Context, folder: Path) -> None:
    """Write a folder of synthetic radiographs and examine it.

    \b
    Example: bonefrac demo
    """
    from bonefrac.demo import DAMAGED, write_demo
    from bonefrac.run import BatchSettings, run_batch

    with one_sentence():
        count = write_demo(folder)
        click.echo(
            f"Wrote {count} SYNTHETIC radiographs to {folder}: drawn by a formula, no patient."
            f" One file is damaged on purpose."
        )
        click.echo(f"Now running: bonefrac-batch {folder}\n")
        summary = run_batch(BatchSettings((folder,), annotate="all"))
        _tell(summary.counts, summary.out)
        click.echo(f"\nThe one failed file is {DAMAGED}, cut short on purpose.")
    sys.exit(0 if summary.counts["failed"] == 1 else 1)


@main.command()
@click.argument("bundle", default="flagship")
@click.option("--device", default="auto", show_default=True)
def check(bundle: str, device: str) -> None:
    """Replay a bundle's golden samples on this machine, in every precision it has.

    \b
    Example: bonefrac check
    """
    from bonefrac.model import find_bundle, load_model, read_manifest

    with one_sentence():
        for precision in read_manifest(find_bundle(bundle)).precisions:
            model = load_model(bundle, device=device, precision=precision)
            worst = model.check_golden()
            click.echo(f"{model.name} {precision} on {model.provider}: golden samples pass, off by at most {worst:.4f}")


for command in (watch_command, status_command, service_command):
    main.add_command(command)


def batch_main() -> None:
    """The command `bonefrac-batch`."""
    batch(prog_name="bonefrac-batch")
