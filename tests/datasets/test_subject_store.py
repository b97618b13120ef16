"""A person's own folder: what goes in comes out, and nothing else goes in."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from myodistill.config import digest
from myodistill.datasets.recording import Annotation, Electrodes, Recording, ring
from myodistill.datasets.registry import is_dataset, open_dataset
from myodistill.datasets.subject_store import SubjectStore
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import DataError, MyoDistillError, OutputError
from myodistill.files import sha256_of
from myodistill.lock import locked_folder
from myodistill.splits import make_split

FACTS = replace(
    Synthetic.facts, electrodes=ring(4), gestures=("rest", "fist", "open"), samples=50, step=25
)


def take(
    seed: int, *, repetitions: int = 2, subject: str = "anna", session: str = "s", **changes: Any
) -> Recording:
    signal = np.random.default_rng(seed).standard_normal((600, 4)).astype(np.float32)
    notes = tuple(
        Annotation(100 * (2 * r + g), 100 * (2 * r + g) + 90, g, r)
        for r in range(repetitions)
        for g in (0, 1)
    )
    facts = FACTS
    made = Recording(
        subject, session, signal, facts.sampling_rate, facts.electrodes, facts.gestures, notes,
        facts.unit,
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def store(tmp_path: Path) -> SubjectStore:
    made = SubjectStore.create(tmp_path / "people" / "anna", "anna", FACTS)
    made.append([take(0), take(1, repetitions=1)], "monday", source="by hand")
    return made


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "people" / "anna"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.lock"
    }


def test_what_goes_in_comes_out_in_order(store: SubjectStore, tmp_path: Path) -> None:
    store.append([take(2, repetitions=1)], "Friday")
    store.append([take(3, session="a day")])
    again = open_dataset(str(folder_of(tmp_path)))
    assert isinstance(again, SubjectStore)
    assert is_dataset(str(folder_of(tmp_path)))
    assert again.subjects() == ("anna",)
    assert [one.name for one in again.sessions] == ["monday", "Friday", "a day"]
    assert [one.repetitions for one in again.sessions] == [2, 1, 2]
    assert again.sessions[0].source == "by hand"
    put = [take(0), take(1, repetitions=1), take(2, repetitions=1), take(3)]
    for one, was in zip(again.recordings("anna"), put, strict=True):
        np.testing.assert_array_equal(one.signal, was.signal)
        assert one.annotations == was.annotations
        assert (one.subject, one.unit) == ("anna", FACTS.unit)
    assert set(contents(folder_of(tmp_path))) == {
        "subject.json",
        *(f"sessions/{name}.safetensors" for name in ("monday", "Friday", "a day")),
    }
    with pytest.raises(DataError, match="subjects"):
        again.recordings("bob")


def test_the_newest_labels_calibrate_and_nothing_is_scored(store: SubjectStore) -> None:
    assert (store.facts.calibration_session, store.facts.repetitions) == ("monday", 2)
    store.append([take(2, repetitions=1)], "tuesday")
    store.append([take(3, annotations=())], "unlabelled")
    assert store.recordings("anna")[-1].annotations == ()
    assert store.sessions[-1].repetitions == 0
    assert (store.facts.calibration_session, store.facts.repetitions) == ("tuesday", 1)
    assert store.facts.test_sessions == ()
    assert type(store.facts).from_dict(store.facts.to_dict()) == store.facts
    with pytest.raises(MyoDistillError, match="at least 2 subjects"):
        make_split(store, 1)


def test_identity_is_that_of_the_recordings(store: SubjectStore, tmp_path: Path) -> None:
    before = store.identity()
    shutil.copytree(folder_of(tmp_path), tmp_path / "copy")
    assert SubjectStore(tmp_path / "copy").identity() == before
    other = SubjectStore.create(tmp_path / "other", "anna", FACTS)
    other.append([take(0), take(9, repetitions=1)], "monday")
    assert other.identity() != before
    store.append([take(2)], "tuesday")
    assert store.identity() != before
    assert SubjectStore(tmp_path / "copy").identity() == before


def test_gestures_may_be_added_at_the_end(store: SubjectStore, tmp_path: Path) -> None:
    more = (*FACTS.gestures, "point")
    store.append([take(2, gestures=more)], "tuesday")
    store.append([take(3)], "wednesday")
    assert SubjectStore(folder_of(tmp_path)).facts.gestures == more
    assert {one.gestures for one in store.recordings("anna")} == {more}


Refused = tuple[str, Callable[[], list[Recording]], str | None]


@pytest.mark.parametrize(
    ("line", "recordings", "session"),
    [
        ("recordings of 'anna', got those of 'bob'", lambda: [take(2, subject="bob")], "x"),
        ("sampling rate", lambda: [take(2, sampling_rate=500.0)], "x"),
        ("unit", lambda: [take(2, unit="mV")], "x"),
        ("electrodes", lambda: [take(2, electrodes=Electrodes("grid", 2, 2))], "x"),
        ("new ones after them", lambda: [take(2, gestures=("fist", "rest", "open"))], "x"),
        ("new ones after them", lambda: [take(2, gestures=("new", *FACTS.gestures))], "x"),
        ("'monday' was recorded on 20", lambda: [take(2)], "monday"),
        ("differ in more than case", lambda: [take(2)], "Monday"),
        ("printable characters", lambda: [take(2)], "../x"),
        ("session 'x' is the same as one of 'monday'", lambda: [take(2), take(1)], "x"),
        ("session 'x' is the same as one of 'x'", lambda: [take(2), take(2)], "x"),
        ("recordings in session 'x', got none", lambda: [], "x"),
        ("one session, got 0", lambda: [], None),
        ("one session, got 2", lambda: [take(2), take(3, session="t")], None),
    ],
)
def test_what_does_not_belong_is_one_line(
    line: str,
    recordings: Callable[[], list[Recording]],
    session: str | None,
    store: SubjectStore,
    tmp_path: Path,
) -> None:
    before = contents(folder_of(tmp_path))
    with pytest.raises(DataError, match=line):
        store.append(recordings(), session)
    assert contents(folder_of(tmp_path)) == before


def test_all_sessions_or_none(store: SubjectStore, tmp_path: Path) -> None:
    before = contents(folder_of(tmp_path))
    with pytest.raises(DataError, match="'monday' was recorded"):
        store.extend({"tuesday": [take(2)], "monday": [take(3)]})
    assert contents(folder_of(tmp_path)) == before
    store.extend({"wednesday": [take(2)], "tuesday": [take(3)]})
    assert [one.name for one in store.sessions] == ["monday", "wednesday", "tuesday"]
    with pytest.raises(DataError, match="a session to add"):
        store.extend({})


def test_a_folder_is_made_with_its_first_session(tmp_path: Path) -> None:
    made = SubjectStore.create(tmp_path / "new", "anna", FACTS)
    with pytest.raises(DataError, match="got those of 'bob'"):
        made.append([take(0, subject="bob")])
    assert not (tmp_path / "new").exists()
    made.append([take(0)])
    with pytest.raises(DataError, match="new or empty folder"):
        SubjectStore.create(tmp_path / "new", "anna", FACTS)
    with pytest.raises(DataError, match="subject: expected a name"):
        SubjectStore.create(tmp_path / "other", "a/b", FACTS)
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="mine"):
        SubjectStore.create(tmp_path / "mine", "anna", FACTS).append([take(0)])


def test_two_writers_take_turns(store: SubjectStore, tmp_path: Path) -> None:
    other = SubjectStore(folder_of(tmp_path))
    other.append([take(2)], "tuesday")
    with pytest.raises(DataError, match="'tuesday' was recorded"):
        store.append([take(3)], "tuesday")
    store.append([take(3)], "wednesday")
    names = [one.name for one in SubjectStore(folder_of(tmp_path)).sessions]
    assert names == ["monday", "tuesday", "wednesday"]
    with (
        locked_folder(folder_of(tmp_path)),
        pytest.raises(OutputError, match=r"is at work there; wait for it$"),
    ):
        store.append([take(4)], "thursday")


def test_two_people_do_not_share_a_new_folder(tmp_path: Path) -> None:
    anna = SubjectStore.create(tmp_path / "x", "anna", FACTS)
    bob = SubjectStore.create(tmp_path / "x", "bob", FACTS)
    anna.append([take(0)])
    with pytest.raises(DataError, match="recordings of 'bob', those of 'anna' are there"):
        bob.append([take(1, subject="bob")])
    assert SubjectStore(tmp_path / "x").subject == "anna"


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from myodistill.datasets import subject_store
from test_subject_store import take
subject_store.write_card = lambda *_: os._exit(9)
subject_store.SubjectStore(Path(sys.argv[1])).append([take(5)], "tuesday")
"""


