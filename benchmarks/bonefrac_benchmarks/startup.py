"""`bonefrac-bench startup`: how long a person waits for the first result, over what the imports alone cost.

Both are fresh processes, in turn, with all files in the page cache (one unmeasured round goes before).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.model import load_model
from bonefrac_benchmarks.commands import BATCH, IMPORTS, finished_run, run_python
from bonefrac_benchmarks.figures import Goal, Spread
from bonefrac_benchmarks.machine import Machine, this_machine

STARTUP_TARGET = 2.0  # issue 2, section 4


@dataclass(frozen=True)
class Startup:
    """Wall seconds of whole processes, one sample a round."""

    machine: Machine
    model: str
    sha256: str
    batch_s: Spread
    imports_s: Spread

    @property
    def goal(self) -> Goal:
        ratio = self.batch_s.over(self.imports_s)
        return Goal("bonefrac-batch of one film / imports alone", ratio, STARTUP_TARGET, at_least=False)

    def lines(self) -> list[str]:
        lines = [
            *self.machine.lines(),
            f"Model:   {self.model}, SHA-256 {self.sha256}",
            f"Wall time of a fresh process, {len(self.batch_s.samples)} rounds in turn, median (min to max):",
            f"  bonefrac-batch FILM --out TMP --quiet   {self.batch_s.text(3)} s",
            f'  python -c "{IMPORTS}"   {self.imports_s.text(3)} s',
            self.goal.line(),
        ]
        if self.batch_s.unstable:
            lines.append("UNSTABLE: the rounds differ by more than 10 %, or there is but one; quiet the machine")
        return lines

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "benchmark": "startup",
            "machine": self.machine.record(),
            "model": {"model": self.model, "sha256": self.sha256},
            "batch_s": self.batch_s.record(),
            "imports_s": self.imports_s.record(),
            "goals": [self.goal.record()],
            "unstable": self.batch_s.unstable,
        }


def measure_startup(film: Path, rounds: int, model: str) -> Startup:
    """Start both in turn, `rounds` times. Raises UsageError where the film or the model cannot be used."""
    if not film.is_file():
        raise UsageError(f"{film}: there is no such file; name one radiograph")
    machine = this_machine()
    bundle = load_model(model, device="cpu")
    batch_s, imports_s = [], []
    with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
        for number in range(rounds + 1):
            out = Path(temporary) / str(number)
            batch_s.append(_seconds(BATCH, film, "--out", out, "--model", model, "--device", "cpu", "--quiet"))
            imports_s.append(_seconds(IMPORTS))
            finished_run(out)
    return Startup(machine, f"{bundle.name} {bundle.precision}", bundle.sha256, Spread(tuple(batch_s[1:])),
                   Spread(tuple(imports_s[1:])))  # fmt: skip


def _seconds(program: str, *arguments: object) -> float:
    started = time.perf_counter()
    run_python(program, arguments)
    return time.perf_counter() - started
