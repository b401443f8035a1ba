"""`bonefrac-bench accuracy` on drawn films with the shipped bundle: figures, warnings, refusals, and what is shown."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("sklearn", reason='needs the extra: pip install ".[bench]"')
pytest.importorskip("matplotlib", reason='needs the extra: pip install ".[bench]"')

from sklearn import metrics

from bonefrac.labelled import list_hash, read_labelled
from bonefrac.model import Model, Scores
from bonefrac.results import Region
from bonefrac.synthetic import draw_radiograph
from bonefrac_benchmarks import accuracy_run
from bonefrac_benchmarks.accuracy import FEWEST, compare, judge, judge_again, maps_agree, measure
from bonefrac_benchmarks.accuracy_tables import summary, tables
from bonefrac_benchmarks.cli import main
from bonefrac_benchmarks.gallery import flips, misses
from bonefrac_benchmarks.judged import Films, Judged, load
from bonefrac_benchmarks.localisation import best_ious, centre_hits, heat_in_boxes, localise, peak_hits
from bonefrac_benchmarks.split import choose, unseen_fold
from bonefrac_export.evaluate import figures as card_figures


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 drawn films in the folds 0 and 3, of fold 3 12 with and 12 without a fracture and one that is damaged."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "images").mkdir()
    with open(folder / "labels.csv", "w", newline="") as labels, open(folder / "boxes.csv", "w", newline="") as boxes:
        rows, places = csv.writer(labels), csv.writer(boxes)
        rows.writerow(["image_id", "fractured", "fold", "group", "use", "hand", "leg", "hardware"])
        places.writerow(["image_id", "x_min", "y_min", "x_max", "y_max"])
        for index in range(32):
            fractured = index % 2 == 0
            drawn = draw_radiograph(index, fractured=fractured)
            name = f"{index:02}.png"
            cv2.imwrite(str(folder / "images" / name), (drawn.pixels >> 4).astype(np.uint8))
            fold = 3 if index < 24 else 0
            rows.writerow(
                [name, int(fractured), fold, f"g{index // 2}", 1, int(index < 22), int(index > 16), int(index == 4)]
            )
            if drawn.box:
                places.writerow([name, *drawn.box])
        rows.writerow(["damaged.png", 1, 3, "g99", 1, 1, 0, 0])
    (folder / "images" / "damaged.png").write_bytes((folder / "images" / "00.png").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def trained_here(collection: Path, flagship: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flagship, with a manifest that says it was trained on the drawn films of fold 0 and validated on fold 3."""
    films = [film for film in read_labelled(collection) if film.fold != 3]
    return bundle(flagship, tmp_path_factory.mktemp("bundle") / "ours", list_hash(films), {"fold": 3})


