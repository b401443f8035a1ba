"""The project's targets, each with what was measured, and where the time or the memory of a missed one goes.

A target that no part measured is told as not measured. Nothing here is typed by hand: what is asked stands with the
command that measures it, and where something goes is told by the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bonefrac_benchmarks.figures import Goal, Spread
from bonefrac_benchmarks.peers_run import (
    KERAS_FOLDER,
    KERAS_FOLDER_TARGET,
    KERAS_LOOP,
    KERAS_LOOP_TARGET,
    OPENVINO_TARGET,
    OURS,
    OURS_OPENVINO,
    WITHOUT_OPENVINO_TARGET,
)
from bonefrac_benchmarks.report import Part, Report
from bonefrac_benchmarks.report_figures import doubts, spread_text
from bonefrac_benchmarks.scale import FLAT_TARGET, FROM, GROWTH_TARGET, PEAK_TARGET_MB
from bonefrac_benchmarks.startup import STARTUP_TARGET
from bonefrac_benchmarks.throughput import ANNOTATE_ALL, ANNOTATE_ALL_TARGET, BATCH, BOUND_TARGET
from bonefrac_benchmarks.wording import shown

# each network's own report, a folder of benchmarks/reports
REPORTS = {"flagship": "machine", "mobilenetv2": "machine-mobilenetv2", "resnet50v2": "machine-resnet50v2"}
NOT_MEASURED = "not measured"
_LARGEST = 50_000  # films of the largest folder that growth is asked of

Record = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A row of the table. `key` is the same for a target in every report. `part` and `goal` are what was measured,
    empty and None where nothing was; `doubts` why it may not be believed."""

    key: str
    name: str
    measured: str
    asked: str
    reached: bool | None
    doubts: str = ""
    part: str = ""
    goal: Record | None = None

    def verdict(self) -> str:
        if self.reached is None:
            return NOT_MEASURED if self.measured == NOT_MEASURED else "see there"
        return ("yes" if self.reached else "NO") + f", {self.doubts}" * bool(self.doubts)


@dataclass(frozen=True)
class _Asked:
    """What the project asks: `name` where nothing measured it, the parts that may, and which of their goals it is."""

    name: str
    parts: tuple[str, ...]
    bound: Record
    is_it: Callable[[Record, Part], bool]


def targets(report: Report) -> list[Target]:
    """All that is asked of the project, in its order; then what the parts ask beyond it."""
    goals = [(name, goal) for name, part in report.parts.items() for goal in part.get("goals", ())]
    goals = [*_highest_peak(report), *((name, goal) for name, goal in goals if goal["name"] != _PEAK)]
    found, told = [], []
    for asked in _ASKED:
        fits = [one for one in goals if one[0] in asked.parts and asked.is_it(one[1], report.parts[one[0]])][:1]
        told += fits
        found += [_measured(report, asked.name, *one) for one in fits] or [
            Target(asked.name, asked.name, NOT_MEASURED, _bound(asked.bound), None)
        ]
    beyond = [_measured(report, one[1]["name"], *one) for one in goals if one not in told]
    return [*found, *_other_networks(report), *beyond]


def missed(report: Report) -> list[tuple[str, str]]:
    """Each missed target, and what the parts tell of where it goes."""
    return [
        (target.name, " ".join(_where(report, target)) or "no part tells")
        for target in targets(report)
        if target.reached is False
    ]


def _measured(report: Report, key: str, part: str, goal: Record) -> Target:
    digits = _digits(goal)
    where = f" ({goal['where']})" if "where" in goal else ""
    text = spread_text(goal, digits) + _unit(goal) + where
    doubted = _doubts_of(report.parts[part], goal)
    return Target(key, goal["name"], text, _bound(goal), goal["reached"], doubted, part, goal)


def _doubts_of(part: Part, goal: Record) -> str:
    """Of what a ratio was formed of, where the goal tells; else of the whole part: `scale` judges no memory."""
    told = "unstable" in goal and part["benchmark"] != "scale"
    return doubts({**part["validity"], "unstable": goal["unstable"]} if told else part["validity"])


def _bound(goal: Record) -> str:
    words = "at least" if "at_least" in goal else "at most"
    return f"{words} {_limit(goal):g}{_unit(goal)}"


