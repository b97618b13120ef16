"""The prepared store gives the same windows as the recordings, from one copy of the signal."""

from __future__ import annotations

import resource
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import write_myo, write_threedc

from myodistill.datasets.quality import bad_channels, fill_in, neighbours, saturated_channels
from myodistill.datasets.recording import Annotation, Recording, grid, ring
from myodistill.datasets.registry import open_dataset
from myodistill.datasets.synthetic import Synthetic
from myodistill.datasets.threedc import ThreeDC
from myodistill.errors import DataError, OutputError, SettingsError
from myodistill.models.classical import in_band
from myodistill.signals import prepared as stores
from myodistill.signals.filters import apply, design
from myodistill.signals.preparation import Preparation, prepare_recording, resample
from myodistill.signals.prepared import open_prepared, prepare
from myodistill.splits import make_split


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MYODISTILL_DATA", str(tmp_path))
    return tmp_path


def test_same_windows_as_from_the_recordings(data: Path) -> None:
    write_threedc(data, subjects=2, samples=300)
    dataset = open_dataset("3dc")
    facts = dataset.facts
    store = prepare("3dc", data / "out", Preparation(passband=facts.passband))
    windows = store.windows(facts.samples, facts.step)
    direct = [in_band(dataset.recordings(s), facts, facts.passband) for s in store.subjects]
    assert np.array_equal(windows.gather(), np.concatenate([part.gather() for part in direct]))
    assert windows.labels.tolist() == [label for part in direct for label in part.labels]
    assert [windows.repetitions[index] for index in windows.repetition_index] == [
        part.repetitions[index] for part in direct for index in part.repetition_index
    ]
    assert isinstance(windows.signal, np.memmap)
    one = store.windows(facts.samples, facts.step, ["Participant2"])
    assert {r.subject for r in one.repetitions} == {"Participant2"}
    assert np.shares_memory(one.signal, windows.signal)
    size = sum(path.stat().st_size for path in store.folder.iterdir())
    assert size < 1.1 * windows.signal.nbytes
    with pytest.raises(DataError, match="prepared subjects, got 'Participant7'"):
        store.windows(151, 51, ["Participant7"])
    with pytest.raises(DataError, match="expected at least 999 samples"):
        store.windows(999, 51)


def test_prepared_once_and_again_when_something_changed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_threedc(data, subjects=1, samples=100)
    first = prepare("3dc", data / "out")
    with monkeypatch.context() as patch:
        patch.setattr(ThreeDC, "parse", None)
        assert prepare("3dc", data / "out").folder == first.folder
    assert prepare("3dc", data / "out", Preparation(passband=(20, 400))).folder != first.folder
    path = root / "Participant1/train/EMG/3dc_EMG_gesture_0_0.txt"
    path.write_text("\n".join(["1,2,3,4,5,6,7,8,9,10", "2,3,4,5,6,7,8,9,10,12"] * 50))
    changed = prepare("3dc", data / "out")
    assert changed.folder != first.folder
    assert changed.signal[0, 0] == 1


