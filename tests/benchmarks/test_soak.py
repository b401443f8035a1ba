"""The soak and its companions at small size, and that the reckoning notices whatever is planted."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bonefrac.decode import decode
from bonefrac.errors import Unreadable
from bonefrac.header import read_header
from bonefrac_benchmarks.accounts import Accounts, audit, claims
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.contents import Content, Contents, draw_pictures
from bonefrac_benchmarks.daemon import read_table
from bonefrac_benchmarks.holds import Held, sheet
from bonefrac_benchmarks.passes import SoakSettings, random_lives
from bonefrac_benchmarks.plan import KINDS, Expected, expectation, make_plan
from bonefrac_benchmarks.soak import Soak, measure_soak

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and stops processes by POSIX signals")

SMALL = SoakSettings(films=120, writers=4, kills=4, pause=1.5, settle=0.5, rescan=5, patience=60)
CLEAN = Accounts()


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    draw_pictures(folder, 12, seed=1)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("soak")


@pytest.fixture(scope="module")
def soaked(work: Path) -> Soak:
    return measure_soak(work, SMALL)


@pytest.fixture
def results(soaked: Soak, work: Path, tmp_path: Path) -> Path:
    """The killed run's output folder, to plant something in."""
    return Path(shutil.copytree(work / "killed" / "out", tmp_path / "out"))


@pytest.fixture(scope="module")
def expected(soaked: Soak, work: Path) -> Expected:
    contents = Contents(work / "pictures")
    return expectation(contents, make_plan(contents, films=120, writers=4, seed=1, pauses=SMALL.pauses))


# ---- a small soak


def test_of_a_small_soak_everything_holds(soaked: Soak) -> None:
    assert [one for one in soaked.held if not one.holds] == []
    assert soaked.calm.accounts == soaked.killed.accounts == CLEAN
    assert soaked.expected == soaked.calm.dropped == soaked.killed.dropped == 120
    assert (len(soaked.calm.kills), len(soaked.killed.kills)) == (0, 4)
    assert soaked.calm.table_sha256 == soaked.killed.table_sha256
    assert soaked.lines()[-1] == "everything holds"


def test_its_record_has_every_figure_and_no_path_of_this_machine(soaked: Soak, work: Path) -> None:
    text = json.dumps(soaked.record())
    record = json.loads(text)
    assert str(work) not in text
    assert len(record["killed"]["kills"]) == 4
    assert record["killed"]["peak_mb"] > 60  # OpenCV and ONNX Runtime alone take that
    assert record["killed"]["most_files"] > 5
    assert set(record["kinds"]) == set(KINDS)
    assert sum(record["kinds"].values()) == record["expected"]
    assert record["undisturbed"]["accounts"]["lost"] == {"count": 0, "first": []}


@pytest.mark.parametrize("fault", [field.name for field in fields(Accounts)])
def test_each_kind_of_fault_is_told(soaked: Soak, fault: str) -> None:
    found = replace(soaked, killed=replace(soaked.killed, accounts=replace(CLEAN, **{fault: ("a.jpg",)})))
    assert sum(not one.holds for one in found.held) == 1
    assert found.lines()[-1].startswith("1 of ")


@pytest.mark.parametrize(
    "changed",
    [{"drained": False}, {"given_up": 2}, {"table_sha256": ""}, {"pictures_sha256": ""}, {"kills": ()},
     {"ended_alone": 1}, {"stop_s": 10.1}, {"stop_status": -9}],
)  # fmt: skip
def test_a_run_that_went_otherwise_is_told(soaked: Soak, changed: dict[str, object]) -> None:
    found = replace(soaked, killed=replace(soaked.killed, **changed))  # type: ignore[arg-type]  # fields of Run
    assert sum(not one.holds for one in found.held) == 1


# ---- the reckoning


