"""Splits that leak flatter, say so everywhere, and come nowhere near an honest result."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import call, refused
from matplotlib.text import Text
from people import record, write

import myodistill
from myodistill.bundle import Bundle
from myodistill.config import Settings
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.data import FoldData
from myodistill.errors import DataError, LeakageError, MyoDistillError, OutputError, SettingsError
from myodistill.evaluation import day_results, leaking_results, results
from myodistill.evaluation.leaking_results import ACCURACY, FILE, HONEST, SPLITS, TABLE
from myodistill.evaluation.protocol import require_one_protocol
from myodistill.files import LEAKING
from myodistill.lock import locked_folder
from myodistill.reporting.figures.leaking import leaking_splits
from myodistill.reporting.run import read_run
from myodistill.signals.preprocessing import recentring
from myodistill.signals.windows import Windows
from myodistill.splits import Split, make_split, unseen_windows
from myodistill.studies import leaking_methods
from myodistill.studies import leaking_splits as splits
from myodistill.studies.experiment import run_experiment
from myodistill.studies.leakage import LeakageStudy, evaluate_leakage
from myodistill.studies.leaking_methods import PersonFiles, _recentred
from myodistill.studies.leaking_splits import LeakingFold, PersonPart

METHODS = ("lda-time-domain", "svm-time-domain")


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> str:
    """People whose gestures nothing tells apart, in windows that overlap by nine tenths."""
    takes = record(subjects=3, contrast=1.0, seed=1)
    return str(write(tmp_path_factory.mktemp("noise") / "people", takes, samples=50, step=5))


@pytest.fixture(scope="module")
def scored(noise: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    out = tmp_path_factory.mktemp("out") / "leaking"
    return evaluate_leakage(LeakageStudy(noise, methods=METHODS), out), out


@pytest.fixture
def person(noise: str, tmp_path: Path) -> tuple[Split, Windows]:
    dataset = open_dataset(noise)
    return make_split(dataset, 1), PersonFiles(dataset, "P1", tmp_path).windows()


def sessions(windows: Windows, part: np.ndarray) -> set[str]:
    return {repetition.session for repetition in windows.take(part).seen()}


# What each split is


@pytest.mark.parametrize("name", ["protocol", "repetition", "random-windows"])
def test_what_is_scored_never_trains_and_is_of_the_test_session(
    person: tuple[Split, Windows], name: str
) -> None:
    split, windows = person
    for fold in splits.personal_folds(name, split, "P1", windows, k=2, seed=0):
        (part,) = fold.parts.values()
        assert not set(part.train) & set(part.test)
        assert sessions(windows, part.test) == {"day2"}


def test_the_protocol_trains_on_another_session_and_scores_all_of_the_test(
    person: tuple[Split, Windows],
) -> None:
    split, windows = person
    (fold,) = splits.personal_folds("protocol", split, "P1", windows, k=1, seed=0)
    part = fold.parts["P1"]
    assert windows.take(part.train).seen() == split.calibration("P1", 1)
    assert windows.take(part.test).seen() == split.test("P1")
    assert splits.verdict(fold, {"P1": windows}) == "passes"


def test_a_repetition_is_held_out_whole_and_others_of_its_session_train(
    person: tuple[Split, Windows],
) -> None:
    split, windows = person
    folds = splits.personal_folds("repetition", split, "P1", windows, k=2, seed=0)
    held = [windows.take(fold.parts["P1"].test).seen() for fold in folds]
    assert frozenset().union(*held) == split.test("P1")
    for fold, of_fold in zip(folds, held, strict=True):
        part = fold.parts["P1"]
        assert len(of_fold) == 1
        assert sessions(windows, part.train) == {"day2"}
        assert not of_fold & windows.take(part.train).seen()
        assert splits.verdict(fold, {"P1": windows}) == "passes"


def test_shuffled_windows_overlap_and_as_many_train_as_in_the_protocol(
    person: tuple[Split, Windows],
) -> None:
    split, windows = person
    (fold,) = splits.personal_folds("random-windows", split, "P1", windows, k=2, seed=0)
    part = fold.parts["P1"]
    (honest,) = splits.personal_folds("protocol", split, "P1", windows, k=2, seed=0)
    assert len(part.train) == len(honest.parts["P1"].train)
    distance = np.abs(windows.starts[part.test][:, None] - windows.starts[part.train]).min(axis=1)
    assert (distance < windows.samples).mean() > 0.99
    assert splits.verdict(fold, {"P1": windows}) == "refuses"


def test_the_subject_split_trains_on_nobody_who_is_scored(noise: str, tmp_path: Path) -> None:
    dataset = open_dataset(noise)
    windows = {p: PersonFiles(dataset, p, tmp_path).windows() for p in dataset.subjects()}
    split = make_split(dataset, 1)
    fold = splits.subject_fold(split, split.heldout, windows, seed=0)
    (new,) = split.heldout
    assert len(fold.parts[new].train) == 0
    assert windows[new].take(fold.parts[new].unlabelled).seen() == split.unlabelled(new, 0)
    assert all(len(fold.parts[other].test) == 0 for other in split.pretraining)
    assert splits.verdict(fold, windows) == "passes"


def test_as_many_windows_train_as_a_kernel_method_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "MOST", 30)
    parts = {name: PersonPart(np.arange(count)) for name, count in (("P1", 100), ("P2", 200))}
    fold = splits.pooled_fold(parts, seed=0)
    assert [len(part.train) for part in fold.parts.values()] == [10, 20]


def test_an_honest_split_that_leaks_is_refused(person: tuple[Split, Windows]) -> None:
    split, windows = person
    part = splits.shuffled(split, "P1", windows, k=2, seed=0)
    with pytest.raises(LeakageError, match="that the protocol split never saw"):
        splits.verdict(LeakingFold("protocol", {"P1": part}), {"P1": windows})


def test_nothing_scored_re_centres_a_person(noise: str, tmp_path: Path) -> None:
    files = PersonFiles(open_dataset(noise), "P1", tmp_path)
    windows = files.windows()
    for part in (
        PersonPart(np.arange(50), np.arange(200, 230)),
        PersonPart(np.arange(0), np.arange(200, 230), np.arange(50)),
    ):
        subject, read = _recentred(files, files.dataset.facts.spec(), part)
        expected = recentring(windows.take(np.arange(50)))
        np.testing.assert_array_equal(subject.preprocessing.matrix, expected)
        assert read is not None
        labels = subject.filtered().select(read).labels
        np.testing.assert_array_equal(labels, windows.labels[[*part.train, *part.test]])


# What they flatter


def test_pure_noise_is_decoded_by_whoever_has_seen_its_other_half(
    scored: tuple[pd.DataFrame, Path],
) -> None:
    rows = leaking_results.summary(scored[0]).to_dict("records")
    means = {(row["method"], row["split"]): row for row in rows}
    for method in METHODS:
        for split in ("protocol", "subject", "repetition"):
            assert means[method, split]["mean"] < 45  # chance is 33
    remembered = means["svm-time-domain", "random-windows"]
    assert remembered["mean"] > 70
    assert remembered["flatters"] > 30
    assert means["svm-time-domain", "pooled-windows"]["flatters"] > 20
    worst = scored[0].groupby(["method", "split"])[ACCURACY].min()
    assert remembered["worst"] == pytest.approx(100 * worst["svm-time-domain", "random-windows"])


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train networks for one epoch."""
    for name in ("ONE_PERSON", "MANY_PEOPLE"):
        settings = getattr(leaking_methods, name).model_copy(update={"num_epochs": 1})
        monkeypatch.setattr(leaking_methods, name, settings)


