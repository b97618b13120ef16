"""Loaders read what the authors ship, zipped or unpacked, and say plainly what is wrong with it."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_myo, write_threedc

from myodistill.datasets.recording import Annotation, Electrodes, Recording, grid, ring
from myodistill.datasets.registry import open_dataset
from myodistill.datasets.threedc import ThreeDC
from myodistill.datasets.trees import natural
from myodistill.errors import DataError


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MYODISTILL_DATA", str(tmp_path))
    return tmp_path


def zipped(root: Path) -> Path:
    """Replace an unpacked dataset by its zip."""
    path = shutil.make_archive(str(root), "zip", root.parent, root.name)
    shutil.rmtree(root)
    return Path(path)


def recording(signal: np.ndarray, notes: tuple[Annotation, ...] = ()) -> Recording:
    return Recording("s", "a", signal, 1000.0, ring(signal.shape[1]), ("x", "y"), notes, source="f")


def test_threedc_reads_the_same_from_zip_and_folder(data: Path) -> None:
    root = write_threedc(data, subjects=1)
    first_row = (root / "Participant1/train/EMG/3dc_EMG_gesture_2_3.txt").read_text().split("\n")[0]
    unpacked = open_dataset("3dc").recordings("Participant1")
    zipped(root)
    packed = open_dataset("3dc").recordings("Participant1")
    assert len(unpacked) == len(packed) == 88
    for a, b in zip(unpacked, packed, strict=True):
        assert np.array_equal(a.signal, b.signal)
    one = next(r for r in packed if r.session == "train" and r.annotations[0].repetition == 2
               and r.annotations[0].gesture == 3)  # fmt: skip
    assert one.signal[0].tolist() == [float(v) for v in first_row.split(",")]
    assert one.signal.dtype == np.float32


def test_myo_file_number_is_cycle_and_gesture(data: Path) -> None:
    root = write_myo(data)
    raw = np.frombuffer(
        (root / "EvaluationDataset/Male0/Test1/classe_17.dat").read_bytes(), dtype="<i2"
    )
    dataset = open_dataset("myo")
    recordings = dataset.recordings("evaluation-Male0")
    assert len(recordings) == 84
    found = [r for r in recordings if r.session == "Test1"][17]
    assert (found.annotations[0].gesture, found.annotations[0].repetition) == (3, 2)
    assert np.array_equal(found.signal.ravel(), raw)
    assert dataset.pretraining_only() == ("pretraining-Female0", "pretraining-Male0")
    assert len(dataset.recordings("pretraining-Male0")) == 28


def test_unpacked_folder_takes_the_place_of_its_zip(data: Path) -> None:
    root = write_threedc(data, subjects=1)
    shutil.make_archive(str(root), "zip", data, root.name)
    assert open_dataset("3dc").subjects() == ("Participant1",)


def test_two_sources_of_one_recording_are_refused(data: Path) -> None:
    root = write_threedc(data, subjects=1)
    shutil.copytree(root, data / "3DCDataset-again")
    with pytest.raises(DataError, match=r"expected one file for Participant1.*remove one"):
        open_dataset("3dc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"1,2,3\n4,5,6\n", r"expected a \(time, 10\) signal, got shape \(2, 3\)"),
        (b"1,2,3,4,5,6,7,8,9,10\n1,2,3\n", "truncated or damaged"),
        (b"1,2,3,4,5,6,7,8,9,x\n", "truncated or damaged"),
        (b"1,2,3,4,5,6,7,8,9,nan\n" * 9, "expected finite samples, got nan at sample 0 of channel"),
        (b"1,2,3,4,5,6,7,8,9,10\n" * 9, "channel 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 is flat"),
        (b"\x00\xff\x10garbage", "Participant1"),
    ],
)
def test_damaged_threedc_file_is_named(data: Path, content: bytes, message: str) -> None:
    path = write_threedc(data, subjects=1) / "Participant1/test/EMG/3dc_EMG_gesture_0_0.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset("3dc").recordings("Participant1")
    assert "3dc_EMG_gesture_0_0.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_gesture_is_named(data: Path) -> None:
    path = write_threedc(data, subjects=1) / "Participant1/test/EMG/3dc_EMG_gesture_3_10.txt"
    path.rename(path.with_name("3dc_EMG_gesture_3_11.txt"))
    with pytest.raises(DataError, match=r"gesture_3_11\.txt: expected gesture 0 to 10.*got 11"):
        open_dataset("3dc")


def test_missing_file_is_named(data: Path) -> None:
    path = write_threedc(data, subjects=1) / "Participant1/test/EMG/3dc_EMG_gesture_3_10.txt"
    path.unlink()
    with pytest.raises(DataError, match=r"repetition 3 of gesture 10 \(pinch grip\).*missing"):
        open_dataset("3dc").recordings("Participant1")


@pytest.mark.parametrize("content", [b"", b"123"])
def test_truncated_myo_file_is_named(data: Path, content: bytes) -> None:
    path = write_myo(data) / "EvaluationDataset/Male0/Test0/classe_5.dat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"classe_5\.dat: expected a multiple of 16 bytes"):
        open_dataset("myo").recordings("evaluation-Male0")


def test_zip_that_is_none(data: Path) -> None:
    (data / "3DCDataset-x.zip").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"3DCDataset-x\.zip: expected a zip archive"):
        open_dataset("3dc")


def test_zip_of_something_else(data: Path) -> None:
    with zipfile.ZipFile(data / "3DCDataset-x.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="holds none of its recordings"):
        open_dataset("3dc")


def test_zip_with_a_damaged_member(data: Path) -> None:
    path = zipped(write_threedc(data, subjects=1))
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(DataError, match="fetch"):
        open_dataset("3dc").recordings("Participant1")


def test_nothing_there(data: Path) -> None:
    with pytest.raises(DataError, match=r"expected '3DCDataset\*'.*MYODISTILL_DATA"):
        open_dataset("3dc")


def test_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYODISTILL_DATA", "/no/such/folder")
    with pytest.raises(DataError, match="expected a folder, '/no/such/folder' is none"):
        open_dataset("myo")


def test_unknown_names_suggest_the_nearest(data: Path) -> None:
    write_threedc(data, subjects=1)
    with pytest.raises(DataError, match=r"unknown dataset '3dcc': did you mean 3dc\?"):
        open_dataset("3dcc")
    with pytest.raises(DataError, match="Participant9"):
        open_dataset("3dc").recordings("Participant9")


def test_annotations_are_checked() -> None:
    signal = np.random.default_rng(0).standard_normal((10, 2)).astype(np.float32)
    with pytest.raises(DataError, match="gesture from 0 to 1, got 2"):
        recording(signal, (Annotation(0, 5, 2, 0),))
    with pytest.raises(DataError, match=r"within 0\.\.10, got 5\.\.11"):
        recording(signal, (Annotation(5, 11, 0, 0),))
    with pytest.raises(DataError, match="empty recording"):
        recording(signal[:0])


def test_electrodes_hold_each_channel_once() -> None:
    assert grid(2, 2, order=(3, 1, 0, 2)).positions().tolist() == [[3, 1], [0, 2]]
    with pytest.raises(DataError, match=r"each of the channels 0\.\.3 once"):
        grid(2, 2, order=(0, 1, 2, 2))
    with pytest.raises(DataError, match="at least 1 row"):
        Electrodes("ring", 1, 0)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/b", "..", "", "x" * 101, "a\nb", "\ud800", "é" * 101]
)
def test_recordings_bear_names_that_can_be_folders(name: str) -> None:
    signal = np.random.default_rng(0).standard_normal((10, 2)).astype(np.float32)
    one = Recording("s", "a", signal, 1000.0, ring(2), ("x", "y"), ())
    changes: list[dict[str, Any]] = [{"subject": name}, {"session": name}]
    for change in changes:
        with pytest.raises(DataError, match=r"expected a name of 1 to 100") as caught:
            replace(one, **change)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "dataset: expected a name"),
        ({"test_sessions": ("train",)}, "never calibrate"),
        ({"test_sessions": ("test", "test")}, "scored once each"),
        ({"test_sessions": ("Train",)}, "differ in more than case"),
        ({"sampling_rate": float("nan")}, "expected a rate in Hz"),
        ({"passband": (20.0, 501.0)}, "Nyquist frequency, 500 Hz"),
        ({"passband": (400.0, 20.0)}, "0 < low < high"),
        ({"step": 0}, "at least 1 sample, step"),
        ({"gestures": ("a", "a")}, "names of their own"),
    ],
)
def test_facts_that_no_run_can_use(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(ThreeDC.facts, **change)


def test_natural_order() -> None:
    assert sorted(["Male10", "Male2", "Female1"], key=natural) == ["Female1", "Male2", "Male10"]
    # Digits that are no numbers, more of them than int() takes, and one number written twice.
    for names in (["²", "2", "x³"], ["9" * 5000, "1"], ["1", "01", "١"], ["", "a", "a1", "a1b2"]):
        assert sorted(names, key=natural) == sorted({*names}, key=natural)


@pytest.mark.real
def test_real_recordings_are_whole(real_data: Path) -> None:
    for name, files in (("3dc", 88), ("myo", 84)):
        dataset = open_dataset(name)
        subject = dataset.subjects()[0]
        recordings = dataset.recordings(subject)
        assert len(recordings) == files
        assert {r.annotations[0].gesture for r in recordings} == set(
            range(len(dataset.facts.gestures))
        )
        assert min(r.seconds for r in recordings) > 0.3
