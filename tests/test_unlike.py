"""What is unlike the films the shipped model was made for is set aside, and limbs from elsewhere are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

pytest.importorskip("skimage", reason="needs the extras: train, dev")
pytest.importorskip("pydicom", reason="needs the extras: train, dev")
pytest.importorskip("keras", reason="needs the extras: train, dev", exc_type=ImportError)

from click.testing import CliRunner

from bonefrac.model import Model
from bonefrac.pipeline import UNLIKE, Examiner, examine
from bonefrac.results import Failure, Finding, Result
from bonefrac.sources import FilmFile
from bonefrac.synthetic import draw_radiograph
from bonefrac_training.cli import main
from bonefrac_training.unlike import radiograph


def examined(folder: Path, model: Model) -> dict[str, Result]:
    films = [FilmFile(path, path.name) for path in sorted(folder.iterdir())]
    return {r.source.path: r for r in examine(films, Examiner(model)) if isinstance(r, (Finding, Failure))}


def test_as_many_pictures_are_set_aside_as_the_card_says(tmp_path: Path, model: Model) -> None:
    done = CliRunner().invoke(main, ["unlike", str(tmp_path / "pictures")])
    assert done.exit_code == 0, done.output
    counted = [0, 0]
    for kind in sorted((tmp_path / "pictures").iterdir()):
        results = examined(kind, model).values()
        aside = [result for result in results if isinstance(result, Failure) and result.status == "not_analysed"]
        assert model.manifest.figures[f"{kind.name}, set aside"].endswith(f"{len(aside)} of {len(results)}")
        assert kind.name == "blank frames" or {result.message for result in aside} == {UNLIKE}
        counted = [counted[0] + len(aside), counted[1] + len(results)]
    assert counted[0] >= 0.9 * counted[1]
    assert CliRunner().invoke(main, ["unlike", str(tmp_path / "pictures")]).exit_code == 2, "the folder was there"


def test_a_limb_from_elsewhere_is_examined(tmp_path: Path, model: Model) -> None:
    """An ankle of another machine, with white shutters."""
    cv2.imwrite(str(tmp_path / "ankle.png"), radiograph("RG3_UNCR.dcm"))
    assert isinstance(examined(tmp_path, model)["ankle.png"], Finding)


def test_drawn_radiographs_are_examined(tmp_path: Path, model: Model) -> None:
    for seed in range(8):
        for fractured in (False, True):
            cv2.imwrite(str(tmp_path / f"{seed}-{fractured}.png"), draw_radiograph(seed, fractured=fractured).pixels)
    assert {type(result) for result in examined(tmp_path, model).values()} == {Finding}