def test_interrupted_run_goes_on_and_nothing_half_written_is_used(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_threedc(data, subjects=3, samples=100)
    done: list[str] = []
    real = stores._prepare_one

    def dies(dataset, subject, part, preparation):  # type: ignore[no-untyped-def]
        if subject == "Participant3" and len(done) == 2:
            done.append("died")
            raise KeyboardInterrupt
        done.append(subject)
        real(dataset, subject, part, preparation)

    monkeypatch.setattr(stores, "_prepare_one", dies)
    with pytest.raises(KeyboardInterrupt):
        prepare("3dc", data / "out")
    assert not [p for p in (data / "out").iterdir() if not p.name.startswith(".")]
    store = prepare("3dc", data / "out")
    assert done == ["Participant1", "Participant2", "died", "Participant3"]
    assert len(store.signal) == 3 * 88 * 100
    assert [p.name for p in (data / "out").iterdir()] == [store.folder.name]


@pytest.mark.parametrize("room", [3000, 8 * 10**5])
def test_full_disk_is_one_line_and_leaves_nothing_half_written(data: Path, room: int) -> None:
    """With room for nothing, and for the people but not for all of them together."""
    write_threedc(data, subjects=3, samples=200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OutputError, match="expected to write there") as caught:
            prepare("3dc", data / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "None" not in str(caught.value)
    assert "\n" not in str(caught.value)
    (parts,) = (data / "out").iterdir()
    assert [p.name for p in sorted(parts.iterdir())] == ([] if room < 10**5 else ["0", "1", "2"])
    store = prepare("3dc", data / "out")
    assert len(store.signal) == 3 * 88 * 200
    assert [p.name for p in (data / "out").iterdir()] == [store.folder.name]


_KILLED = """
import os, signal, sys
from pathlib import Path
from myodistill.signals import prepared as store
real = store.{where}
def dies(*arguments):
    real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
store.{where} = dies
store.prepare("3dc", Path(sys.argv[1]))
"""


@pytest.mark.parametrize("where", ["_write_signal", "_assemble"])
def test_killed_while_it_writes(data: Path, where: str) -> None:
    write_threedc(data, subjects=2, samples=100)
    command = [sys.executable, "-c", _KILLED.format(where=where), str(data / "out")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -9
    (left,) = (data / "out").iterdir()
    assert left.name.startswith(".")
    store = prepare("3dc", data / "out")
    assert [p.name for p in (data / "out").iterdir()] == [store.folder.name]


def test_a_killed_process_is_one_line(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, *_: object) -> Future[None]:
            future: Future[None] = Future()
            future.set_exception(BrokenProcessPool("killed"))
            return future

    write_threedc(data, subjects=2, samples=100)
    monkeypatch.setattr(stores, "worker_pool", Pool)
    with pytest.raises(OutputError, match="fewer --processes"):
        prepare("3dc", data / "out", processes=2)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("recordings", {"subject": "../../x"}, "subject: expected a name"),
        ("recordings", {"begin": 5}, "do not fill"),
        ("recordings", {"end": "x"}, "recordings.parquet with columns"),
        ("annotations", {"stop": 10**9}, "outside their recording"),
        ("annotations", {"start": -1}, "outside their recording"),
        ("annotations", {"recording": 10**6}, "annotations of no recording"),
        ("annotations", {"subject": "Participant9"}, "subject of another recording"),
        ("annotations", {"gesture": 0.5}, "annotations.parquet with columns"),
    ],
)
def test_tables_of_a_store_are_checked(
    data: Path, table: str, change: dict[str, Any], message: str
) -> None:
    write_threedc(data, subjects=1, samples=100)
    folder = prepare("3dc", data / "out").folder
    values = pd.read_parquet(folder / f"{table}.parquet").assign(**change)
    values.to_parquet(folder / f"{table}.parquet")
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(str(folder))
    assert "\n" not in str(caught.value)


def test_a_table_of_a_million_million_rows_is_not_read(data: Path) -> None:
    write_threedc(data, subjects=1, samples=100)
    folder = prepare("3dc", data / "out").folder
    path = folder / "annotations.parquet"
    pd.DataFrame({"subject": ["a"] * (2 * 10**7)}, dtype="category").to_parquet(path)
    assert path.stat().st_size < 10**6
    with pytest.raises(DataError, match="of 20000000 rows"):
        open_dataset(str(folder))


def test_stores_that_differ_in_the_middle_are_told_apart(data: Path, tmp_path: Path) -> None:
    write_threedc(data, subjects=1, samples=100)
    folder = prepare("3dc", tmp_path / "raw").folder
    first = open_dataset(str(folder)).identity()
    path = folder / "annotations.parquet"
    notes = pd.read_parquet(path)
    notes.loc[len(notes) // 2, "gesture"] = 0
    notes.to_parquet(path)
    assert open_dataset(str(folder)).identity() != first


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampling_rate": float("nan")},
        {"sampling_rate": -1.0},
        {"sampling_rate": 1e12},
        {"passband": (400.0, 20.0)},
        {"passband": (20.0, float("inf"))},
        {"mains": float("nan")},
    ],
)
def test_preparations_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        Preparation(**wrong)


def test_people_are_looked_up_before_anybody_is_prepared(data: Path) -> None:
    write_threedc(data, subjects=2, samples=100)
    with pytest.raises(DataError, match="unknown subject 'Participant3'"):
        prepare("3dc", data / "out", subjects=["Participant1", "Participant3"])
    assert not (data / "out").exists()
    store = prepare("3dc", data / "out", subjects=["Participant1", "Participant1"])
    assert len(store.recordings) == 88


