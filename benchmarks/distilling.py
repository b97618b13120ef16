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
from myodistill.distillation.cache import CacheKey, cached_outputs
from myodistill.distillation.data import FoldData, placed
from myodistill.distillation.teacher_outputs import CachedTeacher, OnlineTeacher, predict_outputs
from myodistill.models.complexity import complexity
from myodistill.models.registry import build
from myodistill.splits import make_split
from myodistill.training.batches import Batches
from myodistill.training.loop import ExecutionConfig, train
from myodistill.training.sampler import BatchSampler
from myodistill.training.tasks import DistillationTask, Task
from myodistill.training.teacher_output import TeacherOutputs


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
    data = FoldData(dataset, split, settings)
    subject = data.subject(split.heldout[0], 4)
    teacher = placed(build(options.teacher, data.spec, seed=0), settings).eval()
    calibration_set = data.calibration_set(teacher, subject, 4)
    inputs, labels, classes = calibration_set.inputs, calibration_set.labels, data.spec.classes
    count = len(labels)
    execution = ExecutionConfig(options.precision)

    def student(epochs: int, outputs: TeacherOutputs | None) -> None:
        network = placed(build(options.student, data.spec, seed=0), settings)
        task = DistillationTask(network, temperature=3.0) if outputs else Task(network)
        batches = Batches(inputs, labels, classes, BatchSampler(256), teacher_outputs=outputs)
        train(task, batches, Training(num_epochs=epochs), execution=execution)

    def filled(folder: Path) -> CachedTeacher:
        key = CacheKey("teacher", calibration_set.digest, "", (0,), count, classes)
        all_windows = torch.arange(count)

        def compute(view: int) -> object:
            return predict_outputs(
                teacher,
                calibration_set.inputs.augmented(view),
                all_windows,
                False,
                options.precision,
            )

        return CachedTeacher([[cached_outputs(folder, key, compute)]], [1.0], "mean", clean=False)  # type: ignore[arg-type]

    student(1, None)
    print(machine(), options.precision, f"channels last: {options.channels_last}")
    with tempfile.TemporaryDirectory() as folder:
        fill = timed(lambda: filled(Path(folder)))
        cached = min(timed(lambda: student(options.epochs, filled(Path(folder)))) for _ in "12")
        alone = min(timed(lambda: student(options.epochs, None)) for _ in "12")
    live = OnlineTeacher([(teacher, inputs)], [1.0], "mean", False, options.precision)
    every_batch = timed(lambda: student(options.live_epochs, live)) / options.live_epochs
    every_batch *= options.epochs
    cost = complexity(options.teacher, data.spec).flops
    print(f"{count} windows, {options.epochs} epochs, {options.teacher} into {options.student}")
    for name, seconds in (
        ("student alone", alone),
        ("distilled, cache filled", cached),
        ("distilled, cache to be filled", cached + fill),
        ("distilled, teacher on every batch", every_batch),
    ):
        print(f"{name:<36}{seconds:8.2f} s {seconds / alone:7.2f} of alone")
    print(f"the usual loop takes {every_batch / cached:.1f} times the cached one")
    rate = count / fill
    print(f"the teacher infers {rate:,.0f} windows/s, {rate * cost / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
