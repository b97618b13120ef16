"""Nobody's population: of a person without one, all that is learned is their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from myodistill.bundle import Bundle
from myodistill.config import Settings
from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Recording
from myodistill.distillation.newcomer import Sessions
from myodistill.distillation.population import NOBODY, Population
from myodistill.distillation.window_sets import Rehearsal
from myodistill.errors import BundleError, DataError, shown
from myodistill.signals.duplicates import DuplicateFinder
from myodistill.splits import Split


def nobody(facts: Facts, recordings: Sequence[Recording]) -> Population:
    """Return a population without people, beside which a person calibrates alone.

    Args:
        facts: Of the person's recordings.
        recordings: The person's, raw. A gesture that none of them shows is left out.

    Raises:
        DataError: They show fewer than two gestures.
    """
    performed = {one.gestures[note.gesture] for one in recordings for note in one.annotations}
    gestures = [name for name in facts.gestures if name in performed]
    gestures += sorted(performed - set(gestures))
    if len(gestures) < 2:
        raise DataError(
            f"calibrate: expected repetitions of at least 2 gestures, got {len(gestures)}; without "
            f"a population there is nothing else to learn from"
        )
    return _without_people(replace(facts, gestures=tuple(gestures)))


def nobody_behind(bundle: Bundle) -> Population:
    """Return the population without people that a person's bundle was calibrated from.

    Raises:
        BundleError: It was calibrated for no person.
    """
    fitted, spec = bundle.preprocessing, bundle.spec
    if fitted is None:
        raise BundleError(f"{bundle.model}: expected a person's pre-processing, it has none yet")
    facts = Facts(
        name=str(bundle.origin.get("dataset")), title=str(bundle.origin.get("dataset")),
        electrodes=spec.electrodes, sampling_rate=spec.sampling_rate, gestures=spec.gestures,
        unit=bundle.unit, samples=spec.samples, step=bundle.step, passband=fitted.passband,
        mains=fitted.mains, repetitions=1, calibration_session=str(bundle.origin.get("session")),
        test_sessions=(), licence=str(bundle.origin.get("licence")), citation="", home="",
    )  # fmt: skip
    return _without_people(facts)


def require_own_labels(people: Population, sessions: Sessions) -> None:
    """Refuse sessions that do not show everything that a person without a population needs.

    Raises:
        DataError: No repetition has labels that may be read, or a gesture none.
    """
    if people.subjects:
        return
    labelled = any(one.session != sessions.names[-1] for one in sessions.recordings)
    if not sessions.k and not labelled:
        raise DataError(
            "calibrate: expected at least one repetition with labels, got none (k = 0); without a "
            "population there is nothing else to learn from"
        )
    if sessions.missing:
        raise DataError(
            f"calibrate: expected a repetition of {shown(', '.join(sessions.missing))} in what is "
            f"learned from, got none; without a population nobody else knows it: record it, or "
            f"take a larger k"
        )


def _without_people(facts: Facts) -> Population:
    split = Split(
        dataset=facts.name,
        fold=1,
        folds=1,
        pretraining=(),
        heldout=(),
        calibration_session=facts.calibration_session,
        test_sessions=(),
        repetitions=facts.repetitions,
    )
    return Population(
        facts=facts,
        split=split,
        settings=Settings(),
        identity=NOBODY,
        teachers=(),
        students={},
        rehearsal=Rehearsal({}, None, ()),
        prints=DuplicateFinder(facts.samples),
    )
