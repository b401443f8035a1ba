"""`bonefrac-bench overflow`: films dropped while the kernel's queue of file events overflows, and later ones in folders
of which the watcher was never told.

While a watcher is held still (SIGSTOP) nobody reads its queue: more events than the queue holds are lost for certain.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac_benchmarks.accounts import Accounts, audit
from bonefrac_benchmarks.contents import Content, Contents, draw_pictures
from bonefrac_benchmarks.daemon import Daemon, Rows, WatcherSettings
from bonefrac_benchmarks.figures import Spread
from bonefrac_benchmarks.holds import Held, sheet
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.plan import Expected
from bonefrac_benchmarks.workdir import working_in

_LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")
_LOWERED = 64
_PICTURES = 20
_FOLDERS = 8  # new ones, in each burst
_ANALYSIS_S = 1.0  # from being seen and settled to the row of one film on a quiet PC
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class OverflowSettings(WatcherSettings):
    """What was asked for: `films` in `bursts`, then `probes` one by one; the watcher's `settle` and `rescan`."""

    films: int = 1000
    bursts: int = 4
    probes: int = 8


@dataclass(frozen=True)
class Overflow:
    """What was measured. `queue`: events that it held at most; `events`: at least so many came in each burst.
    `burst_s`: from a film's drop, or from when the watcher went on, to its row, less the settle time; one sample a
    burst, its worst film. `probe_s`: the same of films dropped alone, later, into folders made in a burst. `unwatched`:
    how many folders gave no events then."""

    settings: OverflowSettings
    machine: Machine
    queue: int
    events: int
    burst_s: Spread
    unwatched: int | None
    folders: int
    probe_s: Spread
    accounts: Accounts

    @property
    def held(self) -> list[Held]:
        rescan_s, expected = self.settings.rescan, self.settings.films + self.settings.probes
        lost, doubled = len(self.accounts.lost), len(self.accounts.doubled)
        probe_s = rescan_s + _ANALYSIS_S
        return [
            Held("films dropped while the queue overflows", f"{expected} accounted for, 0 lost, 0 doubled",
                 f"{expected - lost} accounted for, {lost} lost, {doubled} doubled", not lost and not doubled),
            Held("  all else that can be wrong", "nothing", f"{self.accounts.faults} faults", not self.accounts.faults),
            Held("  picked up, all of a burst analysed", f"no later than --rescan = {rescan_s:g} s",
                 f"worst {self.burst_s.high:.1f} s", self.burst_s.high <= rescan_s),
            Held("later films in folders made then", f"--rescan + {_ANALYSIS_S:g} s for the analysis = {probe_s:g} s",
                 f"worst {self.probe_s.high:.1f} s", self.probe_s.high <= probe_s),
        ]  # fmt: skip

    def lines(self) -> list[str]:
        told = "" if self.unwatched is None else f"; {self.unwatched} of {self.folders} folders gave no events after it"
        return [
            *self.machine.lines(),
            f"Watcher: bonefrac watch INBOX --out DIR {' '.join(self.settings.options)}",
            f"Its queue holds {self.queue} events; {self.settings.bursts} bursts of {self.settings.films} films in all,"
            f" each with {self.events} events or more{told}",
            f"Worst film of a burst: {self.burst_s.text()} s to its row, less the settle time; later films one by one:"
            f" {self.probe_s.text()} s",
            *sheet(self.held),
        ]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "benchmark": "overflow",
            "settings": vars(self.settings),
            "machine": self.machine.record(),
            "options": list(self.settings.options),
            "queue_holds": self.queue,
            "events_a_burst_at_least": self.events,
            "folders": self.folders,
            "folders_without_events_after_it": self.unwatched,
            "burst_s": self.burst_s.record(),
            "probe_s": self.probe_s.record(),
            "accounts": self.accounts.record(),
            "held": [one.record() for one in self.held],
        }


def measure_overflow(folder: Path | None, settings: OverflowSettings) -> Overflow:
    """Raises UsageError where there are no such queues, or a film is never picked up at all."""
    if sys.platform != "linux":
        raise UsageError("file events are queued otherwise on this system: this is measured on Linux")
    machine = this_machine()
    with working_in(folder) as work:
        draw_pictures(work / "pictures", _PICTURES, seed=1)
        daemon = Daemon(work, settings.options)
        with ExitStack() as stack:
            with _short_queue() as queue:
                stack.enter_context(daemon)
                daemon.wait_until_watching()  # a queue keeps the length that was the limit when it was made
            flood = _Flood(daemon, Contents(work / "pictures"), settings, queue)
            burst_s = Spread(tuple(flood.burst(number) for number in range(settings.bursts)))
            unwatched = max(0, len(flood.folders) - _watched(daemon))
            probe_s = Spread(tuple(flood.probes(settings.probes)))
            daemon.stop()
        accounts = audit(flood.expected, daemon.out)
    return Overflow(settings, machine, queue, flood.events, burst_s, unwatched, len(flood.folders), probe_s, accounts)