@pytest.mark.usefixtures("briefly")
def test_networks_take_part_and_the_same_seed_gives_the_same(noise: str, tmp_path: Path) -> None:
    study = LeakageStudy(
        noise,
        methods=("covariance", "population"),
        splits=("random-windows", "pooled-windows"),
        k=1,
        subjects=("P1",),
    )
    first = evaluate_leakage(study, tmp_path / "first")
    pd.testing.assert_frame_equal(first, evaluate_leakage(study, tmp_path / "again"))
    assert list(first["split"].unique()) == [name for name in SPLITS if name != "repetition"]
    assert set(first["guard"]) == {"passes", "refuses"}
    assert np.isnan(leaking_results.summary(first)["low"]).all()  # one person
    assert "nan" not in leaking_results.markdown(first)


def test_another_seed_draws_other_windows(person: tuple[Split, Windows]) -> None:
    split, windows = person
    first, same, other = (
        splits.shuffled(split, "P1", windows, k=1, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.test, same.test)
    assert not np.array_equal(first.test, other.test)
    assert not np.array_equal(first.train, other.train)


# Stamped


def test_every_file_column_table_and_figure_is_stamped(scored: tuple[pd.DataFrame, Path]) -> None:
    frame, out = scored
    assert {path.name for path in out.iterdir() if not path.name.startswith(LEAKING)} == {
        "run.lock"
    }
    numbers = frame.select_dtypes("float").columns
    assert all(name.startswith(LEAKING) for name in numbers)
    text = (out / TABLE).read_text()
    assert text.startswith(LEAKING)
    heads = [line for line in text.splitlines() if line.startswith("| method")]
    assert len(heads) == 2
    assert all(f"{LEAKING} {split}" in heads[0] for split in HONEST)
    assert all(table.title is not None and LEAKING in str(table.title)
               for table in leaking_results.render(frame))  # fmt: skip
    picture = leaking_splits(frame)
    drawn = [text.get_text() for text in picture.figure.findobj(Text)]
    assert any(text.startswith(f"{LEAKING} splits") for text in drawn)
    assert {f"{LEAKING} {split}" for split in HONEST} <= set(drawn)
    assert not {"mean", "accuracy"} & set(pd.read_csv(out / f"{picture.name}.csv").columns)
    pd.testing.assert_frame_equal(leaking_results.read(out / FILE), frame)


# Impossible to mix with honest results


def test_whatever_reads_results_refuses_them(
    scored: tuple[pd.DataFrame, Path], tmp_path: Path
) -> None:
    (tmp_path / "results.parquet").write_bytes((scored[1] / FILE).read_bytes())
    for read in (results.read, day_results.read):
        with pytest.raises(DataError, match="scores of LEAKING splits, which no honest table"):
            read(tmp_path / "results.parquet")
    with pytest.raises(DataError, match="LEAKING"):
        read_run(tmp_path)
    with pytest.raises(DataError, match="honest scores, got those of LEAKING splits"):
        require_one_protocol(scored[0])


def test_honest_columns_do_not_make_a_leaking_table_honest(
    scored: tuple[pd.DataFrame, Path], tmp_path: Path
) -> None:
    mixed = scored[0].assign(stage="baseline", model="m", loss="", fold=1, parameters=0)
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "seconds"):
        mixed[name] = 0.5
    results.write(mixed, tmp_path / "results.parquet")
    with pytest.raises(DataError, match="LEAKING"):
        results.read(tmp_path / "results.parquet")
    with pytest.raises(DataError, match="LEAKING"):
        require_one_protocol(mixed)
    results.write(mixed.drop(columns=[ACCURACY, leaking_results.BALANCED]), tmp_path / "a.parquet")
    assert len(results.read(tmp_path / "a.parquet")) == len(mixed)  # it was these that told


