"""How every curve and bar of this room looks, and how it becomes a part of a page. With `curves` and `report_plots` the
only door to Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

LINE, MARK, SOFT = "#1f6f9f", "#b35900", "#5d6778"  # as the page's style sheet has them
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # words stay words: smaller, and they can be searched
    "svg.hashsalt": "bonefrac",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
}


def svg(size: tuple[float, float], fill: Callable[[Figure], None]) -> str:
    """The `<svg>` element of a sheet of that size in inches, which `fill` draws on."""
    with mpl.rc_context(_STYLE):
        sheet = Figure(figsize=size, layout="constrained")
        fill(sheet)
        file = io.StringIO()
        sheet.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    return text[text.index("<svg") :]
