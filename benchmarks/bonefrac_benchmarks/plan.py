"""What is dropped into a watched inbox, in which ways, by which writer: all decided beforehand, from a seed.

What the watcher has to make of it follows from the plan alone, however slow or often killed it is: whatever must come
after another film's row waits for that row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bonefrac.errors import UsageError
from bonefrac_benchmarks.contents import Content, Contents

Kind = Literal["renamed in", "chunks", "pause", "replaced", "changed", "copy", "folder moved in", "folder renamed"]

KINDS: dict[Kind, str] = {
    "renamed in": "written under a temporary name, then renamed",
    "chunks": "written slowly, in chunks, under the final name",
    "pause": "the same with a pause longer than the settle time before the second half",
    "replaced": "whole, then replaced by another film within the settle time: only that one counts",
    "changed": "replaced after its row is there: both count",
    "copy": "the content of a film that has its row, under another name",
    "folder moved in": "a folder of films made elsewhere and moved in whole",
    "folder renamed": "a folder of films that have their rows, renamed",
}
FEWEST = 30  # films a writer: else not every kind has its turn

_SHARES: dict[Kind, float] = {"chunks": 0.2, "replaced": 0.05, "changed": 0.06, "copy": 0.1, "folder moved in": 0.05,
                              "folder renamed": 0.08}  # fmt: skip
_IN_A_FOLDER = 4
_PATIENTS = ("chest", "wrist left", "Hüfte", "knee, 2 views", "ankle (after cast)", "肩")


@dataclass(frozen=True)
class Put:
    """A film as it has to appear in the table: a path below the inbox and a content."""

    name: str
    content: Content


@dataclass(frozen=True)
class Step:
    """One thing that a writer does: `puts` at once; `later`, once these have their rows. `never` is there for a moment
    only. `seed` decides on the details."""

    kind: Kind
    puts: tuple[Put, ...]
    later: tuple[Put, ...] = ()
    never: Content | None = None
    seed: int = 0


@dataclass(frozen=True)
class Expected:
    """What the table must hold: each (path, SHA-256) so many times. `whole` are the hashes of all that was ever a whole
    file, `picture_of` tells which drawn picture a content shows."""

    rows: Counter[tuple[str, str]]
    whole: frozenset[str]
    picture_of: dict[str, int]


def check_size(films: int, writers: int) -> None:
    """Raises UsageError for too few films."""
    if films < FEWEST * writers:
        raise UsageError(f"{films} films are too few for {writers} writers: at least {FEWEST} each are needed")


def make_plan(contents: Contents, *, films: int, writers: int, seed: int, pauses: float) -> list[list[Step]]:
    """Steps for each writer, `films` films in all; `pauses` is the share of films written with a long pause."""
    check_size(films, writers)
    return [
        _Planner(contents, writer, np.random.default_rng((seed, writer))).steps(
            films // writers + (writer < films % writers), pauses
        )
        for writer in range(writers)
    ]


def expectation(contents: Contents, plan: Sequence[Sequence[Step]]) -> Expected:
    """What the table must hold at the end of the plan."""
    rows: Counter[tuple[str, str]] = Counter()
    picture_of: dict[str, int] = {}
    hashes: dict[Content, str] = {}

    def sha256(content: Content) -> str:
        if content not in hashes:
            hashes[content] = contents.sha256(content)
            picture_of[hashes[content]] = content.picture
        return hashes[content]

    for step in (step for steps in plan for step in steps):
        for put in (*step.puts, *step.later):
            rows[put.name, sha256(put.content)] += 1
        if step.never is not None:
            sha256(step.never)
    return Expected(rows, frozenset(hashes.values()), picture_of)


class _Planner:
    """One writer's part; its films' numbers are its own."""

    def __init__(self, contents: Contents, writer: int, rng: np.random.Generator) -> None:
        self._contents, self._writer, self._rng = contents, writer, rng
        self._made = 0

    def steps(self, films: int, pauses: float) -> list[Step]:
        make = {"replaced": self._replaced, "changed": self._changed, "copy": self._copy,
                "folder moved in": self._moved, "folder renamed": self._renamed}  # fmt: skip
        shares: dict[Kind, float] = {"pause": pauses, **_SHARES}
        steps: list[Step] = []
        for kind, share in shares.items():
            rows = 0
            while rows < max(1, round(films * share)):
                steps.append(make[kind]() if kind in make else self._plain(kind))
                rows += len(steps[-1].puts) + len(steps[-1].later)
        rows = sum(len(step.puts) + len(step.later) for step in steps)
        steps += [self._plain("renamed in") for _ in range(films - rows)]
        return [steps[at] for at in self._rng.permutation(len(steps))]

    def _plain(self, kind: Kind) -> Step:
        return Step(kind, (self._put(),), seed=self._seed())

    def _replaced(self) -> Step:
        put = self._put()
        return Step("replaced", (put,), never=self._other(put.content), seed=self._seed())

    def _changed(self) -> Step:
        put = self._put()
        return Step("changed", (put,), (Put(put.name, self._other(put.content)),), seed=self._seed())

    def _copy(self) -> Step:
        put = self._put()
        return Step("copy", (put,), (Put(self._name(put.content, "copy "), put.content),), seed=self._seed())

    def _moved(self) -> Step:
        folder = f"{self._folder()}series {self._writer}-{self._made}"
        return Step("folder moved in", tuple(self._put(folder) for _ in range(_IN_A_FOLDER)), seed=self._seed())

    def _renamed(self) -> Step:
        parent, number = self._folder(), f"{self._writer}-{self._made}"
        puts = tuple(self._put(f"{parent}incoming {number}") for _ in range(_IN_A_FOLDER))
        later = tuple(
            Put(f"{parent}study {number}/{put.name.rpartition('/')[2]}", put.content) for put in puts
        )  # fmt: skip
        return Step("folder renamed", puts, later, seed=self._seed())

    def _put(self, folder: str | None = None) -> Put:
        self._made += 1
        content = Content(int(self._rng.integers(len(self._contents))), self._writer * 1_000_000 + self._made)
        if folder is None:
            return Put(self._name(content), content)
        return Put(f"{folder}/{self._made:05}{self._contents.suffix(content)}", content)

    def _name(self, content: Content, prefix: str = "") -> str:
        word = _PATIENTS[int(self._rng.integers(len(_PATIENTS)))]
        return f"{self._folder()}{prefix}{word} {content.number:07}{self._contents.suffix(content)}"

    def _other(self, content: Content) -> Content:
        """Another film of the same format."""
        self._made += 1
        same = [
            picture
            for picture in range(len(self._contents))
            if picture != content.picture
            and self._contents.suffix(Content(picture, 0)) == self._contents.suffix(content)
        ]
        return Content(int(self._rng.choice(same)), self._writer * 1_000_000 + self._made)

    def _folder(self) -> str:
        """None, one that all writers share, a nested one, or one of its own that is made for this film."""
        draw, number = self._rng.random(), int(self._rng.integers(1, 29))
        if draw < 0.4:
            return ""
        if draw < 0.6:
            return f"ward {number % 4}/"
        if draw < 0.85:
            return f"2026/11/{number:02}/"
        return f"patients/{self._writer}-{self._made:05}/first visit/"

    def _seed(self) -> int:
        return int(self._rng.integers(2**31))
