"""`bonefrac-batch` as a person uses it: whole commands on drawn films, and every way an input can be bad."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bonefrac.cli import main
from bonefrac.model import find_bundle
from bonefrac.sinks import COLUMNS
from bonefrac.synthetic import draw_radiograph


def film(seed: int = 16, *, fractured: bool = True) -> np.ndarray:
    """A drawn film, uint8."""
    return (draw_radiograph(seed, fractured=fractured).pixels >> 4).astype(np.uint8)


def encoded(pixels: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def batch(*arguments: object) -> Result:
    """Run `bonefrac batch` in this process."""
    return CliRunner().invoke(main, ["batch", *map(str, arguments)])


def command(*arguments: object) -> list[str]:
    """`bonefrac-batch` as a process of its own."""
    return [sys.executable, "-c", "from bonefrac.cli import batch_main; batch_main()", *map(str, arguments)]


def rows(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    by_path = {row["path"]: row for row in found}
    assert len(by_path) == len(found), "a film has two rows"
    return by_path


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder with its content's hash and its time of change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(f): (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns) for f in files}


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    """Three good films, two of one name in two folders."""
    folder = tmp_path / "xrays"
    (folder / "patient-a").mkdir(parents=True)
    (folder / "patient-b").mkdir()
    (folder / "patient-a" / "wrist.jpg").write_bytes(encoded(film(15)))
    (folder / "patient-b" / "wrist.jpg").write_bytes(encoded(film(16, fractured=False)))
    (folder / "leg.png").write_bytes(encoded(draw_radiograph(11, fractured=True).pixels, ".png"))
    return folder


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size with no pixels: what a decoder would believe before it allocates."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 274, 3, 1, orientation, 0) + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


JPEG = encoded(film())
PNG = encoded(film(), ".png")

# name -> (bytes, status, a word of the message)
BAD = {
    "empty.jpg": (b"", "failed", "empty"),
    "cut-10.jpg": (JPEG[: len(JPEG) // 10], "failed", "cut short"),
    "cut-50.jpg": (JPEG[: len(JPEG) // 2], "failed", "cut short"),
    "cut-95.jpg": (JPEG[: len(JPEG) * 95 // 100], "failed", "cut short"),
    "cut-but-ended.jpg": (JPEG[: len(JPEG) // 2] + b"\xff\xd9", "failed", "damaged"),
    "hole.jpg": (JPEG[: len(JPEG) // 2] + bytes(4096) + JPEG[len(JPEG) // 2 + 4096 :], "failed", "damaged"),
    "cut.png": (PNG[: len(PNG) // 2], "failed", "cut short"),
    "text.jpg": (b"this is no picture\n" * 40, "not_analysed", "not an image"),
    "picture.gif": (b"GIF89a" + bytes(100), "not_analysed", "GIF"),
    "tiny.png": (png_header(1, 1), "not_analysed", "too small"),
    "bomb.png": (png_header(20000, 20000), "not_analysed", "too large"),
    "blank.jpg": (encoded(np.full((600, 500), 90, np.uint8)), "not_analysed", "blank"),
    "photo.jpg": (encoded(cv2.applyColorMap(film(), cv2.COLORMAP_JET)), "not_analysed", "colour"),
    "good.jpg": (JPEG, "ok", ""),
    "really-a-png.jpg": (PNG, "ok", ""),
    "rgba.png": (encoded(cv2.cvtColor(film(), cv2.COLOR_GRAY2BGRA), ".png"), "ok", ""),
    "sixteen.png": (encoded(draw_radiograph(16, fractured=True).pixels, ".png"), "ok", ""),
    "sixteen.tif": (encoded(draw_radiograph(16, fractured=True).pixels, ".tif"), "ok", ""),
    "turned.jpg": (with_orientation(encoded(np.ascontiguousarray(np.rot90(film()))), 6), "ok", ""),
    'line\nbreak, comma "quotes".jpg': (JPEG, "ok", ""),
    "=cmd|' C calc'!A0.jpg": (JPEG, "ok", ""),
    "Röntgen-腕.jpg": (JPEG, "ok", ""),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every bad input in one folder, examined once; the folder of results."""
    folder = tmp_path_factory.mktemp("bad") / "films"
    folder.mkdir()
    for name, (data, _, _) in BAD.items():
        (folder / name).write_bytes(data)
    (folder / "loop").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    for litter in (".DS_Store", "._good.jpg", "Thumbs.db", "desktop.ini", ".hidden.jpg"):
        (folder / litter).write_bytes(JPEG)
    result = batch(folder, "--out", folder.parent / "out")
    assert result.exit_code == 1, result.output
    return folder.parent / "out"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_gets_its_status_and_its_reason(bad: Path, name: str) -> None:
    _, status, word = BAD[name]
    row = rows(bad)["'" + name if name.startswith("=") else name]
    assert row["status"] == status
    assert word in row["message"]
    assert (row["finding"] != "") == (status == "ok")
    assert (row["probability"] != "") == (status == "ok")


