"""On real films, where there are any: the shipped bundle does through the whole command what its card says."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bonefrac.cli import main
from bonefrac.labelled import read_labelled
from bonefrac.model import find_bundle, read_manifest

DATA = Path(os.environ.get("BONEFRAC_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_films = pytest.mark.skipif(
    not (DATA / "fracatlas" / "labels.csv").is_file() or not (DATA / "films").is_dir(),
    reason="the real films are missing: BONEFRAC_DATA names no folder with fracatlas/ and films/",
)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@needs_films
def test_films_of_full_size_give_findings_pictures_and_a_report(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["batch", str(DATA / "films"), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    table = rows(tmp_path)
    assert {row["path"] for row in table} == {path.name for path in (DATA / "films").iterdir()}
    assert {row["status"] for row in table} == {"ok"}
    for row in table:
        for region in json.loads(row["regions"]):
            x0, y0, x1, y1 = region["box"]
            assert 0 <= x0 < x1 <= int(row["width"])
            assert 0 <= y0 < y1 <= int(row["height"])
    suspicious = {row["path"] for row in table if row["finding"] != "no_fracture_detected"}
    assert {path.name.removesuffix(".marked.jpg") for path in (tmp_path / "annotated").iterdir()} == suspicious
    assert (tmp_path / "report.html").read_text().count('class="row"') == len(table)


@needs_films
def test_the_validation_fold_gives_the_auroc_of_the_card(tmp_path: Path) -> None:
    """All 777 films through the command, scored from its table: the very figure of the card, and at least 0.90."""
    metrics = pytest.importorskip("sklearn.metrics", reason='needs the extra: pip install ".[bench]"')
    films = {film.path.name: film for film in read_labelled(DATA / "fracatlas") if film.fold == 3}
    (tmp_path / "fold").mkdir()
    for film in films.values():
        (tmp_path / "fold" / film.path.name).symlink_to(film.path.resolve())
    arguments = ["batch", str(tmp_path / "fold"), "--out", str(tmp_path / "out"), "--annotate", "none"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    table = rows(tmp_path / "out")
    assert len(table) == len(films)
    judged = [row for row in table if row["status"] == "ok"]
    assert len(judged) >= 0.99 * len(films), [row["message"] for row in table if row["status"] != "ok"]
    truth = np.array([films[row["path"]].fractured for row in judged])
    auroc = metrics.roc_auc_score(truth, [float(row["probability"]) for row in judged])
    stated = re.match(r"0\.\d+", read_manifest(find_bundle("flagship")).figures["AUROC"])
    assert stated is not None
    assert auroc >= 0.90
    assert round(auroc, 3) == pytest.approx(float(stated[0]), abs=0.0015)


@needs_films
def test_damaged_films_of_the_collection_fail_and_say_so(tmp_path: Path) -> None:
    """A decoder that fills in the grey half of a truncated film would call it free of fractures."""
    with open(DATA / "fracatlas" / "labels.csv", newline="", encoding="utf-8") as file:
        damaged = [row["image_id"] for row in csv.DictReader(file) if row["decodable"] == "0"]
    assert damaged
    (tmp_path / "films").mkdir()
    for name in damaged:
        (tmp_path / "films" / name).symlink_to((DATA / "fracatlas" / "images" / name).resolve())
    assert CliRunner().invoke(main, ["batch", str(tmp_path / "films")]).exit_code == 1
    assert {row["status"] for row in rows(tmp_path / "films-results")} == {"failed"}
