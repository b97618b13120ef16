"""What accuracy costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from myodistill.errors import DataError
from myodistill.evaluation.protocol import (
    CLASSICAL,
    METRICS,
    overview,
    require_one_protocol,
    require_same_people,
    usual_k,
)
from myodistill.evaluation.results import STAGES
from myodistill.evaluation.statistics import Values
from myodistill.reporting.figures.canvas import (
    INK,
    MARKS,
    PAGE,
    Picture,
    drawn,
    label_points,
)

Flags = NDArray[np.bool_]


@drawn
def accuracy_cost(
    frame: pd.DataFrame,
    flops: Mapping[str, int] | None = None,
    *,
    k: int | None = None,
    metric: str = "accuracy",
) -> Picture:
    """Accuracy against floating-point operations a window, or parameters where these are unknown.

    Args:
        frame: A results table.
        flops: Operations for one window by model; used if it knows every network of the table.
        k: Calibration repetitions; the least above 0 if not given.
        metric: One of the scores of the table.

    Raises:
        DataError: The table is bad, or has no network at this K.
    """
    require_one_protocol(frame, metric)
    require_same_people(frame)
    k = usual_k(frame) if k is None else k
    means = overview(frame[frame["k"] == k], metric)
    points = means[~means["stage"].isin(CLASSICAL)].copy()
    if len(points) == 0:
        raise DataError(
            f"accuracy against cost: expected a network at K={k}, there are only classical methods"
        )
    counted = flops is not None and set(points["model"]) <= set(flops)
    points["cost"] = (
        points["model"].map(flops) if counted and flops is not None else points["parameters"]
    ).astype(float)
    points["front"] = pareto(points["cost"].to_numpy(), points["mean"].to_numpy())
    baselines = means[means["stage"].isin(CLASSICAL)]

    figure = Figure(figsize=(PAGE, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if _decades(points["cost"]) < 2 else (1,))
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
    handles = []
    largest = max(points["parameters"].max(), 1)
    for stage, group in points.groupby("stage", sort=False):
        mark = MARKS[str(stage)]
        axes.scatter(
            group["cost"],
            group["mean"],
            s=24 + 110 * group["parameters"] / largest if counted else 26,
            c=mark.colour,
            marker=mark.marker,
            edgecolors="white",
            linewidths=0.5,
            zorder=3,
        )
        look: dict[str, Any] = {"color": mark.colour, "marker": mark.marker, "linestyle": "none"}
        handles.append(Line2D([], [], label=STAGES[str(stage)], **look))
    axes.set_xlim(points["cost"].min() / 2, points["cost"].max() * 2)
    front = points[points["front"]].sort_values("cost")
    look = {"color": INK, "linewidth": 0.8, "label": "Pareto front"}
    axes.plot(front["cost"], front["mean"], drawstyle="steps-post", zorder=1, **look)
    handles.append(Line2D([], [], **look))
    if len(baselines):
        best = baselines.sort_values("mean").iloc[-1]
        look = {"color": MARKS["baseline"].colour, "linestyle": "--", "linewidth": 1.0}
        axes.axhline(best["mean"], **look)
        handles.append(Line2D([], [], label=f"best classical: {best['model']}", **look))
    axes.margins(y=0.14)
    axes.set_xlabel("operations for one window (FLOPs)" if counted else "parameters")
    axes.set_ylabel(f"{METRICS[metric]} at K={k} (%)")
    figure.legend(handles=handles, loc="outside right upper")
    spots = points.sort_values("mean", ascending=False).drop_duplicates("model")
    label_points(
        axes,
        list(zip(spots["cost"], spots["mean"], strict=True)),
        [str(model) for model in spots["model"]],
        around=list(zip(points["cost"], points["mean"], strict=True)),
    )
    leader = points.sort_values("mean").iloc[-1]
    cost = "FLOPs" if counted else "parameters"
    return Picture(
        f"accuracy-{cost.lower()}-k{k}",
        f"Accuracy against {cost}, K={k}",
        figure,
        pd.concat([points, baselines.assign(cost=np.nan, front=False)]),
        f"Scatter plot of {METRICS[metric]} against {cost} for {len(points)} networks at K={k}; "
        f"best is {STAGES[leader['stage']]} {leader['model']} with {leader['mean']:.1f} %.",
        "On the line nothing smaller is as accurate."
        + (" The area of a point grows with its parameters." if counted else ""),
    )


def _decades(cost: pd.Series[float]) -> float:
    return float(np.log10(cost.max() / cost.min()))


def pareto(cost: Values, gain: Values) -> Flags:
    """Return which points no other point beats in cost and gain at once, shape ``(point,)``."""
    no_worse = (cost[:, None] <= cost) & (gain[:, None] >= gain)
    better = (cost[:, None] < cost) | (gain[:, None] > gain)
    return np.asarray(~(no_worse & better).any(axis=0))
