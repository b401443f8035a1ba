"""The whole audit through the command: what was planted is found, and a clean folder is called clean."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("skimage", reason='needs the extra: pip install ".[train]"')

from bonefrac.synthetic import draw_radiograph
from bonefrac_training.audit import AuditSettings, audit
from bonefrac_training.cli import main
from bonefrac_training.split import read_split

Pixels = np.ndarray[Any, Any]
Encode = Callable[..., bytes]
DATA = Path(os.environ.get("BONEFRAC_DATA", Path(__file__).parents[3] / "shared" / "data")) / "fracatlas"
OUTSIDE = r'(src|href)="(?!data:|#)'
SPLITS = ("train", "train", "train", "val", "test")


@lru_cache(maxsize=64)
def pixels_of(seed: int) -> Pixels:
    """A drawn film under clouds of its own: whole drawn bones are more alike than any two people's."""
    film = draw_radiograph(seed, fractured=seed % 2 == 0, height=240, width=180).pixels >> 4
    clouds = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(film.shape), (0, 0), 4)
    return np.clip(film * 0.5 + 15 * clouds / clouds.std(), 0, 255).astype(np.uint8)


def name_of(seed: int) -> str:
    return f"{SPLITS[seed // 2 % 5]}/{'fractured' if seed % 2 == 0 else 'not fractured'}/{seed:03}.png"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, as_file: Encode) -> Path:
    """60 drawn films, half of them fractured, in three splits."""
    folder = tmp_path_factory.mktemp("clean") / "films"
    for seed in range(60):
        put(folder / name_of(seed), as_file(".png", pixels_of(seed)))
    return folder


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def films(clean: Path, tmp_path: Path) -> Path:
    """The clean films, to plant faults among."""
    for path in clean.rglob("*.png"):
        place = tmp_path / "films" / path.relative_to(clean)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(path)
    return tmp_path / "films"


def run(films: Path, *options: str) -> Result:
    arguments = ["audit", str(films), "--out", str(films.with_name("out")), "--features", "0", *options]
    return CliRunner().invoke(main, arguments)


