"""sources.py: which files are films of a run, and in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.sources import OWN_FOLDER, FilmFiles, base_folder, list_films

Become = Callable[[], AbstractContextManager[None]]
posix = pytest.mark.skipif(os.name != "posix", reason="links and permission bits of POSIX")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "xrays"
    folder.mkdir()
    return folder


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listed(*inputs: Path, out: Path | None = None) -> FilmFiles:
    base = base_folder(list(inputs))
    return list_films(list(inputs), base, out or base.parent / "out")


def found(*inputs: Path, out: Path | None = None) -> list[str]:
    return [film.name for film in listed(*inputs, out=out)]


def test_every_file_below_the_folder_is_listed_once(inbox: Path) -> None:
    put(inbox, "a.jpg", "letter.txt", "deep/er/b.png", "no suffix")
    assert found(inbox) == ["a.jpg", "deep/er/b.png", "letter.txt", "no suffix"]


def test_an_empty_folder_has_no_films(inbox: Path) -> None:
    assert found(inbox) == []


def test_operating_system_litter_is_left_out(inbox: Path) -> None:
    put(inbox, ".DS_Store", "._a.jpg", "Thumbs.db", "thumbs.DB", "desktop.ini", ".hidden/a.jpg", ".a.jpg")
    put(inbox, "__MACOSX/a.jpg", "@eaDir/a.jpg", "$RECYCLE.BIN/a.jpg", "kept.jpg", "thumbs.db.jpg", "__macosx.jpg")
    assert found(inbox) == ["__macosx.jpg", "kept.jpg", "thumbs.db.jpg"]


@posix
@given(st.sets(st.binary(min_size=1).map(lambda name: os.fsdecode(name.replace(b"\0", b"/"))), max_size=20), st.text())
def test_a_name_is_there_if_and_only_if_it_was_listed(names: set[str], other: str) -> None:
    films = FilmFiles("/xrays", sorted(names, key=os.fsencode), {})
    assert all(name in films for name in names)
    assert (other in films) == (other in names)
    assert None not in films
    assert [film.name for film in films] == films.names
    assert len(films) == len(names)


def test_a_file_is_where_its_name_says(inbox: Path) -> None:
    put(inbox, "a.jpg", "deep/er/b.png")
    assert [Path(film.at) for film in listed(inbox)] == [inbox / "a.jpg", inbox / "deep" / "er" / "b.png"]
    assert [Path(film.at) for film in listed(inbox / "deep", inbox / "a.jpg")] == [film.path for film in listed(inbox)]


@posix
def test_names_are_sorted_by_their_bytes(inbox: Path) -> None:
    odd = [
        os.fsdecode(name)
        for name in (b"Z.jpg", b"a.jpg", b"a/b.jpg", b"a-b.jpg", "é.jpg".encode(), b"\xff.jpg", b"new\nline.jpg")
    ]
    put(inbox, *odd)
    assert found(inbox) == sorted(odd, key=os.fsencode)
    assert all(film.path.is_file() for film in listed(inbox))


def test_the_same_name_in_two_folders_is_two_films(inbox: Path) -> None:
    put(inbox, "x/a.jpg", "y/a.jpg")
    assert found(inbox) == ["x/a.jpg", "y/a.jpg"]


@posix
def test_a_link_to_a_file_counts_as_a_file(inbox: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/a.jpg")
    (inbox / "link.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    assert found(inbox) == ["link.jpg"]


@posix
def test_a_loop_of_folder_links_ends(inbox: Path) -> None:
    put(inbox, "deep/a.jpg")
    (inbox / "deep" / "up").symlink_to(inbox, target_is_directory=True)
    (inbox / "deep" / "self").symlink_to(inbox / "deep", target_is_directory=True)
    (inbox / "deep" / "root").symlink_to("/", target_is_directory=True)
    assert found(inbox) == ["deep/a.jpg"]


@posix
def test_a_loop_outside_of_the_folder_ends(inbox: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/a.jpg")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (inbox / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert found(inbox) == ["link/a.jpg"]


@posix
def test_a_link_that_leads_to_itself_does_not_end_the_run(inbox: Path) -> None:
    put(inbox, "a.jpg")
    (inbox / "self").symlink_to(inbox / "self")
    (inbox / "x").symlink_to(inbox / "y")
    (inbox / "y").symlink_to(inbox / "x")
    assert "a.jpg" in found(inbox)


@posix
def test_a_link_to_a_pipe_is_no_film(inbox: Path, tmp_path: Path) -> None:
    """To open one waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(inbox / "pipe")
    (inbox / "link.jpg").symlink_to(tmp_path / "pipe")
    assert found(inbox) == []


@posix
def test_a_folder_outside_is_followed_once(inbox: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/a.jpg", "elsewhere/b/c.jpg")
    for link in ("first", "second"):
        (inbox / link).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert found(inbox) == ["first/a.jpg", "first/b/c.jpg"]


def test_our_own_output_is_never_input(inbox: Path) -> None:
    put(inbox, "a.jpg", "out/results.csv", "out/annotated/a.jpg.jpg", "older/annotated/a.jpg.jpg", "older/results.csv")
    (inbox / "older" / OWN_FOLDER).mkdir()
    assert found(inbox, out=inbox / "out") == ["a.jpg"]


def test_several_inputs_share_one_base(inbox: Path) -> None:
    put(inbox, "x/a.jpg", "y/a.jpg", "y/b.jpg", "z.jpg")
    assert base_folder([inbox / "x", inbox / "y"]) == inbox
    assert found(inbox / "x", inbox / "y" / "b.jpg") == ["x/a.jpg", "y/b.jpg"]


def test_inputs_that_overlap_list_a_film_once(inbox: Path) -> None:
    put(inbox, "x/a.jpg", "b.jpg")
    for inputs in ([inbox, inbox / "x"], [inbox / "x", inbox], [inbox, inbox / "x" / "a.jpg"], [inbox, inbox]):
        assert found(*inputs) == ["b.jpg", "x/a.jpg"]


def test_a_single_file_is_named_by_itself(inbox: Path) -> None:
    put(inbox, "a.jpg", "b.jpg")
    assert found(inbox / "a.jpg") == ["a.jpg"]


def test_a_file_given_twice_is_one_film_of_its_own_name(inbox: Path) -> None:
    put(inbox, "a.jpg")
    assert found(inbox / "a.jpg", inbox / "a.jpg") == ["a.jpg"]


@posix
def test_a_folder_that_cannot_be_listed_has_a_row_of_its_own(inbox: Path, as_nobody: Become) -> None:
    put(inbox, "a.jpg", "closed/b.jpg", "z.jpg")
    (inbox / "closed").chmod(0)
    try:
        with as_nobody():
            films = listed(inbox)
    finally:
        (inbox / "closed").chmod(0o755)
    assert [film.name for film in films] == ["a.jpg", "closed", "z.jpg"]
    assert [bool(film.problem) for film in films] == [False, True, False]
    assert "cannot be listed: Permission denied" in films.problems["closed"]


@posix
def test_a_link_into_a_closed_folder_does_not_end_the_run(inbox: Path, tmp_path: Path, as_nobody: Become) -> None:
    put(inbox, "a.jpg")
    put(tmp_path, "closed/b.jpg")
    (inbox / "link.jpg").symlink_to(tmp_path / "closed" / "b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        with as_nobody():
            names = found(inbox)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert names == ["a.jpg", "link.jpg"]
