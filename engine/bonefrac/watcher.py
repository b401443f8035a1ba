"""The watcher's loop: look, take, tell, wait. What goes wrong outside of one film is told, waited out, gone on from."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import bonefrac
from bonefrac.desk import Desk, Handling
from bonefrac.errors import OutputError
from bonefrac.inbox import Inbox, InboxAway
from bonefrac.ledger import Ledger, New
from bonefrac.log import Log
from bonefrac.model import Model
from bonefrac.redact import Redaction
from bonefrac.results import Finding, Result
from bonefrac.service import notify
from bonefrac.sources import OWN_FOLDER
from bonefrac.status import Alarms, Status, boot_id, utc_now, write_status
from bonefrac.tables import Tables
from bonefrac.tuned import Way
from bonefrac.wake import POLL_S, Wake

LEDGER = "ledger.sqlite"
_ROUND_S = 2.0  # of work, then the folder, the tables and the heartbeat have their turn
_BEAT_S = 10.0
_OUTCOMES = ("fracture", "doubt", "no_fracture_detected", "not_analysed", "failed")
# of one core at most, however many files lie in the inbox: looks after events, and those from time to time
_LOOKS_TAKE, _RESCANS_TAKE = 0.2, 0.008


@dataclass(frozen=True)
class WatchSettings:
    """What `bonefrac watch` was asked for. Durations in seconds; `workers` 0: as was measured on this machine, or one
    for each core; `keep_days` 0: all."""

    inbox: Path
    out: Path
    model: str = "flagship"
    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    annotate: str = "findings"
    settle: float = 2.0
    give_up: float = 60.0
    rescan: float = 30.0
    poll: bool = False
    once: bool = False
    by_day: bool = False
    keep_days: int = 0
    archive: Path | None = None
    quarantine: Path | None = None
    state: Path | None = None
    redact: bool = False
    min_free: int = 200  # MB
    log_json: bool = False
    quiet: bool = False


class Wish:
    """What a signal handler asks of a watcher; `wake` ends its wait.

    Plain flags: a lock that is held when the signal comes would wait for itself.
    """

    def __init__(self) -> None:
        self.stop = self.new_log = False
        self.wake: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Parts:
    out: Path
    state: Path
    ledger: Ledger
    log: Log
    wake: Wake
    model: Model
    way: Way


class Watcher:
    """The loop, and what it tells. Times that end in `_s` are of the monotonic clock: nobody can set it."""

    def __init__(self, settings: WatchSettings, inbox: Path, parts: Parts, wish: Wish) -> None:
        self._settings, self._parts, self._wish = settings, parts, wish
        ledger = parts.ledger
        known = ledger.looks(
            but="ok" if settings.archive else ""
        )  # what was analysed without an archive goes there now
        self._inbox = Inbox(
            inbox, known, mounted_on=ledger.recall("mounted_on"),
            settle_s=settings.settle, give_up_s=settings.give_up,
        )  # fmt: skip
        redaction = Redaction(parts.state / "names.jsonl") if settings.redact else None
        handling = Handling(
            parts.out, settings.annotate, settings.by_day, redaction or str, self._told,
            workers=parts.way.workers, batch_size=parts.way.batch_size,
            archive=settings.archive, quarantine=settings.quarantine,
        )  # fmt: skip
        self._desk = Desk(ledger, self._inbox, parts.model, handling)
        self._tables = Tables(parts.out, ledger, by_day=settings.by_day)
        self._alarms = Alarms(parts.log)
        self._done: Counter[str] = Counter()
        self._started, self._state, self._day = utc_now(), "watching", ""
        self._look_s = self._soonest_look_s = self._beat_s = self._retry_s = 0.0  # when it is time for each
        self._tries, self._to_undo = 0, False
        self._counts: dict[str, int] = {}

    def run(self) -> Counter[str]:
        """Round after round until the stop; what is in hand then is finished and told."""
        self._parts.log.info("watching", settle_s=self._settings.settle, rescan_s=self._settings.rescan)
        notify("READY=1")
        drained = False
        try:
            while not self._wish.stop:
                worked = self._round(time.monotonic())
                if self._settings.once and self._is_drained(worked):
                    drained = True
                    break
                if not worked:
                    self._wait(time.monotonic())
        finally:
            notify("STOPPING=1")
            self._state = "drained" if drained else "stopped"
            self._tell(time.monotonic())
            self._parts.log.info("stopped", films=sum(self._done.values()))
        return self._done

    def _round(self, now_s: float) -> int:
        """Look, work, tell; returns how many films were dealt with. What is wrong outside of a film is waited out."""
        worked = 0
        if self._wish.new_log:
            self._wish.new_log = False
            self._parts.log.reopen()
        if now_s >= self._retry_s:
            try:
                if now_s >= self._look_s:
                    self._look(now_s)
                if self._has_room():
                    worked = self._work(now_s)
                self._alarms.clear("output")
                self._tries = 0
            except InboxAway as error:
                self._parts.wake.deafen()
                self._later("inbox", str(error), now_s)
            except (OutputError, OSError) as error:
                self._later("output", _sentence(error), now_s)
        paused = self._alarms.any("inbox", "disk", "output")
        state = "paused" if paused else "working" if worked else "watching"
        if state != self._state:
            self._state, self._beat_s = state, now_s
        self._tell(now_s)
        return worked

    def _look(self, now_s: float) -> None:
        started_s = time.thread_time()  # not what a share or other programs make it wait
        self._inbox.look(now_s)
        if self._parts.wake.listen():
            self._inbox.look(now_s)
        cost_s = time.thread_time() - started_s
        self._soonest_look_s = now_s + cost_s / _LOOKS_TAKE
        self._alarms.clear("inbox")
        rescan_s = self._settings.rescan
        if self._parts.wake.polling:
            rescan_s = min(POLL_S, rescan_s)
        self._look_s = now_s + max(rescan_s, cost_s / _RESCANS_TAKE)
        self._parts.ledger.remember("mounted_on", self._inbox.mounted_on)
        unlisted = self._inbox.unlisted
        self._alarms.set_if("folders", unlisted, f"{unlisted} folders in the inbox cannot be listed: see their rights")

    def _work(self, now_s: float) -> int:
        if self._to_undo:  # here, for on a full disk it may take more than one try
            self._parts.ledger.undo()
            self._to_undo = False
        self._begin_day()
        until_s = time.monotonic() + _ROUND_S
        worked = self._desk.work(now_s, lambda: self._wish.stop or time.monotonic() > until_s)
        self._alarms.set_if("originals", self._desk.trouble, self._desk.trouble)
        return worked

    def _begin_day(self) -> None:
        day = datetime.now().astimezone().date().isoformat()
        if day != self._day:
            self._parts.ledger.open_day(day)
            self._parts.ledger.commit()
            if self._settings.keep_days and (days := self._tables.prune(self._settings.keep_days)):
                self._parts.log.info("pruned", days=days)
            self._day = day

    def _has_room(self) -> bool:
        """Whether the disks of results and journal have the space that is kept free for finishing what was begun."""
        if not (self._parts.out / OWN_FOLDER).is_dir():
            raise OutputError("the results' folder is away")
        free = _free_mb(self._parts.out, self._parts.state)
        there = (self._parts.state / LEDGER).exists()
        self._alarms.set_if(
            "journal", not there, "the journal was deleted: keep a copy of results.csv, then start again"
        )
        few = free < self._settings.min_free
        self._alarms.set_if("disk", few, f"the disk has less than {self._settings.min_free} MB left: no new film is "
                            "taken until some space is free")  # fmt: skip
        return not few

    def _later(self, what: str, text: str, now_s: float) -> None:
        self._alarms.set(what, text)
        self._to_undo = True
        if self._settings.once:
            raise OutputError(text)
        self._retry_s = now_s + min(2.0**self._tries, self._settings.rescan)
        self._look_s, self._tries = 0.0, self._tries + 1

    def _is_drained(self, worked: int) -> bool:
        """Whether nothing waits. Raises OutputError for what cannot be waited out by a run that is to end."""
        if worked:
            return False
        if self._alarms.any("disk", "originals", "folders", "tables"):
            raise OutputError(self._alarms.texts[0])
        return not self._inbox.waiting

    def _wait(self, now_s: float) -> None:
        """Until the next thing to do, or an event, which makes that a look at the inbox."""
        due_s = [self._beat_s, max(self._look_s, self._retry_s), self._tables.due_s]
        if self._inbox.next_s is not None and self._state != "paused":
            due_s.append(self._inbox.next_s)
        if self._parts.wake.wait(max(0.0, min(due_s) - now_s)) and not self._alarms.any("inbox"):
            self._look_s = self._soonest_look_s

    def _told(self, number: int, new: New, result: Result | None) -> None:
        """A film is done; without a result, it is a copy of one that was done before."""
        self._tables.changed(new.day)
        facts: dict[str, object] = {"number": number, "sha256": new.sha256[:12]}
        if self._settings.redact:
            facts["name"] = new.shown
        if result is None:
            outcome = "copy"
            status, _ = self._parts.ledger.outcome(new.name, new.sha256)
            self._done["failed"] += status == "failed"
        elif isinstance(result, Finding):
            outcome = result.finding
            facts |= {"probability": result.probability, "regions": len(result.regions)}
        else:
            outcome = result.status
            facts["reason"] = result.message
        self._done[outcome] += 1
        self._parts.log.info(f"film {outcome}", **facts)

    def _tell(self, now_s: float) -> None:
        """The tables and the heartbeat, when it is time for them or something changed."""
        stopped = self._state in ("stopped", "drained")
        if not (stopped or self._alarms.changed or now_s >= min(self._beat_s, self._tables.due_s)):
            return
        notify("WATCHDOG=1")
        self._parts.wake.check()
        if stopped or now_s >= self._tables.due_s:
            self._write_tables(now_s)
        try:
            write_status(self._parts.out, self._status(now_s))
            self._alarms.clear("status")
        except OSError as error:
            self._alarms.set("status", _sentence(error))
        self._alarms.changed = False
        self._beat_s = now_s + _BEAT_S

    def _write_tables(self, now_s: float) -> None:
        try:
            self._counts = dict.fromkeys(_OUTCOMES, 0) | self._parts.ledger.counts()
            self._tables.write(self._status(now_s), now_s)
            self._alarms.set_if("table", self._tables.in_use, self._tables.in_use)
            self._alarms.clear("tables")
        except (OutputError, OSError) as error:
            self._alarms.set("tables", _sentence(error))
            self._tables.postpone(now_s + _BEAT_S)

    def _status(self, now_s: float) -> Status:
        parts, inbox, counts = self._parts, self._inbox, self._counts
        return Status(
            state=self._state, heartbeat=utc_now(), boot_id=boot_id(), uptime_s=time.monotonic(), pid=os.getpid(),
            started=self._started, queue=inbox.waiting, oldest_waiting_s=round(inbox.oldest_s(now_s), 1),
            unfinished_names=inbox.unfinished_names, done=sum(counts.values()), counts=counts, failed=counts["failed"],
            last_error=self._alarms.last, alarms=self._alarms.texts, polling=parts.wake.polling,
            disk_free_mb=_free_mb(parts.out, parts.state),
            model={"model": parts.model.name, "model_sha256": parts.model.sha256, "precision": parts.model.precision},
            version=bonefrac.__version__,
        )  # fmt: skip


def _free_mb(*folders: Path) -> int:
    return min(shutil.disk_usage(folder).free for folder in folders) // 1_000_000


def _sentence(error: Exception) -> str:
    """What went wrong, without the name of a file."""
    if isinstance(error, OSError):
        return f"the results cannot be written: {error.strerror}"
    return str(error)