@contextmanager
def _short_queue() -> Iterator[int]:
    """Lower the kernel's limit for new queues where that is allowed, for no longer than needed; gives what it is."""
    usual = _LIMIT.read_text()
    try:
        _LIMIT.write_text(str(_LOWERED))
    except OSError:
        yield int(usual)  # then it takes more events
        return
    try:
        yield _LOWERED
    finally:
        _LIMIT.write_text(usual)


def _watched(daemon: Daemon) -> int:
    """Folders that a watcher has asked events of (proc_pid_fdinfo(5))."""
    lines = (
        line
        for file in Path(f"/proc/{daemon.process.pid}/fdinfo").iterdir()
        for line in file.read_text(encoding="ascii").splitlines()
    )
    return sum(line.startswith("inotify ") for line in lines)


class _Flood:
    """Drops films among more events than the queue holds. `folders` are all that there are in the inbox, itself too."""

    def __init__(self, daemon: Daemon, contents: Contents, settings: OverflowSettings, queue: int) -> None:
        self._daemon, self._contents, self._settings = daemon, contents, settings
        self._rows = Rows(daemon.table)
        self._how = random.Random(1)
        self._dropped: dict[str, float] = {}
        self.events = 2 * queue  # of each file at least two, that it was made and that it was closed
        self.folders = [daemon.inbox]
        self.expected = Expected(Counter(), frozenset(), {})

    def burst(self, number: int) -> float:
        """Every second one goes to a watcher that is held still. Returns seconds to the last film's row."""
        held = number % 2 == 0
        if held:
            self._daemon.hold()
        junk = self._junk(number)
        new = [self._daemon.inbox / f"burst {number}" / f"{of}" / "films" for of in range(_FOLDERS)]
        first, end = (self._settings.films * of // self._settings.bursts for of in (number, number + 1))
        names = [self._drop(new[at % len(new)], at) for at in range(first, end)]
        self.folders += [self._daemon.inbox / f"burst {number}", *(folder.parent for folder in new), *new]
        for path in junk:
            path.unlink()
        now_s = time.monotonic()
        if held:
            self._daemon.go_on()
            self._dropped.update(dict.fromkeys(names, now_s))
        self._wait_for(set(names))
        return max(self._rows.seen_s[name] - self._dropped[name] for name in names) - self._settings.settle

    def probes(self, count: int) -> Iterator[float]:
        """Films one by one, spread over the time between rescans, into folders made in a burst."""
        names = []
        for number in range(count):
            time.sleep(self._how.uniform(0, 2 * self._settings.rescan / count))
            names.append(self._drop(self._how.choice(self.folders[1:]), self._settings.films + number))
            self._rows.look()
        self._wait_for(set(names))
        yield from (self._rows.seen_s[name] - self._dropped[name] - self._settings.settle for name in names)

    def _junk(self, number: int) -> list[Path]:
        """Files under a writer's temporary name: events, and no films."""
        paths = [self._daemon.inbox / f"{number}-{of}.part" for of in range(self.events // 2)]
        for path in paths:
            path.touch()
        return paths

    def _drop(self, folder: Path, number: int) -> str:
        content = Content(number % len(self._contents), number)
        path = folder / f"{number:05}{self._contents.suffix(content)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._contents.data(content))
        name, sha256 = path.relative_to(self._daemon.inbox).as_posix(), self._contents.sha256(content)
        self._dropped[name] = time.monotonic()
        self.expected.rows[name, sha256] += 1
        self.expected.picture_of[sha256] = content.picture
        self.expected = Expected(self.expected.rows, self.expected.whole | {sha256}, self.expected.picture_of)
        return name

    def _wait_for(self, names: set[str]) -> None:
        if missing := self._rows.wait_for(names, _PATIENCE_S):
            raise UsageError(f"{len(missing)} films have no row after {_PATIENCE_S:g} s: {self._daemon.status()}")
