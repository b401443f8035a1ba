"""The commands of a watched inbox: `bonefrac watch`, `status` and `service`. Thin, as `cli`."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bonefrac.cli_errors import one_sentence
from bonefrac.errors import UsageError

if TYPE_CHECKING:
    from bonefrac.watcher import Wish

Command = TypeVar("Command", bound=Callable[..., Any])


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
    from bonefrac.watcher import Wish

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


_watch_options = [
    click.argument("inbox", type=click.Path(path_type=Path)),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for results."),
    click.option("--model", default="flagship", show_default=True, metavar="NAME|PATH"),
    click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|..."),
    click.option("--precision", default="auto", show_default=True,
                 type=click.Choice(["auto", "int8", "float32", "float16"])),
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
                 help="Remove tables' rows and pictures once more than N later days had work. [default: keep all]"),
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


@click.command("watch")
@_with(_watch_options)
def watch_command(umask: int, **options: object) -> None:
    """Examine every radiograph that is dropped into INBOX, until stopped.

    Originals are never touched, unless --archive says so. Open index.html in the results to see the worklist.
    Exit status: 0 stopped as asked or drained (--once), 1 a file failed (--once), 2 cannot be done as asked.

    \b
    Example: bonefrac watch ./inbox --out ./results
    """
    from bonefrac.watch import watch
    from bonefrac.watcher import WatchSettings

    os.umask(umask)
    with one_sentence():
        settings = WatchSettings(**options)  # type: ignore[arg-type]  # Click has checked the types
        if sys.stderr.isatty() and not settings.quiet:  # a person, and no log that would keep the path
            click.echo(f"The worklist: open {settings.out / 'index.html'} in a browser. Ctrl-C stops.", err=True)
        done = watch(settings, _wish_on_signals())
    sys.exit(1 if settings.once and done["failed"] else 0)


@click.command("service")
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

    with one_sentence():
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


@click.command("status")
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--max-age", default=60.0, show_default=True, metavar="SECONDS", help="A heartbeat older than this is bad."
)
def status_command(out: Path, max_age: float) -> None:
    """Tell how the watcher that writes into DIR is.

    Exit status: 0 alive and well (or drained, with --once), 1 its heartbeat is old, it was stopped or something is
    wrong, 2 there is nothing to tell of.

    \b
    Example: bonefrac status ./results
    """
    from bonefrac.status import current_age_s, lines, read_status

    with one_sentence():
        status = read_status(out)
        age_s = current_age_s(status)
    click.echo("\n".join(lines(status, age_s, old_s=max_age)))
    sys.exit(1 if age_s > max_age or status.alarms or status.state == "stopped" else 0)
