"""`report.html`: one file that opens from disk in any browser, without a network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bonefrac.results import Failure, Finding, Result
from bonefrac.sinks import atomic, printable

if TYPE_CHECKING:
    import jinja2

    from bonefrac.status import Status

MOST_ROWS = 5000  # above, a browser on an old PC becomes slow; results.csv has all


def write_report(path: Path, *, worklist: Iterable[Result], run: dict[str, object]) -> None:
    """Write the report. `worklist` comes most suspicious first and is read once; `run` is what `run.json` holds."""
    template = _template("report.html")
    failures: list[dict[str, object]] = []
    worklist = iter(worklist)

    def findings() -> Iterator[dict[str, object]]:
        for result in worklist:
            if isinstance(result, Finding):
                yield _row(result)
            else:
                failures.append(_failed_row(result))

    rows = islice(findings(), MOST_ROWS)
    rest = findings()  # whatever follows: only its failures are shown

    def shown_failures() -> Iterator[dict[str, object]]:
        for _ in rest:
            pass
        yield from islice(failures, MOST_ROWS)
        if len(failures) > MOST_ROWS:
            yield {"name": f"and {len(failures) - MOST_ROWS} more", "status": "", "message": "results.csv has all"}

    with atomic(path) as file:
        stream = template.stream(run=run, rows=rows, failures=shown_failures(), most_rows=MOST_ROWS)
        for part in stream:
            file.write(part.encode("utf-8", "backslashreplace"))


def write_index(path: Path, films: Iterable[tuple[Result, str, str]], *, status: Status, most_rows: int) -> None:
    """Write a watched inbox' page: (result, relative path of its picture, time of analysis) of each film shown, the
    most suspicious first."""
    rows: list[dict[str, object]] = []
    failures: list[dict[str, object]] = []
    for result, picture, analysed in films:
        row = _row(result) if isinstance(result, Finding) else _failed_row(result)
        row |= {
            "picture": quote(picture.encode("utf-8", "surrogateescape")),
            "analysed": analysed,
            "message": result.message,
        }
        (rows if isinstance(result, Finding) else failures).append(row)
    with atomic(path) as file:
        page = _template("index.html").render(rows=rows, failures=failures, status=status, most_rows=most_rows)
        file.write(page.encode("utf-8", "backslashreplace"))


def prepare_report() -> None:
    """Have the report's template ready, which takes as long as a film: while something else is waited for."""
    _template("report.html")


@lru_cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bonefrac"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def _row(result: Finding) -> dict[str, object]:
    thumbnail = base64.b64encode(result.thumbnail).decode("ascii")
    return {
        "name": printable(result.source.path),
        "finding": result.finding,
        "probability": f"{result.probability:.2f}",
        "regions": len(result.regions),
        "thumbnail": f"data:image/jpeg;base64,{thumbnail}" if thumbnail else "",
    }


def _failed_row(result: Failure) -> dict[str, object]:
    return {"name": printable(result.source.path), "status": result.status, "message": result.message}
