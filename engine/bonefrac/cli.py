"""The command line: thin. Options become settings; errors become one sentence and an exit status."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bonefrac import __version__
from bonefrac.cli_errors import UsageFailure, one_sentence
from bonefrac.cli_watch import service_command, status_command, watch_command

if TYPE_CHECKING:
    from bonefrac.tuned import Ready


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
              help="auto: what bonefrac check --tune found fastest here; else CUDA where it works, else the CPU."
              " A named one that is missing is an error.")  # fmt: skip
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
@click.option("--explain", is_flag=True, help="Tell on what the model runs, in which way, and why in that.")
@click.version_option(__version__, prog_name="bonefrac-batch")
def batch(explain: bool, **options: Any) -> None:
    """Examine every radiograph below INPUT; write results.csv, annotated pictures and report.html.

    Originals are never touched. A second run analyses only what is new or changed.
    Exit status: 0 all analysed or rightly set aside, 1 a file failed, 2 cannot be done as asked, 130 stopped.

    \b
    Example: bonefrac-batch ./xrays
    """
    from concurrent.futures import ThreadPoolExecutor  # these are not for --help

    from bonefrac.tuned import load_ready

    how = ("device", "precision", "workers", "batch_size")
    with one_sentence(), ThreadPoolExecutor(1) as beside:
        loading = beside.submit(load_ready, options["model"], beside=beside, **{name: options[name] for name in how})
        from bonefrac.run import BatchSettings, run_batch  # while the model is loaded

        if explain:
            _explain(loading.result())
        summary = run_batch(BatchSettings(**options), loading)
        if summary.ready.warning:
            click.echo(summary.ready.warning, err=True)
        if summary.first_failure is not None:
            raise _failed_fast(summary.first_failure.source.path, summary.first_failure.message)
        if not options["quiet"]:
            _tell(summary.counts, summary.out)
    sys.exit(1 if summary.counts["failed"] else 0)


def _failed_fast(name: str, message: str) -> click.ClickException:
    """Status 1, as for any failed file; the name is repr'd, for it may hold line breaks."""
    return click.ClickException(f"stopped at the first file that failed: {name!r}: {message}")


def _explain(ready: Ready) -> None:
    click.echo(f"Model:   {ready.model.name} {ready.model.precision}, SHA-256 {ready.model.sha256}")
    click.echo(f"Runs on: {ready.model.provider}; {ready.way}")
    click.echo(f"Why:     {ready.why}")


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
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|...",
              help="auto: as bonefrac-batch takes it.")  # fmt: skip
@click.option("--tune", is_flag=True, help="Measure which way of running it is the fastest here, and keep that.")
@click.option("--precision", default="auto", type=click.Choice(["auto", "int8", "float32", "float16"]),
              help="Of this file. [default: all; with --tune the bundle's own]")  # fmt: skip
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(0), help="With --tune: for so long.")
def check(bundle: str, device: str, tune: bool, precision: str, seconds: float) -> None:
    """Replay a bundle's golden samples on this machine.

    With --tune, try every installed backend that gives the golden scores; --device auto then uses the fastest.

    \b
    Example: bonefrac check --tune
    """
    from bonefrac.model import find_bundle, read_manifest
    from bonefrac.tuned import load_ready

    with one_sentence():
        if tune and device != "auto":
            raise UsageFailure("--tune tries every device that is installed: leave --device out")
        if tune:
            _tune(find_bundle(bundle), precision, seconds)
            return
        asked = [precision] if precision != "auto" else read_manifest(find_bundle(bundle)).precisions
        for one in asked:
            model = load_ready(bundle, device=device, precision=one).model
            worst = model.check_golden()
            click.echo(f"{model.name} {one} on {model.provider}: golden samples pass, off by at most {worst:.4f}")


def _tune(folder: Path, precision: str, seconds: float) -> None:
    from statistics import median

    from bonefrac.tune import tune

    found = tune(folder, precision=precision, seconds=seconds)
    click.echo(f"{found.model}: films a second of inference alone, median (min to max) of the rounds")
    for way, rates in found.rates.items():
        click.echo(f"  {median(rates):6.1f} ({min(rates):.1f} to {max(rates):.1f}, {len(rates)} rounds)  {way}")
    for name, why in found.left_out.items():
        click.echo(f"  left out: {name}: {why}")
    click.echo(f"--device auto uses the first from now on, as {found.path} says; remove that file to go back.")


for command in (watch_command, status_command, service_command):
    main.add_command(command)


def batch_main() -> None:
    """The command `bonefrac-batch`."""
    # before NumPy is there: threads for products of matrices take longer to start than a film, and nothing here has any
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    batch(prog_name="bonefrac-batch")
