"""What the finished students of a run gain by following their wearer, and where it harms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from myodistill.adaptation import Adaptation
from myodistill.bundle import Bundle
from myodistill.bundle_card import CARD
from myodistill.datasets.recording import Signal
from myodistill.datasets.trees import natural
from myodistill.deploy.subject_data import SubjectData
from myodistill.errors import BundleError, SettingsError, unknown_name
from myodistill.evaluation import results
from myodistill.evaluation.adaptation_results import FILE, PARTS, STATIC, markdown, ordered
from myodistill.evaluation.events import rest_of
from myodistill.evaluation.streams import (
    Defect,
    Stream,
    balanced_accuracy,
    false_activations,
    streams,
)
from myodistill.files import write_text
from myodistill.models.orientation import orientations
from myodistill.realtime.adaptation import ADAPTERS, GuardedGestureMeans
from myodistill.reporting.figures.adaptation import accuracy_in_use
from myodistill.signals.windows import Indices, Windows
from myodistill.studies.window_methods import WINDOW_METHODS

METHODS = (*WINDOW_METHODS, *ADAPTERS)
DEFAULT = (GuardedGestureMeans.name,)
_STAGE = "pretrained_distilled"


@dataclass(frozen=True)
class Played:
    """A stream as a static student decides it.

    Attributes:
        stream: Which.
        labels: Gesture of each window; -1 for one that is not scored.
        logits: Of the known gestures, ``(window, gesture)``.
        adaptation: To these gestures.
        altered: The windows with the stream's defect, in recorded order.
    """

    stream: Stream
    labels: Indices
    logits: NDArray[np.float32]
    adaptation: Adaptation
    altered: Windows


@dataclass(frozen=True)
class _Decided:
    """Decisions for a stream.

    Attributes:
        stream: Which.
        labels: As those of :class:`Played`.
        decisions: Of each method, ``static`` first.
    """

    stream: Stream
    labels: Indices
    decisions: dict[str, Indices]


def evaluate_adaptation(
    run: Path,
    *,
    k: Sequence[int] | None = None,
    student: str | None = None,
    methods: Sequence[str] = DEFAULT,
) -> pd.DataFrame:
    """Score the distilled students of a run on every stream, static and adapting.

    Writes ``adaptation.parquet``, ``adaptation.md`` and a figure into the folder of the run.

    Args:
        run: Its folder.
        k: Calibration repetitions; all of the run by default.
        student: Name of one model; all of the run by default.
        methods: Names in :data:`METHODS`.

    Returns:
        See :mod:`myodistill.evaluation.adaptation_results`.

    Raises:
        BundleError: The run has no such student, or one that cannot adapt.
        LeakageError: A student has seen what would be scored.
        SettingsError: There is no such method.
    """
    for method in methods:
        if method not in METHODS:
            raise SettingsError(unknown_name("method of adaptation", method, METHODS))
    rows = [
        row for folder in _students(run, k, student) for row in _rows(Bundle.load(folder), methods)
    ]
    frame = ordered(pd.DataFrame(rows))
    results.write(frame, run / FILE)
    write_text(run / "adaptation.md", markdown(frame))
    accuracy_in_use(frame).save(run / "figures")
    return frame


def _students(run: Path, k: Sequence[int] | None, student: str | None) -> list[Path]:
    cards = sorted(
        run.glob(f"fold-*/seed-*/*/k-*/{_STAGE}-*/{CARD}"), key=lambda p: natural(str(p))
    )
    folders = [
        card.parent
        for card in cards
        if (k is None or card.parts[-3] in {f"k-{count}" for count in k})
        and (student is None or card.parts[-2] == f"{_STAGE}-{student}")
    ]
    if not folders:
        raise BundleError(
            f"{run}: expected distilled, pre-trained students of a finished run, there are none of "
            f"{student or 'any model'} at K={'any' if k is None else ','.join(map(str, k))}; run "
            f"'myodistill run' first, or name others"
        )
    return folders


def _rows(bundle: Bundle, methods: Sequence[str]) -> Iterator[dict[str, object]]:
    """Score one person's student: a row for each stream and method, ``static`` among them."""
    if bundle.adaptation is None:
        raise BundleError(
            f"{bundle.model} of {bundle.origin.get('subject')}: expected a student that can adapt, "
            f"this run is from before there was adaptation; run it again in a new folder"
        )
    data = SubjectData.of(bundle)
    origin, rest = bundle.origin, rest_of(bundle.spec.gestures)
    seconds = bundle.step / bundle.spec.sampling_rate
    for one in _decided(data, bundle.adaptation, rest, methods):
        scored = one.labels >= 0
        resting = int((one.labels == rest).sum()) if rest is not None else 0
        for method, decisions in one.decisions.items():
            correct = decisions == one.labels
            begun = false_activations(decisions, one.labels, rest) if rest is not None else 0
            yield {
                "stage": str(origin["stage"]),
                "model": bundle.model,
                "loss": str(origin.get("loss", "")),
                "k": int(origin["k"]),
                "stream": one.stream.name,
                "method": method,
                "fold": int(origin["fold"]),
                "seed": int(origin["seed"]),
                "subject": str(origin["subject"]),
                "windows": int(scored.sum()),
                "accuracy": float(correct[scored].mean()),
                "balanced_accuracy": balanced_accuracy(decisions[scored], one.labels[scored]),
                "false_activations": begun / (resting * seconds / 60) if resting else np.nan,
                **{
                    name: float(correct[part][scored[part]].mean())
                    if scored[part].any()
                    else np.nan
                    for name, part in zip(
                        PARTS,
                        np.array_split(np.arange(len(correct)), len(PARTS)),
                        strict=True,
                    )
                },
            }


