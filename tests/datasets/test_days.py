"""A person's days stand for subjects, and the trials of a day for sessions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from few_days import TRIALS, FewDays

from myodistill.datasets.days import Days
from myodistill.datasets.recording import Recording
from myodistill.errors import DataError


@pytest.mark.parametrize("whole", [False, True])
def test_every_sample_lies_in_its_day_and_trial(whole: bool) -> None:
    people = FewDays(days=11, whole=whole)
    days = Days(people, "P2")
    assert days.subjects() == tuple(f"day{number}" for number in range(1, 12))
    facts = days.facts
    assert (facts.calibration_session, facts.test_sessions) == ("trial1", ("trial2", "trial3"))
    assert (facts.name, facts.repetitions) == ("few-days-P2", 1)
    for day in ("day2", "day10"):
        expected = [r for r in FewDays(days=11).recordings("P2") if r.session == day]
        got = days.recordings(day)
        assert {r.subject for r in got} == {day}
        assert [r.session for r in got] == sorted(r.session for r in got)
        for trial in range(TRIALS):
            mine = [r for r in got if r.session == f"trial{trial + 1}"]
            theirs = [r for r in expected if r.annotations[0].repetition == trial]
            assert np.array_equal(
                np.concatenate([r.signal for r in mine]), np.concatenate([r.signal for r in theirs])
            )
            notes = [(n.gesture, n.repetition) for r in mine for n in r.annotations]
            assert notes == [(0, 0), (1, 0), (2, 0)]


def test_a_person_tells_days_apart() -> None:
    people = FewDays()
    assert Days(people, "P1").identity() != Days(people, "P2").identity()
    assert Days(people, "P1").identity() == Days(FewDays(), "P1").identity()


def test_days_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="at least 2 days of P1, got 1"):
        Days(FewDays(days=1, test_sessions=("day2",)), "P1")
    with pytest.raises(DataError, match="at least 2 trials a day"):
        Days(FewDays(repetitions=1), "P1")
    with pytest.raises(DataError, match="unknown day 'day9'"):
        Days(FewDays(), "P1").recordings("day9")

    def overlapping(recording: Recording) -> Recording:
        first, *others = recording.annotations
        late = replace(first, start=first.start, stop=len(recording.signal))
        return replace(recording, annotations=(late, *others))

    class Overlapping(FewDays):
        def recordings(self, subject: str) -> list[Recording]:
            return [overlapping(one) for one in super().recordings(subject)]

    with pytest.raises(DataError, match="trial 2 begins within the one before"):
        Days(Overlapping(whole=True), "P1").recordings("day1")
