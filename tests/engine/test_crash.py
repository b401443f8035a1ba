"""What must survive: kill -9 at any moment, Ctrl-C, a full disk, two runs at once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bonefrac.journal import Journal
from bonefrac.sinks import picture_path
from bonefrac.synthetic import draw_radiograph

FILMS = 40


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from bonefrac.cli import batch_main; batch_main()", *map(str, arguments)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 drawn films, half of them fractured."""
    folder = tmp_path_factory.mktemp("crash") / "films"
    folder.mkdir()
    drawn = [draw_radiograph(seed // 2, fractured=seed % 2 == 0).pixels for seed in range(8)]
    for index in range(FILMS):
        pixels = (drawn[index % 8] >> 4).astype(np.uint8)
        (folder / f"{index:02}.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return folder


@pytest.fixture(scope="module")
def undisturbed(films: Path) -> bytes:
    """`results.csv` of a run that nothing disturbed."""
    out = films.parent / "undisturbed"
    subprocess.run(command(films, "--out", out, "--quiet"), check=True)
    return (out / "results.csv").read_bytes()


def wait_for_journal(out: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the run has begun to examine; a run that ended is fine too."""
    while process.poll() is None and not (out / ".bonefrac" / "journal.sqlite").exists():
        time.sleep(0.005)


def wait_for_pictures(out: Path, count: int, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    while process.poll() is None and len(list((out / "annotated").glob("*.jpg"))) < count:
        time.sleep(0.005)


def no_half_written_output(out: Path) -> None:
    for path in out.rglob("*"):
        if path.is_file() and not path.name.startswith(".bonefrac-part-") and path.suffix == ".jpg":
            assert path.read_bytes().endswith(b"\xff\xd9"), path
    assert not (out / "results.csv").exists() or (out / "results.csv").read_bytes().count(b"\r\n") == FILMS + 1


def test_killed_at_any_moment_it_ends_as_if_undisturbed(films: Path, undisturbed: bytes, tmp_path: Path) -> None:
    out, rng, kills = tmp_path / "out", random.Random(1), 0
    for _ in range(10):
        process = subprocess.Popen(command(films, "--out", out, "--quiet", "--annotate", "all"))
        wait_for_journal(out, process)
        try:
            process.wait(timeout=rng.uniform(0, 0.6))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        no_half_written_output(out)
    assert kills >= 3, "the runs ended before they could be killed: this test tests nothing"
    subprocess.run(command(films, "--out", out, "--quiet", "--annotate", "all"), check=True)
    assert (out / "results.csv").read_bytes() == undisturbed
    expected = {picture_path(out / "annotated", f"{index:02}.jpg") for index in range(FILMS)}
    assert set(out.rglob("*.jpg")) == expected
    assert not list(out.rglob(".bonefrac-part-*"))


def test_what_was_committed_before_a_kill_is_not_examined_again(films: Path, tmp_path: Path) -> None:
    many, out = tmp_path / "many", tmp_path / "out"
    many.mkdir()
    for film in films.iterdir():
        for copy in range(5):
            os.link(film, many / f"{copy}-{film.name}")
    process = subprocess.Popen(command(many, "--out", out, "--quiet", "--annotate", "all"))
    wait_for_pictures(out, 150, process)  # longer than a second's work: something is committed by then
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    kept = len(committed(out))
    assert kept > 0
    done = subprocess.run(command(many, "--out", out, "--annotate", "all"), capture_output=True, text=True, check=True)
    assert f"({5 * FILMS - kept} analysed now, {kept} before)" in done.stdout


def committed(out: Path) -> set[str]:
    """Names of the films whose rows are in the journal of a run that ended, however it ended."""
    db = sqlite3.connect(out / ".bonefrac" / "journal.sqlite")
    try:
        return {os.fsdecode(name) for (name,) in db.execute("SELECT name FROM film")}
    finally:
        db.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_keeps_what_is_finished_and_says_how_to_go_on(
    films: Path, undisturbed: bytes, tmp_path: Path, stop: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(films, "--out", out, "--annotate", "all"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    wait_for_pictures(out, 8, process)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert 0 < len(committed(out)) < FILMS
    assert not (out / "results.csv").exists()
    subprocess.run(command(films, "--out", out, "--quiet", "--annotate", "all"), check=True)
    assert (out / "results.csv").read_bytes() == undisturbed


def test_two_runs_into_one_folder_are_refused(films: Path, tmp_path: Path) -> None:
    own = tmp_path / "out" / ".bonefrac"
    own.mkdir(parents=True)
    with Journal(own / "journal.sqlite", "another run"):
        second = subprocess.run(command(films, "--out", own.parent), capture_output=True, text=True, check=False)
    assert second.returncode == 2, second.stdout
    assert "another run is writing there" in second.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told_and_loses_nothing(films: Path, undisturbed: bytes, small_disk: Path) -> None:
    out = small_disk / "out"
    full = subprocess.run(
        command(films, "--out", out, "--annotate", "all"), capture_output=True, text=True, check=False
    )
    assert full.returncode == 2, full.stderr
    assert "No space left" in full.stderr or "disk is full" in full.stderr
    assert "Traceback" not in full.stderr
    no_half_written_output(out)
    kept = committed(out)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    done = subprocess.run(
        command(films, "--out", out, "--annotate", "all"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} before)" in done.stdout
    assert (out / "results.csv").read_bytes() == undisturbed
