"""Each loader reads its dataset's own format back to the sample, and names the file it cannot."""

from __future__ import annotations

import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import h5py
import layouts
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from myodistill.datasets.arrays import read_arrays
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.ninapro import Ninapro
from myodistill.datasets.recording import Recording
from myodistill.datasets.registry import open_dataset
from myodistill.datasets.trees import list_files
from myodistill.errors import DataError
from myodistill.signals.windows import cut
from myodistill.splits import make_split


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MYODISTILL_DATA", str(tmp_path))
    return tmp_path


def repetitions(recordings: list[Recording]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for one in recordings:
        found.setdefault(one.session, set()).update(n.repetition for n in one.annotations)
    return found


def fits_the_protocol(dataset: Dataset, recordings: list[Recording]) -> None:
    """What the split would score and calibrate with is there, and windows can be cut."""
    facts = dataset.facts
    have = repetitions(recordings)
    for session in {facts.calibration_session, *facts.test_sessions} & set(have):
        assert have[session] == set(range(facts.repetitions)), session
    windows = cut(
        recordings, [one.signal for one in recordings], samples=min(facts.samples, 64), step=64
    )
    assert set(np.unique(windows.labels)) <= set(range(len(facts.gestures)))


def first_recordings(name: str) -> list[Recording]:
    dataset = open_dataset(name)
    return dataset.recordings(dataset.subjects()[0])


def broken(path: Path, content: bytes, name: str, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        first_recordings(name)
    assert path.name.split(".")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


# Long-term


def test_long_term(data: Path) -> None:
    root = layouts.write_long_term(data, days=11, samples=60)
    dataset = open_dataset("long-term")
    recordings = dataset.recordings("sub1")
    assert list(dict.fromkeys(r.session for r in recordings)) == [f"day{d}" for d in range(1, 12)]
    one = next(
        r
        for r in recordings
        if r.session == "day10"
        and (r.annotations[0].gesture, r.annotations[0].repetition) == (4, 2)
    )
    written = np.loadtxt(root / "data/sub1/day10/D10M5T3.csv", delimiter=",", dtype=np.float32)
    assert np.array_equal(one.signal, written)
    assert dataset.facts.gestures[:3] == ("rest", "wrist flexion", "motion 3")
    assert len(dataset.facts.gestures) == 22
    fits_the_protocol(dataset, recordings)


def test_long_term_file_in_the_wrong_place(data: Path) -> None:
    folder = layouts.write_long_term(data, days=2, samples=60) / "data/sub1/day2"
    broken(folder / "D2M1T1.csv", b"1,2\n1\n", "long-term", "expected rows of 8")
    (folder / "D2M1T1.csv").rename(folder / "D1M1T1.csv")
    with pytest.raises(DataError, match=r"D1M1T1\.csv: expected D2M1T1 to D2M22T4 in folder day2"):
        open_dataset("long-term")
    (folder / "D1M1T1.csv").unlink()
    with pytest.raises(DataError, match=r"repetition 0 of gesture 0 \(rest\) in sub1/day2"):
        first_recordings("long-term")
    (folder / "D2M23T1.csv").write_text("1,2,3,4,5,6,7,8\n")
    with pytest.raises(DataError, match="expected gesture 0 to 21"):
        open_dataset("long-term")


@pytest.mark.real
def test_real_long_term(real_data: Path) -> None:
    dataset = open_dataset("long-term")
    recordings = dataset.recordings(dataset.subjects()[0])
    assert len(recordings) == 30 * 22 * 4
    assert {len(one.signal) for one in recordings} == {300}
    power = np.zeros((22, 2))
    for one in recordings:
        power[one.annotations[0].gesture] += one.signal.var(), 1
    mean = power[:, 0] / power[:, 1]
    assert mean[0] * 10 < mean[1:].min()  # motion 1 is rest
    fits_the_protocol(dataset, recordings)


# flexemg


def test_flexemg(data: Path) -> None:
    root = layouts.write_flexemg(data)
    dataset = open_dataset("flexemg")
    recordings = dataset.recordings("001")
    assert len(recordings) == 6
    one = next(r for r in recordings if r.session == "Session1Train")
    raw = loadmat(root / "data/001-Session1Train/001-001.mat")["raw"]
    assert np.allclose(one.signal, raw[:, :64] * 0.003)
    assert [n.gesture for n in one.annotations] == [0, 3, 4, 2, 1, 0]
    assert dataset.facts.test_sessions == ("Session1Test", "Session3Test")
    fits_the_protocol(dataset, recordings)


def test_flexemg_of_the_wrong_shape(data: Path) -> None:
    path = layouts.write_flexemg(data) / "data/001-Session1Train/001-001.mat"
    whole = path.read_bytes()
    broken(path, whole[: len(whole) // 2], "flexemg", "truncated or damaged")
    settings = {"lsbmV": 0.003, "sequence": [[3, 4, 2, 1]]}
    savemat(path, {"raw": np.zeros((28000, 63)), "p": settings})
    broken(path, path.read_bytes(), "flexemg", r"got shape \(28000, 63\)")
    savemat(path, {"raw": np.zeros((28000, 96)), "p": {**settings, "sequence": [[3, 4, 9, 1]]}})
    broken(path, path.read_bytes(), "flexemg", r"got \[3, 4, 9, 1\]")
    savemat(path, {"other": 1})
    broken(path, path.read_bytes(), "flexemg", "expected a variable 'raw', it holds other")


@pytest.mark.real
def test_real_flexemg(real_data: Path) -> None:
    dataset = open_dataset("flexemg")
    recordings = dataset.recordings("001")
    assert len(recordings) == 8
    for one in recordings:
        rms = {
            note.gesture: np.diff(one.signal[note.start : note.stop], axis=0).std()
            for note in one.annotations[:5]
        }
        assert min(rms[g] for g in (1, 2, 3, 4)) > 1.5 * rms[0], one.source
    fits_the_protocol(dataset, recordings)


# Ninapro


@pytest.mark.parametrize("number", [1, 2, 5, 6])
def test_ninapro(data: Path, number: int) -> None:
    root = layouts.write_ninapro(data, number)
    dataset = open_dataset(f"ninapro-db{number}")
    recordings = dataset.recordings("S1")
    fits_the_protocol(dataset, recordings)
    assert all(one.signal.shape[1] == dataset.facts.electrodes.channels for one in recordings)
    pieces = Counter(one.source for one in recordings)
    if number != 6:
        assert set(pieces.values()) == {4}
        assert {one.session for one in recordings} == {"calibration", "test"}
    path = next(p for p in sorted(root.iterdir()))
    emg = loadmat(path)["emg"]
    mine = np.concatenate([one.signal for one in recordings if one.source == str(path)])
    assert np.array_equal(mine, emg if number != 6 else emg[:, [*range(8), *range(10, 16)]])
    assert isinstance(dataset, Ninapro)
    held = sum(n.stop - n.start for r in recordings for n in r.annotations if n.gesture)
    assert held == 400 * len(pieces) * (7 * 12 if number == 6 else 2 * dataset._layout.repetitions)


def test_ninapro_labels_follow_the_exercise(data: Path) -> None:
    layouts.write_ninapro(data, 5)
    layouts.write_ninapro(data, 2, rest=1000)
    for name, first in (("ninapro-db5", (1, 13, 30)), ("ninapro-db2", (1, 18, 41))):
        recordings = open_dataset(name).recordings("S1")
        for exercise, label in enumerate(first, start=1):
            mine = [r for r in recordings if f"_E{exercise}_" in r.source]
            assert {n.gesture for r in mine for n in r.annotations} == {0, label, label + 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restimulus": np.full((9900, 1), 40)}, "expected one of the movements"),
        ({"rerepetition": np.full((9900, 1), 9)}, "expected repetition 1 to 6 of movement"),
        ({"restimulus": np.zeros((9900, 1))}, "labels are all rest"),
        ({"restimulus": np.zeros((50, 1))}, "truncated"),
        ({"emg": np.zeros((9900, 3))}, r"expected a \(time, 16\) signal"),
        ({"emg": np.array(["x"])}, r"expected a \(time, channel\) table of numbers"),
    ],
)
def test_ninapro_refuses(data: Path, change: dict[str, np.ndarray], message: str) -> None:
    path = layouts.write_ninapro(data, 5) / "S1_E1_A1.mat"
    variables = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    length = len(variables["emg"])
    change = {k: v[:length] if len(v) == 9900 else v for k, v in change.items()}
    savemat(path, variables | change)
    broken(path, path.read_bytes(), "ninapro-db5", message)


# CapgMyo


@pytest.mark.parametrize("letter", ["a", "b"])
def test_capgmyo(data: Path, letter: str) -> None:
    root = layouts.write_capgmyo(data, letter)
    dataset = open_dataset(f"capgmyo-db{letter}")
    subjects = dataset.subjects()
    assert subjects == (("subject1",) if letter == "b" else ("subject1", "subject2"))
    recordings = dataset.recordings("subject1")
    fits_the_protocol(dataset, recordings)
    last = recordings[-1]
    name = ("002/002" if letter == "b" else "001/001") + "-008-010.mat"
    expected = loadmat(root / f"db{letter}-preprocessed-{name}")["data"]
    assert np.array_equal(last.signal, expected)
    assert last.electrodes.positions()[3, 5] == 5 * 8 + 3


def test_capgmyo_file_that_is_another(data: Path) -> None:
    root = layouts.write_capgmyo(data, "a", subjects=1) / "dba-preprocessed-001"
    shutil.copy(root / "001-002-003.mat", root / "001-001-001.mat")
    with pytest.raises(DataError, match=r"001-001-001.mat: .*it holds \(1, 2, 3\)"):
        open_dataset("capgmyo-dba").recordings("subject1")
    (root / "001-001-001.mat").unlink()
    with pytest.raises(DataError, match=r"repetition 0 of gesture 0 \(thumb up\).*missing"):
        open_dataset("capgmyo-dba").recordings("subject1")


def test_zips_within_a_folder_are_read_and_duplicates_refused(data: Path) -> None:
    root = layouts.write_capgmyo(data, "a", subjects=1)
    shutil.make_archive(str(root / "dba-s1"), "zip", root / "dba-preprocessed-001")
    with pytest.raises(DataError, match="expected one file for 001/"):
        open_dataset("capgmyo-dba")
    shutil.rmtree(root / "dba-preprocessed-001")
    assert len(open_dataset("capgmyo-dba").recordings("subject1")) == 80


# WFDB: GRABMyo and Hyser


def test_grabmyo(data: Path) -> None:
    layouts.write_grabmyo(data)
    for name, channels, first in (("grabmyo", 16, 0), ("grabmyo-wrist", 12, 17)):
        dataset = open_dataset(name)
        dataset.facts = type(dataset.facts)(**{**vars(dataset.facts), "repetitions": 1})
        recordings = dataset.recordings("participant1")
        assert len(recordings) == 3 * 17
        assert recordings[0].signal.shape == (500, channels)
        truth = layouts.noise(500, 32)
        assert np.allclose(recordings[0].signal[:, 0], truth[:, first], atol=1e-3)
        if name == "grabmyo-wrist":
            assert np.allclose(recordings[0].signal[:, 6], truth[:, 25], atol=1e-3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda hea, dat: dat.write_bytes(dat.read_bytes()[:-100]), "bytes of samples"),
        (lambda hea, dat: dat.unlink(), "expected its .dat file beside it"),
        (lambda hea, dat: hea.write_text("nonsense"), "truncated or damaged"),
        (lambda hea, dat: hea.write_text(hea.read_text().replace(dat.name, "../x.dat")), "names"),
        (lambda hea, dat: hea.write_text(hea.read_text().replace(" F3\n", " F99\n")), "without F3"),
        (lambda hea, dat: hea.write_text(hea.read_text().replace(" 2048 ", " 1000 ")), "1000 Hz"),
    ],
)
def test_damaged_wfdb_record_is_named(data: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    where = layouts.write_grabmyo(data) / "Session1/session1_participant1"
    stem = where / "session1_participant1_gesture1_trial1"
    damage(stem.with_suffix(".hea"), stem.with_suffix(".dat"))
    with pytest.raises(DataError, match=message) as caught:
        open_dataset("grabmyo").recordings("participant1")
    assert "gesture1_trial1" in str(caught.value)


@pytest.mark.slow
def test_hyser(data: Path) -> None:
    root = layouts.write_hyser(data)
    dataset = open_dataset("hyser")
    recordings = dataset.recordings("subject01")
    assert len(recordings) == 2 * 2 * (6 + 2)
    fits_the_protocol(dataset, recordings)
    notes = [r.annotations[0] for r in recordings[:12]]
    assert [(n.gesture, n.repetition) for n in notes] == [
        (g, t) for g in (0, 16) for t in (0, 0, 0, 1, 1, 1)
    ]
    assert np.allclose(recordings[0].signal, layouts.noise(64, 256), atol=1e-3)
    labels = root / "pr_dataset/subject01_session1/label_dynamic.txt"
    broken(labels, b"1,1,1,1,1,1,35,17,17,17,17,17", "hyser", "expected gestures 1 to 34, got 35")
    broken(labels, b"1,1", "hyser", "expected dynamic samples 1 to 2")
    broken(labels, b"1,x", "hyser", "whole numbers separated by commas")
    labels.unlink()
    with pytest.raises(DataError, match=r"expected label_dynamic\.txt"):
        open_dataset("hyser").recordings("subject01")


@pytest.fixture
def hyser_bids(data: Path, request: pytest.FixtureRequest) -> Path:
    """The real side-car files of one gesture, with a signal written to them."""
    from conftest import DATA

    with zipfile.ZipFile(DATA / "hyser-bids-8471724.zip") as archive:
        chosen = [n for n in archive.namelist() if "/sub-01/" in n and "gesture0" not in n]
        archive.extractall(data, [n for n in chosen if "gesture17" in n or "electrodes" in n])
    root = data / "hyser-bids-8471724"
    for session in (1, 2):
        where = root / f"sub-01/ses-{session}/emg"
        stem = f"sub-01_ses-{session}_task-gesture17"
        names = [
            line.split("\t")[0]
            for line in (where / f"{stem}_channels.tsv").read_text().splitlines()[1:]
        ]
        layouts.write_bdf(where / f"{stem}_emg.bdf", 50 * layouts.noise(28672, 256), names)
    return root


@pytest.mark.real
def test_hyser_bids_with_its_real_side_cars(hyser_bids: Path) -> None:
    dataset = open_dataset("hyser-bids")
    recordings = dataset.recordings("sub-01")
    assert [r.session for r in recordings] == ["ses-1", "ses-2"]
    notes = recordings[0].annotations
    assert len(notes) == 8
    assert {n.gesture for n in notes} == {16}
    assert [n.repetition for n in notes] == [0, 0, 0, 1, 1, 1, 0, 1]
    assert (notes[6].start, notes[6].stop) == (12288, 20480)
    assert np.allclose(recordings[0].signal, 50 * layouts.noise(28672, 256), atol=1e-3)
    # The grid puts channels where electrodes.tsv says they are.
    rows = (hyser_bids / "sub-01/ses-1/emg/sub-01_ses-1_electrodes.tsv").read_text().splitlines()
    places = [line.split("\t") for line in rows[1:257]]
    at = dataset.facts.electrodes.positions()
    for channel, (_, x, y, _, system, _) in enumerate(places):
        (row,), (column,) = np.nonzero(at == channel)
        assert column == int(x) // 10 + (8 if system[0] == "f" else 0)
        assert row == 7 - int(y) // 10 + (8 if system[1] == "p" else 0)


@pytest.mark.real
def test_damaged_bids_files_are_named(hyser_bids: Path) -> None:
    where = hyser_bids / "sub-01/ses-1/emg"
    bdf = where / "sub-01_ses-1_task-gesture17_emg.bdf"
    whole = bdf.read_bytes()
    broken(bdf, whole[:-1000], "hyser-bids", "bytes that its header promises")
    broken(bdf, whole[:100], "hyser-bids", "less than a header")
    broken(bdf, b"", "hyser-bids", "less than a header")
    bdf.write_bytes(whole)
    events = where / "sub-01_ses-1_task-gesture17_events.tsv"
    text = events.read_text()
    broken(events, text.replace("\t17\t", "\t18\t").encode(), "hyser-bids", "expected gesture 17")
    events.write_text(text.replace("12288", "999999"))
    broken(bdf, whole, "hyser-bids", "annotation within")
    broken(
        events, text.replace("12288", "soon").encode(), "hyser-bids", "number in column 'sample'"
    )
    broken(events, b"onset\tduration\n", "hyser-bids", "no rows")


def test_any_emg_bids_folder(data: Path) -> None:
    root = layouts.write_bids(data)
    dataset = open_dataset(str(root))
    assert dataset.facts.gestures == ("fist", "open")
    assert dataset.facts.sampling_rate == 1000
    assert dataset.facts.electrodes.positions().tolist() == [[0, 2, 4], [1, 3, 5]]
    recordings = dataset.recordings("sub-01")
    fits_the_protocol(dataset, recordings)
    assert recordings[0].signal.shape == (4000, 6)
    assert [(n.start, n.stop, n.gesture, n.repetition) for n in recordings[0].annotations] == [
        (0, 900, 0, 0), (1000, 1900, 1, 0), (2000, 2900, 0, 1), (3000, 3900, 1, 1),
    ]  # fmt: skip
    channels = root / "sub-01/ses-1/emg/sub-01_ses-1_task-hold_channels.tsv"
    channels.write_text(channels.read_text().replace("c3\t", "c9\t"))
    with pytest.raises(DataError, match=r"channels.tsv: expected the EMG channels.*'c9'"):
        open_dataset(str(root))


# Archives that are not to be trusted


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "a/../../evil", "..\\evil", "C:/evil"]
)
def test_archive_that_would_leave_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "hello")
    with pytest.raises(DataError, match=r"x\.zip: expected files within the archive's own folder"):
        list_files(path)


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.dat", bytes(80 * 2**20))
    with pytest.raises(DataError, match=r"'bomb.dat' claims to unpack from \d+ to \d+ bytes"):
        list_files(path)


