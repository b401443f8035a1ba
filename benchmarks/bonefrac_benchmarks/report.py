"""`bonefrac-bench report`: what the single commands measured, put together: one page, its JSON and its Markdown.

Speed and accuracy stand side by side only where they are of one file: parts of different files, of different machines,
or of different versions of what was measured, are refused. The one exception names itself: `scale --blank`, whose
network does nothing. Accuracy may be of another machine, and the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonefrac.errors import OutputError, UsageError
from bonefrac.sinks import atomic
from bonefrac_benchmarks.report_shape import fault

ORDER = ("throughput", "latency", "watch", "startup", "peers", "scale", "scale, blank network", "accuracy")
SAME_MACHINE = ("cpu", "cores", "flags", "system")

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

    @property
    def device(self) -> str:
        """What computed the timed parts; empty where none tells."""
        return next((told for part in self.parts.values() if (told := _device(part))), "")

    def record(self) -> dict[str, Any]:
        """For JSON: `read_parts` takes it again."""
        return {"benchmark": "report", "artefact": self.artefact, "parts": list(self.parts.values())}


def read_parts(files: Sequence[Path]) -> list[Part]:
    """What single commands wrote with --json (accuracy with --out), or a report's JSON, which is its parts.

    Raises UsageError for a file that is none of these: after this, all that a report reads of a part is there.
    """
    parts: list[Part] = []
    for file in files:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            of_file = found["parts"] if found["benchmark"] == "report" else [found]
            faults = [fault(part) for part in of_file]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"{file}: is no file that bonefrac-bench has written; name its JSON files") from error
        for part, wrong in zip(of_file, faults, strict=True):
            if wrong:
                name = f"its '{part['benchmark']}'" if isinstance(part, dict) and part.get("benchmark") else "a part"
                raise UsageError(f"{file}: {name} is not as bonefrac-bench writes it: {wrong}; measure it again")
        parts += of_file
    return parts


def collect(parts: Iterable[Part]) -> Report:
    """Put parts together. Raises UsageError for none, for two of a kind, for one that has no place in a report, and for
    parts of different files, machines or versions."""
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
    timed = {name: part["machine"] for name, part in named.items() if name != "accuracy"}
    (whose, machine), *rest = timed.items() or [(first[0], first[1]["machine"])]
    for name, other in rest:
        if apart := differences(machine, other, versions=False):
            raise UsageError(
                f"parts of different machines, '{whose}' and '{name}' ({apart}), make no report; make one of each and"
                " compare them with --compare"
            )
        if apart := differences(machine, other, machine=False):
            raise UsageError(
                f"'{whose}' and '{name}' were measured with different versions ({apart}) and make no report; measure"
                " all parts with the same ones"
            )
    devices = {name: told for name, part in named.items() if (told := _device(part))}
    if len(set(devices.values())) > 1:
        raise UsageError(
            f"parts on different devices ({', '.join(f'{name} on {told}' for name, told in devices.items())}) make no"
            " report; make one of each and compare them with --compare"
        )
    return Report(first[1]["artefact"], machine, named)


def differences(one: dict[str, Any], other: dict[str, Any], *, machine: bool = True, versions: bool = True) -> str:
    """What differs between two machines as parts have them, in words; empty where nothing does. Files that are older
    than a fact do not tell it, which is a difference too: nobody knows."""
    pairs = [(key, one[key], other[key]) for key in SAME_MACHINE] * machine
    pairs += [("quota", one.get("quota"), other.get("quota"))] * machine
    if versions:
        pairs.append(("Python", one["python"], other["python"]))
        for name in dict.fromkeys((*one["versions"], *other["versions"])):
            pairs.append((name, *(of["versions"].get(name, "not told") for of in (one, other))))
    return ", ".join(f"{name}: {a} and {b}" for name, a, b in pairs if a != b)


def write_report(out: Path, report: Report) -> None:
    """Write `report.json`, `report.md` and `report.html`. Raises OutputError where the folder cannot be written to."""
    from bonefrac_benchmarks.accuracy_report import template
    from bonefrac_benchmarks.report_plots import plots
    from bonefrac_benchmarks.report_tables import about, sections, summary

    shared = {"report": report, "summary": summary(report), "about": about(report), "sections": sections(report)}
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


def _device(part: Part) -> str:
    """`--device`; `peers`, which runs several, and older files tell none."""
    return str(part.get("settings", {}).get("device", ""))


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
