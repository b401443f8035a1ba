"""What the commands of `bonefrac-bench` share: errors as one sentence, common options, how a measurement is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click

from bonefrac.errors import BonefracError, UsageError


class _UsageFailure(click.ClickException):
    exit_code = 2


class Measured(Protocol):
    def lines(self) -> list[str]: ...

    def record(self) -> Mapping[str, object]: ...


@contextmanager
def one_sentence() -> Iterator[None]:
    """Errors of ours, and a missing package, become one line and status 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise _UsageFailure(f'{error.name} is missing: type  pip install "bonefrac[bench]"') from error
    except BonefracError as error:
        raise _UsageFailure(str(error)) from error


def _device(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """A device that can be told; `auto` cannot: it is whatever was tuned on this machine."""
    from bonefrac.backends import DEVICES  # NumPy: not for --help

    if name not in DEVICES:
        raise click.BadParameter(f"name what is measured: {', '.join(DEVICES)}", context, parameter)
    return name


device_option = click.option("--device", default="cpu", show_default=True, metavar="cpu|openvino|cuda|...",
                       callback=_device, help="What bonefrac computes on.")  # fmt: skip
model_option = click.option("--model", default="flagship", show_default=True, metavar="NAME|PATH",
                      help="An installed bundle or a bundle's folder.")  # fmt: skip
json_option = click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path),
                     help="Also write every sample to this file.")  # fmt: skip


def check_writable(json_file: Path | None) -> None:
    """Before minutes of measuring, not after."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UsageError(f"{json_file}: its folder does not exist; make it first or name another file")


def tell(measured: Measured, json_file: Path | None) -> None:
    """Print what was measured, and write every sample where it was asked for."""
    click.echo("\n".join(measured.lines()))
    if json_file is not None:
        from bonefrac.sinks import atomic

        try:
            with atomic(json_file) as file:
                file.write(json.dumps(measured.record(), indent=1).encode() + b"\n")
        except OSError as error:
            raise UsageError(f"{json_file}: cannot be written: {error.strerror}; name another file") from error
