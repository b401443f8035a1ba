"""instance.py: one watcher an inbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bonefrac.errors import UsageError
from bonefrac.instance import only_one

pytestmark = pytest.mark.skipif(os.name != "posix", reason="XDG_STATE_HOME")

_HOLD = """
import sys
from pathlib import Path
from bonefrac.instance import only_one
with only_one(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "bonefrac" / "inboxes"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@contextmanager
def holder(inbox: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that watches this inbox."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, inbox], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.communicate()


def said_on_taking(inbox: Path) -> list[str]:
    said: list[str] = []
    with only_one(inbox, said.append):
        return said


def test_a_second_watcher_of_an_inbox_is_refused_with_the_first_ones_process(inbox: Path) -> None:
    link = inbox.with_name("link")
    link.symlink_to(inbox)
    with holder(inbox) as first:
        for path in (inbox, link, inbox / ".." / "inbox"):
            with pytest.raises(UsageError, match=rf"is being watched already \(process {first.pid}\)"):
                said_on_taking(path)
    assert said_on_taking(inbox) == []


def test_another_inbox_is_free(inbox: Path, tmp_path: Path) -> None:
    with holder(inbox):
        assert said_on_taking(tmp_path / "other") == []


def test_the_inbox_of_a_killed_watcher_is_taken_over_with_a_line(inbox: Path) -> None:
    with holder(inbox) as first:
        first.kill()
        first.wait()
    assert said_on_taking(inbox) == [
        f"took over the inbox from a watcher that ended without a word (process {first.pid})"
    ]
    assert said_on_taking(inbox) == []


def test_a_watcher_that_ended_with_an_error_said_so_itself(inbox: Path) -> None:
    def ended() -> None:
        with only_one(inbox, print):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # none but the one above
        ended()
    assert said_on_taking(inbox) == []


@pytest.mark.parametrize(
    ("note", "words"),
    [(json.dumps({"pid": 7, "boot_id": "an earlier one"}), " (process 7, before the last start of this PC)"),
     ("", ""), ('{"pid": 7, "bo', ""), ("[]", ""), ("null", ""), ("{}", "")],
)  # fmt: skip
def test_a_note_of_any_kind_is_understood_or_left_out(inbox: Path, state: Path, note: str, words: str) -> None:
    said_on_taking(inbox)
    (lock,) = state.glob("*.lock")
    lock.with_suffix("").write_text(note)
    assert said_on_taking(inbox) == [f"took over the inbox from a watcher that ended without a word{words}"]


def test_the_lock_is_of_its_owner_alone(inbox: Path, state: Path) -> None:
    said_on_taking(inbox)
    (lock,) = state.glob("*.lock")
    assert lock.stat().st_mode & 0o077 == 0


def test_a_note_that_somebody_removed_is_no_error(inbox: Path, state: Path) -> None:
    with only_one(inbox, print):
        (lock,) = state.glob("*.lock")
        lock.with_suffix("").unlink()
    assert said_on_taking(inbox) == []


def test_a_state_folder_that_cannot_be_made_is_told(inbox: Path, state: Path) -> None:
    state.parent.parent.write_text("a file in its place")
    with pytest.raises(UsageError, match="XDG_STATE_HOME"):
        said_on_taking(inbox)


def test_a_full_disk_keeps_the_lock_and_costs_the_note(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: needs root")
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(disk))
        (disk / "full").write_bytes(bytes(4096))
        with holder(inbox), pytest.raises(UsageError, match="is being watched already; stop that first"):
            said_on_taking(inbox)
        assert said_on_taking(inbox) == []
    finally:
        subprocess.run(["umount", disk], check=True)
