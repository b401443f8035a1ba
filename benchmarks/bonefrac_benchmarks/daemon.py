"""`bonefrac watch` as a process: started, killed, stopped, held still, and looked at from outside."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bonefrac.errors import UsageError

_WATCH = "from bonefrac.cli import main; main()"  # what the console script bonefrac does
_START_S = 120.0
_STOP_S = 60.0
_DRAIN_S = 3600.0
_MB = 1e6


@dataclass(frozen=True)
class WatcherSettings:
    """What a watcher is asked for: its own `settle` and `rescan`, in seconds, its model, and the device by name, for
    `auto` would be whatever was tuned on this machine."""

    settle: float = 2.0
    rescan: float = 30.0
    model: str = "flagship"
    device: str = "cpu"

    @property
    def options(self) -> tuple[str, ...]:
        """Of `bonefrac watch`."""
        return (
            "--settle", f"{self.settle:g}", "--rescan", f"{self.rescan:g}", "--model", self.model,
            "--device", self.device, "--quiet",
        )  # fmt: skip


class Daemon:
    """A context manager: `inbox` and `out` below `folder`, and a watcher from one to the other.

    `peak_mb` (10^6 bytes) and `most_files` are of all its processes so far, as far as `sample` was called.
    """

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self.inbox, self.out = folder / "inbox", folder / "out"
        self.inbox.mkdir(parents=True, exist_ok=True)
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None
        self.peak_mb, self.most_files = 0.0, 0

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.kill()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def table(self) -> Path:
        return self.out / "results.csv"

    def start(self) -> None:
        environment = os.environ | {"XDG_STATE_HOME": str(self._folder / "state")}
        command = [sys.executable, "-c", _WATCH, "watch", str(self.inbox), "--out", str(self.out), *self._options]
        with open(self._folder / "said.txt", "ab") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment
            )

    def wait_until(self, condition: Callable[[dict[str, Any]], bool], within_s: float, what: str) -> float:
        """Until its own status meets the condition; returns when that was (monotonic). Raises UsageError."""
        until_s = time.monotonic() + within_s
        while True:
            status = self.status()
            if status and condition(status):
                return time.monotonic()
            if not self.alive:
                raise UsageError(f"bonefrac watch ended with status {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > until_s:
                raise UsageError(f"bonefrac watch was not {what} after {within_s:g} s: {status or self.last_words()}")
            self.sample()
            time.sleep(0.1)

    def wait_until_watching(self) -> None:
        self.wait_until(lambda status: status["state"] != "stopped", _START_S, "watching")

    def wait_until_through(self, films: int) -> float:
        """Until so many films have their rows and nothing waits; returns when that was (monotonic)."""

        def through(status: dict[str, Any]) -> bool:
            return (status["state"], status["queue"], status["done"]) == ("watching", 0, films)

        return self.wait_until(through, _DRAIN_S, f"through with {films} films")

    def status(self) -> dict[str, Any]:
        """status.json of the process that runs now; empty where it has not written one yet."""
        try:
            status: dict[str, Any] = json.loads((self.out / "status.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return status if status["pid"] == self.process.pid else {}

    def last_words(self) -> str:
        said = (self._folder / "said.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return said[-1] if said else "it said nothing"

    def kill(self) -> None:
        """kill -9: nothing of it gets a chance to tidy up."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> tuple[float, int]:
        """Ask it to end; returns seconds until it did and its exit status."""
        started_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self.process.returncode
        return time.monotonic() - started_s, code

    def hold(self) -> None:
        """It stands still, as on a machine that is suspended."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def sample(self) -> tuple[float, int]:
        """(resident memory in MB, open files) now; zeros where it is just ending."""
        try:
            process = psutil.Process(self.process.pid)
            resident, files = process.memory_info().rss / _MB, process.num_fds()
            self.peak_mb = max(self.peak_mb, resident, self._highest_mb())
        except (psutil.Error, OSError):
            return 0.0, 0
        self.most_files = max(self.most_files, files)
        return resident, files

    def _highest_mb(self) -> float:
        """The kernel's own high-water mark where there is one (proc_pid_status(5), in units of 1024 bytes)."""
        if sys.platform != "linux":
            return 0.0
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * 1024 / _MB for line in lines if line.startswith("VmHWM:")), 0.0)

    def cpu_s(self) -> float:
        """Processor seconds that it has spent."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


class Rows:
    """When each row of a table was first seen there, by path; `look` reads the table when it has changed."""

    def __init__(self, table: Path) -> None:
        self._table, self._stamp = table, (0, 0)
        self.seen_s: dict[str, float] = {}

    def look(self) -> dict[str, float]:
        try:
            found = self._table.stat()
        except FileNotFoundError:
            return self.seen_s
        stamp = found.st_mtime_ns, found.st_ino
        if stamp != self._stamp:
            now_s = time.monotonic()
            for row in read_table(self._table):
                self.seen_s.setdefault(row["path"], now_s)
            self._stamp = stamp
        return self.seen_s

    def wait_for(self, names: set[str], within_s: float) -> set[str]:
        """Until all of them have a row; returns those that still have none then."""
        until_s = time.monotonic() + within_s
        while (missing := names - self.look().keys()) and time.monotonic() < until_s:
            time.sleep(0.01)
        return missing


def read_table(table: Path) -> list[dict[str, str]]:
    """The rows of results.csv; none where there is no table yet."""
    try:
        with open(table, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []
