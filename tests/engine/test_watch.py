"""`bonefrac watch`: what it makes of an inbox, told by what it writes. Drained with --once, the real model inside."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bonefrac import desk, mounts, watch
from bonefrac.cli import batch, main
from bonefrac.instance import only_one
from bonefrac.ledger import Ledger, New

Write = Callable[..., bytes]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks lie in this test's folder, and the umask is put back."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    mask = os.umask(0o022)
    os.umask(mask)
    monkeypatch.setattr(os, "umask", _Umask(mask))


class _Umask:
    """os.umask for one test: what the command sets does not outlive it."""

    def __init__(self, before: int) -> None:
        self.now, self._real = before, os.umask

    def __call__(self, mask: int) -> int:
        before, self.now = self.now, mask
        return before


def drain(inbox: Path, out: Path, *options: object, status: int = 0) -> Result:
    """Watch until nothing waits."""
    arguments = ["watch", inbox, "--out", out, "--once", "--settle", 0, "--give-up", 0, "--quiet", *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def inbox(tmp_path: Path, write_film: Write) -> Path:
    """Two fractured films, a clean one in a sub-folder, and a text."""
    folder = tmp_path / "inbox"
    write_film(folder / "b.jpg", 1)
    write_film(folder / "a.png", 2)
    write_film(folder / "sub" / "c.jpg", 3, fractured=False)
    (folder / "notes.txt").write_text("no film, but somebody put it here")
    return folder


def test_the_table_is_that_of_a_batch(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "watched", "--annotate", "all")
    arguments = [inbox, "--out", tmp_path / "batch", "--quiet", "--annotate", "all"]
    CliRunner().invoke(batch, [str(argument) for argument in arguments])
    assert (tmp_path / "watched" / "results.csv").read_bytes() == (tmp_path / "batch" / "results.csv").read_bytes()
    pictures = [
        {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.marked.jpg")}
        for out in (tmp_path / "watched", tmp_path / "batch")
    ]
    assert len(pictures[0]) == 3
    assert pictures[0] == pictures[1]


def test_a_second_run_finds_nothing_to_do(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out")
    table = (tmp_path / "out" / "results.csv").read_bytes()
    before = (tmp_path / "out" / "watch.log").read_text()
    drain(inbox, tmp_path / "out")
    assert "film " not in (tmp_path / "out" / "watch.log").read_text().removeprefix(before)
    assert (tmp_path / "out" / "results.csv").read_bytes() == table


def test_a_changed_file_is_a_new_film_and_the_old_one_keeps_its_row_and_picture(
    inbox: Path, tmp_path: Path, write_film: Write
) -> None:
    out = tmp_path / "out"
    drain(inbox, out, "--annotate", "all")
    write_film(inbox / "b.jpg", 5)
    drain(inbox, out, "--annotate", "all")
    assert [row["path"] for row in rows(out)].count("b.jpg") == 2
    assert len({row["sha256"] for row in rows(out) if row["path"] == "b.jpg"}) == 2
    pictures = list((out / "annotated").glob("b.jpg*.marked.jpg"))
    assert len(pictures) == 2
    assert len({picture.read_bytes() for picture in pictures}) == 2


def test_a_removed_film_keeps_its_row(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out")
    (inbox / "b.jpg").unlink()
    drain(inbox, tmp_path / "out")
    assert "b.jpg" in [row["path"] for row in rows(tmp_path / "out")]


def test_the_same_content_under_another_name_points_to_the_first(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out", "--annotate", "all")
    (inbox / "again.jpg").write_bytes((inbox / "b.jpg").read_bytes())
    drain(inbox, tmp_path / "out", "--annotate", "all")
    again, first = (
        next(row for row in rows(tmp_path / "out") if row["path"] == name) for name in ("again.jpg", "b.jpg")
    )
    assert again == {**first, "path": "again.jpg", "message": "same content as b.jpg"}
    assert not list((tmp_path / "out" / "annotated").glob("again*"))


def test_copies_that_arrive_together_are_analysed_once(tmp_path: Path, write_film: Write) -> None:
    for name in ("one.jpg", "two.jpg", "three.jpg"):
        write_film(tmp_path / "inbox" / name, 1)
    drain(tmp_path / "inbox", tmp_path / "out")
    log = (tmp_path / "out" / "watch.log").read_text()
    assert log.count("film copy") == 2
    assert [row["message"] for row in rows(tmp_path / "out")] == [
        "",
        "same content as one.jpg",
        "same content as one.jpg",
    ]


def test_a_failure_of_a_file_that_was_not_finished_is_withdrawn(tmp_path: Path, write_film: Write) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    whole = write_film(inbox / "slow.jpg", 1)
    (inbox / "slow.jpg").write_bytes(whole[:5000])
    drain(inbox, out, status=1)
    assert [row["status"] for row in rows(out)] == ["failed"]
    (inbox / "slow.jpg").write_bytes(whole)
    drain(inbox, out)
    assert [row["status"] for row in rows(out)] == ["ok"]


def test_by_day_everything_lies_in_the_day_of_its_arrival(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out", "--by-day", "--annotate", "all")
    (day,) = [path for path in (tmp_path / "out").iterdir() if re.fullmatch(r"\d{4}-\d\d-\d\d", path.name)]
    assert len(rows(day)) == 4
    assert len(list(day.rglob("*.marked.jpg"))) == 3
    assert not (tmp_path / "out" / "results.csv").exists()
    page = (tmp_path / "out" / "index.html").read_text()
    assert f'href="{day.name}/annotated/sub/c.jpg.marked.jpg"' in page


def test_old_days_are_pruned_and_not_analysed_again(
    inbox: Path, tmp_path: Path, write_film: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    set_day(monkeypatch, "2026-01-01")
    drain(inbox, out, "--annotate", "all", "--keep-days", 2)
    set_day(monkeypatch, "2026-01-01")  # begun once more: still one day
    drain(inbox, out, "--annotate", "all", "--keep-days", 2)
    set_day(monkeypatch, "2026-01-02")
    write_film(inbox / "second.jpg", 7)
    drain(inbox, out, "--annotate", "all", "--keep-days", 2)
    assert len(rows(out)) == 5
    set_day(monkeypatch, "2099-12-31")  # a clock gone wrong counts as one day, however far it jumps
    drain(inbox, out, "--annotate", "all", "--keep-days", 2)
    set_day(monkeypatch, "2026-01-02")
    drain(inbox, out, "--annotate", "all", "--keep-days", 2)
    assert len(rows(out)) == 5
    for later in ("2026-01-03", "2026-01-04"):
        set_day(monkeypatch, later)
        drain(inbox, out, "--annotate", "all", "--keep-days", 2)
    assert [row["path"] for row in rows(out)] == ["second.jpg"]
    assert [path.name for path in (out / "annotated").rglob("*") if path.is_file()] == ["second.jpg.marked.jpg"]
    log = (out / "watch.log").read_text()
    assert log.count("INFO film ") == 5


def set_day(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    """The calendar as the watcher sees it."""
    from bonefrac import watcher

    class _Clock:
        @staticmethod
        def now() -> object:
            return _Clock()

        def astimezone(self) -> object:
            return self

        def date(self) -> object:
            return self

        def isoformat(self) -> str:
            return day

    monkeypatch.setattr(desk, "datetime", _Clock)
    monkeypatch.setattr(watcher, "datetime", _Clock)


def test_archive_moves_what_was_analysed_and_quarantine_copies_what_failed(
    inbox: Path, tmp_path: Path, write_film: Write
) -> None:
    before = {path.name: path.read_bytes() for path in inbox.rglob("*") if path.is_file()}
    damaged = write_film(inbox / "damaged.jpg", 4)[:4000]
    (inbox / "damaged.jpg").write_bytes(damaged)
    archive, quarantine = tmp_path / "archive", tmp_path / "quarantine"
    drain(inbox, tmp_path / "out", "--archive", archive, "--quarantine", quarantine, status=1)
    assert {path.name for path in inbox.rglob("*") if path.is_file()} == {"notes.txt", "damaged.jpg"}
    archived = {
        path.relative_to(archive).as_posix(): path.read_bytes() for path in archive.rglob("*") if path.is_file()
    }
    assert archived == {"a.png": before["a.png"], "b.jpg": before["b.jpg"], "sub/c.jpg": before["c.jpg"]}
    assert (quarantine / "damaged.jpg").read_bytes() == damaged
    assert "cut short" in (quarantine / "damaged.jpg.reason.txt").read_text()
    assert len(rows(tmp_path / "out")) == 5
    (inbox / "b.jpg").write_bytes(before["b.jpg"])  # the same film once more
    drain(inbox, tmp_path / "out", "--archive", archive, "--quarantine", quarantine)
    assert not (inbox / "b.jpg").exists()
    assert len(rows(tmp_path / "out")) == 5


def test_more_originals_than_one_round_moves_are_all_moved(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(inbox, tmp_path / "out")
    rounds: list[int] = []
    work = desk.Desk.work
    monkeypatch.setattr(desk, "MOST_MOVED", 1)
    monkeypatch.setattr(desk.Desk, "work", lambda *given: rounds.append(work(*given)) or rounds[-1])
    drain(inbox, tmp_path / "out", "--archive", tmp_path / "archive")
    assert [path.name for path in inbox.rglob("*") if path.is_file()] == ["notes.txt"]
    assert max(rounds) == 1


def test_originals_are_only_read(inbox: Path, tmp_path: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in inbox.rglob("*") if path.is_file()}
    for folder in (inbox / "sub", inbox):
        folder.chmod(0o555)
    drain(inbox, tmp_path / "out")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in inbox.rglob("*") if path.is_file()} == before


def test_redacted_outputs_hold_no_name(tmp_path: Path, write_film: Write) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    write_film(inbox / "SMITH_JOHN" / "hand.jpg", 1)
    write_film(inbox / "SMITH_JOHN" / "hand-again.jpg", 1)
    (inbox / "doe-jane.jpg").write_bytes(b"\xff\xd8 damaged")
    drain(inbox, out, "--redact", "--annotate", "all", status=1)
    kept = {out / ".bonefrac" / name for name in ("ledger.sqlite", "ledger.sqlite-wal", "names.jsonl")}
    for path in out.rglob("*"):
        assert not re.search("smith|doe|hand", str(path.relative_to(out)), re.IGNORECASE), path
        if path.is_file() and path not in kept:
            assert not re.search(rb"smith|doe-|hand", path.read_bytes(), re.IGNORECASE), path
    names = [json.loads(line) for line in (out / ".bonefrac" / "names.jsonl").read_text().splitlines()]
    told = {line["pseudonym"]: line["name"] for line in names[1:]}
    assert {told[row["path"]] for row in rows(out)} == {
        "SMITH_JOHN/hand.jpg", "SMITH_JOHN/hand-again.jpg", "doe-jane.jpg",
    }  # fmt: skip
    assert stat.S_IMODE((out / ".bonefrac" / "names.jsonl").stat().st_mode) == 0o600
    refused = drain(inbox, out, status=2)
    assert "choose another --out" in refused.output


def test_the_log_holds_neither_names_nor_paths(inbox: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        [
            "watch",
            str(inbox),
            "--out",
            str(tmp_path / "out"),
            "--once",
            "--settle",
            "0",
            "--give-up",
            "0",
            "--log-json",
        ],
    )
    lines = [json.loads(line) for line in (tmp_path / "out" / "watch.log").read_text().splitlines()]
    assert len([line for line in lines if line["message"].startswith("film ")]) == 4
    told = result.output + (tmp_path / "out" / "watch.log").read_text()
    assert not re.search(r"a\.png|b\.jpg|c\.jpg|notes|" + re.escape(str(tmp_path)), told)


def test_status_tells_and_its_exit_status_is_for_a_monitor(inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert CliRunner().invoke(main, ["status", str(tmp_path)]).exit_code == 2
    drain(inbox, out)
    drained = CliRunner().invoke(main, ["status", str(out)])
    assert drained.exit_code == 0, drained.output
    assert drained.output.startswith("drained")
    status = json.loads((out / "status.json").read_text())
    (out / "status.json").write_text(json.dumps({**status, "state": "stopped"}))
    stopped = CliRunner().invoke(main, ["status", str(out)])
    assert stopped.exit_code == 1, "stopped is not well"
    assert stopped.output.startswith("stopped")
    (out / "status.json").write_text(json.dumps({**status, "state": "watching"}))
    alive = CliRunner().invoke(main, ["status", str(out)])
    assert alive.exit_code == 0, alive.output
    assert "done     4, of which failed 0" in alive.output
    (out / "status.json").write_text(json.dumps({**status, "state": "watching", "uptime_s": status["uptime_s"] - 61}))
    dead = CliRunner().invoke(main, ["status", str(out)])
    assert dead.exit_code == 1
    assert dead.output.startswith("NOT ALIVE")


@pytest.mark.parametrize("option", ["--out", "--archive", "--quarantine", "--state"])
def test_folders_in_each_others_way_are_refused_through_links_too(inbox: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "link").symlink_to(inbox / "sub")
    for place in (inbox / "x", tmp_path / "link" / "x", inbox, tmp_path):
        options = {"--out": tmp_path / "out", option: place}
        flat = [str(word) for pair in options.items() for word in pair]
        result = CliRunner().invoke(main, ["watch", str(inbox), *flat, "--once"])
        assert result.exit_code == 2, (option, place, result.output)
        assert "choose another folder" in result.output
    assert sorted(path.name for path in inbox.iterdir()) == ["a.png", "b.jpg", "notes.txt", "sub"]


def test_a_journal_on_a_share_is_refused_with_where_to_put_it(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "file_system", lambda path: "cifs" if "share" in path.parts else "ext4")
    monkeypatch.setattr(watch, "file_system", mounts.file_system)
    refused = drain(inbox, tmp_path / "share", status=2)
    assert "--state" in refused.output
    assert "cifs" in refused.output
    drain(inbox, tmp_path / "share", "--state", tmp_path / "here")
    assert (tmp_path / "here" / "ledger.sqlite").exists()
    assert len(rows(tmp_path / "share")) == 4


def test_results_of_another_inbox_are_refused(inbox: Path, tmp_path: Path, write_film: Write) -> None:
    drain(inbox, tmp_path / "out")
    write_film(tmp_path / "other" / "b.jpg", 9)
    assert "another inbox" in drain(tmp_path / "other", tmp_path / "out", status=2).output


def test_an_inbox_that_never_was_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in drain(tmp_path / "nowhere", tmp_path / "out", status=2).output
    assert not (tmp_path / "out").exists()


def test_another_model_looks_at_what_is_there_again(inbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    drain(inbox, out)
    drain(inbox, out, "--precision", "float32")
    assert {row["precision"] for row in rows(out)} == {"float32"}
    assert len(rows(out)) == 4


def test_files_are_for_their_owner_alone_unless_the_umask_says_otherwise(tmp_path: Path, write_film: Write) -> None:
    import subprocess
    import sys

    write_film(tmp_path / "inbox" / "a.jpg", 1)
    for mask, file_mode, folder_mode in (("077", 0o600, 0o700), ("027", 0o640, 0o750)):
        out = tmp_path / mask
        program = "from bonefrac.cli import main; main()"
        arguments = ["watch", tmp_path / "inbox", "--out", out, "--once", "--settle", "0", "--umask", mask, "--quiet"]
        subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=True)
        for path in (out, *out.rglob("*")):
            mode = 0o600 if path.name.startswith("ledger") else folder_mode if path.is_dir() else file_mode
            assert stat.S_IMODE(path.stat().st_mode) == mode, path
    assert CliRunner().invoke(main, ["watch", "x", "--out", "y", "--umask", "9"]).exit_code == 2


def test_the_service_files_start_the_watch_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["in", "--out", "r", "--archive", "arc", "--settle", "3.5", "--by-day", "--umask", "027"]
    unit = CliRunner().invoke(main, ["service", "--systemd", *arguments]).output
    (start,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert start.endswith(
        f"/bonefrac watch {tmp_path}/in --out {tmp_path}/r --archive {tmp_path}/arc --settle 3.5 --by-day --umask 027"
    )
    for folder in ("r", "arc", "in"):
        assert f"ReadWritePaths={tmp_path / folder}" in unit
    written = CliRunner().invoke(main, ["service", "--windows", *arguments, "--write", "task.xml"])
    assert written.exit_code == 0, written.output
    assert "--by-day" in (tmp_path / "task.xml").read_bytes().decode("utf-16")
    assert CliRunner().invoke(main, ["service", *arguments]).exit_code == 2


def test_what_no_disk_holds_room_for_is_not_begun(inbox: Path, tmp_path: Path) -> None:
    result = drain(inbox, tmp_path / "out", "--min-free", 10**9, status=2)
    assert "no new film is taken" in result.output
    assert rows(tmp_path / "out") == []
    drain(inbox, tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 4


def test_the_ledger_remembers_what_was_pruned(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out")
    with Ledger(tmp_path / "out" / ".bonefrac" / "ledger.sqlite", owner="test", key="another") as ledger:
        assert sum(ledger.counts().values()) == 4
        assert ledger.looks() == {}, "with another model's key, everything is looked at again"


def test_an_archive_that_cannot_be_written_is_told_and_originals_stay(inbox: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_text("a file stands in its way")
    refused = drain(inbox, tmp_path / "out", "--archive", archive, status=2)
    assert "archive" in refused.output
    assert len([path for path in inbox.rglob("*") if path.is_file()]) == 4
    assert len(rows(tmp_path / "out")) == 4
    archive.unlink()
    drain(inbox, tmp_path / "out", "--archive", archive)
    assert [path.name for path in inbox.rglob("*") if path.is_file()] == ["notes.txt"]
    archive.rename(tmp_path / "unplugged")
    (inbox / "b.jpg").write_bytes((tmp_path / "unplugged" / "b.jpg").read_bytes())
    assert "originals stay" in drain(inbox, tmp_path / "out", "--archive", archive, status=2).output
    assert (inbox / "b.jpg").exists()
    assert not archive.exists(), "a folder was made where a disk is away"


def test_results_that_are_away_are_not_begun_anew_beside_their_journal(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out", "--state", tmp_path / "state-here")
    (tmp_path / "out").rename(tmp_path / "unplugged")
    assert "mount it" in drain(inbox, tmp_path / "out", "--state", tmp_path / "state-here", status=2).output
    assert not (tmp_path / "out").exists()


def test_results_are_no_inbox(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out")
    assert "never films" in drain(tmp_path / "out", tmp_path / "other", status=2).output


def test_a_film_that_became_a_copy_leaves_no_picture_behind(inbox: Path, tmp_path: Path, write_film: Write) -> None:
    """With another model everything is looked at again, in the order of names."""
    out = tmp_path / "out"
    drain(inbox, out, "--annotate", "all")
    (inbox / "a-copy-of-b.jpg").write_bytes((inbox / "b.jpg").read_bytes())
    drain(inbox, out, "--annotate", "all", "--precision", "float32")
    by_name = {row["path"]: row for row in rows(out)}
    assert [name for name, row in by_name.items() if row["message"].startswith("same content")] == ["b.jpg"]
    assert not (out / "annotated" / "b.jpg.marked.jpg").exists()
    assert len(list((out / "annotated").rglob("*.marked.jpg"))) == 3


def test_one_picture_that_cannot_be_written_stops_no_other_film(inbox: Path, tmp_path: Path, write_film: Write) -> None:
    """A folder in the inbox has the name that the picture of a film would have."""
    write_film(inbox / "b.jpg.marked.jpg" / "d.jpg", 4)
    drain(inbox, tmp_path / "out", "--annotate", "all")
    by_name = {row["path"]: row for row in rows(tmp_path / "out")}
    assert len(by_name) == 5
    assert by_name["b.jpg"]["status"] == "ok"
    assert "no picture" in by_name["b.jpg"]["message"] or "no picture" in by_name["b.jpg.marked.jpg/d.jpg"]["message"]


def test_another_place_for_the_journal_is_refused(inbox: Path, tmp_path: Path) -> None:
    drain(inbox, tmp_path / "out", "--state", tmp_path / "one")
    table = (tmp_path / "out" / "results.csv").read_bytes()
    for options in ((), ("--state", tmp_path / "two")):
        refused = drain(inbox, tmp_path / "out", *options, status=2)
        assert f"add --state {tmp_path / 'one'}" in " ".join(refused.output.split())
    assert (tmp_path / "out" / "results.csv").read_bytes() == table


def test_a_failed_film_is_told_by_the_exit_status_though_it_is_a_copy(tmp_path: Path, write_film: Write) -> None:
    damaged = write_film(tmp_path / "film.jpg", 1)[:3000]
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "inbox").mkdir(exist_ok=True)
        (tmp_path / "inbox" / name).write_bytes(damaged)
        assert drain(tmp_path / "inbox", tmp_path / "out", status=1).exit_code == 1
    assert [row["status"] for row in rows(tmp_path / "out")] == ["failed", "failed"]


@pytest.mark.parametrize("option", ["--state", "--out"])
def test_a_folder_that_cannot_be_made_is_one_sentence(inbox: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("no folder")
    options = {"--out": tmp_path / "out", option: tmp_path / "file" / "below"}
    flat = [str(word) for pair in options.items() for word in pair]
    result = CliRunner().invoke(main, ["watch", str(inbox), *flat, "--once"])
    assert result.exit_code == 2, result.output
    assert result.output.startswith("Error: ")
    assert len(result.output.strip().splitlines()) == 1


def test_a_picture_that_was_drawn_for_no_row_goes(inbox: Path, tmp_path: Path, write_film: Write) -> None:
    """The process ended between picture and row, and then the film was replaced."""
    out = tmp_path / "out"
    drain(inbox, out, "--annotate", "all")
    new = New("cut-off.jpg", "0" * 64, "cut-off.jpg", "2026-01-01", "annotated/cut-off.jpg.marked.jpg", "then")
    with Ledger(out / ".bonefrac" / "ledger.sqlite", owner="another process", key="k") as ledger:
        ledger.claim(None, new)
    (out / new.picture).write_bytes(b"drawn")
    write_film(inbox / "cut-off.jpg", 9, fractured=False)
    drain(inbox, out)
    assert not (out / new.picture).exists()
    assert [row["path"] for row in rows(out)].count("cut-off.jpg") == 1


def test_another_user_of_the_machine_is_refused_too(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with only_one(inbox, print):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of another user"))
        assert "another user" in drain(inbox, tmp_path / "out", status=2).output
    assert not (tmp_path / "out").exists()
    drain(inbox, tmp_path / "out")
