"""`bonefrac-bench report`: what the single commands measured, put together: one page, its JSON and its Markdown.

Speed and accuracy stand side by side only where they are of one file: parts of different files, or of different
machines, are refused. The one exception names itself: `scale --blank`, whose network does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.errors import OutputError, UsageError
from bonefrac.sinks import atomic

ORDER = ("throughput", "latency", "watch", "startup", "peers", "scale", "scale, blank network", "accuracy")
_SAME_MACHINE = ("cpu", "cores", "quota", "flags", "system")

Part = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """The parts by name, in the order of `ORDER`, of one file on one machine."""

    artefact: dict[str, Any]
    machine: dict[str, Any]
    parts: dict[str, Part]

    @property
    def goals(self) -> list[dict[str, Any]]:
        return [goal for part in self.parts.values() for goal in part.get("goals", ())]

    def record(self) -> dict[str, Any]:
        """For JSON: `read_parts` takes it again."""
        return {"benchmark": "report", "artefact": self.artefact, "parts": list(self.parts.values())}


def read_parts(files: Sequence[Path]) -> list[Part]:
    """What single commands wrote with --json (accuracy with --out), or a report's JSON, which is its parts.

    Raises UsageError for a file that is none of these.
    """
    parts: list[Part] = []
    for file in files:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            parts += found["parts"] if found["benchmark"] == "report" else [found]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file}: is no file that bonefrac-bench has written; name its JSON files") from error
    return parts


def collect(parts: Iterable[Part]) -> Report:
    """Put parts together. Raises UsageError for none, for two of a kind, for one that has no place in a report, and for
    parts of different files or machines."""
    named: dict[str, Part] = {}
    for part in parts:
        name = _name(part)
        if name not in ORDER or not isinstance(part.get("artefact"), dict):
            raise UsageError(f"a report has no place for '{name}'; it takes {', '.join(ORDER)}")
        if name in named:
            raise UsageError(f"'{name}' was named twice; name one file of each kind")
        named[name] = without_films(part) if name == "accuracy" else part
    if not named:
        raise UsageError("there is nothing to report; name the JSON files of single commands")
    named = {name: named[name] for name in ORDER if name in named}
    judged = {name: part for name, part in named.items() if name != "scale, blank network"} or named
    first, *others = judged.items()
    for name, part in others:
        _must_agree(first, (name, part))
    timed = [part["machine"] for name, part in named.items() if name != "accuracy"] or [first[1]["machine"]]
    for machine in timed[1:]:
        for key in _SAME_MACHINE:
            if machine[key] != timed[0][key]:
                raise UsageError(
                    f"parts of different machines ({key}: {timed[0][key]} and {machine[key]}) make no report; make one"
                    " of each and compare them with --compare"
                )
    return Report(first[1]["artefact"], timed[0], named)


def write_report(out: Path, report: Report) -> None:
    """Write `report.json`, `report.md` and `report.html`. Raises OutputError where the folder cannot be written to."""
    from bonefrac_benchmarks.accuracy_report import template
    from bonefrac_benchmarks.report_plots import plots
    from bonefrac_benchmarks.report_tables import about, sections

    shared = {"report": report, "about": about(report), "sections": sections(report)}
    texts = {
        "report.json": json.dumps(report.record(), indent=1, allow_nan=False) + "\n",
        "report.md": template("report.md").render(shared),
        "report.html": template("report.html").render(shared, plots=plots(report)),
    }
    try:
        for name, text in texts.items():
            with atomic(out / name) as file:
                file.write(text.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written to: {error.strerror}; name another folder with --out") from error


def without_films(accuracy: Part) -> Part:
    """An accuracy's figures without the names of films, and without the curve that needs thousands of points."""
    between = accuracy["between_precisions"]
    if between is not None:
        points = {name: {k: v for k, v in p.items() if k != "films"} for name, p in between["points"].items()}
        between = {**between, "points": points}
    return {
        **{key: value for key, value in accuracy.items() if key != "without_finding"},
        "between_precisions": between,
        "localisation": {key: value for key, value in accuracy["localisation"].items() if key != "froc"},
    }


def _name(part: Part) -> str:
    blank = part.get("benchmark") == "scale" and part["settings"]["blank"]
    return "scale, blank network" if blank else str(part.get("benchmark"))


def _must_agree(one: tuple[str, Part], other: tuple[str, Part]) -> None:
    (name, part), (other_name, other_part) = one, other
    files = [of["artefact"] for of in (part, other_part)]
    if files[0]["sha256"] != files[1]["sha256"]:
        said = " and ".join(f"{file['model']} {file['precision']} (SHA-256 {file['sha256'][:12]}…)" for file in files)
        raise UsageError(
            f"'{name}' and '{other_name}' are of different files, {said}: figures of two files make no report; measure"
            " one bundle with all commands"
        )
