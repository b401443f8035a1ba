"""`bonefrac-bench report --compare`: two reports side by side, for who chooses between two machines or two models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bonefrac.errors import UsageError
from bonefrac_benchmarks.report import SAME_MACHINE, Report, differences
from bonefrac_benchmarks.report_figures import Figure, figures, power_text, quota_text, validity_line
from bonefrac_benchmarks.report_targets import targets
from bonefrac_benchmarks.wording import NOTHING

_Rows = Sequence[Sequence[str]]


def compare(one: Report, other: Report) -> list[str]:
    """In Markdown: what differs between them, how far each may be believed, and each figure and target that both have.

    Raises UsageError where they have no figure in common.
    """
    found = {figure.name: figure for figure in figures(other)}
    pairs = [(figure, found[figure.name]) for figure in figures(one) if figure.name in found]
    if not pairs:
        raise UsageError(
            f"there is nothing to compare: A has {', '.join(one.parts)}, B has {', '.join(other.parts)}, and no figure"
            " is in both; measure both with the same commands and options"
        )
    heads = [
        f"{report.artefact['model']} {report.artefact['precision']} ({report.artefact['sha256'][:12]}) on"
        f" {report.machine['cpu']}, {report.machine['cores']} cores"
        for report in (one, other)
    ]
    rows = [(a.name, a.text(), b.text(), _ratio(a, b), "more" if a.more else "less") for a, b in pairs]
    return [
        f"A: {heads[0]}", f"B: {heads[1]}", _told(one, other), "",
        *_table("Where and with what", ("", "A", "B"), _conditions(one, other)), "",
        *_table("May it be believed?", ("", "A", "B"), _validity(one, other)), "",
        *_table("Figures", ("", "A", "B", "B / A", "better"), rows), "",
        *_table("Targets", ("", "A", "reached", "B", "reached"), list(_targets(one, other))),
    ]  # fmt: skip


def _told(one: Report, other: Report) -> str:
    same_file = one.artefact["sha256"] == other.artefact["sha256"]
    same_machine = all(one.machine[key] == other.machine[key] for key in SAME_MACHINE) and (
        quota_text(one.machine) == quota_text(other.machine)
    )
    told = {
        (True, True): "The same file on the same machine",
        (True, False): "One file on two machines",
        (False, True): "Two files on one machine",
        (False, False): "Two files on two machines: no figure tells which of both made the difference",
    }[same_file, same_machine]
    versions = differences(one.machine, other.machine, machine=False)
    if versions:
        return f"{told}; other versions: {versions}."
    known = all("engine" in report.machine["versions"] for report in (one, other))
    return f"{told}, with the same versions{'' if known else ' of all packages; of the engine it is not told'}."


def _conditions(one: Report, other: Report) -> _Rows:
    def of(report: Report) -> dict[str, str]:
        machine, file = report.machine, report.artefact
        return {
            "file": f"{file['model']}, {file['file']}", "SHA-256": file["sha256"][:16], "processor": machine["cpu"],
            "cores used": str(machine["cores"]), "quota": quota_text(machine), "flags": " ".join(machine["flags"]),
            "device": report.device, "memory": f"{machine['memory_gb']:.1f} GB", "power mode": power_text(machine),
            "system": machine["system"], "Python": machine["python"], **machine["versions"],
        }  # fmt: skip

    a, b = of(one), of(other)
    return [(name, a.get(name) or NOTHING, b.get(name) or NOTHING) for name in dict.fromkeys([*a, *b])]


def _validity(one: Report, other: Report) -> _Rows:
    def of(report: Report) -> dict[str, str]:
        return {name: validity_line(part) for name, part in report.parts.items() if "validity" in part}

    a, b = of(one), of(other)
    return [(name, a.get(name, "not measured"), b.get(name, "not measured")) for name in dict.fromkeys([*a, *b])]


def _targets(one: Report, other: Report) -> Iterator[Sequence[str]]:
    found = {target.key: target for target in targets(other)}
    for target in targets(one):
        if (beside := found.get(target.key)) is not None:
            yield (
                f"{target.key}, {target.asked}", target.measured, target.verdict(), beside.measured, beside.verdict()
            )  # fmt: skip


def _ratio(one: Figure, other: Figure) -> str:
    return f"{other.value / one.value:.3f}" if one.value else NOTHING


def _table(title: str, header: Sequence[str], rows: _Rows) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"## {title}", "", *("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)]
