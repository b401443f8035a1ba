"""Which films train and which validate: polarity by name, folds by group, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from bonefrac.errors import UsageError
from bonefrac_training.split import read_split

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BONEFRAC_DATA", ROOT.parent / "shared" / "data")) / "fracatlas"


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


def test_boxes_beside_the_table_count_before_the_datas(tmp_path: Path, collection: Path) -> None:
    """As audit writes them: from what other layouts say, under the names of the table."""
    lines = [f"images/{i}.png,{'positive' if i % 2 == 0 else 'negative'},g{i // 4},{i // 20}" for i in range(40)]
    (tmp_path / "split.csv").write_text("\n".join(["image,label,group,fold", *lines]))
    (tmp_path / "boxes.csv").write_text(
        "image_id,x_min,y_min,x_max,y_max\nimages/0.png,1,2,3,4.5\nimages/0.png,5,6,7,8\n"
    )
    split = read_split(collection, 1, table=tmp_path / "split.csv")
    assert [film.boxes for film in split.train[:3]] == [((1, 2, 3, 4.5), (5, 6, 7, 8)), (), ()]
    (tmp_path / "boxes.csv").write_text("image_id,x_min,y_min,x_max,y_max\nimages/0.png,1,2,3\n")
    with pytest.raises(UsageError, match=r"boxes\.csv: lacks a column, or has a side that is no number"):
        read_split(collection, 1, table=tmp_path / "split.csv")


def test_films_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """In MURA all are image1.png: which of them is the fractured one decides what a run is."""
    names = [f"patient{number}/study1/image1.png" for number in range(4)]
    splits = []
    for labels in (("normal", "fractured", "normal", "fractured"), ("fractured", "normal", "fractured", "normal")):
        rows = [f"{n},{label},g{i},{i // 2}" for i, (n, label) in enumerate(zip(names, labels, strict=True))]
        (tmp_path / "split.csv").write_text("\n".join(["image,label,group,fold", *rows]))
        splits.append(read_split(tmp_path, 1))
    assert splits[0].digest != splits[1].digest
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "split.csv").write_text((tmp_path / "split.csv").read_text())
    assert read_split(elsewhere, 1).digest == splits[1].digest, "the data's own place counts"


def test_a_digest_is_that_of_earlier_runs(collection: Path) -> None:
    """Where names tell films apart it is made of them alone: the committed runs can be gone on with and averaged."""
    split = read_split(collection, 3)
    films = sorted(repr((f.path.name, f.fractured, f.fold, f.boxes)) for f in (*split.train, *split.validation))
    assert split.digest == hashlib.sha256("\n".join(films).encode()).hexdigest()


@pytest.mark.films
@pytest.mark.skipif(not (DATA / "labels.csv").is_file(), reason="the real films are missing: BONEFRAC_DATA")
def test_the_committed_runs_are_of_these_films() -> None:
    for run in sorted((ROOT / "training" / "histories").iterdir()):
        facts = json.loads((run / "training.json").read_text(encoding="utf-8"))
        assert read_split(DATA, facts["fold"]).digest == facts["films"], run.name


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