def test_every_file_has_one_row_and_litter_none(bad: Path) -> None:
    expected = {"'" + name if name.startswith("=") else name for name in BAD} | {"gone.jpg"}
    assert set(rows(bad)) == expected
    assert rows(bad)["gone.jpg"]["status"] == "failed"


def test_a_turned_film_is_judged_upright(bad: Path) -> None:
    """Its regions are in pixels of the film as a person sees it."""
    upright, turned = rows(bad)["good.jpg"], rows(bad)["turned.jpg"]
    assert (turned["width"], turned["height"]) == (upright["width"], upright["height"]) == ("760", "1000")
    boxes = [json.loads(row["regions"])[0]["box"] for row in (upright, turned)]
    assert np.abs(np.subtract(*boxes)).max() <= 20


def test_the_demo_fracture_is_found_where_it_was_drawn(bad: Path) -> None:
    row = rows(bad)["good.jpg"]
    x0, y0, x1, y1 = json.loads(row["regions"])[0]["box"]
    drawn = draw_radiograph(16, fractured=True).box
    assert drawn is not None
    assert row["finding"] == "fracture"
    assert drawn[0] <= (x0 + x1) / 2 <= drawn[2]
    assert drawn[1] <= (y0 + y1) / 2 <= drawn[3]


def test_the_table_has_its_columns_and_is_sorted(xrays: Path) -> None:
    assert batch(xrays).exit_code == 0
    out = xrays.with_name("xrays-results")
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        header, *body = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert [row[0] for row in body] == ["leg.png", "patient-a/wrist.jpg", "patient-b/wrist.jpg"]
    assert (out / "annotated" / "patient-a" / "wrist.jpg.marked.jpg").is_file()
    run = json.loads((out / "run.json").read_text())
    assert run["model"]["provider"] == "CPUExecutionProvider"
    assert run["counts"]["files"] == 3
    assert set(run["stage_seconds"]) == {"read", "decode", "prepare", "infer", "picture", "write"}
    assert str(xrays.parent) not in (out / "run.json").read_text() + (out / "report.html").read_text()


def test_originals_are_never_touched(xrays: Path) -> None:
    before = tree(xrays)
    batch(xrays, "--annotate", "all")
    batch(xrays, "--restart")
    assert tree(xrays) == before


def test_input_inside_the_output_is_refused_and_kept(xrays: Path) -> None:
    out = xrays.with_name("xrays-results")
    batch(xrays)
    film_inside = out / "annotated" / "mine.jpg"
    film_inside.write_bytes(JPEG)
    result = batch(out / "annotated", "--out", out)
    assert result.exit_code == 2
    assert "holds the input" in result.output
    assert film_inside.read_bytes() == JPEG


