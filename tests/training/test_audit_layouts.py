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
from bonefrac_training.catalogue import Collection, Label, polarity, read_classes, split_word
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
    ["fractured", "Fracture", "POSITIVE", "abnormal", "Forearm Fracture", "elbow-positive", "broken", "fracture_yes",
     "FRACTURE-YES", "FractureYes", "fracture present", "fracture pos", "Fracture (positive)", "yes_fracture"],
)  # fmt: skip
def test_names_that_mean_a_fracture(name: str) -> None:
    assert polarity(name) == "fractured"


@pytest.mark.parametrize(
    "name",
    ["not fractured", "Not_Fractured", "non_fractured", "NON-FRACTURED", "nonfractured", "NotFractured", "unfractured",
     "no fracture", "normal", "Negative", "without fracture", "healthy", "normal bones", "fracture_no", "FRACTURE-NO",
     "FractureNo", "fracture not", "fracture_absent", "Fracture-Free", "fracturefree", "fracture neg", "fracture none",
     "Fracture (negative)", "free of fracture", "fracture not present", "no fracture present", "normal, no fracture",
     "no fracture (normal)"],
)  # fmt: skip
def test_names_that_mean_none(name: str) -> None:
    assert polarity(name) == "normal"


@pytest.mark.parametrize(
    "name",
    ["humerus", "0", "class 1", "positive normal", "not normal", "covid positive", "", "abc", "hairline fracture",
     "no fracture no", "positive negative", "yes", "no", "none", "fracture 0", "перелом fracture", "not negative"],
)  # fmt: skip
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
     (["normal", "negative"], (), "--positive-class"), (["fractured", "other"], (), '"fractured", "other"'),
     ([], (), "no film has a label")],
)  # fmt: skip
def test_a_refusal_shows_the_choices(names: list[str], positive: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as told:
        read_classes(names, positive)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["hairline fracture", "fracture_0", "hairlinefracture", "covid positive"])
def test_another_object_is_no_fracture_that_nobody_asked_about(name: str) -> None:
    assert read_classes(["fracture", "metal"], (), others=True) == {"fracture": "fractured", "metal": "unknown"}
    with pytest.raises(UsageError, match="once for each"):
        read_classes(["fracture", name], (), others=True)
    assert set(read_classes(["fracture", name, "metal"], ("fracture", name), others=True).values()) == {
        "fractured", "normal"}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("Training_Set", "train"), ("validation_set", "validation"), ("TestSet", "test"),
     ("testset", "test"), ("val2017", "validation"), ("test-images", "test"), ("dev", "validation"),
     ("data", ""), ("set", ""), ("fractured", ""), ("train fractured", "")],
)  # fmt: skip
def test_names_of_splits(name: str, split: str) -> None:
    assert split_word(name) == split


# --- folders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["Bone Fracture", "fracture/images", "Fractures/Fracture data/positive"])
def test_a_folder_round_both_classes_is_no_class(tmp_path: Path, write_film: Writer, around: str) -> None:
    for name in ("train/fractured/a.png", "train/not fractured/b.png", "test/fractured/c.png"):
        write_film(tmp_path / around / name)
    found = read(tmp_path)
    assert set(found.classes) == {"fractured", "not fractured"}
    assert [film.label for film in found.films] == ["fractured", "fractured", "normal"]
    assert [film.split for film in found.films] == ["test", "train", "train"]


def test_sets_are_splits(tmp_path: Path, write_film: Writer) -> None:
    for name in ("training_set/fractured/a.png", "validation_set/normal/b.png", "fractured/TestSet/c.png"):
        write_film(tmp_path / name)
    assert splits(read(tmp_path)) == {
        "training_set/fractured/a.png": "train", "validation_set/normal/b.png": "validation",
        "fractured/TestSet/c.png": "test"}  # fmt: skip


def test_boxes_beside_class_folders_are_read(tmp_path: Path, write_film: Writer) -> None:
    for name in ("fractured/a.png", "normal/b.png"):
        write_film(tmp_path / name)
    write_table(tmp_path / "boxes.csv", ["image_id", "x_min", "y_min", "x_max", "y_max"], ["a.png", 1, 2, 3, 4],
                ["gone.png", 1, 2, 3, 4])  # fmt: skip
    found = read(tmp_path)
    assert [film.boxes for film in found.films] == [((1, 2, 3, 4),), ()]
    assert [name for name, _ in found.problems] == ["gone.png"]


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


