"""What a run shows, in words: the best student against teacher, baseline and control."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from myodistill.evaluation.protocol import CLASSICAL, STUDENTS, method_name
from myodistill.evaluation.results import METHOD, STAGES, named
from myodistill.reporting.run import MethodKey, Run

ALONE = {"distilled": "supervised", "pretrained_distilled": "pretrained"}
"""The stage that differs from a distilled one by the teacher only."""

RIVALS = {
    "teacher": "the best teacher",
    "classical": "the best classical method",
    "control": "the same student without a teacher",
}
"""Whom the best student is compared with, and how they are called in prose."""

GLOSSARY = {
    "baseline": "a classical method on hand-made features, fitted to the person's own repetitions; "
    "what a network must beat to be worth its effort",
    "pretrain": "a large network that has learned from other people and has seen no label of "
    "this person",
    "finetune": "the same network after it has learned from the person's own repetitions",
    "supervised": "a small network that has seen the person's own repetitions and nothing else",
    "pretrained": "a small network that learned from other people first, from labels alone",
    "distilled": "a small network that learned from the person's own repetitions and from the "
    "teacher's outputs for them",
    "pretrained_distilled": "a small network that learned from teachers at every step, first "
    "across people and then on this person",
}
"""What each stage means, for someone who has not read the paper."""


def title(run: Run) -> str:
    """Name a run by its teachers, students and dataset."""
    facts = run.facts
    data = facts.title if facts else str(run.results["dataset"].iloc[0])
    sides = []
    for stages, what in ((("pretrain", "finetune"), "teachers"), (STUDENTS, "students")):
        models_run = run.results.loc[run.results["stage"].isin(stages), "model"].unique()
        groups = [model for model in models_run if "+" in model]
        models = groups or sorted(models_run)
        if models:
            sides.append(" and ".join(models) if len(models) < 4 else f"{len(models)} {what}")
    return f"{' → '.join(sides)} on {data}" if sides else data


def lead(run: Run, people: int, ks: list[int]) -> str:
    """State what a run asked and of whom."""
    frame = run.results
    gestures = f"{len(run.facts.gestures)} gestures" if run.facts else "gestures"
    count = f"{people} {'people' if people > 1 else 'person'}"
    repetitions = ", ".join(map(str, ks[:-1])) + (" and " if len(ks) > 1 else "") + str(ks[-1])
    networks = frame[~frame["stage"].isin(CLASSICAL)]
    seeds = networks.groupby(METHOD)["seed"].nunique()
    several = ""
    if len(seeds) and seeds.max() > 1:
        upto = "" if seeds.min() == seeds.max() else "up to "
        several = f" Networks were trained with {upto}{seeds.max()} seeds."
    held = ", each unknown to whatever had learned before," if run.splits else ""
    return (
        f"How well do small networks tell {gestures} apart by a person's muscle signals? "
        f"{count} {'were' if people > 1 else 'was'} scored{held} with {repetitions} "
        f"repetition{'s' if ks[-1] != 1 else ''} of their own for calibration.{several}"
    )


@dataclass(frozen=True)
class Comparison:
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
        """State in words how the student compares."""
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
        loss: That it was distilled with.
        mean: Its score in per cent.
        low: Of the 95 % interval; None where there are too few subjects.
        high: Of the 95 % interval.
        parameters: Of the student.
        candidates: How many students it was chosen from, on these very scores.
        versus: Against teacher, classical baseline and its own control, where these were scored.
    """

    k: int
    stage: str
    model: str
    loss: str
    mean: float
    low: float | None
    high: float | None
    parameters: int
    candidates: int
    versus: tuple[Comparison, ...]

    @property
    def method(self) -> str:
        """Describe the student."""
        return f"{STAGES[self.stage]}, {named(self.model, self.loss)}"


def headline(overview: pd.DataFrame, k: int, comparisons: pd.DataFrame | None) -> Headline | None:
    """Put the best student at one K into words; None where no student was scored on everybody.

    Args:
        overview: What :func:`myodistill.evaluation.results.summary` returned.
        k: Calibration repetitions.
        comparisons: What :func:`myodistill.evaluation.statistics.compare` returned for this K,
            None where the methods cannot be compared.
    """
    roles = cast(overview, k)
    best = roles.get("student")
    if best is None:
        return None
    mine = overview[(overview["k"] == k) & (overview["subjects"] == best["subjects"])]
    several = int(best["subjects"]) > 1
    return Headline(
        k=k,
        stage=str(best["stage"]),
        model=str(best["model"]),
        loss=str(best["loss"]),
        mean=float(best["mean"]),
        low=float(best["low"]) if several else None,
        high=float(best["high"]) if several else None,
        parameters=int(best["parameters"]),
        candidates=int(mine["stage"].isin(STUDENTS).sum()),
        versus=tuple(
            _versus(what, best, roles[role], comparisons)
            for role, what in RIVALS.items()
            if role in roles
        ),
    )


def cast(
    overview: pd.DataFrame,
    k: int,
    *,
    distilled: bool = False,
    teacher: str | None = None,
    student: str | None = None,
) -> dict[str, pd.Series]:
    """Return whom headlines, tables and figures speak of at one K: the best in each role.

    Methods that were not scored on every subject are left out: their means are of other people.

    Args:
        overview: What :func:`myodistill.evaluation.results.summary` returned.
        k: Calibration repetitions.
        distilled: Leave students without a teacher out, even where one of them is the best.
        teacher: Name of the only teacher that counts.
        student: Name of the only student that counts.

    Returns:
        Rows of ``overview`` under ``student``, ``teacher``, ``classical`` and ``control`` (the same
        student without a teacher), as far as they were scored.
    """
    mine = overview[(overview["k"] == k) & (overview["subjects"] == overview["subjects"].max())]

    def best(stages: Collection[object], model: object) -> pd.DataFrame:
        group = mine[mine["stage"].isin(stages)]
        if model is not None:
            group = group[group["model"] == model]
        last: pd.DataFrame = group.sort_values("mean", kind="stable").tail(1)
        return last

    roles = {
        "student": best(tuple(ALONE) if distilled else STUDENTS, student),
        "teacher": best(("finetune", "pretrain"), teacher),
        "classical": best(CLASSICAL, None),
    }
    for row in roles["student"].itertuples():
        roles["control"] = best([ALONE.get(str(row.stage))], row.model)
    return {role: rows.iloc[0] for role, rows in roles.items() if len(rows)}


def leading(overview: pd.DataFrame, k: int) -> list[MethodKey]:
    """Return the methods of :func:`cast` at one K, the student first."""
    return [method_of(row) for row in cast(overview, k).values()]


def method_of(row: pd.Series) -> MethodKey:
    """Return stage, model and loss of a row."""
    return str(row["stage"]), str(row["model"]), str(row["loss"])


def _versus(
    what: str, best: pd.Series, other: pd.Series, comparisons: pd.DataFrame | None
) -> Comparison:
    student, name = (method_name(*one[METHOD]) for one in (best, other))
    model = str(other["model"])
    difference = float(best["mean"] - other["mean"])
    if comparisons is None:
        return Comparison(what, name, model, float(other["mean"]), difference)
    forward = (comparisons["first"] == student) & (comparisons["second"] == name)
    backward = (comparisons["first"] == name) & (comparisons["second"] == student)
    row = comparisons[forward | backward].iloc[0]
    low, high = float(row["low"]), float(row["high"])
    if backward.any():
        low, high = -high, -low
    return Comparison(
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
