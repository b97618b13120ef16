"""Several datasets as one: whose recordings they are, what they are called, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Annotation, Electrodes, Recording, ring
from myodistill.datasets.synthetic import Synthetic
from myodistill.datasets.union import Union
from myodistill.errors import DataError
from myodistill.splits import make_split

FACTS = replace(Synthetic.facts, name="one", title="One", electrodes=ring(4), repetitions=1)


class People(Dataset):
    """People in memory, a recording of noise in each session."""

    def __init__(
        self, *names: str, sessions: tuple[str, ...] = (), seed: int = 0, **facts: Any
    ) -> None:
        self.facts: Facts = replace(FACTS, **facts)
        known = (self.facts.calibration_session, *self.facts.test_sessions)
        self._names, self._sessions, self._seed = names, sessions or known, seed

    def subjects(self) -> tuple[str, ...]:
        return self._names

    def pretraining_only(self) -> tuple[str, ...]:
        return tuple(name for name in self._names if name.startswith("reserved"))

    def recordings(self, subject: str) -> list[Recording]:
        self._check_subject(subject)
        rng = np.random.default_rng(self._seed)
        shape = (300, self.facts.electrodes.channels)
        made = []
        for session in self._sessions:
            signal = rng.standard_normal(shape).astype(np.float32)
            if subject == "flat":
                signal[:, 1] = 0
            notes = (Annotation(0, 300, 1, 0),)
            made.append(self._make(subject, session, signal, notes, f"{subject}/{session}"))
        return made


def sessions(dataset: Dataset, subject: str) -> list[str]:
    return [one.session for one in dataset.recordings(subject)]


def test_everybody_is_there_under_the_first_ones_sessions() -> None:
    one = People("a", "b", test_sessions=("test", "late"), repetitions=3)
    other = People(
        "c", "d", name="two", title="Two", licence="GPL", repetitions=2,
        calibration_session="day1", test_sessions=("day2",),
    )  # fmt: skip
    both = Union([one, other])
    assert both.subjects() == ("a", "b", "c", "d")
    assert sessions(both, "a") == ["train", "test", "late"]
    assert sessions(both, "c") == ["train", "test"]
    facts = both.facts
    assert (facts.name, facts.title, facts.repetitions) == ("one+two", "One, Two", 2)
    assert (facts.calibration_session, facts.test_sessions) == ("train", ("test",))
    assert facts.licence == f"{FACTS.licence}; GPL"
    np.testing.assert_array_equal(both.recordings("d")[1].signal, other.recordings("d")[1].signal)
    split = make_split(both, 2)
    assert split.heldout == ("b",)
    assert split.pretraining == ("a", "c", "d")
    with pytest.raises(DataError, match="4 subjects"):
        both.recordings("e")


def test_a_session_without_a_counterpart_keeps_apart() -> None:
    person = People(
        "c", name="c", calibration_session="day2", test_sessions=(),
        sessions=("train", "day1", "day2"),
    )  # fmt: skip
    both = Union([People("a"), person])
    assert sessions(both, "c") == ["c train", "day1", "train"]
    assert both.facts.test_sessions == ()
    clash = People(
        "c", name="c", calibration_session="day2", test_sessions=(),
        sessions=("train", "c train", "day2"),
    )  # fmt: skip
    with pytest.raises(DataError, match="rename those that have no counterpart"):
        Union([People("a"), clash]).recordings("c")


def test_people_are_left_out() -> None:
    dataset = People("a", "b", "c")
    assert Union([dataset], exclude=("b",)).subjects() == ("a", "c")
    assert Union([dataset]).facts == dataset.facts
    with pytest.raises(DataError, match="expected one of 2 subjects"):
        Union([dataset], exclude=("b",)).recordings("b")
    with pytest.raises(DataError, match="exclude: unknown subject 'bb': did you mean"):
        Union([People("bob", "b1")], exclude=["bb"])
    with pytest.raises(DataError, match="all 3 are excluded"):
        Union([dataset], exclude=dataset.subjects())
    with pytest.raises(DataError, match="at least one dataset"):
        Union([])


def test_names_are_everybodys_own() -> None:
    one, other = People("a", "b"), People("b", "c")
    with pytest.raises(DataError, match="two datasets have 'b'; rename one"):
        Union([one, other])
    assert Union([one, other], exclude=("b",)).subjects() == ("a", "c")
    with pytest.raises(DataError, match="more than case"):
        Union([one, People("A")])


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"electrodes": ring(10)}, "recordings of 4 channels as in one, got of 10 channels"),
        ({"electrodes": Electrodes("grid", 1, 4)}, "on a 1×4 ring as in one, got on a 1×4 grid"),
        ({"electrodes": Electrodes("ring", 1, 4, (1, 0, 2, 3))}, "order"),
        ({"sampling_rate": 2000.0}, "at 1000 Hz as in one, got at 2000 Hz"),
        ({"unit": "mV"}, "in 'µV' as in one, got in 'mV'"),
        ({"gestures": ("rest", "fist")}, "gestures"),
        ({"samples": 100}, "windows of 150 samples as in one, got cut into windows of 100"),
        ({"step": 10}, "every 50 samples"),
        ({"passband": (20.0, 400.0)}, "20-495 Hz as in one, got filtered to 20-400 Hz"),
    ],
)
def test_what_differs_is_named(facts: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError, match=line) as told:
        Union([People("a"), People("b", name="two", **facts)])
    assert str(told.value).startswith("two: expected recordings ")
    assert len(str(told.value)) <= 400


def test_identity_holds_all_of_it() -> None:
    one, other = People("a", "b"), People("c", "d")
    known = [
        Union([one]),
        Union([one], exclude=("a",)),
        Union([one, other]),
        Union([other, one]),
        Union([one, other], exclude=("c",)),
        Union([one, People("c", "d", seed=1)]),
        Union([one, People("c", "d", calibration_session="day1")]),
    ]
    assert len({dataset.identity() for dataset in known}) == len(known)
    assert Union([one, other]).identity() == known[2].identity()


def test_reserved_people_stay_reserved_and_repair_reaches_all() -> None:
    both = Union([People("reserved", "a"), People("flat")])
    assert both.pretraining_only() == ("reserved",)
    assert Union([both], exclude=("reserved",)).pretraining_only() == ()
    assert not both.repair
    with pytest.raises(DataError, match="is flat"):
        both.recordings("flat")
    both.repair = True
    assert both.repair
    assert {one.filled_in for one in both.recordings("flat")} == {(1,)}
    assert {one.filled_in for one in both.recordings("a")} == {()}
