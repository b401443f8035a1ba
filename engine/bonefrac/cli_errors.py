"""How every command ends that cannot go on: one sentence on the terminal, and an exit status."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from bonefrac.errors import BonefracError

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class UsageFailure(click.ClickException):
    exit_code = 2


@contextmanager
def one_sentence() -> Iterator[None]:
    """Errors of ours become one line and status 2; Ctrl-C and SIGTERM end cleanly."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except BonefracError as error:
        raise UsageFailure(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\nStopped. What is finished is kept: the same command goes on from here.", err=True)
        sys.exit(_INTERRUPTED)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
