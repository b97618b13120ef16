"""Which differences between methods are real."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from myodistill.evaluation.protocol import subject_scores, usual_k
from myodistill.evaluation.statistics import compare, friedman
from myodistill.reporting.figures.canvas import FAINT, INK, PAGE, Picture, drawn, inches
from myodistill.reporting.rendering import signed

_DIVERGING = LinearSegmentedColormap.from_list(
    "orange-blue", ["#b35806", "#f1a340", "#f7f7f7", "#7fb2d9", "#08519c"]
)
_NUMBERS_FIT = 14


@drawn
def hypothesis_heatmap(
    frame: pd.DataFrame, *, k: int | None = None, metric: str = "accuracy"
) -> Picture:
    """Effect of every method against every other, and which differences are significant.

    Raises:
        DataError: The table is bad, or has fewer than two methods or subjects at this K.
    """
    k = usual_k(frame) if k is None else k
    scores = subject_scores(frame, k, metric)
    comparisons = compare(scores)
    names = list(scores.columns)
    n = len(names)
    name_size = 7 if n <= 20 else 5.5
    rooms = [PAGE - 0.25 - width for width in inches(names, name_size)]
    cell = min(0.46, *(room / (index + 0.1) for index, room in enumerate(rooms)))
    height = max(cell * n + 0.55, 2.0)
    figure = Figure(figsize=(PAGE, height))
    # A square of one cell at the left edge; names stand on the diagonal and run into the free half.
    axes = figure.add_axes((0.1 / PAGE, 0.5 / height, 1 - 0.2 / PAGE, 1 - 0.55 / height))
    axes.set_xlim(-0.5, (PAGE - 0.2) / cell - 0.5)
    axes.set_ylim((height - 0.55) / cell - 0.5, -0.5)
    axes.set_axis_off()
    norm = Normalize(-1, 1)
    effects = comparisons["rank_biserial"].to_numpy(dtype=float)
    size = 6.5 if n <= 10 else 5.0
    for index, row in enumerate(comparisons.itertuples()):
        left, down = names.index(str(row.first)), names.index(str(row.second))
        effect = -effects[index]  # row minus column
        colour = _DIVERGING(norm(effect))
        square = Rectangle((left - 0.48, down - 0.48), 0.96, 0.96, facecolor=colour)
        axes.add_patch(square)
        dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.55
        ink = "white" if dark else INK
        if row.significant:
            square.set(edgecolor=INK, linewidth=1.1)
        if n <= _NUMBERS_FIT:
            text = signed(effect, 2)
            axes.text(
                left,
                down,
                f"{text}\n★" if row.significant else text,
                ha="center",
                va="center",
                fontsize=size,
                linespacing=1.1,
                fontweight="bold" if row.significant else "normal",
                color=ink,
            )
    mark = "★ and frame" if n <= _NUMBERS_FIT else "Frame"
    for index, name in enumerate(names):
        axes.text(index - 0.42, index, name, va="center", fontsize=name_size)
    bar = figure.add_axes((1 - 2.5 / PAGE, 1 - 0.25 / height, 2.0 / PAGE, 0.09 / height))
    figure.colorbar(
        ScalarMappable(norm, _DIVERGING),
        cax=bar,
        orientation="horizontal",
        ticks=[-1, 0, 1],
        label="effect (rank-biserial)",
    )
    bar.set_xticklabels(["row worse", "equal", "row better"])
    bar.tick_params(length=0, labelsize=6.5)
    figure.text(
        0.1 / PAGE,
        0.1 / height,
        f"K={k}, {len(scores)} subjects. {mark}: Wilcoxon signed-rank p ≤ 0.05, two-sided, "
        f"Holm-corrected over {len(comparisons)} pairs.",
        fontsize=6.5,
        color=FAINT,
    )
    stars = int(comparisons["significant"].sum())
    return Picture(
        f"hypothesis-heatmap-k{k}",
        f"Which differences are real, K={k}",
        figure,
        comparisons.assign(k=k),
        f"Triangular heatmap of the effect between {n} methods over {len(scores)} subjects at "
        f"K={k}; {stars} of {len(comparisons)} differences are significant after correction.",
        "Find a method on the diagonal: cells to its left compare it with the methods above it.",
    )


@drawn
def critical_difference(
    frame: pd.DataFrame, *, k: int | None = None, metric: str = "accuracy"
) -> Picture:
    """Mean ranks of all methods; a bar joins those that Nemenyi's test does not tell apart.

    Raises:
        DataError: The table is bad, or has fewer than three methods or two subjects at this K.
    """
    k = usual_k(frame) if k is None else k
    scores = subject_scores(frame, k, metric)
    test = friedman(scores)
    ranks, n = test.ranks, len(test.ranks)
    cliques = test.cliques()
    half = (n + 1) // 2
    names_at = 0.66 + 0.08 * len(cliques)  # everything in inches, downward
    height = names_at + 0.17 * half + 0.05
    figure = Figure(figsize=(PAGE, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, PAGE)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    # Names stand beside the scale, which keeps at least 1.7 inches; long ones are written smaller.
    texts = [f"{mean_rank:.2f}  {name}" for name, mean_rank in ranks.items()]
    widest = max(inches(texts, 6.5))
    left = min(max(widest + 0.2, 2.0), PAGE / 2 - 0.85)
    right, text_size = PAGE - left, 6.5 * min(1, (left - 0.2) / widest)

    def across(rank: float) -> float:
        return left + (rank - 1) / (n - 1) * (right - left)

    axes.plot([left, right], [0.5, 0.5], color=FAINT, linewidth=0.8)
    for rank in range(1, n + 1):
        axes.plot([across(rank)] * 2, [0.45, 0.5], color=FAINT, linewidth=0.8)
        if n <= 10 or rank % 5 == 0 or rank == 1:
            axes.text(across(rank), 0.41, str(rank), ha="center", fontsize=7)
    end = across(1 + test.critical_difference)
    axes.plot([left, end], [0.14, 0.14], color=INK, linewidth=1.2, marker="|", markersize=5)
    text = f"critical difference {test.critical_difference:.2f}"
    axes.text(end + 0.07, 0.14, text, va="center", fontsize=6.5)
    for index, (name, mean_rank) in enumerate(ranks.items()):
        first = index < half
        down = names_at + 0.17 * (index if first else n - 1 - index)
        stop = left - 0.1 if first else right + 0.1
        at = across(mean_rank)
        axes.plot([at, at, stop], [0.5, down, down], color=INK, linewidth=0.6)
        text = f"{name}  {mean_rank:.2f}" if first else f"{mean_rank:.2f}  {name}"
        axes.text(
            stop + (-0.05 if first else 0.05),
            down,
            text,
            ha="right" if first else "left",
            va="center",
            fontsize=text_size,
        )
    for index, clique in enumerate(cliques):
        ends = [across(ranks[clique[0]]) - 0.03, across(ranks[clique[-1]]) + 0.03]
        axes.plot(ends, [0.57 + 0.08 * index] * 2, color=INK, linewidth=2.4)
    p = "< 0.001" if test.p < 0.001 else f"= {test.p:.3f}"
    return Picture(
        f"critical-difference-k{k}",
        f"Mean ranks over subjects, K={k}",
        figure,
        pd.DataFrame(
            {
                "method": ranks.index,
                "mean_rank": ranks.to_numpy(),
                "critical_difference": test.critical_difference,
                "friedman_p": test.p,
                "k": k,
            }
        ),
        f"Critical-difference diagram of {n} methods at K={k}: {ranks.index[0]} has the best mean "
        f"rank, {ranks.iloc[0]:.2f}; Friedman p = {test.p:.2g}.",
        "Rank 1 is best. A thick bar joins methods that are not told apart at 0.05 (Nemenyi). "
        f"Friedman's test that all are equal: p {p}.",
    )
