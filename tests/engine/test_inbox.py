"""inbox.py: what is whole and at rest is given, once; nothing else is, and nothing is lost."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bonefrac.inbox
from bonefrac.inbox import Arrival, Inbox, InboxAway, Look, look_of
from bonefrac.ledger import Ledger

Become = Callable[[], AbstractContextManager[None]]
posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes, names and permission bits of POSIX")
SETTLE_S, GIVE_UP_S = 2.0, 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def film(make_png: Callable[..., bytes]) -> bytes:
    """A whole PNG, as small as one can be."""
    return make_png(1, 1, 8, 0, [b"\7"])


@pytest.fixture
def inbox(folder: Path) -> Inbox:
    return watched(folder)


def watched(folder: Path, known: dict[str, Look] | None = None, mounted_on: str = "") -> Inbox:
    return Inbox(folder, known or {}, settle_s=SETTLE_S, give_up_s=GIVE_UP_S, mounted_on=mounted_on)


def taken(inbox: Inbox, now_s: float, *, look: bool = True) -> list[Arrival]:
    """What the inbox gives now, dealt with."""
    if look:
        inbox.look(now_s)
    arrivals = list(inbox.ready(now_s))
    for arrival in arrivals:
        inbox.done(arrival)
    return arrivals


def names(inbox: Inbox, *times_s: float) -> list[str]:
    """Names of what is given at these times, one after the other."""
    return [arrival.name for now_s in times_s for arrival in taken(inbox, now_s)]


# --- settled and whole -----------------------------------------------------------------------------------------


def test_a_film_is_given_once_when_it_has_looked_the_same_for_a_while(inbox: Inbox, film: bytes) -> None:
    (inbox.folder / "a.png").write_bytes(film)
    assert names(inbox, 0.0, 1.9) == []
    assert (inbox.waiting, inbox.oldest_s(1.9), inbox.next_s) == (1, 1.9, SETTLE_S)
    (arrival,) = taken(inbox, 2.0)
    assert (arrival.name, arrival.path, arrival.content) == ("a.png", inbox.folder / "a.png", film)
    assert (arrival.sha256, arrival.problem) == (hashlib.sha256(film).hexdigest(), "")
    assert names(inbox, 3.0, 1000.0) == []
    assert (inbox.waiting, inbox.oldest_s(1000.0), inbox.next_s) == (0, 0.0, None)


@pytest.mark.parametrize("what", ["size", "mtime", "inode"])
def test_any_change_begins_the_wait_anew(inbox: Inbox, film: bytes, what: str) -> None:
    path = inbox.folder / "a.png"
    path.write_bytes(film)
    os.utime(path, ns=(10**18, 10**18))
    assert names(inbox, 0.0) == []
    if what == "size":
        path.write_bytes(film + b"more")
        os.utime(path, ns=(10**18, 10**18))
    elif what == "mtime":
        os.utime(path, ns=(10**18, 10**18 + 100))
    else:
        other = inbox.folder / "other"
        other.write_bytes(film)
        os.utime(other, ns=(10**18, 10**18))
        other.replace(path)
    assert names(inbox, 1.9, 2.0, 3.8) == []
    assert names(inbox, 3.9) == ["a.png"]


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff directory first", "tiff directory last"])
def test_a_writer_that_pauses_is_waited_for_until_the_end_is_there(
    inbox: Inbox, kind: str, as_file: Callable[..., bytes], make_tiff: Callable[..., bytes], grey: object
) -> None:
    whole = {
        "jpeg": lambda: as_file(".jpg", grey),
        "png": lambda: as_file(".png", grey),
        "tiff directory first": lambda: make_tiff(grey),
        "tiff directory last": lambda: as_file(".tif", grey),
    }[kind]()
    path = inbox.folder / "film"
    now_s = 0.0
    for part in (1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:part])
        for _ in range(3):  # of 6 s each
            assert names(inbox, now_s) == [], part
            now_s += 6
    path.write_bytes(whole)
    assert names(inbox, now_s) == []
    assert taken(inbox, now_s + SETTLE_S)[0].content == whole


@pytest.mark.parametrize("content", [b"", b"a letter", b"\x89PNG\r\n\x1a\ncut"], ids=["empty", "no film", "cut short"])
def test_what_has_no_end_is_given_as_it_is_after_a_while_without_change(inbox: Inbox, content: bytes) -> None:
    path = inbox.folder / "a"
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert names(inbox, 0.0, 2.0, 30.0) == []
    os.utime(path, ns=(2, 2))
    assert names(inbox, 31.0, 60.0, 90.9) == []
    (arrival,) = taken(inbox, 91.0)
    assert arrival.content == content
    assert names(inbox, 92.0, 500.0) == []


def test_a_growing_file_is_never_given(inbox: Inbox, film: bytes) -> None:
    path = inbox.folder / "a.png"
    for second in range(100):
        path.write_bytes(film + bytes(second))
        assert names(inbox, float(second)) == []
    assert names(inbox, 101.0) == ["a.png"]


def test_a_change_between_listing_and_reading_is_noticed(inbox: Inbox, film: bytes) -> None:
    path = inbox.folder / "a.png"
    path.write_bytes(film)
    inbox.look(0.0)
    path.write_bytes(film + b"changed")
    assert taken(inbox, 2.0, look=False) == []
    assert taken(inbox, 100.0, look=False) == []  # not even when it would be given up
    assert names(inbox, 101.0, 102.0) == []
    (arrival,) = taken(inbox, 103.0)
    assert arrival.content == film + b"changed"


def test_a_change_while_it_is_read_is_noticed(inbox: Inbox, film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = inbox.folder / "a.png", bonefrac.inbox._read
    path.write_bytes(film)
    inbox.look(0.0)

    def meddled(file: object) -> tuple[bytes | None, str]:
        result = read(file)  # type: ignore[arg-type]
        os.utime(path, ns=(5, 5))
        return result

    monkeypatch.setattr("bonefrac.inbox._read", meddled)
    assert taken(inbox, 2.0, look=False) == []


def test_a_changed_film_is_given_again_and_an_unchanged_one_is_known_after_a_restart(folder: Path, film: bytes) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(film)
    inbox = watched(folder)
    inbox.look(0.0)
    known = {arrival.name: arrival.look for arrival in taken(inbox, 2.0)}
    assert sorted(known) == ["a.png", "b.png"]
    (folder / "b.png").write_bytes(film + b"!")
    for later in (inbox, watched(folder, known)):
        assert names(later, 10.0, 12.0) == ["b.png"]


def test_a_film_replaced_by_a_rename_is_a_new_one(inbox: Inbox, film: bytes) -> None:
    path, other = inbox.folder / "a.png", inbox.folder.parent / "other.png"
    path.write_bytes(film)
    found = path.stat()
    assert names(inbox, 0.0, 2.0) == ["a.png"]
    other.write_bytes(film[:-12] + film[-12:][::-1])  # of the same size and time
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)
    assert names(inbox, 3.0, 4.0) == []  # with a damaged end: not before it is given up
    assert names(inbox, 64.0) == ["a.png"]


@pytest.mark.parametrize("mtime_s", [-(10**9), 0, 2**31, 2**34 - 10])
def test_times_of_files_count_only_by_their_change(tmp_path: Path, inbox: Inbox, film: bytes, mtime_s: int) -> None:
    """Cameras and consoles have wrong clocks, and SQLite has no integers beyond 2**63."""
    path = inbox.folder / "a.png"
    path.write_bytes(film)
    try:
        os.utime(path, (mtime_s, mtime_s))
    except OSError:
        pytest.skip("this file system has no such time")
    inbox.look(0.0)
    (arrival,) = taken(inbox, 2.0)
    with Ledger(tmp_path / "ledger", owner="me", key="k") as ledger:
        ledger.saw(arrival.name, arrival.look)
        assert names(watched(inbox.folder, ledger.looks()), 5.0, 100.0) == []


def test_inodes_of_64_bits_fit_into_the_ledger(tmp_path: Path) -> None:
    found = SimpleNamespace(st_size=5, st_mtime_ns=2**64, st_ino=2**64 - 1)
    look = look_of(cast(os.stat_result, found))
    with Ledger(tmp_path / "ledger", owner="me", key="k") as ledger:
        ledger.saw("a", look)
        assert ledger.looks() == {"a": look}


def test_where_a_listing_has_no_inodes_files_are_given_all_the_same(
    inbox: Inbox, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows: os.DirEntry.stat says 0 there, and os.fstat does not."""
    monkeypatch.setattr("bonefrac.inbox._HAS_INODES", False)
    (inbox.folder / "a.png").write_bytes(film)
    assert look_of((inbox.folder / "a.png").stat())[2] == 0
    assert names(inbox, 0.0, 2.0) == ["a.png"]


