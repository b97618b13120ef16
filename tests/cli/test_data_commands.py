"""The data commands, and parsers that meet nonsense: always one line, never a traceback."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import layouts
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from conftest import write_threedc
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from myodistill.cli.data import data as app
from myodistill.datasets.arrays import read_arrays
from myodistill.datasets.bids import read_tsv
from myodistill.datasets.description import Description, read_description
from myodistill.datasets.foreign import read_edf, read_mat, read_numbers, read_wfdb
from myodistill.datasets.inspect import draft
from myodistill.datasets.registry import open_dataset
from myodistill.datasets.threedc import ThreeDC
from myodistill.datasets.trees import File, list_files
from myodistill.errors import DataError, MyoDistillError

FUZZ = settings(
    derandomize=True,
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MYODISTILL_DATA", str(tmp_path))
    return tmp_path


def test_list_says_what_is_at_hand(data: Path) -> None:
    write_threedc(data, subjects=2, samples=30)
    lines = run("list").splitlines()
    assert any(line.split()[:2] == ["3dc", "2"] for line in lines)
    assert any("fetch myo" in line for line in lines)


def test_inspect_shows_and_draws(data: Path) -> None:
    write_threedc(data, subjects=2, samples=300)
    out = run("inspect", "3dc", "--all", "--gesture", "pinch grip", "--out", "x/3dc.png")
    assert "2 people, 1×10 ring electrodes, 1000 Hz" in out
    assert "train: 4, test: 4" in out
    assert Path("x/3dc.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(DataError, match="expected one of no motion"):
        run("inspect", "3dc", "--gesture", "wave")
    with pytest.raises(DataError, match="did you mean 3dc"):
        run("inspect", "3dd")


def test_inspect_prints_any_words_and_opens_a_store(data: Path) -> None:
    from test_loaders import write_described

    path = write_described(data, ".npz")
    path.write_text(path.read_text() + "title: '[/x] :smile: [red]mine'\n")
    assert "[/x] :smile: [red]mine: 2 people" in run("inspect", str(path))
    store = run("prepare", str(path), "--out", "p", "--raw").split(":")[0]
    assert "[/x] :smile: [red]mine: 2 people" in run("inspect", store)
    with pytest.raises(DataError, match="unknown dataset"):
        run("inspect", "x" * 5000)
    with pytest.raises(DataError, match=r"only: expected a regular expression, got '\['"):
        run("fetch", "3dc", "--only", "[")


def test_the_draft_quotes_what_yaml_would_read_otherwise(tmp_path: Path) -> None:
    arrays = {"no": np.arange(900) % 2, "a: b": np.zeros((900, 4))}
    np.savez(tmp_path / "w.npz", allow_pickle=False, **arrays)
    values = yaml.safe_load(draft(tmp_path / "w.npz"))
    assert (values["signal"], values["labels"]) == ("a: b", "no")
    Description.model_validate(values)


def test_prepare_command(data: Path) -> None:
    write_threedc(data, subjects=2, samples=60)
    out = run("prepare", "3dc", "--out", "p", "--subjects", "Participant2", "--repair")
    assert "1 people" in out
    assert out.count("p/3dc-") == 2
    assert (
        run("prepare", "3dc", "--out", "p", "--subjects", "Participant2", "--repair").count(
            "p/3dc-"
        )
        == 1
    )


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".h5", ".csv", ".npy"])
def test_the_draft_of_unknown_files_opens_them(tmp_path: Path, suffix: str) -> None:
    from test_loaders import write_described

    write_described(tmp_path, suffix)
    text = run("inspect", str(tmp_path / "s1"))
    assert "4 files" in text
    assert yaml.safe_load(text)["gestures"] == {0: "gesture 0", 5: "gesture 5", 9: "gesture 9"}
    text = text.replace("day*_r*", "day{session}_r{repetition}")
    (tmp_path / "draft.yaml").write_text(text)
    dataset = open_dataset(str(tmp_path / "draft.yaml"))
    (one, *_) = dataset.recordings("subject")
    assert one.signal.shape == (500, 4)
    assert {note.gesture for note in one.annotations} == set()  # a window of 250 fits none


def test_draft_of_windows_cut_before(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", x=np.zeros((900, 16, 60), "f4"), y=np.arange(900) % 3)
    values = yaml.safe_load(draft(tmp_path / "w.npz"))
    assert (values["window_axis"], values["time_axis"], values["channel_axis"]) == (0, 2, 1)
    assert values["labels"] == "y"
    Description.model_validate(values)
    with pytest.raises(DataError, match="expected a file or folder"):
        draft(tmp_path / "none")
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match=r"expected \.csv"):
        draft(tmp_path / "e")


# Fuzzing


def file(content: bytes, name: str = "x.bin") -> File:
    return File(name, f"somewhere/{name}", lambda: content)


def mat() -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"emg": np.arange(20.0).reshape(10, 2), "p": {"a": [1, 2]}, "t": "text"})  # type: ignore[arg-type]
    return buffer.getvalue()


def bdf(folder: Path) -> bytes:
    layouts.write_bdf(folder / "x.bdf", layouts.noise(2048, 2), ["a", "b"])
    return (folder / "x.bdf").read_bytes()


def survives(parse, content: bytes) -> None:  # type: ignore[no-untyped-def]
    """A parser gives a result or one line that names the file."""
    line = "x."
    try:
        parse(content)
    except MyoDistillError as error:
        line = str(error)
    assert "x." in line
    assert "\n" not in line


def damage(whole: bytes, cuts: list[tuple[int, int]], length: int) -> bytes:
    content = bytearray(whole[: max(0, len(whole) - length)])
    for place, value in cuts:
        if content:
            content[place % len(content)] = value
    return bytes(content)


CUTS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12)
LENGTH = st.one_of(st.just(0), st.integers(0, 3000))


@FUZZ
@given(content=st.binary(max_size=300))
@example(content=b"\x89HDF\r\n\x1a\n")
@example(content=b"PK\x03\x04")
@example(content=b"\x93NUMPY\x01\x00")
def test_nonsense_is_one_line(content: bytes, tmp_path: Path) -> None:
    for suffix in (".csv", ".npy", ".npz", ".mat", ".h5", ".tsv"):
        survives(lambda c, s=suffix: read_arrays(file(c, f"x{s}")), content)
    survives(lambda c: read_numbers(file(c)), content)
    survives(lambda c: read_tsv(file(c)), content)
    survives(lambda c: read_edf(file(c, "x.bdf")), content)
    survives(lambda c: read_wfdb(file(c, "x.hea"), file(b"12", "x.dat")), content)
    survives(lambda c: ThreeDC.parse(ThreeDC.__new__(ThreeDC), file(c)), content)
    (tmp_path / "x.zip").write_bytes(content)
    survives(lambda _: list_files(tmp_path / "x.zip"), content)
    (tmp_path / "x.yaml").write_bytes(content)
    survives(lambda _: read_description(tmp_path / "x.yaml"), content)


@FUZZ
@given(cuts=CUTS, length=LENGTH)
def test_damaged_mat(cuts: list[tuple[int, int]], length: int) -> None:
    survives(lambda c: read_mat(file(c, "x.mat"), "emg"), damage(mat(), cuts, length))


@FUZZ
@given(cuts=CUTS, length=LENGTH)
def test_damaged_bdf(cuts: list[tuple[int, int]], length: int, tmp_path: Path) -> None:
    survives(lambda c: read_edf(file(c, "x.bdf")), damage(bdf(tmp_path), cuts, length))


@FUZZ
@given(cuts=CUTS, text=st.text("0123456789 /.()x-\n#", max_size=60))
@example(cuts=[], text="x 1 2048 10\nx.dat 16 1(0)/mV 16 0 0 0 0 c")
@example(cuts=[], text="x 1 1e999 9999999999\nx.dat 16 1 16 0 0 0 0 c")
def test_damaged_wfdb_header(cuts: list[tuple[int, int]], text: str) -> None:
    whole = b"x 2 2048 4\nx.dat 16 200/mV 16 0 1 2 0 a\nx.dat 16 200/mV 16 0 3 4 0 b\n"
    for content in (damage(whole, cuts, 0), text.encode()):
        survives(lambda c: read_wfdb(file(c, "x.hea"), file(bytes(16), "x.dat")), content)


@FUZZ
@given(cuts=CUTS, length=LENGTH)
@example(cuts=[(61083, 0)], length=0)
def test_damaged_zip(cuts: list[tuple[int, int]], length: int, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.dat", bytes(range(256)) * 4)
        archive.writestr("c.txt", "hello")
    path.write_bytes(damage(path.read_bytes(), cuts, length))
    survives(lambda _: [one.read() for one in list_files(path)], b"")
