"""ledger.py: what arrived, what is in hand, what came out; through anything."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonefrac.errors import OutputError
from bonefrac.ledger import Ledger, New, Row
from bonefrac.results import Failure, Finding, Region, Result, Source

MODEL = {"model": "flagship 1.0", "model_sha256": "ab" * 32, "precision": "int8"}
ODD = os.fsdecode(b"sub/\xff \n.png")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with opened(path) as ledger:
        yield ledger


def opened(path: Path, owner: str = "me", key: str = "k") -> Ledger:
    return Ledger(path, owner=owner, key=key)


def new(name: str, sha256: str = "aa", day: str = "2026-11-21") -> New:
    return New(name, sha256, "shown " + name, day, f"annotated/{name}.marked.jpg", "2026-11-21T08:00:00+00:00")


def found(film: New, probability: float = 0.5) -> Finding:
    regions = (Region((1.0, 2.0, 3.0, 4.0), (2.0, 3.0), 0.75),)
    return Finding(Source(film.shown, film.sha256), "doubt", probability, regions, 640, 480, "", b"thumbnail")


def failed(film: New, status: str = "failed") -> Failure:
    return Failure(Source(film.shown, film.sha256), status, "why", 1, 2)  # type: ignore[arg-type]


def examine(ledger: Ledger, film: New, result: Result | None = None, *, picture: bool = True) -> int:
    """Claim a film and record its result, as the desk does; returns its number."""
    claimed = ledger.claim(ledger.find(film.name, film.sha256), film)
    ledger.finish(claimed, result or found(film), MODEL, picture=film.picture if picture else "", now="later")
    return claimed.number


def is_done(ledger: Ledger, film: New) -> bool:
    there = ledger.find(film.name, film.sha256)
    return there is not None and there.done


def attempts(ledger: Ledger, film: New) -> int:
    there = ledger.find(film.name, film.sha256)
    return there.attempts if there else 0


def results(ledger: Ledger, day: str = "") -> list[Row]:
    """The table's rows."""
    return [ledger.row(number) for number, _ in ledger.table(day)]


def shown(ledger: Ledger, day: str = "") -> list[str]:
    return [row.result.source.path.removeprefix("shown ") for row in results(ledger, day)]


# --- rows ------------------------------------------------------------------------------------------------------


def test_a_row_comes_back_as_it_was(ledger: Ledger) -> None:
    film = new(ODD)
    number = examine(ledger, film)
    ledger.commit()
    assert results(ledger) == [
        Row(number, replace(found(film), thumbnail=b""), MODEL, film.picture, film.arrived, "later", "")
    ]
    assert [row.result for row in ledger.latest(1)] == [found(film)]
    assert ledger.pictures(film.day) == [film.picture]
    assert ledger.outcome(ODD, "aa") == ("ok", "")
    again = ledger.find(ODD, "aa")
    assert again is not None
    assert (again.done, again.picture, again.attempts, again.day) == (True, film.picture, 0, film.day)


def test_a_failure_comes_back_as_it_was(ledger: Ledger) -> None:
    examine(ledger, new("a"), failed(new("a")), picture=False)
    (row,) = results(ledger)
    assert (row.result, row.picture) == (failed(new("a")), "")
    assert ledger.outcome("a", "aa") == ("failed", "why")


def test_rows_come_in_the_order_of_shown_names_and_of_one_day_if_asked(ledger: Ledger) -> None:
    several = ["b", "a", "Z", ODD, "a/b", "é"]
    for number, name in enumerate(several):
        examine(ledger, new(name, f"{number:02}", day=f"2026-11-2{number % 2}"))
    assert shown(ledger) == sorted(several, key=os.fsencode)
    assert shown(ledger, "2026-11-20") == sorted(several[::2], key=os.fsencode)
    assert shown(ledger, "2026-11-29") == []
    assert sorted(ledger.days()) == ["2026-11-20", "2026-11-21"]


def test_the_latest_come_most_suspicious_first_and_failures_last(ledger: Ledger) -> None:
    for number, probability in enumerate([0.9, 0.1, 0.7, 0.7]):
        film = new(f"{number}", f"{number}")
        examine(ledger, film, found(film, probability))
    examine(ledger, new("bad", "bad"), failed(new("bad", "bad")))
    names = [row.result.source.path.removeprefix("shown ") for row in ledger.latest(4)]
    assert names == ["3", "2", "1", "bad"]


def test_films_are_counted_by_what_came_out(ledger: Ledger) -> None:
    for number, result in enumerate([found, found, failed, lambda film: failed(film, "not_analysed")]):
        film = new(f"{number}", f"{number}")
        examine(ledger, film, result(film))
    assert ledger.counts() == {"doubt": 2, "failed": 1, "not_analysed": 1}


