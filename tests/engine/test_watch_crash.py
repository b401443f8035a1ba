"""What a watcher must survive: kill -9 at every step, poison, full disks, a share that goes away, stops."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Write = Callable[..., bytes]
WATCH = "from bonefrac.cli import main; main()"
# Every call that leaves a trace outside of the process is a step. For each step in turn a fork kills itself just before
# it, and another one goes on where that left off: forks, for the imports take longer than the film.
KILL_AT_EVERY_STEP = """
import itertools, json, os, pathlib, shutil, signal, sys
import bonefrac.cli, bonefrac.watch
from bonefrac.database import Database

def counted(call, counter, kill_at):
    def step(*arguments, **options):
        if next(counter) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return step

def forked(place, kill_at):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    if kill_at:
        counter = itertools.count(1)
        for owner, names in ((os, ("replace", "unlink", "fsync", "mkdir")), (Database, ("commit",))):
            for name in names:
                setattr(owner, name, counted(getattr(owner, name), counter, kill_at))
    arguments = ["watch", place / "inbox", "--out", place / "out", "--archive", place / "archive", "--annotate", "all"]
    arguments += ["--once", "--settle", 0, "--quiet"]
    try:
        bonefrac.cli.main([str(argument) for argument in arguments], standalone_mode=False)
    except SystemExit as end:
        os._exit(end.code)
    finally:
        os._exit(9)

root, film = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
for kill_at in itertools.count():
    place = root / str(kill_at)
    (place / "inbox").mkdir(parents=True)
    shutil.copy(film, place / "inbox" / "film.jpg")
    first = forked(place, kill_at)
    again = forked(place, 0)
    print(json.dumps([first, again]), flush=True)
    if kill_at and first == 0:
        break
"""
# A film that bears the mark ends the process in the decoder, as a broken library would.
POISONED = """
import os, signal
from bonefrac import pipeline

decode = pipeline.decode

def poisoned(data, **options):
    if b"POISON" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(data, **options)

pipeline.decode = poisoned
from bonefrac.cli import main
main()
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def command(program: str, inbox: Path, out: Path, *options: object) -> list[str]:
    words = ["watch", inbox, "--out", out, "--settle", 0.2, "--give-up", 2, "--rescan", 1, *options]
    return [sys.executable, "-c", program, *map(str, words)]