def test_processes_make_the_same_store(data: Path) -> None:
    write_myo(data)
    one = prepare("myo", data / "one")
    two = prepare("myo", data / "two", processes=2)
    assert one.folder.name == two.folder.name
    for name in ("signal.npy", "store.json"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert one.annotations.equals(two.annotations)


def test_damaged_store_is_refused(data: Path) -> None:
    write_threedc(data, subjects=1, samples=100)
    folder = prepare("3dc", data / "out").folder
    (folder / "signal.npy").write_bytes((folder / "signal.npy").read_bytes()[:5000])
    with pytest.raises(DataError, match=r"expected a prepared store.*prepare again"):
        open_prepared(folder)
    with pytest.raises(DataError, match="expected a prepared store"):
        open_prepared(data)


def noise(samples: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((samples, channels)).astype("f4")


def test_bad_channels_are_found_and_filled_in_by_neighbours() -> None:
    signal = noise(1000, 16)
    signal[:, 5] = 7
    signal[:, 6] = np.clip(signal[:, 6], -0.5, 0.5)
    signal[:, 9] *= 1000
    assert bad_channels(signal) == {5: "flat", 6: "clipped", 9: "far off"}
    assert saturated_channels(signal).tolist() == [6]
    assert bad_channels(noise(1000, 16) * np.linspace(1, 4, 16, dtype="f4")) == {}
    place = grid(4, 4)
    assert neighbours(place)[5] == [1, 4, 6, 9]
    assert neighbours(place)[0] == [1, 4]
    assert neighbours(ring(8))[0] == [1, 7]
    repaired = fill_in(signal, place, (5, 6, 9))
    assert np.allclose(repaired[:, 5], signal[:, [1, 4]].mean(1), atol=1e-6)
    assert bad_channels(repaired) == {}
    block = fill_in(signal, place, (0, 1, 4))
    assert np.allclose(block[:, 0], (block[:, 1] + block[:, 4]) / 2)
    with pytest.raises(DataError, match="at least one good channel"):
        fill_in(signal, place, tuple(range(16)))


def test_preparing_repairs_and_reports() -> None:
    signal = noise(2000, 16)
    signal[:, 3] *= 300
    one = Recording("s", "a", signal, 1000.0, grid(4, 4), ("x", "y"), (Annotation(0, 2000, 0, 0),))
    prepared, _, repaired = prepare_recording(one, Preparation((20, 450), repair=True))
    assert repaired == (3,)
    clean = apply(design(1000.0, (20, 450)), signal)
    assert np.allclose(prepared[:, 3], clean[:, [2, 7]].mean(1), atol=1e-5)
    assert np.array_equal(prepared[:, 4], clean[:, 4])


def test_take_that_is_bad_as_a_whole_is_left_alone() -> None:
    signal = np.clip(noise(2000, 8), -0.3, 0.3)
    one = Recording("s", "a", signal, 1000.0, ring(8), ("x", "y"), (Annotation(0, 2000, 0, 0),))
    prepared, _, repaired = prepare_recording(one, Preparation(repair=True))
    assert repaired == ()
    assert np.array_equal(prepared, signal)


@pytest.mark.parametrize("wanted", [500.0, 750.0, 2000.0])
def test_resampling_keeps_the_signal_and_is_causal(wanted: float) -> None:
    time = np.arange(3000) / 1000
    signal = np.stack([np.sin(2 * np.pi * 20 * time), np.cos(2 * np.pi * 35 * time)], 1).astype(
        "f4"
    )
    new = resample(signal, 1000.0, wanted)
    assert len(new) == int(2999 * wanted / 1000) + 1
    assert new[len(new) // 2 :].std(axis=0) == pytest.approx(signal[1500:].std(axis=0), rel=0.02)
    later = signal.copy()
    later[1000:] += 5
    same = int(999 * wanted / 1000)
    assert np.array_equal(resample(later, 1000.0, wanted)[:same], new[:same])
    if wanted < 1000:
        high = np.sin(2 * np.pi * 450 * time)[:, None].astype("f4")
        assert resample(high, 1000.0, wanted)[500:].std() < 0.01
    one = Recording("s", "a", signal, 1000.0, ring(2), ("x", "y"), (Annotation(999, 3000, 0, 0),))
    moved, (note,), _ = prepare_recording(one, Preparation(sampling_rate=wanted))
    assert note.stop <= len(moved)
    assert note.start * 1000 >= 999 * wanted


def test_generated_people_with_another_seed_are_another_store(tmp_path: Path) -> None:
    stores = [
        prepare("synthetic", tmp_path, subjects=["Person1"], dataset=Synthetic(seed=seed))
        for seed in (0, 1, 0)
    ]
    assert stores[0].folder == stores[2].folder
    assert stores[0].folder != stores[1].folder
    assert not np.array_equal(stores[0].signal, stores[1].signal)


def test_a_raw_store_is_the_dataset_that_it_was_made_from(data: Path, tmp_path: Path) -> None:
    write_threedc(data, subjects=2, samples=300)
    original = open_dataset("3dc")
    folder = prepare("3dc", tmp_path / "raw").folder
    stored = open_dataset(str(folder))
    assert stored.facts == original.facts
    assert make_split(stored, 1) == make_split(original, 1)
    for subject in original.subjects():
        ours, theirs = stored.recordings(subject), original.recordings(subject)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.signal, other.signal)
            assert one.annotations == other.annotations
            assert (one.session, one.source) == (other.session, other.source)
    assert isinstance(ours[0].signal, np.memmap)


def test_a_store_at_another_rate_keeps_the_windows_as_long(data: Path, tmp_path: Path) -> None:
    write_threedc(data, subjects=2, samples=300)
    folder = prepare("3dc", tmp_path / "slow", Preparation(sampling_rate=500.0)).folder
    facts = open_dataset(str(folder)).facts
    assert (facts.sampling_rate, facts.samples, facts.step) == (500.0, 76, 26)
    assert facts.passband == (20.0, 225.0)


def test_a_store_that_no_run_can_use(data: Path, tmp_path: Path) -> None:
    write_threedc(data, subjects=2, samples=300)
    folder = prepare("3dc", tmp_path / "filtered", Preparation((20.0, 400.0))).folder
    with pytest.raises(DataError, match=r"filtered to 20-400 Hz .* prepare it again with --raw"):
        open_dataset(str(folder))
    (folder / "store.json").write_text("{}")
    with pytest.raises(DataError, match="expected a prepared store, got: 'facts'"):
        open_dataset(str(folder))
