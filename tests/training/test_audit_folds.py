"""Folds: a group is never in two, each fold is as large and as mixed as whole groups allow, and equal data give equal
folds."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bonefrac_training.folds import make_folds, make_groups

GROUPS = st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.sampled_from("abc")), min_size=30, max_size=80)


def spread_out(drawn: list[tuple[int, bool, str]]) -> tuple[list[str], list[tuple[str, ...]]]:
    groups, strata = [], list[tuple[str, ...]]()
    for number, (size, fractured, region) in enumerate(drawn):
        label = "fractured" if fractured else "normal"
        groups += [f"g{number}"] * size
        strata += [(label, f"{label} {region}")] * size
    return groups, strata


@given(GROUPS, st.integers(2, 5), st.integers(0, 3))
def test_no_group_spans_two_folds_and_each_fold_is_balanced(
    drawn: list[tuple[int, bool, str]], folds: int, seed: int
) -> None:
    groups, strata = spread_out(drawn)
    chosen = make_folds(groups, strata, folds=folds, seed=seed)
    where = defaultdict[str, set[int]](set)
    for group, fold in zip(groups, chosen, strict=True):
        where[group].add(fold)
    assert all(len(there) == 1 for there in where.values())
    largest = max(size for size, _, _ in drawn)
    for name in ("", "fractured", "normal"):
        counts = Counter(fold for fold, names in zip(chosen, strata, strict=True) if not name or name in names)
        sizes = [counts[fold] for fold in range(folds)]
        assert max(sizes) - min(sizes) <= 2 * largest, (name, sizes)


@given(GROUPS, st.integers(2, 5))
def test_the_same_films_in_another_order_get_the_same_folds(drawn: list[tuple[int, bool, str]], folds: int) -> None:
    groups, strata = spread_out(drawn)
    chosen = dict(zip(groups, make_folds(groups, strata, folds=folds), strict=True))
    backwards = make_folds(groups[::-1], strata[::-1], folds=folds)
    assert dict(zip(groups[::-1], backwards, strict=True)) == chosen


def test_classes_and_regions_are_spread_and_the_seed_counts() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{number}" for number in range(300)]
    label = ["fractured" if rng.random() < 0.2 else "normal" for _ in groups]
    region = [str(rng.choice(["hand", "leg"])) for _ in groups]
    strata = [(one, f"{one} {other}") for one, other in zip(label, region, strict=True)]
    chosen = make_folds(groups, strata, folds=5)
    counts = Counter((fold, names[1]) for fold, names in zip(chosen, strata, strict=True))
    for name in {names[1] for names in strata}:
        sizes = [counts[fold, name] for fold in range(5)]
        assert max(sizes) - min(sizes) <= 1, (name, sizes)
    assert make_folds(groups, strata, folds=5) == chosen
    assert make_folds(groups, strata, folds=5, seed=2) != chosen


@given(st.lists(st.sampled_from(["", "p1", "p2", "p3"]), min_size=2, max_size=12), st.data())
def test_groups_unite_declared_ones_and_copies(declared: list[str], data: st.DataObject) -> None:
    places = st.integers(0, len(declared) - 1)
    pairs = data.draw(st.lists(st.tuples(places, places), max_size=6))
    names = [f"film {n}" for n in range(len(declared))]
    groups = make_groups(names, declared, pairs)
    assert all(groups[a] == groups[b] for a, b in pairs)
    for a, one in enumerate(declared):
        for b, other in enumerate(declared):
            if one and one == other:
                assert groups[a] == groups[b]
    alone = [n for n, one in enumerate(declared) if not one and not any(n in pair for pair in pairs)]
    assert all(groups.count(names[n]) == 1 for n in alone), "a film without a group or a copy was put with others"
