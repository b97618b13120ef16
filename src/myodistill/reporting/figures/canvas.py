"""What all figures share: sizes of a two-column paper, colours, and how a picture is saved.

Colours are told apart with every common colour blindness (Okabe and Ito, Color universal design,
2008) and differ in lightness and marker, so that a grey print stays readable.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from myodistill.errors import OutputError
from myodistill.files import write_bytes

COLUMN = 3.5
"""Width of one column in inches."""
PAGE = 7.2
"""Width of both columns in inches."""
INK, FAINT, RULE = "#1f2328", "#6b7280", "#d9dce1"

STYLE: Any = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "myodistill",
}
drawn = mpl.rc_context(STYLE)
"""Decorates a function that draws."""


@dataclass(frozen=True)
class Mark:
    """How the scores of a stage are drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[float, ...]] = "-"


MARKS: dict[str, Mark] = {
    "baseline": Mark("#8a8f98", "s", "--"),
    "pretrain": Mark("#56b4e9", "v", ":"),
    "finetune": Mark("#004a77", "o"),
    "supervised": Mark("#e69f00", "^", "--"),
    "pretrained": Mark("#b8860b", "D", "-."),
    "distilled": Mark("#d55e00", "P"),
    "pretrained_distilled": Mark("#7a1f3d", "X", (0, (6, 1.2))),
}


@dataclass(frozen=True)
class Picture:
    """A figure and all that belongs to it.

    Attributes:
        name: File name without an ending.
        title: What it shows, in a few words.
        figure: The drawing.
        data: The numbers behind it.
        alt: What it shows, for readers who cannot see it.
        note: How to read it.
    """

    name: str
    title: str
    figure: Figure = field(repr=False)
    data: pd.DataFrame = field(repr=False)
    alt: str
    note: str = ""

    def save(self, folder: Path, formats: Sequence[str] = ("pdf", "png")) -> list[Path]:
        """Write the figure in some formats and its data as CSV beside it, each file whole.

        Raises:
            OutputError: The folder cannot be written, or a format is unknown.
        """
        paths = []
        for kind in formats:
            path = folder / f"{self.name}.{kind}"
            write_bytes(path, self.render(kind))
            paths.append(path)
        path = folder / f"{self.name}.csv"
        write_bytes(path, self.csv().encode())
        return [*paths, path]

    @drawn
    def render(self, kind: str) -> bytes:
        """Return the content of a file of a format: ``pdf``, ``svg``, ``png``, ..."""
        known = self.figure.canvas.get_supported_filetypes()
        if kind not in known:
            raise OutputError(f"figure: expected one of {', '.join(sorted(known))}, got '{kind}'")
        buffer = io.BytesIO()
        dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
        self.figure.savefig(buffer, format=kind, dpi=300, metadata=dates.get(kind))
        return buffer.getvalue()

    def csv(self) -> str:
        """Return the data as comma-separated text."""
        return self.data.to_csv(index=False)


def fitting(name: str, most: int = 28) -> str:
    """Return a name as it is drawn: in one line, without control characters, cut if it is long."""
    shown = "".join(c if c.isprintable() else " " for c in name)
    shown = " ".join(shown.split())
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def inches(texts: Sequence[str], size: float) -> list[float]:
    """Return how wide texts are drawn at a font size on a screen, where letters are widest."""
    page = Figure()
    notes = [page.text(0, 0, text, fontsize=size) for text in texts]
    return [note.get_window_extent().width / page.dpi for note in notes]


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    *,
    around: Sequence[tuple[float, float]],
    reach: float = 5.0,
) -> None:
    """Write a text beside each point where it covers least of the points and other texts.

    Args:
        axes: With its limits and scales set.
        points: In data coordinates.
        texts: One for each point.
        around: All points that should stay visible.
        reach: Distance in points, typographic ones.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    inside = axes.get_window_extent()
    spots = axes.transData.transform(around)
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in spots]
    for index, text in enumerate(texts):
        best: tuple[float, Any] | None = None
        for far in (1.0, 2.2, 3.6):
            for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
                note = axes.annotate(
                    text,
                    points[index],
                    (dx * reach * far, dy * reach * far),
                    textcoords="offset points",
                    ha=("right", "center", "left")[dx + 1],
                    va=("top", "center", "bottom")[dy + 1],
                    fontsize=6.5,
                    color=INK,
                    path_effects=[withStroke(linewidth=2, foreground="white")],
                    zorder=4,
                )
                box = note.get_window_extent()
                cover = sum(_shared(box, other) for other in taken)
                outside = box.width * box.height - _shared(box, inside)
                cost = cover + 3 * outside + far
                if best is not None and cost >= best[0]:
                    note.remove()
                    continue
                if best is not None:
                    best[1].remove()
                best = cost, note
        if best is not None:
            taken.append(best[1].get_window_extent())


def _shared(one: Bbox, other: Bbox) -> float:
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else both.width * both.height