def test_muras_studies_without_a_patient_above(tmp_path: Path, write_film: Writer) -> None:
    for name in ("study1_positive/image1.png", "test/study2_negative/image1.png"):
        write_film(tmp_path / name)
    assert [(film.label, film.split, film.group) for film in read(tmp_path).films] == [
        ("fractured", "", ""), ("normal", "test", "")]  # fmt: skip


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


@pytest.mark.parametrize("cell", [";", "\t"])
def test_cells_between_semicolons_or_tabs_and_names_without_ending(
    tmp_path: Path, write_film: Writer, cell: str
) -> None:
    for name in ("images/a.1.png", "images/b.jpg", "images/c.png", "images/c.jpg"):
        write_film(tmp_path / name)
    rows = [["image_id", "label", "split"], ["a.1", "fractured", "test_set"], ["images/b", "normal", "training_set"],
            ["c", "normal", ""]]  # fmt: skip
    (tmp_path / "labels.csv").write_text("".join(cell.join(row) + "\n" for row in rows))
    boxes = [["image_id", "x_min", "y_min", "x_max", "y_max"], ["a.1", "1", "2", "3", "4"]]
    (tmp_path / "boxes.csv").write_text("".join(cell.join(row) + "\n" for row in boxes))
    table = read(tmp_path)
    films = {film.name: film for film in table.films}
    assert (films["images/a.1.png"].label, films["images/a.1.png"].split) == ("fractured", "test")
    assert films["images/a.1.png"].boxes == ((1, 2, 3, 4),)
    assert (films["images/b.jpg"].label, films["images/b.jpg"].split) == ("normal", "train")
    assert [name for name, _ in table.problems] == ["c"], "one of two films of that name was taken"


def test_of_films_of_one_name_the_folders_tell(tmp_path: Path, write_film: Writer) -> None:
    for name in ("a/train/x.png", "a/test/x.png"):
        write_film(tmp_path / name)
    write_table(tmp_path / "labels.csv", ["image", "label"], ["/home/me/test/x.png", "fractured"],
                ["C:\\films\\train\\x.png", "normal"])  # fmt: skip
    assert labels(read(tmp_path)) == {"a/train/x.png": "normal", "a/test/x.png": "fractured"}