def rewrite(out: Path, change: Callable[[list[dict[str, str]]], None]) -> None:
    """Change the rows of results.csv."""
    rows = read_table(out / "results.csv")
    columns = list(rows[0])
    change(rows)
    with open(out / "results.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def plain(rows: list[dict[str, str]]) -> dict[str, str]:
    """A row of a film that has its name and its content for itself, and nothing found in it."""
    for row in rows:
        alone = all(sum(other[key] == row[key] for other in rows) == 1 for key in ("path", "sha256"))
        if alone and row["finding"] == "no_fracture_detected":
            return row
    raise AssertionError("there is none")


def test_what_nobody_touched_is_clean(expected: Expected, results: Path) -> None:
    rewrite(results, lambda rows: None)
    assert audit(expected, results) == CLEAN


def test_a_lost_row_is_noticed(expected: Expected, results: Path) -> None:
    path = plain(read_table(results / "results.csv"))["path"]
    rewrite(results, lambda rows: rows.remove(plain(rows)))
    assert audit(expected, results) == replace(CLEAN, lost=(path,))


def test_a_film_lost_from_the_journal_is_noticed(expected: Expected, results: Path) -> None:
    with closing(sqlite3.connect(results / ".bonefrac" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("DELETE FROM film WHERE number = 7")
    assert len(audit(expected, results).lost) == 1


def test_an_empty_output_folder_has_lost_everything(expected: Expected, tmp_path: Path) -> None:
    assert len(audit(expected, tmp_path).lost) == 120


def test_a_doubled_row_is_noticed(expected: Expected, results: Path) -> None:
    path = plain(read_table(results / "results.csv"))["path"]
    rewrite(results, lambda rows: rows.append(dict(plain(rows))))
    found = audit(expected, results)
    assert found.doubled == (path,)
    assert (found.lost, found.half_written) == ((), ())


def test_a_row_of_half_a_film_is_noticed(expected: Expected, results: Path) -> None:
    def half(rows: list[dict[str, str]]) -> None:
        rows.append(plain(rows) | {"sha256": hashlib.sha256(b"half").hexdigest()})

    rewrite(results, half)
    found = audit(expected, results)
    assert len(found.half_written) == 1
    assert found.lost == ()


def test_half_a_film_that_only_the_journal_knows_is_noticed(expected: Expected, results: Path) -> None:
    """A failure that was mended is withdrawn from the table, and was an analysis of half a film all the same."""
    with closing(sqlite3.connect(results / ".bonefrac" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute(
            "INSERT INTO film (name, sha256, shown, day, picture, claimed_by, attempts, arrived, gone)"
            " VALUES (x'612e6a7067', 'ab', x'612e6a7067', '', '', '', 0, '', 1)"
        )
    assert audit(expected, results) == replace(CLEAN, half_written=("a.jpg",))


def test_a_film_that_was_replaced_in_time_and_still_has_a_row_is_noticed(
    expected: Expected, results: Path, work: Path
) -> None:
    contents = Contents(work / "pictures")
    plan = make_plan(contents, films=120, writers=4, seed=1, pauses=SMALL.pauses)
    step = next(step for steps in plan for step in steps if step.never is not None)
    never = step.never
    assert never is not None
    name = step.puts[0].name

    def keep(rows: list[dict[str, str]]) -> None:
        row = next(row for row in rows if row["path"] == name)
        rows.append(row | {"sha256": contents.sha256(never)})

    rewrite(results, keep)
    assert audit(expected, results).uninvited == (name,)


def test_a_film_set_aside_is_noticed(expected: Expected, results: Path) -> None:
    rewrite(results, lambda rows: plain(rows).update(status="failed", message="set aside"))
    assert len(audit(expected, results).not_ok) == 1


def test_results_of_two_films_mixed_up_are_noticed(expected: Expected, results: Path) -> None:
    rewrite(results, lambda rows: plain(rows).update(probability="0.1234"))
    assert len(audit(expected, results).mixed_up) == 1


def test_a_copy_that_points_nowhere_is_noticed(expected: Expected, results: Path) -> None:
    def lead_astray(rows: list[dict[str, str]]) -> None:
        next(row for row in rows if row["message"].startswith("same content as "))["message"] += "x"

    rewrite(results, lead_astray)
    assert len(audit(expected, results).copies) == 1


def test_pictures_missing_broken_and_too_many_are_noticed(expected: Expected, results: Path) -> None:
    missing, broken, *_ = sorted((results / "annotated").rglob("*.jpg"))
    missing.unlink()
    os.truncate(broken, broken.stat().st_size - 1)
    (results / "annotated" / "x.jpg").write_bytes(b"")
    assert audit(expected, results) == replace(
        CLEAN,
        pictures_missing=(missing.relative_to(results).as_posix(),),
        pictures_broken=(broken.relative_to(results).as_posix(),),
        pictures_extra=("annotated/x.jpg",),
    )


def test_what_is_left_unfinished_is_noticed(expected: Expected, results: Path) -> None:
    (results / "annotated" / ".bonefrac-part-1").touch()
    with closing(sqlite3.connect(results / ".bonefrac" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE film SET claimed_by = 'somebody', attempts = 2 WHERE number = 1")
    found = audit(expected, results)
    assert len(found.unfinished) == 2
    assert list(claims(results).values()) == [2]


# ---- plan and contents


@pytest.mark.parametrize("films", [30, 60, 61, 1000])
def test_a_plan_has_as_many_films_as_asked_for_each_with_a_path_of_its_own(films: int, pictures: Path) -> None:
    contents = Contents(pictures)
    plan = make_plan(contents, films=films, writers=films // 30 if films < 100 else 8, seed=3, pauses=0.02)
    expected = expectation(contents, plan)
    assert expected.rows.total() == films
    assert set(expected.rows.values()) == {1}
    assert {step.kind for steps in plan for step in steps} == set(KINDS)
    assert plan == make_plan(contents, films=films, writers=len(plan), seed=3, pauses=0.02)
    assert plan != make_plan(contents, films=films, writers=len(plan), seed=4, pauses=0.02)


def test_a_picture_gives_any_number_of_whole_films(pictures: Path) -> None:
    contents = Contents(pictures)
    for picture in range(len(contents)):
        one, other = (contents.data(Content(picture, number)) for number in (1, 7_000_002))
        assert one != other
        assert (decode(one, long_side=448).pixels == decode(other, long_side=448).pixels).all()
        with pytest.raises(Unreadable):
            read_header(one[:-1])
    assert {contents.suffix(Content(picture, 0)) for picture in range(len(contents))} == {".jpg", ".png", ".tif"}


def test_kills_are_spread_and_leave_time_to_start() -> None:
    lives_s = random_lives(50, 300, seed=1)
    assert len(lives_s) == 50
    assert min(lives_s) >= 2
    assert 200 < sum(lives_s) <= 300
    assert random_lives(3, 1, seed=1) == [2, 2, 2]


# ---- the companions, and the commands


def test_overflow_loses_nothing(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("inotify is Linux's")
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    before, out = limit.read_text(), tmp_path / "overflow.json"
    done = bench("overflow", tmp_path / "work", "--films", 24, "--bursts", 2, "--probes", 2, "--settle", 0.3,
                 "--rescan", 2, "--json", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert limit.read_text() == before
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["events_a_burst_at_least"] > record["queue_holds"]
    assert [one["holds"] for one in record["held"][:2]] == [True, True]  # the others are times, on whatever machine
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_drop_tells_median_and_worst(tmp_path: Path) -> None:
    out = tmp_path / "drop.json"
    done = bench("drop", "--films", 2, "--beside", 30, "--settle", 0.3, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert [one["test"] for one in record["held"]] == ["from drop to row, median", "from drop to row, worst"]
    assert len(record["row_s"]["samples"]) == 2
    assert record["row_s"]["min"] >= 0.3


def test_idle_tells_processor_memory_and_files(tmp_path: Path) -> None:
    out = tmp_path / "idle.json"
    done = bench("idle", "--films", 150, "--minutes", 0.03, "--settle", 0.3, "--rescan", 1, "--json", out)
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert (record["held"][-1]["measured"], record["held"][-1]["holds"]) == ("150", True)
    assert len(record["samples"]) == 2
    assert 0 <= record["cpu_share_of_one_core"] < 1


def test_what_does_not_hold_is_said() -> None:
    lines = sheet([Held("a", "0", "0", True), Held("b", "0", "1", False)])
    assert [line.rpartition(" ")[2] for line in lines[2:4]] == ["yes", "NO"]
    assert lines[-1] == "1 of 2 do NOT hold"


def test_held_makes_tables_and_refuses_other_files(tmp_path: Path) -> None:
    out = tmp_path / "drop.json"
    machine = {"cpu": "a", "cores": 2, "load": 0.1, "versions": {"bonefrac": "1"}}
    promise = {"test": "a", "must_hold": "b", "measured": "c", "holds": False}
    out.write_text(json.dumps({"machine": machine, "options": ["--quiet"], "held": [promise]}))
    done = bench("held", out)
    assert (done.exit_code, "| a | b | c, **missed** |" in done.output) == (0, True)
    for text in ("no JSON", "[]", '{"benchmark": "report", "parts": []}', '{"machine": null}', "\xe9"):
        other = tmp_path / "other.json"
        other.write_bytes(text.encode("latin-1"))
        done = bench("held", out, other)
        assert (done.exit_code, done.output.startswith(f"Error: {other}: is not what soak, ")) == (2, True), done.output
        assert done.output.count("\n") == 1


def test_what_cannot_be_soaked_is_one_sentence(tmp_path: Path) -> None:
    done = bench("soak", "--films", 100, "--writers", 8)
    assert (done.exit_code, "too few" in done.output) == (2, True)
    (tmp_path / "film.jpg").touch()
    for command in ("soak", "overflow", "idle", "drop"):
        done = bench(command, tmp_path)
        assert (done.exit_code, "is not empty" in done.output, done.output.count("\n")) == (2, True, 1)
