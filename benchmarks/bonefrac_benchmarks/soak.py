"""`bonefrac-bench soak`: many writers drop films into a watched inbox in every way there is, twice: once undisturbed,
and once while the watcher is killed at random moments. Then every film is accounted for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from bonefrac_benchmarks.contents import Contents, draw_pictures
from bonefrac_benchmarks.holds import Held, sheet
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.passes import Pass, Run, SoakSettings, random_lives
from bonefrac_benchmarks.plan import KINDS, check_size, expectation, make_plan
from bonefrac_benchmarks.workdir import working_in

STOP_TARGET_S = 10.0  # after SIGTERM
_PICTURES = 60
_KILLED_WITHIN = 0.85  # of the time that the undisturbed run took, so that the last kill is well inside the run


@dataclass(frozen=True)
class Soak:
    """Both passes. `kinds` are films by the way they were dropped, `expected` rows in all."""

    settings: SoakSettings
    machine: Machine
    kinds: Counter[str]
    expected: int
    calm: Run
    killed: Run

    @property
    def held(self) -> list[Held]:
        kills = f"kill -9 {self.settings.kills} times"
        same = self.calm.table_sha256 == self.killed.table_sha256
        same_pictures = self.calm.pictures_sha256 == self.killed.pictures_sha256
        hits = [kill for kill in self.killed.kills if kill.films]
        return [
            *self._held_by("undisturbed", self.calm),
            Held(kills, "all of them", f"{len(self.killed.kills)}, of which {len(hits)} hit a film in hand",
                 len(self.killed.kills) == self.settings.kills),
            *self._held_by(kills, self.killed),
            Held("results.csv of both runs", "equal byte for byte", "equal" if same else "DIFFERENT", same),
            Held("pictures of both runs", "equal byte for byte", "equal" if same_pictures else "DIFFERENT",
                 same_pictures),
        ]  # fmt: skip

    def _held_by(self, name: str, run: Run) -> list[Held]:
        found = run.accounts
        films = f"{self.settings.films} films by {self.settings.writers} writers, {name}"
        lost = len(found.lost)
        never = f" ({run.given_up} of them never dropped: what they wait for never came)" if run.given_up else ""
        pictures = [len(found.pictures_missing), len(found.pictures_broken), len(found.pictures_extra)]
        others = [len(found.uninvited), len(found.mixed_up), len(found.copies)]
        return [
            Held(films, f"{self.expected} accounted for, 0 lost, 0 doubled",
                 f"{self.expected - lost} accounted for, {lost} lost{never}, {len(found.doubled)} doubled",
                 run.drained and not run.given_up and not lost and not found.doubled),
            Held("  analysed half-written", "0", str(len(found.half_written)), not found.half_written),
            Held("  analysed though already replaced, results mixed up, copies that point wrongly", "0, 0, 0",
                 ", ".join(map(str, others)), not any(others)),
            Held("  failed or set aside", "0", str(len(found.not_ok)), not found.not_ok),
            Held("  pictures missing, not whole, too many", "0, 0, 0", ", ".join(map(str, pictures)),
                 not any(pictures)),
            Held("  temporary files left, films still claimed", "0", str(len(found.unfinished)),
                 not found.unfinished),
            Held("  ended by itself, or badly when asked to", "never, status 0 within 10 s",
                 f"{run.ended_alone} times, status {run.stop_status} within {run.stop_s:.1f} s",
                 not run.ended_alone and run.stop_status == 0 and run.stop_s <= STOP_TARGET_S),
        ]  # fmt: skip

    def lines(self) -> list[str]:
        kinds = [f"  {count:6}  {kind}: {KINDS[kind]}" for kind, count in self.kinds.items() if kind in KINDS]
        return [
            *self.machine.lines(),
            f"Watcher: bonefrac watch INBOX --out DIR {' '.join(self.settings.options)}",
            f"Films:   {self.expected} of seed {self.settings.seed}; pauses of {self.settings.pause:g} s; by how they"
            " were dropped:",
            *kinds,
            *self._figures("undisturbed", self.calm),
            *self._figures("killed", self.killed),
            *sheet(self.held),
        ]

    def _figures(self, name: str, run: Run) -> list[str]:
        kills = ""
        if run.kills:
            cut_off, most = sum(kill.films for kill in run.kills), max(kill.most_attempts for kill in run.kills)
            kills = f"; {len(run.kills)} kills cut off {cut_off} attempts, at most {most} at one film"
        late = f"; {len(run.late)} replaced too late by a slow machine" if run.late else ""
        return [
            f"{name}: {run.seconds:.0f} s, {run.films_a_second:.1f} drops a second, drained {run.drained_s:.1f} s after"
            f" the last one{kills}{late}",
            f"  the watcher: at most {run.peak_mb:.0f} MB resident, {run.most_files} open files",
        ]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "benchmark": "soak",
            "settings": asdict(self.settings),
            "machine": self.machine.record(),
            "options": list(self.settings.options),
            "kinds": dict(self.kinds),
            "expected": self.expected,
            "undisturbed": self.calm.record(),
            "killed": self.killed.record(),
            "held": [one.record() for one in self.held],
        }


def measure_soak(folder: Path | None, settings: SoakSettings) -> Soak:
    """Both passes. Raises UsageError for too few films, or a watcher that does not start."""
    check_size(settings.films, settings.writers)
    machine = this_machine()
    with working_in(folder) as work:
        draw_pictures(work / "pictures", _PICTURES, settings.seed)
        contents = Contents(work / "pictures")
        plan = make_plan(
            contents, films=settings.films, writers=settings.writers, seed=settings.seed, pauses=settings.pauses
        )
        expected = expectation(contents, plan)
        kinds: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        for step in (step for steps in plan for step in steps):
            kinds[step.kind] += len(step.puts) + len(step.later)
        calm = Pass(work / "undisturbed", work / "pictures", settings).run(plan, expected, [])
        lives_s = random_lives(settings.kills, calm.seconds * _KILLED_WITHIN, settings.seed)
        killed = Pass(work / "killed", work / "pictures", settings).run(plan, expected, lives_s)
    return Soak(settings, machine, kinds, expected.rows.total(), calm, killed)