def _limit(goal: Record) -> float:
    return float(goal["at_least"] if "at_least" in goal else goal["at_most"])


def _unit(goal: Record) -> str:
    return f" {goal['unit']}" if goal["unit"] else ""


def _digits(goal: Record) -> int:
    """So many that what is shown is on the same side of the target as what was measured."""
    for digits in range(goal["digits"], goal["digits"] + 9):
        told = round(goal["median"], digits)
        if (told >= _limit(goal) if "at_least" in goal else told <= _limit(goal)) is goal["reached"]:
            return digits
    return int(goal["digits"])


def _highest_peak(report: Report) -> Iterator[tuple[str, Record]]:
    """Of all processes of the engine that any part measured: its part and goal; nothing where none did."""
    found = [
        (run["peak_mb"], "scale", f"scale, {run['films']} films")
        for run in report.parts.get("scale", {"runs": ()})["runs"]
    ]
    peers = report.parts.get("peers", {"peers": {}})["peers"]
    found += [(peers[name]["peak_mb"], "peers", f"peers, {name}") for name in (OURS, OURS_OPENVINO) if name in peers]
    if found:
        highest, part, where = max(found)
        goal = Goal(_PEAK, Spread((highest,)), PEAK_TARGET_MB, at_least=False, unit=" MB", digits=0)
        yield part, {**{k: v for k, v in goal.record().items() if k != "unstable"}, "where": where}


def _other_networks(report: Report) -> Iterator[Target]:
    """They have reports of their own, for a report is of one file."""
    own = report.artefact["model"].split()[0]
    for network, folder in REPORTS.items():
        if network != own:
            name, asked = f"{network}: {_BACKENDS}", _bound({"at_least": OPENVINO_TARGET, "unit": ""})
            yield Target(name, name, f"see benchmarks/reports/{folder}", asked, None)


# ---- what is asked


def _named(name: str) -> Callable[[Record, Part], bool]:
    return lambda goal, _: goal["name"] == name


def _over(peer: str, at_least: float) -> Callable[[Record, Part], bool]:
    return lambda goal, _: f" / {peer}" in goal["name"] and goal.get("at_least") == at_least


def _to_the_largest(goal: Record, part: Part) -> bool:
    """A growth that was measured in smaller folders only is another one."""
    sizes = [size["films"] for size in part["sizes"]]
    return goal["name"] == _GROWTH and FROM in sizes and max(sizes) >= _LARGEST


_PEAK, _GROWTH = "highest peak memory", "growth exponent of time, off 1 by"
_FLAT = f"peak memory of {_LARGEST} films / of {FROM}"
_BACKENDS = "fastest of bonefrac / fastest of OpenVINO"
_ASKED = (
    _Asked("pipeline / bound", ("throughput",), {"at_least": BOUND_TARGET, "unit": ""}, _named("pipeline / bound")),
    _Asked(f"{ANNOTATE_ALL} / {BATCH}", ("throughput",), {"at_least": ANNOTATE_ALL_TARGET, "unit": ""},
           _named(f"{ANNOTATE_ALL} / {BATCH}")),
    _Asked(f"fastest of bonefrac / {KERAS_FOLDER}", ("peers",), {"at_least": KERAS_FOLDER_TARGET, "unit": ""},
           _over(KERAS_FOLDER, KERAS_FOLDER_TARGET)),
    _Asked(f"fastest of bonefrac / {KERAS_LOOP}", ("peers",), {"at_least": KERAS_LOOP_TARGET, "unit": ""},
           _over(KERAS_LOOP, KERAS_LOOP_TARGET)),
    _Asked(_BACKENDS, ("peers",), {"at_least": OPENVINO_TARGET, "unit": ""}, _over("OpenVINO", OPENVINO_TARGET)),
    _Asked(f"{OURS} / fastest of OpenVINO", ("peers",), {"at_least": WITHOUT_OPENVINO_TARGET, "unit": ""},
           _over("OpenVINO", WITHOUT_OPENVINO_TARGET)),
    _Asked(_PEAK, ("peers", "scale"), {"at_most": PEAK_TARGET_MB, "unit": "MB"}, _named(_PEAK)),
    _Asked(_FLAT, ("scale",), {"at_most": FLAT_TARGET, "unit": ""}, _named(_FLAT)),
    _Asked(f"{_GROWTH}, {FROM} to {_LARGEST} films", ("scale",), {"at_most": GROWTH_TARGET, "unit": ""},
           _to_the_largest),
    _Asked("cold start / imports alone", ("startup",), {"at_most": STARTUP_TARGET, "unit": ""}, lambda *_: True),
)  # fmt: skip


