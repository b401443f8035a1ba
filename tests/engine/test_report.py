"""report.py: one page that opens from disk, without a network, with 5,000 films."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bonefrac.model import Model
from bonefrac.pipeline import Examiner
from bonefrac.report import MOST_ROWS, write_report
from bonefrac.results import Failure, Finding, Region, Result, Source
from bonefrac.run import BatchSettings, _counts, _run_record
from bonefrac.tuned import Ready, Way

REGION = Region((1.0, 2.0, 3.0, 4.0), (2.0, 3.0), 0.8)


class Page(HTMLParser):
    """Text and attributes of a page, and its rows in their order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.names: list[str] = []
        self._open = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open = dict(attrs).get("class") or tag

    def handle_data(self, data: str) -> None:
        if self._open != "style":
            self.text.append(data)
        if self._open == "name":
            self.names.append(data)
            self._open = ""


def finding(name: str, probability: float = 0.5, *regions: Region, thumbnail: bytes = b"\xff\xd8") -> Finding:
    return Finding(Source(name, ""), "doubt", probability, regions, 640, 480, thumbnail=thumbnail)


@pytest.fixture
def written(tmp_path: Path, model: Model) -> Any:
    """written(results) -> (the page's source, the page)."""

    def write(results: Iterable[Result]) -> tuple[str, Page]:
        results = list(results)
        counts: Counter[str] = _counts(iter(results))
        counts.update(files=len(results), new=len(results), unchanged=0)
        run = _run_record(BatchSettings((tmp_path,)), Ready(model, Way("cpu", 1), ""), Examiner(model), counts, 2.5)
        write_report(tmp_path / "report.html", worklist=iter(results), run=run)
        source = (tmp_path / "report.html").read_text(encoding="utf-8")
        return source, Page(source)

    return write


def test_the_worklist_stands_in_the_order_it_came(written: Any) -> None:
    _, page = written(
        [finding("z.jpg", 0.9, REGION), finding("a.jpg", 0.5), Failure(Source("b.jpg", ""), "failed", "why")]
    )
    assert page.names == ["z.jpg", "a.jpg", "b.jpg"]


def test_a_row_tells_finding_probability_and_regions(written: Any) -> None:
    source, page = written([finding("z.jpg", 0.876, REGION, REGION)])
    text = " ".join(page.text)
    assert "0.88" in text
    assert "2 regions" in text
    assert 'class="doubt">doubt<' in source
    assert [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")] == [
        "data:image/jpeg;base64,/9g="
    ]


def test_failures_stand_with_their_reasons_wherever_they_come(written: Any) -> None:
    failures = [
        Failure(Source("b.jpg", ""), "failed", "cut short"),
        Failure(Source("c.gif", ""), "not_analysed", "a GIF"),
    ]
    _, page = written([failures[0], finding("a.jpg"), failures[1]])
    text = " ".join(page.text)
    assert page.names == ["a.jpg", "b.jpg", "c.gif"]
    for words in ("cut short", "a GIF", "not analysed", "Files without a finding: 2"):
        assert words in text


def test_no_film_is_lost_up_to_5000(written: Any) -> None:
    films: list[Result] = [finding(f"film-{number}.jpg", 1 - number / MOST_ROWS) for number in range(MOST_ROWS)]
    failures = [Failure(Source(f"bad-{number}.jpg", ""), "failed", "why") for number in range(40)]
    source, page = written([*films, *failures])
    assert MOST_ROWS >= 5000
    assert page.names == [result.source.path for result in (*films, *failures)]
    assert "results.csv has all" not in source
    assert source.rstrip().endswith("</html>")


def test_above_the_limit_the_page_says_so_and_keeps_all_failures(written: Any) -> None:
    films: list[Result] = [finding(f"film-{number}.jpg") for number in range(MOST_ROWS + 2)]
    _, page = written([*films, Failure(Source("bad.jpg", ""), "failed", "why")])
    assert page.names == [*(f"film-{number}.jpg" for number in range(MOST_ROWS)), "bad.jpg"]
    assert f"The {MOST_ROWS} most suspicious of {MOST_ROWS + 2} films" in " ".join(page.text)


def test_an_empty_worklist_is_told(written: Any) -> None:
    assert "No film was analysed" in " ".join(written([Failure(Source("b.jpg", ""), "failed", "why")])[1].text)
    assert "None." in " ".join(written([finding("a.jpg")])[1].text)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>.jpg", '"><img src=x onerror=y>.png', "a&amp;b.jpg", "{{ run }}.jpg"]
)
def test_a_name_is_text_and_never_markup(written: Any, name: str) -> None:
    source, page = written([finding(name), Failure(Source(name, ""), "failed", name)])
    assert page.names == [name, name]
    assert name not in source or name == "{{ run }}.jpg"
    assert not [value for tag, _, value in page.attributes if tag == "script" or value == "x"]


def test_a_name_that_is_no_utf_8_can_be_shown(written: Any) -> None:
    assert written([finding("r\udcf6ntgen.jpg")])[1].names == ["r\\xf6ntgen.jpg"]


def test_the_page_needs_no_network(written: Any) -> None:
    source, page = written([finding("a.jpg", 0.9, REGION), Failure(Source("b.jpg", ""), "failed", "why")])
    loads = [
        value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert len(loads) >= 2
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in loads)
    assert not {tag for tag, _, _ in page.attributes} & {"script", "link", "iframe", "object", "form"}
    assert not re.search(r"url\(|@import|<script|<link", source)
    for anchor in (value[1:] for value in loads if value.startswith("#")):
        assert f'id="{anchor}"' in source


def test_the_word_normal_is_nowhere(written: Any) -> None:
    calm = Finding(Source("a.jpg", ""), "no_fracture_detected", 0.01, (), 640, 480)
    source, page = written([calm])
    assert "normal" not in source.lower()
    assert "no fracture detected" in " ".join(page.text)


def test_the_page_tells_how_far_to_trust_it_and_how_it_was_made(written: Any, model: Model) -> None:
    text = re.sub(r"\s+", " ", " ".join(written([finding("a.jpg")])[1].text))
    manifest = model.manifest
    for words in (*manifest.figures, *manifest.figures.values(), *manifest.limits, manifest.training_data.licence,
                  model.name, model.sha256[:16], model.provider, f"{manifest.operating_points.specific:.4f}",
                  "Not a medical device and not for diagnosis", "films a second", "onnxruntime"):  # fmt: skip
        assert re.sub(r"\s+", " ", words) in text


def test_the_machines_folders_are_not_told(written: Any, tmp_path: Path) -> None:
    assert str(tmp_path) not in written([finding("a.jpg")])[0]