def test_killed_before_the_card_nothing_has_happened(store: SubjectStore, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    before = (folder / "subject.json").read_bytes()
    arguments = [sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent)]
    assert subprocess.run(arguments, check=False).returncode == 9
    assert (folder / "sessions" / "tuesday.safetensors").exists()
    assert (folder / "subject.json").read_bytes() == before
    assert len(SubjectStore(folder).recordings("anna")) == 2
    store.append([take(6)], "tuesday")
    np.testing.assert_array_equal(store.recordings("anna")[-1].signal, take(6).signal)


def change(folder: Path, **values: Any) -> None:
    """Change a card, and seal it as a forger would."""
    path = folder / "subject.json"
    card = {**json.loads(path.read_text()), **values}
    card.pop("card_sha256")
    path.write_text(json.dumps({**card, "card_sha256": digest(card)}))


def session(folder: Path, **values: Any) -> None:
    card = json.loads((folder / "subject.json").read_text())
    change(folder, sessions=[{**card["sessions"][0], **values}])


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as told:
        SubjectStore(folder).recordings("anna")
    assert str(told.value).isprintable()
    return str(told.value)


@pytest.mark.usefixtures("store")
def test_an_altered_card_is_one_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    card = folder / "subject.json"
    good = card.read_bytes()
    card.write_bytes(good.replace(b"fist", b"fust"))
    assert "altered since it was written; restore" in refused(folder)
    card.write_bytes(good[:-20])
    assert "expected a person's recordings" in refused(folder)
    for values, line in (
        ({"format": 2}, "of format 1 to 1, got 2; update myodistill"),
        ({"format": True}, "got True"),
        ({"subject": "../x"}, "subject: expected a name"),
        ({"sessions": []}, "no session"),
        ({"extra": 1}, "there is no such key"),
        ({"facts": {}}, "expected"),
    ):
        card.write_bytes(good)
        change(folder, **values)
        assert line in refused(folder)
    for entries, line in (
        ({"file": "../../x.safetensors"}, "'../../x.safetensors' for the file of session"),
        ({"name": "../../x", "file": "sessions/../../x.safetensors"}, "session: expected a name"),
        ({"sha256": "0" * 64}, "altered since it was recorded"),
        ({"signals": ["0" * 64]}, "other arrays than those of 1 recordings"),
        ({"recorded": "yesterday"}, "recorded"),
        ({"repetitions": -1}, "repetitions"),
    ):
        card.write_bytes(good)
        session(folder, **entries)
        assert line in refused(folder)
    card.unlink()
    assert "No such file" in refused(folder)