def report(films: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((films.with_name("out") / "audit.json").read_text())
    return content


def found(films: Path) -> dict[str, dict[str, Any]]:
    return {finding["kind"]: finding for finding in report(films)["findings"]}


def sets(finding: dict[str, Any]) -> set[frozenset[str]]:
    return {frozenset(item["files"]) for item in finding["items"]}


def split_table(films: Path) -> list[dict[str, str]]:
    with open(films.with_name("out") / "split.csv", newline="") as file:
        return list(csv.DictReader(file))


# --- clean -----------------------------------------------------------------------------------------------------


def test_a_clean_folder_is_called_clean(films: Path) -> None:
    result = run(films, "--features", "6")
    assert result.exit_code == 0, result.output
    assert set(found(films)) == {"no patients"}
    told = report(films)
    assert told["honest"]
    assert told["counts"]["files"] == told["counts"]["readable"] == told["counts"]["groups"] == 60
    assert told["splits"] == {"train": {"fractured": 18, "normal": 18}, "validation": {"fractured": 6, "normal": 6},
                              "test": {"fractured": 6, "normal": 6}}  # fmt: skip
    assert told["majority_accuracy"] == 0.5
    assert told["classes"] == {"fractured": "fractured", "not fractured": "normal"}
    assert told["features"]["films"] == {"fractured": 6, "normal": 6}
    assert 0 < told["seconds"] < 600
    assert (told["counts"]["in_split"], told["counts"]["left_out"], told["left_out_for"]) == (60, 0, {})
    page = (films.with_name("out") / "audit.html").read_text()
    assert "Nothing was found" in page
    assert page.count('alt="bone contours"') == 4
    assert page.count("0.33 tells as much as 0.67") == 2
    assert page.count(">0.0 %<") == 2, "the bars lack their scale"
    assert "no label" not in page
    assert "Likeness" not in page
    assert not re.search(OUTSIDE, page), "the page needs another file"


def test_the_split_holds_every_film_once_in_balanced_folds(films: Path) -> None:
    assert run(films, "--folds", "4").exit_code == 0
    table = split_table(films)
    assert list(table[0]) == ["image", "label", "group", "fold"]
    assert {row["image"] for row in table} == {name_of(seed) for seed in range(60)}
    assert all((row["label"] == "fractured") == ("/fractured/" in row["image"]) for row in table)
    counts = Counter((row["fold"], row["label"]) for row in table)
    assert set(counts) == {(str(fold), label) for fold in range(4) for label in ("fractured", "normal")}
    assert set(counts.values()) <= {7, 8}
    first = (films.with_name("out") / "split.csv").read_bytes()
    run(films, "--folds", "4")
    assert (films.with_name("out") / "split.csv").read_bytes() == first
    run(films, "--folds", "4", "--seed", "2")
    assert (films.with_name("out") / "split.csv").read_bytes() != first


# --- planted ---------------------------------------------------------------------------------------------------


def test_copies_across_splits_are_reported(films: Path, as_file: Encode) -> None:
    """Of training films: turned, mirrored, turned by 33 degrees, stored as JPEG, as it is; and one in its own split."""
    height, width = pixels_of(0).shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 33, 1)
    by_33 = cv2.warpAffine(pixels_of(2), matrix, (width, height))
    planted = {
        name_of(0): ("test/fractured/turned.png", as_file(".png", np.rot90(pixels_of(0)).copy())),
        name_of(1): ("val/not fractured/mirrored.png", as_file(".png", pixels_of(1)[:, ::-1].copy())),
        name_of(2): (
            "test/fractured/by-33.png",
            as_file(".png", by_33),
        ),
        name_of(3): ("test/not fractured/again.jpg", as_file(".jpg", pixels_of(3), cv2.IMWRITE_JPEG_QUALITY, 50)),
        name_of(4): ("val/fractured/same.png", as_file(".png", pixels_of(4))),
    }
    for name, data in planted.values():
        put(films / name, data)
    put(films / "train/fractured/again.png", as_file(".png", pixels_of(10)))
    assert SPLITS[10 // 2 % 5] == "train"
    assert run(films).exit_code == 1
    findings = found(films)
    assert findings["split leak"]["severity"] == "serious"
    assert sets(findings["split leak"]) == {frozenset({first, second}) for first, (second, _) in planted.items()}
    assert sets(findings["copies"]) == {frozenset({name_of(10), "train/fractured/again.png"})}
    turns = {pair["second"]: pair["turn"] for pair in report(films)["pairs"]} | {
        pair["first"]: pair["turn"] for pair in report(films)["pairs"]
    }
    assert turns["test/fractured/turned.png"] == "turned by 90°"
    assert turns["val/not fractured/mirrored.png"] == "mirrored"
    assert turns["test/fractured/by-33.png"] in ("turned by about 32°", "turned by about 33°", "turned by about 34°")
    fold, group = ({row["image"]: row[column] for row in split_table(films)} for column in ("fold", "group"))
    for first, (second, _) in planted.items():
        if second in fold and first in fold:
            assert fold[first] == fold[second]
            assert group[first] == group[second]
    left_out = report(films)["left_out"]
    assert set(left_out.values()) == {"identical to another file"}
    assert len(left_out) == 2
    page = (films.with_name("out") / "audit.html").read_text()
    assert "in more than one split" in page
    assert page.count('alt="film"') == 12, "not every film that was found is shown"
    assert not re.search(OUTSIDE, page)


def test_opposite_labels_are_reported_and_left_out(films: Path, as_file: Encode) -> None:
    put(films / "train/not fractured/same.png", as_file(".png", pixels_of(0)))
    put(films / "train/fractured/again.jpg", as_file(".jpg", pixels_of(1)))
    assert run(films).exit_code == 1
    findings = found(films)
    assert sets(findings["label conflict"]) == {frozenset({name_of(0), "train/not fractured/same.png"})}
    assert findings["label conflict"]["items"][0]["text"] == (
        f"train/not fractured/same.png has the same bytes as {name_of(0)}"
    )
    told = findings["label conflict of copies"]["items"][0]["text"]
    assert re.fullmatch(rf"{name_of(1)} is a copy of train/fractured/again.jpg, likeness (0\.9\d|1\.00)", told)
    assert report(films)["left_out_for"] == {"a copy bears the other label": 4}
    page = (films.with_name("out") / "audit.html").read_text()
    assert "Likeness is the correlation" in page
    assert "4: a copy bears the other label" in page
    assert told in page
    assert sets(findings["label conflict of copies"]) == {frozenset({name_of(1), "train/fractured/again.jpg"})}
    assert {row["image"] for row in split_table(films)} == {name_of(seed) for seed in range(2, 60)}


def test_damaged_files_are_reported_in_the_engines_words(films: Path, jpeg: bytes) -> None:
    put(films / "train/not fractured/cut.jpg", jpeg[: len(jpeg) // 2])
    put(films / "val/fractured/words.png", b"no picture")
    assert run(films).exit_code == 1
    finding = found(films)["unreadable"]
    assert sets(finding) == {frozenset({"train/not fractured/cut.jpg"}), frozenset({"val/fractured/words.png"})}
    assert any("cut short" in item["text"] for item in finding["items"])
    assert len(split_table(films)) == 60


def test_a_shortcut_is_reported(films: Path, as_file: Encode) -> None:
    for path in list(films.rglob("not fractured/*.png")):
        put(path.with_suffix(".jpg"), as_file(".jpg", cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
        path.unlink()
    assert run(films).exit_code == 1
    finding = found(films)["shortcut"]
    assert finding["severity"] == "serious"
    assert {item["text"] for item in finding["items"]} >= {"format PNG: 30 of 30 fractured (100%)"}


def test_what_the_table_sorts_out_is_told_but_not_serious(tmp_path: Path, jpeg: bytes, as_file: Encode) -> None:
    """As in FracAtlas' labels.csv: a copy with the other label, a cut file and a patient in two folds."""
    films = tmp_path / "films"
    rows = [["image", "fractured", "fold", "patient", "use"]]
    for seed in range(20):
        put(films / f"{seed}.png", as_file(".png", pixels_of(seed)))
        rows.append([f"{seed}.png", str(int(seed % 2 == 0)), str(seed % 5), f"p{seed}", "1"])
    put(films / "copy.png", as_file(".png", pixels_of(0)))
    put(films / "cut.jpg", jpeg[:4000])
    for use, status in (("0", 0), ("1", 1)):
        extra = [["copy.png", "0", "1", "p0", use], ["cut.jpg", "0", "0", "", use]]
        with open(films / "labels.csv", "w", newline="") as file:
            csv.writer(file).writerows([*rows, *extra])
        assert run(films).exit_code == status
        findings = found(films)
        expected = {"label conflict", "unreadable", "split leak"} | ({"group leak"} if use == "1" else set())
        assert set(findings) == expected
        assert {finding["severity"] for finding in findings.values()} == {"serious" if use == "1" else "notable"}
        assert report(films)["left_out"]["copy.png"]


def test_boxes_inverted_and_unlabelled_films_are_told(tmp_path: Path, as_file: Encode) -> None:
    films = tmp_path / "films"
    for seed in range(20):
        put(films / "images" / f"{seed}.png", as_file(".png", pixels_of(seed)))
    air = np.pad(pixels_of(31), ((0, 0), (110, 110)), constant_values=16)
    put(films / "images" / "negative.png", as_file(".png", 255 - air))
    put(films / "images" / "nobody.png", as_file(".png", pixels_of(33)))
    labels = [[f"{seed}.png", str(int(seed % 2 == 0))] for seed in range(20)]
    with open(films / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "fractured"], *labels, ["negative.png", "0"], ["gone.png", "1"]])
    boxes = [
        ["0.png", 10, 10, 40, 60],
        ["1.png", 10, 10, 40, 60],
        ["2.png", 10, 10, 400, 60],
        ["4.png", 30, 10, 30, 60],
    ]
    with open(films / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "x_min", "y_min", "x_max", "y_max"], *boxes])
    assert run(films).exit_code == 1
    findings = found(films)
    assert sets(findings["boxes"]) == {frozenset({"images/2.png"}), frozenset({"images/4.png"})}
    assert sets(findings["boxes on normal films"]) == {frozenset({"images/1.png"})}
    assert sets(findings["polarity"]) == {frozenset({"images/negative.png"})}
    assert sets(findings["unlabelled"]) == {frozenset({"images/nobody.png"})}
    assert "gone.png" in findings["labels"]["items"][0]["text"]
    assert report(films)["left_out"] == {"images/nobody.png": "no label"}
    assert set(report(films)["box_sides"]) == {"224", "320", "448", "640"}
    serious = [finding["kind"] for finding in report(films)["findings"] if finding["severity"] == "serious"]
    assert [finding["kind"] for finding in report(films)["findings"]][: len(serious)] == serious
    assert set(serious) == {"boxes on normal films", "labels"}


def test_one_class_and_a_rare_class_are_told(tmp_path: Path, as_file: Encode) -> None:
    films = tmp_path / "films"
    for seed in range(0, 46, 2):
        put(films / "fractured" / f"{seed}.png", as_file(".png", pixels_of(seed)))
    assert run(films).exit_code == 1
    assert "No film is normal" in {finding["title"] for finding in report(films)["findings"]}
    assert "serious: 5 folds cannot be made of 0 groups of normal films: split.csv is empty" in run(films).output
    assert split_table(films) == []
    put(films / "normal" / "1.png", as_file(".png", pixels_of(1)))
    assert run(films).exit_code == 1
    assert [finding["title"] for finding in report(films)["findings"] if finding["severity"] == "serious"] == [
        "5 folds cannot be made of 1 group of normal films: split.csv is empty"
    ]
    assert "95.8%" in found(films)["balance"]["meaning"]
    put(films / "normal" / "3.png", as_file(".png", pixels_of(3)))
    assert run(films).exit_code == 1
    assert found(films)["folds"]["advice"] == "Ask for 2 with --folds, or bring more films."
    assert run(films, "--folds", "2").exit_code == 0
    assert len(split_table(films)) == 25


def test_a_folder_where_nothing_is_readable_is_told(tmp_path: Path, as_file: Encode) -> None:
    films = tmp_path / "films"
    for number in range(6):
        blank = as_file(".png", np.full((200, 160), 9 * number, np.uint8))
        put(films / ("fractured" if number % 2 else "normal") / f"{number}.png", blank if number else b"")
    result = run(films, "--features", "6")
    assert result.exit_code == 1
    assert "6 files cannot be read" in result.output
    assert (films.with_name("out") / "audit.html").exists()
    assert report(films)["counts"]["readable"] == 0


def test_turned_copies_across_stated_splits_are_reported(tmp_path: Path, as_file: Encode) -> None:
    """Splits that data.yaml alone names, and folders that are called after sets."""
    yolo, sets_of = tmp_path / "yolo" / "films", tmp_path / "sets" / "films"
    for seed in range(20):
        part, pixels = ("b", np.rot90(pixels_of(0)).copy()) if seed == 18 else ("a", pixels_of(seed))
        put(yolo / "images" / part / f"{seed}.png", as_file(".png", pixels))
        put(yolo / "labels" / part / f"{seed}.txt", b"0 .5 .5 .2 .1" if seed % 2 == 0 else b"")
        split, label = {"a": "training_set", "b": "test_set"}[part], "fractured" if seed % 2 == 0 else "normal"
        put(sets_of / split / label / f"{seed}.png", as_file(".png", pixels))
    put(yolo / "data.yaml", b"train: images/a\nval: images/b\nnames: [fracture]\n")
    for films, pair in ((yolo, {"images/a/0.png", "images/b/18.png"}),
                        (sets_of, {"training_set/fractured/0.png", "test_set/fractured/18.png"})):  # fmt: skip
        assert run(films).exit_code == 1
        leak = found(films)["split leak"]
        assert leak["severity"] == "serious"
        assert sets(leak) == {frozenset(pair)}
        assert "turned by 90°, likeness" in leak["items"][0]["text"]


def test_the_boxes_of_any_layout_lie_beside_the_split(tmp_path: Path, as_file: Encode) -> None:
    films = tmp_path / "films"
    for seed in range(20):
        put(films / "images" / f"{seed}.png", as_file(".png", pixels_of(seed)))
        put(films / "labels" / f"{seed}.txt", b"0 .5 .5 .2 .1" if seed % 2 == 0 else b"")
    put(films / "labels" / "2.txt", b"0 .5 .5 .2 .1\n0 .999 .5 .01 .1\n0 150 150 30 30\n1 .5 .5 .2 .1")
    put(films / "data.yaml", b"names: [fracture, metal]\n")
    assert run(films).exit_code == 0
    with open(films.with_name("out") / "boxes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_id", "x_min", "y_min", "x_max", "y_max"]
    height, width = pixels_of(0).shape
    assert [float(edge) for edge in list(rows[0].values())[1:]] == pytest.approx(
        [0.4 * width, 0.45 * height, 0.6 * width, 0.55 * height], abs=0.05)  # fmt: skip
    assert {row["image_id"] for row in rows} == {f"images/{seed}.png" for seed in range(0, 20, 2)}
    assert {row["image_id"] for row in rows} <= {row["image"] for row in split_table(films)}
    of_two = [row for row in rows if row["image_id"] == "images/2.png"]
    assert [row["x_max"] for row in of_two] == ["108.0", "180"]
    split = read_split(films, 0, table=films.with_name("out") / "split.csv")
    assert {film.path.name: len(film.boxes) for film in (*split.train, *split.validation) if film.boxes} == {
        f"{seed}.png": 2 if seed == 2 else 1 for seed in range(0, 20, 2)
    }
    assert sets(found(films)["boxes"]) == {frozenset({"images/2.png"})}


# --- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["0/a.png", "1/b.png"], [], '--positive-class with one of "0", "1"'),
        (["fractured/a.png", "normal/b.png"], ["--positive-class", "broken"], "there is no such class"),
        (["a.png"], [], "a folder for each class"),
        (["fractured/readme.txt"], [], "holds no picture"),
    ],
)
def test_refusals_are_one_sentence_and_status_2(
    tmp_path: Path, names: list[str], options: list[str], said: str, as_file: Encode
) -> None:
    for name in names:
        put(tmp_path / "films" / name, as_file(".png", pixels_of(0)))
    result = run(tmp_path / "films", *options)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out" / "audit.json").exists()