@pytest.mark.parametrize(
    ("text", "said"),
    [("image,label\n", "labels.csv: holds no line below its header"), ("", "labels.csv: .* is empty"),
     ("picture,finding\na.png,fractured\n", "labels.csv: .* columns picture, finding, not image and label"),
     ("image,label\na.png,\n", "labels.csv: no film has a label")],
)  # fmt: skip
def test_a_table_that_says_nothing_is_told(tmp_path: Path, write_film: Writer, text: str, said: str) -> None:
    write_film(tmp_path / "images" / "a.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        read(tmp_path)


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

    (tmp_path / "data.yaml").write_text("nc: 2\nnames:\n  0: text\n  1: fracture\n")
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


def test_yolos_labels_without_a_picture_or_a_class_are_told(tmp_path: Path, write_film: Writer) -> None:
    for name, text in (("a", "0 .5 .5 .1 .1"), ("odd", "7 .5 .5 .1 .1"), ("nan", "0 nan .5 .1 .1")):
        write_film(tmp_path / "images" / f"{name}.png")
        put_text(tmp_path / "labels" / f"{name}.txt", text)
    put_text(tmp_path / "labels" / "gone.txt", "0 .5 .5 .1 .1")
    put_text(tmp_path / "labels" / "bare.txt", "")
    put_text(tmp_path / "labels" / "classes.txt", "fracture\n")
    put_text(tmp_path / "readme.txt", "three films")
    found = read(tmp_path)
    assert {name for name, _ in found.problems} == {
        "labels/gone.txt", "labels/bare.txt", "labels/odd.txt", "labels/nan.txt"}  # fmt: skip
    assert labels(found) == {"images/a.png": "fractured", "images/odd.png": "unknown", "images/nan.png": "unknown"}


def test_each_data_yaml_counts_for_its_own_folder(tmp_path: Path, write_film: Writer) -> None:
    for place, names, kind in (("a", "[fracture, metal]", 0), ("b", "[metal, fracture]", 1)):
        write_film(tmp_path / place / "images" / "x.png")
        put_text(tmp_path / place / "labels" / "x.txt", f"{kind} .5 .5 .1 .1")
        put_text(tmp_path / place / "data.yaml", f"names: {names}")
    assert set(labels(read(tmp_path)).values()) == {"fractured"}
    write_film(tmp_path / "images" / "y.png")
    put_text(tmp_path / "labels" / "y.txt", "0 .5 .5 .1 .1")
    with pytest.raises(UsageError, match=r"several folders hold names of classes \(a, b\)"):
        read(tmp_path)
    put_text(tmp_path / "b" / "data.yml", "names: [fracture]")
    with pytest.raises(UsageError, match=r"a data.yaml and a data.yml"):
        read(tmp_path)


def test_a_data_yaml_or_a_note_among_class_folders_is_no_yolo(tmp_path: Path, write_film: Writer) -> None:
    for name in ("fractured/a.png", "normal/b.png"):
        write_film(tmp_path / name)
    put_text(tmp_path / "data.yaml", "names: [fractured, normal]\ntrain: fractured\n")
    put_text(tmp_path / "normal" / "b.txt", "a normal wrist")
    found = read(tmp_path)
    assert found.layout == "class folders"
    assert labels(found) == {"fractured/a.png": "fractured", "normal/b.png": "normal"}
    assert "data.yaml" in found.notes[0]
    put_text(tmp_path / "data.yaml", "no names")
    assert read(tmp_path).layout == "class folders"


def test_yolo_labels_that_fit_no_picture_are_told(tmp_path: Path, write_film: Writer) -> None:
    write_film(tmp_path / "images" / "a.png")
    put_text(tmp_path / "labels" / "b.txt", "0 .5 .5 .1 .1")
    with pytest.raises(UsageError, match=r"labels/b.txt: belongs to YOLO labels, and none fits a picture"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["names: fracture", "nc: 1", "names: 3", "- fracture", "names: [", ""])
def test_a_data_yaml_without_a_list_of_names_is_refused(tmp_path: Path, write_film: Writer, text: str) -> None:
    write_film(tmp_path / "images" / "a.png")
    put_text(tmp_path / "labels" / "a.txt", "0 .5 .5 .1 .1")
    put_text(tmp_path / "data.yaml", text)
    with pytest.raises(UsageError, match=r"data.yaml: has no list `names`"):
        read(tmp_path)


@pytest.mark.parametrize(
    "lines",
    [
        "train: images/a\nval: images/b",
        "path: .\ntrain: images/a/\nval: ./images/b",
        "path: ../datasets/wrists\ntrain: images/a\nval: images/b",
        "train: ../images/a\nval: ../images/b",
        "train: /content/wrists/images/a\nvalid: C:\\wrists\\images\\b",
        "train: [images/a]\nval: [images/b]\ntest:",
        "train: lists/first.txt\nval: lists/second.txt",
    ],
)
def test_the_splits_of_data_yaml_count(tmp_path: Path, write_film: Writer, lines: str) -> None:
    for name in ("a/x", "a/y", "b/x"):
        write_film(tmp_path / "images" / f"{name}.png")
        put_text(tmp_path / "labels" / f"{name}.txt", "0 .5 .5 .1 .1")
    put_text(tmp_path / "lists" / "first.txt", "./images/a/x.png\n/elsewhere/images/a/y.png\n")
    put_text(tmp_path / "lists" / "second.txt", "../images/b/x.png\n")
    put_text(tmp_path / "data.yaml", f"{lines}\nnames: [fracture]")
    found = read(tmp_path)
    assert splits(found) == {"images/a/x.png": "train", "images/a/y.png": "train", "images/b/x.png": "validation"}
    assert found.problems == ()


def test_a_data_yaml_in_a_folder_of_its_own_speaks_of_that_folder(tmp_path: Path, write_film: Writer) -> None:
    for name in ("wrist/one/images/x.png", "wrist/two/images/x.png", "hip/one/images/x.png"):
        write_film(tmp_path / name)
        put_text(tmp_path / name.replace("images", "labels").replace("png", "txt"), "0 .5 .5 .1 .1")
    put_text(tmp_path / "wrist" / "data.yaml", "train: ../one/images\nval: ../two/images\nnames: [fracture]")
    put_text(tmp_path / "hip" / "data.yaml", "test: one/images\nnames: [fracture]")
    assert splits(read(tmp_path)) == {
        "wrist/one/images/x.png": "train", "wrist/two/images/x.png": "validation", "hip/one/images/x.png": "test"
    }  # fmt: skip


def test_a_data_yaml_that_names_nothing_or_one_folder_twice_is_told(tmp_path: Path, write_film: Writer) -> None:
    write_film(tmp_path / "images" / "a" / "x.png")
    put_text(tmp_path / "labels" / "a" / "x.txt", "0 .5 .5 .1 .1")
    put_text(tmp_path / "list.txt", "images/a/x.png\nimages/a/gone.png\n")
    put_text(tmp_path / "data.yaml", "train: list.txt\nval: images/a\ntest: images/c\nnames: [fracture]")
    said = [f"{name} {text}" for name, text in read(tmp_path).problems]
    assert len(said) == 3
    assert "list.txt lists images/a/gone.png" in said[0]
    assert said[1] == "data.yaml says test: images/c, and there is no picture"
    assert said[2] == "data.yaml puts pictures into train and validation: 1, the first of them images/a/x.png"


def put_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


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
        "a.png": ("fractured", "train"), "b.png": ("normal", "train"), "c.png": ("unknown", "validation")}  # fmt: skip
    assert films["a.png"].boxes == ((10, 20, 40, 60),)
    assert films["a.png"].polygons == (((10, 20), (40, 20), (40, 60)),)
    assert {name for name, _ in found.problems} == {"gone.png", "annotations/instances_val.json"}


