"""pipeline.py: exactly one result a file, in order, whatever the file holds."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonefrac import pipeline
from bonefrac.decode import MAX_BYTES, decode
from bonefrac.errors import NotAnalysed, OutputError
from bonefrac.examiner import illustrator
from bonefrac.model import Model, Scores
from bonefrac.pipeline import Examiner, Unchanged, View, examine
from bonefrac.results import Failure, Finding, Radiograph
from bonefrac.sources import FilmFile

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_film: Make) -> Path:
    """Nine files: films of several kinds, two without a finding, two damaged."""
    folder = tmp_path_factory.mktemp("films")
    for seed in range(1, 5):
        write_film(folder / f"{seed}.jpg", seed, fractured=seed % 2 == 0)
    whole = write_film(folder / "16-bit.png", 1)
    (folder / "cut.png").write_bytes(whole[:5000])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "letter.jpg").write_bytes(b"Dear colleague")
    (folder / "tiny.png").write_bytes(cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes())
    return folder


def films_of(folder: Path) -> list[FilmFile]:
    return [FilmFile(path, path.name) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def films(folder: Path) -> list[FilmFile]:
    return films_of(folder)


@pytest.fixture(scope="module")
def expected(films: list[FilmFile], model: Model) -> dict[str, Any]:
    """Name -> result, each film examined alone."""
    how = Examiner(model, batch_size=1, workers=1)
    return {film.name: next(examine([film], how)) for film in films}


def test_every_kind_of_file_gets_its_status(expected: dict[str, Any], folder: Path) -> None:
    statuses = {name: getattr(result, "status", "ok") for name, result in expected.items()}
    assert statuses == {
        **dict.fromkeys(["1.jpg", "2.jpg", "3.jpg", "4.jpg", "16-bit.png"], "ok"),
        **dict.fromkeys(["letter.jpg", "tiny.png"], "not_analysed"),
        **dict.fromkeys(["cut.png", "empty.jpg"], "failed"),
    }
    for name, result in expected.items():
        assert result.source.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert isinstance(result, Finding) or result.message


def test_a_finding_agrees_with_its_probability(expected: dict[str, Any], model: Model) -> None:
    findings = [result for result in expected.values() if isinstance(result, Finding)]
    assert {result.finding for result in findings} - {"no_fracture_detected"}
    for result in findings:
        assert result.finding == model.finding(result.probability)
        assert result.probability == round(result.probability, 4)
        assert (result.width, result.height) == (380, 500)
        if result.finding == "no_fracture_detected":
            assert result.regions == ()


@pytest.mark.parametrize(("probability", "shown"), [(0.0, False), (1.0, True)])
def test_regions_are_told_only_with_a_suspicion(
    films: list[FilmFile], model: Model, probability: float, shown: bool
) -> None:
    class Hot:
        manifest = model.manifest
        finding = staticmethod(model.finding)
        is_familiar = staticmethod(model.is_familiar)

        def predict(self, batch: Any) -> Scores:
            heatmap = np.zeros((len(batch), 20, 20), np.float32)
            heatmap[:, 8:12, 8:12] = 1
            return Scores(np.full(len(batch), probability, np.float32), heatmap, np.ones(len(batch), np.float32))

    hot: Any = Hot()
    findings = [result for result in examine(films, Examiner(hot)) if isinstance(result, Finding)]
    assert len(findings) == 5
    assert all(bool(result.regions) == shown for result in findings)


def test_order_and_results_do_not_depend_on_workers_or_batches(
    films: list[FilmFile], expected: dict[str, Any], model: Model
) -> None:
    @settings(max_examples=6)
    @given(st.permutations(films), st.integers(1, 10), st.integers(1, 4))
    def shuffled(order: list[FilmFile], batch_size: int, workers: int) -> None:
        results = list(examine(order, Examiner(model, batch_size=batch_size, workers=workers)))
        assert results == [expected[film.name] for film in order]

    shuffled()


def test_rows_regions_and_pictures_do_not_depend_on_order_batches_or_workers(
    films: list[FilmFile], model: Model, tmp_path: Path
) -> None:
    """Any films, some of them several times, in any order: what is told and drawn of each is one and the same."""

    def told(chosen: list[FilmFile], batch_size: int, workers: int) -> list[tuple[Any, bytes]]:
        numbered = [replace(film, name=f"{number}/{film.name}") for number, film in enumerate(chosen)]
        illustrate = illustrator(model, "all", tmp_path.joinpath)
        results = list(examine(numbered, Examiner(model, batch_size, workers, illustrate=illustrate)))
        assert [result.source.path for result in results] == [film.name for film in numbered]
        pictures = [tmp_path / film.name for film in numbered]
        found = [
            (replace(result, source=replace(result.source, path="")), path.read_bytes() if path.exists() else b"")
            for result, path in zip(results, pictures, strict=True)
            if not isinstance(result, Unchanged)
        ]
        for path in pictures:
            path.unlink(missing_ok=True)
        return found

    alone = {film.name: told([film], 1, 1)[0] for film in films}
    assert sum(bool(picture) for _, picture in alone.values()) == 5
    assert any(getattr(result, "regions", ()) for result, _ in alone.values())

    @settings(max_examples=8)
    @given(st.lists(st.sampled_from(films), max_size=14), st.integers(1, 6), st.integers(1, 4))
    def anyhow(chosen: list[FilmFile], batch_size: int, workers: int) -> None:
        assert told(chosen, batch_size, workers) == [alone[film.name] for film in chosen]

    anyhow()


@pytest.mark.parametrize("name", ["1.jpg", "empty.jpg"])
def test_the_same_file_under_many_names_gives_a_result_each(folder: Path, model: Model, name: str) -> None:
    films = [FilmFile(folder / name, f"{number}.jpg") for number in range(5)]
    results = list(examine(films, Examiner(model, batch_size=2, workers=2)))
    assert [result.source.path for result in results] == [film.name for film in films]
    assert len({replace(result.source, path="") for result in results}) == 1


def test_no_files_give_no_results(model: Model) -> None:
    assert list(examine([], Examiner(model))) == []


def test_only_a_few_films_are_read_ahead(films: list[FilmFile], model: Model) -> None:
    taken = 0

    def endless() -> Iterator[FilmFile]:
        nonlocal taken
        while True:
            taken += 1
            yield films[0]

    results = examine(endless(), Examiner(model, batch_size=2, workers=2))
    next(results)
    results.close()
    assert taken <= 2 * (2 * 2 + 1)


def test_leaving_early_leaves_no_thread_behind(films: list[FilmFile], model: Model) -> None:
    results = examine(films, Examiner(model, batch_size=1, workers=3))
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("film")]


def test_a_file_that_disappears_has_failed(tmp_path: Path, films: list[FilmFile], model: Model) -> None:
    gone = FilmFile(tmp_path / "gone.jpg", "gone.jpg")
    first, second = examine([gone, films[0]], Examiner(model))
    assert isinstance(first, Failure)
    assert (first.status, first.source.sha256) == ("failed", "")
    assert "gone now" in first.message
    assert isinstance(second, Finding)


@pytest.mark.skipif(os.name != "posix", reason="permission bits of POSIX")
def test_a_file_without_permission_has_failed(
    tmp_path: Path, write_film: Make, model: Model, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "closed.jpg"
    write_film(path)
    path.chmod(0)
    with as_nobody():
        (result,) = examine([FilmFile(path, "closed.jpg")], Examiner(model))
    assert isinstance(result, Failure)
    assert result.status == "failed"
    assert "no permission" in result.message


def test_a_folder_that_could_not_be_listed_has_failed(tmp_path: Path, model: Model) -> None:
    (result,) = examine([FilmFile(tmp_path, "closed", "the folder cannot be listed: why")], Examiner(model))
    assert isinstance(result, Failure)
    assert (result.status, result.message) == ("failed", "the folder cannot be listed: why")


def test_a_giant_file_is_set_aside_unread(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_BYTES >= 2**27
    monkeypatch.setattr(pipeline, "MAX_BYTES", 2**20)
    path = tmp_path / "giant.jpg"
    path.write_bytes(bytes(2**20 + 1))
    (result,) = examine([FilmFile(path, "giant.jpg")], Examiner(model))
    assert isinstance(result, Failure)
    assert result.status == "not_analysed"
    assert "larger than 1 MB" in result.message


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError(), cv2.error("bad")])
def test_a_crash_inside_one_film_is_its_row_and_the_others_go_on(
    films: list[FilmFile], expected: dict[str, Any], model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    poison = next(film for film in films if film.name == "2.jpg")
    data = poison.path.read_bytes()

    def decode_or_crash(given: bytes, *, long_side: int) -> Radiograph:
        if given == data:
            raise error
        return decode(given, long_side=long_side)

    monkeypatch.setattr(pipeline, "decode", decode_or_crash)
    results = {result.source.path: result for result in examine(films, Examiner(model, workers=2))}
    failure = results.pop("2.jpg")
    assert isinstance(failure, Failure)
    assert failure.status == "failed"
    assert type(error).__name__ in failure.message
    assert results == {name: result for name, result in expected.items() if name != "2.jpg"}


def test_known_content_is_not_examined_again(films: list[FilmFile], expected: dict[str, Any], model: Model) -> None:
    known = {
        "1.jpg": expected["1.jpg"].source.sha256,
        "2.jpg": "another content",
        "letter.jpg": expected["letter.jpg"].source.sha256,
    }
    results = {result.source.path: result for result in examine(films, Examiner(model, known=known))}
    unchanged = {name for name, result in results.items() if isinstance(result, Unchanged)}
    assert unchanged == {"1.jpg", "letter.jpg"}
    assert results["2.jpg"] == expected["2.jpg"]


def test_illustrate_sees_what_the_model_saw(films: list[FilmFile], expected: dict[str, Any], model: Model) -> None:
    views: dict[str, View] = {}

    def illustrate(finding: Finding, view: View) -> Finding:
        views[finding.source.path] = view
        return replace(finding, thumbnail=b"drawn")

    results = list(examine(films, Examiner(model, batch_size=3, illustrate=illustrate)))
    found = {name for name, result in expected.items() if isinstance(result, Finding)}
    assert set(views) == found
    assert {result.source.path for result in results if getattr(result, "thumbnail", b"") == b"drawn"} == found
    for film in films:
        if film.name in found:
            decoded = decode(film.path.read_bytes(), long_side=model.manifest.input.long_side)
            assert np.array_equal(views[film.name].film.pixels, decoded.pixels)
            scores = model.predict(views[film.name].pixels[None])
            assert expected[film.name].probability == round(float(scores.probability[0]), 4)
            assert np.array_equal(views[film.name].heatmap, scores.heatmap[0])


def test_no_worker_waits_for_a_picture_to_be_written(folder: Path, model: Model) -> None:
    """With one worker, the first film's picture is not written before the second film is drawn; its result waits."""
    second_is_drawn = threading.Event()
    written: list[str] = []

    def illustrate(finding: Finding, view: View) -> Finding:
        def write() -> None:
            assert second_is_drawn.wait(60), "nobody computed meanwhile"
            written.append(finding.source.path)

        if finding.source.path == "1.jpg":
            view.later(write)
        else:
            second_is_drawn.set()
        return finding

    films = [FilmFile(folder / name, name) for name in ("1.jpg", "2.jpg")]
    results = examine(films, Examiner(model, workers=1, illustrate=illustrate))
    assert getattr(next(results), "message", None) == ""
    assert written == ["1.jpg"]
    assert getattr(next(results), "message", None) == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EISDIR, "Is a directory"), "its name cannot be written there"),
        (ValueError("a bug"), "ValueError"),
    ],
)
def test_a_picture_that_cannot_be_written_is_told_in_its_row(
    films: list[FilmFile], expected: dict[str, Any], model: Model, error: Exception, words: str
) -> None:
    def fail() -> None:
        raise error

    def illustrate(finding: Finding, view: View) -> Finding:
        if finding.source.path == "2.jpg":
            view.later(fail)
        return finding

    results = {result.source.path: result for result in examine(films, Examiner(model, illustrate=illustrate))}
    without = results.pop("2.jpg")
    assert isinstance(without, Finding)
    assert words in without.message
    assert replace(without, message="") == expected["2.jpg"]
    assert results == {name: result for name, result in expected.items() if name != "2.jpg"}


