"""Eight students, one after another, on a process for each core, and stacked into one computation.

    python benchmarks/students.py
    python benchmarks/students.py --device cuda

Each is the trained part of log-power-30k on generated band covariances of the 3DC geometry (10
channels, 151 samples at 1000 Hz, 11 gestures), distilled from generated outputs of its own teacher.
Students are made, and processes started and warmed, before the clock runs. Best of three rounds; a
later round goes on from the weights of the one before, which takes as long.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier

import torch
from common import machine, seconds
from torch import Tensor, nn

from myodistill.config import Training
from myodistill.distillation.cache import TeacherOutput
from myodistill.models.logpower import LogPower
from myodistill.models.registry import build
from myodistill.models.verification import GEOMETRIES
from myodistill.training.batches import Batches, BatchSampler, TensorInputs
from myodistill.training.loop import train
from myodistill.training.stacked import train_stacked
from myodistill.training.tasks import DistillationTask

SPEC = GEOMETRIES["3dc"]
STUDENTS: list[tuple[DistillationTask, Batches]] = []
"""Those of this process."""


def settings(epochs: int) -> Training:
    return Training(num_epochs=epochs, batch_size=256, learning_rate=3e-3)


def student(seed: int, windows: int, device: str) -> tuple[DistillationTask, Batches]:
    """A student with its own windows, labels and teacher."""
    network = build("log-power-30k", SPEC, seed=seed)
    assert isinstance(network, LogPower)
    bands, channels = network.front.bands, network.front.channels
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(windows, bands, channels, 2 * channels, generator=generator)
    covariances: Tensor = factors @ factors.mT / (2 * channels)
    teacher = 3 * torch.randn(windows, SPEC.classes, generator=generator)
    head: nn.Module = network.head
    task = DistillationTask(head, alpha=0.1, temperature=3.0)
    log_probabilities = teacher.log_softmax(1)
    batches = Batches(
        TensorInputs(covariances.to(device)),
        teacher.argmax(1),
        SPEC.classes,
        BatchSampler(256),
        teacher_outputs=lambda indices, view: TeacherOutput(log_probabilities[indices]),
    )
    return task.to(device), batches


def train_one(number: int, epochs: int) -> None:
    train(*STUDENTS[number], settings(epochs), seed=number)


def warm(barrier: Barrier, students: int, windows: int) -> None:
    """Make a process ready, and wait for the others."""
    torch.set_num_threads(1)
    STUDENTS.extend(student(number, windows, "cpu") for number in range(students))
    train_one(0, 1)
    barrier.wait()


def in_processes(options: argparse.Namespace) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(options.processes + 1)
    given = (barrier, options.students, options.windows)
    pool = ProcessPoolExecutor(options.processes, context, initializer=warm, initargs=given)
    with pool:
        # A pool starts a process for every task that finds none idle, and `warm` keeps them busy.
        for _ in range(options.processes):
            pool.submit(time.sleep, 0)
        barrier.wait()

        def work() -> None:
            list(pool.map(train_one, range(options.students), [options.epochs] * options.students))

        return seconds(work, least=0)


def timed(device: str, work: Callable[[], None]) -> float:
    def whole() -> None:
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return seconds(whole, least=0)


def report(way: str, taken: float, sequential: float) -> None:
    print(f"{way:<30} {taken:7.2f} s {sequential / taken:6.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=8)
    parser.add_argument("--windows", type=int, default=4096, help="of each student")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = [student(n, options.windows, options.device) for n in range(options.students)]
    STUDENTS.extend(made)
    tasks, batches = zip(*made, strict=True)
    seeds = range(options.students)

    def one_by_one() -> None:
        for number in seeds:
            train_one(number, options.epochs)

    def stacked() -> None:
        train_stacked(tasks, batches, settings(options.epochs), seeds=seeds)

    train_one(0, 1)
    cuda = options.device.startswith("cuda")
    print(machine() + (f", {torch.cuda.get_device_name()}" if cuda else ""))
    print(f"{options.students} students, {options.windows} windows each, {options.epochs} epochs")
    sequential = timed(options.device, one_by_one)
    report("one after another, one thread", sequential, sequential)
    if not cuda:
        spread = in_processes(options)
        report(f"{options.processes} processes of one thread", spread, sequential)
    stacked_seconds = timed(options.device, stacked)
    report("stacked, one thread", stacked_seconds, sequential)


if __name__ == "__main__":
    main()