def test_an_annotation_of_an_image_that_is_not_listed_and_a_film_in_two_sets_are_told(
    tmp_path: Path, write_film: Writer
) -> None:
    write_film(tmp_path / "a.png")
    drawn: list[dict[str, object]] = [{"id": 5, "image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2]}]
    (tmp_path / "train.json").write_text(coco(["a.png"], drawn))
    (tmp_path / "val.json").write_text(coco(["a.png"], []))
    said = [f"{name}: {text}" for name, text in read(tmp_path).problems]
    assert said == ["train.json: annotation 5 is of the image 99, which is not listed",
                    "a.png: val.json lists it again, which stands in train already"]  # fmt: skip


def test_coco_and_voc_ask_about_a_fracture_of_an_unknown_kind(tmp_path: Path, write_film: Writer) -> None:
    for name in ("coco/a.png", "voc/a.png"):
        write_film(tmp_path / name)
    (tmp_path / "coco" / "a.json").write_text(coco(["a.png"], []).replace('"metal"', '"hairline fracture"'))
    (tmp_path / "voc" / "a.xml").write_text(voc("a.png", "fracture", "hairline fracture"))
    for name in ("coco", "voc"):
        with pytest.raises(UsageError, match='"fracture", "hairline fracture"'):
            read(tmp_path / name)
        read(tmp_path / name, "fracture", "hairline fracture")


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


@pytest.mark.parametrize("stated", ["a", "a.jpg", "elsewhere/a.tif", "other.png", ""])
def test_a_voc_file_that_names_no_picture_is_of_the_one_that_is_called_like_it(
    tmp_path: Path, write_film: Writer, stated: str
) -> None:
    for name in ("a.png", "b.png"):
        write_film(tmp_path / "JPEGImages" / name)
    put_text(tmp_path / "Annotations" / "a.xml", voc(stated, "fracture"))
    assert labels(read(tmp_path)) == {"JPEGImages/a.png": "fractured", "JPEGImages/b.png": "unknown"}


@pytest.mark.parametrize(
    ("xml", "said"),
    [("<broken", "x.xml: is no Pascal VOC file"), ("<annotation/>", "x.xml describes it, but there is no such file"),
     ("<annotation><object/></annotation>", "an object has no bndbox"), ("<other/>", "no label for any")],
)  # fmt: skip
def test_an_xml_file_of_no_picture_is_passed_over_and_told(
    tmp_path: Path, write_film: Writer, xml: str, said: str
) -> None:
    for name in ("classes/fractured/a.png", "classes/normal/b.png", "bare/a.png"):
        write_film(tmp_path / name)
    for place in ("classes", "bare"):
        put_text(tmp_path / place / "x.xml", xml)
    found = read(tmp_path / "classes")
    assert found.layout == "class folders"
    assert "no label" in said or said in found.notes[0]
    with pytest.raises(UsageError, match=said):
        read(tmp_path / "bare")


def test_voc_without_any_object_is_refused_in_a_sentence(tmp_path: Path, write_film: Writer) -> None:
    write_film(tmp_path / "a.png")
    put_text(tmp_path / "a.xml", voc("a.png"))
    with pytest.raises(UsageError, match="1 XML files: no film has a label"):
        read(tmp_path)


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
