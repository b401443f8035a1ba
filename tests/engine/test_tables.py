"""tables.py: what people open. All of it is made from the ledger, and none of it ever stands half-written."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from bonefrac.ledger import Ledger, New
from bonefrac.results import Failure, Finding, Result, Source
from bonefrac.sinks import COLUMNS
from bonefrac.status import Status, write_status
from bonefrac.tables import TABLE, Tables

MODEL = {"model": "flagship 1.0", "model_sha256": "ab" * 32, "precision": "int8"}
WELL = Status(
    state="watching", heartbeat="2026-11-21T08:00:00+00:00", boot_id="", uptime_s=1.0, pid=7, started="", queue=0,
    oldest_waiting_s=0.0, unfinished_names=0, done=0,
    counts=dict.fromkeys(("fracture", "doubt", "no_fracture_detected", "not_analysed", "failed"), 0), failed=0,
    last_error="", alarms=[], polling="", disk_free_mb=5000, model=MODEL, version="1.0",
)  # fmt: skip
NASTY = '<img src=x onerror="alert(1)">&#?% ä.png'
ODD = os.fsdecode(b"sub/\xff \n.png")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger", owner="me", key="k") as ledger:
        yield ledger


def put(
    ledger: Ledger, out: Path, name: str, *, sha256: str = "", day: str = "2026-11-21", by_day: bool = False,
    result: Result | None = None,
) -> New:  # fmt: skip
    """A film that was examined, with its picture."""
    folder = f"{day}/annotated" if by_day else "annotated"
    film = New(name, sha256 or name.encode(errors="replace").hex(), name, day, f"{folder}/{name}.marked.jpg", "then")
    ledger.open_day(day)
    source = Source(name, film.sha256)
    picture = out / film.picture
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(b"picture")
    claimed = ledger.claim(ledger.find(name, film.sha256), film)
    ledger.finish(claimed, result or Finding(source, "doubt", 0.5, (), 640, 480, "", b"thumb"), MODEL,
                  picture=film.picture, now="2026-11-21T08:00:00+00:00")  # fmt: skip
    ledger.commit()
    return film


def copy(ledger: Ledger, film: New, name: str, day: str = "2026-11-21") -> None:
    first = ledger.same_content(name, film.sha256)
    assert first is not None
    ledger.open_day(day)
    ledger.copy(first, New(name, film.sha256, name, day, "", "then"), None)
    ledger.commit()


def rows(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        found = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    return found


def names(table: Path) -> list[str]:
    return [row["path"] for row in rows(table)]


class Page(HTMLParser):
    """Tags, links and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "script" and "src" in found:
            self.scripts.append(found["src"] or "")
        assert not any(name.startswith("on") for name in found)
        for name in ("src", "href"):
            assert not (found.get(name) or "").startswith(("http", "//", "javascript")), "needs a network"

    def handle_data(self, data: str) -> None:
        self.text += data


# --- results.csv -----------------------------------------------------------------------------------------------


def test_the_table_has_the_batchs_columns_in_the_order_of_names(out: Path, ledger: Ledger) -> None:
    tables = Tables(out, ledger, by_day=False)
    first = put(ledger, out, "z.png")
    put(ledger, out, "a.png", result=Failure(Source("a.png", "61"), "failed", "cut short"))
    copy(ledger, first, "=m.png", day="2026-11-22")
    tables.changed("2026-11-21")
    tables.write(WELL, 0.0)
    found = rows(out / TABLE)
    assert [row["path"] for row in found] == ["'=m.png", "a.png", "z.png"]
    assert [row["status"] for row in found] == ["ok", "failed", "ok"]
    assert [row["message"] for row in found] == ["same content as z.png", "cut short", ""]
    assert [row["probability"] for row in found] == ["0.5000", "", "0.5000"]
    assert {row["model"] for row in found} == {"flagship 1.0"}


def test_a_table_is_written_when_something_changed(out: Path, ledger: Ledger) -> None:
    tables = Tables(out, ledger, by_day=False)
    assert tables.due_s == 0.0  # after a crash nothing is known to be right
    tables.write(WELL, 100.0)
    assert names(out / TABLE) == []
    assert tables.due_s == float("inf")
    put(ledger, out, "a.png")
    tables.changed("2026-11-21")
    assert 100.0 < tables.due_s < 200.0  # not at once: writing may take a tenth of the time at most
    tables.postpone(500.0)
    assert tables.due_s == 500.0
    tables.write(WELL, 500.0)
    assert names(out / TABLE) == ["a.png"]
    assert sorted(os.listdir(out)) == ["annotated", "index.html", TABLE]


