"""The figures of `bonefrac-bench accuracy` as sentences and tables: terminal, Markdown and page are made of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bonefrac.sinks import printable
from bonefrac_benchmarks.accuracy import FEWEST, SPECIFICITY
from bonefrac_benchmarks.figures import table
from bonefrac_benchmarks.localisation import ENOUGH_IOU
from bonefrac_benchmarks.wording import NOTHING, shown

POINTS = ("sensitive", "specific")
_RATES = (0.05, 0.1, 0.2)  # false regions a film at which the free-response curve is read
_FEW = f"{NOTHING}: fewer than {FEWEST} films with, or for specificity without, a fracture; AUROC needs both."
_OVER_GROUPS = "Intervals of 95 %, by bootstrap over groups."
_WILSON = "Intervals of 95 %, Wilson's: they take films for independent."


@dataclass(frozen=True)
class Table:
    """A heading, the columns' names, rows as wide, what has to be known to read them, and of which file they are, where
    a page is of several."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    of: str = ""


def about(figures: dict[str, Any]) -> list[str]:
    """What every output begins with: the very file, the films, who got no finding, and the warning if there is one."""
    artefact, split, without = figures["artefact"], figures["split"], figures["without_finding"]
    lines = [
        f"{artefact['model']}, {artefact['file']}, SHA-256 {artefact['sha256']}",
        f"{split['name']}: {figures['films']} films, {figures['fractured']} with a fracture,"
        f" in {figures['groups']} groups{'' if split['warning'] else '; none of them was trained on'}",
    ]
    if without:
        fractured = sum(film["fractured"] for film in without)
        lines.append(
            f"Without a finding, and in no figure: {len(without)} of {split['films']} films, {fractured} with a"
            f" fracture ({', '.join(printable(film['film']) for film in without)})"
        )
    return [*lines, f"WARNING: {split['warning']}"] if split["warning"] else lines


def caption(figures: dict[str, Any]) -> str:
    """Which file and which films a figure is of."""
    artefact, split = figures["artefact"], figures["split"]
    seen = "; WARNING, see above" if split["warning"] else ""
    return f"{artefact['file']}, SHA-256 {artefact['sha256'][:16]}…, {split['name']}{seen}"


def summary(figures: dict[str, Any]) -> list[str]:
    """What a tired person has to know, for the terminal."""
    points, ranking, places = figures["points"], figures["ranking"], figures["localisation"]
    heads = tuple(f"{name}, from {points[name]['threshold']:.4f}" for name in POINTS)
    rows = [
        ("at the operating point", *heads),
        ("fractured films called", *(shown(points[name]["sensitivity"]) for name in POINTS)),
        ("others left alone", *(shown(points[name]["specificity"]) for name in POINTS)),
        *(
            (
                f"{which} that are right, {_percent(row['prevalence'])} fractured",
                *(shown(row[name][kind]) for name in POINTS),
            )
            for row in figures["prevalence"]
            for which, kind in (("calls (PPV)", "ppv"), ("others (NPV)", "npv"))
        ),
    ]
    return [
        f"AUROC {shown(ranking['auroc'])}, bootstrap over groups; DeLong {shown(ranking['auroc_delong'])}",
        f"Best region's centre in a true box: {shown(places['best_region_centre_in_box'])}",
        "",
        *table(rows),
        "",
        *table([("", "films", "fractured", "AUROC"), *(_some(row)[:4] for row in _subgroups(figures))]),
        *_between(figures),
    ]


def tables(figures: dict[str, Any]) -> list[Table]:
    """Every figure, in the order of the report. The films by name, and the free-response curve, may be left out."""
    return [
        _ranking(figures),
        _points(figures),
        _prevalence(figures),
        _calibration(figures),
        *(
            Table(title, ("", "films", "fractured", "AUROC", "sensitivity", "specificity"), [*map(_some, rows)],
                  f"At the specific point. {note}{_FEW} AUROC by bootstrap over groups, the others Wilson's.")
            for title, rows, note in (
                ("By body region", figures["body_regions"], "A film that shows two regions counts in both. "),
                ("With and without hardware", figures["hardware"], ""),
            )
            if rows
        ),
        _localisation(figures),
        *_flips(figures),
        *_without_finding(figures),
    ]  # fmt: skip


