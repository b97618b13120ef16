"""How far a decoder's confidence can be trusted, and what withholding unsure decisions gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from myodistill.errors import DataError
from myodistill.evaluation.events import abstention
from myodistill.evaluation.metrics import calibration_error, reliability
from myodistill.evaluation.protocol import method_name
from myodistill.evaluation.results import METHOD
from myodistill.reporting.figures.canvas import COLUMN, FAINT, MARKS, Picture, drawn
from myodistill.reporting.run import MethodKey, Probabilities

_BINS = 10
_FEW = 0.01  # a bin with a smaller share of the windows says nothing
_SHARES = np.linspace(0.02, 1, 50)


@drawn
def reliability_diagram(
    predictions: Mapping[MethodKey, Sequence[Probabilities]], *, k: int
) -> Picture:
    """Share of decisions that are right against the confidence that they came with.

    Args:
        predictions: For each method those of each person; only a few methods fit.
        k: Calibration repetitions.

    Raises:
        DataError: There are no predictions, or a row is no distribution.
    """
    figure, axes = _begin(predictions, "calibration")
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.8, linestyle=(0, (1, 1.5)))
    rows, sentences = [], []
    for method, people in predictions.items():
        curve = _mean_reliability(people)
        error = 100 * float(np.mean([calibration_error(*one) for one in people]))
        shown = curve[curve["share"] >= _FEW]
        _line(axes, method, 100 * shown["confidence"], 100 * shown["accuracy"], f"{error:.1f}")
        named = dict(zip(METHOD, method, strict=True))
        rows.append(curve.assign(**named, k=k, calibration_error=error))
        sentences.append(f"{method_name(*method)} is off by {error:.1f} points on average")
    axes.set_xlabel("confidence (%)")
    axes.set_ylabel("decisions that are right (%)")
    axes.set_aspect("equal")
    figure.legend(loc="outside lower center", title="calibration error in points", alignment="left")
    return Picture(
        f"confidence-k{k}",
        f"Whether confidence can be believed, K={k}",
        figure,
        pd.concat(rows),
        f"Calibration diagram at K={k}: {'; '.join(sentences)}.",
        f"On the dotted line confidence is the share that is right; below it a decoder is too sure "
        f"of itself. First seed; each person counts alike; bins with less than {100 * _FEW:.0f} % "
        f"of the windows are left out.",
    )


@drawn
def abstention_curve(
    predictions: Mapping[MethodKey, Sequence[Probabilities]], *, k: int
) -> Picture:
    """Accuracy against the share of windows decided, when the least sure are withheld.

    Args:
        predictions: For each method those of each person; only a few methods fit.
        k: Calibration repetitions.

    Raises:
        DataError: There are no predictions, or a row is no distribution.
    """
    figure, axes = _begin(predictions, "abstention")
    rows, sentences = [], []
    for method, people in predictions.items():
        curves = np.array([_accuracy_at(_SHARES, *one) for one in people])
        mean = 100 * curves.mean(axis=0)
        half = float(np.interp(0.5, _SHARES, mean))
        _line(axes, method, 100 * _SHARES, mean, f"{mean[-1]:.1f}", points=False)
        rows.append(
            pd.DataFrame(
                {
                    **dict(zip(METHOD, method, strict=True)),
                    "k": k,
                    "decided": _SHARES,
                    "accuracy": mean / 100,
                    "people": len(people),
                }
            )
        )
        sentences.append(f"{method_name(*method)} {mean[-1]:.1f} % of all and {half:.1f} % of half")
    axes.set_xlabel("windows decided (%)")
    axes.set_ylabel("of these right (%)")
    axes.set_xlim(0, 101)
    figure.legend(loc="outside lower center", title="all decided, % right", alignment="left")
    return Picture(
        f"abstention-k{k}",
        f"What it buys to withhold the unsure, K={k}",
        figure,
        pd.concat(rows),
        f"Accuracy against the share of windows decided at K={k}: {'; '.join(sentences)}.",
        "From the right: everything is decided, then more and more of the least sure windows of "
        "each person are withheld. First seed, mean over people.",
    )


def _begin(
    predictions: Mapping[MethodKey, Sequence[Probabilities]], what: str
) -> tuple[Figure, Axes]:
    if not predictions or not all(predictions.values()):
        raise DataError(f"{what}: expected the predictions of at least one method for one person")
    figure = Figure(figsize=(COLUMN, 3.0 + 0.14 * len(predictions)), layout="constrained")
    axes = figure.subplots()
    axes.grid()
    return figure, axes


def _line(
    axes: Axes,
    method: MethodKey,
    x: NDArray[np.float64] | pd.Series[float],
    y: NDArray[np.float64] | pd.Series[float],
    number: str,
    *,
    points: bool = True,
) -> None:
    mark = MARKS[method[0]]
    axes.plot(
        x,
        y,
        color=mark.colour,
        marker=mark.marker,
        markevery=1 if points else (len(x) - 1, len(x)),
        linestyle=mark.line,
        label=f"{number}  {method_name(*method)}",
    )


def _mean_reliability(people: Sequence[Probabilities]) -> pd.DataFrame:
    """Reliability over people, each of whom counts alike however many windows they have."""
    bins = pd.concat([reliability(*one, bins=_BINS) for one in people])
    weighted = pd.DataFrame(
        {
            "bin": bins["bin"],
            "share": bins["share"] / len(people),
            "confidence": bins["confidence"] * bins["share"] / len(people),
            "accuracy": bins["accuracy"] * bins["share"] / len(people),
        }
    )
    sums = weighted.groupby("bin", as_index=False).sum()
    for name in ("confidence", "accuracy"):
        sums[name] /= sums["share"]
    return sums


def _accuracy_at(
    shares: NDArray[np.float64], labels: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Accuracy when at least each share of the windows is decided, the surest first."""
    curve = abstention(labels, probabilities)
    index = np.searchsorted(curve["decided"].to_numpy(), shares - 1e-12)
    return curve["accuracy"].to_numpy()[np.minimum(index, len(curve) - 1)]
