"""A report's figures as sentences and tables: page, Markdown, the README's table and the comparison are made of
these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bonefrac_benchmarks.accuracy_tables import Table
from bonefrac_benchmarks.report import Part, Report
from bonefrac_benchmarks.wording import NOTHING, shown

_POINTS = ("sensitive", "specific")


@dataclass(frozen=True)
class Figure:
    """One figure by name: `low` and `high` are the ends of a 95 % interval, or of all rounds; None where there is
    none."""

    name: str
    value: float
    low: float | None
    high: float | None
    digits: int

    def text(self) -> str:
        return shown({"value": self.value, "low": self.low, "high": self.high}, self.digits)


@dataclass(frozen=True)
class Section:
    """What one command measured. `caption`: of which file; `validity`: whether it may be believed."""

    name: str
    tables: Sequence[Table]
    caption: str
    validity: str


def about(report: Report) -> list[str]:
    """What a page begins with: the very file and the machine."""
    file, machine = report.artefact, report.machine
    quota = "no quota" if machine["quota"] is None else f"a quota of {machine['quota']:g} cores"
    power = ", ".join(f"{name} {value}" for name, value in machine["power"].items()) or "not told by the system"
    return [
        f"{file['model']} {file['precision']}, {file['file']}, SHA-256 {file['sha256']}",
        f"{machine['cpu']}, {machine['cores']} cores used, {quota}, {machine['memory_gb']:.1f} GB, {machine['system']}",
        f"Processor flags that matter: {' '.join(machine['flags']) or 'not told by the system'}; power mode: {power}",
        f"Python {machine['python']}, " + ", ".join(f"{name} {found}" for name, found in machine["versions"].items()),
    ]


def figures(report: Report) -> list[Figure]:
    """The figures that two reports are compared by, in the order of the report."""
    return [figure for name, part in report.parts.items() for figure in _FIGURES[name](part)]


def sections(report: Report) -> list[Section]:
    """All tables: first the figures of speed and accuracy side by side, then the targets, then what each command
    measured."""
    listed = [
        Section(name, list(_TABLES[name](part)), caption(part), _validity(part)) for name, part in report.parts.items()
    ]
    whole = [Table("Speed and accuracy of this file", ("", "median or value"), _side_by_side(report), _HOW)]
    if report.goals:
        whole.append(goals_table(report))
    return [Section("", whole, caption({"artefact": report.artefact}), ""), *listed]


def goals_table(report: Report) -> Table:
    rows = [(goal["name"], _measured(goal), _target(goal), "yes" if goal["reached"] else "NO") for goal in report.goals]
    return Table("Targets", ("", "measured", "target", "reached"), rows, "Ratios are formed round by round. " + _HOW)


def caption(part: Part) -> str:
    """Of which file a figure is."""
    file = part["artefact"]
    return f"{file['model']} {file['precision']}, SHA-256 {file['sha256'][:16]}…"


def readme(report: Report) -> str:
    """The short table for a README, in Markdown: the peers, then what is asked of them."""
    file, machine = report.artefact, report.machine
    lines = []
    if "peers" in report.parts:
        lines += [*_markdown(_peers_table(report.parts["peers"])), ""]
    lines += [*_markdown(goals_table(report)), ""]
    invalid = [name for name, part in report.parts.items() if not part.get("validity", {"valid": True})["valid"]]
    lines.append(
        f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; {file['model']}"
        f" {file['precision']}, SHA-256 {file['sha256'][:16]}…"
        + (f"; not stable or too few samples, see the report: {', '.join(invalid)}" if invalid else "")
    )
    return "\n".join(lines)


def compare(one: Report, other: Report) -> list[str]:
    """Two reports in Markdown: what differs between them, and each figure that both have."""
    heads = [
        f"{report.artefact['model']} {report.artefact['precision']} ({report.artefact['sha256'][:12]}…) on"
        f" {report.machine['cpu']}, {report.machine['cores']} cores"
        for report in (one, other)
    ]
    same_file = one.artefact["sha256"] == other.artefact["sha256"]
    same_machine = all(one.machine[key] == other.machine[key] for key in ("cpu", "cores", "flags", "quota"))
    told = {
        (True, True): "The same file on the same machine.",
        (True, False): "One file on two machines.",
        (False, True): "Two files on one machine.",
        (False, False): "Two files on two machines: no figure tells which of both made the difference.",
    }
    found = {figure.name: figure for figure in figures(other)}
    rows = [
        (figure.name, figure.text(), found[figure.name].text(), _ratio(figure, found[figure.name]))
        for figure in figures(one)
        if figure.name in found
    ]
    table = Table("Comparison", ("", "A", "B", "B / A"), rows)
    return [f"A: {heads[0]}", f"B: {heads[1]}", told[same_file, same_machine], "", *_markdown(table)]


_HOW = "In brackets the 95 % interval, of a median from six rounds on; for fewer rounds the lowest and the highest."


def _side_by_side(report: Report) -> list[tuple[str, ...]]:
    own = {name: part for name, part in report.parts.items() if part["artefact"]["sha256"] == report.artefact["sha256"]}
    return [(figure.name, figure.text()) for name, part in own.items() for figure in _FIGURES[name](part)]


def _validity(part: Part) -> str:
    return part["validity"]["line"] if "validity" in part else ""


def _spread(name: str, record: dict[str, Any], digits: int) -> Figure:
    low, high = record["interval"] or (record["min"], record["max"]) if len(record["samples"]) > 1 else (None, None)
    return Figure(name, record["median"], low, high, digits)


def _quantile_figures(what: str, unit: str, scale: float, digits: int, part: Part) -> Iterator[Figure]:
    for name, found in part["row_s"]["quantiles"].items():
        if found["value"] is not None:
            ends = [None if found[end] is None else scale * found[end] for end in ("low", "high")]
            yield Figure(f"{what}, {name}, {unit}", scale * found["value"], ends[0], ends[1], digits)


def _throughput_figures(part: Part) -> Iterator[Figure]:
    for name in ("pipeline", "batch"):
        yield _spread(f"films a second, {name}", part["films_a_second"][name], 1)


def _startup_figures(part: Part) -> Iterator[Figure]:
    yield _spread("cold start to one film's row, s", part["batch_s"], 2)


def _peers_figures(part: Part) -> Iterator[Figure]:
    for name, peer in part["peers"].items():
        yield _spread(f"films a second, {name}", peer["films_a_second"], 1)


def _scale_figures(part: Part) -> Iterator[Figure]:
    blank = ", blank network" * bool(part["settings"]["blank"])
    for size in part["sizes"]:
        yield _spread(f"ms a film, folder of {size['films']}{blank}", size["ms_a_film"], 2)
    if part["growth"]:
        growth = part["growth"]
        yield Figure(f"growth exponent of time{blank}", growth["value"], growth["low"], growth["high"], 3)


def _accuracy_figures(part: Part) -> Iterator[Figure]:
    def figure(name: str, found: dict[str, Any] | None) -> Iterator[Figure]:
        if found is not None and found["value"] is not None:
            yield Figure(name, found["value"], found["low"], found["high"], 3)

    yield from figure(f"AUROC, {part['split']['name']}", part["ranking"]["auroc"])
    for name in _POINTS:
        for kind in ("sensitivity", "specificity"):
            yield from figure(f"{kind} at the {name} point", part["points"][name][kind])


def _throughput_tables(part: Part) -> Iterator[Table]:
    rates = [(name, *_three(rate, 1), rate["what"]) for name, rate in part["films_a_second"].items()]
    yield Table("Films a second", ("", "median", "lowest", "highest", "what"), rates, f"{part['films']} films.")
    within = part["stage_within_pipeline_ms_a_film"]
    stages = [
        (name, *_three(spent, 2), f"{within[name]['median']:.2f}" if name in within else NOTHING)
        for name, spent in part["stage_alone_ms_a_film"].items()
    ]
    head = ("", "median", "lowest", "highest", f"inside the pipeline, {part['settings']['workers']} workers")
    bound = part["bound_films_a_second"]["median"]
    had, cores = part["cores_had_by_pipeline"], part["machine"]["cores"]
    note = (
        f"The bound, cores / (decode + prepare + infer), is {bound:.1f} films a second. The pipeline had"
        f" {_spread('', had, 2).text()} of {cores} cores; the bound is for all of them."
    )
    yield Table("Milliseconds a film on one thread", head, stages, note)


def _quantile_tables(title: str, unit: str, scale: float, digits: int, part: Part) -> Iterator[Table]:
    rows = []
    for name, found in part["row_s"]["quantiles"].items():
        told = found["value"] is not None
        figure = {
            key: scale * found[key] if told and found[key] is not None else None for key in ("value", "low", "high")
        }
        rows.append((name, shown(figure, digits) if told else "not told", str(found["needs"])))
    note = f"{len(part['row_s']['samples'])} films. Intervals of 95 % from the order of the samples."
    yield Table(title, ("", unit, "films needed to tell it"), rows, note)


def _startup_tables(part: Part) -> Iterator[Table]:
    rows = [
        ("bonefrac-batch of one film", *_three(part["batch_s"], 3)),
        ("the imports alone", *_three(part["imports_s"], 3)),
    ]
    yield Table("Seconds from the start of a process", ("", "median", "lowest", "highest"), rows)


def _peers_table(part: Part) -> Table:
    rows = [
        (name, _spread("", peer["films_a_second"], 1).text(), f"{peer['cpu_ms_a_film']['median']:.1f}",
         f"{peer['peak_mb']:.0f}", f"{peer['start_s']['median']:.2f}", f"{peer['install_mb']:.0f}",
         f"{peer['apart']['median']:.4f}, {peer['apart']['worst']:.4f}")
        for name, peer in part["peers"].items()
    ]  # fmt: skip
    head = ("", "films a second", "CPU ms a film", "peak MB", "first result s", "install MB", "apart: median, worst")
    note = "Apart: its probabilities from the engine's of the same file; install: all that it needs but the network."
    return Table("The same network on the same films", head, rows, note)


def _peers_tables(part: Part) -> Iterator[Table]:
    yield _peers_table(part)
    rows = [
        (name, "; ".join(word for word in (peer["what"], peer["note"], peer["own_input"]) if word))
        for name, peer in part["peers"].items()
    ]
    rows += [(name, f"left out: {why}") for name, why in part["absent"].items()]
    yield Table("What each does", ("", ""), rows)


def _scale_tables(part: Part) -> Iterator[Table]:
    rows = [
        (str(size["films"]), _spread("", size["ms_a_film"], 2).text(), _spread("", size["peak_mb"], 0).text())
        for size in part["sizes"]
    ]
    growth = f"Time grows as films to the power of {shown(part['growth'])}. " if part["growth"] else ""
    blank = "The network does nothing: what is measured is all that stands round it. " * bool(part["settings"]["blank"])
    note = f"{blank}{growth}{part['settings']['rounds']} rounds, pictures and report included."
    yield Table("What a film costs in large folders", ("films", "ms a film", "peak MB"), rows, note)


def _accuracy_tables(part: Part) -> Iterator[Table]:
    split = part["split"]
    rows = [(figure.name, figure.text()) for figure in _accuracy_figures(part)]
    rows += [("ECE", f"{part['calibration']['ece']:.4f}"), ("Brier score", f"{part['calibration']['brier']:.4f}")]
    between = part["between_precisions"]
    if between is not None:
        one, other = between["precisions"]
        flips = ", ".join(f"{point['flips']} at the {name} point" for name, point in between["points"].items())
        rows.append((f"decisions of {one} that differ from {other}'s", f"{flips}, of {between['films']}"))
    note = f"{split['name']}: {part['films']} films, {part['fractured']} with a fracture, in {part['groups']} groups."
    yield Table("Accuracy", ("", "value"), rows, f"{note} {split['warning']}".strip())


def _three(record: dict[str, Any], digits: int) -> tuple[str, str, str]:
    median, low, high = (f"{record[key]:.{digits}f}" for key in ("median", "min", "max"))
    return median, low, high


def _measured(goal: dict[str, Any]) -> str:
    unit = f" {goal['unit']}" if goal["unit"] else ""
    return _spread("", goal, goal["digits"]).text() + unit


def _target(goal: dict[str, Any]) -> str:
    unit = f" {goal['unit']}" if goal["unit"] else ""
    return f"at least {goal['at_least']:g}{unit}" if "at_least" in goal else f"at most {goal['at_most']:g}{unit}"


def _ratio(one: Figure, other: Figure) -> str:
    return f"{other.value / one.value:.3f}" if one.value else NOTHING


def _markdown(table: Table) -> list[str]:
    rows = [table.header, ("---",) * len(table.header), *table.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _latency_figures(part: Part) -> Iterator[Figure]:
    return _quantile_figures("one film after the other", "ms", 1000, 1, part)


def _watch_figures(part: Part) -> Iterator[Figure]:
    return _quantile_figures(f"drop to row at {part['settings']['rate']:g} films a second", "s", 1, 2, part)


def _latency_tables(part: Part) -> Iterator[Table]:
    return _quantile_tables("One film after the other, from bytes to row", "ms a film", 1000, 1, part)


def _watch_tables(part: Part) -> Iterator[Table]:
    settings = part["settings"]
    title = f"Films dropped at random, {settings['rate']:g} a second, from drop to row"
    return _quantile_tables(title, f"s, {settings['settle']:g} of them the settle time", 1, 2, part)


_FIGURES = {
    "throughput": _throughput_figures, "latency": _latency_figures, "watch": _watch_figures,
    "startup": _startup_figures, "peers": _peers_figures, "scale": _scale_figures,
    "scale, blank network": _scale_figures, "accuracy": _accuracy_figures,
}  # fmt: skip
_TABLES = {
    "throughput": _throughput_tables, "latency": _latency_tables, "watch": _watch_tables, "startup": _startup_tables,
    "peers": _peers_tables, "scale": _scale_tables, "scale, blank network": _scale_tables, "accuracy": _accuracy_tables,
}  # fmt: skip
