"""What is wrong with a collection, said in plain sentences: leaks, contradictions, damage, shortcuts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from bonefrac.sinks import printable
from bonefrac_benchmarks.statistics import Interval
from bonefrac_training.catalogue import Collection
from bonefrac_training.duplicates import Pair, unite
from bonefrac_training.facts import Facts
from bonefrac_training.shortcuts import Level

Severity = Literal["serious", "notable"]
_STRONG, _WEAK = 0.65, 0.55  # lower end of the AUROC without pixels from which it is serious, or worth a word
_FEWEST_SHARE = 0.05
_MOST_TOLD = 6  # copies of one film whose likeness is told


@dataclass(frozen=True)
class Item:
    """Films that belong together in a finding, by their place in the list, and what is said of them."""

    places: tuple[int, ...]
    text: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that was found. `serious`: figures measured on this data cannot be trusted while it stands; it counts
    films in use alone, so that what the owner's table sorts out already is `notable` at most."""

    kind: str
    severity: Severity
    title: str
    meaning: str
    advice: str
    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Case:
    """All that is known of a collection when it is judged. `facts` and `groups` have a row a film; `groups`: what must
    stay together."""

    collection: Collection
    facts: Sequence[Facts]
    pairs: Sequence[Pair]
    groups: Sequence[str]
    shortcut: Interval | None
    levels: Sequence[Level]

    @cached_property
    def sets(self) -> dict[int, list[int]]:
        """Films that are one, by the first of them."""
        return _together(unite(len(self.facts), ((pair.first, pair.second) for pair in self.pairs)))

    @cached_property
    def _pairs(self) -> dict[int, list[Pair]]:
        """The pairs of each film's set."""
        found: dict[int, list[Pair]] = {}
        for places in self.sets.values():
            shared: list[Pair] = []
            found |= dict.fromkeys(places, shared)
        for pair in self.pairs:
            found[pair.first].append(pair)
        return found

    def pairs_among(self, places: Sequence[int]) -> list[Pair]:
        """The pairs between these films, which are one."""
        inside = set(places)
        return [pair for pair in self._pairs[places[0]] if pair.first in inside and pair.second in inside]

    @cached_property
    def exact(self) -> dict[int, list[int]]:
        """Films with the same bytes or pixels, by the first of them."""
        pairs = ((pair.first, pair.second) for pair in self.pairs if pair.kind != "copy")
        return _together(unite(len(self.facts), pairs))

    def label(self, place: int) -> str:
        return self.facts[place].film.label

    def used(self, places: Iterable[int]) -> list[int]:
        return [place for place in places if self.facts[place].film.use]

    def contradicts(self, places: Iterable[int]) -> bool:
        """Whether both labels stand among these films."""
        return {"fractured", "normal"} <= {self.label(place) for place in places}


def find_all(case: Case) -> list[Finding]:
    """Everything that was found, the most important first."""
    judges: tuple[Callable[[Case], Iterable[Finding]], ...] = (
        split_leaks, group_leaks, conflicts, one_class, unreadable, label_problems, shortcuts, box_problems, copies,
        polarity_guesses, unlabelled, imbalance, no_groups,
    )  # fmt: skip
    return most_serious_first([finding for judge in judges for finding in judge(case)])


def most_serious_first(found: Sequence[Finding]) -> list[Finding]:
    """The serious ones first, otherwise as they are."""
    return sorted(found, key=lambda finding: finding.severity != "serious")


def _together(roots: Sequence[int]) -> dict[int, list[int]]:
    sets: dict[int, list[int]] = defaultdict(list)
    for place, root in enumerate(roots):
        sets[root].append(place)
    return {root: places for root, places in sets.items() if len(places) > 1}


def _severity(serious: bool) -> Severity:
    return "serious" if serious else "notable"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _splits(case: Case, places: Iterable[int]) -> set[str]:
    return {case.facts[place].film.split for place in places} - {""}


def split_leaks(case: Case) -> Iterable[Finding]:
    """One film in two splits."""
    leaking = {first: places for first, places in case.sets.items() if len(_splits(case, places)) > 1}
    if leaking:
        films = sum(map(len, leaking.values()))
        serious = any(len(_splits(case, case.used(places))) > 1 for places in leaking.values())
        yield Finding(
            "split leak", _severity(serious),
            f"{_count(len(leaking), 'film')} in more than one split ({films} files)",
            "A network that saw a film in training knows it again in the test, so the test's figure is too good.",
            "Split again by group (split.csv is such a split) and measure again; do not compare with old figures.",
            tuple(Item(tuple(places), how_alike(case, places)) for places in leaking.values()),
        )  # fmt: skip


