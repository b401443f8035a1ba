"""The table of networks in the README is what `bonefrac-train table` makes of the runs' own figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bonefrac_training.cross_validation import cross_validation
from bonefrac_training.table import ORDER, table

ROOT = Path(__file__).parents[2]
RUNS = sorted(path.parent for path in (ROOT / "training" / "histories").glob("*/figures.json"))


def test_the_readme_shows_the_table_of_the_committed_runs() -> None:
    assert table(RUNS) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_folds() -> None:
    first = [*sorted((ROOT / "training" / "folds").glob("320-*")), ROOT / "training" / "histories" / "flagship-320"]
    assert len(first) == 4
    assert cross_validation(first) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_what_augmentations_are_worth() -> None:
    pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)
    from bonefrac_training.ablation import ablation_table

    record = json.loads((ROOT / "training" / "ablation.json").read_text(encoding="utf-8"))
    assert ablation_table(record) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_network_was_trained() -> None:
    trained = {json.loads((run / "figures.json").read_text(encoding="utf-8"))["model"] for run in RUNS}
    assert trained == set(ORDER)


@pytest.mark.parametrize("run", [run for run in RUNS if (run / "history.csv").exists()], ids=lambda run: run.name)
def test_the_figures_are_those_of_the_runs_best_epoch(run: Path) -> None:
    figures = json.loads((run / "figures.json").read_text(encoding="utf-8"))
    watched = "mean_iou" if "mean_iou" in figures else "auroc"
    with open(run / "history.csv", newline="", encoding="utf-8") as file:
        scores = [float(row[watched]) for row in csv.DictReader(file)]
    assert figures["epoch"] == scores.index(max(scores)) + 1
    assert figures[watched]["value"] == pytest.approx(max(scores), abs=1e-4)
    assert figures["epochs"] == len(scores)
    assert json.loads((run / "training.json").read_text(encoding="utf-8"))["model"] == figures["model"]


def test_a_mean_has_its_figures_from_the_runs_it_is_of() -> None:
    """It has no epochs of its own, and adds up those of the runs that went on one from the other."""
    means = [run for run in RUNS if not (run / "history.csv").exists()]
    assert means
    for mean in means:
        figures, facts = (json.loads((mean / name).read_text("utf-8")) for name in ("figures.json", "training.json"))
        assert "epoch" not in figures
        runs = [mean.with_name(f"{figures['model']}-{px}") for px in figures["mean_of_px"]]
        assert figures["epochs"] == sum(json.loads((run / "figures.json").read_text())["epochs"] for run in runs)
        assert facts["mean_of_weights"] == [f"{px} px" for px in figures["mean_of_px"]]
        last = json.loads((runs[-1] / "training.json").read_text())
        assert {name: facts[name] for name in last} == last
