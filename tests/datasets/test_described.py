"""Recordings of one's own: nobody gets another's samples, and every wrong key is one line."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_loaders import fits_the_protocol, write_described

from myodistill.bundle import Bundle
from myodistill.config import Settings
from myodistill.datasets.dataset import Facts
from myodistill.datasets.description import read_description
from myodistill.datasets.registry import facts_of, open_dataset
from myodistill.errors import DataError
from myodistill.reporting.figures import draw
from myodistill.reporting.run import read_run
from myodistill.studies.experiment import run_experiment

BASE: dict[str, Any] = {
    "files": "all.npz",
    "signal": "x",
    "labels": "y",
    "subjects_of": "who",
    "repetitions_of": "turn",
    "sampling_rate": 1000,
    "samples": 50,
    "repetitions": 2,
    "electrodes": {"layout": "ring", "columns": 4},
    "gestures": {0: "rest", 1: "fist"},
    "ignore": [9],
}


def described(folder: Path, **changes: object) -> str:
    values = {key: value for key, value in (BASE | changes).items() if value != "absent"}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def every_recording(name: str) -> None:
    dataset = open_dataset(name)
    for subject in dataset.subjects():
        dataset.recordings(subject)


def refused(name: str) -> str:
    with pytest.raises(DataError) as caught:
        every_recording(name)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


def one_after_another(folder: Path, who: list[object]) -> tuple[np.ndarray, np.ndarray]:
    """One file of several people: 100 samples of rest and of fist, twice; turns count on."""
    count = len(who)
    x = layouts.noise(400 * count, 4)
    repetition_index = np.repeat(np.array(who), 400)
    turn = np.concatenate([np.repeat([7 + 2 * i, 8 + 2 * i], 200) for i in range(count)])
    y = np.tile(np.repeat([0, 1], 100), 2 * count)
    np.savez(folder / "all.npz", x=x, y=y, who=repetition_index, turn=turn)
    return x, repetition_index


def test_a_continuous_file_of_several_people_is_told_apart(tmp_path: Path) -> None:
    x, repetition_index = one_after_another(tmp_path, ["anna", "bert", "cleo"])
    dataset = open_dataset(described(tmp_path))
    assert dataset.subjects() == ("anna", "bert", "cleo")
    for subject in dataset.subjects():
        (one,) = dataset.recordings(subject)
        assert np.array_equal(one.signal, x[repetition_index == subject].astype("f4"))
        assert [note.repetition for note in one.annotations] == [0, 0, 1, 1]
        fits_the_protocol(dataset, [one])


def test_no_stretch_straddles_two_people(tmp_path: Path) -> None:
    # The label lasts across the change of person: anna, bert, anna, 150 samples each.
    x = layouts.noise(450, 4)
    repetition_index = np.repeat(["anna", "bert", "anna"], 150)
    np.savez(tmp_path / "all.npz", x=x, y=np.zeros(450), who=repetition_index, turn=np.ones(450))
    dataset = open_dataset(described(tmp_path))
    first, second = dataset.recordings("anna")
    assert np.array_equal(first.signal, x[:150].astype("f4"))
    assert np.array_equal(second.signal, x[300:].astype("f4"))
    assert [(n.start, n.stop) for n in (*first.annotations, *second.annotations)] == [(0, 150)] * 2
    np.savez(
        tmp_path / "all.npz",
        x=x,
        y=np.zeros(450),
        who=np.tile(["anna", "bert"], 225),
        turn=np.ones(450),
    )
    assert "at least 50 samples of one gesture of anna" in refused(described(tmp_path))


def test_windows_of_several_people_count_their_own_repetitions(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 4, 60))
    who, turn = np.repeat(["anna", "bert"], 4), np.arange(8) // 2
    np.savez(tmp_path / "all.npz", x=x, y=np.arange(8) % 2, who=who, turn=turn)
    dataset = open_dataset(described(tmp_path, window_axis=0, channel_axis=1, time_axis=2))
    for place, subject in enumerate(("anna", "bert")):
        recordings = dataset.recordings(subject)
        assert [one.annotations[0].repetition for one in recordings] == [0, 0, 1, 1]
        assert np.allclose(recordings[0].signal, x[4 * place].T, atol=1e-6)


def test_people_with_numbers_are_named_by_them(tmp_path: Path) -> None:
    one_after_another(tmp_path, [1.0, 2.0, 10.0])
    assert open_dataset(described(tmp_path)).subjects() == ("1", "2", "10")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../../../ESCAPED", "subject: expected a name of 1 to 100 printable characters"),
        ("/tmp/ESCAPED", "subject: expected a name"),
        ("a\\b", "subject: expected a name"),
        ("C:", "subject: expected a name"),
        ("..", "subject: expected a name"),
        (".hidden", "subject: expected a name"),
        (" anna", "subject: expected a name"),
        ("an\nna", "subject: expected a name"),
        ("x" * 101, "subject: expected a name"),
        ("BERT", "differ in more than case"),
        ("logs", "expected a name that no folder of a run has"),
        ("Unfinished", "expected a name that no folder of a run has"),
        ("pretrain-tcn", "expected a name that no folder of a run has"),
    ],
)
def test_people_whose_name_is_no_folder(tmp_path: Path, name: str, message: str) -> None:
    one_after_another(tmp_path, [name, "bert"])
    assert message in refused(described(tmp_path))


def test_accents_and_other_scripts_are_names(tmp_path: Path) -> None:
    one_after_another(tmp_path, ["Zoë", "二郎", "x²"])
    dataset = open_dataset(described(tmp_path))
    assert dataset.subjects() == ("Zoë", "x²", "二郎")
    one_after_another(tmp_path, ["Zoe\u0308", "Zo\u00eb"])
    assert "differ in more than case" in refused(described(tmp_path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.full(400, np.nan)}, "words or finite numbers in 'y', got nan or inf"),
        ({"y": np.full(400, 1e300)}, "expected one of the gestures 0, 1, 9, got '1e+300'"),
        ({"y": np.zeros(400, "c8")}, "words or finite numbers in 'y'"),
        ({"y": np.zeros(400, "M8[s]")}, "words or finite numbers in 'y'"),
        ({"y": np.zeros(7)}, "expected 400 labels, got 7 in 'y'"),
        ({"who": np.full(400, np.nan)}, "finite numbers in 'who'"),
        ({"turn": np.full(400, 0.5)}, "expected whole numbers in 'turn'"),
        ({"turn": np.full(400, 1e300)}, "whole numbers up to a million in 'turn'"),
        ({"turn": np.full(400, "a")}, "whole numbers up to a million in 'turn'"),
        ({"x": np.zeros((400, 4), "c16")}, r"table of numbers, got complex128"),
        ({"x": np.zeros((400, 4), [("a", "f4")])}, "table of numbers, got [("),
        ({"x": np.full((400, 4), 1e300)}, "expected finite samples, got inf"),
    ],
)
def test_arrays_that_are_no_signal_or_labels(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    whole = {
        "x": layouts.noise(400, 4),
        "y": np.zeros(400),
        "who": np.full(400, 1),
        "turn": np.ones(400),
    }
    np.savez(tmp_path / "all.npz", allow_pickle=False, **(whole | arrays))
    assert message in refused(described(tmp_path))


def test_big_endian_numbers_are_numbers(tmp_path: Path) -> None:
    x, _ = one_after_another(tmp_path, ["anna"])
    whole = dict(np.load(tmp_path / "all.npz"))
    np.savez(tmp_path / "all.npz", **(whole | {"x": x.astype(">f8")}))
    (one,) = open_dataset(described(tmp_path)).recordings("anna")
    assert np.array_equal(one.signal, x.astype("f4"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_rate": float("nan")}, "a number that is not finite"),
        ({"sampling_rate": float("inf")}, "a number that is not finite"),
        ({"sampling_rate": 1e300}, "sampling_rate: expected"),
        ({"sampling_rate": True}, "sampling_rate: expected"),
        ({"step": 0}, "step: expected greater"),
        ({"samples": -3}, "samples: expected greater"),
        ({"samples": 10**30}, "an integer beyond 64 bits"),
        ({"repetitions": 0}, "repetitions: expected greater"),
        ({"channels": [-5, 1]}, "channels: expected greater"),
        ({"channels": [1, 1]}, "channels: expected each value once, 1 is there twice"),
        ({"electrodes": {"layout": "grid", "rows": 10**9, "columns": 4}}, "electrodes.rows: "),
        ({"electrodes": {"layout": "grid", "rows": 4096, "columns": 4096}}, "at most 4096"),
        ({"gestures": {0: "fist", 1: "fist"}}, "expected gestures with different names"),
        ({"gestures": {0: "rest"}}, "gestures: dictionary should have at least 2"),
        ({"gestures": {0: "a", "0": "b"}}, "each label once"),
        ({"ignore": [1]}, "each label once"),
        ({"passband": [400, 20]}, "passband of 0 < low < high, got 400 to 20"),
        ({"passband": [20, 600]}, "up to the Nyquist frequency 500 Hz, got 600"),
        ({"mains": 900}, "below the Nyquist frequency 500 Hz"),
        ({"scale": float("nan")}, "a number that is not finite"),
        ({"scale": 0.0}, "scale that is not 0"),
        ({"test_sessions": ["2", "1"]}, "test_sessions without the calibration session"),
        ({"test_sessions": ["2", "2"]}, "test_sessions: expected each value once"),
        ({"calibration_session": "../x"}, "session: expected a name"),
        ({"files": "a\nb.npz"}, "files: expected one line of printable characters"),
        ({"root": "x" * 5000}, "root: string should have at most 300 characters"),
        ({"root": "x" * 290}, "there is no such place"),
        ({"root": "~nobody-of-that-name"}, "there is no such place"),
        ({"root": "\0"}, "root: expected one line"),
        ({"files": "{subject}.npz"}, "{subject} in files or subjects_of, not both"),
        ({"files": "*a*b*c*d*e*.npz"}, "at most 4 * in files"),
        ({"labels": "z" * 70}, "expected an array 'zz"),
        ({"labels": {"a": [1] * 999}}, "labels"),
        ({"time_axis": 9}, "time_axis: expected less"),
        ({"time_axis": 1}, "expected an array of 2 axes"),
        ({"unit": ["mV"]}, "unit: expected a valid string"),
        ({"x" * 500: 1}, "there is no such key"),
    ],
)
def test_every_key_is_checked(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    one_after_another(tmp_path, ["anna", "bert"])
    assert message in refused(described(tmp_path, **changes))


def test_a_few_lines_of_yaml_do_not_stand_for_gigabytes(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi")]
    (tmp_path / "mine.yaml").write_text("\n".join([*lines, "unit: *i", "files: [*i]"]))
    assert "mine.yaml: " in refused(str(tmp_path / "mine.yaml"))


@given(
    key=st.sampled_from([*BASE, "root", "step", "channels", "passband", "scale", "time_axis"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    ),
)
def test_any_value_of_any_key_is_taken_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(BASE | {key: value}), encoding="utf-8")
    line = ""
    try:
        read_description(path)
    except DataError as error:
        line = str(error)
    assert "\n" not in line
    assert len(line) < 400
    shutil.rmtree(folder)


def test_repetitions_in_file_names_are_numbers(tmp_path: Path) -> None:
    path = write_described(tmp_path, ".npz")
    (tmp_path / "s1/day1_r1.npz").rename(tmp_path / "s1/day1_r².npz")
    assert "expected a whole number as {repetition}, got '²'" in refused(str(path))


# What a dataset is known by


def test_identity_follows_what_the_recordings_depend_on(tmp_path: Path) -> None:
    one_after_another(tmp_path, ["anna", "bert"])
    first = open_dataset(described(tmp_path)).identity()
    assert open_dataset(described(tmp_path)).identity() == first
    for change in (
        {"labels": "turn"},
        {"step": 7},
        {"samples": 51},
        {"gestures": {0: "rest", 1: "open"}},
        {"gestures": {1: "fist", 0: "rest"}},  # other label numbers
        {"ignore": [8]},
        {"electrodes": {"layout": "grid", "columns": 4}},
        {"channels": [0, 1, 2, 3]},
        {"scale": 2.0},
        {"unit": "mV"},
    ):
        assert open_dataset(described(tmp_path, **change)).identity() != first, change
    turned = dict(reversed(BASE.items()))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(turned, sort_keys=False))
    assert open_dataset(str(tmp_path / "mine.yaml")).identity() == first
    described(tmp_path, title="Mine", root=str(tmp_path.resolve()))
    moved = shutil.copytree(tmp_path, tmp_path.parent / "elsewhere" / "folder")  # keeps the times
    described(moved, title="Mine")
    assert (
        open_dataset(str(moved / "mine.yaml")).identity()
        == open_dataset(described(tmp_path, title="Mine", root=str(tmp_path.resolve()))).identity()
    )
    shutil.rmtree(moved.parent)
    one_after_another(tmp_path, ["anna", "cleo"])
    assert open_dataset(described(tmp_path)).identity() != first


def test_facts_survive_as_plain_json(tmp_path: Path) -> None:
    one_after_another(tmp_path, ["anna", "bert"])
    for facts in (open_dataset(described(tmp_path, unit="mV")).facts, facts_of("capgmyo-dba")):
        assert facts is not None
        values = facts.to_dict()
        assert Facts.from_dict(yaml.safe_load(yaml.safe_dump(values))) == facts
        for damage in ({"samples": "many"}, {"gestures": 3}, {"other": 1}, {"name": "../x"}):
            with pytest.raises(DataError):
                Facts.from_dict(values | damage)
        with pytest.raises(DataError, match="facts"):
            Facts.from_dict([values])


def test_the_catalogue_keeps_its_names(tmp_path: Path) -> None:
    one_after_another(tmp_path, ["anna", "bert"])
    path = Path(described(tmp_path)).rename(tmp_path / "synthetic.yaml")
    assert open_dataset(str(path)).facts.name == "own-synthetic"
    assert open_dataset(
        str(layouts.write_bids(tmp_path).rename(tmp_path / "hyser"))
    ).facts.name == ("own-hyser")
    synthetic = facts_of("synthetic")
    assert synthetic is not None
    assert synthetic.unit == "µV"
    assert facts_of("own-synthetic") is None


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-that-name", "a\0b", ""])
def test_names_that_are_no_path(name: str) -> None:
    with pytest.raises(DataError, match="unknown dataset"):
        open_dataset(name)


def test_a_run_on_a_dataset_of_ones_own_knows_its_unit_and_draws_it(tmp_path: Path) -> None:
    # Two sessions in one file a person; the name is one of the catalogue's.
    for subject in ("anna", "berta"):
        for day in (1, 2):
            x, y = (
                layouts.noise(800, 4, day + 10 * len(subject)),
                np.tile(np.repeat([0, 1], 200), 2),
            )
            turn = np.repeat([1, 2], 400)
            np.savez(tmp_path / f"{subject}-{day}.npz", x=x, y=y, turn=turn)
    changes = {"files": "{subject}-{session}.npz", "subjects_of": "absent", "unit": "mV"}
    path = Path(described(tmp_path, **changes)).rename(tmp_path / "3dc.yaml")
    out, one = tmp_path / "run", {"num_epochs": 1}
    run_experiment(
        Settings(
            dataset=str(path), out=out, fold=(1,), k=(1,), student_model=("log-power-10k",),
            pretrain=one, pretrain_student=one, finetune=one, distill=one,
        )
    )  # fmt: skip
    run = read_run(out)
    assert run.facts == open_dataset(str(path)).facts
    (picture,) = draw("rms-map", run)
    assert set(picture.data["unit"]) == {"mV"}
    bundles = [Bundle.load(file.parent) for file in out.glob("fold-1/seed-*/*/k-1/*/record.json")]
    assert bundles
    assert {bundle.unit for bundle in bundles} == {"mV"}
    (out / "facts.json").write_text('{"name": 3}')
    with pytest.raises(DataError, match="facts"):
        draw("rms-map", read_run(out))
