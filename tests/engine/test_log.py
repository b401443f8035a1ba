"""log.py: one line an event, never too large, and no trouble of its own ends anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from bonefrac import log as log_module
from bonefrac.log import Log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watch.log"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    with Log(path, as_json=False, quiet=True) as log:
        yield log


def test_a_line_has_time_level_message_and_facts(log: Log, path: Path) -> None:
    log.info("film doubt", number=7, sha256="abc")
    log.warning("the disk is full")
    first, second = path.read_text().splitlines()
    when, level, rest = first.split(" ", 2)
    assert abs((datetime.now(timezone.utc) - datetime.fromisoformat(when)).total_seconds()) < 60
    assert (level, rest) == ("INFO", "film doubt number=7 sha256=abc")
    assert second.split(" ", 1)[1] == "WARNING the disk is full"


def test_json_lines_hold_the_facts_under_their_names(path: Path) -> None:
    with Log(path, as_json=True, quiet=True) as log:
        log.info("film failed", number=7, probability=0.25, reason='a "quoted"\nreason é')
    (line,) = path.read_text().splitlines()
    found = json.loads(line)
    assert datetime.fromisoformat(found.pop("time")).tzinfo is not None
    assert found == {
        "level": "INFO", "message": "film failed", "number": 7, "probability": 0.25, "reason": 'a "quoted"\nreason é',
    }  # fmt: skip


@pytest.mark.parametrize("text", ["two\nlines", "two\r\nlines", "two\u2028lines", "two\x0blines"])
def test_an_event_is_one_line_whatever_it_says(log: Log, path: Path, text: str) -> None:
    log.info(text)
    log.info("film failed", reason=text)
    assert [line.split(" ", 2)[2] for line in path.read_text().splitlines()] == [
        "two lines",
        "film failed reason=two lines",
    ]


def test_it_is_on_the_terminal_unless_quiet(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with Log(path, as_json=False, quiet=quiet) as log:
            log.info(f"quiet {quiet}")
    assert [line.split(" ", 2)[2] for line in capsys.readouterr().err.splitlines()] == ["quiet False"]
    assert len(path.read_text().splitlines()) == 2  # it goes on where it was


def test_it_never_grows_beyond_its_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_BYTES", 2000)
    with Log(path, as_json=False, quiet=True) as log:
        for number in range(400):
            log.info("film doubt", number=number)
            assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 4 * 2000
    assert sorted(os.listdir(path.parent)) == ["watch.log", "watch.log.1", "watch.log.2", "watch.log.3"]
    lines = [line for suffix in (".3", ".2", ".1", "") for line in Path(f"{path}{suffix}").read_text().splitlines()]
    assert [int(line.rpartition("=")[2]) for line in lines] == list(range(400 - len(lines), 400))


@pytest.mark.skipif(os.name != "posix", reason="an open file is moved away")
def test_a_log_moved_away_is_begun_anew_on_reopening(log: Log, path: Path) -> None:
    log.info("one")
    path.rename(path.with_name("moved"))
    log.info("two")
    log.reopen()
    assert not path.exists()  # made with the first line
    log.info("three")
    assert [line.rsplit(" ", 1)[1] for line in path.with_name("moved").read_text().splitlines()] == ["one", "two"]
    assert [line.rsplit(" ", 1)[1] for line in path.read_text().splitlines()] == ["three"]


@pytest.fixture
def full_log(path: Path) -> Path:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    path.symlink_to("/dev/full")
    return path


def test_a_full_disk_is_told_and_raises_nothing(full_log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log(full_log, as_json=False, quiet=True) as log:
        log.info("one")
        log.reopen()
        log.info("two")
    told = capsys.readouterr().err
    assert told.count("bonefrac: the log cannot be written: ") >= 2
    assert "No space left" in told
    assert "Traceback" not in told


def test_a_full_disk_without_a_terminal_raises_nothing(full_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Log(full_log, as_json=False, quiet=True) as log:
        log.info("one")
    assert full_log.stat().st_size == 0


def test_a_folder_that_is_gone_raises_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log(tmp_path / "gone" / "watch.log", as_json=False, quiet=True) as log:
        log.info("one")
        (tmp_path / "gone").mkdir()
        log.info("two")
    assert "No such file" in capsys.readouterr().err
    assert (tmp_path / "gone" / "watch.log").read_text().endswith("two\n")


def test_it_goes_on_after_a_rotation_that_failed_half_way(
    log: Log, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network file system says only on closing that there was no space."""
    log.info("one")
    stream = log._file.stream
    assert stream is not None
    close = stream.close

    def late() -> None:
        close()
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(stream, "close", late)
    monkeypatch.setattr(log._file, "maxBytes", 20)
    log.info("two")
    log.info("three")
    assert "Disk quota exceeded" in capsys.readouterr().err
    assert path.read_text().endswith("three\n")


def test_it_goes_on_when_there_is_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: needs root")
    try:
        monkeypatch.setattr(log_module, "_BYTES", 6000)
        with Log(disk / "watch.log", as_json=True, quiet=True) as log:
            for number in range(400):
                log.info("film doubt", number=number)
            assert "No space left" in capsys.readouterr().err
            subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
            for number in range(400, 500):
                log.info("film doubt", number=number)
        assert "cannot be written" not in capsys.readouterr().err.split("\n", 2)[-1]
        lines = [line for file in disk.iterdir() for line in file.read_text().splitlines()]
        assert {json.loads(line)["number"] for line in lines} >= {490, 499}
    finally:
        subprocess.run(["umount", disk], check=True)
