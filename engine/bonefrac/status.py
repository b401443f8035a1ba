"""`status.json`: how the watcher is, for a page, a monitor and a person who asks."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.log import Log
from bonefrac.sinks import atomic

STATUS = "status.json"
OLD_S = 60.0  # a heartbeat older than this is a daemon that hangs or is gone; it beats every 10 s


@dataclass(frozen=True)
class Status:
    """One heartbeat. Times of day are UTC, ISO 8601; durations are seconds of a clock that nobody can set."""

    state: str  # watching, working, paused, stopped; drained: ended with nothing left to do
    heartbeat: str
    boot_id: str
    uptime_s: float  # of the machine, so that the heartbeat's age does not depend on the clock
    pid: int
    started: str
    queue: int
    oldest_waiting_s: float
    unfinished_names: int
    done: int
    counts: dict[str, int]
    failed: int
    last_error: str
    alarms: list[str]
    polling: str
    disk_free_mb: int
    model: dict[str, str]
    version: str
    old_s: float = OLD_S  # from which age on a heartbeat means that something is wrong


class Alarms:
    """What is wrong now, one sentence a thing, each logged when it comes and when it goes."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._texts: dict[str, str] = {}
        self.last = ""  # sentence, kept after it is over
        self.changed = False

    def set(self, what: str, text: str) -> None:
        if self._texts.get(what) != text:
            self._log.warning(text)
            self.last, self.changed = f"{utc_now()} {text}", True
            self._texts[what] = text

    def clear(self, what: str) -> None:
        if what in self._texts:
            self._log.info(f"over: {self._texts.pop(what)}")
            self.changed = True

    def set_if(self, what: str, wrong: object, text: str) -> None:
        self.set(what, text) if wrong else self.clear(what)

    def any(self, *what: str) -> bool:
        return any(name in self._texts for name in what)

    @property
    def texts(self) -> list[str]:
        return list(self._texts.values())


def utc_now() -> str:
    """The time of day, UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def boot_id() -> str:
    """What tells one start of this machine from the next, or "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def write_status(out: Path, status: Status) -> None:
    """Replace `status.json`, and `status.js`, which says the same to `index.html`: a page opened from disk may load a
    script and no data. One that a reader holds open (Windows) is replaced at the next beat."""
    text = json.dumps(asdict(status), indent=1)
    for name, content in ((STATUS, text + "\n"), ("status.js", f"window.bonefrac = {text};\n")):
        try:
            with atomic(out / name, durable=False) as file:
                file.write(content.encode())
        except PermissionError:
            if os.name != "nt":
                raise


def read_status(out: Path) -> Status:
    """Raises UsageError where there is no heartbeat, or none that this version understands."""
    try:
        return Status(**json.loads((out / STATUS).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UsageError(f"{out}: nothing has ever watched into this folder: it holds no {STATUS}") from error
    except OSError as error:
        raise UsageError(f"{out / STATUS}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{out / STATUS}: cannot be understood: {type(error).__name__}") from error


def age_s(status: Status, *, uptime_s: float, boot: str, now: datetime) -> float:
    """Seconds since the heartbeat: by the machine's uptime within one boot, else by the clock."""
    if boot and boot == status.boot_id:
        return uptime_s - status.uptime_s
    return abs((now - datetime.fromisoformat(status.heartbeat)).total_seconds())


def current_age_s(status: Status) -> float:
    """Seconds since the heartbeat, on this machine, now."""
    return age_s(status, uptime_s=time.monotonic(), boot=boot_id(), now=datetime.now(timezone.utc))


def lines(status: Status, age: float, *, old_s: float = OLD_S) -> list[str]:
    """The status as a terminal shows it, the worst first."""
    ended = status.state in ("stopped", "drained")
    alive = status.state if ended or age <= old_s else "NOT ALIVE"
    text = [f"{alive}, last heartbeat {_duration(age)} ago ({status.heartbeat})"]
    text += [f"ALARM    {alarm}" for alarm in status.alarms]
    waiting = f", the oldest for {_duration(status.oldest_waiting_s)}" if status.queue else ""
    text.append(f"waiting  {status.queue}{waiting}")
    if status.unfinished_names:
        text.append(f"         {status.unfinished_names} more bear a temporary name and wait for their final one")
    text.append(f"done     {status.done}, of which failed {status.failed}")
    text += [f"  {count:6}  {name.replace('_', ' ')}" for name, count in status.counts.items()]
    if status.last_error:
        text.append(f"last error  {status.last_error}")
    if status.polling:
        text.append(f"looks from time to time: {status.polling}")
    text.append(f"disk free {status.disk_free_mb} MB; model {status.model['model']} {status.model['precision']}")
    return text


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