def group_leaks(case: Case) -> Iterable[Finding]:
    """One declared group in two splits."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, fact in enumerate(case.facts):
        if fact.film.group and fact.film.use:
            members[fact.film.group].append(place)
    leaking = {group: places for group, places in members.items() if len(_splits(case, places)) > 1}
    if leaking:
        yield Finding(
            "group leak", "serious", f"{_count(len(leaking), 'group')} of films in more than one split",
            "Films of one patient look alike, so a network is tested on patients that it knows.",
            "Split by group: split.csv keeps each in one fold.",
            tuple(Item(tuple(places), f"group {group}") for group, places in leaking.items()),
        )  # fmt: skip


def conflicts(case: Case) -> Iterable[Finding]:
    """One film with both labels."""
    exact = {first: places for first, places in case.exact.items() if case.contradicts(places)}
    known = {place for places in exact.values() for place in places}
    near = [p for p in case.sets.values() if case.contradicts(p) and not known & set(p)]
    for kind, sets, what in (
        ("label conflict", list(exact.values()), "identical pixels"),
        ("label conflict of copies", near, "copies of one film"),
    ):
        if sets:
            yield Finding(
                kind, _severity(any(case.contradicts(case.used(places)) for places in sets)),
                f"{_count(len(sets), 'film')} labelled both fractured and normal ({what})",
                "Both labels cannot be true, and no network can learn them.",
                "Ask somebody who can read the film, or leave all its files out, as split.csv does.",
                tuple(Item(tuple(places), how_alike(case, places)) for places in sets),
            )  # fmt: skip


def one_class(case: Case) -> Iterable[Finding]:
    """No film of one of the classes."""
    there = {fact.film.label for fact in case.facts if fact.film.use}
    for label in ("fractured", "normal"):
        if label not in there:
            yield Finding(
                "one class", "serious", f"No film is {label}", "Nothing can be told apart, nor measured.",
                "See below how the classes' names were read; name the fractures with --positive-class.",
            )  # fmt: skip


def unreadable(case: Case) -> Iterable[Finding]:
    """Files that the engine cannot read."""
    places = [place for place, fact in enumerate(case.facts) if not fact.readable]
    if places:
        reasons: dict[str, list[int]] = defaultdict(list)
        for place in places:
            reasons[case.facts[place].problem].append(place)
        labels = Counter(case.label(place) for place in places)
        share = ", ".join(f"{count} {label}" for label, count in labels.most_common())
        yield Finding(
            "unreadable", _severity(bool(case.used(places))), f"{_count(len(places), 'file')} cannot be read",
            f"The engine refuses these files ({share}); a decoder that fills the missing part with grey gives the "
            "network a sign that stands for the class, not for a fracture.",
            "Copy them again from where they came, or leave them out, as split.csv does.",
            tuple(Item(tuple(those), f"{_count(len(those), 'file')}: {reason}") for reason, those in reasons.items()),
        )  # fmt: skip


def label_problems(case: Case) -> Iterable[Finding]:
    """Labels that cannot be read, or that speak of no film."""
    if problems := case.collection.problems:
        yield Finding(
            "labels", "serious", f"{_count(len(problems), 'label')} that cannot be used",
            "What is listed is not what lies there, so nobody knows what a figure was measured on.",
            "Mend the label files, or bring the films.",
            tuple(Item((), f"{name}: {text}") for name, text in problems),
        )  # fmt: skip


def shortcuts(case: Case) -> Iterable[Finding]:
    """File facts that tell the class."""
    telling = [level for level in case.levels if level.telling]
    auroc = case.shortcut
    if (auroc and auroc.low > _WEAK) or telling:
        strong = bool(auroc and auroc.low > _STRONG)
        known = "too few films for an AUROC"
        if auroc:
            known = f"AUROC {auroc.value:.2f} (95 % interval {auroc.low:.2f} to {auroc.high:.2f})"
        yield Finding(
            "shortcut", _severity(strong), f"The class shows without looking at the film: {known}",
            "File type, size, shape or damage, alone or together, tell some of the labels; a network may learn them "
            "instead of bone.",
            "Bring all films to one format and size before training; quote this AUROC beside the network's; best, "
            "collect both classes from the same place.",
            tuple(
                Item((), f"{one.fact} {one.level}: {one.fractured} of {one.films} fractured ({one.share:.0%})")
                for one in telling
            ),
        )  # fmt: skip


def box_problems(case: Case) -> Iterable[Finding]:
    """Boxes outside of their film, empty ones, and boxes on films that are called normal."""
    wrong = [
        Item((place,), _box_text(fact))
        for place, fact in enumerate(case.facts)
        if fact.readable and any(not fits(fact, *box) for box in fact.boxes)
    ]
    if wrong:
        yield Finding(
            "boxes", "notable", f"{_count(len(wrong), 'film')} with a box outside of the film, or without area",
            "A network learns to look where nothing is.", "Correct the boxes; the usual causes are a resized film, "
            "and x, y of the centre taken for those of a corner.", tuple(wrong),
        )  # fmt: skip
    normal = [Item((place,)) for place, fact in enumerate(case.facts) if fact.boxes and fact.film.label == "normal"]
    if normal:
        yield Finding(
            "boxes on normal films", _severity(bool(case.used(i.places[0] for i in normal))),
            f"{_count(len(normal), 'film')} called normal, with a box of a fracture",
            "Label and box contradict each other.", "Ask somebody who can read the film.", tuple(normal),
        )  # fmt: skip


def fits(fact: Facts, x0: float, y0: float, x1: float, y1: float) -> bool:
    """Whether a box in pixels has an area and lies on the film, give or take 1 % of its longer side."""
    slack = 0.01 * max(fact.width, fact.height)
    return -slack <= x0 < x1 <= fact.width + slack and -slack <= y0 < y1 <= fact.height + slack


def _box_text(fact: Facts) -> str:
    boxes = "; ".join(", ".join(f"{edge:.0f}" for edge in box) for box in fact.boxes if not fits(fact, *box))
    return f"{boxes} on {fact.width} x {fact.height} px"


def copies(case: Case) -> Iterable[Finding]:
    """One film several times, in one split or in none."""
    inside = [places for places in case.sets.values() if len(_splits(case, places)) < 2]
    if inside:
        more, used = (sum(max(0, len(f(places)) - 1) for places in inside) for f in (list[int], case.used))
        inside.sort(key=lambda places: len(case.used(places)) < 2)
        turned = sum(pair.turn != "as it is" for pair in case.pairs)
        yield Finding(
            "copies", "notable",
            f"{_count(len(inside), 'film')} more than once ({_count(more, 'file')} too many, {used} in use)",
            "The set is smaller than it looks, and a random split would put one film on both sides "
            f"({turned} of the copies are mirrored or turned).",
            "Split by group, as split.csv does; of identical files it keeps one.",
            tuple(Item(tuple(places), how_alike(case, places)) for places in inside),
        )  # fmt: skip


def polarity_guesses(case: Case) -> Iterable[Finding]:
    """Films on which bone seems dark."""
    places = [place for place, fact in enumerate(case.facts) if fact.inverted]
    if places:
        yield Finding(
            "polarity", "notable", f"{_count(len(places), 'film')} on which bone seems dark",
            "A network that learned bright bone is wrong on these; this is a guess from brightness, so look.",
            "Invert those that are really negatives, or leave them out.", tuple(Item((place,)) for place in places),
        )  # fmt: skip


def unlabelled(case: Case) -> Iterable[Finding]:
    """Films that no label speaks of."""
    places = [place for place, fact in enumerate(case.facts) if fact.film.label == "unknown"]
    if places:
        yield Finding(
            "unlabelled", "notable", f"{_count(len(places), 'film')} without a label",
            "They can neither be learned from nor measured on.", "Label them, or take them out of the folder.",
            tuple(Item((place,)) for place in places),
        )  # fmt: skip


def imbalance(case: Case) -> Iterable[Finding]:
    """A class so rare that accuracy says nothing."""
    counts = Counter(fact.film.label for fact in case.facts if fact.film.use)
    known = counts["fractured"] + counts["normal"]
    fewer = min(counts["fractured"], counts["normal"])
    if fewer and fewer / known < _FEWEST_SHARE:
        yield Finding(
            "balance", "notable", f"One class is {fewer / known:.1%} of the films",
            f"Whoever always says the other is right {1 - fewer / known:.1%} of the time.",
            "Draw both classes equally often in training; report AUROC, sensitivity and specificity, not accuracy.",
        )  # fmt: skip


def no_groups(case: Case) -> Iterable[Finding]:
    """Nobody says which films are of one patient."""
    if not any(fact.film.group for fact in case.facts):
        yield Finding(
            "no patients", "notable", "Nothing says which films are of one patient",
            "Copies were found by their pixels, but two films of one patient are not copies and may lie in two folds.",
            "Add a table labels.csv with a column patient, if anybody knows.",
        )  # fmt: skip


def how_alike(case: Case, places: Sequence[int]) -> str:
    """How the files of one film are the same, in words: as few pairs as connect them all, the most alike."""
    told: list[str] = []
    connected = {place: place for place in places}
    for pair in sorted(case.pairs_among(places), key=lambda pair: -pair.likeness):
        first, second = connected[pair.first], connected[pair.second]
        if first != second:
            connected = {place: first if root == second else root for place, root in connected.items()}
            told.append(_relation(pair, *(printable(case.facts[n].film.name) for n in (pair.first, pair.second))))
        if len(told) == _MOST_TOLD:
            break
    more = len(places) - 1 - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def _relation(pair: Pair, first: str, second: str) -> str:
    if pair.kind != "copy":
        return f"{second} has the same {pair.kind} as {first}"
    turned = f"a copy of {first}" if pair.turn == "as it is" else f"{first} {pair.turn}"
    return f"{second} is {turned}, likeness {pair.likeness:.2f}"