NOTES = np.zeros((0, 4), dtype=np.int64)
SIGNAL = take(0).signal


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"0.signal": SIGNAL}, "other arrays"),
        ({"0.signal": SIGNAL, "1.annotations": NOTES}, "other arrays"),
        ({"0.signal": SIGNAL.astype(np.float64), "0.annotations": NOTES}, "a signal of float64"),
        ({"0.signal": SIGNAL[:, :3].copy(), "0.annotations": NOTES}, "channel"),
        ({"0.signal": SIGNAL * np.float32(np.nan), "0.annotations": NOTES}, "finite"),
        ({"0.signal": SIGNAL, "0.annotations": NOTES.astype(np.int32)}, "int32"),
        ({"0.signal": SIGNAL, "0.annotations": np.zeros(4, dtype=np.int64)}, "of shape"),
        ({"0.signal": SIGNAL, "0.annotations": np.array([[0, 9, 9, 0]])}, "gesture from 0 to 2"),
        ({"0.signal": SIGNAL, "0.annotations": np.array([[0, 999, 0, 0]])}, "within 0..600"),
        ({"0.signal": SIGNAL, "0.annotations": np.array([[0, 9, 0, -1]])}, "repetitions"),
    ],
)
def test_a_forged_session_is_one_line(arrays: dict[str, Any], line: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    path = folder / "sessions" / "monday.safetensors"
    path.write_bytes(save(arrays))
    session(folder, sha256=sha256_of(path), signals=["0" * 64])
    assert line in refused(folder)


@pytest.mark.usefixtures("store")
def test_a_damaged_session_is_one_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    path = folder / "sessions" / "monday.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "altered since it was recorded; restore" in refused(folder)
    header = b'{"0.signal":{"dtype":"F32","shape":[1000000000,4],"data_offsets":[0,16000000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)  # a bomb, if it were believed
    session(folder, sha256=sha256_of(path))
    assert "expected a person's recordings" in refused(folder)
    path.unlink()
    assert "No such file" in refused(folder)
