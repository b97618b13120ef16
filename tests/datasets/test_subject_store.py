"""A person's own folder: sessions go in as they are made, and come out as they were."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from myodistill.config import digest
from myodistill.datasets import subject_store
from myodistill.datasets.recording import Recording, grid
from myodistill.datasets.registry import open_dataset
from myodistill.datasets.subject_store import SubjectStore
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import DataError, OutputError

PEOPLE = Synthetic(subjects=2, seconds=0.5, repetitions=2)


def day(name: str, seed: int = 0) -> list[Recording]:
    noise = np.random.default_rng(seed)
    return [
        replace(r, session=name, signal=(r.signal + noise.normal(size=r.signal.shape)).astype("f4"))
        for r in PEOPLE.recordings("Person1")
        if r.session == PEOPLE.facts.calibration_session
    ]


@pytest.fixture
def store(tmp_path: Path) -> SubjectStore:
    made = SubjectStore.create(tmp_path / "anna", "Person1", PEOPLE.facts)
    return made.append(day("monday", 1)).append(day("tuesday", 2))


def test_sessions_come_back_as_they_were(store: SubjectStore, tmp_path: Path) -> None:
    back = open_dataset(str(tmp_path / "anna"))
    assert isinstance(back, SubjectStore)
    assert back.subjects() == ("Person1",)
    assert [session.name for session in back.sessions] == ["monday", "tuesday"]
    assert back.facts.calibration_session == "tuesday"
    assert back.facts.test_sessions == ()
    assert back.facts.repetitions == 2
    expected = [*day("monday", 1), *day("tuesday", 2)]
    for mine, theirs in zip(back.recordings("Person1"), expected, strict=True):
        assert np.array_equal(mine.signal, theirs.signal)
        assert (mine.session, mine.annotations) == (theirs.session, theirs.annotations)
        assert (mine.gestures, mine.unit) == (theirs.gestures, theirs.unit)
    before = back.identity()
    assert store.identity() == before
    silent = [replace(one, annotations=()) for one in day("wednesday", 3)]
    later = store.append(silent)
    assert later.sessions[-1].repetitions == 0
    assert later.identity() != before


def test_a_new_gesture_goes_behind_the_known_ones(store: SubjectStore) -> None:
    gestures = ("snap", *PEOPLE.facts.gestures[1:])
    made = store.append([replace(one, gestures=gestures) for one in day("wednesday", 3)])
    assert made.facts.gestures == (*PEOPLE.facts.gestures, "snap")
    (new,) = [r for r in made.recordings("Person1") if r.session == "wednesday"]
    assert {new.gestures[n.gesture] for n in new.annotations} == set(gestures)
    assert made.recordings("Person1")[0].gestures == made.facts.gestures


def test_what_does_not_belong_there_is_refused(store: SubjectStore, tmp_path: Path) -> None:
    new = day("wednesday", 3)
    cases: dict[str, tuple[list[Recording], str | None]] = {
        "a new session, 'MONDAY' is there": (new, "MONDAY"),
        "one is in session 'monday' already": (day("monday", 1), "friday"),
        "recordings of 'Person1', got 'Person2'": ([replace(new[0], subject="Person2")], None),
        "the sampling rate": ([replace(new[0], sampling_rate=500.0)], None),
        "the unit": ([replace(new[0], unit="counts")], None),
        "the electrodes": ([replace(new[0], electrodes=grid(2, 4))], None),
        "one at a time": ([*new, replace(new[0], session="later")], None),
        "got none": ([], None),
        "printable characters": (new, "../escape"),
    }
    for match, (recordings, session) in cases.items():
        with pytest.raises(DataError, match=match) as caught:
            store.append(recordings, session)
        assert "\n" not in str(caught.value)
    assert len(SubjectStore(tmp_path / "anna").sessions) == 2
    assert sorted(path.name for path in (tmp_path / "anna" / "sessions").iterdir()) == [
        "monday.safetensors", "tuesday.safetensors",
    ]  # fmt: skip
    with pytest.raises(OutputError, match="there is one"):
        SubjectStore.create(tmp_path / "anna", "Person1", PEOPLE.facts)


def test_two_writers_lose_no_session(store: SubjectStore, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=store.append, args=(day(f"day{i}", 10 + i),)) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(SubjectStore(tmp_path / "anna").sessions) == 6


def test_another_process_at_work_is_named(
    store: SubjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        subject_store, "FileLock", lambda path, timeout: FileLock(path, timeout=0.05)
    )
    with (
        FileLock(tmp_path / "anna" / ".lock"),
        pytest.raises(OutputError, match="another process adds a session"),
    ):
        store.append(day("wednesday", 3))


def test_damage_is_one_line(store: SubjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "anna"
    path = folder / "sessions" / "monday.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="missing or was altered since"):
        store.recordings("Person1")
    path.write_bytes(content)
    card = json.loads((folder / "subject.json").read_text())
    (folder / "subject.json").write_text(json.dumps(card | {"subject": "Person2"}))
    with pytest.raises(DataError, match="altered since"):
        SubjectStore(folder)
    del card["card_sha256"]
    session = card["sessions"][0]
    changes: tuple[dict[str, object], ...] = (
        {"format": 2}, {"subject": "../up"}, {"sessions": [session, session]}, {"facts": {}},
        {"sessions": [{**session, "name": "../../up"}]}, {"sessions": [{}]}, {"subject": 3},
        {"sessions": [{**session, "repetitions": -1}]},
    )  # fmt: skip
    for change in changes:
        altered = card | change
        text = json.dumps(altered | {"card_sha256": digest(altered)})
        (folder / "subject.json").write_text(text)
        with pytest.raises(DataError) as caught:
            SubjectStore(folder)
        assert "\n" not in str(caught.value)
