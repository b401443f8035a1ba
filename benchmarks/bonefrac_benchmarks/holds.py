"""What must hold, what was measured, and whether it does: one line a promise, as the issue's table has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Held:
    """One promise and what became of it; `holds` is judged before anything is rounded."""

    test: str
    must: str
    measured: str
    holds: bool

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {"test": self.test, "must_hold": self.must, "measured": self.measured, "holds": self.holds}


def markdown(reports: Sequence[Path]) -> list[str]:
    """The tables of some reports in Markdown, from their files alone."""
    lines = []
    for report in reports:
        facts = json.loads(report.read_text(encoding="utf-8"))
        machine = facts["machine"]
        lines += [
            f"## {report.stem}",
            "",
            f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} before it began;"
            f" bonefrac {machine['versions']['bonefrac']}, `{' '.join(facts['options'])}`",
            "",
            "| test | must hold | measured |",
            "| --- | --- | --- |",
        ]
        for one in facts["held"]:
            mark = "" if one["holds"] else ", **missed**"
            lines.append(f"| {one['test'].strip()} | {one['must_hold']} | {one['measured']}{mark} |")
        lines.append("")
    return lines


def sheet(held: Sequence[Held]) -> list[str]:
    """The table, and a last line that says it all."""
    rows = [("test", "must hold", "measured", "holds")]
    rows += [(one.test, one.must, one.measured, "yes" if one.holds else "NO") for one in held]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    missed = sum(not one.holds for one in held)
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return [*lines, "everything holds" if not missed else f"{missed} of {len(held)} do NOT hold"]
