"""A report's single figures: of which file each is, how far it may be believed, and whether more of it is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bonefrac_benchmarks.accuracy_tables import POINTS
from bonefrac_benchmarks.machine import QUIET, quota_words
from bonefrac_benchmarks.peers_run import OURS, OURS_OPENVINO, RIVALS
from bonefrac_benchmarks.report import Part, Report
from bonefrac_benchmarks.wording import shown

_PRECISIONS = ("int8", "float32", "float16")


@dataclass(frozen=True)
class File:
    """A file that was run. `sha256` is empty where the part does not tell it."""

    model: str
    precision: str
    name: str
    sha256: str

    def text(self, digits: int = 8) -> str:
        """`int8 a6e07880`, for a table's cell."""
        return f"{self.precision or self.name} {self.sha256[:digits]}".strip()


@dataclass(frozen=True)
class Figure:
    """One figure by name, and the file that it is of: `low` and `high` are the ends of a 95 % interval, or of all
    rounds; None where there is none. `more`: more of it is better. `chief`: it is among the few that stand beside the
    accuracy."""

    name: str
    value: float
    low: float | None
    high: float | None
    digits: int
    file: File
    more: bool
    chief: bool = True

    def text(self) -> str:
        return shown({"value": self.value, "low": self.low, "high": self.high}, self.digits)


def own_file(part: Part) -> File:
    """The file that a part is of."""
    return _file(part["artefact"])


def file_of(part: Part, row: str) -> File:
    """The file that a row of `throughput` or `peers` ran: the naive loops and other engines run others than ours."""
    if part["benchmark"] == "throughput":
        precision, keras = row.rpartition(" ")[2], False
    elif row in RIVALS:
        precision, keras = RIVALS[row].precision, RIVALS[row].keras
    else:
        return File(own_file(part).model, "not recorded", "", "")
    others = [own_file(part), *map(_file, part.get("other_files", ()))]
    if keras:
        named = [file for file in others if file.name.endswith(".keras")]
        return replace(named[0], precision="") if named else File("", "", part["settings"]["keras"] or "Keras", "")
    if precision not in _PRECISIONS:
        return others[0]
    found = [file for file in others if file.precision == precision]
    return found[0] if found else File(others[0].model, precision, "", "")


def caption(files: Sequence[File]) -> str:
    """Of which files figures are; the first one's model is told."""
    first, *others = dict.fromkeys(files)
    beside = [f"{file.precision or file.name}{', SHA-256 ' * bool(file.sha256)}{file.sha256[:16]}" for file in others]
    return "; ".join((f"{first.model} {first.precision}, SHA-256 {first.sha256[:16]}", *beside))


def spread(name: str, record: dict[str, Any], digits: int, file: File, *, more: bool, chief: bool = True) -> Figure:
    """The median of rounds."""
    low, high = record["interval"] or (record["min"], record["max"]) if len(record["samples"]) > 1 else (None, None)
    return Figure(name, record["median"], low, high, digits, file, more, chief)


def spread_text(record: dict[str, Any], digits: int) -> str:
    return spread("", record, digits, File("", "", "", ""), more=True).text()


def figures(report: Report) -> list[Figure]:
    """All that two reports are compared by, in the order of the report."""
    return [figure for name in report.parts for figure in figures_of(report, name)]


def figures_of(report: Report, name: str) -> list[Figure]:
    """Those of one part."""
    return list(_FIGURES[name](report.parts[name]))


def doubts(validity: dict[str, Any]) -> str:
    """`unstable`, `too few rounds`, or nothing."""
    return " and ".join(
        word for word, wrong in (("unstable", validity["unstable"]), ("too few", not validity["enough"])) if wrong
    )


def load(part: Part) -> float | None:
    """The load that a timed part began with, where it was too high for a quiet machine."""
    found: float | None = part["machine"]["load"]
    return found if "validity" in part and found is not None and found > QUIET else None