def test_an_output_folder_inside_the_data_or_a_file_is_refused(films: Path, tmp_path: Path) -> None:
    inside = CliRunner().invoke(main, ["audit", str(films), "--out", str(films / "out")])
    assert inside.exit_code == 2
    assert "lies inside the data" in inside.output
    (tmp_path / "taken").write_text("a file")
    taken = CliRunner().invoke(main, ["audit", str(films), "--out", str(tmp_path / "taken"), "--features", "0"])
    assert taken.exit_code == 2
    assert "cannot be written" in taken.output


def test_a_missing_package_is_told_with_the_line_to_type(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("bonefrac_training.", "skimage"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    result = run(films)
    assert result.exit_code == 2
    assert 'pip install "bonefrac[train]"' in result.output


def test_results_go_beside_the_data_unless_told(films: Path) -> None:
    assert CliRunner().invoke(main, ["audit", str(films), "--features", "0"]).exit_code == 0
    assert (films.with_name("films-audit") / "audit.html").exists()


# --- real films ------------------------------------------------------------------------------------------------


@pytest.mark.films
@pytest.mark.skipif(not (DATA / "labels.csv").is_file(), reason="the real films are missing: BONEFRAC_DATA")
def test_fracatlas_faults_are_found_again(tmp_path: Path) -> None:
    """What labels.csv knows of all 3,266 files: 9 in 10 of its pairs of copies, every conflict, every damaged file."""
    result = audit(AuditSettings(DATA, tmp_path / "out", features=0))
    with open(DATA / "labels.csv", newline="", encoding="utf-8") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    facts, case = result.case.facts, result.case
    names = [fact.film.path.name for fact in facts]
    assert {name for name, fact in zip(names, facts, strict=True) if not fact.readable} == {
        name for name, row in rows.items() if row["decodable"] == "0"
    }
    together = {
        frozenset(pair) for places in case.sets.values() for pair in combinations([names[p] for p in places], 2)
    }
    known = defaultdict[str, list[str]](list)
    for name, row in rows.items():
        if row["duplicate_group"]:
            known[row["duplicate_group"]].append(name)
    pairs = {frozenset(pair) for members in known.values() for pair in combinations(members, 2)}
    assert len(pairs & together) >= 0.9 * len(pairs)
    assert len(together - pairs) <= 0.1 * len(together)
    conflicts = {names[p] for f in result.findings if "label conflict" in f.kind for i in f.items for p in i.places}
    assert conflicts == {name for name, row in rows.items() if row["label_conflict"] == "1"}
    assert {names[place] for place in result.fold} <= {name for name, row in rows.items() if row["use"] == "1"}
    assert result.honest, "what labels.csv sorts out was taken for serious"