def run(program: str, inbox: Path, out: Path, *options: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(program, inbox, out, "--quiet", *options),
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def rows(out: Path) -> list[dict[str, str]]:
    try:
        with open(out / "results.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def status(out: Path) -> dict[str, object]:
    try:
        return json.loads((out / "status.json").read_text())
    except FileNotFoundError:
        return {}


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a watcher in the background; it is ended with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(inbox: Path, out: Path, *options: object, program: str = WATCH) -> subprocess.Popen[str]:
        with open(tmp_path / "terminal", "a") as terminal:
            process = subprocess.Popen(command(program, inbox, out, *options), stderr=terminal, text=True)
        running.append(process)
        wait_until(lambda: process.poll() is not None or status(out).get("pid") == process.pid, "the first heartbeat")
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_killed_at_every_step_of_one_film_there_is_one_row_and_one_picture(tmp_path: Path, write_film: Write) -> None:
    film = write_film(tmp_path / "film.jpg", 1)
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT_EVERY_STEP, tmp_path, tmp_path / "film.jpg"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    undisturbed, *killed, last = ends
    assert undisturbed == last == [0, 0]
    assert len(killed) > 25, "this test tests little"
    assert killed == [[signal.SIGKILL, 0]] * len(killed)
    expected = rows(tmp_path / "0" / "out")
    assert len(expected) == 1
    for step in range(len(ends)):
        place = tmp_path / str(step)
        assert rows(place / "out") == expected, f"killed before step {step}"
        assert [path.name for path in (place / "out").rglob("*.jpg")] == ["film.jpg.marked.jpg"]
        assert not list(place.rglob(".bonefrac-part-*")), f"killed before step {step}"
        originals = [path for folder in ("inbox", "archive") for path in (place / folder).glob("*")]
        assert originals == [place / "archive" / "film.jpg"], f"killed before step {step}"
        assert originals[0].read_bytes() == film


def test_a_film_that_ends_the_process_is_set_aside_after_three_times_and_all_others_are_done(
    tmp_path: Path, write_film: Write
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    for seed in range(8):
        write_film(inbox / f"{seed}.jpg", seed)
    poison = write_film(inbox / "3.jpg", 30)
    (inbox / "3.jpg").write_bytes(poison[:2] + b"\xff\xfe\x00\x08POISON" + poison[2:])
    ends = []
    for _ in range(5):
        ends.append(run(POISONED, inbox, out, "--once").returncode)
        if ends[-1] >= 0:
            break
    assert ends == [-signal.SIGSEGV] * 3 + [1]
    assert [row["path"] for row in rows(out)] == [f"{seed}.jpg" for seed in range(8)]
    failed = [row for row in rows(out) if row["status"] != "ok"]
    assert [row["path"] for row in failed] == ["3.jpg"]
    assert "set aside" in failed[0]["message"]
    assert run(POISONED, inbox, out, "--once").returncode == 0, "it was tried once more"


def test_a_stop_finishes_what_is_in_hand_and_ends_well_within_ten_seconds(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    for seed in range(30):
        write_film(inbox / f"{seed:02}.jpg", seed)
    for stop in (signal.SIGTERM, signal.SIGINT):
        process = watcher(inbox, out, "--annotate", "all")
        before = len(rows(out))
        wait_until(lambda: len(list(out.rglob("*.marked.jpg"))) > before + 3, "some films")  # noqa: B023
        process.send_signal(stop)
        assert process.wait(timeout=10) == 0
        assert "Traceback" not in (tmp_path / "terminal").read_text()
        assert len(rows(out)) == len(list(out.rglob("*.marked.jpg"))) > before
        assert status(out)["state"] == "stopped"
    assert run(WATCH, inbox, out, "--once").returncode == 0
    assert len(rows(out)) == 30


def test_a_stop_does_not_wait_for_a_backlog_of_what_are_no_films(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    for number in range(100):
        with open(inbox / f"{number}.raw", "wb") as file:
            file.write(b"a video, say")
            file.truncate(400_000_000)
    write_film(inbox / "z.jpg", 1)
    process = watcher(inbox, out, "--give-up", 1)
    wait_until(lambda: len(rows(out)) >= 2, "the film, and one that is none")
    assert [row["status"] for row in rows(out) if row["path"] == "z.jpg"] == ["ok"], "films come before what is none"
    process.terminate()
    assert process.wait(timeout=10) == 0
    assert len(rows(out)) < 101, "all was done before the stop: this test tests nothing"


def test_the_heart_beats_though_a_table_cannot_be_written(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    watcher(inbox, out)
    (out / "results.csv").unlink()
    (out / "results.csv").mkdir()
    write_film(tmp_path / "a.jpg", 1)
    (tmp_path / "a.jpg").rename(inbox / "a.jpg")
    wait_until(lambda: "cannot be written" in str(status(out)["alarms"]), "the alarm")
    (out / "results.csv").rmdir()
    wait_until(lambda: len(rows(out)) == 1 and status(out)["alarms"] == [], "the table, and no alarm")
    assert rows(out)[0]["path"] == "a.jpg"


def test_systemd_hears_of_the_start_the_life_and_the_end(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_film(tmp_path / "inbox" / "a.jpg", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(15)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        process = watcher(tmp_path / "inbox", tmp_path / "out")
        assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
        process.terminate()
        heard = b""
        while heard != b"STOPPING=1":
            heard = systemd.recv(100)
            assert heard in (b"WATCHDOG=1", b"STOPPING=1")
    assert process.wait(timeout=10) == 0


def test_a_journal_that_was_deleted_is_told(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    write_film(tmp_path / "inbox" / "a.jpg", 1)
    process = watcher(tmp_path / "inbox", tmp_path / "out")
    (tmp_path / "out" / ".bonefrac" / "ledger.sqlite").unlink()
    wait_until(lambda: "journal was deleted" in str(status(tmp_path / "out")["alarms"]), "the alarm")
    assert process.poll() is None


def test_a_second_watcher_is_refused_and_a_killed_one_is_taken_over(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox = tmp_path / "inbox"
    write_film(inbox / "a.jpg", 1)
    first = watcher(inbox, tmp_path / "out")
    second = run(WATCH, inbox, tmp_path / "other", "--once")
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    first.kill()
    first.wait()
    third = run(WATCH, inbox, tmp_path / "out", "--once")
    assert third.returncode == 0, third.stderr
    assert (
        f"took over the inbox from a watcher that ended without a word (process {first.pid})"
        in (tmp_path / "out" / "watch.log").read_text()
    )


def test_a_writer_that_pauses_is_waited_for(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    film = write_film(tmp_path / "film.jpg", 1)
    watcher(inbox, out, "--give-up", 30)
    with open(inbox / "slow.jpg", "wb") as file:
        for part in (film[:1], film[1 : len(film) // 2], film[len(film) // 2 :]):
            file.write(part)
            file.flush()
            time.sleep(1.2)  # six times --settle: a writer's pause is real time
            if part is not film[-len(part) :] and file.tell() < len(film):
                assert rows(out) == []
    wait_until(lambda: rows(out), "the film's row")
    assert [row["status"] for row in rows(out)] == ["ok"]


def test_a_log_that_was_moved_away_is_begun_anew_after_sighup(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    process = watcher(inbox, out)
    (out / "watch.log").rename(out / "watch.log.old")
    process.send_signal(signal.SIGHUP)
    write_film(tmp_path / "a.jpg", 1)
    (tmp_path / "a.jpg").rename(inbox / "a.jpg")
    wait_until(lambda: rows(out), "the film's row")
    assert "film " in (out / "watch.log").read_text()
    assert process.poll() is None


def test_an_inbox_that_goes_away_is_told_and_gone_on_with(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    write_film(inbox / "a.jpg", 1)
    watcher(inbox, out)
    wait_until(lambda: len(rows(out)) == 1, "the first film")
    inbox.rename(tmp_path / "away")
    wait_until(lambda: status(out)["alarms"], "the alarm")
    assert "away" in str(status(out)["alarms"])
    write_film(tmp_path / "away" / "b.jpg", 2)
    (tmp_path / "away").rename(inbox)
    wait_until(lambda: len(rows(out)) == 2 and not status(out)["alarms"], "the second film, and no alarm")
    write_film(tmp_path / "c.jpg", 3)
    (tmp_path / "c.jpg").rename(inbox / "c.jpg")
    wait_until(lambda: len(rows(out)) == 3, "a film that came after it")
    assert {row["status"] for row in rows(out)} == {"ok"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """disk(name, size): a small disk of its own, mounted."""
    mounted: list[Path] = []

    def mount(name: str, size: str) -> Path:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip("a small disk cannot be mounted here: needs root")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def test_a_share_that_is_unmounted_is_not_an_empty_folder(
    tmp_path: Path, write_film: Write, disk: Callable[[str, str], Path], watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "out"
    share = disk("share", "8m")
    write_film(share / "a.jpg", 1)
    watcher(share, out)
    wait_until(lambda: len(rows(out)) == 1, "the first film")
    subprocess.run(["umount", "-l", share], check=True)
    wait_until(lambda: "not mounted" in str(status(out)["alarms"]), "the alarm")
    disk("share", "8m")
    write_film(share / "b.jpg", 2)
    wait_until(lambda: len(rows(out)) == 2 and not status(out)["alarms"], "the film on the share that came back")
    assert [row["path"] for row in rows(out)] == ["a.jpg", "b.jpg"]


def test_full_disks_are_told_waited_out_and_nothing_is_lost(
    tmp_path: Path, write_film: Write, disk: Callable[[str, str], Path], watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    """The results' disk first, then the journal's, are filled by somebody else while films arrive."""
    inbox, results, journal = tmp_path / "inbox", disk("results", "4m"), disk("journal", "4m")
    inbox.mkdir()
    out, state = results / "out", journal / "state"
    process = watcher(inbox, out, "--state", state, "--annotate", "all", "--min-free", 0)
    told = 0
    for number, full in enumerate((results, journal)):
        fill(full / "filler")
        for seed in range(6):
            write_film(tmp_path / "new.jpg", 10 * number + seed)
            (tmp_path / "new.jpg").rename(inbox / f"{number}-{seed}.jpg")
        terminal = tmp_path / "terminal"
        wait_until(lambda: len(re.findall("full|No space", terminal.read_text())) > told, "the alarm")  # noqa: B023
        told = len(re.findall("full|No space", terminal.read_text()))
        assert process.poll() is None
        (full / "filler").unlink()
        wait_until(lambda: len(rows(out)) == 6 * (number + 1), "all films")  # noqa: B023
        wait_until(lambda: status(out)["alarms"] == [], "no alarm")
    assert {row["status"] for row in rows(out)} == {"ok"}
    assert str(tmp_path) not in (tmp_path / "terminal").read_text()
    assert len(list(out.rglob("*.marked.jpg"))) == 12
    process.terminate()
    assert process.wait(timeout=10) == 0
    assert not list(results.rglob(".bonefrac-part-*"))


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


def test_with_little_space_left_no_film_is_begun_until_there_is_more(
    tmp_path: Path, write_film: Write, disk: Callable[[str, str], Path], watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    inbox, results = tmp_path / "inbox", disk("results", "16m")
    write_film(inbox / "a.jpg", 1)
    (results / "filler").write_bytes(b"x" * 12_000_000)
    out = results / "out"
    watcher(inbox, out, "--min-free", 8)
    wait_until(lambda: "no new film is taken" in str(status(out).get("alarms")), "the alarm")
    assert status(out)["state"] == "paused"
    assert rows(out) == []
    (results / "filler").unlink()
    wait_until(lambda: len(rows(out)) == 1, "the film")


def test_lost_events_cost_time_and_no_film(
    tmp_path: Path, write_film: Write, watcher: Callable[..., subprocess.Popen[str]]
) -> None:
    """The kernel's queue of events really overflows while the watcher stands still."""
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    (inbox / "noise").mkdir(parents=True)
    film = write_film(tmp_path / "film.jpg", 1)
    process = watcher(inbox, out)
    process.send_signal(signal.SIGSTOP)
    for number in range(2 * int(limit.read_text()) // 3):  # created, modified, closed: three events each
        (inbox / "noise" / f"{number % 50}.tmp").write_bytes(b"x")
    (inbox / "film.jpg").write_bytes(film)
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: len(rows(out)) == 1, "the film", seconds=15)
    assert [row["path"] for row in rows(out)] == ["film.jpg"]


@pytest.mark.parametrize(("limit", "value"), [("max_user_instances", "0"), ("max_user_watches", "0")])
def test_where_the_machine_has_no_more_events_to_give_it_polls_and_says_so(
    tmp_path: Path, write_film: Write, limit: str, value: str
) -> None:
    write_film(tmp_path / "inbox" / "sub" / "a.jpg", 1)
    place = Path("/proc/sys/fs/inotify", limit)
    before = place.read_text()
    try:
        place.write_text(value)
    except OSError:
        pytest.skip("the limits of inotify cannot be lowered here: needs root")
    try:
        assert run(WATCH, tmp_path / "inbox", tmp_path / "out", "--once").returncode == 0
    finally:
        place.write_text(before)
    assert "looking every 5 s: the machine gives no more file events" in (tmp_path / "out" / "watch.log").read_text()
    assert len(rows(tmp_path / "out")) == 1