def _ranking(figures: dict[str, Any]) -> Table:
    found = figures["ranking"]
    delong, at = found["auroc_delong"], f"{SPECIFICITY:.2f}"
    rows = [
        ("AUROC", shown(found["auroc"])),
        ("AUROC, DeLong's interval", shown(delong)),
        ("AUPRC (average precision)", shown(found["auprc"])),
        (f"sensitivity at a specificity of {at}", shown(found[f"sensitivity_at_specificity_{at}"])),
    ]
    apart = " The classes do not overlap: DeLong's interval has no width and means nothing." * (
        delong["low"] == delong["high"]
    )
    return Table("Ranking", ("", "value"), rows, f"{_OVER_GROUPS} DeLong's takes films for independent.{apart}")


def _points(figures: dict[str, Any]) -> Table:
    points = [figures["points"][name] for name in POINTS]

    def row(name: str, key: str) -> tuple[str, ...]:
        return (name, *(shown(point[key]) for point in points))

    def counts(name: str, key: str) -> tuple[str, ...]:
        return (name, *(str(point["confusion"][key]) for point in points))

    rows = [
        counts("fractured, called", "true_positive"),
        counts("fractured, missed", "false_negative"),
        counts("not fractured, called", "false_positive"),
        counts("not fractured, left alone", "true_negative"),
        row("sensitivity (recall)", "sensitivity"),
        row("specificity", "specificity"),
        row("precision (PPV among these films)", "precision"),
        row("accuracy", "accuracy"),
        row("F1", "f1"),
    ]
    header = ("", *(f"{n} point, from {p['threshold']:.4f}" for n, p in zip(POINTS, points, strict=True)))
    chosen = " ".join((f"Points chosen on {figures['artefact']['points_chosen_on']}.", *chosen_on_these(figures)))
    return Table("At the operating points", header, rows, f"{chosen} {_WILSON} F1's is a bootstrap over groups.")


def chosen_on_these(figures: dict[str, Any]) -> Iterator[str]:
    """Export chooses points, calibration and region level on the same films."""
    if figures["artefact"]["points_chosen_on"].startswith(f"{figures['split']['name']}:"):
        yield (
            "The points, the calibration and the region level were chosen on these very films: sensitivity,"
            " specificity, ECE and hit rates are a little too good; AUROC does not depend on them."
        )


def _prevalence(figures: dict[str, Any]) -> Table:
    header = ("share with a fracture", *(f"{kind}, {name} point" for name in POINTS for kind in ("PPV", "NPV")))
    rows = [
        (_percent(row["prevalence"]), *(shown(row[name][kind]) for name in POINTS for kind in ("ppv", "npv")))
        for row in figures["prevalence"]
    ]
    note = " ".join(("By Bayes' rule.", _OVER_GROUPS, *chosen_on_these(figures)))
    return Table("Where fewer or more films have a fracture", header, rows, note)


def _calibration(figures: dict[str, Any]) -> Table:
    found = figures["calibration"]
    rows = [
        (f"ECE, {found['bins']} bins of equal width", f"{found['ece']:.4f}"),
        ("Brier score", f"{found['brier']:.4f}"),
    ]
    return Table("Calibration", ("", "value"), rows, " ".join(chosen_on_these(figures)))


def _localisation(figures: dict[str, Any]) -> Table:
    found = figures["localisation"]
    rows = [
        ("best region's centre in a true box", shown(found["best_region_centre_in_box"])),
        ("map's highest cell in a true box", shown(found["map_peak_in_box"])),
        (f"best region's IoU with a true box from {ENOUGH_IOU}", shown(found[f"best_region_iou_from_{ENOUGH_IOU}"])),
        ("share of the heat inside the boxes", shown(found["heat_in_boxes"])),
        ("regions shown on a film without fracture", shown(found["regions_on_a_film_without_fracture"], 2)),
        *_read_froc(found.get("froc")),
    ]
    note = (
        f"Of the {found['films_with_boxes']} films with a fracture and a box. Shares of films with Wilson's interval,"
        " heat and regions by bootstrap over groups. A box is found where a region's centre lies in it; all regions"
        f" from the heat map's level {figures['artefact']['region_level']:.2f} on, whatever their film's probability."
    )
    note = " ".join((note, *chosen_on_these(figures)))
    return Table("Does it look where the fracture is?", ("", "value"), rows, note)