def test_what_is_unlike_the_models_films_gets_no_finding(tmp_path: Path, model: Model) -> None:
    """Noise, a page of text and a chessboard have size and contrast enough to be decoded; no picture is made."""
    rng = np.random.default_rng(0)
    page = np.full((900, 700), 250, np.uint8)
    for line in range(40):
        cv2.putText(page, "Dear colleague, thank you for", (30, 40 + 21 * line), 0, 0.9, 10, 2)
    board = np.kron(np.indices((9, 7)).sum(axis=0) % 2, np.ones((100, 100), int)) * 255
    for name, pixels in (("noise", rng.integers(0, 256, (900, 700))), ("page", page), ("board", board)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels.astype(np.uint8))
    drawn: list[str] = []

    def illustrate(finding: Finding, view: View) -> Finding:
        drawn.append(finding.source.path)
        return finding

    results = list(examine(films_of(tmp_path), Examiner(model, illustrate=illustrate)))
    assert [(result.status, result.message) for result in results if isinstance(result, Failure)] == [
        ("not_analysed", "unlike the films this model was made for")
    ] * 3
    assert {(result.width, result.height) for result in results if isinstance(result, Failure)} == {(700, 900)}
    assert drawn == []


def test_a_full_disk_ends_the_run_in_our_words(films: list[FilmFile], model: Model) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def illustrate(finding: Finding, view: View) -> Finding:
        view.later(fail)
        return finding

    with pytest.raises(OutputError, match="No space left"):
        list(examine(films, Examiner(model, illustrate=illustrate)))


@pytest.mark.parametrize("error", [cv2.error("bad"), NotAnalysed("a blank frame at this size"), ValueError("a bug")])
def test_a_film_that_cannot_be_drawn_does_not_end_the_run(
    films: list[FilmFile], expected: dict[str, Any], model: Model, error: Exception
) -> None:
    def illustrate(finding: Finding, view: View) -> Finding:
        if finding.source.path == "2.jpg":
            raise error
        return finding

    results = {result.source.path: result for result in examine(films, Examiner(model, illustrate=illustrate))}
    assert set(results) == set(expected)
    del results["2.jpg"]
    assert results == {name: result for name, result in expected.items() if name != "2.jpg"}


def test_time_is_told_for_every_stage(films: list[FilmFile], model: Model) -> None:
    how = Examiner(model, workers=2, illustrate=lambda finding, view: finding)
    list(examine(films, how))
    assert set(how.stages.seconds) == {"read", "decode", "prepare", "infer", "picture"}
    assert how.stages.seconds["infer"] > 0
