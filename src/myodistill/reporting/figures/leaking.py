"""What leaking splits promise, and what is left of it."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from myodistill.evaluation.leaking_results import HONEST, SPLITS, stamped, summary, title
from myodistill.files import LEAKING
from myodistill.reporting.figures.canvas import PAGE, RULE, Picture, drawn

_MARKS = {
    "protocol": ("#004a77", "o"),
    "repetition": ("#e69f00", "^"),
    "random-windows": ("#d55e00", "X"),
    "subject": ("#004a77", "o"),
    "pooled-windows": ("#d55e00", "P"),
}
_PANELS = {"protocol": "within one person", "subject": "across people"}


@drawn
def leaking_splits(frame: pd.DataFrame) -> Picture:
    """Dumbbells: each method's score under an honest split and under those that leak beside it.

    Args:
        frame: See :mod:`myodistill.evaluation.leaking_results`.
    """
    means = summary(frame)
    methods = list(dict.fromkeys(means["method"]))
    panels = [honest for honest in _PANELS if honest in set(means["split"])]
    figure = Figure(figsize=(PAGE, 1.15 + 0.36 * max(len(methods), _LEAST)), layout="constrained")
    figure.suptitle(title(frame), x=0.01, ha="left", fontsize=8.5, fontweight="bold")
    drawn_in = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for honest, axes in zip(panels, drawn_in, strict=True):
        splits = [name for name in SPLITS if HONEST.get(name, name) == honest]
        _panel(axes, means[means["split"].isin(splits)], methods)
        axes.set_title(_PANELS[honest])
        axes.set_xlabel("accuracy (%), tick: the worst person")
    drawn_in[0].set_yticks(range(len(methods)), methods)
    drawn_in[0].set_ylim(len(methods) - 0.5, -0.5)
    people = frame["subject"].nunique()
    return Picture(
        f"{LEAKING}-splits",
        title(frame),
        figure,
        means.rename(columns={name: f"{LEAKING}_{name}" for name in _SCORES}),
        f"Dumbbell plot of {len(methods)} methods under splits that leak and under honest ones.",
        f"Mean of {people} people, bars are 95 % intervals, the small tick is the worst person.",
    )


_APART = 0.2
_LEAST = 3  # rows that there is room for
_SCORES = ("mean", "low", "high", "worst", "flatters", "flatters_low", "flatters_high")


def _panel(axes: Axes, means: pd.DataFrame, methods: list[str]) -> None:
    """Draw one honest split and those beside it."""
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for row, method in enumerate(methods):
        scores = means.loc[means["method"] == method, "mean"]
        ends = [scores.min(), scores.max()]
        axes.plot(ends, [row, row], color=RULE, linewidth=5, solid_capstyle="butt", zorder=1)
    splits = list(dict.fromkeys(means["split"]))
    for number, (split, group) in enumerate(means.groupby("split", sort=False)):
        colour, marker = _MARKS[str(split)]
        apart = _APART * (number - (len(splits) - 1) / 2)  # so that bars do not hide bars
        rows = [methods.index(method) + apart for method in group["method"]]
        axes.errorbar(
            group["mean"],
            rows,
            xerr=[group["mean"] - group["low"], group["high"] - group["mean"]],
            color=colour,
            marker=marker,
            linestyle="",
            markerfacecolor=colour if split in HONEST else "white",
            markersize=5,
            elinewidth=0.7,
            label=stamped(str(split)),
        )
        axes.plot(group["worst"], rows, color=colour, marker="|", markersize=5, linestyle="")
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.95 / max(len(methods), _LEAST)),
        ncols=3,
        columnspacing=1,
    )