def test_zip_with_a_link_or_an_unbounded_packing(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("a.csv")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match=r"x\.zip: expected files, 'a\.csv' is a link"):
        list_files(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.csv", "1,2")
    with pytest.raises(DataError, match=r"'a\.csv' is packed in another way"):
        list_files(path)


def test_zip_member_that_is_longer_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", bytes(30 * 2**20))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 30 * 2**20), struct.pack("<I", 100)))
    (file,) = list_files(path)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"expected an intact 'a\.csv'"):
        file.read()
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".h5"])
def test_small_file_that_unpacks_to_far_too_much(tmp_path: Path, suffix: str) -> None:
    path, zeros = tmp_path / f"bomb{suffix}", np.zeros((2**20, 40))
    if suffix == ".npz":
        np.savez_compressed(path, x=zeros)
    elif suffix == ".mat":
        savemat(path, {"x": zeros}, do_compression=True)
    else:
        with h5py.File(path, "w") as archive:
            archive.create_dataset("x", data=zeros, compression="gzip")
    assert path.stat().st_size < 2 * 2**20
    (file,) = list_files(tmp_path)
    with pytest.raises(DataError, match=f"bomb{suffix}") as caught:
        read_arrays(file)
    assert "MemoryError" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hdf5_chunk_that_inflates_to_more_than_its_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as archive:
        x = archive.create_dataset("x", (64,), "f8", chunks=(64,), compression="gzip")
        x.id.write_direct_chunk((0,), zlib.compress(bytes(300 * 2**20)))
    (file,) = list_files(tmp_path)
    with pytest.raises(
        DataError, match=r"bomb\.h5: expected an HDF5 file, got: \d+ bytes that unpack"
    ):
        read_arrays(file)