def test_honest_results_are_no_leaking_ones(tmp_path: Path) -> None:
    pd.DataFrame({"accuracy": [0.5]}).to_parquet(tmp_path / FILE)
    with pytest.raises(DataError, match="expected scores of LEAKING splits, got: no column"):
        leaking_results.read(tmp_path / FILE)


def test_a_folder_holds_one_kind(
    noise: str, scored: tuple[pd.DataFrame, Path], tmp_path: Path
) -> None:
    before = sorted(scored[1].iterdir())
    with pytest.raises(OutputError, match="to be absent in their folder, it holds LEAKING"):
        run_experiment(Settings.load({"dataset": noise, "out": scored[1], "k": 1}))
    assert sorted(scored[1].iterdir()) == before
    with locked_folder(tmp_path / "run"):
        pass
    (tmp_path / "run" / "settings.json").write_text("{}")
    with pytest.raises(OutputError, match="to be alone in their folder, it holds settings"):
        evaluate_leakage(LeakageStudy(noise, methods=METHODS), tmp_path / "run")
    assert not list((tmp_path / "run").glob(f"{LEAKING}*"))


@pytest.mark.usefixtures("briefly")
def test_no_bundle_is_made(noise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object, **__: object) -> None:
        raise AssertionError("a bundle")

    monkeypatch.setattr(Bundle, "__init__", made)
    study = LeakageStudy(noise, methods=("covariance",), splits=("random-windows",), k=1)
    evaluate_leakage(study, tmp_path / "out")
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]:
        with pytest.raises(MyoDistillError):
            Bundle.load(path)


