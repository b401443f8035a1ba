"""originals.py: at no moment is a film in no place whole."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bonefrac.errors import OutputError
from bonefrac.inbox import Look, look_of
from bonefrac.originals import REASON, archive, quarantine
from bonefrac.sinks import PART

Become = Callable[[], AbstractContextManager[None]]
posix = pytest.mark.skipif(os.name != "posix", reason="links and permission bits of POSIX")
CONTENT = b"a film" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    film = tmp_path / "inbox" / "sub" / "a.png"
    film.parent.mkdir(parents=True)
    film.write_bytes(CONTENT)
    return film


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def look(film: Path) -> Look:
    return look_of(film.stat())


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def moved(film: Path, folder: Path) -> bool:
    return archive(film, "sub/a.png", sha256=SHA256, look=look(film), folder=folder)


def set_apart(film: Path, folder: Path, *, reason: str = "cut short", sha256: str = SHA256) -> None:
    quarantine(film, "sub/a.png", sha256=sha256, reason=reason, folder=folder)


def test_a_film_is_moved_to_the_same_place_in_the_archive(film: Path, folder: Path) -> None:
    assert moved(film, folder)
    assert not film.exists()
    assert files(folder) == {"sub/a.png": CONTENT}


@pytest.mark.parametrize("changed", [CONTENT + b"!", b"another" * 1000, CONTENT[:-1] + b"?"])
def test_a_film_that_changed_is_never_removed(film: Path, folder: Path, changed: bytes) -> None:
    before = look(film)
    film.write_bytes(changed)
    os.utime(film, ns=(5, 5))
    assert not archive(film, "sub/a.png", sha256=SHA256, look=before, folder=folder)
    assert film.read_bytes() == changed
    assert files(folder) == {}


def test_a_film_that_changes_while_it_is_copied_is_not_removed(
    film: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, replace = look(film), os.replace

    def meddled(*arguments: str) -> None:
        replace(*arguments)
        film.write_bytes(b"new")

    monkeypatch.setattr(os, "replace", meddled)
    assert not archive(film, "sub/a.png", sha256=SHA256, look=before, folder=folder)
    assert film.read_bytes() == b"new"


def test_a_film_touched_since_a_copy_was_made_is_not_removed(film: Path, folder: Path) -> None:
    before = look(film)
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(CONTENT)  # of a run that was cut off
    film.write_bytes(b"another")
    assert not archive(film, "sub/a.png", sha256=SHA256, look=before, folder=folder)
    assert film.read_bytes() == b"another"


def test_a_film_that_somebody_took_away_is_no_error(film: Path, folder: Path) -> None:
    before = look(film)
    film.unlink()
    assert not archive(film, "sub/a.png", sha256=SHA256, look=before, folder=folder)
    quarantine(film, "sub/a.png", sha256=SHA256, reason="x", folder=folder)
    assert files(folder) == {}


def test_a_copy_of_a_run_that_was_cut_off_is_used(film: Path, folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(CONTENT)
    written = (folder / "sub" / "a.png").stat().st_mtime_ns
    assert moved(film, folder)
    assert not film.exists()
    assert (folder / "sub" / "a.png").stat().st_mtime_ns == written


@pytest.mark.parametrize("taken", [b"another film", b"", None], ids=["film", "empty", "folder"])
def test_another_content_under_the_name_is_kept(film: Path, folder: Path, taken: bytes | None) -> None:
    place = folder / "sub" / "a.png"
    place.parent.mkdir(parents=True)
    if taken is None:
        place.mkdir()
    else:
        place.write_bytes(taken)
    assert moved(film, folder)
    before = {} if taken is None else {"sub/a.png": taken}
    assert files(folder) == before | {f"sub/a.{SHA256[:12]}.png": CONTENT}
    film.write_bytes(CONTENT)  # dropped again
    assert moved(film, folder)
    assert len(files(folder)) == len(before) + 1


def test_a_copy_that_does_not_read_back_as_written_removes_nothing(film: Path, folder: Path) -> None:
    place = folder / "sub" / f"a.{SHA256[:12]}.png"
    place.parent.mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(b"another")
    place.write_bytes(CONTENT[:-1])  # a bad disk
    with pytest.raises(OutputError, match="does not read back"):
        moved(film, folder)
    assert film.read_bytes() == CONTENT


@posix
def test_of_a_link_only_the_link_goes(film: Path, folder: Path) -> None:
    link = film.with_name("link.png")
    link.symlink_to(film)
    assert archive(link, "sub/link.png", sha256=SHA256, look=look(link), folder=folder)
    assert film.read_bytes() == CONTENT
    assert not link.is_symlink()
    assert files(folder) == {"sub/link.png": CONTENT}
    assert not (folder / "sub" / "link.png").is_symlink()


@posix
def test_a_folder_that_cannot_be_written_is_told_and_the_original_stays(
    film: Path, folder: Path, as_nobody: Become
) -> None:
    folder.mkdir()
    for use in (moved, set_apart):
        with as_nobody(), pytest.raises(OutputError, match="Permission denied"):
            use(film, folder)
    assert film.read_bytes() == CONTENT
    folder.chmod(0o777)
    with as_nobody(), pytest.raises(OutputError, match="its original stays"):
        moved(film, folder)  # a read-only inbox: copied, and not removed
    assert film.read_bytes() == CONTENT


@posix
def test_a_copy_that_may_not_be_read_is_told(film: Path, folder: Path, as_nobody: Become) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(CONTENT)
    (folder / "sub" / "a.png").chmod(0)
    for use in (moved, set_apart):
        with as_nobody(), pytest.raises(OutputError, match="Permission denied"):
            use(film, folder)
    assert film.read_bytes() == CONTENT


def test_a_failed_film_is_copied_with_its_reason(film: Path, folder: Path) -> None:
    set_apart(film, folder, reason="cut short é \udcff")
    assert files(folder) == {"sub/a.png": CONTENT, f"sub/a.png{REASON}": "cut short é \\udcff\n".encode()}
    assert film.read_bytes() == CONTENT
    set_apart(film, folder, reason="set aside")
    assert files(folder) == {"sub/a.png": CONTENT, f"sub/a.png{REASON}": b"set aside\n"}


def test_another_failed_film_of_that_name_is_kept_beside_it(film: Path, folder: Path) -> None:
    set_apart(film, folder)
    film.write_bytes(b"another")
    other = hashlib.sha256(b"another").hexdigest()
    set_apart(film, folder, sha256=other)
    assert files(folder)["sub/a.png"] == CONTENT
    assert files(folder)[f"sub/a.{other[:12]}.png"] == b"another"


def test_of_a_film_that_could_not_be_read_there_is_the_reason(film: Path, folder: Path) -> None:
    set_apart(film, folder, sha256="", reason="no permission")
    assert files(folder) == {f"sub/a.png{REASON}": b"no permission\n"}


def test_a_failed_film_that_changed_is_not_copied(film: Path, folder: Path) -> None:
    film.write_bytes(b"another")
    set_apart(film, folder)
    assert files(folder) == {}


_KILLED = """
import os, signal, sys
from pathlib import Path
from bonefrac.inbox import look_of
from bonefrac.originals import archive
film, folder, sha256, after = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
steps = 0
def stepping(call):
    def step(*arguments, **keywords):
        global steps
        for moment in ("before", "after"):
            if steps == after:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
            if moment == "before":
                result = call(*arguments, **keywords)
        return result
    return step
for name in ("replace", "fsync", "unlink", "mkdir", "stat"):
    setattr(os, name, stepping(getattr(os, name)))
sys.exit(0 if archive(film, "sub/a.png", sha256=sha256, look=look_of(os.lstat(film)), folder=folder) else 3)
"""


@posix
def test_a_kill_at_any_step_leaves_the_film_whole_in_one_place_at_least(film: Path, folder: Path) -> None:
    kills = 0
    while True:
        film.write_bytes(CONTENT)
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED, film, folder, SHA256, str(kills)], check=False
        ).returncode
        places = [place for place in (film, folder / "sub" / "a.png") if place.exists()]
        assert places
        assert all(place.read_bytes() == CONTENT for place in places), f"half a film after step {kills}"
        if ended == 0:
            break
        assert ended == -9
        kills += 1
        if film.exists():  # the next start goes on with it
            assert moved(film, folder)
        assert not film.exists()
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            assert path.name == "a.png" or path.name.startswith(PART)
            path.unlink()
    assert kills >= 10