def test_settings_are_remembered(path: Path) -> None:
    with opened(path) as ledger:
        assert ledger.recall("inbox") == ""
        ledger.remember("inbox", "one")
        ledger.remember("inbox", "two")
    with opened(path) as ledger:
        assert ledger.recall("inbox") == "two"


# --- claims ----------------------------------------------------------------------------------------------------


def test_a_claim_counts_on_disk_before_it_returns(path: Path) -> None:
    for attempt in range(3):
        ledger = opened(path, owner=f"process {attempt}")
        assert attempts(ledger, new("a")) == attempt
        assert ledger.claim(ledger.find("a", "aa"), new("a")).attempts == attempt + 1
        ledger.close()  # without a commit
    with opened(path) as ledger:
        assert attempts(ledger, new("a")) == 3
        assert not is_done(ledger, new("a"))
        assert shown(ledger) == []
        examine(ledger, new("a"))
        assert is_done(ledger, new("a"))
        assert attempts(ledger, new("a")) == 0


def test_a_claim_of_an_earlier_process_is_void(path: Path) -> None:
    with opened(path, owner="earlier") as earlier:
        earlier.claim(None, new("a"))
        assert earlier.same_content("b", "aa") is not None  # in its hands
    with opened(path, owner="later") as later:
        assert later.same_content("b", "aa") is None
        later.undo()
        assert attempts(later, new("a")) == 1  # what others began is not given back
        examine(later, new("a"))
        assert is_done(later, new("a"))


def test_undo_gives_back_what_is_in_hand_and_keeps_what_was_committed(path: Path) -> None:
    with opened(path) as ledger:
        examine(ledger, new("committed", "1"))
        ledger.commit()
        examine(ledger, new("finished", "2"))
        ledger.claim(None, new("in hand", "3"))  # which commits what came before
        ledger.finish(ledger.claim(None, new("not committed", "4")), found(new("not committed", "4")), MODEL,
                      picture="", now="x")  # fmt: skip
        ledger.undo()
        assert shown(ledger) == ["committed", "finished"]
        for film in (new("in hand", "3"), new("not committed", "4")):
            assert attempts(ledger, film) == 0
            assert not is_done(ledger, film)
            assert ledger.same_content("other", film.sha256) is None
        ledger.undo()
        assert attempts(ledger, new("in hand", "3")) == 0
    with opened(path) as ledger:
        assert shown(ledger) == ["committed", "finished"]


def test_a_film_has_one_row_and_one_picture_however_often_it_is_claimed(ledger: Ledger) -> None:
    first = ledger.claim(None, new("a"))
    again = ledger.claim(ledger.find("a", "aa"), replace(new("a"), picture="another"))
    assert (again.number, again.picture) == (first.number, first.picture)
    ledger.finish(again, found(new("a")), MODEL, picture=again.picture, now="x")
    assert shown(ledger) == ["a"]


def test_a_second_watcher_is_refused(path: Path) -> None:
    with opened(path), pytest.raises(OutputError, match="another run is writing there"):
        opened(path)


# --- contents --------------------------------------------------------------------------------------------------


def test_a_changed_file_is_a_new_film(ledger: Ledger) -> None:
    assert not ledger.has_name("a")
    examine(ledger, new("a", "1"))
    assert ledger.has_name("a")
    assert ledger.find("a", "2") is None
    assert ledger.same_content("a", "1") is None  # it is no copy of itself
    examine(ledger, replace(new("a", "2"), picture="another.jpg"))
    assert [(row.result.source.sha256, row.picture) for row in results(ledger)] == [
        ("1", new("a").picture), ("2", "another.jpg")]  # fmt: skip


def test_a_copy_points_to_the_first(ledger: Ledger) -> None:
    number = examine(ledger, new("a"))
    first = ledger.same_content("b", "aa")
    assert first is not None
    assert (first.number, first.done) == (number, True)
    ledger.copy(first, new("b"), None)
    third = ledger.same_content("c", "aa")
    assert third is not None
    assert third.number == number  # and not to a copy
    ledger.copy(third, new("c"), None)
    ledger.commit()
    rows = results(ledger)
    assert [row.first for row in rows] == ["", "shown a", "shown a"]
    assert {row.picture for row in rows} == {new("a").picture}
    assert {row.result.source.sha256 for row in rows} == {"aa"}
    assert {replace(row.result, source=Source("", "")) for row in rows} == {
        replace(found(new("a")), source=Source("", ""), thumbnail=b"")
    }
    assert [row.result.thumbnail for row in ledger.latest(9) if isinstance(row.result, Finding)] == [b"thumbnail"] * 3
    assert all(is_done(ledger, new(name)) for name in "abc")
    assert ledger.pictures(new("a").day) == [new("a").picture]