def test_a_file_too_large_has_a_hash_and_no_content(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonefrac.inbox.MAX_BYTES", 1000)
    (inbox.folder / "large").write_bytes(bytes(1001))
    (inbox.folder / "largest").write_bytes(bytes(1000))
    assert names(inbox, 0.0, 2.0) == []
    large, largest = taken(inbox, 60.0)
    assert (large.content, large.sha256) == (None, hashlib.sha256(bytes(1001)).hexdigest())
    assert largest.content == bytes(1000)


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a.part", "a.PART", "a.jpg.Part", "a.partial", "a.tmp", "a.TMP", "a.temp", "a.filepart", "a.crdownload",
     "a.CrDownload", "a.download", "a.opdownload", "~$a.jpg", "a.jpg~", "~a.jpg", "a.!ut", "a.swp"],
)  # fmt: skip
def test_a_temporary_name_waits_for_the_final_one(inbox: Inbox, film: bytes, name: str) -> None:
    (inbox.folder / name).write_bytes(film)
    assert names(inbox, 0.0, 2.0, 1000.0) == []
    assert (inbox.unfinished_names, inbox.waiting, inbox.next_s) == (1, 0, None)
    (inbox.folder / name).rename(inbox.folder / "final.png")
    assert names(inbox, 1001.0) == []
    assert names(inbox, 1003.0) == ["final.png"]
    assert inbox.unfinished_names == 0