def test_with_by_day_each_day_has_a_table(out: Path, ledger: Ledger) -> None:
    tables = Tables(out, ledger, by_day=True)
    for name, day in (("a", "2026-11-20"), ("b", "2026-11-21"), ("c", "2026-11-21")):
        put(ledger, out, name, day=day, by_day=True)
        tables.changed(day)
    tables.write(WELL, 0.0)
    assert names(out / "2026-11-20" / TABLE) == ["a"]
    assert names(out / "2026-11-21" / TABLE) == ["b", "c"]
    assert not (out / TABLE).exists()
    written = (out / "2026-11-20" / TABLE).stat().st_mtime_ns
    put(ledger, out, "d", day="2026-11-21", by_day=True)
    tables.changed("2026-11-21")
    tables.write(WELL, 1.0)
    assert names(out / "2026-11-21" / TABLE) == ["b", "c", "d"]
    assert (out / "2026-11-20" / TABLE).stat().st_mtime_ns == written
    (out / "2026-11-20" / TABLE).unlink()
    Tables(out, ledger, by_day=True).write(WELL, 2.0)  # of the next process
    assert names(out / "2026-11-20" / TABLE) == ["a"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_failure_mended_on_a_later_day_leaves_the_table_of_its_own(
    out: Path, ledger: Ledger, restarted: bool
) -> None:
    tables = Tables(out, ledger, by_day=True)
    put(ledger, out, "a", day="2026-11-20", by_day=True, sha256="half",
        result=Failure(Source("a", "half"), "failed", "cut short"))  # fmt: skip
    tables.changed("2026-11-20")
    tables.write(WELL, 0.0)
    assert names(out / "2026-11-20" / TABLE) == ["a"]
    put(ledger, out, "a", day="2026-11-21", by_day=True, sha256="whole")
    tables.changed("2026-11-21")
    (Tables(out, ledger, by_day=True) if restarted else tables).write(WELL, 1.0)
    assert names(out / "2026-11-20" / TABLE) == []
    assert names(out / "2026-11-21" / TABLE) == ["a"]


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files that a spreadsheet holds open, as on Windows: nothing can be renamed over them."""
    held: set[str] = set()
    replace = os.replace

    def guarded(source: Path, target: Path) -> None:
        if target.name in held:
            raise PermissionError(13, "in use")
        replace(source, target)

    monkeypatch.setattr(os, "replace", guarded)
    return held


def test_a_table_that_is_open_elsewhere_has_a_stand_in_for_so_long(out: Path, ledger: Ledger, in_use: set[str]) -> None:
    tables = Tables(out, ledger, by_day=False)
    put(ledger, out, "a")
    tables.write(WELL, 0.0)
    assert tables.in_use == ""
    in_use.add(TABLE)
    put(ledger, out, "b")
    tables.changed("2026-11-21")
    tables.write(WELL, 100.0)
    assert (names(out / TABLE), names(out / "results.1.csv")) == (["a"], ["a", "b"])
    assert tables.in_use == "results.csv is open in another program; close it there: the newest is results.1.csv"
    assert 105.0 < tables.due_s < 150.0  # though nothing else changes, it is tried again, and not all the time
    in_use.add("results.1.csv")
    tables.write(WELL, 200.0)
    assert tables.in_use.endswith("the newest is results.2.csv")
    assert names(out / "results.2.csv") == ["a", "b"]
    in_use.clear()
    tables.write(WELL, 300.0)
    assert tables.in_use == ""
    assert tables.due_s == float("inf")
    assert names(out / TABLE) == ["a", "b"]
    assert sorted(os.listdir(out)) == ["annotated", "index.html", TABLE]


def test_a_folder_that_cannot_be_written_is_no_table_in_use(out: Path, ledger: Ledger, in_use: set[str]) -> None:
    in_use |= {TABLE, *(f"results.{number}.csv" for number in range(10))}
    tables = Tables(out, ledger, by_day=False)
    with pytest.raises(PermissionError):
        tables.write(WELL, 0.0)
    assert os.listdir(out) == []
    assert tables.due_s == 0.0  # still to be written
    in_use.clear()
    tables.write(WELL, 1.0)
    assert names(out / TABLE) == []


# --- pruning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_day", [False, True])
def test_pruning_removes_pictures_rows_and_empty_folders_and_the_ledger_still_knows(
    out: Path, ledger: Ledger, by_day: bool
) -> None:
    tables = Tables(out, ledger, by_day=by_day)
    days = ["2026-11-19", "2026-11-20", "2026-11-21"]
    films = [put(ledger, out, f"sub{day}/{day}.png", day=day, by_day=by_day) for day in days]
    copy(ledger, films[0], "copy.png", day=days[2])
    for day in days:
        tables.changed(day)
    tables.write(WELL, 0.0)
    if by_day:
        (out / days[0] / "results.1.csv").write_text("a stand-in")
    (out / "beside.txt").write_text("not ours")
    assert tables.prune(2) == 0
    assert tables.prune(0) == 2
    assert tables.prune(0) == 0
    tables.write(WELL, 1.0)
    assert names((out / days[2] if by_day else out) / TABLE) == ["copy.png", films[2].name]
    assert [(out / film.picture).exists() for film in films] == [False, False, True]
    assert sorted(path.name for path in out.rglob("*") if path.is_dir()) == sorted(
        ["annotated", f"sub{days[2]}", *([days[2]] if by_day else [])]
    )
    assert (out / "beside.txt").exists()
    for film in films:
        known = ledger.find(film.name, film.sha256)
        assert known is not None
        assert known.done
    page = Page(out / "index.html")
    assert "same content as" in page.text
    assert len(page.links) == 1  # the copy's picture went with the first's
    assert all((out / os.fsdecode(unquote_to_bytes(link))).is_file() for link in page.links)


# --- index.html ------------------------------------------------------------------------------------------------


def test_the_page_shows_names_as_text_and_links_that_lead_to_pictures(out: Path, ledger: Ledger) -> None:
    for name in (NASTY, ODD, "plain.png"):
        put(ledger, out, name)
    put(ledger, out, "bad", result=Failure(Source("bad", "62"), "failed", "<b>cut & short</b>"))
    copy(ledger, put(ledger, out, "first.png"), "copy.png")
    Tables(out, ledger, by_day=False).write(WELL, 0.0)
    page = Page(out / "index.html")
    assert NASTY in page.text
    assert "sub/\\xff \n.png" in page.text
    assert "<b>cut & short</b>" in page.text
    targets = [os.fsdecode(unquote_to_bytes(link)) for link in page.links]
    assert sorted(targets) == sorted(
        f"annotated/{name}.marked.jpg" for name in (NASTY, ODD, "plain.png", "first.png", "first.png")
    )
    assert all((out / target).is_file() for target in targets)
    assert all(link.isascii() and not set(link) & set(' "<>?#&') for link in page.links)


def test_the_page_opens_from_disk_with_a_live_status(out: Path, ledger: Ledger) -> None:
    Tables(out, ledger, by_day=False).write(WELL, 0.0)
    write_status(out, WELL)
    page = Page(out / "index.html")
    assert page.scripts == ["status.js"]
    assert (out / "status.js").is_file()
    assert "fetch(" not in page.text
    assert "No film has been analysed yet." in page.text
    assert "not for diagnosis" in page.text


def test_the_page_shows_alarms(out: Path, ledger: Ledger) -> None:
    ill = replace(WELL, alarms=["the <disk> is full", "the share is away"], queue=12, state="paused")
    Tables(out, ledger, by_day=False).write(ill, 0.0)
    page = Page(out / "index.html")
    assert "the <disk> is full" in page.text
    assert "the share is away" in page.text
    assert "disk" not in page.tags
    assert "paused" in page.text
    assert "12 waiting" in page.text


def test_the_page_is_replaced_whole_or_not_at_all(out: Path, ledger: Ledger, in_use: set[str]) -> None:
    tables = Tables(out, ledger, by_day=False)
    tables.write(WELL, 0.0)
    before = (out / "index.html").read_bytes()
    in_use.add("index.html")
    put(ledger, out, "a")
    tables.changed("2026-11-21")
    with pytest.raises(PermissionError):
        tables.write(WELL, 1.0)
    assert (out / "index.html").read_bytes() == before
    in_use.clear()
    tables.write(WELL, tables.due_s)
    assert (out / "index.html").read_bytes() != before


def test_the_page_holds_the_films_that_arrived_last(out: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonefrac.tables._ON_PAGE", 3)
    for number in range(5):
        put(ledger, out, f"film-{number}.png",
            result=Finding(Source(f"film-{number}.png", f"{number}"), "doubt", number % 3 / 10, (), 1, 1))  # fmt: skip
    Tables(out, ledger, by_day=False).write(WELL, 0.0)
    text = Page(out / "index.html").text
    assert "film-1.png" not in text
    at = [text.index(f"film-{number}.png") for number in (2, 4, 3)]
    assert at == sorted(at)  # the most suspicious first


def test_a_line_is_made_anew_when_another_model_judged_the_film(out: Path, ledger: Ledger) -> None:
    """Lines are kept from one writing to the next."""
    tables = Tables(out, ledger, by_day=False)
    put(ledger, out, "a.jpg")
    tables.changed("")
    tables.write(WELL, 0.0)
    before = (out / "results.csv").read_bytes()
    ledger.execute("UPDATE film SET key = 'another model', probability = 0.25")
    tables.changed("")
    tables.write(WELL, 1.0)
    assert b"0.2500" in (out / "results.csv").read_bytes()
    assert b"0.2500" not in before
