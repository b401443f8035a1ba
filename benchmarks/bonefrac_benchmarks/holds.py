"""What must hold, what was measured, and whether it does: one line a promise, as the issue's table has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.errors import UsageError


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
    """The tables of some reports in Markdown, from their files alone. Raises UsageError for a file that is none."""
    lines: list[str] = []
    for report in reports:
        try:
            lines += _section(report.stem, json.loads(report.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{report}: is not what soak, idle, drop or overflow writes with --json; name such files"
            ) from error
    return lines


def _section(name: str, facts: dict[str, Any]) -> Iterator[str]:
    machine = facts["machine"]
    yield from (
        f"## {name}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} before it began;"
        f" bonefrac {machine['versions']['bonefrac']}, `{' '.join(facts['options'])}`",
        "",
        "| test | must hold | measured |",
        "| --- | --- | --- |",
    )
    for one in facts["held"]:
        mark = "" if one["holds"] else ", **missed**"
        yield f"| {one['test'].strip()} | {one['must_hold']} | {one['measured']}{mark} |"
    yield ""


def sheet(held: Sequence[Held]) -> list[str]:
    """The table, and a last line that says it all."""
    rows = [("test", "must hold", "measured", "holds")]
    rows += [(one.test, one.must, one.measured, "yes" if one.holds else "NO") for one in held]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    missed = sum(not one.holds for one in held)
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return [*lines, "everything holds" if not missed else f"{missed} of {len(held)} do NOT hold"]