@pytest.mark.parametrize("name", ["part", "tmp.jpg", "a.part.jpg", "a~b.jpg", "temp", "partial.png"])
def test_a_name_that_only_resembles_a_temporary_one_does_not_wait(inbox: Inbox, film: bytes, name: str) -> None:
    (inbox.folder / name).write_bytes(film)
    assert names(inbox, 0.0, 2.0) == [name]


@posix
def test_any_name_is_given_as_it_is(inbox: Inbox, film: bytes) -> None:
    odd = [
        os.fsdecode(name) for name in (b"\xff\xfe.png", b"new\nline.png", b"sub/\xe9.png", b"a.part\n", b"-x", b"#?%")
    ]
    for name in odd:
        (inbox.folder / name).parent.mkdir(exist_ok=True)
        (inbox.folder / name).write_bytes(film)
    inbox.look(0.0)
    arrivals = taken(inbox, 2.0)
    assert [arrival.name for arrival in arrivals] == sorted(odd, key=os.fsencode)
    assert all(arrival.path.read_bytes() == film for arrival in arrivals)


def test_the_longest_waiting_comes_first_then_by_name(inbox: Inbox, film: bytes) -> None:
    for now_s, name in enumerate(["m.png", "z.png", "b.png"]):
        (inbox.folder / name).write_bytes(film)
        inbox.look(float(now_s))
    for name in ("c.png", "a.png"):
        (inbox.folder / name).write_bytes(film)
    inbox.look(2.0)
    (inbox.folder / "m.png").write_bytes(film + b"changed")
    inbox.look(2.0)  # that it began to wait anew does not put it last
    assert [arrival.name for arrival in taken(inbox, 9.0)] == ["m.png", "z.png", "a.png", "b.png", "c.png"]


