"""The command line: thin. Options become settings; errors become one sentence and an exit status."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from bonefrac import __version__
from bonefrac.errors import BonefracError, UsageError

if TYPE_CHECKING:
    from bonefrac.watch import Wish

Command = TypeVar("Command", bound=Callable[..., Any])
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _UsageFailure(click.ClickException):
    exit_code = 2


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Errors of ours become one line and status 2; Ctrl-C and SIGTERM end cleanly."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except BonefracError as error:
        raise _UsageFailure(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\nStopped. What is finished is kept: the same command goes on from here.", err=True)
        sys.exit(_INTERRUPTED)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


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
@click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "int8", "float32"]))
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

    with _one_sentence():
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


def _octal(context: click.Context, parameter: click.Parameter, value: str) -> int:
    try:
        if 0 <= (mask := int(value, 8)) <= 0o777:
            return mask
    except ValueError:
        pass
    raise click.BadParameter("three octal digits, such as 077 or 022")


def _with(parameters: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """All these arguments and options on one command."""

    def decorate(command: Command) -> Command:
        for parameter in reversed(parameters):
            command = parameter(command)
        return command

    return decorate


def _wish_on_signals() -> Wish:
    """SIGTERM and Ctrl-C (on Windows also Ctrl-Break, which service wrappers send) wish the watcher to stop; the second
    Ctrl-C ends it at once. SIGHUP wishes for a new log."""
    from bonefrac.watch import Wish

    wish = Wish()

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        wish.stop = True
        wish.wake()

    def new_log(signum: int, frame: FrameType | None) -> None:
        wish.new_log = True
        wish.wake()

    for name, handler in (("SIGTERM", stop), ("SIGINT", stop), ("SIGBREAK", stop), ("SIGHUP", new_log)):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handler)
    return wish


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

    with _one_sentence():
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

    with _one_sentence():
        for precision in read_manifest(find_bundle(bundle)).precisions:
            model = load_model(bundle, device=device, precision=precision)
            worst = model.check_golden()
            click.echo(f"{model.name} {precision} on {model.provider}: golden samples pass, off by at most {worst:.4f}")


_watch_options = [
    click.argument("inbox", type=click.Path(path_type=Path)),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for results."),
    click.option("--model", default="flagship", show_default=True, metavar="NAME|PATH"),
    click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|..."),
    click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "int8", "float32"])),
    click.option("--workers", default=0, type=click.IntRange(0, 256), help="[default: one for each core]"),
    click.option("--annotate", default="findings", show_default=True, type=click.Choice(["findings", "all", "none"]),
                 help="Which films get an annotated picture."),
    click.option("--settle", default=2.0, show_default=True, type=click.FloatRange(0), metavar="SECONDS",
                 help="A file is taken when it has not changed for so long and its format's own end is there."),
    click.option("--give-up", default=60.0, show_default=True, type=click.FloatRange(0), metavar="SECONDS",
                 help="A file whose end never comes is judged as it is after so long without a change."),
    click.option("--rescan", default=30.0, show_default=True, type=click.FloatRange(0.1), metavar="SECONDS",
                 help="The folder is listed so often, whatever file events say."),
    click.option("--poll", is_flag=True, help="Do not rely on file events at all."),
    click.option("--once", is_flag=True, help="Deal with what is there, then end: for a scheduler."),
    click.option("--by-day", is_flag=True, help="Tables and pictures in a folder a day."),
    click.option("--keep-days", default=0, type=click.IntRange(0), metavar="N",
                 help="Remove tables' rows and pictures of all but the last N days with work. [default: keep all]"),
    click.option("--archive", type=click.Path(path_type=Path), metavar="DIR",
                 help="Move analysed originals there: copied, verified, then removed from the inbox."),
    click.option("--quarantine", type=click.Path(path_type=Path), metavar="DIR",
                 help="Copy failed originals there, with the reason."),
    click.option("--state", type=click.Path(path_type=Path), metavar="DIR",
                 help="Folder for the journal, on this PC's own disk. [default: in the results]"),
    click.option("--redact", is_flag=True, help="Keyed hashes instead of names in tables, pages, pictures and log."),
    click.option("--min-free", default=200, show_default=True, type=click.IntRange(0), metavar="MB",
                 help="Take no new film while the disk has less space than this."),
    click.option("--log-json", is_flag=True, help="The log as JSON lines."),
    click.option("--quiet", is_flag=True, help="Nothing on the terminal; watch.log has it all."),
    click.option("--umask", default="077", show_default=True, metavar="OCTAL", callback=_octal,
                 help="Rights that files made here do not have: 077 leaves them to this user alone."),
]  # fmt: skip


@main.command("watch")
@_with(_watch_options)
def watch_command(umask: int, **options: object) -> None:
    """Examine every radiograph that is dropped into INBOX, until stopped.

    Originals are never touched, unless --archive says so. Open index.html in the results to see the worklist.
    Exit status: 0 stopped as asked or drained (--once), 1 a file failed (--once), 2 cannot be done as asked.

    \b
    Example: bonefrac watch ./inbox --out ./results
    """
    from bonefrac.watch import WatchSettings, watch

    os.umask(umask)
    with _one_sentence():
        settings = WatchSettings(**options)  # type: ignore[arg-type]  # Click has checked the types
        done = watch(settings, _wish_on_signals())
    sys.exit(1 if settings.once and done["failed"] else 0)


@main.command("service")
@click.option("--systemd", "kind", flag_value="systemd", help="A unit for Linux, hardened.")
@click.option("--windows", "kind", flag_value="windows", help="A task for Windows' Task Scheduler.")
@click.option("--wrapper", "kind", flag_value="wrapper", help="The lines to type for the Windows service wrapper NSSM.")
@click.option("--write", "file", type=click.Path(dir_okay=False, path_type=Path), help="[default: to the terminal]")
@_with(_watch_options)
@click.pass_context
def service_command(context: click.Context, /, kind: str | None, file: Path | None, **options: Any) -> None:
    """Write what starts `bonefrac watch INBOX --out DIR ...` with the machine; all its options can be given here.

    \b
    Example: bonefrac service --systemd /srv/inbox --out /srv/results > bonefrac.service
    """
    from bonefrac import service

    with _one_sentence():
        if kind is None:
            raise UsageError("say which: --systemd, --windows or --wrapper")
        if kind != "systemd" and any(service.mapped_letter(str(value)) for value in options.values()):
            raise UsageError("a service does not see mapped letters: write the share's own name, \\\\server\\share")
        command = [_program(), "watch", *_as_arguments(context, options)]
        if kind == "systemd":
            originals = [options["inbox"]] if options["archive"] else []
            named = [options["out"], options["state"], options["archive"], options["quarantine"]]
            writes = [Path(os.path.abspath(folder)) for folder in (*named, *originals) if folder]
            text = service.systemd_unit(command, reads=[Path(os.path.abspath(options["inbox"]))], writes=writes)
        else:
            text = service.task_xml(command) if kind == "windows" else "\n".join(service.wrapper_lines(command)) + "\n"
        if file is None:
            click.echo(text, nl=False)
            return
        try:
            file.write_bytes(text.encode("utf-16" if kind == "windows" else "utf-8"))
        except OSError as error:
            raise UsageError(f"{file}: cannot be written: {error.strerror}") from error


def _program() -> str:
    """The full path of the command `bonefrac` of this installation."""
    program = Path(sysconfig.get_path("scripts")) / ("bonefrac.exe" if os.name == "nt" else "bonefrac")
    if not program.exists():
        raise UsageError(f"{program}: is not there; install bonefrac with pip, then write the service again")
    return str(program)


def _as_arguments(context: click.Context, options: dict[str, Any]) -> list[str]:
    """The options of `watch` that were given, as typed, with full paths: a service runs in another folder."""
    words = [os.path.abspath(options["inbox"])]
    given = {parameter.name: parameter for parameter in watch_command.params if isinstance(parameter, click.Option)}
    for name, value in options.items():
        if name in given and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            words.append(given[name].opts[0])
            if name == "umask":
                words.append(f"{value:03o}")
            elif not given[name].is_flag:
                is_path = isinstance(value, Path) or (name == "model" and os.path.isdir(value))
                words.append(os.path.abspath(value) if is_path else str(value))
    return words


@main.command("status")
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--max-age", default=60.0, show_default=True, metavar="SECONDS", help="A heartbeat older than this is bad."
)
def status_command(out: Path, max_age: float) -> None:
    """Tell how the watcher that writes into DIR is.

    Exit status: 0 alive and well, 1 the heartbeat is old, it was stopped or something is wrong, 2 nothing there.

    \b
    Example: bonefrac status ./results
    """
    from bonefrac.status import current_age_s, lines, read_status

    with _one_sentence():
        status = read_status(out)
        age_s = current_age_s(status)
    click.echo("\n".join(lines(status, age_s, old_s=max_age)))
    sys.exit(1 if age_s > max_age or status.alarms or status.state == "stopped" else 0)


def batch_main() -> None:
    """The command `bonefrac-batch`."""
    batch(prog_name="bonefrac-batch")
