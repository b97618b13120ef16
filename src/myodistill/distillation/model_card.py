"""The model card of a population: whose it is, what it may be used for, what to expect of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from myodistill.bundle import Bundle
from myodistill.datasets.dataset import Facts


@dataclass(frozen=True)
class Expected:
    """Accuracy of people whom the same recipe held out.

    Attributes:
        k: Repetitions that they calibrated by.
        people: How many they were.
        mean: Over people, a share of 1.
        low: Of the 95 % interval of the mean over people.
        high: Of the same interval.
        worst: Of the person who fared worst.
    """

    k: int
    people: int
    mean: float
    low: float
    high: float
    worst: float


def model_card(
    facts: Facts,
    teachers: Sequence[Bundle],
    students: Mapping[tuple[str, str], Bundle],
    expected: Sequence[Expected],
    *,
    population: str,
    people: int,
) -> str:
    """Return the card as Markdown.

    Args:
        facts: Of the recordings.
        teachers: Pre-trained.
        students: By model and distillation loss.
        expected: By K; may be empty.
        population: Its hash.
        people: How many are in it.
    """
    on = facts.electrodes
    of_teachers = ", ".join(f"`{teacher.model}`" for teacher in teachers)
    of_students = ", ".join(
        f"`{model}` ({student.parameters:,} parameters, loss {loss})"
        for (model, loss), student in students.items()
    )
    low, high = facts.passband
    lines = [
        f"# Population `{population}`: {people} people of {facts.title}",
        "",
        f"- **Recorded by** a {on.rows}×{on.columns} {on.layout} of electrodes at "
        f"{facts.sampling_rate:g} Hz, in {facts.unit}; filtered to {low:g}–{high:g} Hz.",
        f"- **Decides** every {1000 * facts.step / facts.sampling_rate:.0f} ms on the newest "
        f"{1000 * facts.samples / facts.sampling_rate:.0f} ms: {', '.join(facts.gestures)}.",
        f"- **Teachers**: {of_teachers}. **Students**: {of_students}.",
        f"- **Licence of the recordings**: {facts.licence}. **Cite**: {facts.citation}. "
        f"**Home**: {facts.home}.",
        "- **What is in this folder**: weights, settings, the people's names, fingerprints of "
        "their recordings, and their windows as the networks read them. No recording.",
        "- **Not for**: other electrodes, rates or units (refused), or decisions that could hurt "
        "somebody. Nothing here was tried on people with an amputation unless the recordings were.",
        "",
        *_expected(expected),
    ]
    return "\n".join(lines)


def _expected(expected: Sequence[Expected]) -> list[str]:
    if not expected:
        return [
            "What to expect of a new person was not measured. `myodistill run` measures it on the "
            "same dataset; `pretrain --expected RUN_FOLDER` writes it here.",
            "",
        ]
    return [
        "People whom the same recipe held out reached this accuracy, window by window:",
        "",
        "| repetitions | people | mean [95 % interval] | worst person |",
        "|---|---|---|---|",
        *(
            f"| {one.k} | {one.people} | {one.mean:.1%} [{one.low:.1%}, {one.high:.1%}] | "
            f"{one.worst:.1%} |"
            for one in expected
        ),
        "",
    ]
