"""How figures look: sizes for a screen and for papers, lines told apart by any eyes and in grey, and their files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from llmrl.core.files import publish

PAPER = {1: 3.25, 2: 6.75}  # inches, of one column and of both


class Style(NamedTuple):
    colour: str
    line: Any  # a line style of matplotlib
    marker: str


# Okabe and Ito's palette, told apart with any colour vision; a grey stands for yellow, too pale for a line on white. No
# two share a line style or a marker, so that they are told apart in grey, too.
STYLES = (
    Style("#0072B2", "-", "o"),
    Style("#D55E00", "--", "s"),
    Style("#009E73", "-.", "^"),
    Style("#CC79A7", ":", "D"),
    Style("#E69F00", (0, (7, 1.5)), "v"),
    Style("#56B4E9", (0, (4, 1.2, 1, 1.2, 1, 1.2)), "P"),
    Style("#000000", (0, (1, 0.8)), "X"),
    Style("#777777", (0, (8, 2, 3, 2)), "*"),
)
_ENTRY, _CHARACTER = 4.6, 0.563  # of a legend, in heights of its text: beside a label, and for each character of it


@dataclass(frozen=True)
class Layout:
    """Sizes of a figure: inches, points, and dots per inch of a PNG."""

    width: float
    text: float  # of axes; ticks and legend are a point smaller
    line: float
    dpi: int
    columns: int | None  # of a paper; None: for a screen

    @property
    def small(self) -> float:
        return self.text - 1

    def wrap(self, text: str, size: float, share: float = 1.0) -> str:
        """On lines that fit into this share of the width."""
        return fill(text, max(10, int((72 * self.width * share - _ENTRY * size) / (_CHARACTER * size))))

    def legend_columns(self, labels: Sequence[str], most: int) -> int:
        widest = (_ENTRY + _CHARACTER * max(map(len, labels))) * self.small
        return max(1, min(most, len(labels), int(72 * self.width / widest)))


def layout(columns: int | None, panels: int = 1) -> Layout:
    """`columns`: of a paper that the figure is as wide as, 1 or 2; None: for a screen, wider with more panels."""
    if columns is None:
        return Layout(8.0 if panels == 1 else 4.4 * panels, 12, 2.2, 100, None)
    return Layout(PAPER[columns], 8, 1.3, 300, columns)


def save(figure: Figure, out: Path, dpi: int) -> Path:
    """Writes .png, .pdf or .svg by the name's end; a PNG where it has none. Equal figures give equal bytes.

    Texts stay texts, in fonts that a PDF holds whole (TrueType) and an SVG names.
    """
    kind = out.suffix.removeprefix(".") or "png"
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    drawn = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "llmrl"}):
        figure.savefig(drawn, format=kind, dpi=dpi, metadata=undated.get(kind))
    out.parent.mkdir(parents=True, exist_ok=True)
    publish(out, drawn.getvalue())
    return out