def test_what_is_not_ours_in_the_output_stays(xrays: Path) -> None:
    out = xrays.with_name("xrays-results")
    batch(xrays)
    mine = [out / "annotated" / "notes.txt", out / "annotated" / "film.jpg.marked.jpg", out / "x" / ".part-film.png"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    (xrays / "leg.png").unlink()
    assert batch(xrays).exit_code == 0
    assert [path.read_bytes() for path in mine] == [b"mine"] * 3
    assert not (out / "annotated" / "leg.png.marked.jpg").exists()


def test_files_are_as_private_as_the_user_wants(xrays: Path) -> None:
    program = "import os; os.umask(0o077); from bonefrac.cli import batch_main; batch_main()"
    subprocess.run([sys.executable, "-c", program, str(xrays), "--quiet"], check=True)
    written = [path for path in xrays.with_name("xrays-results").rglob("*") if path.is_file()]
    assert written
    assert {path.stat().st_mode & 0o077 for path in written} == {0}


def test_no_path_of_the_machine_gets_into_what_is_handed_on(xrays: Path) -> None:
    batch(xrays, "--model", str(find_bundle("flagship")))
    for name in ("run.json", "report.html", "results.csv"):
        text = (xrays.with_name("xrays-results") / name).read_text(encoding="utf-8")
        assert str(xrays.parent) not in text
        assert str(find_bundle("flagship")) not in text


@pytest.mark.parametrize("options", [("--workers", 1), ("--workers", 5), ("--batch-size", 1), ("--batch-size", 3)])
def test_the_table_does_not_depend_on_workers_or_batches(xrays: Path, options: tuple[object, ...]) -> None:
    for seed in range(4):
        (xrays / f"more-{seed}.jpg").write_bytes(encoded(film(seed)))
    batch(xrays, "--out", xrays.parent / "one")
    batch(xrays, "--out", xrays.parent / "two", *options)
    assert (xrays.parent / "one/results.csv").read_bytes() == (xrays.parent / "two/results.csv").read_bytes()


def test_a_second_run_examines_only_what_changed(xrays: Path) -> None:
    out = xrays.with_name("xrays-results")
    batch(xrays)
    first = (out / "results.csv").read_bytes()
    assert "(0 analysed now, 3 before)" in batch(xrays).output
    assert (out / "results.csv").read_bytes() == first

    changed = xrays / "patient-a" / "wrist.jpg"
    times = changed.stat()
    changed.write_bytes(encoded(film(13, fractured=False)))
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))  # told by its content, not by its time
    assert "(1 analysed now, 2 before)" in batch(xrays).output
    assert rows(out)["patient-a/wrist.jpg"]["sha256"] == hashlib.sha256(changed.read_bytes()).hexdigest()

    changed.write_bytes(encoded(film(15)))
    batch(xrays)
    assert (out / "results.csv").read_bytes() == first


def test_a_film_that_is_gone_leaves_no_row_and_no_picture(xrays: Path) -> None:
    out = xrays.with_name("xrays-results")
    batch(xrays)
    (xrays / "patient-a" / "wrist.jpg").unlink()
    batch(xrays)
    assert set(rows(out)) == {"leg.png", "patient-b/wrist.jpg"}
    assert not (out / "annotated" / "patient-a").exists()


def test_a_deleted_picture_is_made_again(xrays: Path) -> None:
    out = xrays.with_name("xrays-results")
    batch(xrays)
    picture = out / "annotated" / "patient-a" / "wrist.jpg.marked.jpg"
    first = picture.read_bytes()
    picture.unlink()
    assert "(1 analysed now" in batch(xrays).output
    assert picture.read_bytes() == first


def test_restart_and_other_settings_begin_anew(xrays: Path) -> None:
    batch(xrays)
    assert "(3 analysed now" in batch(xrays, "--restart").output
    assert "(3 analysed now" in batch(xrays, "--precision", "float32").output


def test_annotate_all_and_none(xrays: Path) -> None:
    batch(xrays, "--annotate", "all", "--out", xrays.parent / "all")
    assert len(list((xrays.parent / "all" / "annotated").rglob("*.jpg"))) == 3
    batch(xrays, "--annotate", "none", "--out", xrays.parent / "none")
    assert not (xrays.parent / "none" / "annotated").exists()


def test_output_inside_the_input_is_not_input(xrays: Path) -> None:
    for _ in range(2):
        assert batch(xrays, "--out", xrays / "results", "--annotate", "all").exit_code == 0
        assert len(rows(xrays / "results")) == 3
    assert len(batch(xrays, "--out", xrays.parent / "other").output) > 0
    assert len(rows(xrays.parent / "other")) == 3, "an older output folder was taken for films"