# ---- where it goes


def _where(report: Report, target: Target) -> Iterator[str]:
    part = report.parts[target.part]
    if target.name == _PEAK:
        yield from _peaks(report)
    elif target.part == "throughput":
        yield from _throughput(part, target.name.split(" / "))
    elif target.part == "startup":
        batch_s, imports_s = part["batch_s"]["median"], part["imports_s"]["median"]
        yield (
            f"Of {batch_s:.3f} s the imports are {imports_s:.3f} s; the other {batch_s - imports_s:.3f} s are the start"
            " of the program, the model's loading and golden sample, the film and what is written."
        )
    elif target.part == "peers":
        yield from (_processor(part, name) for name in target.name.split(" / "))
    elif target.name.startswith(_GROWTH):
        yield from _growth(part)
    else:
        yield from _memory(part)


def _throughput(part: Part, names: Sequence[str]) -> Iterator[str]:
    rates = part["films_a_second"]
    if names[0] == "pipeline":
        workers, alone = part["settings"]["workers"], part["stage_alone_ms_a_film"]
        whole = 1000 * workers / rates["pipeline"]["median"]
        stages = {stage: spent["median"] for stage, spent in part["stage_within_pipeline_ms_a_film"].items()}
        told = ", ".join(
            f"{stage} {ms:.2f}" + (f" (alone {alone[stage]['median']:.2f})" if stage in alone else "")
            for stage, ms in stages.items()
        )
        yield (
            f"A film has a worker ({workers} of them) for {whole:.2f} ms: {told}; the rest,"
            f" {whole - sum(stages.values()):.2f} ms, is its regions, its row and waiting. It had"
            f" {part['cores_had_by_pipeline']['median']:.2f} of {part['machine']['cores']} cores."
        )
    ms = {name: 1000 / rates[name]["median"] for name in names if name in rates}
    if len(ms) > 1:
        yield "Milliseconds a film, all cores together: " + ", ".join(f"{name} {n:.2f}" for name, n in ms.items()) + "."


def _processor(part: Part, name: str) -> str:
    """Milliseconds of processor and of wall clock a film: what is left between them is waiting."""
    peer = part["peers"][name]
    cpu_ms, rate = peer["cpu_ms_a_film"]["median"], peer["films_a_second"]["median"]
    return (
        f"{name}: {cpu_ms:.1f} ms of processor a film, and {rate * cpu_ms / 1000:.2f} of {part['machine']['cores']}"
        " cores kept busy."
    )


def _peaks(report: Report) -> Iterator[str]:
    if "peers" in report.parts:
        peers = report.parts["peers"]["peers"]
        yield "Peers, MB: " + ", ".join(f"{name} {peer['peak_mb']:.0f}" for name, peer in peers.items()) + "."
    for name in ("scale", "scale, blank network"):
        if name in report.parts:
            sizes = report.parts[name]["sizes"]
            told = ", ".join(f"{size['films']} films {size['peak_mb']['max']:.0f}" for size in sizes)
            yield f"{name[0].upper()}{name[1:]}, MB: {told}."


def _memory(part: Part) -> Iterator[str]:
    first, last = part["sizes"][0], part["sizes"][-1]
    told = ", ".join(f"{size['films']} films {size['peak_mb']['median']:.0f} MB" for size in part["sizes"])
    more_kb = 1000 * (last["peak_mb"]["median"] - first["peak_mb"]["median"])
    yield f"{told}: {more_kb / max(1, last['films'] - first['films']):.2f} kB more with each film."


def _growth(part: Part) -> Iterator[str]:
    told = ", ".join(f"{size['films']} films {size['ms_a_film']['median']:.2f}" for size in part["sizes"])
    yield f"The exponent is {shown(part['growth'])}. Milliseconds a film: {told}."
