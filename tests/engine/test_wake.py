"""wake.py: something in the folder ends the wait; where nothing can, that is said."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bonefrac.wake import Wake

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify")
LONG_S = 10.0  # a wait that an event must end
SHORT_S = 0.3  # a wait that nothing ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    (folder / "sub").mkdir(parents=True)
    return folder


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def wake(folder: Path, said: list[str]) -> Iterator[Wake]:
    with Wake(folder, poll=False, say=said.append) as wake:
        assert wake.listen()
        yield wake


def quiet(wake: Wake) -> None:
    """Take the events that are still under way."""
    while wake.wait(SHORT_S):
        pass


def test_nothing_ends_no_wait(wake: Wake) -> None:
    started_s = time.monotonic()
    assert not wake.wait(SHORT_S)
    assert time.monotonic() - started_s >= SHORT_S
    assert not wake.wait(0)
    assert not wake.wait(-1)


def test_whatever_brings_a_film_ends_the_wait(wake: Wake, folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(b"x")

    def append() -> None:
        with open(folder / "a", "ab") as file:
            file.write(b"more")

    for brings in (
        lambda: (folder / "a").write_bytes(b"x"),
        append,
        lambda: (folder / "a").rename(folder / "b"),
        lambda: outside.rename(folder / "moved in"),
        lambda: (folder / "sub" / "c").write_bytes(b"x"),
        lambda: (folder / "new").mkdir(),
        lambda: (folder / "new" / "d").write_bytes(b"x"),
        lambda: (folder / "link").symlink_to(folder / "a"),
    ):
        quiet(wake)
        brings()
        assert wake.wait(LONG_S), brings


def test_reading_does_not_wake_the_reader(wake: Wake, folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    quiet(wake)
    (folder / "a").read_bytes()
    os.listdir(folder)
    (folder / "a").stat()
    assert not wake.wait(SHORT_S)


def test_events_of_one_burst_end_one_wait(wake: Wake, folder: Path) -> None:
    for number in range(50):
        (folder / f"{number}").write_bytes(b"x")
    assert wake.wait(LONG_S)
    time.sleep(SHORT_S)  # all have arrived
    wake.wait(0)
    assert not wake.wait(0)


def test_now_ends_the_wait_that_comes(wake: Wake) -> None:
    wake.now()
    wake.now()
    assert wake.wait(LONG_S)
    assert not wake.wait(0)


def test_a_link_to_a_folder_is_listened_to(folder: Path, said: list[str]) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    with Wake(link, poll=False, say=said.append) as wake:
        wake.listen()
        (folder / "a").write_bytes(b"x")
        assert wake.wait(LONG_S)


def test_a_folder_that_is_away_is_listened_to_once_it_is_back(wake: Wake, folder: Path, said: list[str]) -> None:
    away = folder.with_name("away")
    folder.rename(away)
    wake.deafen()
    assert not wake.listen()
    assert wake.polling == ""
    away.rename(folder)
    assert wake.listen()
    (folder / "a").write_bytes(b"x")
    assert wake.wait(LONG_S)
    assert said == []


def test_another_folder_in_its_place_is_listened_to(wake: Wake, folder: Path) -> None:
    """A share that was away between two looks."""
    assert not wake.listen()
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    assert wake.listen()
    quiet(wake)
    (folder / "a").write_bytes(b"x")
    assert wake.wait(LONG_S)


def test_a_deleted_folder_ends_the_wait_and_is_listened_to_when_it_is_there_again(
    wake: Wake, folder: Path, said: list[str]
) -> None:
    (folder / "sub").rmdir()
    folder.rmdir()
    deadline_s = time.monotonic() + LONG_S
    while not said and time.monotonic() < deadline_s:
        wake.wait(0.02)
        wake.check()
    assert said == ["file events have stopped: asking for them anew"]
    assert wake.wait(0)
    assert not wake.listen()
    folder.mkdir()
    assert wake.listen()
    (folder / "a").write_bytes(b"x")
    assert wake.wait(LONG_S)
    assert wake.polling == ""


def test_polling_is_said_and_asks_for_no_events(folder: Path, said: list[str]) -> None:
    with Wake(folder, poll=True, say=said.append) as wake:
        assert not wake.listen()
        (folder / "a").write_bytes(b"x")
        assert not wake.wait(SHORT_S)
    assert said == ["looking every 5 s: as asked with --poll"]


def test_a_share_is_polled(folder: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonefrac.wake.is_remote", lambda folder: True)
    monkeypatch.setattr("bonefrac.wake.file_system", lambda folder: "cifs")
    with Wake(folder, poll=False, say=said.append) as wake:
        assert not wake.listen()
    assert said == ["looking every 5 s: the inbox lies on a share (cifs), which sends no events"]


_LIMITED = """
import sys
from pathlib import Path
from bonefrac.wake import Wake
with Wake(Path(sys.argv[1]), poll=False, say=print) as wake:
    print(wake.listen(), wake.polling != "", wake.listen())
    Path(sys.argv[1], "a").write_bytes(b"x")
    print(wake.wait(0.3))
"""


@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_a_machine_without_events_left_is_polled_with_one_line(folder: Path, limit: str) -> None:
    """The kernel's own limit, in a name space of its own."""
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", f'echo 0 > /proc/sys/user/{limit} || exit 77; exec "$@"', "sh",
         sys.executable, "-c", _LIMITED, folder], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip("the kernel's limit cannot be lowered here")
    line, listening, woken = done.stdout.splitlines()
    assert line.startswith("looking every 5 s: the machine gives no more file events (")
    assert (listening, woken) == ("False True False", "False"), done.stderr


def test_lost_events_end_the_wait(wake: Wake) -> None:
    """watchdog says that the queue overflowed, and no more."""
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
    assert wake.wait(0)


def test_leaving_gives_back_all_files_and_threads(folder: Path, said: list[str]) -> None:
    def use() -> None:
        with Wake(folder, poll=False, say=said.append) as wake:
            for _ in range(3):
                wake.listen()
                wake.deafen()

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        use()
    assert len(os.listdir("/proc/self/fd")) <= before


_SIGNALS = """
import signal, sys, time
from pathlib import Path
from bonefrac.wake import Wake
wake, signals = Wake(Path(sys.argv[1]), poll=True, say=lambda text: None), 0
def handle(*_):
    global signals
    signals += 1
    wake.now()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
end, woken = time.monotonic() + 1.5, 0
while time.monotonic() < end:
    woken += wake.wait(0.001)
signal.setitimer(signal.ITIMER_REAL, 0)
print(signals > 1000, woken > 100)
"""


def test_a_signal_at_any_moment_of_the_wait_does_not_lock_it_up(folder: Path) -> None:
    """threading.Event would: its lock is not for a handler that interrupts its holder."""
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALS, folder], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "True True"
