"""CARD.md: what a bundle is, what was measured, and what is not known of it."""

from __future__ import annotations

from pathlib import Path

import jinja2

from bonefrac.model import Manifest

NOT_KNOWN = "not known"  # how a network was trained
_FEW_FILMS, _FEW_CALIBRATION = 64, 200
_NEVER = "Not a medical device; not for diagnosis. It was never tested in a clinic."
_CPU = "Whether int8 decides the same on processors without VNNI instructions was not checked."
_FLAGSHIP = [
    "Learned from hands, legs, hips and shoulders of one collection. Spine, skull, chest and ribs are"
    " unknown to it, and so is how well it does on films from elsewhere.",
    "The operating points, the calibration of the probability and the region level were chosen on the very fold"
    " that the figures are from; sensitivity, specificity and hit rate are a little too good. AUROC does not depend on"
    " them.",
    "AUROC was watched on this fold during training; no epoch was chosen by it. But how many cells' mean the score is,"
    " how a region is drawn, and that two trainings' weights are averaged was settled with a look at this fold among"
    " others: every figure may be a little too good.",
    "Intervals that are not drawn over groups count films as independent, and are too narrow.",
    "A film with a fracture that is set aside as unlike has no probability, and is in no sensitivity.",
    "The photographs, the noise, the screen and the chest film were looked at while the measure of likeness was"
    " devised; the other pictures were not.",
    "Inverted films (bones dark) are set aside only in part; the others get a meaningless score.",
    "How like the training films a film is was learned from one collection: films of other machines may be set aside,"
    " and pictures of other things may pass, as a flower and whole-body bone scans did.",
    "Neighbouring films of the collection stand for patients, which it does not name: one patient may be in two folds.",
]
_PLACES = {
    "class activation": "The heat map shows what spoke for a fracture, in coarse cells; it is no outline, and may"
    " light up beside a fracture.",
    "box": "There is one box on every film with a finding, and never two, whatever the number of fractures.",
    "none": "It has no heat map: it does not say where.",
}


_GIVES = {
    "trained": " and a heat map of where",
    "class activation": " and a class activation map (Grad-CAM): what spoke for it",
    "box": " and one box where it may be",
    "none": " and no heat map",
}


def limits(place: str, *, measured: bool, ours: bool, cpus_unknown: bool, films: int, calibration: int) -> list[str]:
    """What is not known of a bundle; `place` is how it says where: `trained`, `class activation`, `box` or `none`;
    `ours`: the flagship of bonefrac-train; `cpus_unknown`: it has an int8 file that was not tried under other
    processors; `films` measured, and `calibration` films."""
    if ours and measured:
        found = _FLAGSHIP
    elif measured:
        found = [
            "On which parts of the body, and from which machines, it can be used is not known beyond the films below.",
            "The operating points and the calibration of the probability were chosen on the very films that the figures"
            " are from; sensitivity and specificity are a little too good; AUROC too, if training chose its epoch by"
            " them.",
        ]
    else:
        found = [
            "Nothing was measured: no labelled films were given. That a high probability speaks for a fracture, and the"
            " operating points, are what the person said who exported it; the probability is the network's own."
        ]
    if measured and films < _FEW_FILMS:
        found = [*found, f"It was measured on {films} films only: its figures may be far off on others."]
    if calibration < _FEW_CALIBRATION:
        found = [*found, f"int8 and the heat map's scale were set by {calibration} films only; 200 or more are better."]
    if not ours:
        found = [*found, "It does not tell radiographs from other pictures: whatever it is given gets a probability."]
    return [_NEVER, *found, *([_PLACES[place]] if place in _PLACES else ()), *([_CPU] if cpus_unknown else ())]


def save_card(folder: Path, manifest: Manifest) -> None:
    """Write CARD.md beside the manifest."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bonefrac_export"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    sizes = {name: (folder / entry.file).stat().st_size for name, entry in manifest.precisions.items()}
    text = environment.get_template("CARD.md").render(
        manifest=manifest, sizes=sizes, place=manifest.made_with["heat map"], places=_GIVES,
        measured="AUROC" in manifest.figures, known=manifest.made_with["training"] != NOT_KNOWN,
    )  # fmt: skip
    (folder / "CARD.md").write_text(text, encoding="utf-8")