def stream_logits(data: SubjectData, adaptation: Adaptation, rest: int | None) -> Iterator[Played]:
    """Yield every stream of a person's test sessions as their student decides it, static.

    Args:
        data: Of the person; the guard against leakage is in it.
        adaptation: Of their student.
        rest: Which gesture is rest, if any.
    """
    windows, student = data.scored, data.student
    sound = student.logits(windows)
    for stream in streams(windows.labels, student.spec.classes, rest):
        altered = _altered(data, windows, stream.defect)
        if altered is None:
            continue
        order, half = stream.order, len(stream.order) // 2
        logits, labels, known = sound[order], windows.labels[order], adaptation
        if stream.defect:
            logits[half:] = student.logits(altered)[order][half:]
        if stream.unknown is not None:
            labels = np.where(labels == stream.unknown, -1, labels - (labels > stream.unknown))
            known = adaptation.without(stream.unknown)
        yield Played(stream, labels, _known(logits, stream), known, altered)


def _decided(
    data: SubjectData, adaptation: Adaptation, rest: int | None, methods: Sequence[str]
) -> Iterator[_Decided]:
    for played in stream_logits(data, adaptation, rest):
        logits = {STATIC: played.logits}
        for method in methods:
            if method in ADAPTERS:
                adapter = ADAPTERS[method](played.adaptation)
                logits[method] = np.stack([adapter.adapt(one) for one in played.logits])
            else:
                read = _read(data, played)
                logits[method] = _known(WINDOW_METHODS[method](data.student, read), played.stream)
        decisions = {method: values.argmax(axis=1) for method, values in logits.items()}
        yield _Decided(played.stream, played.labels, decisions)


def _known(logits: NDArray[np.float32], stream: Stream) -> NDArray[np.float32]:
    """Leave out the logits of a gesture that the decoder must not know."""
    return logits if stream.unknown is None else np.delete(logits, stream.unknown, axis=1)


def _read(data: SubjectData, played: Played) -> Signal:
    """Return the pre-processed windows of a stream, as the network reads them."""
    mapping, order = data.student.preprocessing, played.stream.order
    assert mapping is not None
    half = len(order) // 2 if played.stream.defect else len(order)
    parts = (data.scored, order[:half]), (played.altered, order[half:])
    return np.concatenate([mapping.map(windows).gather(some) for windows, some in parts])


def _altered(data: SubjectData, windows: Windows, defect: Defect) -> Windows | None:
    """Return the windows as a defect would have them; None where the electrodes rule it out."""
    if not defect:
        return windows
    if defect == "dead electrode":
        signal = windows.signal.copy()
        people = data.dataset.subjects()
        signal[:, people.index(data.subject) % signal.shape[1]] = 0  # another for each person
        return replace(windows, signal=signal)
    turns = orientations(data.student.spec.electrodes)
    return replace(windows, signal=windows.signal[:, turns[1]]) if len(turns) > 1 else None
