"""Whether a class can be told without looking at the film: from the file's type, size, shape or damage alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact
from sklearn.ensemble import RandomForestClassifier

from bonefrac_benchmarks.statistics import Interval, by_group, wilson
from bonefrac_benchmarks.statistics import auroc as auroc_of_draws
from bonefrac_training.facts import Facts
from bonefrac_training.folds import make_folds

Values = NDArray[np.float64]
_FOLDS, _FEWEST = 5, 20
_AT_ONCE = 2**22  # weights that are judged together: 32 MB
_TELLING = 0.001  # Fisher's exact p; small, for some forty levels are looked at


@dataclass(frozen=True)
class Level:
    """One value of one fact: how many films have it, one film a group, for copies and films of one patient say the same
    again, and the share of fractures with its 95 % interval (Wilson).

    `telling`: among the other films, again one a group, the share is another (Fisher's exact test, p < 0.001).
    """

    fact: str
    level: str
    films: int
    fractured: int
    share: float
    low: float
    high: float
    telling: bool


_NUMBERS: dict[str, Callable[[Facts], float]] = {
    "bytes": lambda fact: math.log(max(fact.size, 1)),
    "bytes a pixel": lambda fact: fact.size / max(fact.width * fact.height, 1),
    "width": lambda fact: fact.width,
    "height": lambda fact: fact.height,
    "width by height": lambda fact: fact.width / max(fact.height, 1),
}
_LEVELS: dict[str, Callable[[Facts], str]] = {  # "" where it cannot be told
    "ending of the name": lambda fact: fact.film.path.suffix.lower(),
    "format": lambda fact: fact.header.format if fact.header else "",
    "channels": lambda fact: str(fact.header.channels) if fact.header else "",
    "bits": lambda fact: str(fact.header.bits) if fact.header else "",
    "EXIF orientation": lambda fact: str(fact.header.orientation) if fact.header else "",
    "readable": lambda fact: "yes" if fact.readable else "no",
    "polarity": lambda fact: "seems inverted" if fact.inverted else "bone bright",
    "size": lambda fact: f"{fact.width} x {fact.height} px" if fact.width else "",
}


def predictability(facts: Sequence[Facts], groups: Sequence[str], *, seed: int = 1) -> Interval | None:
    """The AUROC at which a small forest tells fractures from these facts alone, each film judged by a forest that never
    saw its group. None where there are too few films or groups of a class to say."""
    fractured = np.array([fact.film.label == "fractured" for fact in facts])
    both = min(len({g for g, f in zip(groups, fractured, strict=True) if f == side}) for side in (True, False))
    if min(fractured.sum(), (~fractured).sum()) < _FEWEST or both < _FOLDS:
        return None
    table = _table(facts)
    folds = np.array(make_folds(groups, [(fact.film.label,) for fact in facts], folds=_FOLDS, seed=seed))
    scores = np.zeros(len(facts))
    for fold in range(_FOLDS):
        train = folds != fold
        if len(set(fractured[train])) < 2:
            return None
        forest = RandomForestClassifier(60, max_depth=5, min_samples_leaf=5, random_state=seed, class_weight="balanced")
        scores[~train] = forest.fit(table[train], fractured[train]).predict_proba(table[~train])[:, 1]
    return auroc(fractured, scores, groups)


def _table(facts: Sequence[Facts]) -> Values:
    columns = [[number(fact) for fact in facts] for number in _NUMBERS.values()]
    for name, level in _LEVELS.items():
        if name != "size":  # the two sides stand there as numbers
            values = [level(fact) for fact in facts]
            columns += [[float(value == one) for value in values] for one in sorted(set(values))]
    return np.array(columns, np.float64).T


def auroc(fractured: NDArray[np.bool_], scores: Values, groups: Sequence[str]) -> Interval:
    """The AUROC of scores (n,) with its interval, drawn over groups; in parts, for a collection may be large."""

    def drawn(weights: Values) -> Values:
        parts = np.array_split(weights, 1 + weights.size // _AT_ONCE)
        return np.concatenate([auroc_of_draws(fractured, scores, part) for part in parts])

    return by_group(drawn, groups)


def levels(facts: Sequence[Facts], groups: Sequence[str], *, fewest: int = 10, most: int = 6) -> list[Level]:
    """For each fact that is not the same everywhere, its `most` most frequent values that at least `fewest` groups
    have."""
    found: list[Level] = []
    fractured = np.array([fact.film.label == "fractured" for fact in facts], np.bool_)
    inside = np.array(groups, np.str_)
    for name, level in _LEVELS.items():
        values = np.array([level(fact) for fact in facts], np.str_)
        names, counts = np.unique(values[values != ""], return_counts=True)
        for one in names[np.argsort(-counts, kind="stable")[:most]] if len(names) > 1 else ():
            sides = values == one, (values != one) & (values != "")
            here, elsewhere = (_one_a_group(fractured[side], inside[side]) for side in sides)
            if here[0] >= fewest:
                found.append(_level(name, str(one), here, elsewhere))
    return found


def _level(fact: str, level: str, here: tuple[int, int], elsewhere: tuple[int, int]) -> Level:
    table = [[hits, films - hits] for films, hits in (here, elsewhere)]
    films, hits = here
    share = wilson(hits, films)
    telling = bool(fisher_exact(table).pvalue < _TELLING)
    return Level(fact, level, films, hits, share.value, share.low, share.high, telling)


def _one_a_group(fractured: NDArray[np.bool_], groups: NDArray[np.str_]) -> tuple[int, int]:
    """How many groups there are, and how many of their first films are fractured."""
    first = np.unique(groups, return_index=True)[1]
    return len(first), int(fractured[first].sum())


def numbers(facts: Sequence[Facts], groups: Sequence[str]) -> list[tuple[str, Interval]]:
    """The AUROC of each number alone, over the readable films; 0.5 says nothing, and 0.1 tells as much as 0.9."""
    readable = [place for place, fact in enumerate(facts) if fact.readable]
    truth = np.array([facts[place].film.label == "fractured" for place in readable])
    inside = [groups[place] for place in readable]
    if not truth.any() or truth.all():
        return []
    return [
        (name, auroc(truth, np.array([number(facts[place]) for place in readable], np.float64), inside))
        for name, number in _NUMBERS.items()
    ]