def test_the_names_below_a_root_are_whole(tmp_path: Path, film: bytes) -> None:
    """A USB stick's inbox may be a drive: its path ends in a separator."""
    (tmp_path / "film.png").write_bytes(film)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "film.png").write_bytes(film)
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom bonefrac.inbox import Inbox\n"
        "try: os.chroot(sys.argv[1])\nexcept PermissionError: sys.exit(77)\n"
        "os.chdir('/')\ninbox = Inbox(Path('/'), {}, settle_s=2.0, give_up_s=60.0)\n"
        "inbox.look(0.0)\nprint([arrival.name for arrival in inbox.ready(2.0)])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("another root needs root")
    assert done.stdout.strip() == "['film.png', 'sub/film.png']", done.stderr


# --- what cannot be read ---------------------------------------------------------------------------------------


@posix
def test_an_unreadable_file_is_told_once_tried_ever_more_rarely_and_taken_when_it_can_be_read(
    inbox: Inbox, film: bytes, as_nobody: Become
) -> None:
    path = inbox.folder / "a.png"
    path.write_bytes(film)
    path.chmod(0)
    told: list[tuple[float, str]] = []
    tries = []
    with as_nobody():
        inbox.look(0.0)
        now_s = 0.0
        while now_s < 10_000:
            assert inbox.next_s is not None
            now_s = inbox.next_s
            tries.append(now_s)
            told += [(now_s, arrival.problem) for arrival in taken(inbox, now_s)]
    assert len(told) == 1
    assert GIVE_UP_S <= told[0][0] <= 2 * GIVE_UP_S + SETTLE_S
    assert told[0][1] == "the file cannot be read: Permission denied"
    assert len(tries) < 30
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 600
    assert (inbox.waiting, inbox.oldest_s(now_s)) == (0, 0.0)  # told, so nobody waits for it
    path.chmod(0o644)
    with as_nobody():
        assert names(inbox, now_s + 600) == ["a.png"]


@posix
def test_a_file_that_is_in_use_for_a_moment_is_not_told(inbox: Inbox, film: bytes, as_nobody: Become) -> None:
    path = inbox.folder / "a.png"
    path.write_bytes(film)
    path.chmod(0)
    with as_nobody():
        assert names(inbox, 0.0, 2.0, 4.0) == []
    assert inbox.waiting == 1
    path.chmod(0o644)
    with as_nobody():
        assert names(inbox, 8.0) == ["a.png"]


def test_a_film_taken_away_after_the_listing_is_no_failure(inbox: Inbox, film: bytes) -> None:
    """A long queue: the listing is older than the time to give up."""
    (inbox.folder / "a.png").write_bytes(film)
    (inbox.folder / "b.png").write_bytes(film)
    inbox.look(0.0)
    (inbox.folder / "a.png").unlink()
    assert [arrival.name for arrival in taken(inbox, 100.0, look=False)] == ["b.png"]
    assert names(inbox, 200.0) == []
    assert inbox.waiting == 0


@posix
def test_a_link_that_leads_nowhere_is_told_and_taken_once_it_leads_somewhere(inbox: Inbox, film: bytes) -> None:
    target = inbox.folder.parent / "target.png"
    (inbox.folder / "a.png").symlink_to(target)
    assert names(inbox, 0.0, 2.0, 50.0) == []
    (arrival,) = taken(inbox, 100.0)
    assert (arrival.name, arrival.sha256) == ("a.png", "")
    assert arrival.problem.startswith("the file cannot be read: No such file")
    target.write_bytes(film)
    assert names(inbox, 101.0) == []
    assert names(inbox, 103.0) == ["a.png"]
    target.unlink()  # dealt with: that its content is away is no failure
    assert names(inbox, 104.0, 200.0, 400.0) == []


