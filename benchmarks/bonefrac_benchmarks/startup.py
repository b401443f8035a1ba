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
from bonefrac_benchmarks.commands import BATCH, IMPORTS, finished_run, run_python
from bonefrac_benchmarks.figures import Goal, Spread
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.validity import FEWEST_WINDOWS, Validity

STARTUP_TARGET = 1.6


@dataclass(frozen=True)
class Startup:
    """Wall seconds of whole processes, one sample a round."""

    machine: Machine
    artefact: Artefact
    batch_s: Spread
    imports_s: Spread

    @property
    def goal(self) -> Goal:
        ratio = self.batch_s.over(self.imports_s)
        return Goal("bonefrac-batch of one film / imports alone", ratio, STARTUP_TARGET, at_least=False)

    @property
    def validity(self) -> Validity:
        return Validity(len(self.batch_s.samples), FEWEST_WINDOWS, "rounds", "one round before", self.batch_s)

    def lines(self) -> list[str]:
        return [
            *self.machine.lines(),
            self.artefact.line(),
            f"Wall time of a fresh process, {len(self.batch_s.samples)} rounds in turn, median (min to max):",
            f"  bonefrac-batch FILM --out TMP --quiet   {self.batch_s.text(3)} s",
            f'  python -c "{IMPORTS}"   {self.imports_s.text(3)} s',
            self.goal.line(),
            self.validity.line(),
        ]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "benchmark": "startup",
            "machine": self.machine.record(),
            "artefact": self.artefact.record(),
            "batch_s": self.batch_s.record(),
            "imports_s": self.imports_s.record(),
            "goals": [self.goal.record()],
            "validity": self.validity.record(),
        }


def measure_startup(film: Path, rounds: int, model: str) -> Startup:
    """Start both in turn, `rounds` times. Raises UsageError where the film or the model cannot be used."""
    if not film.is_file():
        raise UsageError(f"{film}: there is no such file; name one radiograph")
    machine, measured = this_machine(), artefact(bundle_folder(model))
    batch_s, imports_s = [], []
    with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
        for number in range(rounds + 1):
            out = Path(temporary) / str(number)
            batch_s.append(_seconds(BATCH, film, "--out", out, "--model", model, "--device", "cpu", "--quiet"))
            imports_s.append(_seconds(IMPORTS))
            finished_run(out)
    return Startup(machine, measured, Spread(tuple(batch_s[1:])), Spread(tuple(imports_s[1:])))


def _seconds(program: str, *arguments: object) -> float:
    started = time.perf_counter()
    run_python(program, arguments)
    return time.perf_counter() - started