def test_hdf5_whose_numbers_lie_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(range(64)))
    with h5py.File(tmp_path / "x.h5", "w") as archive:
        archive.create_dataset(
            "x", (64,), "u1", external=[(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        )
    file = next(one for one in list_files(tmp_path) if one.name == "x.h5")
    with pytest.raises(DataError, match=r"x\.h5: .*'x' whose numbers lie in another file"):
        read_arrays(file)


def test_old_matlab_file_is_not_taken_for_a_compressed_one(tmp_path: Path) -> None:
    numbers = np.arange(90000, dtype="f8")[:, None]
    savemat(tmp_path / "a.mat", {"emg": numbers}, format="4")
    content = bytearray((tmp_path / "a.mat").read_bytes())
    content[128:136] = struct.pack("<II", 15, 1000)  # the mark of a compressed element
    (tmp_path / "a.mat").write_bytes(content)
    (file,) = list_files(tmp_path)
    assert read_arrays(file)["emg"].shape == (90000, 1)


def test_labels_that_shrink_to_nothing_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=layouts.noise(1000, 4), y=np.zeros(2**21))
    (file,) = list_files(tmp_path)
    assert read_arrays(file)["y"].shape == (2**21,)


def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    root, other = tmp_path / "mine", tmp_path / "other"
    root.mkdir()
    path = write_described(root, ".npz")
    shutil.copytree(root / "s1", other)
    shutil.rmtree(root / "s1")
    (root / "s1").symlink_to(other)
    with pytest.raises(DataError, match=r"mine/s1: .*a link that leaves it"):
        open_dataset(str(path))
    (root / "s1").unlink()
    (root / "s1").mkdir()
    for file in other.iterdir():
        (root / "s1" / file.name).symlink_to(file)
    with pytest.raises(DataError, match=r"mine/s1/day1_r1\.npz: .*a link that leaves it"):
        open_dataset(str(path)).recordings("1")
    # Links within the folder, as git-annex makes them, are files like others.
    other.rename(root / "objects")
    for file in (root / "s1").iterdir():
        file.unlink()
        file.symlink_to(root / "objects" / file.name)
    assert len(open_dataset(str(path)).recordings("1")) == 4
    (root / "s3.zip").symlink_to(tmp_path / "elsewhere.zip")
    with pytest.raises(DataError, match=r"s3\.zip: .*a link that leaves it"):
        open_dataset(str(path))


def test_flat_channel_is_refused_or_filled_in(data: Path) -> None:
    path = layouts.write_capgmyo(data, "a", subjects=1) / "dba-preprocessed-001/001-001-001.mat"
    variables = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    variables["data"][:, 9] = 0
    savemat(path, variables)
    dataset = open_dataset("capgmyo-dba")
    with pytest.raises(DataError, match="channel 9 is flat"):
        dataset.recordings("subject1")
    dataset.repair = True
    signal = dataset.recordings("subject1")[0].signal
    # Channel 9 is column 1, row 1: beside it lie rows 0 and 2 and columns 0 and 2.
    assert np.allclose(signal[:, 9], signal[:, [8, 10, 1, 17]].mean(axis=1), atol=1e-6)


# Described recordings


YAML = """
files: s{subject}/day{session}_r{repetition}.npz
signal: emg
labels: label
sampling_rate: 1000
unit: mV
electrodes: {layout: ring, columns: 4}
gestures: {0: rest, 5: fist}
ignore: [9]
calibration_session: "1"
samples: 50
"""


def write_described(folder: Path, suffix: str) -> Path:
    for subject in (1, 2):
        for session in (1, 2):
            for repetition in (1, 2):
                signal = layouts.noise(500, 4, repetition)
                labels = np.repeat([0, 5, 9, 5, 0], 100)
                path = folder / f"s{subject}" / f"day{session}_r{repetition}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if suffix == ".npz":
                    np.savez(path, emg=signal, label=labels)
                elif suffix == ".mat":
                    savemat(path, {"emg": signal, "label": labels})
                elif suffix == ".h5":
                    with h5py.File(path, "w") as archive:
                        archive["emg"], archive["label"] = signal, labels
                elif suffix == ".csv":
                    table = np.hstack([signal, labels[:, None]])
                    np.savetxt(path, table, delimiter=",", header="a,b,c,d,label", comments="")
                else:
                    np.save(path, np.hstack([signal, labels[:, None]]))
    text = YAML.replace(".npz", suffix)
    if suffix in (".csv", ".npy"):
        text = text.replace("signal: emg", "channels: [0, 1, 2, 3]").replace(
            "labels: label", "labels: 4"
        )
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".h5", ".csv", ".npy"])
def test_described_recordings(tmp_path: Path, suffix: str) -> None:
    dataset = open_dataset(str(write_described(tmp_path, suffix)))
    assert dataset.subjects() == ("1", "2")
    recordings = dataset.recordings("2")
    assert len(recordings) == 4
    fits_the_protocol(dataset, recordings)
    one = recordings[1]
    assert np.allclose(one.signal, layouts.noise(500, 4, 2), atol=1e-6)
    assert [(n.start, n.gesture, n.repetition) for n in one.annotations] == [
        (0, 0, 1), (100, 1, 1), (300, 1, 1), (400, 0, 1),
    ]  # fmt: skip
    assert make_split(dataset, 1).test_sessions == ("2",)


