"""Figures for a paper, each one function over results, with its data beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from myodistill.errors import DataError, unknown_name
from myodistill.evaluation.protocol import overview, require_one_protocol
from myodistill.evaluation.results import STAGES, named
from myodistill.reporting.figures.canvas import Picture
from myodistill.reporting.figures.confidence import abstention_curve, reliability_diagram
from myodistill.reporting.figures.confusion import confusion_matrices
from myodistill.reporting.figures.cost import accuracy_cost
from myodistill.reporting.figures.electrodes import rms_map
from myodistill.reporting.figures.people import accuracy_by_k, paired_slopes
from myodistill.reporting.figures.significance import critical_difference, hypothesis_heatmap
from myodistill.reporting.figures.training import training_curves
from myodistill.reporting.headline import cast, leading, method_of
from myodistill.reporting.run import MethodKey, Probabilities, Run, read_run

_ROLES = ("teacher", "control", "student", "classical")
"""In the order of a row of matrices, of which three fit a page."""


def _curve(run: Run) -> list[Picture]:
    try:
        seconds = run.calibration_seconds()
    except DataError:  # the recordings are not at hand: the curve does without its second scale
        return [accuracy_by_k(run.results)]
    return [accuracy_by_k(run.results, seconds)]


def _confusion(run: Run) -> list[Picture]:
    if not run.confusion:
        raise DataError(
            "confusion matrices: expected confusion.json in the run folder, there is none"
        )
    means, pictures = overview(run.results), []
    for k in sorted({k for by_k in run.confusion.values() for k in by_k} & set(means["k"])):
        roles = cast(means, k)
        shown = [method_of(roles[role]) for role in _ROLES if role in roles]
        counts = {_title(m): run.confusion[m][k] for m in shown if k in run.confusion.get(m, {})}
        if counts:
            pictures.append(confusion_matrices(dict([*counts.items()][:3]), run.gestures, k=k))
    if not pictures:
        raise DataError(
            "confusion matrices: expected counts of the methods that were scored, confusion.json "
            "has none of them; run again"
        )
    return pictures


def _title(method: MethodKey) -> str:
    return f"{STAGES[method[0]]}\n{named(*method[1:])}"


def _predictions(run: Run, k: int) -> dict[MethodKey, list[Probabilities]]:
    """Predictions of the best student and of the methods beside it, as many as fit."""
    return run.predictions(leading(overview(run.results), k), k)


def _ks(run: Run) -> list[int]:
    require_one_protocol(run.results)  # an empty table would give no picture and no reason
    return sorted(int(k) for k in run.results["k"].unique())


FIGURES: dict[str, Callable[[Run], list[Picture]]] = {
    "accuracy-cost": lambda run: [accuracy_cost(run.results, run.flops)],
    "calibration-curve": _curve,
    "paired-slopes": lambda run: [paired_slopes(run.results)],
    "hypothesis-heatmap": lambda run: [hypothesis_heatmap(run.results, k=k) for k in _ks(run)],
    "critical-difference": lambda run: [critical_difference(run.results, k=k) for k in _ks(run)],
    "confusion": _confusion,
    "confidence": lambda run: [reliability_diagram(_predictions(run, k), k=k) for k in _ks(run)],
    "abstention": lambda run: [abstention_curve(_predictions(run, k), k=k) for k in _ks(run)],
    "rms-map": lambda run: [rms_map(run.recordings, run.facts.passband if run.facts else None)],
    "training-curves": lambda run: [training_curves(run.histories())],
}
"""Figures by name; each draws from a run folder, some once for every K."""


def draw(name: str, run: Run | Path) -> list[Picture]:
    """Draw a figure of the catalogue.

    Args:
        name: One of :data:`FIGURES`.
        run: A run or its folder.

    Raises:
        DataError: The name is unknown, or the run lacks what the figure shows.
    """
    if name not in FIGURES:
        raise DataError(unknown_name("figure", name, FIGURES))
    return FIGURES[name](run if isinstance(run, Run) else read_run(run))
