"""Teachers' outputs: computed once, never taken for others', the same as asking live."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from myodistill.bundle import Bundle
from myodistill.config import Augmentation, Settings
from myodistill.datasets.synthetic import Synthetic
from myodistill.distillation.cache import CacheKey, cached_outputs
from myodistill.distillation.data import FoldData, placed
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.errors import CacheError, ModelError, SettingsError
from myodistill.models.registry import build
from myodistill.splits import make_split
from myodistill.studies.experiment import run_experiment
from myodistill.training.batch_norm import adapt_batch_norm
from myodistill.training.batches import TensorInputs
from myodistill.training.loop import NO_PATHS
from myodistill.training.losses import FEATURE_LOSSES
from myodistill.training.sampler import view_of
from myodistill.training.teacher_output import TeacherOutput

KEY = CacheKey("teacher", "windows", "augmentation", (1, 2), count=50, gestures=3)
NOISY = Augmentation(jitter=0.3, gain_db=2.0, rotation=1)


def predict_outputs(view: int) -> TeacherOutput:
    generator = torch.Generator().manual_seed(view)
    return TeacherOutput(torch.randn(50, 3, generator=generator).log_softmax(1))


def never(view: int) -> TeacherOutput:
    raise AssertionError("asked again")


def test_outputs_are_computed_once(tmp_path: Path) -> None:
    cached_outputs(tmp_path, KEY, predict_outputs)
    kept = cached_outputs(tmp_path, KEY, never)
    for view in (1, 2):
        torch.testing.assert_close(kept.view(view).logits, predict_outputs(view).logits.half())
    with pytest.raises(CacheError, match="expected view 3, the cache has 1, 2"):
        kept.view(3)


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": "another"},
        {"windows": "other windows"},
        {"augmentation": "louder"},
        {"views": (0,)},
        {"count": 51},
        {"gestures": 4},
        {"features": True},
    ],
)
def test_outputs_of_something_else_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    cached_outputs(tmp_path, KEY, predict_outputs)
    other = replace(KEY, **change)  # type: ignore[arg-type]
    (tmp_path / KEY.name).rename(tmp_path / other.name)
    (name,) = change
    with pytest.raises(CacheError, match=f"expected outputs for {name} .*--refill"):
        cached_outputs(tmp_path, other, never)
    assert other.name != KEY.name


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "text"])
def test_a_damaged_file_is_refused_and_can_be_refilled(tmp_path: Path, harm: str) -> None:
    cached_outputs(tmp_path, KEY, predict_outputs)
    path = tmp_path / KEY.name
    content = path.read_bytes()
    flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    path.write_bytes({"cut": content[:-7], "flip": flipped, "empty": b"", "text": b"{}"}[harm])
    with pytest.raises(CacheError, match="--refill"):
        cached_outputs(tmp_path, KEY, never)
    refilled = cached_outputs(tmp_path, KEY, predict_outputs, refill=True)
    torch.testing.assert_close(refilled.view(1).logits, predict_outputs(1).logits.half())


def fill_slowly(folder: Path) -> None:
    def kill(view: int) -> TeacherOutput:
        if view == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return predict_outputs(view)

    cached_outputs(folder, KEY, kill)


def test_a_killed_fill_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=fill_slowly, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / KEY.name).exists()
    cached_outputs(tmp_path, KEY, predict_outputs)
    assert cached_outputs(tmp_path, KEY, never).key == KEY


def test_the_cache_is_small(tmp_path: Path) -> None:
    card = CacheKey("t", "w", "a", (1, 2, 3, 4), count=190_000, gestures=11)
    cached_outputs(tmp_path, card, lambda view: TeacherOutput(torch.zeros(190_000, 11)))
    assert (tmp_path / card.name).stat().st_size < 40e6


def test_views_by_epoch() -> None:
    assert [view_of(3, epoch) for epoch in range(5)] == [1, 2, 3, 1, 2]
    assert [view_of("fresh", epoch) for epoch in range(3)] == [1, 2, 3]
    assert [view_of("clean", epoch) for epoch in range(3)] == [1, 2, 3]
    assert view_of(None, 7) == 0


def fold(folder: Path | None = None, **changes: object) -> DistillationPipeline:
    settings: Settings = Settings.load(
        {
            "k": [1],
            "student_model": ["cnn-10k"],
            **{
                stage: {"num_epochs": 2, "schedule": "constant"}
                for stage in ("pretrain", "pretrain_student", "finetune", "distill")
            },
            **changes,
        }
    )
    dataset = Synthetic(subjects=3, seconds=0.6, repetitions=2)
    return DistillationPipeline(
        FoldData(dataset, make_split(dataset, 1), settings, folder), settings, 0
    )


def weights(bundle: Bundle) -> list[Tensor]:
    return [p.detach() for p in bundle.network.parameters()]


@pytest.mark.parametrize("models", [("covariance", "log-power-10k"), ("cnn-10k", "cnn-10k")])
def test_cached_and_live_teachers_make_the_same_student(
    tmp_path: Path, models: tuple[str, str]
) -> None:
    """Two epochs see views 1 and 2, whether they are cycled and cached or always fresh."""
    teacher_model, student_model = models
    made = {}
    for views in (2, "fresh"):
        one = fold(tmp_path, augmentation=NOISY, views=views)
        subject = one.split.heldout[0]
        teacher = one.pretrain(teacher_model, NO_PATHS)
        tuned = one.finetune(teacher, subject, 1, NO_PATHS)
        begun = one.pretrain_student(student_model, [teacher], NO_PATHS)
        made[views] = one.distill(StudentSpec(student_model, begun, [tuned], subject, 1), NO_PATHS)
    for cached, live in zip(weights(made[2]), weights(made["fresh"]), strict=True):
        torch.testing.assert_close(cached, live, rtol=1e-3, atol=1e-4)
    # Of everybody; of the subject and of everybody by the tuned teacher.
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_views_change_what_is_learned() -> None:
    made = {}
    for views in (1, 2, "clean", "fresh"):
        one = fold(augmentation=NOISY, views=views)
        teacher = one.pretrain("population", NO_PATHS)
        made[views] = weights(one.pretrain_student("cnn-10k", [teacher], NO_PATHS))
    same = [torch.equal(made[2][0], made[v][0]) for v in (1, "clean")]
    assert same == [False, False]


def test_features_are_compared_and_kept(tmp_path: Path) -> None:
    one = fold(tmp_path)
    teachers = [one.pretrain(model, NO_PATHS) for model in ("population", "covariance")]
    plain = one.pretrain_student("log-power-10k", teachers, NO_PATHS)
    for loss in FEATURE_LOSSES:
        student = one.pretrain_student("log-power-10k", teachers, NO_PATHS, loss=loss)
        assert student.origin["loss"] == loss
        assert not torch.equal(weights(student)[0], weights(plain)[0])
        with pytest.raises(ModelError, match="expected a teacher with features"):
            one.pretrain_student("log-power-10k", teachers[:1], NO_PATHS, loss=loss)


def test_a_calibrated_teacher_is_softened_or_sharpened() -> None:
    one = fold(calibrate_teachers=True)
    subject = one.split.heldout[0]
    teacher = one.pretrain("covariance", NO_PATHS)
    assert one.finetune(teacher, subject, 1, NO_PATHS).temperature == 1.0
    tuned = one.finetune(teacher, subject, 2, NO_PATHS)
    assert tuned.temperature != 1.0
    windows = one.data.subjects.filtered(subject)
    plain = replace(tuned, origin={**tuned.origin, "temperature": 1.0})
    scaled = plain.logits(windows) / tuned.temperature
    torch.testing.assert_close(torch.tensor(tuned.logits(windows)), torch.tensor(scaled))


def test_batch_norm_takes_a_persons_statistics() -> None:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(4, affine=True), nn.Dropout(0.9), nn.Linear(4, 2))
    x = 3 + 2 * torch.randn(5000, 4, generator=generator)
    before = [p.clone() for p in network.parameters()]
    adapt_batch_norm(network, TensorInputs(x), batch=2500)
    normed = network[0](x)
    assert not network.training
    torch.testing.assert_close(normed.mean(0), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(normed.std(0), torch.ones(4), atol=0.02, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert network[0].momentum == 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": ["distt"]}, "unknown loss 'distt': did you mean dist"),
        ({"views": 0}, "views: expected 1 to 9999, fresh or clean, got 0"),
        ({"temperature": 0}, "temperature: expected greater than 0, got 0"),
        ({"alpha": 1.5}, "alpha: expected less than or equal to 1, got 1.5"),
        ({"loss": ["hint"], "augmentation": {"mixup": 0.3}}, "a loss over logits with"),
    ],
)
def test_bad_settings_are_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        run_experiment(Settings.load({"dataset": "synthetic", **change}))


@pytest.mark.parametrize("model", ["p3d-32", "cnn"])
def test_images_are_laid_out_where_there_are_any(model: str) -> None:
    """Three-dimensional convolutions have no such layout and are left alone."""
    settings = Settings.load({})
    spec = Synthetic(subjects=3).facts.spec()
    network = build(model, spec, seed=0).eval()
    windows = torch.randn(2, spec.channels, spec.samples)
    with torch.no_grad():
        expected = network(windows)
        moved = placed(network, settings)(windows)
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-4)
    images = [weight for weight in network.parameters() if weight.ndim == 4]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in images)
    assert bool(images) == (model == "cnn")