def test_windows_that_were_cut_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 4, 60))
    np.savez(tmp_path / "all.npz", x=x, y=np.arange(40) % 2, who=np.arange(40) // 20,
             turn=np.arange(40) // 10 % 2)  # fmt: skip
    (tmp_path / "mine.yaml").write_text(
        "files: all.npz\nsignal: x\nwindow_axis: 0\nchannel_axis: 1\ntime_axis: 2\nlabels: y\n"
        "subjects_of: who\nrepetitions_of: turn\nsampling_rate: 1000\nsamples: 60\nrepetitions: 2\n"
        "electrodes: {layout: ring, columns: 4}\ngestures: {0: rest, 1: fist}\n"
    )
    dataset = open_dataset(str(tmp_path / "mine.yaml"))
    assert dataset.subjects() == ("0", "1")
    recordings = dataset.recordings("1")
    assert len(recordings) == 20
    assert np.allclose(recordings[3].signal, x[23].T, atol=1e-6)
    fits_the_protocol(dataset, recordings)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sampling_rate: 1000", "sampling_rate: -1", "sampling_rate: expected greater"),
        ("unit: mV", "units: mV", "units: there is no such key"),
        ("signal: emg", "signal: emgs", "expected an array 'emgs', it holds emg, label"),
        ("5: fist", "6: fist", "expected one of the gestures 0, 6, 9, got '5'"),
        ("columns: 4", "columns: 5", r"expected a \(time, 5\) signal"),
        ("s{subject}", "t{subject}", "expected files like"),
        ("day{session}_r{repetition}", "day*_r*", "expected one file for 1/1"),
        ("{subject}", "{person}", "at most once"),
        ("signal: emg", "signal: emg\ntime_axis: 1\nchannel_axis: 0", "expected 4 labels"[:8]),
        ("signal: emg", "- nonsense: [", "no YAML"),
    ],
)
def test_description_that_does_not_fit(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_described(tmp_path, ".npz")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message) as caught:
        first_recordings(str(path))
    assert "\n" not in str(caught.value)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = write_described(tmp_path, ".npz")
    np.savez(tmp_path / "s1/day1_r1.npz", emg=np.array([{}], dtype=object), label=[1])
    with pytest.raises(DataError, match=r"day1_r1.npz: expected NumPy arrays without pickles"):
        open_dataset(str(path)).recordings("1")
