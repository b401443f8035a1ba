"""journal.py: what was judged, kept through anything."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.errors import OutputError
from bonefrac.journal import Journal
from bonefrac.results import Failure, Finding, Region, Result, Source


def finding(name: str, probability: float = 0.5, sha256: str = "aa") -> Finding:
    return Finding(Source(name, sha256), "doubt", probability, (), 640, 480)


def failure(name: str, status: str = "failed", sha256: str = "bb") -> Failure:
    return Failure(Source(name, sha256), status, "why")  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def kept(path: Path, key: str = "k") -> list[Result]:
    with Journal(path, key) as journal:
        return list(journal.results())


names = st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name).map(os.fsdecode)
_number = st.floats(0, 5000, allow_nan=False)
_regions = st.builds(
    Region, st.tuples(_number, _number, _number, _number), st.tuples(_number, _number), st.floats(0, 1)
)
_sources = st.builds(Source, names, st.text("0123456789abcdef", max_size=64))
_findings = st.builds(
    Finding,
    _sources,
    st.sampled_from(["fracture", "doubt", "no_fracture_detected"]),
    st.floats(0, 1),
    st.lists(_regions, max_size=3).map(tuple),
    st.integers(1, 20_000),
    st.integers(1, 20_000),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    st.binary(max_size=50),
)
_failures = st.builds(
    Failure, _sources, st.sampled_from(["failed", "not_analysed"]), st.just("why"), st.integers(0, 9), st.integers(0, 9)
)


@given(st.lists(_findings | _failures, max_size=5, unique_by=lambda result: result.source.path))
def test_rows_come_back_as_they_were_in_the_order_of_their_names(results: list[Result]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        with Journal(path, "k") as journal:
            for result in results:
                journal.record(result)
        assert kept(path) == sorted(results, key=lambda result: os.fsencode(result.source.path))


def test_the_same_key_keeps_and_another_key_forgets(path: Path) -> None:
    with Journal(path, "one") as journal:
        journal.record(finding("a"))
    assert len(kept(path, "one")) == 1
    assert kept(path, "two") == []
    assert kept(path, "one") == []


def test_restart_forgets(path: Path) -> None:
    with Journal(path, "k") as journal:
        journal.record(finding("a"))
    with Journal(path, "k", restart=True) as journal:
        assert journal.known() == {}


def test_failed_films_are_tried_again_and_others_are_known(path: Path) -> None:
    with Journal(path, "k") as journal:
        for result in (finding("a", sha256="1"), failure("b"), failure("c", "not_analysed", "3")):
            journal.record(result)
        assert journal.known() == {"a": "1", "c": "3"}


def test_a_film_judged_again_has_one_row(path: Path) -> None:
    with Journal(path, "k") as journal:
        journal.record(failure("a"))
        journal.record(finding("a", sha256="new"))
    (row,) = kept(path)
    assert row == finding("a", sha256="new")


def test_a_run_that_breaks_off_keeps_its_rows(path: Path) -> None:
    def broken_off() -> None:
        with Journal(path, "k") as journal:
            journal.record(finding("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert len(kept(path)) == 1


def test_films_that_are_gone_are_forgotten(path: Path) -> None:
    odd = os.fsdecode(b"\xff.png")
    with Journal(path, "k") as journal:
        for name in ("a", "b", odd):
            journal.record(finding(name))
        assert sorted(journal.keep_only({"a"})) == ["b", odd]
        assert list(journal.known()) == ["a"]
    assert [row.source.path for row in kept(path)] == ["a"]


def test_suspicion_orders_by_probability_then_name_and_puts_failures_last(path: Path) -> None:
    with Journal(path, "k") as journal:
        for result in (
            failure("0"),
            finding("c", 0.2),
            finding("b", 0.9),
            finding("a", 0.2),
            failure("1", "not_analysed"),
        ):
            journal.record(result)
        assert [row.source.path for row in journal.results("suspicion")] == ["b", "a", "c", "0", "1"]
        assert [row.source.path for row in journal.results()] == ["0", "1", "a", "b", "c"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_second_run_in_the_same_folder_is_refused(path: Path, restart: bool) -> None:
    with Journal(path, "k") as journal:
        journal.record(finding("a"))
        with pytest.raises(OutputError, match="another run"):
            Journal(path, "k", restart=restart)
    assert len(kept(path)) == 1


def test_a_damaged_journal_is_told_and_restart_helps(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)
    with pytest.raises(OutputError, match="--restart"):
        Journal(path, "k")
    with Journal(path, "k", restart=True) as journal:
        journal.record(finding("a"))
    assert len(kept(path)) == 1


@pytest.mark.parametrize(
    "use", [Journal.known, lambda journal: list(journal.results()), lambda journal: journal.keep_only(set())]
)
def test_a_journal_damaged_in_its_rows_is_told(path: Path, use: Callable[[Journal], object]) -> None:
    with Journal(path, "k") as journal:
        for number in range(500):
            journal.record(finding(f"{number:05}" * 20))
    data = bytearray(path.read_bytes())
    for page in range(3 * 4096, len(data), 4096):  # the first pages are read on opening
        data[page + 200 : page + 500] = b"\xa5" * 300
    path.write_bytes(bytes(data))

    def open_and_use() -> None:
        with Journal(path, "k") as journal:
            use(journal)

    with pytest.raises(OutputError, match="--restart"):
        open_and_use()


def test_a_journal_of_another_version_is_begun_anew(path: Path) -> None:
    """Its rows are void, for the key holds the version; its columns must be too."""
    older = sqlite3.connect(path)
    older.executescript(
        "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);"
        "INSERT INTO setting VALUES ('key', 'older'); CREATE TABLE film (name BLOB PRIMARY KEY, sha256 TEXT);"
    )
    older.close()
    with Journal(path, "newer") as journal:
        journal.record(finding("a"))
    assert kept(path, "newer") == [finding("a")]


def test_a_journal_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        Journal(tmp_path / "missing" / "journal.sqlite", "k")
