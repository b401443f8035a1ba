"""One pass of a soak: the writers at work, the watcher killed on the way, what came out and how long it took."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from bonefrac_benchmarks.accounts import Accounts, audit, claims
from bonefrac_benchmarks.daemon import Daemon, WatcherSettings
from bonefrac_benchmarks.droppers import Report, Yard, read_reports, start_writers
from bonefrac_benchmarks.plan import Expected, Step

_LEAST_LIFE_S = 2.0  # between a start and the next kill
_MOST_RESTARTS = 20  # of a watcher that ends by itself
_LOOK_S = 0.1


@dataclass(frozen=True)
class SoakSettings(WatcherSettings):
    """What was asked for. Durations in seconds; `pauses` is the share of films written with a pause of `pause` in their
    middle; `settle` and `rescan` are the watcher's own options; `patience`: for how long nothing at all may happen."""

    films: int = 10_000
    writers: int = 8
    kills: int = 50
    seed: int = 1
    pause: float = 6.0
    pauses: float = 0.02
    patience: float = 180.0


@dataclass(frozen=True)
class Kill:
    """What it hit: films begun by that watcher and not finished, and the most attempts that any unfinished film has
    had by then."""

    films: int
    most_attempts: int


@dataclass(frozen=True)
class Run:
    """One pass. `seconds` from the first drop to drained, `drained_s` from the last drop; `ended_alone`: how often the
    watcher ended without being asked; `given_up`: films that were never dropped, since the rows that had to be there
    first never came."""

    seconds: float
    dropped: int
    given_up: int
    late: tuple[str, ...]
    drained: bool
    drained_s: float
    kills: tuple[Kill, ...]
    ended_alone: int
    stop_s: float
    stop_status: int
    peak_mb: float
    most_files: int
    table_sha256: str
    pictures_sha256: str
    accounts: Accounts

    @property
    def films_a_second(self) -> float:
        return self.dropped / self.seconds

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            **asdict(self),
            "films_a_second": self.films_a_second,
            "accounts": self.accounts.record(),
        }


def random_lives(kills: int, within_s: float, seed: int) -> list[float]:
    """Seconds from each start to the next kill: moments drawn evenly from the whole, no life shorter than the least."""
    rng = random.Random(seed)
    moments = sorted(rng.uniform(0, max(0.0, within_s - kills * _LEAST_LIFE_S)) for _ in range(kills))
    return [_LEAST_LIFE_S + after - before for before, after in zip([0.0, *moments], moments, strict=False)]


class Pass:
    """One pass of the plan into an inbox of its own."""

    def __init__(self, folder: Path, pictures: Path, settings: SoakSettings) -> None:
        self._folder, self._settings = folder, settings
        self._daemon = Daemon(folder, settings.options)
        self._yard = Yard(self._daemon.inbox, folder / "staging", self._daemon.table, pictures, settings.pause,
                          settings.settle, settings.patience)  # fmt: skip
        self._kills: list[Kill] = []
        self._claims: dict[tuple[str, str, str], int] = {}  # as the last kill left them
        self._ended_alone = 0

    def run(self, plan: Sequence[Sequence[Step]], expected: Expected, lives_s: list[float]) -> Run:
        with self._daemon as daemon:
            daemon.wait_until_watching()
            started_s = time.monotonic()
            writers = start_writers(self._yard, plan, self._folder / "reports")
            try:
                drained_s = self._watch(writers, expected.rows.total(), lives_s)
            finally:
                for writer in writers:
                    writer.terminate()
            stop_s, stop_status = daemon.stop()
        reports = read_reports(self._folder / "reports")
        return self._reckon(reports, expected, started_s, drained_s, (stop_s, stop_status))

    def _watch(self, writers: list[BaseProcess], films: int, lives_s: list[float]) -> float | None:
        """Until the writers are through and all films are done; kills on the way. Returns when that was, None where it
        never came so far."""
        daemon, lives = self._daemon, iter(lives_s)
        life_s = next(lives, None)
        born_s = changed_s = time.monotonic()
        before: object = None
        while True:
            now_s = time.monotonic()
            if life_s is not None and now_s >= born_s + life_s:
                daemon.kill()
                self._note_kill()
                daemon.start()
                life_s, born_s = next(lives, None), time.monotonic()
            elif not daemon.alive:
                self._ended_alone += 1
                if self._ended_alone > _MOST_RESTARTS:
                    return None
                daemon.start()
                born_s = time.monotonic()
            daemon.sample()
            status = daemon.status()
            writing = any(writer.is_alive() for writer in writers)
            state = (writing, status.get("done"), status.get("queue"))
            if state != before:
                before, changed_s = state, now_s
            if state == (False, films, 0) and life_s is None:
                return now_s
            if now_s > changed_s + self._settings.patience * (2 if writing else 1):
                return None
            time.sleep(_LOOK_S)

    def _note_kill(self) -> None:
        before, self._claims = self._claims, claims(self._daemon.out)
        self._kills.append(Kill(len(self._claims.keys() - before.keys()), max(self._claims.values(), default=0)))

    def _reckon(
        self, reports: Sequence[Report], expected: Expected, started_s: float, drained_s: float | None,
        stopped: tuple[float, int],
    ) -> Run:  # fmt: skip
        daemon, last_s = self._daemon, max((report.last_s for report in reports), default=started_s)
        end_s = drained_s if drained_s is not None else time.monotonic()
        dropped = sum(report.dropped for report in reports)
        return Run(
            seconds=end_s - started_s,
            dropped=dropped,
            given_up=expected.rows.total() - dropped,
            late=tuple(name for report in reports for name in report.late),
            drained=drained_s is not None,
            drained_s=end_s - last_s,
            kills=tuple(self._kills),
            ended_alone=self._ended_alone,
            stop_s=stopped[0],
            stop_status=stopped[1],
            peak_mb=daemon.peak_mb,
            most_files=daemon.most_files,
            table_sha256=_sha256([daemon.table], daemon.out),
            pictures_sha256=_sha256(sorted((daemon.out / "annotated").rglob("*.jpg")), daemon.out),
            accounts=audit(expected, daemon.out),
        )


def _sha256(files: Sequence[Path], folder: Path) -> str:
    """Of the files' names and contents."""
    digest = hashlib.sha256()
    for file in files:
        if file.exists():
            digest.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
