"""`accuracy.json`, `accuracy.md` and `accuracy.html`: the same figures for a program, a repository and a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from bonefrac.errors import OutputError
from bonefrac.sinks import atomic
from bonefrac_benchmarks.accuracy_tables import about, caption, tables
from bonefrac_benchmarks.curves import draw
from bonefrac_benchmarks.gallery import false_alarms, flips, misses
from bonefrac_benchmarks.judged import Judged


def write_report(out: Path, figures: dict[str, Any], judged: Judged, again: Judged | None) -> None:
    """Write the three; `again` are the same films by the bundle's other file. Raises OutputError where the folder `out`
    cannot be written to."""
    shared = {"about": about(figures), "tables": tables(figures), "caption": caption(figures), "figures": figures}
    galleries = {
        "misses": misses(judged),
        "alarms": false_alarms(judged),
        "flips": [picture for pair in (flips(judged, again) if again else ()) for picture in pair],
    }
    texts = {
        "accuracy.json": json.dumps(figures, indent=1, allow_nan=False) + "\n",
        "accuracy.md": template("accuracy.md").render(shared),
        "accuracy.html": template("accuracy.html").render(shared, curves=draw(figures, judged), **galleries),
    }
    try:
        for name, text in texts.items():
            with atomic(out / name) as file:
                file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written to: {error.strerror}; name another folder with --out") from error


def template(name: str) -> jinja2.Template:
    """One of this room's, which may take in the engine's style sheet; HTML is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("bonefrac_benchmarks"), jinja2.PackageLoader("bonefrac")]),
        autoescape=name.endswith(".html"), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    return environment.get_template(name)
