"""Is this data set honest? Read it, look at every file, and say what would make figures measured on it untrue."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bonefrac import __version__
from bonefrac.errors import OutputError
from bonefrac.sinks import atomic, printable
from bonefrac_benchmarks.statistics import Interval
from bonefrac_training.audit_page import write_page
from bonefrac_training.catalogue import Collection
from bonefrac_training.facts import Facts, gather
from bonefrac_training.features import FeaturePage, feature_page
from bonefrac_training.findings import Case, Finding, find_all, fits, most_serious_first
from bonefrac_training.folds import make_folds, make_groups
from bonefrac_training.layouts import read_collection
from bonefrac_training.rotations import find_pairs
from bonefrac_training.shortcuts import levels, numbers, predictability

INPUT_SIDES = (224, 320, 448, 640)  # px that networks are usually given


@dataclass(frozen=True)
class AuditSettings:
    """What an audit is asked for. `features`: films of each class whose hand-made features are measured; 0 for none."""

    data: Path
    out: Path
    positive_class: tuple[str, ...] = ()
    folds: int = 5
    seed: int = 1
    features: int = 40


@dataclass(frozen=True)
class Audit:
    """What came out. `fold` of a film by its place, for those that split.csv holds; `left_out`: why the others are not
    in it."""

    case: Case
    findings: list[Finding]
    fold: dict[int, int]
    left_out: dict[int, str]
    numbers: list[tuple[str, Interval]]
    features: FeaturePage | None

    @property
    def honest(self) -> bool:
        """Whether nothing serious was found."""
        return all(finding.severity != "serious" for finding in self.findings)


def audit(settings: AuditSettings) -> Audit:
    """Audit a folder and write audit.json, audit.html, split.csv and boxes.csv into `out`.

    Raises UsageError where the folder cannot be understood, OutputError where `out` cannot be written or lies in it.
    """
    data, out = Path(os.path.realpath(settings.data)), Path(os.path.realpath(settings.out))
    if out.is_relative_to(data):
        raise OutputError(f"{settings.out}: lies inside the data; name a folder beside it with --out")
    started = time.monotonic()
    collection = read_collection(settings.data, out=settings.out, positive_class=settings.positive_class)
    facts = gather(collection.films)
    result = judge(collection, facts, settings)
    summary = summarise(result, settings, seconds=time.monotonic() - started)
    try:
        with atomic(settings.out / "audit.json") as file:
            file.write(json.dumps(summary, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        with atomic(settings.out / "split.csv") as file:
            file.write(split_table(result).encode("utf-8", "surrogateescape"))
        with atomic(settings.out / "boxes.csv") as file:
            file.write(box_table(result).encode("utf-8", "surrogateescape"))
        write_page(settings.out / "audit.html", result.case, result.findings, summary)
    except OSError as error:
        raise OutputError(f"{settings.out}: cannot be written: {error.strerror}; name another with --out") from error
    return result


def judge(collection: Collection, facts: Sequence[Facts], settings: AuditSettings) -> Audit:
    """All that is found, and the proposed folds."""
    pairs = find_pairs(facts)
    films = [fact.film for fact in facts]
    groups = make_groups(
        [film.name for film in films], [film.group for film in films], [(pair.first, pair.second) for pair in pairs]
    )
    known = [place for place, film in enumerate(films) if film.label != "unknown"]
    used = [place for place in known if films[place].use]
    inside = [facts[place] for place in used]
    their_groups = [groups[place] for place in used]
    shortcut = predictability(inside, their_groups, seed=settings.seed)
    level = levels([facts[place] for place in known], [groups[place] for place in known])
    case = Case(collection, facts, pairs, groups, shortcut, level)
    findings = find_all(case)
    left_out = leave_out(case)
    kept = [place for place in range(len(facts)) if place not in left_out]
    fold, complaint = propose_folds(case, kept, settings)
    if complaint:
        findings = most_serious_first([*findings, complaint])
    page = feature_page(facts, groups, each=settings.features, seed=settings.seed) if settings.features else None
    return Audit(case, findings, fold, left_out, numbers(inside, their_groups), page)


def leave_out(case: Case) -> dict[int, str]:
    """The films that nobody should train or measure on, by their place, and why."""
    reasons: dict[int, str] = {}
    for places in case.sets.values():
        if case.contradicts(places):
            reasons |= dict.fromkeys(places, "a copy bears the other label")
    for place, fact in enumerate(case.facts):
        if fact.film.label == "unknown":
            reasons[place] = "no label"
        elif not fact.readable:
            reasons[place] = "unreadable"
        elif not fact.film.use:
            reasons[place] = "the owner's table says so"
    for places in case.exact.values():
        kept = [place for place in places if place not in reasons]
        reasons |= dict.fromkeys(kept[1:], "identical to another file")
    return reasons


def propose_folds(case: Case, kept: Sequence[int], settings: AuditSettings) -> tuple[dict[int, int], Finding | None]:
    """A fold for each film that is kept; none, and a finding, where there are fewer groups of a class than folds."""
    groups = [case.groups[place] for place in kept]
    for label in ("fractured", "normal"):
        there = len({group for group, place in zip(groups, kept, strict=True) if case.label(place) == label})
        if there < settings.folds:
            groups_there = f"{there} group{'' if there == 1 else 's'} of {label} films"
            return {}, Finding(
                "folds", "serious", f"{settings.folds} folds cannot be made of {groups_there}: split.csv is empty",
                "Each fold needs films of both classes, and a group stays whole.",
                f"Ask for {there} with --folds, or bring more films." if there > 1 else "Bring more films.",
            )  # fmt: skip
    films = [case.facts[place].film for place in kept]
    strata = [(film.label, f"{film.label} {film.region}") for film in films]
    return dict(zip(kept, make_folds(groups, strata, folds=settings.folds, seed=settings.seed), strict=True)), None


def split_table(result: Audit) -> str:
    """split.csv: image (a path from the data), label, group, fold; films that are left out are not in it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "group", "fold"])
    for place, fold in result.fold.items():
        writer.writerow([result.case.facts[place].film.name, result.case.label(place), result.case.groups[place], fold])
    return text.getvalue()


