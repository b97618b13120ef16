"""What a run shows, in words: the best student against its teacher, the floor and itself alone."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from myodistill.evaluation.protocol import STUDENTS, method_name
from myodistill.evaluation.results import STAGES

_ALONE = {"distill": "scratch", "full": "transfer"}
"""The stage that differs from a distilled one by the teacher only."""


@dataclass(frozen=True)
class Versus:
    """The best student against one other method.

    Attributes:
        what: The other method in prose.
        name: Its name in tables.
        model: The name of its model.
        mean: Its score in per cent.
        difference: Student minus other, in points.
        low: Of the 95 % interval; None where there are too few subjects.
        high: Of the 95 % interval.
        p: Holm-corrected Wilcoxon p-value; None where there is no test.
        significant: Whether the difference is shown.
    """

    what: str
    name: str
    model: str
    mean: float
    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    significant: bool = False

    @property
    def verdict(self) -> str:
        """Say in words how the student stands."""
        size = f"{abs(self.difference):.1f} points"
        if self.p is None:
            side = "above" if self.difference > 0 else "below"
            return f"{size} {side} {self.what}; whether this is chance was not tested"
        if self.significant:
            return f"{size} {'above' if self.difference > 0 else 'below'} {self.what}"
        return f"no difference from {self.what} shown"


@dataclass(frozen=True)
class Headline:
    """The best student at one K.

    Attributes:
        k: Calibration repetitions.
        stage: How the student came to be.
        model: Its name.
        mean: Its score in per cent.
        low: Of the 95 % interval; None where there are too few subjects.
        high: Of the 95 % interval.
        parameters: Of the student.
        candidates: How many students it was chosen from, on these very scores.
        versus: Against teacher, floor and itself without a teacher, where these were scored.
    """

    k: int
    stage: str
    model: str
    mean: float
    low: float | None
    high: float | None
    parameters: int
    candidates: int
    versus: tuple[Versus, ...]

    @property
    def method(self) -> str:
        """Say what the student is."""
        return f"{STAGES[self.stage]}, {self.model}"


def headline(overview: pd.DataFrame, k: int, comparisons: pd.DataFrame | None) -> Headline | None:
    """Put the best student at one K into words; None where no student was scored on everybody.

    Methods that were not scored on every subject are left out: their means are of other people.

    Args:
        overview: What :func:`myodistill.evaluation.results.summary` returned.
        k: Calibration repetitions.
        comparisons: What :func:`myodistill.evaluation.statistics.compare` returned for this K,
            None where the methods cannot be compared.
    """
    everybody = overview["subjects"].max()
    mine = overview[(overview["k"] == k) & (overview["subjects"] == everybody)]
    students = mine[mine["stage"].isin(STUDENTS)]
    if len(students) == 0:
        return None
    best = students.sort_values("mean", kind="stable").iloc[-1]
    teachers = mine[mine["stage"].isin(["finetune", "pretrain"])]
    others = [
        ("the best teacher", teachers),
        ("the best classical floor", mine[mine["stage"] == "floor"]),
        (
            "the same student without a teacher",
            mine[(mine["stage"] == _ALONE.get(best["stage"])) & (mine["model"] == best["model"])],
        ),
    ]
    several = int(best["subjects"]) > 1
    return Headline(
        k=k,
        stage=str(best["stage"]),
        model=str(best["model"]),
        mean=float(best["mean"]),
        low=float(best["low"]) if several else None,
        high=float(best["high"]) if several else None,
        parameters=int(best["parameters"]),
        candidates=len(students),
        versus=tuple(
            _versus(what, best, group.sort_values("mean", kind="stable").iloc[-1], comparisons)
            for what, group in others
            if len(group)
        ),
    )


def _versus(
    what: str, best: pd.Series, other: pd.Series, comparisons: pd.DataFrame | None
) -> Versus:
    student = method_name(best["stage"], best["model"])
    model = str(other["model"])
    name = method_name(other["stage"], model)
    difference = float(best["mean"] - other["mean"])
    if comparisons is None:
        return Versus(what, name, model, float(other["mean"]), difference)
    forward = (comparisons["first"] == student) & (comparisons["second"] == name)
    backward = (comparisons["first"] == name) & (comparisons["second"] == student)
    row = comparisons[forward | backward].iloc[0]
    low, high = float(row["low"]), float(row["high"])
    if backward.any():
        low, high = -high, -low
    return Versus(
        what,
        name,
        model,
        float(other["mean"]),
        difference,
        low,
        high,
        float(row["wilcoxon_holm"]),
        bool(row["significant"]),
    )
