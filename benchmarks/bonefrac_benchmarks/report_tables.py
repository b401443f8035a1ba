"""A report's figures as sentences and tables: page, Markdown and the README's table are made of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bonefrac_benchmarks import accuracy_tables
from bonefrac_benchmarks.accuracy_tables import Table
from bonefrac_benchmarks.peers_run import OURS, OURS_OPENVINO
from bonefrac_benchmarks.report import Part, Report, differences
from bonefrac_benchmarks.report_compare import compare
from bonefrac_benchmarks.report_figures import (
    File,
    caption,
    figures_of,
    file_of,
    load,
    own_file,
    power_text,
    quota_text,
    spread_text,
    validity_line,
)
from bonefrac_benchmarks.report_targets import NOT_MEASURED, missed, targets
from bonefrac_benchmarks.wording import NOTHING, shown

__all__ = ["about", "compare", "goals_table", "readme", "sections", "summary"]

_HOW = "In brackets the 95 % interval, of a median from six rounds on; for fewer rounds the lowest and the highest."
_OURS = {"pipeline": "files in, findings out", "batch": "the whole command, with pictures and report"}
_BLANK = "Blank network: one that does nothing, so that what is measured is all that stands round a network"


@dataclass(frozen=True)
class Section:
    """What one command measured: its tables, each of the file that its `of` tells, and what has to be known of all of
    them. `said`: whether it may be believed."""

    name: str
    tables: Sequence[Table]
    said: Sequence[str] = ()
    limits: Sequence[str] = ()


def summary(report: Report) -> list[str]:
    """What a tired person has to know: targets, speed, accuracy."""
    return [_targets_line(report), _speed_line(report), _accuracy_line(report)]


def about(report: Report) -> list[str]:
    """The very file and the machine."""
    file, machine = report.artefact, report.machine
    loads = [f"{name} {_load_text(part)}" for name, part in report.parts.items() if "validity" in part]
    blank = f". {_BLANK}" if "scale, blank network" in report.parts else ""
    return [
        f"{file['model']} {file['precision']}, {file['file']}, SHA-256 {file['sha256']}",
        f"{machine['cpu']}, {machine['cores']} cores used, {quota_text(machine)}, {machine['memory_gb']:.1f} GB,"
        f" {machine['system']}{f'; on {report.device}' if report.device else ''}",
        f"Processor flags that matter: {' '.join(machine['flags']) or 'not told by the system'}; power mode:"
        f" {power_text(machine)}",
        f"Python {machine['python']}, " + ", ".join(f"{name} {found}" for name, found in machine["versions"].items()),
        f"Load of the machine before each part: {', '.join(loads) or 'nothing was timed'}{blank}",
    ]


def sections(report: Report) -> list[Section]:
    """All tables: first the targets, then the figures of speed and accuracy side by side, then what each command
    measured."""
    whole = [goals_table(report)]
    if rows := missed(report):
        whole.append(
            Table("Where it goes, of each target that is not reached", ("target", "as the parts tell"), rows,
                  "Medians of all rounds.", _of_targets(report))
        )  # fmt: skip
    whole.append(_side_by_side(report))
    listed = [
        Section(name, [_with_file(part, table) for table in _TABLES[name](part)], *_told(report, part))
        for name, part in report.parts.items()
    ]
    return [Section("", whole), *listed]


def goals_table(report: Report) -> Table:
    found = targets(report)
    rows = [(target.name, target.measured, target.asked, target.verdict()) for target in found]
    note = "Ratios are formed round by round. " + _HOW
    if any("blank network" in target.name for target in found):
        note = f"{_BLANK}. {note}"
    return Table("Targets", ("", "measured", "target", "reached"), rows, note, _of_targets(report))


def readme(report: Report) -> str:
    """The short table for a README, in Markdown: the peers, then what is asked of them."""
    file, machine = report.artefact, report.machine
    lines = []
    if "peers" in report.parts:
        lines += [*markdown(_peers_table(report.parts["peers"])), ""]
    lines += [*markdown(goals_table(report)), ""]
    invalid = [name for name, part in report.parts.items() if not part.get("validity", {"valid": True})["valid"]]
    busy = [name for name, part in report.parts.items() if load(part) is not None]
    lines.append(
        f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; {file['model']}"
        f" {file['precision']}, SHA-256 {file['sha256'][:16]}"
        + (f"; not stable or too few samples, see the report: {', '.join(invalid)}" if invalid else "")
        + (f"; the machine was not quiet before: {', '.join(busy)}" if busy else "")
    )
    return "\n".join(lines)


def markdown(table: Table) -> list[str]:
    """Its rows alone."""
    rows = [table.header, ("---",) * len(table.header), *table.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


# ---- the three lines


def _targets_line(report: Report) -> str:
    found = targets(report)
    counts = {reached: sum(target.reached is reached for target in found) for reached in (True, False, None)}
    measured = [target for target in found if target.reached is not None]
    doubted = sum(bool(target.doubts) for target in measured)
    return (
        f"Targets: {counts[True]} reached, {counts[False]} not, {counts[None]} not measured here; {doubted} of the"
        f" {len(measured)} verdicts stand on a measurement that is unstable or too short."
    )


def _speed_line(report: Report) -> str:
    parts, told = report.parts, []
    if "throughput" in parts:
        rates = parts["throughput"]["films_a_second"]
        told += [f"{rates[name]['median']:.1f} {name} ({what})" for name, what in _OURS.items()]
    if "peers" in parts:
        peers = parts["peers"]["peers"]
        ours = [name for name in (OURS, OURS_OPENVINO) if name in peers]
        told += [
            f"{peers[name]['films_a_second']['median']:.1f} {name} (the pipeline beside its peers)" for name in ours
        ]
        others = [name for name in peers if name not in ours]
        fastest = max(others, key=lambda name: peers[name]["films_a_second"]["median"], default=None)
        if fastest:
            told.append(f"the fastest peer, {fastest}, {peers[fastest]['films_a_second']['median']:.1f}")
    return f"Films a second: {'; '.join(told) or NOT_MEASURED}."


def _accuracy_line(report: Report) -> str:
    if "accuracy" not in report.parts:
        return f"Accuracy: {NOT_MEASURED}."
    part = report.parts["accuracy"]
    point = part["points"]["specific"]
    return " ".join(
        (
            f"Accuracy on {part['split']['name']}, {part['films']} films: AUROC {shown(part['ranking']['auroc'])};"
            f" sensitivity {shown(point['sensitivity'])} and specificity {shown(point['specificity'])} at the specific"
            " point.",
            *accuracy_tables.chosen_on_these(part),
        )
    )


# ---- what belongs to a section


def _of_targets(report: Report) -> str:
    """Ratios are of two files where the other one runs another."""
    own = File(**_names(report.artefact))
    others = [
        file_of(report.parts[name], row)
        for name, key in (("throughput", "films_a_second"), ("peers", "peers"))
        for row in report.parts.get(name, {key: ()})[key]
    ]
    return caption([own, *others])


def _names(artefact: dict[str, Any]) -> dict[str, str]:
    return {"model": artefact["model"], "precision": artefact["precision"], "name": artefact["file"],
            "sha256": artefact["sha256"]}  # fmt: skip


def _with_file(part: Part, table: Table) -> Table:
    return table if table.of else replace(table, of=caption([own_file(part)]))


def _told(report: Report, part: Part) -> tuple[list[str], list[str]]:
    """Whether it may be believed, and its limits."""
    if "validity" in part:
        return [validity_line(part)], []
    said = [f"WARNING: {part['split']['warning']}"] if part["split"]["warning"] else []
    if other := differences(report.machine, part["machine"]):
        said.append(f"Note: these figures were computed elsewhere than the speed was measured: {other}.")
    return said, part["limits"]


def _load_text(part: Part) -> str:
    found = part["machine"]["load"]
    return "unknown" if found is None else f"{found:.2f}"


# ---- the tables


def _side_by_side(report: Report) -> Table:
    sha256 = report.artefact["sha256"]
    rows = [
        (figure.name, figure.text(), name)
        for name in report.parts
        for figure in figures_of(report, name)
        if figure.chief and figure.file.sha256 == sha256
    ]
    notes = [_HOW]
    if "throughput" in report.parts:
        rates = report.parts["throughput"]["films_a_second"]
        notes = [f"{name[0].upper()}{name[1:]}: {rates[name]['what']}." for name in _OURS] + notes
    if "peers" in report.parts:
        notes.insert(-1, f"{OURS}: that pipeline in the run of the peers.")
    if "accuracy" in report.parts:
        notes += accuracy_tables.chosen_on_these(report.parts["accuracy"])
    file = caption([File(**_names(report.artefact))])
    return Table("Speed and accuracy of this file", ("", "median or value", "measured by"), rows, " ".join(notes), file)


def _throughput_tables(part: Part) -> Iterator[Table]:
    files = {name: file_of(part, name) for name in part["films_a_second"]}
    rates = [
        (name, *_three(rate, 1), files[name].text(), rate["what"]) for name, rate in part["films_a_second"].items()
    ]
    head = ("", "median", "lowest", "highest", "file", "what")
    yield Table("Films a second", head, rates, f"{part['films']} films.", caption(list(files.values())))
    within = part["stage_within_pipeline_ms_a_film"]
    stages = [
        (name, *_three(spent, 2), f"{within[name]['median']:.2f}" if name in within else NOTHING)
        for name, spent in part["stage_alone_ms_a_film"].items()
    ]
    heads = ("", "median", "lowest", "highest", f"inside the pipeline, {part['settings']['workers']} workers")
    bound = part["bound_films_a_second"]["median"]
    had, cores = part["cores_had_by_pipeline"], part["machine"]["cores"]
    note = (
        f"The bound, {part.get('bound_is', 'cores / (decode + prepare + infer)')}, is {bound:.1f} films a second. The"
        f" pipeline had {spread_text(had, 2)} of {cores} cores; the bound is for {part.get('bound_cores', cores)}."
    )
    yield Table("Milliseconds a film on one thread", heads, stages, note)


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


def _latency_tables(part: Part) -> Iterator[Table]:
    return _quantile_tables("One film after the other, from bytes to row", "ms a film", 1000, 1, part)


def _watch_tables(part: Part) -> Iterator[Table]:
    settings = part["settings"]
    title = f"Films dropped at random, {settings['rate']:g} a second, from drop to row"
    return _quantile_tables(title, f"s, {settings['settle']:g} of them the settle time", 1, 2, part)


def _startup_tables(part: Part) -> Iterator[Table]:
    rows = [
        ("bonefrac-batch of one film", *_three(part["batch_s"], 3)),
        ("the imports alone", *_three(part["imports_s"], 3)),
    ]
    yield Table("Seconds from the start of a process", ("", "median", "lowest", "highest"), rows)


def _peers_table(part: Part) -> Table:
    files = {name: file_of(part, name) for name in part["peers"]}
    rows = [
        (name, _rate(peer), f"{peer['cpu_ms_a_film']['median']:.1f}",
         f"{peer['peak_mb']:.0f}", f"{peer['start_s']['median']:.2f}", f"{peer['install_mb']:.0f}",
         f"{peer['apart']['median']:.4f}, {peer['apart']['worst']:.4f}", files[name].text())
        for name, peer in part["peers"].items()
    ]  # fmt: skip
    head = ("", "films a second", "CPU ms a film", "peak MB", "first result s", "install MB", "apart: median, worst",
            "file")  # fmt: skip
    note = "Apart: its probabilities from the engine's of the same file; install: all that it needs but the network."
    return Table("The same network on the same films", head, rows, note, caption(list(files.values())))


def _rate(peer: dict[str, Any]) -> str:
    unstable = peer.get("validity", {"unstable": False})["unstable"]
    return spread_text(peer["films_a_second"], 1) + ", unstable" * bool(unstable)


def _peers_tables(part: Part) -> Iterator[Table]:
    whole = _peers_table(part)
    yield whole
    rows = [
        (name, "; ".join(word for word in (peer["what"], peer["note"], peer["own_input"]) if word))
        for name, peer in part["peers"].items()
    ]
    rows += [(name, f"left out: {why}") for name, why in part["absent"].items()]
    yield Table("What each does", ("", ""), rows, of=whole.of)


def _scale_tables(part: Part) -> Iterator[Table]:
    rows = [
        (str(size["films"]), spread_text(size["ms_a_film"], 2), spread_text(size["peak_mb"], 0))
        for size in part["sizes"]
    ]
    growth = f"Time grows as films to the power of {shown(part['growth'])}. " if part["growth"] else ""
    blank = part["settings"]["blank"]
    title = "What a film costs in large folders" + ", all but the network: with a blank one" * bool(blank)
    note = f"{f'{_BLANK}. ' * bool(blank)}{growth}{part['settings']['rounds']} rounds, pictures and report included."
    yield Table(title, ("films", "ms a film", "peak MB"), rows, note)


def _accuracy_tables(part: Part) -> Iterator[Table]:
    split = part["split"]
    note = f"{split['name']}: {part['films']} films, {part['fractured']} with a fracture, in {part['groups']} groups."
    for table in accuracy_tables.tables(part):
        yield replace(table, title=f"Accuracy: {table.title}", note=f"{note} {table.note}".strip())


def _three(record: dict[str, Any], digits: int) -> tuple[str, str, str]:
    median, low, high = (f"{record[key]:.{digits}f}" for key in ("median", "min", "max"))
    return median, low, high


_TABLES = {
    "throughput": _throughput_tables, "latency": _latency_tables, "watch": _watch_tables, "startup": _startup_tables,
    "peers": _peers_tables, "scale": _scale_tables, "scale, blank network": _scale_tables, "accuracy": _accuracy_tables,
}  # fmt: skip