@posix
def test_pipes_and_devices_are_never_opened(inbox: Inbox, film: bytes) -> None:
    os.mkfifo(inbox.folder / "pipe.png")
    (inbox.folder / "terminal.png").symlink_to("/dev/zero")
    (inbox.folder / "pipe link.png").symlink_to(inbox.folder / "pipe.png")
    (inbox.folder / "film.png").write_bytes(film)
    assert names(inbox, 0.0, 2.0) == ["film.png"]
    assert names(inbox, 1000.0) == []


@posix
def test_a_folder_that_cannot_be_listed_loses_nothing_of_what_waits_there(
    inbox: Inbox, film: bytes, as_nobody: Become
) -> None:
    sub = inbox.folder / "sub"
    sub.mkdir()
    (sub / "a.png").write_bytes(film)
    (inbox.folder / "sub b.png").write_bytes(film)
    inbox.look(0.0)
    sub.chmod(0)
    with as_nobody():
        assert [arrival.name for arrival in taken(inbox, 2.0)] == ["sub b.png"]
        assert (inbox.unlisted, inbox.waiting, inbox.oldest_s(10.0)) == (1, 1, 10.0)
        assert names(inbox, 10.0) == []
    sub.chmod(0o755)
    with as_nobody():
        assert names(inbox, 30.0) == ["sub/a.png"]
    assert (inbox.unlisted, inbox.waiting) == (0, 0)


@posix
def test_a_film_that_was_dealt_with_and_cannot_be_looked_at_is_no_new_one(
    inbox: Inbox, film: bytes, as_nobody: Become
) -> None:
    sub = inbox.folder / "sub"
    sub.mkdir()
    (sub / "a.png").write_bytes(film)
    assert names(inbox, 0.0, 2.0) == ["sub/a.png"]
    sub.chmod(0o744)  # it can be listed, and nothing in it be looked at
    with as_nobody():
        assert names(inbox, 10.0, 100.0, 1000.0) == []
        assert inbox.waiting == 0
    sub.chmod(0o755)
    assert names(inbox, 2000.0, 3000.0) == []


def test_a_postponed_film_comes_again(inbox: Inbox, film: bytes) -> None:
    (inbox.folder / "a.png").write_bytes(film)
    inbox.look(0.0)
    (arrival,) = inbox.ready(2.0)
    inbox.postpone(arrival, 2.0)
    assert names(inbox, 3.0, 61.0) == []
    assert inbox.waiting == 1
    assert names(inbox, 62.0) == ["a.png"]


# --- an inbox that is away -------------------------------------------------------------------------------------


def test_an_inbox_renamed_away_is_not_empty_and_loses_nothing(inbox: Inbox, film: bytes) -> None:
    (inbox.folder / "done.png").write_bytes(film)
    assert names(inbox, 0.0, 2.0) == ["done.png"]
    (inbox.folder / "waits.png").write_bytes(film)
    inbox.look(3.0)
    away = inbox.folder.with_name("away")
    inbox.folder.rename(away)
    for now_s in (4.0, 100.0):
        with pytest.raises(InboxAway, match="not there"):
            inbox.look(now_s)
    with pytest.raises(InboxAway):
        list(inbox.ready(100.0))  # that it cannot be read is not said of the film
    away.rename(inbox.folder)
    assert inbox.waiting == 1
    assert names(inbox, 101.0, 250.0) == ["waits.png"]


@posix
def test_an_inbox_that_may_not_be_listed_is_away(inbox: Inbox, film: bytes, as_nobody: Become) -> None:
    (inbox.folder / "a.png").write_bytes(film)
    inbox.look(0.0)
    inbox.folder.chmod(0o711)
    with as_nobody(), pytest.raises(InboxAway, match="Permission denied"):
        inbox.look(1.0)
    inbox.folder.chmod(0o755)
    assert inbox.waiting == 1
    assert names(inbox, 2.0) == ["a.png"]


@pytest.fixture
def share(folder: Path) -> Iterator[Callable[[], None]]:
    """share(): mounts what holds a film on the inbox."""

    def mount() -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("a share cannot be mounted here: needs root")

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", folder], check=True)


