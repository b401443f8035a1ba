"""What tells the watcher to look again: file events where the file system gives them, else a short interval.

An event carries no news of its own: it only ends a wait. So a lost one costs time and never a film.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from bonefrac.mounts import file_system, is_remote

POLL_S = 5.0
_EVENTS: list[type[FileSystemEvent]] = [  # not those of reading, for then our own would wake us
    DirCreatedEvent, DirMovedEvent, FileClosedEvent, FileCreatedEvent, FileModifiedEvent, FileMovedEvent,
]  # fmt: skip
_SLICE_S = 1.0 if os.name == "nt" else 3600.0  # Windows hears Ctrl-C only between waits


class Wake:
    """A context manager. `polling` says why there are no events, or is empty; `say` is told when that changes."""

    def __init__(self, folder: Path, *, poll: bool, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        # sockets: a signal may interrupt and ring, and locks and queues of Python may then wait for themselves
        self._ear, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._observer: BaseObserver | None = None
        self._heard = (0, 0)  # device and inode of the folder that events come from
        self.polling = "as asked with --poll" if poll else ""
        if not poll and is_remote(folder):
            self.polling = f"the inbox lies on a share ({file_system(folder) or 'network'}), which sends no events"
        self._fixed = bool(self.polling)

    def __enter__(self) -> Wake:
        logging.getLogger("watchdog").addHandler(_Overflow(self.now))
        if self.polling:
            self._say(f"looking every {POLL_S:g} s: {self.polling}")
        return self

    def __exit__(self, *_: object) -> None:
        self.deafen()
        for handler in logging.getLogger("watchdog").handlers[:]:
            if isinstance(handler, _Overflow):
                logging.getLogger("watchdog").removeHandler(handler)
        self._ear.close()
        self._bell.close()

    def now(self) -> None:
        """End the wait. A signal handler may call it, and any thread."""
        with suppress(OSError):  # full: it rings already; closed: nobody waits any more
            self._bell.send(b"!")

    def wait(self, seconds: float) -> bool:
        """Until an event, or the seconds are over; returns whether there was an event."""
        end_s = time.monotonic() + seconds
        while not self._rang(max(0.0, min(end_s - time.monotonic(), _SLICE_S))):
            if time.monotonic() >= end_s:
                return False
        while self._rang(0.0):  # all that came together are one
            pass
        return True

    def _rang(self, seconds: float) -> bool:
        ringing, _, _ = select.select([self._ear], [], [], seconds)
        return bool(ringing) and bool(self._ear.recv(4096))

    def listen(self) -> bool:
        """Ask for events, if that was not done yet for the folder that stands there now; where the machine has none
        left to give, poll and say so.

        True where events begin now: whatever happened before has to be looked for.
        """
        if self._fixed or (there := _identity(self._folder)) is None:
            return False
        if self._observer is not None and there == self._heard:
            return False
        self.deafen()
        handler = FileSystemEventHandler()
        handler.on_any_event = lambda event: self.now()  # type: ignore[method-assign]
        try:
            observer = Observer()
            # of a link, the events would be those of the link itself
            observer.schedule(handler, os.path.realpath(self._folder), recursive=True, event_filter=_EVENTS)
            observer.start()
        except OSError as error:  # the limits of inotify(7), mostly
            self._poll(f"the machine gives no more file events ({error.strerror})")
            return False
        self._observer, self._heard = observer, there
        return True

    def deafen(self) -> None:
        """Ask for no more events."""
        observer, self._observer = self._observer, None
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join()

    def check(self) -> None:
        """Where the thread that listens has ended, as when the folder goes, wake the next look, which listens anew."""
        if self._observer is not None and not all(
            thread.is_alive() for thread in (self._observer, *self._observer.emitters)
        ):
            self.deafen()
            self._say("file events have stopped: asking for them anew")
            self.now()

    def _poll(self, why: str) -> None:
        self.polling, self._fixed = why, True
        self._say(f"looking every {POLL_S:g} s: {why}")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Overflow(logging.Handler):
    """watchdog only logs that events were lost; that is a reason to look."""

    def __init__(self, now: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._now = now

    def emit(self, record: logging.LogRecord) -> None:
        self._now()