def test_no_honest_path_takes_a_leaking_fold(noise: str, person: tuple[Split, Windows]) -> None:
    split, windows = person
    fold = LeakingFold("random-windows", {"P1": splits.shuffled(split, "P1", windows, k=2, seed=0)})
    assert not isinstance(fold, Split)
    with pytest.raises(AttributeError):
        unseen_windows(fold, windows, "P1", [])  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        FoldData(open_dataset(noise), fold, Settings.load({"dataset": noise}), None, {}, None)  # type: ignore[arg-type]


def test_nothing_but_the_study_knows_of_these_splits() -> None:
    root = Path(myodistill.__file__).parent
    known = re.compile(
        r"import .*\bleaking_(?:splits|methods)\b|\.leaking_(?:splits|methods) import"
    )
    users = {p.name for p in root.rglob("*.py") if known.search(p.read_text(encoding="utf-8"))}
    assert users == {"leakage.py", "leaking_methods.py"}


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"splits": ("random-window",)},
            "unknown split 'random-window': did you mean random-windows",
        ),
        ({"methods": ("lda-time-domian",)}, "unknown method 'lda-time-domian': did you mean"),
        ({"methods": ("covariance", "covariance")}, "methods: expected one or more names, each"),
        ({"splits": ()}, "splits: expected one or more names, each given once"),
        ({"seed": -1}, "seed: expected 0 to"),
        ({"k": 3}, "k: expected 1 to 2 calibration repetitions, got 3"),
        ({"subjects": ("P9",)}, "unknown held-out subject 'P9'"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    noise: str, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(MyoDistillError, match=re.escape(message)):
        evaluate_leakage(LeakageStudy(noise, **change), tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_copied_recording_would_make_honest_splits_leak(tmp_path: Path) -> None:
    takes = record(subjects=3)
    takes["P2", "day2"] = takes["P1", "day1"]
    dataset = str(write(tmp_path / "people", takes))
    with pytest.raises(LeakageError):
        evaluate_leakage(LeakageStudy(dataset, methods=("lda-time-domain",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_repetition_cannot_be_held_out(tmp_path: Path) -> None:
    dataset = str(write(tmp_path / "people", record(subjects=2, repetitions=1)))
    with pytest.raises(SettingsError, match="at least 2 repetitions a session"):
        evaluate_leakage(LeakageStudy(dataset, methods=("lda-time-domain",)), tmp_path / "out")
    assert not (tmp_path / "out" / FILE).exists()


def test_the_command_shows_both_tables(
    noise: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", "leakage", "--dataset", noise, "--method", "lda-time-domain"]
    out = str(tmp_path / "out")
    code, shown, _ = call(capsys, monkeypatch, *words, "--split", "random-windows", "--out", out)
    assert code == 0
    assert "LEAKING splits beside honest ones" in shown
    assert "LEAKING: points above the honest split" in shown
    assert f"{out}/{FILE}" in shown
    line = refused(capsys, monkeypatch, *words, "--split", "shuffled", "--out", out)
    assert "unknown split 'shuffled'" in line
    assert "results.parquet" in refused(capsys, monkeypatch, "report", out)