def box_table(result: Audit) -> str:
    """boxes.csv for split.csv, with its names of images: x_min, y_min, x_max, y_max of each fracture, in pixels of the
    file, cut off at its edge. Boxes that do not fit their film were told, and are left out."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "x_min", "y_min", "x_max", "y_max"])
    for fact in (result.case.facts[place] for place in result.fold if result.case.label(place) == "fractured"):
        limits = (fact.width, fact.height) * 2
        for box in (box for box in fact.boxes if fits(fact, *box)):
            edges = [round(min(max(0.0, edge), limit), 1) for edge, limit in zip(box, limits, strict=True)]
            writer.writerow([fact.film.name, *edges])
    return text.getvalue()


def summarise(result: Audit, settings: AuditSettings, *, seconds: float) -> dict[str, object]:
    """What audit.json holds: plain values, names with `/`, no pixel."""
    case, facts = result.case, result.case.facts
    names = [printable(fact.film.name) for fact in facts]
    labels = Counter(fact.film.label for fact in facts)
    used = Counter(fact.film.label for fact in facts if fact.film.use)
    known = used["fractured"] + used["normal"]
    return {
        "bonefrac": __version__,
        "honest": result.honest,
        "settings": {"positive_class": settings.positive_class, "folds": settings.folds, "seed": settings.seed},
        "layout": case.collection.layout,
        "classes": case.collection.classes,
        "notes": case.collection.notes,
        "counts": {
            "files": len(facts), "readable": sum(fact.readable for fact in facts),
            **{str(label): count for label, count in labels.items()},
            "in_use": sum(fact.film.use for fact in facts), "groups": len(set(case.groups)),
            "in_split": len(result.fold), "left_out": len(result.left_out),
        },
        "majority_accuracy": round(max(used.values(), default=0) / known, 4) if known else None,
        "splits": _table((f.film.split or "none", f.film.label) for f in facts),
        "regions": _table((f.film.region or "not said", f.film.label) for f in facts),
        "sizes": _sizes(facts),
        "box_sides": _box_sides(facts),
        "shortcut": {
            "auroc": asdict(case.shortcut) if case.shortcut else None,
            "levels": [asdict(level) for level in case.levels],
            "numbers": {name: asdict(interval) for name, interval in result.numbers},
        },
        "findings": [_plain(finding, names) for finding in result.findings],
        "pairs": [{**asdict(p), "first": names[p.first], "second": names[p.second]} for p in case.pairs],
        "folds": _table((f"fold {fold}", case.label(place)) for place, fold in result.fold.items()),
        "left_out_for": dict(Counter(result.left_out.values()).most_common()),
        "left_out": {names[place]: why for place, why in sorted(result.left_out.items())},
        "features": asdict(result.features) if result.features else None,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def _plain(finding: Finding, names: Sequence[str]) -> dict[str, object]:
    items = [{"files": [names[place] for place in item.places], "text": item.text} for item in finding.items]
    return {**asdict(finding), "items": items}


def _table(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """How often each (row, column) occurs."""
    table: dict[str, dict[str, int]] = {}
    for (row, column), count in sorted(Counter(pairs).items()):
        table.setdefault(row, {})[column] = count
    return table


def _sizes(facts: Sequence[Facts]) -> dict[str, list[int]]:
    """Smallest, median and largest width, height and bytes of the readable films."""
    readable = [fact for fact in facts if fact.readable]
    if not readable:
        return {}
    columns = {"width, px": [f.width for f in readable], "height, px": [f.height for f in readable],
               "bytes": [f.size for f in readable]}  # fmt: skip
    return {name: [int(v) for v in np.percentile(values, (0, 50, 100))] for name, values in columns.items()}


def _box_sides(facts: Sequence[Facts]) -> dict[str, list[float]]:
    """The shorter side of the boxes, px, when the film's long side is that of a usual input: 5, 50 and 95 %."""
    shares = [
        min(x1 - x0, y1 - y0) / max(fact.width, fact.height)
        for fact in facts if fact.readable for x0, y0, x1, y1 in fact.boxes
    ]  # fmt: skip
    if not shares:
        return {}
    return {str(side): [round(float(v) * side, 1) for v in np.percentile(shares, (5, 50, 95))] for side in INPUT_SIDES}
