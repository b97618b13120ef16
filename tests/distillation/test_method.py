"""The whole method on a few generated people: idempotent, resumable, and it does not leak."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from myodistill.bundle import Bundle
from myodistill.bundle_card import card_hash
from myodistill.config import Settings
from myodistill.datasets import registry as registry
from myodistill.datasets.recording import Repetition
from myodistill.datasets.synthetic import Synthetic
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.errors import BundleError, LeakageError, ModelError, SettingsError
from myodistill.evaluation import results
from myodistill.models.covariance import BandCovariances
from myodistill.models.registry import REPRESENTATIONS
from myodistill.provenance import implied_seen
from myodistill.splits import make_split
from myodistill.studies.experiment import run_experiment
from myodistill.studies.scorer import Scorer
from myodistill.training.loop import NO_PATHS

QUICK = {
    "dataset": "tiny",
    "fold": [1],
    "k": [0, 1],
    "student_model": ["log-power-10k"],
    "pretrain": {"num_epochs": 3},
    "pretrain_student": {"num_epochs": 3},
    "finetune": {"num_epochs": 3},
    "distill": {"num_epochs": 3},
}


def fold_of(dataset: Synthetic, settings: Settings) -> DistillationPipeline:
    return DistillationPipeline(FoldData(dataset, make_split(dataset, 1), settings), settings, 0)


def tiny() -> Synthetic:
    return Synthetic(subjects=5, seconds=0.6, repetitions=2)


@pytest.fixture(autouse=True)
def dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.DATASETS, "tiny", tiny)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({**QUICK, "out": tmp_path / "run"})


@pytest.fixture(scope="module")
def fold() -> DistillationPipeline:
    return fold_of(tiny(), Settings.load({**QUICK, "dataset": "synthetic"}))


@pytest.fixture(scope="module")
def teachers(fold: DistillationPipeline) -> list[Bundle]:
    return [fold.pretrain(model, NO_PATHS) for model in ("population", "covariance")]


def changed(folder: Path) -> dict[str, int]:
    """When each file of the work itself was last written."""
    kept = ("bundle.json", "weights.safetensors")
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.name in kept}  # fmt: skip # noqa: E501


def test_a_run_leaves_every_stage_and_one_table(settings: Settings) -> None:
    table = run_experiment(settings)
    subject = make_split(tiny(), 1).heldout[0]
    at_one = table[(table.subject == subject) & (table.k == 1)]
    assert list(at_one.stage) == [
        "baseline",
        "baseline",
        "finetune",
        "finetune",
        "finetune",
        "supervised",
        "pretrained",
        "distilled",
        "pretrained_distilled",
    ]
    at_zero = table[(table.subject == subject) & (table.k == 0)]
    assert set(at_zero.stage) == {"pretrain", "pretrained", "pretrained_distilled"}
    assert table.accuracy.between(0, 1).all()
    assert table.groupby("subject").windows.nunique().max() == 1
    stored = results.read(settings.out / "results.parquet")
    assert stored.equals(table)
    students = at_one[at_one.model == "log-power-10k"]
    assert students.parameters.nunique() == 1
    assert (settings.out / "splits" / "fold-1.json").exists()
    counts = {
        (one["stage"], one["model"], one["k"]): one["windows"]
        for one in json.loads((settings.out / "confusion.json").read_text())["counts"]
    }
    assert set(counts) == set(table[["stage", "model", "k"]].itertuples(index=False, name=None))
    assert (
        np.sum(counts["pretrained_distilled", "log-power-10k", 1])
        == table[(table.stage == "pretrained_distilled") & (table.k == 1)].windows.sum()
    )


def test_what_is_valid_is_not_done_again_and_what_is_not_is(settings: Settings) -> None:
    first = run_experiment(settings)
    before = changed(settings.out)
    assert run_experiment(settings).equals(first)
    assert changed(settings.out) == before

    hotter = settings.model_copy(update={"temperature": 5.0})
    run_experiment(hotter)
    after = changed(settings.out)
    redone = {name for name in before if before[name] != after[name]}
    assert redone
    assert not any("finetune" in name or "pretrain-population" in name for name in redone)

    damaged = next((settings.out).rglob("pretrained_distilled-log-power-10k/weights.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-8])
    record = [p for p in settings.out.rglob("scores/*.json") if "pretrained_distilled" in p.name]
    for path in record:
        path.unlink()
    run_experiment(hotter)
    Bundle.load(damaged.parent)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_table(settings: Settings, tmp_path: Path) -> None:
    again = settings.model_copy(update={"out": tmp_path / "again"})
    columns = ["subject", "stage", "model", "k", "accuracy", "macro_f1"]
    assert run_experiment(settings)[columns].equals(run_experiment(again)[columns])


def test_a_bundle_decides_the_same_after_saving(
    fold: DistillationPipeline, teachers: list[Bundle], tmp_path: Path
) -> None:
    subject = fold.split.heldout[0]
    tuned = [fold.finetune(teacher, subject, 1, NO_PATHS) for teacher in teachers]
    student = fold.distill(StudentSpec("log-power-10k", None, tuned, subject, 1), NO_PATHS)
    windows = fold.data.subjects.filtered(subject)
    for bundle in (*tuned, student):
        bundle.save(tmp_path / bundle.model)
        loaded = Bundle.load(tmp_path / bundle.model)
        assert np.array_equal(loaded.logits(windows), bundle.logits(windows))
        assert loaded.seen == bundle.seen


def test_calibration_helps(fold: DistillationPipeline, teachers: list[Bundle]) -> None:
    gains = []
    for subject in fold.split.heldout:
        before, after = (
            Scorer(fold).evaluate([fold.finetune(teachers[0], subject, k, NO_PATHS)], subject)
            for k in (0, 2)
        )
        gains.append(np.mean(after.predicted == after.labels) - np.mean(before.predicted == before.labels))  # fmt: skip # noqa: E501
    assert np.mean(gains) > 0


def leaks(fold: DistillationPipeline, teachers: list[Bundle]) -> dict[str, Bundle]:
    """A student for each way in which the test session can reach it."""
    subject = fold.split.heldout[0]
    test = fold.split.test(subject)
    model = "log-power-10k"
    tuned = fold.finetune(teachers[0], subject, 1, NO_PATHS)
    person = fold.data.subject(subject, 1)
    peeking = replace(person.preprocessing, seen=person.preprocessing.seen | test)
    told = replace(tuned, seen=tuned.seen | {max(test)})
    fold.data.subject.cache_clear()
    return {
        "a teacher trained on test repetitions": told,
        "a student pre-trained on them": fold.distill(
            StudentSpec(
                model,
                replace(fold.pretrain_student(model, [], NO_PATHS), seen=test),
                [],
                subject,
                1,
            ),
            NO_PATHS,
        ),
        "re-centring by test windows": replace(
            tuned, preprocessing=peeking, seen=tuned.seen | peeking.seen
        ),
    }


def test_each_way_to_leak_is_refused(fold: DistillationPipeline, teachers: list[Bundle]) -> None:
    subject = fold.split.heldout[0]
    for way, bundle in leaks(fold, teachers).items():
        with pytest.raises(LeakageError, match=rf"{subject}/test/repetition") as caught:
            Scorer(fold).evaluate([bundle], subject)
        assert bundle.model in str(caught.value), way


def test_no_student_learns_from_a_teacher_that_has_seen_the_test(
    fold: DistillationPipeline, teachers: list[Bundle]
) -> None:
    told = leaks(fold, teachers)["a teacher trained on test repetitions"]
    subject = fold.split.heldout[0]
    with pytest.raises(LeakageError, match="teacher population"):
        fold.distill(StudentSpec("log-power-10k", None, [told], subject, 1), NO_PATHS)


def test_a_teacher_of_other_gestures_is_refused(
    fold: DistillationPipeline, teachers: list[Bundle]
) -> None:
    other = replace(teachers[0], spec=replace(teachers[0].spec, gestures=("a", "b")))
    with pytest.raises(ModelError, match="expected the 7 gestures of the student, it knows 2"):
        fold.pretrain_student("log-power-10k", [other], NO_PATHS)


def test_a_teacher_that_trained_on_a_subject_cannot_be_scored_on_them(
    fold: DistillationPipeline, teachers: list[Bundle]
) -> None:
    trained_on = fold.split.pretraining[0]
    assert Repetition(trained_on, "test", 0) in teachers[0].seen
    own = replace(teachers[0], preprocessing=fold.data.subjects.training()[0].preprocessing)
    with pytest.raises(LeakageError, match=trained_on):
        Scorer(fold).evaluate([own], trained_on)


def test_the_leak_is_remembered_by_the_bundle(
    fold: DistillationPipeline, teachers: list[Bundle], tmp_path: Path
) -> None:
    subject = fold.split.heldout[0]
    leak = leaks(fold, teachers)["a teacher trained on test repetitions"]
    leak.save(tmp_path / "b")
    with pytest.raises(LeakageError):
        Scorer(fold).evaluate([Bundle.load(tmp_path / "b")], subject)


def test_a_held_out_subject_reaches_no_teacher(
    fold: DistillationPipeline, teachers: list[Bundle]
) -> None:
    for teacher in teachers:
        assert not {r.subject for r in teacher.seen} & set(fold.split.heldout)


@pytest.mark.parametrize("model", ["densenet-34", "cnn-10k", "gru-10k"])
def test_models_that_read_signals_go_through_all_stages(
    fold: DistillationPipeline, model: str
) -> None:
    brief = {
        stage: getattr(fold.settings, stage).model_copy(update={"num_epochs": 1})
        for stage in ("pretrain", "pretrain_student", "finetune", "distill")
    }
    spare = DistillationPipeline(fold.data, fold.settings.model_copy(update=brief), 0)
    subject = fold.split.heldout[0]
    teacher = spare.pretrain(model, NO_PATHS)
    tuned = spare.finetune(teacher, subject, 1, NO_PATHS)
    begun = spare.pretrain_student("cnn-10k", [teacher], NO_PATHS)
    student = spare.distill(StudentSpec("cnn-10k", begun, [tuned], subject, 1), NO_PATHS)
    assert len(Scorer(spare).evaluate([student], subject).labels) > 0


def test_without_recentring_nothing_is_centred(fold: DistillationPipeline) -> None:
    plain = fold_of(tiny(), fold.settings.model_copy(update={"recentre": False}))
    subject = fold.split.heldout[0]
    person = plain.data.subject(subject, 1)
    matrix = person.preprocessing.matrix
    assert np.count_nonzero(matrix - np.diag(np.diag(matrix))) == 0
    front = BandCovariances(person.spec)
    identity = torch.eye(len(matrix)).expand_as(front.whitening)
    assert torch.equal(person.centre(front), identity)
    assert not torch.equal(fold.data.subject(subject, 1).centre(front), identity)


def test_each_front_is_centred_by_the_channels_that_it_reads(fold: DistillationPipeline) -> None:
    person = fold.data.subject(fold.split.heldout[0], 1)
    windows = torch.from_numpy(person.windows(person.fitted_on).gather())
    for channels in (person.spec.channels, -(-person.spec.channels // 2)):
        front = BandCovariances(person.spec, most_channels=channels)
        assert front.channels == channels
        torch.testing.assert_close(person.centre(front), front.centre(windows))


@pytest.mark.parametrize("way", REPRESENTATIONS)
def test_a_representation_is_recentred_to_each_subject(
    fold: DistillationPipeline, way: str
) -> None:
    model, someone = f"cnn@{way}", fold.split.heldout[0]
    pretrained = fold.pretrain(model, NO_PATHS)
    front: Any = pretrained.network.front
    assert torch.equal(front.whitening, torch.eye(front.channels).expand_as(front.whitening))
    for k in (0, 1):
        person = fold.data.subject(someone, k)
        tuned: Any = fold.finetune(pretrained, someone, k, NO_PATHS).network
        windows = torch.from_numpy(person.windows(person.fitted_on).gather())
        torch.testing.assert_close(tuned.front.whitening, front.centre(windows))
        assert not torch.equal(tuned.front.whitening, front.whitening)


def test_early_stopping_holds_out_a_repetition(
    fold: DistillationPipeline, teachers: list[Bundle]
) -> None:
    patient = fold.settings.model_copy(
        update={"finetune": fold.settings.finetune.model_copy(update={"patience": 1})}
    )
    other = DistillationPipeline(fold.data, patient, 0)
    subject = fold.split.heldout[0]
    plain = fold.finetune(teachers[1], subject, 2, NO_PATHS)
    early = other.finetune(teachers[1], subject, 2, NO_PATHS)
    a, b = plain.network.state_dict(), early.network.state_dict()
    assert not all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fold": [9]}, SettingsError, "fold: expected 1 to 5 for synthetic, got 9"),
        ({"k": [3]}, SettingsError, "k: expected 0 to 2 calibration repetitions"),
        ({"subjects": ["Persona1"]}, SettingsError, "unknown held-out subject 'Persona1': did you"),
        ({"teacher_model": ["densnet-34"]}, ModelError, "did you mean densenet-34"),
        ({"student_model": ["nothing"]}, ModelError, "unknown model 'nothing'"),
        ({"device": "cuda:7"}, SettingsError, "device: expected one of this machine"),
        ({"device": "toaster"}, SettingsError, "device: expected one of this machine"),
    ],
)
def test_impossible_settings_are_refused_before_any_work(
    settings: Settings, change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_experiment(settings.model_copy(update=change))
    assert not settings.out.exists()


def test_a_bundle_that_was_tampered_with_is_refused(
    fold: DistillationPipeline, teachers: list[Bundle], tmp_path: Path
) -> None:
    teachers[0].save(tmp_path / "b")

    def tampered(change: object) -> Path:
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        shutil.copytree(tmp_path / "b", tmp_path / "c")
        change(tmp_path / "c")  # type: ignore[operator]
        return tmp_path / "c"

    def edit(*, sealed: bool = True, **values: object) -> object:
        def change(folder: Path) -> None:
            card = json.loads((folder / "bundle.json").read_text()) | values
            card["card_sha256"] = card_hash(card)
            if not sealed:
                del card["card_sha256"]
            (folder / "bundle.json").write_text(json.dumps(card))

        return change

    def origin(**values: object) -> object:
        return edit(origin=teachers[0].origin | values)

    def poison(folder: Path) -> None:
        state = load((folder / "weights.safetensors").read_bytes())
        next(tensor for tensor in state.values() if tensor.is_floating_point()).view(-1)[0] = np.nan
        content = save(state)
        (folder / "weights.safetensors").write_bytes(content)
        edit(weights_sha256=hashlib.sha256(content).hexdigest())(folder)  # type: ignore[operator]

    def resize(folder: Path) -> None:
        state = load((folder / "weights.safetensors").read_bytes())
        content = save(state | {next(iter(state)): torch.zeros(9)})
        (folder / "weights.safetensors").write_bytes(content)
        edit(weights_sha256=hashlib.sha256(content).hexdigest())(folder)  # type: ignore[operator]

    def altered(folder: Path) -> None:
        text = (folder / "bundle.json").read_text()
        (folder / "bundle.json").write_text(text.replace('"fold": 1', '"fold": 2'))

    cases = {
        "altered or truncated": lambda f: (f / "weights.safetensors").write_bytes(b"x"),
        "expected a bundle": lambda f: (f / "weights.safetensors").unlink(),
        "expected bundle format 2, got 99": edit(format=99),
        "expected bundle format 2, got 1; run again": edit(format=1),
        "a list instead of an object": lambda f: (f / "bundle.json").write_text("[]"),
        "expected bundle.json as it was written, it was altered": altered,
        "expected bundle.json as it was written": edit(sealed=False),
        "got: NaN, which JSON does not have": edit(step=float("nan")),
        "got: too many levels within each other": lambda f: (f / "bundle.json").write_text(
            "[" * 100_000
        ),
        "unknown model": edit(model="nope"),
        "model: expected a plain name": edit(model="../population"),
        "weights of .* that are not finite; training diverged": poison,
        "session: expected a plain name": edit(seen=[["Person1", "a/b", 0]]),
        "subject: expected a plain name": origin(subject="../../etc"),
        "k: expected a whole number from 0, got '1'": origin(k="1"),
        "seed: expected a whole number from 0, got True": origin(seed=True),
        "dataset: expected text": origin(dataset=["x"]),
        "temperature: expected more than 0": origin(temperature=0),
        "origin: expected no 'more'": origin(more=1),
        "step: expected at least 1 sample, got 0": edit(step=0),
        "unit: expected text": edit(unit=None),
        "expected a complete bundle, got: no 'rule'": lambda f: drop(f, "rule"),
        "expected a complete bundle": edit(signal={}),
        r"of shape \(9,\), where this version's network has \(.*\); train it again": resize,
        r"pre-processing of \(1, 1\) for": edit(
            preprocessing={
                "sampling_rate": 1,
                "passband": [1, 2],
                "mains": 0,
                "matrix": [[1.0]],
                "seen": [],
            }
        ),
    }

    def drop(folder: Path, name: str) -> None:
        card = json.loads((folder / "bundle.json").read_text())
        del card[name]
        (folder / "bundle.json").write_text(json.dumps(card | {"card_sha256": card_hash(card)}))

    for message, change in cases.items():
        with pytest.raises(BundleError, match=message) as caught:
            Bundle.load(tampered(change))
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_students_calibrated_stacked_are_those_calibrated_alone(settings: Settings) -> None:
    """The CNN draws nothing, so stacking changes nothing but rounding."""
    changes = {"student_model": ("cnn-10k",), "k": (1,), "stacked": True}
    one_by_one = settings.model_copy(update=changes | {"stacked": False})
    stacked = settings.model_copy(update=changes | {"out": settings.out.parent / "stacked"})
    a, b = run_experiment(one_by_one), run_experiment(stacked)
    assert list(a.stage) == list(b.stage)
    assert np.abs(a.accuracy - b.accuracy).max() < 0.02
    before = changed(stacked.out)
    assert run_experiment(stacked).accuracy.equals(b.accuracy)
    assert changed(stacked.out) == before


def test_a_bundle_owns_to_all_that_its_stage_implies(
    fold: DistillationPipeline, teachers: list[Bundle]
) -> None:
    """Whatever the stages make does; and the units and steps of the dataset travel with it."""
    subject, facts = fold.split.heldout[0], fold.dataset.facts
    begun = fold.pretrain_student("log-power-10k", teachers, NO_PATHS)
    tuned = [fold.finetune(teacher, subject, 1, NO_PATHS) for teacher in teachers]
    jobs = ((None, (), 1), (begun, (), 0), (None, tuned, 1), (begun, tuned, 1))
    made = [
        fold.distill(StudentSpec("log-power-10k", student, taught_by, subject, k), NO_PATHS)
        for student, taught_by, k in jobs
    ]
    assert [b.origin["stage"] for b in made] == [
        "supervised",
        "pretrained",
        "distilled",
        "pretrained_distilled",
    ]
    for one in (*teachers, begun, *tuned, *made):
        implied = implied_seen(one, fold.split)
        assert implied
        assert implied <= one.seen
        assert (one.unit, one.step) == (facts.unit, facts.step)
        assert one.origin["identity"] == fold.dataset.identity()


def test_a_bundle_that_hides_what_it_saw_is_not_scored(
    fold: DistillationPipeline, teachers: list[Bundle], tmp_path: Path
) -> None:
    """Its files fit each other: the hash was computed anew."""
    subject, scorer = fold.split.heldout[0], Scorer(fold)
    honest = fold.finetune(teachers[0], subject, 1, NO_PATHS)
    scorer.evaluate([honest], subject)
    assert honest.preprocessing is not None
    innocent = replace(honest.preprocessing, seen=frozenset())
    mine = frozenset(r for r in honest.seen if r.subject == subject)
    for seen in (frozenset[Repetition](), mine, honest.seen - mine):
        replace(honest, seen=seen, preprocessing=innocent).save(tmp_path / "b")
        with pytest.raises(LeakageError, match=r"that admits to .*, as its stage and split imply"):
            scorer.evaluate([Bundle.load(tmp_path / "b")], subject)
    shown = replace(honest, seen=frozenset())
    shown.save(tmp_path / "c")
    with pytest.raises(BundleError, match="pre-processing that saw"):
        Bundle.load(tmp_path / "c")
    for change in ({"stage": "nothing"}, {"subject": fold.split.pretraining[0]}, {"k": 9}):
        other = replace(honest, origin=honest.origin | change)
        with pytest.raises(BundleError, match="run again"):
            scorer.evaluate([other], subject)
    with pytest.raises(BundleError, match="expected a bundle of the split"):
        scorer.evaluate([replace(honest, origin=honest.origin | {"split": "0" * 16})], subject)
