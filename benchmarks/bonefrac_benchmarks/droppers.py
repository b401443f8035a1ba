"""The writers: processes that drop films into an inbox as consoles, scanners and people do."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from bonefrac_benchmarks.contents import Content, Contents
from bonefrac_benchmarks.plan import Put, Step

_TEMPORARY = ("{}.part", "{}.tmp", "{}.filepart", "{}.crdownload", "{}~", "~{}", ".{}.x7Qe2")
_LOOK_S = 0.5  # between looks at the table


@dataclass(frozen=True)
class Yard:
    """Where the writers work, and how: `pause_s` in the middle of a slow film, `settle_s` as the watcher has it,
    `patience_s` to wait for rows while the table does not change at all."""

    inbox: Path
    staging: Path
    table: Path
    pictures: Path
    pause_s: float
    settle_s: float
    patience_s: float


@dataclass(frozen=True)
class Report:
    """What a writer did: films dropped, those that it gave up to drop since the rows that it waited for never came,
    names of films that it replaced too late, and when it dropped its last one (monotonic)."""

    dropped: int
    given_up: int
    late: list[str]
    last_s: float


def start_writers(yard: Yard, plan: Sequence[Sequence[Step]], reports: Path) -> list[BaseProcess]:
    """One process a writer; each leaves its report in the folder when it ends."""
    reports.mkdir()
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write, args=(yard, number, steps, reports / f"{number}.json"), daemon=True)
        for number, steps in enumerate(plan)
    ]
    for writer in writers:
        writer.start()
    return list(writers)


def read_reports(folder: Path) -> list[Report]:
    """Of the writers that came to their end."""
    return [Report(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.iterdir())]


def _write(yard: Yard, number: int, steps: Sequence[Step], report: Path) -> None:
    """In the writer's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends us
    report.write_text(json.dumps(asdict(Writer(yard, number).run(steps))), encoding="utf-8")


class Writer:
    """Does its steps one after the other, and what has to wait for rows in between."""

    def __init__(self, yard: Yard, number: int) -> None:
        self._yard, self._number = yard, number
        self._contents = Contents(yard.pictures)
        self._waiting: list[tuple[Step, set[str]]] = []
        self._rows = _Hashes(yard.table)
        self._dropped, self._last_s = 0, time.monotonic()
        self._late: list[str] = []

    def run(self, steps: Sequence[Step]) -> Report:
        for step in steps:
            self._first(step)
            self._follow_up()
        while self._waiting and time.monotonic() < self._rows.changed_s + self._yard.patience_s:
            time.sleep(_LOOK_S / 2)
            self._follow_up()
        given_up = sum(len(step.later) for step, _ in self._waiting)
        return Report(self._dropped, given_up, self._late, self._last_s)

    def _first(self, step: Step) -> None:
        how = random.Random(step.seed)
        if step.kind == "chunks":
            self._slowly(step.puts[0], [how.uniform(0.02, 0.25) for _ in range(how.randint(2, 5))], how)
        elif step.kind == "pause":
            self._slowly(step.puts[0], [how.uniform(0.02, 0.25), self._yard.pause_s, how.uniform(0.02, 0.25)], how)
        elif step.kind == "replaced":
            self._replace(step, how)
        elif step.kind == "folder moved in":
            self._move_in(step)
        else:
            for put in step.puts:
                self._at_once(put.name, put.content, how)
        self._count(step.puts)
        if step.later:
            self._waiting.append((step, {self._contents.sha256(put.content) for put in step.puts}))

    def _follow_up(self) -> None:
        if not self._waiting or not self._rows.look():
            return
        ready = [step for step, hashes in self._waiting if hashes <= self._rows.known]
        self._waiting = [item for item in self._waiting if not item[1] <= self._rows.known]
        for step in ready:
            how = random.Random(step.seed + 1)
            if step.kind == "folder renamed":
                self._path(step.puts[0].name).parent.rename(self._path(step.later[0].name).parent)
            else:
                for put in step.later:
                    self._over(put.name, put.content, how)
            self._count(step.later)

    def _count(self, puts: Sequence[Put]) -> None:
        self._dropped += len(puts)
        self._last_s = time.monotonic()

    def _path(self, name: str) -> Path:
        return self._yard.inbox / name

    def _at_once(self, name: str, content: Content, how: random.Random) -> None:
        """Whole from the moment on at which it bears its name."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(how.choice(_TEMPORARY).format(path.name))
        temporary.write_bytes(self._contents.data(content))
        temporary.replace(path)

    def _over(self, name: str, content: Content, how: random.Random) -> None:
        """By another file, or written into the one that is there."""
        if how.random() < 0.5:
            self._at_once(name, content, how)
        else:
            path = self._path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._contents.data(content))

    def _slowly(self, put: Put, pauses_s: Sequence[float], how: random.Random) -> None:
        path, data = self._path(put.name), self._contents.data(put.content)
        path.parent.mkdir(parents=True, exist_ok=True)
        cuts = sorted(how.sample(range(1, len(data)), len(pauses_s)))
        with open(path, "wb", buffering=0) as file:
            for start, end, pause_s in zip([0, *cuts], cuts, pauses_s, strict=False):
                file.write(data[start:end])
                time.sleep(pause_s)
            file.write(data[cuts[-1] :])

    def _replace(self, step: Step, how: random.Random) -> None:
        """Two films under one name, the first for less than the settle time; where the machine was too slow for that,
        the first may rightly have its row, and is told."""
        (put,), first = step.puts, step.never
        assert first is not None
        started_s = time.monotonic()
        self._at_once(put.name, first, how)
        time.sleep(how.uniform(0.1, 0.35) * self._yard.settle_s)
        self._over(put.name, put.content, how)
        if time.monotonic() - started_s >= self._yard.settle_s:
            self._late.append(put.name)

    def _move_in(self, step: Step) -> None:
        target = self._path(step.puts[0].name).parent
        aside = self._yard.staging / str(self._number) / target.name
        aside.mkdir(parents=True)
        for put in step.puts:
            (aside / Path(put.name).name).write_bytes(self._contents.data(put.content))
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(target)


class _Hashes:
    """The hashes that stand in the table. `changed_s`: when it last changed, as far as was looked."""

    def __init__(self, table: Path) -> None:
        self._table, self._stamp, self._looked_s = table, (0, 0), 0.0
        self.known: set[str] = set()
        self.changed_s = time.monotonic()

    def look(self) -> bool:
        """Read it if it changed, and not too often; returns whether there is news."""
        now_s = time.monotonic()
        if now_s < self._looked_s + _LOOK_S:
            return False
        self._looked_s = now_s
        with suppress(FileNotFoundError):
            found = os.stat(self._table)
            if (found.st_mtime_ns, found.st_ino) != self._stamp:
                self.known = set(re.findall(r",([0-9a-f]{64}),", self._table.read_text(encoding="utf-8")))
                self._stamp, self.changed_s = (found.st_mtime_ns, found.st_ino), now_s
                return True
        return False
