"""Every layout of labelled films is read, and polarity comes from names, never from their order."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("yaml", reason='needs the extra: pip install ".[train]"')

from bonefrac.errors import UsageError
from bonefrac_training.catalogue import Collection, Label, polarity, read_classes
from bonefrac_training.layouts import read_collection

Writer = Callable[..., bytes]


def read(folder: Path, *positive: str) -> Collection:
    return read_collection(folder, out=folder.with_name("out"), positive_class=positive)


def labels(collection: Collection) -> dict[str, Label]:
    return {film.name: film.label for film in collection.films}


def splits(collection: Collection) -> dict[str, str]:
    return {film.name: film.split for film in collection.films}


def write_table(path: Path, *rows: Iterable[object]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["fractured", "Fracture", "POSITIVE", "abnormal", "Forearm Fracture", "elbow-positive", "broken"],
)
def test_names_that_mean_a_fracture(name: str) -> None:
    assert polarity(name) == "fractured"


@pytest.mark.parametrize(
    "name",
    ["not fractured", "Not_Fractured", "non_fractured", "NON-FRACTURED", "nonfractured", "NotFractured", "unfractured",
     "no fracture", "normal", "Negative", "without fracture", "healthy", "normal bones"],
)  # fmt: skip
def test_names_that_mean_none(name: str) -> None:
    assert polarity(name) == "normal"


@pytest.mark.parametrize(
    "name", ["humerus", "0", "class 1", "positive normal", "not normal", "covid positive", "", "abc"]
)
def test_names_that_do_not_tell(name: str) -> None:
    assert polarity(name) == "unknown"


@given(st.permutations(["fractured", "not fractured"]), st.sampled_from(["_", " ", "-", ""]), st.booleans())
def test_order_and_spelling_do_not_matter(names: list[str], separator: str, capitals: bool) -> None:
    spelt = {name: name.replace(" ", separator).upper() if capitals else name.replace(" ", separator) for name in names}
    found = read_classes([spelt[name] for name in names], ())
    assert found == {spelt["fractured"]: "fractured", spelt["not fractured"]: "normal"}


def test_the_users_word_counts_and_others_are_normal() -> None:
    assert read_classes(["a", "b", "normal"], ("A",)) == {"a": "fractured", "b": "normal", "normal": "normal"}
    assert read_classes(["fractured", "zz"], ("zz",)) == {"fractured": "normal", "zz": "fractured"}


@pytest.mark.parametrize(
    ("names", "positive", "said"),
    [(["0", "1"], (), '"0", "1"'), (["a", "b"], ("c",), '"c": there is no such class; there are "a", "b"'),
     (["normal", "negative"], (), "--positive-class"), (["fractured", "other"], (), '"fractured", "other"')],
)  # fmt: skip
def test_a_refusal_shows_the_choices(names: list[str], positive: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as told:
        read_classes(names, positive)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


# --- folders ---------------------------------------------------------------------------------------------------


def test_class_folders_around_and_inside_splits(tmp_path: Path, write_film: Writer) -> None:
    for name in (
        "train/Fractured/a.png",
        "train/not fractured/b.png",
        "val/Fractured/c.jpg",
        "Testing/not fractured/d.png",
    ):
        write_film(tmp_path / "in" / name)
    for name in ("Fractured/train/a.png", "normal/valid/deep/er/b.png", "normal/c.png"):
        write_film(tmp_path / "around" / name)
    inside, around = read(tmp_path / "in"), read(tmp_path / "around")
    assert labels(inside) == {"train/Fractured/a.png": "fractured", "train/not fractured/b.png": "normal",
                              "val/Fractured/c.jpg": "fractured", "Testing/not fractured/d.png": "normal"}  # fmt: skip
    assert set(splits(inside).values()) == {"train", "validation", "test"}
    assert splits(inside)["Testing/not fractured/d.png"] == "test"
    assert labels(around) == {"Fractured/train/a.png": "fractured", "normal/valid/deep/er/b.png": "normal",
                              "normal/c.png": "normal"}  # fmt: skip
    assert splits(around) == {"Fractured/train/a.png": "train", "normal/valid/deep/er/b.png": "validation",
                              "normal/c.png": ""}  # fmt: skip


def test_classes_below_another_folder_and_a_film_outside_of_them(tmp_path: Path, write_film: Writer) -> None:
    for name in ("wrist/positive/a.png", "hip/negative/b.png", "stray.png"):
        write_film(tmp_path / "d" / name)
    assert labels(read(tmp_path / "d")) == {"wrist/positive/a.png": "fractured", "hip/negative/b.png": "normal",
                                            "stray.png": "unknown"}  # fmt: skip


def test_unknown_folders_ask_and_the_answer_is_taken(tmp_path: Path, write_film: Writer) -> None:
    for name in ("1/a.png", "0/b.png"):
        write_film(tmp_path / "d" / name)
    with pytest.raises(UsageError, match=r'--positive-class with one of "0", "1"'):
        read(tmp_path / "d")
    assert labels(read(tmp_path / "d", "1")) == {"1/a.png": "fractured", "0/b.png": "normal"}
    assert labels(read(tmp_path / "d", "0")) == {"1/a.png": "normal", "0/b.png": "fractured"}


def test_mura(tmp_path: Path, write_film: Writer) -> None:
    for name in ("train/XR_WRIST/patient00001/study1_positive/image1.png",
                 "train/XR_WRIST/patient00001/study2_negative/image1.png",
                 "valid/XR_HAND/patient00002/study1_negative/image1.png"):  # fmt: skip
        write_film(tmp_path / "MURA" / name)
    mura = read(tmp_path / "MURA")
    assert mura.layout == "MURA"
    assert [(f.label, f.split, f.group, f.region) for f in sorted(mura.films, key=lambda f: f.name)] == [
        ("fractured", "train", "patient00001", "wrist"), ("normal", "train", "patient00001", "wrist"),
        ("normal", "validation", "patient00002", "hand")]  # fmt: skip
    assert "abnormal" in mura.notes[0]


# --- tables ----------------------------------------------------------------------------------------------------


def test_a_table_with_boxes_folds_and_rows_not_for_use(tmp_path: Path, write_film: Writer) -> None:
    for name in ("a.png", "b.png", "c.png", "not-listed.png"):
        write_film(tmp_path / "d" / "images" / name)
    write_table(tmp_path / "d" / "labels.csv",
                ["image_id", "fractured", "fold", "group", "use", "hand", "hip"],
                ["a.png", 1, 0, "g1", 1, 1, 0], ["b.png", 0, 3, "g2", 0, 1, 1], ["c.png", "", 2, "", 1, 0, 0],
                ["gone.png", 1, 0, "g3", 1, 0, 0])  # fmt: skip
    write_table(tmp_path / "d" / "boxes.csv", ["image_id", "x_min", "y_min", "x_max", "y_max"],
                ["a.png", 1, 2, 3, 4.5], ["a.png", 5, 6, 7, 8], ["zz.png", 1, 2, 3, 4],
                ["b.png", "one", 2, 3, 4])  # fmt: skip
    table = read(tmp_path / "d")
    films = {film.path.name: film for film in table.films}
    assert [films[name].label for name in ("a.png", "b.png", "c.png", "not-listed.png")] == [
        "fractured", "normal", "unknown", "unknown"]  # fmt: skip
    assert films["a.png"].boxes == ((1, 2, 3, 4.5), (5, 6, 7, 8))
    assert (films["a.png"].split, films["a.png"].group, films["a.png"].region) == ("fold 0", "g1", "hand")
    assert films["b.png"].region == "hand+hip"
    assert [films["a.png"].use, films["b.png"].use] == [True, False]
    said = dict(table.problems)
    assert "no such file" in said["gone.png"]
    assert "no row says" in said["zz.png"]
    assert "line 5" in said["boxes.csv"]


def test_a_table_of_class_names_and_one_whose_ones_need_a_word(tmp_path: Path, write_film: Writer) -> None:
    for name in ("x/a.png", "x/b.png"):
        write_film(tmp_path / name)
    write_table(tmp_path / "any.csv", ["Path", "Label", "Split"], ["x/a.png", "Non-fractured", "val"],
                ["x/b.png", "Fractured", "train"])  # fmt: skip
    table = read(tmp_path)
    assert labels(table) == {"x/a.png": "normal", "x/b.png": "fractured"}
    assert splits(table) == {"x/a.png": "validation", "x/b.png": "train"}
    write_table(tmp_path / "any.csv", ["path", "label"], ["x/a.png", 0], ["x/b.png", 1])
    with pytest.raises(UsageError, match="--positive-class"):
        read(tmp_path)
    assert labels(read(tmp_path, "0")) == {"x/a.png": "fractured", "x/b.png": "normal"}


def test_a_table_may_give_bare_names_where_they_are_clear(tmp_path: Path, write_film: Writer) -> None:
    for name in ("deep/er/a.png", "one/b.png", "two/b.png"):
        write_film(tmp_path / name)
    write_table(tmp_path / "labels.csv", ["image", "label"], ["a.png", "fractured"], ["b.png", "normal"],
                ["deep\\er\\a.png", "normal"])  # fmt: skip
    table = read(tmp_path)
    assert labels(table) == {"deep/er/a.png": "fractured", "one/b.png": "unknown", "two/b.png": "unknown"}
    said = dict(table.problems)
    assert "or several" in said["b.png"]
    assert "lists it twice" in said["deep\\er\\a.png"]


def test_two_tables_and_a_crooked_one_are_refused(tmp_path: Path, write_film: Writer) -> None:
    write_film(tmp_path / "a.png")
    for name in ("one.csv", "two.csv"):
        write_table(tmp_path / name, ["image", "label"], ["a.png", "normal"])
    with pytest.raises(UsageError, match="call the one that counts"):
        read(tmp_path)
    write_table(tmp_path / "labels.csv", ["image", "label"], ["a.png", "normal", "extra"])
    with pytest.raises(UsageError, match="line 2 has 3 cells, not 2"):
        read(tmp_path)


def test_an_audits_own_split_is_no_table_of_labels(tmp_path: Path, write_film: Writer) -> None:
    for name in ("fractured/a.png", "normal/b.png"):
        write_film(tmp_path / name)
    write_table(tmp_path / "split.csv", ["image", "label", "group", "fold"], ["fractured/a.png", "normal", "g", 0])
    assert read(tmp_path).layout == "class folders"


# --- detectors' layouts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["{split}/images/{name}", "images/{split}/{name}"])
def test_yolo_boxes_polygons_and_backgrounds(tmp_path: Path, write_film: Writer, pattern: str) -> None:
    def put(split: str, name: str, text: str | None) -> None:
        picture = pattern.format(split=split, name=name)
        write_film(tmp_path / picture)
        if text is not None:
            label = tmp_path / picture.replace("images", "labels").replace(".png", ".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)

    (tmp_path / "data.yaml").write_text("train: x\nnames:\n  0: text\n  1: fracture\n")
    put("train", "box.png", "1 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.1 0.1\n")
    put("train", "outline.png", "1 0.1 0.2 0.3 0.2 0.3 0.6\n")
    put("val", "empty.png", "")
    put("val", "background.png", None)
    put("test", "marker-only.png", "0 0.1 0.1 0.1 0.1")
    put("test", "damaged.png", "1 0.5 half 0.1 0.1")
    yolo = read(tmp_path)
    films = {film.path.name: film for film in yolo.films}
    assert yolo.layout == "YOLO"
    assert yolo.classes == {"fracture": "fractured", "text": "unknown"}
    assert {name: film.label for name, film in films.items()} == {
        "box.png": "fractured", "outline.png": "fractured", "empty.png": "normal", "background.png": "normal",
        "marker-only.png": "normal", "damaged.png": "unknown"}  # fmt: skip
    assert films["box.png"].boxes_px(100, 1000) == (pytest.approx((40, 300, 60, 700)),)
    assert films["outline.png"].boxes[0] == pytest.approx((0.1, 0.2, 0.3, 0.6))
    assert films["outline.png"].polygons == (((0.1, 0.2), (0.3, 0.2), (0.3, 0.6)),)
    assert films["empty.png"].split == "validation"
    assert len(yolo.problems) == 1
    assert yolo.problems[0][0].endswith("damaged.txt")


def test_yolo_without_names_asks(tmp_path: Path, write_film: Writer) -> None:
    write_film(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("3 0.5 0.5 0.1 0.1")
    with pytest.raises(UsageError, match='"class 3"'):
        read(tmp_path)
    assert labels(read(tmp_path, "class 3")) == {"images/a.png": "fractured"}
    (tmp_path / "data.yaml").write_text("nc: 1\n")
    with pytest.raises(UsageError, match="names"):
        read(tmp_path)


def coco(names: list[str], annotations: list[dict[str, object]]) -> str:
    return json.dumps({
        "images": [{"id": n, "file_name": name, "width": 380, "height": 500} for n, name in enumerate(names)],
        "categories": [{"id": 1, "name": "fracture"}, {"id": 2, "name": "metal"}],
        "annotations": annotations,
    })  # fmt: skip


def test_coco_with_a_file_for_each_split(tmp_path: Path, write_film: Writer) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_film(tmp_path / "images" / name)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(coco(
        ["a.png", "b.png"],
        [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 20, 30, 40],
          "segmentation": [[10, 20, 40, 20, 40, 60]]},
         {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 1, 2, 2]}]))  # fmt: skip
    (tmp_path / "annotations" / "instances_val.json").write_text(
        coco(["c.png", "gone.png"], [{"id": 7, "image_id": 0, "category_id": 9, "bbox": [1, 1, 2, 2]}])
    )
    found = read(tmp_path)
    films = {film.path.name: film for film in found.films}
    assert found.layout == "COCO"
    assert {name: (film.label, film.split) for name, film in films.items()} == {
        "a.png": ("fractured", "train"), "b.png": ("normal", "train"), "c.png": ("normal", "validation")}  # fmt: skip
    assert films["a.png"].boxes == ((10, 20, 40, 60),)
    assert films["a.png"].polygons == (((10, 20), (40, 20), (40, 60)),)
    assert {name for name, _ in found.problems} == {"gone.png", "annotations/instances_val.json"}


def test_damaged_coco_is_refused(tmp_path: Path, write_film: Writer) -> None:
    write_film(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(coco(["a.png"], []).replace('"file_name"', '"name"'))
    with pytest.raises(UsageError, match="lacks a field"):
        read(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UsageError, match="damaged JSON"):
        read(tmp_path)


def voc(name: str, *objects: str) -> str:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    inside = "".join(f"<object><name>{kind}</name>{box}</object>" for kind in objects)
    return f"<annotation><filename>{name}</filename>{inside}</annotation>"


def test_pascal_voc(tmp_path: Path, write_film: Writer) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_film(tmp_path / "JPEGImages" / name)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(voc("a.png", "fracture", "metal"))
    (tmp_path / "Annotations" / "b.xml").write_text(voc("b.png"))
    (tmp_path / "Annotations" / "gone.xml").write_text(voc("gone.png", "fracture"))
    (tmp_path / "Annotations" / "cut.xml").write_text("<annotation>")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    found = read(tmp_path)
    films = {film.path.name: film for film in found.films}
    assert found.layout == "Pascal VOC"
    assert [films[n].label for n in ("a.png", "b.png", "c.png")] == ["fractured", "normal", "unknown"]
    assert films["a.png"].boxes == ((1, 2, 30, 40),)
    assert (films["a.png"].split, films["b.png"].split) == ("validation", "")
    assert {name for name, _ in found.problems} == {"gone.png", "Annotations/cut.xml"}


# --- refusals --------------------------------------------------------------------------------------------------


def test_a_folder_without_pictures_or_without_labels_is_refused(tmp_path: Path, write_film: Writer) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no picture"):
        read(tmp_path / "empty")
    write_film(tmp_path / "flat" / "a.png")
    with pytest.raises(UsageError, match="a folder for each class"):
        read(tmp_path / "flat")


def test_what_an_earlier_audit_wrote_is_no_film(tmp_path: Path, write_film: Writer) -> None:
    for name in ("fractured/a.png", "normal/b.png", "results/picture.png"):
        write_film(tmp_path / name)
    found = read_collection(tmp_path, out=tmp_path / "results")
    assert set(labels(found)) == {"fractured/a.png", "normal/b.png"}
