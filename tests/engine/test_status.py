"""status.py: whether the watcher lives, for people and monitors."""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from bonefrac.errors import UsageError
from bonefrac.log import Log
from bonefrac.status import (
    STATUS,
    Alarms,
    Status,
    age_s,
    boot_id,
    current_age_s,
    lines,
    read_status,
    utc_now,
    write_status,
)

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)
WELL = Status(
    state="watching", heartbeat=NOW.isoformat(), boot_id="this boot", uptime_s=1000.5, pid=7, started=NOW.isoformat(),
    queue=0, oldest_waiting_s=0.0, unfinished_names=0, done=12,
    counts={"fracture": 1, "doubt": 2, "no_fracture_detected": 6, "not_analysed": 1, "failed": 2}, failed=2,
    last_error="", alarms=[], polling="", disk_free_mb=5000,
    model={"model": "flagship 1.0", "model_sha256": "ab" * 32, "precision": "int8"}, version="1.0",
)  # fmt: skip


# --- age -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [timedelta(0), timedelta(days=-400), timedelta(hours=2), timedelta(days=9000)])
def test_within_one_start_of_the_machine_the_clock_does_not_matter(jump: timedelta) -> None:
    assert age_s(WELL, uptime_s=1042.5, boot="this boot", now=NOW + jump) == 42.0


@pytest.mark.parametrize(("boot", "then"), [("another boot", "this boot"), ("", ""), ("this boot", "")])
def test_after_another_start_or_where_that_is_not_known_the_clock_tells(boot: str, then: str) -> None:
    status = replace(WELL, boot_id=then)
    for away in (timedelta(minutes=5), timedelta(minutes=-5)):
        assert age_s(status, uptime_s=5.0, boot=boot, now=NOW + away) == 300.0


def test_a_heartbeat_of_now_is_new() -> None:
    status = replace(WELL, boot_id=boot_id(), uptime_s=time.monotonic(), heartbeat=utc_now())
    assert 0 <= current_age_s(status) < 30


def test_times_are_utc_to_the_second() -> None:
    assert utc_now().endswith("+00:00")
    assert "." not in utc_now()
    assert abs((datetime.fromisoformat(utc_now()) - datetime.now(timezone.utc)).total_seconds()) < 30


# --- the file --------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_key_by_key(tmp_path: Path) -> None:
    odd = replace(
        WELL, alarms=["the disk é \u2028 </script>", "b"], last_error="x\ny", queue=3, polling="why", old_s=9.0
    )
    write_status(tmp_path, odd)
    assert read_status(tmp_path) == odd
    assert json.loads((tmp_path / STATUS).read_text()) == asdict(odd)
    assert set(asdict(odd)) == {field.name for field in fields(Status)}
    script = (tmp_path / "status.js").read_text()
    assert script.isascii()  # whatever encoding a browser takes it for
    assert json.loads(script.removeprefix("window.bonefrac = ").removesuffix(";\n")) == asdict(odd)
    write_status(tmp_path, WELL)
    assert read_status(tmp_path) == WELL
    assert sorted(os.listdir(tmp_path)) == ["status.js", STATUS]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b"{}", b"\xff\xfe",
     json.dumps({**asdict(WELL), "of a later version": 1}).encode(), json.dumps(asdict(WELL)).encode()[:-40]],
)  # fmt: skip
def test_a_file_that_is_no_heartbeat_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATUS).write_bytes(content)
    with pytest.raises(UsageError, match="cannot be understood"):
        read_status(tmp_path)


def test_a_folder_that_nothing_watches_into_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "not there"):
        with pytest.raises(UsageError, match="nothing has ever watched"):
            read_status(folder)


def test_a_heartbeat_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_status(tmp_path, WELL)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "in use")

    monkeypatch.setattr(os, "replace", refuse)
    if os.name == "nt":
        write_status(tmp_path, replace(WELL, queue=9))
    else:
        with pytest.raises(PermissionError):
            write_status(tmp_path, replace(WELL, queue=9))
    assert read_status(tmp_path) == WELL
    assert sorted(os.listdir(tmp_path)) == ["status.js", STATUS]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_the_umask_decides_who_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_status(tmp_path, WELL)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / STATUS).stat().st_mode) == 0o600


