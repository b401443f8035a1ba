"""What an export came to, in a file of its own: the README's table is made from these, no figure is typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.sinks import atomic

NAME = "export.json"
_IN_FLOAT = re.compile(r"\((\d+ of \d+) layers")
_HEADER = ("network", "px", "MB", "films a second, one thread", "times", "AUROC", "decisions changed", "default")


@dataclass(frozen=True)
class Record:
    """Figures by precision: bytes of the file, films a second through the engine's session with one thread, AUROC. Of
    `films` decisions, `flips` differ at each point between int8 and float32. `story`: how int8 was made, or why not.
    `unseen`: the films are of a fold that, as the network's history says, training never saw."""

    model: str
    version: str
    data: str
    image_size: int
    default: str
    story: str
    unseen: bool
    bytes: dict[str, int]
    films_a_second: dict[str, float]
    auroc: dict[str, float]
    films: int
    flips: dict[str, int]
    minutes: float


def write_record(folder: Path, record: Record) -> None:
    """Write it into a report's folder."""
    with atomic(folder / NAME) as file:
        file.write(json.dumps(asdict(record), indent=1).encode() + b"\n")


def read_record(path: Path) -> Record:
    """Raises UsageError for what `write_record` did not write."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: is no record of an export; bonefrac-export writes one into its report") from error


def table(paths: Iterable[Path]) -> str:
    """Markdown, a row an export, float32 -> int8, the smallest network first. Raises UsageError where exports were not
    measured on the same films: their figures do not compare."""
    records = sorted((read_record(path) for path in paths), key=lambda record: record.bytes["float32"])
    if len(of := {record.data for record in records}) != 1:
        raise UsageError(
            f"the exports were measured on several sets of films: {'; '.join(sorted(of))}; give those of one"
        )
    rows = [_HEADER, ("---",) * len(_HEADER), *(_cells(record) for record in records)]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *_notes(records)]) + "\n"


def _notes(records: list[Record]) -> list[str]:
    """What the films are, who saw them or gave no finding, which layers are in float, and why there is no int8."""
    most = max(record.films for record in records)
    seen = [f"`{record.model}`" for record in records if not record.unseen]
    unseen = f"; whether {', '.join(seen)} saw them in training is not known" if seen else ", which training never saw"
    fewer = [f"`{record.model}` gives {record.films} of them a finding" for record in records if record.films < most]
    freed = [f"{count[1]} of `{record.model}`" for record in records if (count := _IN_FLOAT.search(record.story))]
    return [
        f"{'; '.join([f'float32 → int8, on {most} films of {records[0].data}{unseen}', *fewer])}.",
        *([f"Layers left in float until the gates held: {', '.join(freed)}."] if freed else []),
        *(f"`{record.model}`: int8 {record.story}." for record in records if "int8" not in record.bytes),
    ]


def _cells(record: Record) -> tuple[str, ...]:
    def both(figures: dict[str, float], digits: int) -> str:
        return " → ".join(f"{figures[name]:.{digits}f}" for name in ("float32", "int8") if name in figures)

    speeds = record.films_a_second
    return (
        f"`{record.model}`",
        str(record.image_size),
        both({name: size / 1e6 for name, size in record.bytes.items()}, 1),
        both(speeds, 0) if min(speeds.values()) >= 10 else both(speeds, 1),
        f"{speeds['int8'] / speeds['float32']:.2f}" if "int8" in speeds else "–",
        both(record.auroc, 3),
        ", ".join(f"{count} ({name})" for name, count in record.flips.items()) or "–",
        record.default,
    )