def validity_line(part: Part) -> str:
    """What a part says of itself, and whether the machine was quiet before it."""
    said = part["validity"]["line"]
    if (found := load(part)) is None:
        return str(said)
    head, _, rest = said.partition(":")
    joined = f"{head}{', but' if head == 'Valid' else ' and'} NOT QUIET"
    return f"{joined}: load {found:.2f} before it, {QUIET:g} allowed;{rest}"


def quota_text(machine: dict[str, Any]) -> str:
    """`unknown` for older files too, which have null both for no quota and where it was not looked for."""
    told = "quota" in machine and (machine["quota"] is not None or "engine" in machine["versions"])
    return quota_words(machine["quota"] if told else "unknown")


def power_text(machine: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine["power"].items()) or "not told by the system"


def _file(record: dict[str, Any]) -> File:
    return File(record["model"], record["precision"], record["file"], record["sha256"])


def _throughput(part: Part) -> Iterator[Figure]:
    for name, rate in part["films_a_second"].items():
        file = file_of(part, name)
        yield spread(f"films a second, {name}", rate, 1, file, more=True, chief=not name.startswith("naive"))


def _waited(what: str, unit: str, scale: float, digits: int, part: Part) -> Iterator[Figure]:
    for name, found in part["row_s"]["quantiles"].items():
        if found["value"] is not None:
            low, high = (None if found[end] is None else scale * found[end] for end in ("low", "high"))
            yield Figure(f"{what}, {name}, {unit}", scale * found["value"], low, high, digits, own_file(part), False)


def _latency(part: Part) -> Iterator[Figure]:
    return _waited("one film after the other", "ms", 1000, 1, part)


def _watch(part: Part) -> Iterator[Figure]:
    return _waited(f"drop to row at {part['settings']['rate']:g} films a second", "s", 1, 2, part)


def _startup(part: Part) -> Iterator[Figure]:
    file = own_file(part)
    yield spread("cold start to one film's row, s", part["batch_s"], 2, file, more=False)
    yield spread("the imports alone, s", part["imports_s"], 2, file, more=False, chief=False)


def _peers(part: Part) -> Iterator[Figure]:
    for name, peer in part["peers"].items():
        file, chief = file_of(part, name), name in (OURS, OURS_OPENVINO)
        yield spread(f"films a second, {name}", peer["films_a_second"], 1, file, more=True, chief=chief)
        yield spread(f"CPU ms a film, {name}", peer["cpu_ms_a_film"], 1, file, more=False, chief=False)
        yield Figure(f"peak MB, {name}", peer["peak_mb"], None, None, 0, file, False, False)
        yield spread(f"first result s, {name}", peer["start_s"], 2, file, more=False, chief=False)


def _scale(part: Part) -> Iterator[Figure]:
    blank, file = ", blank network" * bool(part["settings"]["blank"]), own_file(part)
    for size in part["sizes"]:
        of = f"folder of {size['films']}{blank}"
        yield spread(f"ms a film, {of}", size["ms_a_film"], 2, file, more=False)
        yield spread(f"peak MB, {of}", size["peak_mb"], 0, file, more=False, chief=False)
    if part["growth"]:
        growth = part["growth"]
        yield Figure(f"growth exponent of time{blank}", growth["value"], growth["low"], growth["high"], 3, file, False)


def _accuracy(part: Part) -> Iterator[Figure]:
    asked = [(f"AUROC, {part['split']['name']}", part["ranking"]["auroc"], True)]
    asked += [
        (f"{kind} at the {name} point", part["points"][name][kind], True)
        for name in POINTS
        for kind in ("sensitivity", "specificity")
    ]
    asked += [
        (name, {"value": part["calibration"][key], "low": None, "high": None}, False)
        for name, key in (("ECE", "ece"), ("Brier score", "brier"))
    ]
    for name, found, more in asked:
        if found is not None and found["value"] is not None:
            yield Figure(name, found["value"], found["low"], found["high"], 3, own_file(part), more, chief=more)


_FIGURES = {
    "throughput": _throughput, "latency": _latency, "watch": _watch, "startup": _startup, "peers": _peers,
    "scale": _scale, "scale, blank network": _scale, "accuracy": _accuracy,
}  # fmt: skip