# --- what a person reads ---------------------------------------------------------------------------------------


def test_all_is_well_in_a_few_lines() -> None:
    assert lines(WELL, 8.4) == [
        f"watching, last heartbeat 8 s ago ({WELL.heartbeat})",
        "waiting  0",
        "done     12, of which failed 2",
        "       1  fracture",
        "       2  doubt",
        "       6  no fracture detected",
        "       1  not analysed",
        "       2  failed",
        "disk free 5000 MB; model flagship 1.0 int8",
    ]


def test_what_is_wrong_stands_above() -> None:
    ill = replace(
        WELL, state="paused", alarms=["the disk is full", "2 folders"], queue=3, oldest_waiting_s=7300.0,
        unfinished_names=2, last_error="then: the share was away", polling="as asked",
    )  # fmt: skip
    text = lines(ill, 5.0)
    assert text[:5] == [
        f"paused, last heartbeat 5 s ago ({WELL.heartbeat})",
        "ALARM    the disk is full",
        "ALARM    2 folders",
        "waiting  3, the oldest for 2 h",
        "         2 more bear a temporary name and wait for their final one",
    ]
    assert "last error  then: the share was away" in text
    assert "looks from time to time: as asked" in text


@pytest.mark.parametrize(
    ("state", "age", "old_s", "alive"),
    [("working", 60.0, 60.0, "working"), ("working", 60.1, 60.0, "NOT ALIVE"), ("paused", 1e6, 60.0, "NOT ALIVE"),
     ("watching", 61.0, 90.0, "watching"), ("stopped", 1e6, 60.0, "stopped"), ("stopped", 0.0, 60.0, "stopped")],
)  # fmt: skip
def test_an_old_heartbeat_is_not_alive_unless_it_was_stopped(state: str, age: float, old_s: float, alive: str) -> None:
    assert lines(replace(WELL, state=state), age, old_s=old_s)[0].startswith(alive + ",")


@pytest.mark.parametrize(
    ("age", "words"),
    [(0.0, "0 s"), (119.4, "119 s"), (120.0, "2 min"), (7199.0, "120 min"), (7200.0, "2 h"), (172799.0, "48 h"),
     (172800.0, "2 days"), (8.64e6, "100 days")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(age: float, words: str) -> None:
    assert f"last heartbeat {words} ago" in lines(WELL, age)[0]


# --- alarms ----------------------------------------------------------------------------------------------------


def test_an_alarm_is_logged_when_it_comes_changes_and_goes(tmp_path: Path) -> None:
    with Log(tmp_path / "log", as_json=False, quiet=True) as log:
        alarms = Alarms(log)
        alarms.clear("disk")
        assert not alarms.changed
        for _ in range(3):
            alarms.set("disk", "the disk is full")
        assert (alarms.changed, alarms.texts, alarms.any("disk"), alarms.any("inbox")) == (
            True, ["the disk is full"], True, False)  # fmt: skip
        alarms.changed = False
        alarms.set_if("disk", True, "the disk is full")
        assert not alarms.changed
        alarms.set_if("inbox", 1, "the share is away")
        alarms.set_if("inbox", 2, "the share is gone")
        assert alarms.texts == ["the disk is full", "the share is gone"]
        alarms.changed = False
        alarms.set_if("inbox", 0, "the share is gone")
        alarms.clear("disk")
        assert (alarms.changed, alarms.texts, alarms.any("disk", "inbox")) == (True, [], False)
        assert alarms.last.endswith("the share is gone")  # kept after it is over
    assert [line.split(" ", 1)[1] for line in (tmp_path / "log").read_text().splitlines()] == [
        "WARNING the disk is full",
        "WARNING the share is away",
        "WARNING the share is gone",
        "INFO over: the share is gone",
        "INFO over: the disk is full",
    ]
