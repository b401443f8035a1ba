"""sinks.py: what a run writes, whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.results import Failure, Finding, Region, Source
from bonefrac.sinks import COLUMNS, CsvSink, JsonLinesSink, atomic, picture_path, printable

MODEL = {"model": "flagship 1.0", "model_sha256": "ab" * 32, "precision": "int8"}
FINDING = Finding(
    Source("hand/a.png", "cd" * 32), "fracture", 0.98765, (Region((1.0, 2.0, 30.0, 40.0), (5.0, 6.0), 0.75),), 640, 480
)
FAILURE = Failure(Source("b.jpg", ""), "failed", "cut short")

# any name that a POSIX folder can hold, as Python sees it
names = st.lists(
    st.binary(min_size=1, max_size=20).filter(lambda part: b"/" not in part and b"\0" not in part),
    min_size=1,
    max_size=3,
).map(lambda parts: os.fsdecode(b"/".join(parts)))


def csv_rows(*results: Finding | Failure, model: dict[str, str] | None = None) -> list[list[str]]:
    file = io.BytesIO()
    sink = CsvSink(file, model or MODEL)
    for result in results:
        sink.write(result)
    return list(csv.reader(io.StringIO(file.getvalue().decode("utf-8"), newline="")))


# --- atomic ----------------------------------------------------------------------------------------------------


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "results.csv"
    for text in (b"first", b"second"):
        with atomic(path) as file:
            file.write(text)
        assert path.read_bytes() == text
    assert os.listdir(path.parent) == ["results.csv"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(b"old")

    def half() -> None:
        with atomic(path) as file:
            file.write(b"half of the n")
            raise error

    with pytest.raises(type(error)):
        half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_the_final_name_is_not_there_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with atomic(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.exists()


def test_a_disk_that_fills_up_at_the_very_end_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), atomic(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["results.csv"]


# --- CSV -------------------------------------------------------------------------------------------------------


def test_the_columns_stand_in_the_promised_order() -> None:
    header, finding, failure = csv_rows(FINDING, FAILURE)
    assert header == ["path", "sha256", "status", "finding", "probability", "regions", "width", "height",
                      "model", "model_sha256", "precision", "message"] == list(COLUMNS)  # fmt: skip
    assert finding == ["hand/a.png", "cd" * 32, "ok", "fracture", "0.9877",
                       '[{"box": [1, 2, 30, 40], "score": 0.75}]', "640", "480", *MODEL.values(), ""]  # fmt: skip
    assert failure == ["b.jpg", "", "failed", "", "", "", "", "", *MODEL.values(), "cut short"]


def test_an_ok_film_without_regions_has_an_empty_list() -> None:
    calm = Finding(Source("a.png", ""), "no_fracture_detected", 0.01, (), 640, 480)
    row = dict(zip(COLUMNS, csv_rows(calm)[1], strict=True))
    assert (row["finding"], row["probability"], row["regions"]) == ("no_fracture_detected", "0.0100", "[]")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_cell_starts_a_formula(sign: str) -> None:
    text = sign + 'cmd|"/c calc"!A1'
    evil = Failure(Source(text, ""), "failed", text)
    row = dict(zip(COLUMNS, csv_rows(evil, model={**MODEL, "model": text})[1], strict=True))
    for column in ("path", "message", "model"):
        assert row[column] == "'" + text


@pytest.mark.parametrize(
    "name", ["a,b.png", 'a"b.png', "a\nb.png", "a\r\nb.png", "röntgen/手.png", " a .png", "a'b.png"]
)
def test_an_odd_name_comes_back_from_the_table(name: str) -> None:
    assert csv_rows(Failure(Source(name, ""), "failed", name))[1][0] == name


@given(names)
def test_any_name_is_one_readable_row(name: str) -> None:
    rows = csv_rows(Failure(Source(name, ""), "failed", "why"), FAILURE)
    assert len(rows) == 3
    assert len(rows[1]) == len(COLUMNS)
    shown = rows[1][0]
    assert shown.removeprefix("'") == printable(name).removeprefix("'")
    assert shown[0] not in "=+-@\t\r"


def test_a_name_that_is_no_utf_8_is_shown_by_its_bytes() -> None:
    assert printable(os.fsdecode(b"r\xf6ntgen.png")) == "r\\xf6ntgen.png"
    assert printable("röntgen.png") == "röntgen.png"


def test_a_message_that_names_such_a_file_can_be_written() -> None:
    """What a library says of a file may repeat its name; one such row may not end the run."""
    odd = Failure(Source("a.png", ""), "failed", os.fsdecode(b"cannot read r\xf6ntgen.png"))
    assert csv_rows(odd)[1][-1].startswith("cannot read r")


# --- JSON Lines ------------------------------------------------------------------------------------------------


@given(names)
def test_every_line_is_a_json_object(name: str) -> None:
    file = io.BytesIO()
    sink = JsonLinesSink(file, MODEL)
    for result in (FINDING, Failure(Source(name, ""), "not_analysed", "why")):
        sink.write(result)
    lines = file.getvalue().split(b"\n")
    assert lines.pop() == b""
    first, second = (json.loads(line) for line in lines)
    assert list(first) == list(second) == list(COLUMNS)
    assert first["probability"] == 0.98765
    assert first["regions"] == [{"box": [1, 2, 30, 40], "score": 0.75}]
    assert second["path"] == printable(name)
    assert second["probability"] is None


# --- pictures --------------------------------------------------------------------------------------------------


def test_pictures_mirror_the_tree(tmp_path: Path) -> None:
    assert picture_path(tmp_path, "knee/left/a.png") == tmp_path / "knee" / "left" / "a.png.marked.jpg"


def test_films_of_one_stem_have_pictures_of_their_own(tmp_path: Path) -> None:
    films = ["a.png", "a.tif", "a.jpg", "a", "x/a.png", "y/a.png", "A.png"]
    assert len({picture_path(tmp_path, name) for name in films}) == len(films)


def test_a_picture_never_stands_where_a_folder_must(tmp_path: Path) -> None:
    """A film `a` beside folders that end as pictures do elsewhere."""
    assert picture_path(tmp_path, "a") not in picture_path(tmp_path, "a.jpg/b.png").parents


@pytest.mark.parametrize("letter", ["x", "é", "手", os.fsdecode(b"\xf6")])
def test_the_longest_names_have_pictures_that_can_be_written(tmp_path: Path, letter: str) -> None:
    count = 250 // len(os.fsencode(letter))
    pictures = [picture_path(tmp_path, letter * count + tail) for tail in (".png", ".tif")]
    for picture in pictures:
        with atomic(picture) as file:
            file.write(b"x")
    assert len(os.listdir(tmp_path)) == 2


@given(st.lists(names, min_size=2, max_size=5, unique=True))
def test_no_two_films_share_a_picture(films: list[str]) -> None:
    assert len({picture_path(Path("out"), name) for name in films}) == len(films)
