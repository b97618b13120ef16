"""Which gestures are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from myodistill.errors import DataError
from myodistill.reporting.figures.canvas import COLUMN, INK, PAGE, Picture, drawn, fitting

_NUMBERS_FIT = 12
_NAMES_FIT = 18


@drawn
def confusion_matrices(
    counts: Mapping[str, NDArray[np.integer]], gestures: Sequence[str], *, k: int | None = None
) -> Picture:
    """Share of each gesture's windows that were decided as each gesture.

    Args:
        counts: By title (at most three fit a page), shape ``(gesture performed, decided)``.
        gestures: Names in label order.
        k: Calibration repetitions, for the title.

    Raises:
        DataError: There is nothing, a matrix does not fit the gestures, or only one was performed.
    """
    if not counts:
        raise DataError("confusion matrices: expected counts of at least one method, got none")
    matrices = {title: np.asarray(matrix) for title, matrix in counts.items()}
    n, names = len(gestures), [fitting(name) for name in gestures]
    spoken = {title: title.replace("\n", " ") for title in matrices}
    for title, matrix in matrices.items():
        if matrix.shape != (n, n) or matrix.min() < 0:
            raise DataError(
                f"confusion matrix of {spoken[title]}: expected counts for {n}×{n} gestures, "
                f"got shape {matrix.shape}"
            )
        if (matrix.sum(axis=1) > 0).sum() < 2:
            raise DataError(
                f"confusion matrix of {spoken[title]}: expected at least 2 gestures that were "
                f"performed, got {(matrix.sum(axis=1) > 0).sum()}; nothing could be confused"
            )
    named = n <= _NAMES_FIT
    longest = max(len(name) for name in names) if named else 3
    single = len(matrices) == 1
    wide = COLUMN if single and n <= 12 else PAGE
    side = (wide - (0.25 if n <= _NUMBERS_FIT else 0.75) - 0.055 * longest) / max(len(matrices), 1)
    figure = Figure(figsize=(wide, side + 0.62 + 0.055 * longest), layout="constrained")
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    rows = []
    for axes, (title, matrix) in zip(panels, matrices.items(), strict=True):
        totals = matrix.sum(axis=1, keepdims=True)
        shares = np.divide(matrix, totals, out=np.full((n, n), np.nan), where=totals > 0)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_title(title)
        if named:
            axes.set_xticks(range(n), names, rotation=90)
            axes.set_yticks(range(n), names)
        else:
            axes.set_xticks(range(0, n, 5))
            axes.set_yticks(range(0, n, 5))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.6 if named else 0.2)
        axes.tick_params(which="minor", length=0)
        size = min(7.0, 72 * side / n / 2.1)
        for row, column in np.argwhere(np.nan_to_num(shares) > 0.005):
            if n <= _NUMBERS_FIT:
                share = shares[row, column]
                axes.text(
                    column,
                    row,
                    f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=size,
                    color="white" if share > 0.55 else INK,
                )
        rows.append(
            pd.DataFrame(
                {
                    "method": spoken[title],
                    "performed": np.repeat(list(gestures), n),
                    "decided": np.tile(list(gestures), n),
                    "windows": matrix.ravel(),
                }
            )
        )
    panels[0].set_ylabel("performed")
    figure.supxlabel("decided", fontsize=7.5)
    if n > _NUMBERS_FIT:
        figure.colorbar(image, ax=list(panels), shrink=0.6, label="share of windows")
    where = "" if k is None else f", K={k}"
    return Picture(
        "confusion" if k is None else f"confusion-k{k}",
        f"Which gestures are taken for which{where}",
        figure,
        pd.concat(rows),
        f"Confusion matrices of {', '.join(spoken.values())} over {n} gestures{where}; "
        + "; ".join(_worst(spoken[title], matrix, gestures) for title, matrix in matrices.items())
        + ".",
        "Per cent of the windows of each gesture performed (rows), over all subjects."
        + ("" if named else " Gestures are numbered in label order."),
    )


def _worst(title: str, matrix: NDArray[np.integer], gestures: Sequence[str]) -> str:
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    np.fill_diagonal(shares, 0)
    performed, decided = np.unravel_index(shares.argmax(), shares.shape)
    return (
        f"{title} most often takes {gestures[performed]} for {gestures[decided]} "
        f"({100 * shares[performed, decided]:.0f} %)"
    )
