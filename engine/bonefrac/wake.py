"""What tells the watcher to look again: file events where the file system gives them, else a short interval.

An event carries no news of its own: it only ends a wait. So a lost one costs time and never a film.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
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
        self._event = threading.Event()
        self._observer: BaseObserver | None = None
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

    def now(self) -> None:
        """End the wait."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Until an event, or the seconds are over; returns whether there was an event."""
        while seconds > 0 and not self._event.wait(min(seconds, _SLICE_S)):
            seconds -= _SLICE_S
        woken = self._event.is_set()
        self._event.clear()
        return woken

    def listen(self) -> bool:
        """Ask for events, if that was not done yet; where the machine has none left to give, poll and say so.

        True where events begin now: whatever happened before has to be looked for.
        """
        if self._fixed or self._observer is not None:
            return False
        observer = Observer()
        handler = FileSystemEventHandler()
        handler.on_any_event = lambda event: self.now()  # type: ignore[method-assign]
        try:
            observer.schedule(handler, str(self._folder), recursive=True, event_filter=_EVENTS)
            observer.start()
        except OSError as error:  # the limits of inotify(7), mostly
            self._poll(f"the machine gives no more file events ({error.strerror})")
            return False
        self._observer = observer
        return True

    def deafen(self) -> None:
        """Ask for no more events."""
        observer, self._observer = self._observer, None
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join()

    def check(self) -> None:
        """Poll where the thread that listens has ended, as for a folder too many."""
        if self._observer is not None and not all(
            thread.is_alive() for thread in (self._observer, *self._observer.emitters)
        ):
            self.deafen()
            self._poll("file events have stopped")

    def _poll(self, why: str) -> None:
        self.polling, self._fixed = why, True
        self._say(f"looking every {POLL_S:g} s: {why}")


class _Overflow(logging.Handler):
    """watchdog only logs that events were lost; that is a reason to look."""

    def __init__(self, now: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._now = now

    def emit(self, record: logging.LogRecord) -> None:
        self._now()