def test_an_unmounted_share_is_away_and_not_empty(share: Callable[[], None], folder: Path, film: bytes) -> None:
    share()
    (folder / "a.png").write_bytes(film)
    inbox = watched(folder)
    inbox.look(0.0)
    assert inbox.mounted_on == os.path.realpath(folder)
    unmount(folder)
    for now_s in (1.0, 2.0, 1000.0):
        with pytest.raises(InboxAway, match="not mounted"):
            inbox.look(now_s)
    with pytest.raises(InboxAway):
        list(inbox.ready(1000.0))
    assert inbox.waiting == 1
    share()
    (folder / "a.png").write_bytes(film)
    assert names(inbox, 1001.0, 1003.0) == ["a.png"]


def test_a_start_before_the_share_is_mounted_waits_for_it(share: Callable[[], None], folder: Path, film: bytes) -> None:
    inbox = watched(folder, mounted_on=os.path.realpath(folder))  # as the ledger remembers
    with pytest.raises(InboxAway, match="not mounted"):
        inbox.look(0.0)
    share()
    (folder / "a.png").write_bytes(film)
    assert names(inbox, 1.0, 3.0) == ["a.png"]


def test_a_share_that_comes_over_a_folder_is_looked_into(share: Callable[[], None], folder: Path, film: bytes) -> None:
    inbox = watched(folder)
    assert names(inbox, 0.0) == []
    before = inbox.mounted_on
    share()
    (folder / "a.png").write_bytes(film)
    assert names(inbox, 1.0, 3.0) == ["a.png"]
    assert (before, inbox.mounted_on) != (inbox.mounted_on, before)


# --- whatever writers do ---------------------------------------------------------------------------------------

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "more", "whole", "rename in", "move", "delete", "overwrite"]),
        st.integers(0, 2),
        st.integers(0, 3),  # which content
        st.sampled_from([0.0, 0.5, 1.9, 2.0, 6.0]),  # then so long nothing happens but looks
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(_STEPS)
def test_no_half_of_a_film_is_given_and_in_the_end_all_is(
    make_png: Callable[..., bytes], steps: list[tuple[str, int, int, float]]
) -> None:
    """Writers pause for 6 s at most, well below the time to give up."""
    films = [make_png(1, 1, 8, 0, [bytes([value])], ((b"tEXt", b"x" * 40 * value),)) for value in range(4)]
    given_of: dict[str, list[bytes]] = {}
    with TemporaryDirectory() as place:
        folder, clock_ns = Path(place, "inbox"), 10**18
        folder.mkdir()
        inbox, now_s = watched(folder), 0.0

        def look(now_s: float) -> None:
            for arrival in taken(inbox, now_s):
                assert arrival.content in films, "half of a film"
                assert arrival.path.read_bytes() == arrival.content
                given_of.setdefault(arrival.name, []).append(arrival.content)

        def put(path: Path, content: bytes) -> None:
            nonlocal clock_ns
            path.write_bytes(content)
            clock_ns += 1
            os.utime(path, ns=(clock_ns, clock_ns))

        for what, which, content, pause_s in steps:
            path, film = folder / f"{which}.png", films[content]
            if what == "begin":
                put(path, film[: len(film) // 2])
            elif what == "more":
                put(path, film[:-1])
            elif what in ("whole", "overwrite"):
                put(path, film)
            elif what == "rename in":
                put(folder / "x.part", film)
                look(now_s)
                (folder / "x.part").replace(path)
            elif what == "move" and path.exists():
                path.replace(folder / f"{which + 1}.png")
            elif what == "delete":
                path.unlink(missing_ok=True)
            look(now_s)
            now_s += pause_s
            look(now_s)
        for path in folder.iterdir():  # every writer finishes
            if path.read_bytes() not in films:
                put(path, films[0])
        for _ in range(3):
            look(now_s)
            now_s += SETTLE_S
        for path in folder.iterdir():
            assert given_of[path.name][-1] == path.read_bytes()
        assert inbox.waiting == 0
        look(now_s + 1000)
        assert len(given_of.get("0.png", [])) <= len(steps) + 1