def test_copies_point_to_what_was_examined_also_when_another_model_takes_them_in_another_order(path: Path) -> None:
    with opened(path, key="one") as ledger:
        examine(ledger, new("z"))
        first = ledger.same_content("a", "aa")
        assert first is not None
        ledger.copy(first, new("a"), None)
    with opened(path, key="two") as ledger:
        number = examine(ledger, new("a"))
        first = ledger.same_content("z", "aa")
        assert first is not None
        ledger.copy(first, new("z"), ledger.find("z", "aa"))
        third = ledger.same_content("m", "aa")
        assert third is not None
        assert third.number == number
        assert [(row.result.source.path, row.first) for row in results(ledger)] == [
            ("shown a", ""),
            ("shown z", "shown a"),
        ]


def test_a_copy_of_a_film_in_hand_is_seen_and_not_done(ledger: Ledger) -> None:
    ledger.claim(None, new("a"))
    first = ledger.same_content("b", "aa")
    assert first is not None
    assert not first.done


def test_a_film_that_was_begun_may_turn_out_to_be_a_copy(ledger: Ledger) -> None:
    examine(ledger, new("a"))
    begun = ledger.claim(None, new("b"))
    first = ledger.same_content("b", "aa")
    assert first is not None
    assert ledger.copy(first, new("b"), begun) == begun.number
    assert is_done(ledger, new("b"))
    assert attempts(ledger, new("b")) == 0
    assert shown(ledger) == ["a", "b"]


# --- failures that are mended ----------------------------------------------------------------------------------


def test_a_later_finding_of_that_name_withdraws_failures(ledger: Ledger) -> None:
    half, unread = new("a", "half", "2026-11-19"), new("a", "", "2026-11-20")
    examine(ledger, half, failed(half))
    examine(ledger, unread, failed(unread))
    examine(ledger, new("b", "1"), failed(new("b", "1")))
    examine(ledger, new("a", "still bad"), failed(new("a", "still bad")))
    assert shown(ledger) == ["a", "a", "a", "b"]
    assert ledger.mended == set()
    examine(ledger, new("a", "whole"))
    assert [(row.result.source.sha256, row.result.message) for row in results(ledger)] == [("whole", ""), ("1", "why")]
    assert ledger.mended == {"2026-11-19", "2026-11-20", "2026-11-21"}
    assert ledger.counts() == {"doubt": 1, "failed": 1}
    assert "2026-11-19" in ledger.days()  # its table has to be written once more


def test_an_earlier_finding_stays_when_the_file_changes(ledger: Ledger) -> None:
    examine(ledger, new("a", "1"))
    examine(ledger, new("a", "2"), failed(new("a", "2")))
    examine(ledger, new("a", "3"))
    assert [row.result.source.sha256 for row in results(ledger)] == ["1", "3"]


def test_a_copy_withdraws_failures_of_its_name_too(ledger: Ledger) -> None:
    examine(ledger, new("a", "1"))
    examine(ledger, new("b", "half"), failed(new("b", "half")))
    first = ledger.same_content("b", "1")
    assert first is not None
    ledger.copy(first, new("b", "1"), None)
    assert shown(ledger) == ["a", "b"]


def test_a_withdrawn_failure_that_comes_back_counts_again(ledger: Ledger) -> None:
    bad = new("a", "bad")
    examine(ledger, bad, failed(bad))
    assert is_done(ledger, bad)
    examine(ledger, new("a", "good"))
    assert not is_done(ledger, bad)
    examine(ledger, bad, failed(bad))
    assert is_done(ledger, bad)
    assert [row.result.source.sha256 for row in results(ledger)] == ["bad", "good"]


# --- another model ---------------------------------------------------------------------------------------------


def test_another_key_makes_films_due_and_their_rows_stay_until_replaced(path: Path) -> None:
    with opened(path, key="one") as ledger:
        for name in ("a", "b"):
            number = examine(ledger, new(name, name))
            ledger.saw(name, (1, 2, number))
        ledger.saw("seen only", (4, 5, 6))
        assert sorted(ledger.looks()) == ["a", "b", "seen only"]
    with opened(path, key="two") as ledger:
        assert ledger.looks() == {"seen only": (4, 5, 6)}
        assert not is_done(ledger, new("a", "a"))
        assert ledger.same_content("c", "a") is None
        assert shown(ledger) == ["a", "b"]
        ledger.claim(ledger.find("a", "a"), new("a", "a"))
        assert shown(ledger) == ["a", "b"]
        examine(ledger, new("a", "a"), found(new("a", "a"), 0.25))
        assert shown(ledger) == ["a", "b"]
        assert sorted(ledger.looks()) == ["a", "seen only"]
        assert ledger.counts() == {"doubt": 2}


