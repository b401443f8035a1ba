"""Labelled films: what their table says, and what it may leave out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bonefrac.errors import UsageError
from bonefrac.labelled import list_hash, read_labelled


def collection(folder: Path, labels: str, name: str = "labels.csv") -> Path:
    (folder / "images").mkdir(exist_ok=True)
    (folder / name).write_text(labels, encoding="utf-8")
    (folder / "boxes.csv").write_text("image_id,x_min,y_min,x_max,y_max\na.jpg,1,2,3,4\n", encoding="utf-8")
    return folder


def test_hardware_is_read_where_the_table_says_it(tmp_path: Path) -> None:
    header = "image_id,fractured,fold,group,use,hand,hardware\n"
    films = read_labelled(collection(tmp_path, header + "a.jpg,1,0,g,1,1,1\nb.jpg,0,0,g,1,0,0\nc.jpg,0,0,g,1,0,\n"))
    assert [film.hardware for film in films] == [True, False, None]
    assert films[0].regions == ("hand",)
    assert films[0].boxes == ((1, 2, 3, 4),)


def test_a_collection_without_that_column_says_nothing_of_hardware(tmp_path: Path) -> None:
    films = read_labelled(collection(tmp_path, "image_id,fractured,fold,group,use\na.jpg,1,0,g,1\n"))
    assert films[0].hardware is None


def test_another_table_may_stand_beside_the_images(tmp_path: Path) -> None:
    collection(tmp_path, "image_id,fractured,fold,group,use\na.jpg,1,0,g,1\n", "ours.csv")
    films = read_labelled(tmp_path / "ours.csv")
    assert [film.path for film in films] == [tmp_path / "images" / "a.jpg"]
    with pytest.raises(UsageError, match=r"labels\.csv"):
        read_labelled(tmp_path)
    (tmp_path / "ours.csv").write_text("image_id,fractured\na.jpg,1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"ours\.csv or boxes\.csv lacks a column"):
        read_labelled(tmp_path / "ours.csv")


def test_the_hash_of_a_list_is_of_names_and_contents_in_any_order(tmp_path: Path) -> None:
    films = read_labelled(
        collection(tmp_path, "image_id,fractured,fold,group,use\nb.jpg,1,0,g,1\na.jpg,1,0,g,1\n")
    )  # fmt: skip
    with pytest.raises(UsageError, match="cannot be read"):
        list_hash(films)
    for film in films:
        film.path.write_bytes(film.path.name.encode())
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in ("a.jpg", "b.jpg")]
    assert list_hash(films) == list_hash(films[::-1]) == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    films[0].path.write_bytes(b"another film")
    assert list_hash(films) != hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
