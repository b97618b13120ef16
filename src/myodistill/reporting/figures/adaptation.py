"""Accuracy in the course of a stream, with and without adaptation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from myodistill.evaluation.adaptation_results import PARTS, STATIC, per_person
from myodistill.evaluation.results import named
from myodistill.evaluation.streams import STREAMS
from myodistill.reporting.figures.canvas import COLUMN, FAINT, MARKS, PAGE, Picture, drawn

_ADAPTING = ("pretrained_distilled", "pretrained", "distilled", "supervised")
"""Whose colours the methods take, in this order."""


@drawn
def accuracy_in_use(frame: pd.DataFrame) -> Picture:
    """The mean accuracy in each tenth of every stream: a row of panels for each K.

    Args:
        frame: Results of adaptation, see :mod:`myodistill.evaluation.adaptation_results`; its
            first student is drawn.
    """
    model, loss = frame[["model", "loss"]].iloc[0]
    mine = frame[(frame["model"] == model) & (frame["loss"] == loss)]
    people = per_person(mine)
    counts = sorted(people["k"].unique())
    names = [name for name in STREAMS if name in set(people["stream"])]
    methods = list(dict.fromkeys(people["method"]))
    size = (max(PAGE, COLUMN), 0.8 + 1.25 * len(counts))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(counts), len(names), sharex=True, squeeze=False)
    share = (np.arange(len(PARTS)) + 0.5) * 100 / len(PARTS)
    for k, line in zip(counts, panels, strict=True):
        for name, axes in zip(names, line, strict=True):
            here = people[(people["k"] == k) & (people["stream"] == name)]
            axes.grid(axis="y")
            for method in methods:
                means = 100 * here[here["method"] == method][list(PARTS)].mean()
                axes.plot(share, means, label=method, **_style(method, methods))
        line[0].set_ylabel(f"K={k}\naccuracy (%)")
    for name, axes in zip(names, panels[0], strict=True):
        axes.set_title(name.replace(" ", "\n"))
    for axes in panels[-1]:
        axes.set_xlabel("% of stream")
        axes.set_xticks([0, 50, 100])
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return Picture(
        "accuracy-in-use",
        "Accuracy in use",
        figure,
        mine,
        f"Line plots of the mean accuracy in each tenth of {len(names)} streams, for "
        f"{people['subject'].nunique()} people, static and adapting.",
        f"{named(str(model), str(loss))}; "
        + "; ".join(f"{name}: {STREAMS[name]}" for name in names)
        + ".",
    )


def _style(method: str, methods: list[str]) -> dict[str, object]:
    if method == STATIC:
        return {"color": FAINT, "linestyle": "--", "linewidth": 1.1}
    place = [name for name in methods if name != STATIC].index(method)
    return {"color": MARKS[_ADAPTING[place % len(_ADAPTING)]].colour}
