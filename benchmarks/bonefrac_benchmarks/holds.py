"""What must hold, what was measured, and whether it does: one line a promise, as the issue's table has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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


def sheet(held: Sequence[Held]) -> list[str]:
    """The table, and a last line that says it all."""
    rows = [("test", "must hold", "measured", "holds")]
    rows += [(one.test, one.must, one.measured, "yes" if one.holds else "NO") for one in held]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    missed = sum(not one.holds for one in held)
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return [*lines, "everything holds" if not missed else f"{missed} of {len(held)} do NOT hold"]