def test_what_a_file_looked_like_is_kept_by_name(path: Path) -> None:
    with opened(path) as ledger:
        ledger.saw(ODD, (1, -5, 2**63 - 1))
        ledger.saw(ODD, (2, 3, 4))
    with opened(path) as ledger:
        assert ledger.looks() == {ODD: (2, 3, 4)}


# --- pruning ---------------------------------------------------------------------------------------------------


def test_days_are_counted_and_not_compared(ledger: Ledger) -> None:
    for number, day in enumerate(["2026-11-01", "1999-01-01", "2099-12-31", "2026-11-02"]):
        ledger.open_day(day)
        ledger.open_day(day)
        examine(ledger, new(f"{number}", f"{number}", day=day))
    assert ledger.pruned_days(3) == []
    assert ledger.pruned_days(2) == ["2026-11-01"]
    assert ledger.pruned_days(1) == ["2026-11-01", "1999-01-01"]


def test_a_clock_that_is_set_prunes_nothing_of_today(ledger: Ledger) -> None:
    """A dead clock battery: every morning is 2000 again, until the network tells the time. And a jump, and back."""
    for number, day in enumerate(["2026-11-19", "2026-11-20", "2026-11-21"]):
        ledger.open_day("2000-01-01")
        examine(ledger, new(f"morning {number}", f"m{number}", day="2000-01-01"))
        ledger.open_day(day)
        examine(ledger, new(f"day {number}", f"d{number}", day=day))
        assert "2000-01-01" not in ledger.pruned_days(1)
    ledger.open_day("2099-12-31")
    assert "2026-11-21" not in ledger.pruned_days(1)
    ledger.open_day("2026-11-21")
    assert not {"2026-11-21", "2099-12-31"} & set(ledger.pruned_days(1))


def test_pruning_takes_films_from_the_tables_and_keeps_the_memory(path: Path) -> None:
    old, late = new("old", "1", "2026-11-01"), new("new", "2", "2026-11-02")
    with opened(path) as ledger:
        for film in (old, late):
            ledger.open_day(film.day)
            number = examine(ledger, film)
            ledger.saw(film.name, (1, 2, number))
        begun = new("begun", "3", "2026-11-01")
        ledger.claim(None, begun)
        bad = new("bad", "4", "2026-11-01")
        examine(ledger, bad, failed(bad))
        assert sorted(ledger.pictures(old.day)) == sorted(film.picture for film in (old, begun, bad))
        ledger.prune(old.day)
        assert shown(ledger) == ["new"]
        assert ledger.pruned_days(1) == []  # not again and again
        assert ledger.days() == [late.day]
        assert [row.result.source.path for row in ledger.latest(9)] == ["shown new"]
    with opened(path) as ledger:
        assert is_done(ledger, old)
        assert is_done(ledger, bad)
        assert not is_done(ledger, begun)
        assert sorted(ledger.looks()) == ["new", "old"]
        assert ledger.same_content("copy", "1") is None  # there is nothing left to point to


def test_a_copy_of_a_pruned_film_has_neither_picture_nor_thumbnail(ledger: Ledger) -> None:
    examine(ledger, new("a", day="2026-11-01"))
    first = ledger.same_content("b", "aa")
    assert first is not None
    ledger.copy(first, new("b", day="2026-11-02"), None)
    ledger.prune("2026-11-01")
    (row,) = ledger.latest(9)
    assert isinstance(row.result, Finding)
    assert (row.picture, row.result.thumbnail, row.first) == ("", b"", "shown a")


# --- what goes wrong around it ---------------------------------------------------------------------------------


