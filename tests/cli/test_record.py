"""``myodistill record``: what it puts into a person's folder, what it says, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import people
import pytest
from click.testing import CliRunner

from myodistill.cli.main import app
from myodistill.datasets.registry import open_dataset
from myodistill.datasets.subject_store import SubjectStore
from myodistill.errors import DataError, LeakageError, MyoDistillError


def record(*arguments: str) -> tuple[str, str]:
    """Return what is said, and the warnings."""
    result = CliRunner().invoke(app, ["record", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.fixture
def takes() -> people.Takes:
    return people.record(subjects=2, repetitions=3)


@pytest.fixture
def what(takes: people.Takes, tmp_path: Path) -> str:
    return str(people.write(tmp_path / "data", takes))


STORE = Path("anna")


def test_sessions_are_added_one_line_each(what: str) -> None:
    said, warned = record("anna", what, "--subject", "P1", "--as", "Anna")
    assert said.splitlines() == [
        "day1: 3 repetitions, 3 gestures, 5.0 seconds",
        "day2: 3 repetitions, 3 gestures, 5.0 seconds",
    ]
    assert not warned
    store = SubjectStore(STORE)
    assert store.subject == "Anna"
    assert [one.name for one in store.sessions] == ["day1", "day2"]
    for one, was in zip(store.recordings("Anna"), open_dataset(what).recordings("P1"), strict=True):
        np.testing.assert_array_equal(one.signal, was.signal)
        assert one.annotations == was.annotations


def test_a_session_is_chosen_cut_and_named(what: str) -> None:
    arguments = ("--subject", "P1", "--from-sessions")
    said, _ = record("anna", what, *arguments, "day2", "--session", "monday", "--repetitions", "1")
    assert said == "monday: 1 repetitions, 3 gestures, 1.6 seconds\n"
    (one,) = SubjectStore(STORE).recordings("P1")
    assert {note.repetition for note in one.annotations} == {0}
    assert len(one.signal) == max(note.stop for note in one.annotations)
    record("anna", what, *arguments, "day1")
    assert [one.name for one in SubjectStore(STORE).sessions] == ["monday", "day1"]


def test_a_store_can_be_recorded_from(what: str) -> None:
    record("anna", what, "--subject", "P1", "--as", "Anna")
    said, _ = record("other", "anna")
    assert len(said.splitlines()) == 2
    assert SubjectStore("other").subject == "Anna"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), r"one person, got those of 2 .* choose one with --subject"),
        (("--subject", "P3"), "unknown subject 'P3': did you mean"),
        (("--subject", "P1", "--from-sessions", "day3"), "unknown session 'day3'"),
        (("--subject", "P1", "--session", "x"), "choose it with --from-sessions"),
        (("--subject", "P1", "--repetitions", "4"), "at most the 3 that session 'day1' has, got 4"),
        (("--subject", "P1", "--as", "../x"), "subject: expected a name"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: tuple[str, ...], line: str, what: str) -> None:
    with pytest.raises(MyoDistillError, match=line):
        record("anna", what, *arguments)
    assert not STORE.exists()


def test_nobody_elses_and_nothing_twice(what: str) -> None:
    record("anna", what, "--subject", "P1", "--from-sessions", "day1", "--repetitions", "1")
    before = (STORE / "subject.json").read_bytes()
    with pytest.raises(DataError, match=r"recordings of 'P1', got those of 'P2'; .* --as"):
        record("anna", what, "--subject", "P2")
    with pytest.raises(DataError, match="'day1' was recorded on 20"):
        record("anna", what, "--subject", "P1")
    # The whole session holds the repetition that is there: another hash, the same signal.
    with pytest.raises(LeakageError, match="are the same signal"):
        record("anna", what, "--subject", "P1", "--from-sessions", "day1", "--session", "x")
    assert (STORE / "subject.json").read_bytes() == before


def test_a_flat_electrode_is_refused_or_repaired(takes: people.Takes, tmp_path: Path) -> None:
    takes["P1", "day2"]["emg"][:, 2] = 0
    what = str(people.write(tmp_path / "flat", takes))
    with pytest.raises(DataError, match=r"session 'day2': .* channel 2 is flat; .* --repair$"):
        record("anna", what, "--subject", "P1")
    assert not STORE.exists()
    _, warned = record("anna", what, "--subject", "P1", "--repair")
    assert warned == "warning: day2: channel 2 is flat; filled in from their neighbours\n"
    signal = SubjectStore(STORE).recordings("P1")[1].signal
    np.testing.assert_allclose(signal[:, 2], signal[:, [1, 3]].mean(axis=1), rtol=1e-6)


def test_saturated_electrodes_are_named(takes: people.Takes, tmp_path: Path) -> None:
    emg = takes["P1", "day1"]["emg"]
    emg[:, [0, 3]] = np.clip(emg[:, [0, 3]], -0.5, 0.5)
    what = str(people.write(tmp_path / "clipped", takes))
    said, warned = record("anna", what, "--subject", "P1")
    assert len(said.splitlines()) == 2
    assert warned.splitlines() == [
        "warning: day1: channels 0, 3 are saturated; --repair fills in from neighbours"
    ]
    record("mended", what, "--subject", "P1", "--repair")
    signal = SubjectStore("mended").recordings("P1")[0].signal
    np.testing.assert_array_equal(signal[:, 0], emg[:, 1])
    np.testing.assert_array_equal(signal[:, 1], emg[:, 1])