def _read_froc(froc: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """The highest sensitivity at no more than each rate; nothing for rates that the curve does not reach."""
    if froc is None:
        return
    points = list(zip(froc["false_a_film"], froc["sensitivity"], strict=True))
    for rate in _RATES:
        found = max((sensitivity for false, sensitivity in points if false <= rate), default=0.0)
        if points and rate <= points[-1][0]:
            yield f"boxes found at {rate:g} false regions a film", _boxes(found, froc["lesions"])
    if points:
        yield f"boxes found by all regions, {points[-1][0]:.2f} false a film", _boxes(points[-1][1], froc["lesions"])


def _boxes(sensitivity: float, lesions: int) -> str:
    return f"{sensitivity:.3f}, {round(sensitivity * lesions)} of {lesions}"


def _flips(figures: dict[str, Any]) -> Iterator[Table]:
    found = figures["between_precisions"]
    if found is None:
        return
    one, other = found["precisions"]
    rows = [
        (f"{name} point", str(point["flips"]), str(point["right"][one]), str(point["right"][other]),
         _p(point["mcnemar_p"]))
        for name, point in found["points"].items()
    ]  # fmt: skip
    note = (
        f"AUROC of {one} less that of {other}: {found['auroc_difference']:+.4f}, DeLong's p {_p(found['delong_p'])}."
        f" {other}: SHA-256 {found['other_sha256'][:16]}. Both p take films for independent."
        f" The points were chosen with {figures['artefact']['points_chosen_with']}, which favours it."
    )
    yield Table(
        f"May int8 be used? {one} against {other}",
        ("", "decisions that differ", f"{one} right", f"{other} right", "McNemar's p"),
        rows,
        note,
    )
    if maps := found["heatmaps"]:
        agree = [(f"{maps['correlation']:.4f}", shown(maps["peak_within_a_cell"]))]
        title = f"Heat maps of {maps['films']} films with a fracture, {one} against {other}"
        yield Table(title, ("mean correlation", "peaks in one cell or neighbours"), agree)
    films = [
        (printable(film["film"]), "yes" if film["fractured"] else "no", name, f"{film[one]:.4f}", f"{film[other]:.4f}")
        for name, point in found["points"].items()
        for film in point.get("films", ())
    ]
    if films:
        yield Table("Films whose decision differs", ("film", "fractured", "at the point", one, other), films)


def _without_finding(figures: dict[str, Any]) -> Iterator[Table]:
    rows = [
        (printable(film["film"]), "yes" if film["fractured"] else "no", film["reason"])
        for film in figures.get("without_finding", ())
    ]
    if rows:
        yield Table("Films without a finding", ("film", "fractured", "why"), rows, "They are in no figure above.")


def _between(figures: dict[str, Any]) -> list[str]:
    found = figures["between_precisions"]
    if found is None:
        return []
    one, other = found["precisions"]
    flips = " and ".join(f"{point['flips']} at the {name} point" for name, point in found["points"].items())
    return ["", f"{one} against {other}: AUROC {found['auroc_difference']:+.4f} (p {_p(found['delong_p'])}); of"
                f" {found['films']} decisions {flips} differ"]  # fmt: skip


def _subgroups(figures: dict[str, Any]) -> list[dict[str, Any]]:
    return [*figures["body_regions"], *figures["hardware"]]


def _some(row: dict[str, Any]) -> tuple[str, ...]:
    return (row["of"], str(row["films"]), str(row["fractured"]),
            *(shown(row[key]) for key in ("auroc", "sensitivity", "specificity")))  # fmt: skip


def _percent(share: float) -> str:
    """With all its digits: one film in 2,500 is 0.04%."""
    return f"{(100 * Decimal(str(share))).normalize():f}%"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