def test_our_own_pictures_are_set_aside(xrays: Path) -> None:
    batch(xrays, "--annotate", "all")
    pictures = xrays.with_name("xrays-results") / "annotated"
    assert batch(pictures, "--out", xrays.parent / "again").exit_code == 0
    assert {row["status"] for row in rows(xrays.parent / "again").values()} == {"not_analysed"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("missing",), "there is no such file or folder"),
        (("pipe",), "neither a file nor a folder"),
        (("",), "an empty name"),
        (("hollow",), "no files to analyse"),
        (("xrays", "--out", "xrays"), "holds the input"),
        (("xrays", "--out", "full"), "holds files that are not bonefrac's"),
        (("xrays", "--device", "cuda"), "device 'cuda' is not there"),
        (("xrays", "--device", "abacus"), "unknown device 'abacus'"),
        (("xrays", "--model", "nobody"), "no model 'nobody'"),
        (("xrays", "--model", "hollow"), "no model bundle"),
        (("xrays", "--precision", "float64"), "is not one of"),
    ],
)
def test_misuse_is_one_sentence_and_status_2(
    xrays: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(xrays.parent)
    (xrays.parent / "hollow").mkdir()
    (xrays.parent / "full").mkdir()
    (xrays.parent / "full" / "letter.txt").write_text("mine")
    os.mkfifo(xrays.parent / "pipe")
    result = batch(*arguments)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert not (xrays.parent / "xrays-results").exists()


def test_fail_fast_stops_with_status_1(xrays: Path) -> None:
    (xrays / "a.jpg").write_bytes(b"")
    result = batch(xrays, "--fail-fast")
    assert result.exit_code == 1
    assert "'a.jpg': the file is empty" in result.output
    assert not (xrays.with_name("xrays-results") / "results.csv").exists()


def test_json_lines_say_what_the_table_says(xrays: Path) -> None:
    batch(xrays, "--jsonl")
    out = xrays.with_name("xrays-results")
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    table = rows(out)
    assert [line["path"] for line in lines] == list(table)
    for line in lines:
        row = table[line["path"]]
        assert f"{line['probability']:.4f}" == row["probability"]
        assert line["regions"] == json.loads(row["regions"])


def test_quiet_says_nothing_and_a_pipe_gets_no_progress(xrays: Path) -> None:
    quiet = subprocess.run(command(xrays, "--quiet"), capture_output=True, text=True, check=False)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    piped = subprocess.run(command(xrays, "--restart"), capture_output=True, text=True, check=False)
    assert piped.returncode == 0
    assert piped.stderr == ""
    assert "3 files" in piped.stdout


def test_it_runs_without_a_network(xrays: Path) -> None:
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise RuntimeError('the network was used')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from bonefrac.cli import batch_main; batch_main()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(xrays)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_several_inputs_and_a_single_file(xrays: Path) -> None:
    batch(xrays / "patient-a", xrays / "leg.png", "--out", xrays.parent / "some")
    assert set(rows(xrays.parent / "some")) == {"leg.png", "patient-a/wrist.jpg"}
    batch(xrays / "leg.png")
    assert set(rows(xrays / "leg-results")) == {"leg.png"}


def test_an_unreadable_film_and_folder_are_told(xrays: Path) -> None:
    # root may read anything, unless the right to is taken from it
    rights = "-dac_override,-dac_read_search"
    as_anybody = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.getuid() == 0 else []
    if as_anybody and shutil.which("setpriv") is None:
        pytest.skip("root may read anything, and setpriv (util-linux) is missing")
    (xrays / "patient-a" / "wrist.jpg").chmod(0)
    (xrays / "patient-b").chmod(0)
    try:
        done = subprocess.run([*as_anybody, *command(xrays)], capture_output=True, text=True, check=False)
    finally:
        (xrays / "patient-b").chmod(0o755)
    assert done.returncode == 1, done.stderr
    table = rows(xrays.with_name("xrays-results"))
    assert "permission" in table["patient-a/wrist.jpg"]["message"]
    assert table["patient-b"]["status"] == "failed"
    assert "cannot be listed" in table["patient-b"]["message"]
    assert table["leg.png"]["status"] == "ok"


def test_the_word_normal_appears_nowhere(bad: Path) -> None:
    for path in (bad / "results.csv", bad / "report.html", bad / "run.json"):
        assert "normal" not in path.read_text(encoding="utf-8").lower()
