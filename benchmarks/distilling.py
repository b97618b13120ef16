"""Distilling from DenseNet-121 into the CNN: with a cache, filling it, asking on every batch.

    python benchmarks/distilling.py

The first participant's four `train` repetitions of 3DC, as K = 4 calibrates. Weights are as they
were initialised: time does not depend on them. The usual loop is timed over fewer epochs, scaled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import machine

from myodistill.config import Settings, Training
from myodistill.datasets.registry import open_dataset
from myodistill.distillation.cache import CacheKey, TeacherOutputs, remember
from myodistill.distillation.data import FoldData, WindowSet, placed
from myodistill.distillation.teacher_outputs import CachedTeacher, OnlineTeacher, say
from myodistill.models.complexity import complexity
from myodistill.models.registry import build
from myodistill.splits import make_split
from myodistill.training.batches import Batches, BatchSampler
from myodistill.training.loop import ExecutionConfig, train
from myodistill.training.tasks import DistillationTask, Task


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--live-epochs", type=int, default=2)
    parser.add_argument("--teacher", default="densenet-121")
    parser.add_argument("--student", default="cnn")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--channels-last", default="true", choices=("true", "false"))
    options = parser.parse_args()
    torch.set_num_threads(1)

    settings = Settings.load({"dataset": "3dc", "channels_last": options.channels_last})
    dataset = open_dataset("3dc")
    split = make_split(dataset, 1)
    material = FoldData(dataset, split, settings)
    person = material.person(split.heldout[0], 4)
    teacher = placed(build(options.teacher, material.spec, seed=0), settings).eval()
    own = material.own(teacher, person, 4)
    count = len(own.labels)

    def student(epochs: int, answers: TeacherOutputs | None) -> None:
        network = placed(build(options.student, material.spec, seed=0), settings)
        task = DistillationTask(network, temperature=3.0) if answers else Task(network)
        batches = Batches(
            own.inputs, own.labels, material.spec.classes, BatchSampler(256), answers=answers
        )
        train(task, batches, Training(num_epochs=epochs), speed=ExecutionConfig(options.precision))

    def filled(folder: Path, own: WindowSet) -> CachedTeacher:
        card = CacheKey("teacher", own.digest, "", (0,), count, material.spec.classes)
        every = torch.arange(count)

        def answer(view: int) -> object:
            return say(teacher, own.inputs.augmented(view), every, False, options.precision)

        return CachedTeacher([[remember(folder, card, answer)]], [1.0], "mean", clean=False)  # type: ignore[arg-type]

    student(1, None)
    print(machine(), options.precision, f"channels last: {options.channels_last}")
    with tempfile.TemporaryDirectory() as folder:
        fill = timed(lambda: filled(Path(folder), own))
        cached = min(
            timed(lambda: student(options.epochs, filled(Path(folder), own))) for _ in "12"
        )
        locked_folder = min(timed(lambda: student(options.epochs, None)) for _ in "12")
    live = OnlineTeacher([(teacher, own.inputs)], [1.0], "mean", False, options.precision)
    every_batch = timed(lambda: student(options.live_epochs, live)) / options.live_epochs
    every_batch *= options.epochs
    cost = complexity(options.teacher, material.spec).flops
    print(f"{count} windows, {options.epochs} epochs, {options.teacher} into {options.student}")
    for name, seconds in (
        ("student alone", locked_folder),
        ("distilled, cache filled", cached),
        ("distilled, cache to be filled", cached + fill),
        ("distilled, teacher on every batch", every_batch),
    ):
        print(f"{name:<36}{seconds:8.2f} s {seconds / locked_folder:7.2f} of alone")
    print(f"the usual loop takes {every_batch / cached:.1f} times the cached one")
    rate = count / fill
    print(f"the teacher answers {rate:,.0f} windows/s, {rate * cost / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
