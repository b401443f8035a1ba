"""`bonefrac-bench startup`: how long a person waits for the first result, over what the imports alone cost.

Both are fresh processes, in turn, with all files in the page cache (one unmeasured round goes before).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.errors import UsageError
from bonefrac_benchmarks.artefact import Artefact, artefact, bundle_folder
from bonefrac_benchmarks.commands import BATCH, finished_run, imports, run_python
from bonefrac_benchmarks.figures import Goal, Spread
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.validity import FEWEST_WINDOWS, Validity, unstable

STARTUP_TARGET = 1.6


@dataclass(frozen=True)
class StartupSettings:
    """What was asked for: `film` is one radiograph."""

    film: Path
    model: str = "flagship"
    device: str = "cpu"
    rounds: int = 9


@dataclass(frozen=True)
class Startup:
    """Wall seconds of whole processes, one sample a round."""

    settings: StartupSettings
    machine: Machine
    artefact: Artefact
    batch_s: Spread
    imports_s: Spread

    @property
    def _windows(self) -> dict[str, Spread]:
        return {"bonefrac-batch of one film": self.batch_s, "imports alone": self.imports_s}

    @property
    def goal(self) -> Goal:
        ratio, name = self.batch_s.over(self.imports_s), " / ".join(self._windows)
        return Goal(name, ratio, STARTUP_TARGET, at_least=False, unstable=unstable(self._windows))

    @property
    def validity(self) -> Validity:
        return Validity(len(self.batch_s.samples), FEWEST_WINDOWS, "rounds", "one round before", self._windows)

    def lines(self) -> list[str]:
        device = self.settings.device
        return [
            *self.machine.lines(),
            f"{self.artefact.line()}, on {device}",
            f"Wall time of a fresh process, {len(self.batch_s.samples)} rounds in turn, median (min to max):",
            f"  bonefrac-batch FILM --out TMP --device {device} --quiet   {self.batch_s.text(3)} s",
            f'  python -c "{imports(device)}"   {self.imports_s.text(3)} s',
            self.goal.line(),
            self.validity.line(),
        ]

    def record(self) -> dict[str, Any]:
        """For JSON; the film is not named."""
        return {
            "benchmark": "startup",
            "settings": {
                "model": Path(self.settings.model).name,
                "device": self.settings.device,
                "rounds": self.settings.rounds,
            },
            "machine": self.machine.record(),
            "artefact": self.artefact.record(),
            "batch_s": self.batch_s.record(),
            "imports_s": self.imports_s.record(),
            "goals": [self.goal.record()],
            "validity": self.validity.record(),
        }


def measure_startup(settings: StartupSettings) -> Startup:
    """Start both in turn. Raises UsageError where the film or the model cannot be used."""
    film, bundle = settings.film, bundle_folder(settings.model)
    if film.is_dir():
        raise UsageError(f"{film}: is a folder, and one film is started with; name one radiograph")
    if not film.is_file():
        raise UsageError(f"{film}: there is no such file; name one radiograph")
    machine, measured = this_machine(), artefact(bundle)
    batch_s, imports_s = [], []
    with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
        for number in range(settings.rounds + 1):
            out = Path(temporary) / str(number)
            batch_s.append(
                _seconds(BATCH, film, "--out", out, "--model", bundle, "--device", settings.device, "--quiet")
            )
            imports_s.append(_seconds(imports(settings.device)))
            finished_run(out)
    return Startup(settings, machine, measured, Spread(tuple(batch_s[1:])), Spread(tuple(imports_s[1:])))


def _seconds(program: str, *arguments: object) -> float:
    started = time.perf_counter()
    run_python(program, arguments)
    return time.perf_counter() - started