def test_a_damaged_file_is_told(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)
    with pytest.raises(OutputError, match="move it aside"):
        opened(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here: needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_after_a_full_disk_it_goes_on_and_has_lost_nothing(small_disk: Path) -> None:
    path, kept = small_disk / "ledger.sqlite", []
    with opened(path) as ledger:

        def fill() -> None:
            for number in range(100_000):
                film = new(f"{number:06}" + "x" * 100, f"{number}")
                examine(ledger, film, replace(found(film), thumbnail=os.urandom(2000)))
                ledger.commit()
                kept.append(film.name)

        with pytest.raises(OutputError, match="the disk is full"):
            fill()
        with pytest.raises(OutputError):
            ledger.execute("INSERT INTO thumbnail VALUES (?, ?)", (10**6, os.urandom(600_000)))
        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
        ledger.undo()
        assert shown(ledger) == kept
        last = new(f"{len(kept):06}" + "x" * 100, f"{len(kept)}")
        assert attempts(ledger, last) == 0
        examine(ledger, last)
        ledger.commit()
    with opened(path) as ledger:
        assert shown(ledger) == [*kept, last.name]


_KILLED = """
import os, signal, sys
from pathlib import Path
from bonefrac.ledger import Ledger, New
from bonefrac.results import Finding, Source
os.umask(0o077)
ledger = Ledger(Path(sys.argv[1]), owner="killed", key="k")
new = New("a", "aa", "a", "2026-11-21", "a.jpg", "now")
film = ledger.claim(None, new)
if sys.argv[2] in ("finish", "commit"):
    model = dict(model="m", model_sha256="", precision="")
    ledger.finish(film, Finding(Source("a", "aa"), "doubt", 0.5, (), 1, 1), model, picture="a.jpg", now="now")
if sys.argv[2] == "commit":
    ledger.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("after", "done", "tries"), [("claim", False, 1), ("finish", False, 1), ("commit", True, 0)])
def test_a_kill_keeps_what_was_committed(path: Path, after: str, done: bool, tries: int) -> None:
    assert subprocess.run([sys.executable, "-c", _KILLED, path, after], check=False).returncode == -9
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir() if file.name.startswith(path.name)}
    assert modes == {0o600}
    with opened(path) as ledger:
        assert is_done(ledger, new("a")) is done
        assert attempts(ledger, new("a")) == tries
        assert len(results(ledger)) == done


# --- against a model of it -------------------------------------------------------------------------------------


@dataclass
class _Kept:
    """What the ledger must say of one film."""

    status: str = ""  # "" until there is a result
    key: str = ""
    attempts: int = 0
    in_hand_of: str = ""
    gone: bool = False
    withdrawn: bool = False


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["examine", "examine", "fail", "claim", "undo", "die", "new model", "prune"]),
        st.sampled_from("ab"),
        st.sampled_from("12"),
    ),
    max_size=14,
)


@settings(max_examples=30)
@given(_STEPS)
def test_it_says_what_a_simple_model_says(steps: list[tuple[str, str, str]]) -> None:
    """Films are named, and their content is that of their name: no copies here. Each step is committed or not begun."""
    with TemporaryDirectory() as folder:
        path, owner, key = Path(folder) / "ledger", 0, 0
        ledger = opened(path, f"{owner}", f"{key}")
        model: dict[tuple[str, str], _Kept] = {}
        for what, name, content in steps:
            film = new(name, name + content, day=content)
            kept = model.setdefault((name, content), _Kept())
            if what in ("examine", "fail"):
                examine(ledger, film, found(film) if what == "examine" else failed(film))
                ledger.commit()
                model[name, content] = _Kept("ok" if what == "examine" else "failed", f"{key}")
                for (other_name, other), earlier in model.items():
                    if what == "examine" and other_name == name and other != content and not earlier.gone:
                        earlier.withdrawn |= earlier.status == "failed"
            elif what == "claim":
                ledger.claim(ledger.find(film.name, film.sha256), film)
                kept.attempts, kept.in_hand_of = kept.attempts + 1, f"{owner}"
            elif what == "undo":
                ledger.undo()
                for item in model.values():
                    if item.in_hand_of == f"{owner}":
                        item.attempts, item.in_hand_of = item.attempts - 1, ""
            elif what == "prune":
                ledger.prune(content)
                ledger.commit()
                for (_, other), item in model.items():
                    if other == content and item.status:
                        item.gone, item.withdrawn = True, False
            else:
                ledger.close()
                owner, key = owner + 1, key + (what == "new model")
                ledger = opened(path, f"{owner}", f"{key}")
            for (name_, content_), item in model.items():
                film = new(name_, name_ + content_)
                done = bool(item.status) and item.key == f"{key}" and not item.in_hand_of and not item.withdrawn
                assert is_done(ledger, film) is done
                assert attempts(ledger, film) == item.attempts
            visible = [k for k, item in model.items() if item.status and not item.gone and not item.withdrawn]
            assert sorted(shown(ledger)) == sorted(name_ for name_, _ in visible)
            assert sum(ledger.counts().values()) == len(visible)
        ledger.close()
