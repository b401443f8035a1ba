"""Which films train and which validate: polarity by name, folds by group, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bonefrac.errors import UsageError
from bonefrac_training.split import read_split


def class_folders(folder: Path, labels: tuple[str, str], *, folds: tuple[int, int, str] = (0, 1, "")) -> Path:
    """A `split.csv` of six films; the first label of the two is the first by the alphabet."""
    lines = ["image,label,group,fold"]
    for number, fold in enumerate(folds):
        lines += [f"{label}/{number}.png,{label},g{number},{fold}" for label in labels]
    (folder / "split.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("fractured", "not fractured"), "fractured"),
        (("negative", "positive"), "positive"),
        (("abnormal", "normal"), "abnormal"),
        (("Fracture", "non_fractured"), "Fracture"),
    ],
)
def test_the_label_means_what_its_name_says_not_where_it_sorts(
    labels: tuple[str, str], positive: str, tmp_path: Path
) -> None:
    split = read_split(class_folders(tmp_path, labels), 1)
    films = [*split.train, *split.validation]
    assert len(films) == 4, "a row without a fold was taken"
    assert all(film.fractured == (film.path.parent.name == positive) for film in films)
    assert {film.fold for film in split.validation} == {1}


def test_unknown_labels_want_a_positive_class(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, ("A", "B"))
    with pytest.raises(UsageError, match="--positive-class"):
        read_split(folder, 1)
    split = read_split(folder, 1, positive_class="B")
    assert all(film.fractured == (film.path.parent.name == "B") for film in split.train)


def test_a_table_beside_the_data_counts(tmp_path: Path, collection: Path) -> None:
    table = class_folders(tmp_path, ("fractured", "normal")) / "split.csv"
    split = read_split(collection, 0, table=table)
    assert split.validation[0].path == collection / "fractured" / "0.png"


def test_boxes_come_with_a_table(tmp_path: Path, collection: Path) -> None:
    lines = [f"images/{i}.png,{'positive' if i % 2 == 0 else 'negative'},g{i // 4},{i // 20}" for i in range(40)]
    (tmp_path / "split.csv").write_text("\n".join(["image,label,group,fold", *lines]))
    split = read_split(collection, 1, table=tmp_path / "split.csv")
    whole = read_split(collection, 3)
    assert [film.boxes for film in split.train] == [film.boxes for film in whole.train[:20]]
    assert split.digest != whole.digest
    assert read_split(collection, 3).digest == whole.digest


def test_what_cannot_be_trained_on_is_told(tmp_path: Path, collection: Path) -> None:
    with pytest.raises(UsageError, match=r"neither labels\.csv nor split\.csv"):
        read_split(tmp_path, 3)
    with pytest.raises(UsageError, match="leave --positive-class out"):
        read_split(collection, 3, positive_class="fractured")
    with pytest.raises(UsageError, match=r"fold 7 lack films .* there are the folds 0, 3"):
        read_split(collection, 7)
    folder = class_folders(tmp_path, ("fractured", "normal"))
    (folder / "split.csv").write_text((folder / "split.csv").read_text().replace("g1", "g0"))
    with pytest.raises(UsageError, match="the group g0 is on both sides"):
        read_split(folder, 1)
    (folder / "split.csv").write_text("image,label\na.png,fractured\n")
    with pytest.raises(UsageError, match="lacks a column"):
        read_split(folder, 1)