def bundle(flagship: Path, folder: Path, films: str, training: dict[str, Any]) -> Path:
    shutil.copytree(flagship, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["training_data"]["sha256"], manifest["made_with"]["training"] = films, json.dumps(training)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["accuracy", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def report(collection: Path, trained_here: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the terminal shows, and the folder with the report, of the fold that the bundle never saw."""
    out = tmp_path_factory.mktemp("report") / "out"
    done = bench(trained_here, "--labels", collection, "--out", out)
    assert done.exit_code == 0, done.output
    return done.output, out


@pytest.fixture(scope="module")
def films(collection: Path, model: Model) -> Films:
    return load([film for film in read_labelled(collection) if film.fold == 3], model.manifest.input)[0]


@pytest.fixture(scope="module")
def judged(films: Films, model: Model) -> Judged:
    return judge(model, films)


# ---- the figures


def test_figures_are_those_of_the_very_rows_that_the_engine_writes(
    report: tuple[str, Path], collection: Path, trained_here: Path
) -> None:
    """Against scikit-learn, on the probabilities of `bonefrac-batch`."""
    from bonefrac.cli import main as bonefrac

    out = report[1].parent / "batch"
    done = CliRunner().invoke(
        bonefrac, ["batch", str(collection / "images"), "--out", str(out), "--model", str(trained_here)]
    )
    assert done.exit_code == 1, done.output  # one film is damaged
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file) if row["status"] == "ok"}
    films = [film for film in read_labelled(collection) if film.fold == 3 and film.path.name in rows]
    truth = np.array([film.fractured for film in films])
    scores = np.array([float(rows[film.path.name]["probability"]) for film in films])
    found = json.loads((report[1] / "accuracy.json").read_text(encoding="utf-8"))
    assert (found["films"], found["fractured"], found["groups"]) == (24, 12, 12)
    assert found["ranking"]["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert found["ranking"]["auprc"]["value"] == pytest.approx(metrics.average_precision_score(truth, scores))
    assert found["calibration"]["brier"] == pytest.approx(metrics.brier_score_loss(truth, scores))
    for point in found["points"].values():
        called = scores >= point["threshold"]
        (tn, fp), (fn, tp) = metrics.confusion_matrix(truth, called)
        assert point["confusion"] == {
            "true_positive": tp, "false_negative": fn, "false_positive": fp, "true_negative": tn
        }  # fmt: skip
        assert point["sensitivity"]["value"] == pytest.approx(metrics.recall_score(truth, called))
        assert point["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(truth, called))
        assert point["f1"]["value"] == pytest.approx(metrics.f1_score(truth, called))
        assert point["sensitivity"]["low"] < point["sensitivity"]["value"] <= point["sensitivity"]["high"]
        assert point["sensitivity"]["of"] == 12
    regions = [
        json.loads(row["regions"]) for film, row in ((f, rows[f.path.name]) for f in films) if not film.fractured
    ]
    shown = found["localisation"]["regions_on_a_film_without_fracture"]["value"]
    assert shown == pytest.approx(np.mean([len(r) for r in regions]))


def test_a_card_and_the_command_are_one_measurement(judged: Judged, films: Films, model: Model) -> None:
    measured, card = measure(judged), card_figures(measure(judged), heatmap=True)
    assert card["AUROC"].startswith(f"{measured['ranking']['auroc']['value']:.3f} (")
    specific = measured["points"]["specific"]["sensitivity"]
    assert card["sensitivity at the specific point"].endswith(f", {specific['count']} of 12")
    assert card["among films of the hand"].startswith("22, 11 with a fracture; AUROC ")
    assert card["among films with hardware"] == "1, 1 with a fracture; AUROC –; sensitivity –; specificity –"
    assert set(map(type, card.values())) == {str}


def test_parts_with_few_films_of_a_class_are_counted_but_not_judged(judged: Judged) -> None:
    measured = measure(judged)
    rows = {row["of"]: row for row in (*measured["body_regions"], *measured["hardware"])}
    assert (rows["hand"]["films"], rows["hand"]["fractured"]) == (22, 11)
    assert rows["hand"]["auroc"] is not None
    assert rows["hand"]["sensitivity"]["of"] == 11 >= FEWEST
    assert (rows["leg"]["films"], rows["leg"]["fractured"]) == (7, 3)
    assert [rows["leg"][name] for name in ("auroc", "sensitivity", "specificity")] == [None] * 3
    assert (rows["with hardware"]["films"], rows["without hardware"]["films"]) == (1, 23)


def test_predictive_values_follow_the_prevalence(judged: Judged) -> None:
    guessed = replace(
        judged, probability=np.random.default_rng(0).random(24) ** 4
    )  # the model calls no drawn film wrongly
    rare, often = measure(guessed, (0.01, 0.5))["prevalence"]
    assert (rare["prevalence"], often["prevalence"]) == (0.01, 0.5)
    for point in ("sensitive", "specific"):
        assert rare[point]["ppv"]["value"] < often[point]["ppv"]["value"]
        assert rare[point]["npv"]["value"] > often[point]["npv"]["value"]


def test_flips_between_precisions_are_counted_named_and_judged(judged: Judged, float_model: Model) -> None:
    other = np.array([round(float(p), 4) for p in float_model.predict(judged.films.pixels).probability])
    middle = float(np.sort(judged.probability)[8:10].mean())  # between two films; the float file's lie elsewhere
    points = replace(judged.model.manifest.operating_points, sensitive=middle)
    model = Model(judged.model._folder)
    model.manifest = replace(model.manifest, operating_points=points)
    ours = replace(judged, model=model)
    again = judge_again(ours, float_model)
    found = compare(ours, again)
    flipped = (judged.probability >= middle) != (other >= middle)
    point = found["points"]["sensitive"]
    assert point["flips"] == flipped.sum() == sum(point["right"].values()) == len(point["films"])
    names = [film.path.name for film, flips in zip(judged.films.labels, flipped, strict=True) if flips]
    assert [film["film"] for film in point["films"]] == names
    assert 0 <= point["mcnemar_p"] <= 1
    areas = [metrics.roc_auc_score(judged.films.fractured, scores) for scores in (judged.probability, other)]
    assert found["auroc_difference"] == pytest.approx(areas[0] - areas[1])
    assert found["heatmaps"]["films"] == judged.films.fractured.sum()
    assert found["heatmaps"]["correlation"] > 0.8
    pairs = flips(ours, again)
    assert {pair[0].words.split(",")[0] for pair in pairs} >= set(names)
    for one, two in pairs:
        assert "int8 0." in one.words
        assert "float32 0." in two.words
        assert one.url != two.url


def test_maps_that_agree_and_maps_that_do_not() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((3, 6, 6)).astype(np.float32)
    same = maps_agree(maps, maps)
    assert same is not None
    assert same["correlation"] == pytest.approx(1)
    assert (same["peak_within_a_cell"]["count"], same["films"]) == (3, 3)
    moved = maps.copy()
    y, x = np.unravel_index(maps[0].argmax(), (6, 6))
    moved[0] = 0
    moved[0, (y + 2) % 6, x] = 1  # two cells away
    moved[1] = 0.5  # flat where it was not: no agreement
    found = maps_agree(moved, maps)
    assert found is not None
    assert found["peak_within_a_cell"]["count"] == 1 + (maps[1].argmax() in (0, 1, 6, 7))
    assert found["correlation"] < 0.5
    assert maps_agree(maps[:2], np.full((2, 6, 6), 0.3, np.float32)) is None
    lost = maps_agree(np.zeros_like(maps), maps)
    assert lost is not None
    assert (lost["films"], lost["correlation"], lost["peak_within_a_cell"]["count"]) == (3, 0, 0)
    assert maps_agree(np.zeros((2, 0, 0), np.float32), np.zeros((2, 0, 0), np.float32)) is None


def test_films_that_the_model_sets_aside_are_left_out_and_named(films: Films, flagship: Path) -> None:
    class Picky(Model):
        """The real network, to which film 3 is a stranger."""

        def predict(self, batch: Any) -> Scores:
            stranger = (batch == films.pixels[3]).all(axis=(1, 2, 3))
            return super().predict(batch)._replace(familiarity=np.where(stranger, 0.1, 1.0).astype(np.float32))

    picky = Picky(flagship)
    picky.manifest = replace(picky.manifest, familiarity_limit=0.5)
    found = judge(picky, films)
    assert [item.film for item in found.left_out] == [films.labels[3]]
    assert "unlike" in found.left_out[0].reason
    assert films.labels[3] not in found.films.labels
    assert len(found.probability) == len(found.heatmaps) == len(found.regions) == len(found.films.pixels) == 23


# ---- places


def test_places_by_hand(judged: Judged) -> None:
    """One film of 380 x 500 px whose map is hot in one cell, and a box round half of that cell."""
    row = 0
    film, to_film, size = judged.films.labels[row], judged.films.to_film[row], judged.films.sizes[row]
    spec, cells = judged.model.manifest.input, judged.heatmaps.shape[1]
    step = spec.width / cells
    heatmap = np.zeros((1, cells, cells), np.float32)
    heatmap[0, 20, 25] = 0.75
    heatmap[0, 0, 0] = 0.25
    box = (*to_film(25 * step, 20 * step), *to_film(25.5 * step, 21 * step))
    wide = (*to_film(25 * step, 20 * step), *to_film(26 * step, 21 * step))
    one = Films([replace(film, boxes=(box,))], judged.films.pixels[:1], [to_film], [size])
    found = replace(judged, films=one, probability=np.array([0.9]), heatmaps=heatmap,
                    regions=[(Region(wide, wide[:2], 0.75),)])  # fmt: skip
    assert heat_in_boxes(found) == pytest.approx([0.75 / 2])
    assert best_ious(found) == pytest.approx([0.5])
    assert centre_hits(one, found.regions).tolist() == [True], "the box's edge is the region's centre"
    assert peak_hits(found).tolist() == [True]
    heatmap[0, 10, 10] = 0.8
    assert peak_hits(found).tolist() == [False]
    assert heat_in_boxes(found) == pytest.approx([0.75 / 2 / 1.8])
    nowhere = replace(found, regions=[()])
    assert best_ious(nowhere) == [0]
    assert centre_hits(one, nowhere.regions).tolist() == [False]


def test_the_free_response_curve_counts_boxes_and_false_regions(judged: Judged) -> None:
    """Perfect regions find every box; shifted ones are all false."""
    perfect = [tuple(Region(box, box[:2], 0.9) for box in film.boxes) for film in judged.films.labels]
    curve = localise(replace(judged, regions=perfect))["froc"]
    boxes = sum(len(film.boxes) for film in judged.films.labels)
    assert (curve["lesions"], curve["films"]) == (boxes, 24)
    assert (curve["sensitivity"], curve["false_a_film"]) == ([1.0], [0.0])
    corner = [(Region((0, 0, 2, 2), (1, 1), 0.8),)] * 24
    curve = localise(replace(judged, regions=corner))["froc"]
    assert (curve["sensitivity"], curve["false_a_film"]) == ([0.0], [1.0])


def test_films_without_boxes_have_no_places(judged: Judged) -> None:
    labels = [replace(film, boxes=()) for film in judged.films.labels]
    found = localise(replace(judged, films=replace(judged.films, labels=labels)))
    assert found["films_with_boxes"] == 0
    assert found["best_region_centre_in_box"] is found["heat_in_boxes"] is found["froc"] is None


# ---- which films


def test_the_unseen_fold_is_taken_without_a_warning(report: tuple[str, Path]) -> None:
    output, out = report
    assert "fold 3: 24 films, 12 with a fracture, in 12 groups; none of them was trained on" in output
    for name in ("accuracy.json", "accuracy.md", "accuracy.html"):
        assert "WARNING" not in (out / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("which", [("--fold", "0"), ("--all-folds",)])
def test_films_that_were_trained_on_are_warned_of_in_every_output(
    which: tuple[str, ...], collection: Path, trained_here: Path, tmp_path: Path
) -> None:
    done = bench(trained_here, "--labels", collection, "--out", tmp_path / "out", *which)
    assert done.exit_code == 0, done.output
    seen = "These films were trained on: 8 of 8" if which[0] == "--fold" else "These films were trained on: 8 of 33"
    for text in [
        done.output,
        *((tmp_path / "out" / f"accuracy.{kind}").read_text("utf-8") for kind in ("json", "md", "html")),
    ]:
        assert seen in text
        assert "none of them was trained on" not in text


def test_a_collection_that_the_manifest_does_not_name_needs_a_fold_and_is_warned_of(collection: Path) -> None:
    done = bench("flagship", "--labels", collection)
    assert done.exit_code == 2
    assert "choose with --fold N (there are 0, 3) or --all-folds" in done.output
    done = bench("flagship", "--labels", collection / "labels.csv", "--fold", 3)
    assert done.exit_code == 0, done.output
    assert "WARNING: It cannot be told whether the model was trained on these films" in done.output


def test_a_run_that_began_on_another_fold_has_seen_both(flagship: Path, collection: Path, tmp_path: Path) -> None:
    films = list_hash(film for film in read_labelled(collection) if film.fold != 3)
    facts = {"fold": 3, "began_with": {"fold": 0, "began_with": {}}}
    manifest = Model(bundle(flagship, tmp_path / "b", films, facts)).manifest
    assert unseen_fold(manifest) is None
    assert "cannot be told" in choose(manifest, collection, 3).warning
    assert unseen_fold(replace(manifest, made_with={})) is None
    assert unseen_fold(replace(manifest, made_with={"training": '{"fold": 2, "began_with": {"fold": 2}}'})) == 2


# ---- what is refused


def test_what_cannot_be_measured_is_refused_in_one_sentence(
    collection: Path, flagship: Path, trained_here: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(flagship, changed)
    with open(changed / "int8.onnx", "ab") as file:
        file.write(b"\0")
    one_class = tmp_path / "one"
    shutil.copytree(collection, one_class)
    table = (one_class / "labels.csv").read_text().replace(",0,3,", ",1,3,")
    (one_class / "labels.csv").write_text(table)
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for words, arguments in (
        ("is not the file that was verified (wrong SHA-256)", (changed, "--labels", collection, "--fold", 3)),
        ("fold 3 lacks films with or without a fracture", (flagship, "--labels", one_class, "--fold", 3)),
        ("fold 7 lacks films with or without a fracture", (trained_here, "--labels", collection, "--fold", 7)),
        ("no model 'nobody'", ("nobody", "--labels", collection)),
        ("do not go together", (flagship, "--labels", collection, "--fold", 3, "--all-folds")),
        ("cannot be made", (flagship, "--labels", collection, "--fold", 3, "--out", in_the_way / "out")),
    ):
        done = bench(*arguments)
        assert done.exit_code == 2, (words, done.output)
        assert words in done.output
        assert len(done.output.splitlines()) == 1


def test_the_other_precisions_file_is_checked_before_any_film_is_judged(
    collection: Path, flagship: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(flagship, changed)
    with open(changed / "float32.onnx", "ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(accuracy_run, "judge", lambda *_: pytest.fail("films were judged"))
    done = bench(changed, "--labels", collection, "--fold", 3)
    assert (done.exit_code, "float32.onnx is not the file that was verified" in done.output) == (2, True)


def test_what_is_no_table_of_labelled_films_is_told_by_its_columns(collection: Path, tmp_path: Path) -> None:
    text, binary, bare, boxed = (tmp_path / name for name in ("notes.txt", "film.png", "nf", "boxed"))
    text.write_text("no table\n")
    binary.write_bytes((collection / "images" / "00.png").read_bytes())
    for folder in (bare, boxed):
        folder.mkdir()
    (bare / "labels.csv").write_text("image_id,fractured,fold,group\na.png,1,0,g\n")
    shutil.copyfile(collection / "labels.csv", boxed / "labels.csv")
    (boxed / "boxes.csv").write_text("image_id,x,y\n")
    for labels, said in (
        (text, "notes.txt: has no column image_id, fractured, fold, group, use in its first line"),
        (binary, "film.png: has no column image_id"),
        (bare, "labels.csv: has no column use in its first line"),
        (boxed, "boxes.csv: has no column x_min, y_min, x_max, y_max in its first line"),
    ):
        done = bench("flagship", "--labels", labels)
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1), done.output
        assert said in done.output
        assert "(there are )" not in done.output
        assert "name a folder with images/, labels.csv (image_id, fractured, fold, group, use)" in done.output


def test_a_table_without_a_film_to_use_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    for rows in ("", "a.png,1,0,g,0\n"):
        table.write_text(f"image_id,fractured,fold,group,use\n{rows}")
        done = bench("flagship", "--labels", tmp_path)
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1), done.output
        assert "labels.csv: none of its films has 'use' 1" in done.output


# ---- what is shown


def test_a_rare_finding_is_told_with_all_its_digits(judged: Judged, report: tuple[str, Path]) -> None:
    figures = json.loads((report[1] / "accuracy.json").read_text(encoding="utf-8"))
    figures["prevalence"] = measure(judged, (0.005, 0.0004, 0.1, 0.015))["prevalence"]
    table = next(t for t in tables(figures) if t.title == "Where fewer or more films have a fracture")
    assert [row[0] for row in table.rows] == ["0.5%", "0.04%", "10%", "1.5%"]
    lines = summary(figures)
    for share in ("0.5%", "0.04%", "10%", "1.5%"):
        assert sum(f"calls (PPV) that are right, {share} fractured" in line for line in lines) == 1
        assert sum(f"others (NPV) that are right, {share} fractured" in line for line in lines) == 1
    npv = figures["prevalence"][1]["specific"]["npv"]["value"]
    assert f"{npv:.3f}" in next(line for line in lines if "(NPV) that are right, 0.04%" in line)


def test_figures_of_films_that_points_were_chosen_on_say_so(report: tuple[str, Path]) -> None:
    _, out = report
    caveat = "were chosen on these very films"
    assert caveat not in (out / "accuracy.md").read_text(encoding="utf-8")
    figures = json.loads((out / "accuracy.json").read_text(encoding="utf-8"))
    figures["artefact"]["points_chosen_on"] = f"{figures['split']['name']}: sensitivity >= 0.95"
    said = [table.title for table in tables(figures) if caveat in table.note]
    assert said == ["At the operating points", "Where fewer or more films have a fracture", "Calibration",
                    "Does it look where the fracture is?"]  # fmt: skip


def test_a_film_that_cannot_be_decoded_is_counted_and_named(report: tuple[str, Path]) -> None:
    output, out = report
    assert "Without a finding, and in no figure: 1 of 25 films, 1 with a fracture (damaged.png)" in output
    found = json.loads((out / "accuracy.json").read_text(encoding="utf-8"))
    assert [film["film"] for film in found["without_finding"]] == ["damaged.png"]
    assert "| damaged.png | yes | the PNG is cut short" in (out / "accuracy.md").read_text(encoding="utf-8")


def test_every_table_says_of_which_file_and_films_it_is(report: tuple[str, Path], model: Model) -> None:
    output, out = report
    assert model.sha256 in output
    markdown, page = ((out / f"accuracy.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    of = f"int8.onnx, SHA-256 {model.sha256[:16]}…, {json.loads((out / 'accuracy.json').read_text())['split']['name']}"
    count = markdown.count("\n## ") - 1  # the limits are no table
    assert markdown.count(of) == count >= 8
    assert page.count(of) == count + 4  # the curves and three galleries
    assert model.sha256 in markdown
    assert model.sha256 in page


def test_films_are_shown_on_the_page_alone(report: tuple[str, Path], judged: Judged) -> None:
    _, out = report
    page = (out / "accuracy.html").read_text(encoding="utf-8")
    errors = len(misses(judged))
    assert page.count("data:image/jpeg;base64,") >= errors
    for name in ("accuracy.json", "accuracy.md"):
        assert "base64" not in (out / name).read_text(encoding="utf-8")
    links = page.replace("http://www.w3.org/", "")
    assert "http" not in links, "the page needs a network"
    assert page.count("<svg") == 1
    assert {path.name for path in out.iterdir()} == {"accuracy.json", "accuracy.md", "accuracy.html"}


def test_a_miss_shows_the_true_box(judged: Judged) -> None:
    """A fractured film that scores nothing: the box lies on the picture, above its band of words."""
    blind = replace(judged, probability=np.zeros(24))
    pictures = misses(blind)
    assert len(pictures) == 6
    for picture in pictures:
        for left, top, width, height in picture.boxes:
            assert 0 <= left < left + width <= 100
            assert 0 <= top < top + height < 100
    assert all(picture.boxes for picture in pictures)


def test_the_other_precision_is_measured_when_asked_for(
    collection: Path, trained_here: Path, float_model: Model
) -> None:
    done = bench(trained_here, "--labels", collection, "--precision", "float32", "--prevalence", "0.3")
    assert done.exit_code == 0, done.output
    assert f"float32.onnx, SHA-256 {float_model.sha256}" in done.output
    assert "float32 against int8" in done.output
    assert "30% fractured" in done.output


# ---- beside the speed of the same file


def test_a_report_has_accuracy_and_speed_of_one_file_and_names_no_film(
    collection: Path, trained_here: Path, tmp_path: Path
) -> None:
    speed, out = tmp_path / "latency.json", tmp_path / "report"
    latency = [
        "latency",
        str(collection / "images"),
        "--films",
        "11",
        "--model",
        str(trained_here),
        "--json",
        str(speed),
    ]
    assert CliRunner().invoke(main, latency).exit_code == 0
    arguments = [str(speed), "--labels", str(collection), "--model", str(trained_here), "--out", str(out)]
    done = CliRunner().invoke(main, ["report", *arguments])
    assert done.exit_code == 0, done.output
    page = (out / "report.html").read_text(encoding="utf-8")
    record = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [part["benchmark"] for part in record["parts"]] == ["latency", "accuracy"]
    assert f"{record['parts'][1]['ranking']['auroc']['value']:.3f}" in page
    for file in out.iterdir():
        assert ".png" not in file.read_text(encoding="utf-8"), file.name
