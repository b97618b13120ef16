"""A run's memory does not grow with its people, and what it keeps on disk goes with it."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from myodistill.config import Settings
from myodistill.datasets import registry as registry
from myodistill.datasets.prepared import PreparedDataset
from myodistill.datasets.synthetic import Synthetic
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline
from myodistill.distillation.subjects import SubjectPool
from myodistill.errors import CacheError, OutputError
from myodistill.models.closed_form import LinearHead
from myodistill.models.registry import build
from myodistill.signals.disk_cache import DiskRows, kept
from myodistill.signals.gather import gather
from myodistill.signals.preparation import Preparation
from myodistill.signals.prepared import prepare
from myodistill.signals.windows import Windows
from myodistill.splits import make_split
from myodistill.studies.experiment import run_experiment

CHILD = """
import json, resource, sys
import torch
from dataclasses import replace
from myodistill.config import Settings
from myodistill.datasets.recording import Annotation, Recording, ring
from myodistill.datasets.synthetic import Synthetic
from myodistill.signals.disk_cache import give_back_memory
from myodistill.splits import make_split
from myodistill.training.batches import Batches, BatchSampler
from myodistill.training.loop import NO_PATHS
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline
import numpy as np

class Noise(Synthetic):
    "5 MB of signal a person, in two sessions of one repetition."

    def recordings(self, subject):
        rng = np.random.default_rng(int(subject.removeprefix("Person")))
        made = []
        for session in ("train", "test"):
            signal = rng.standard_normal((80000, 8), dtype=np.float32)
            notes = tuple(Annotation(g * 11000, (g + 1) * 11000, g, 0) for g in range(7))
            made.append(self._make(subject, session, signal, notes, "noise"))
        return made

torch.set_num_threads(1)
give_back_memory()
people = Noise(subjects=int(sys.argv[1]), repetitions=1)
split = replace(make_split(people, 1), heldout=("Person1",))
settings = Settings.load({"pretrain": {"num_epochs": 1}})
make_fold_data = FoldData(people, split, settings)
fold = DistillationPipeline(make_fold_data, settings, 0)
fold.pretrain("population", NO_PATHS)
training_set = make_fold_data.training_set("tcn-10k")
for _ in Batches(training_set.inputs, training_set.labels, 7, BatchSampler(256)).epoch(0, 0):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peaks(*people: int) -> list[float]:
    """MiB that processes take at most to train on so many people, who have 5 MB each."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(count)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for count in people
    ]
    return [float(process.communicate()[0]) for process in processes]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_people() -> None:
    """In memory each would take their signal twice and as much again in features: 13 MiB."""
    few, many = peaks(3, 6)
    assert many - few < 3 * 4


def tiny(people: int = 4) -> Synthetic:
    return Synthetic(subjects=people, seconds=0.6, repetitions=2)


def make_fold_data(**chosen: object) -> FoldData:
    dataset = tiny()
    return FoldData(dataset, make_split(dataset, 1), Settings.load({"dataset": "tiny", **chosen}))


@pytest.mark.parametrize("model", ["tcn-10k", "covariance", "log-power-10k"])
def test_what_lies_on_disk_is_what_was_computed(model: str) -> None:
    """Of every window, in any order: each person by themselves in memory is the reference."""
    fold_data = make_fold_data()
    network = build(model, fold_data.spec)
    training_set = fold_data.training_set(model)
    apart = [fold_data._inputs(network, [(one, one.filtered().seen())]) for one in
             fold_data.subjects.training()]  # fmt: skip
    expected = torch.cat([one[torch.arange(len(one))] for one in apart])
    order = torch.randperm(len(expected), generator=torch.Generator().manual_seed(0))
    assert len(training_set.inputs) == len(expected) == len(training_set.labels)
    assert torch.equal(training_set.inputs[order], expected[order])


def test_filed_signals_are_cut_as_those_in_memory(tmp_path: Path) -> None:
    signal = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    filed = DiskRows(tmp_path, torch.split(signal, 120))
    starts = torch.tensor([450, 0, 7, 7])
    assert torch.equal(filed.gather(starts, 50), gather(signal, starts, 50))
    assert torch.equal(filed[starts], signal[starts])
    assert (len(filed), filed.shape) == (500, (500, 3))
    assert list(tmp_path.iterdir()) == []  # killed at any moment, it leaves nothing
    with pytest.raises(CacheError, match="expected 50 rows from row 460 of 500"):
        filed.gather(torch.tensor([460]), 50)


def some_windows() -> Windows:
    return tiny_people().filtered("Person1")


def tiny_people(folder: Path | None = None, dataset: Synthetic | None = None) -> SubjectPool:
    dataset = dataset or tiny()
    return SubjectPool(dataset, make_split(dataset, 1), recentre=False, scratch=folder)


def test_a_person_is_filtered_once_for_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tiny_people(tmp_path).filtered("Person1")
    other = tiny_people(tmp_path, Synthetic(subjects=4, seconds=0.6, repetitions=2, seed=1))
    assert not np.array_equal(other.filtered("Person1").signal, before.signal)

    def never(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(Synthetic, "recordings", never)
    again = tiny_people(tmp_path).filtered("Person1")
    for name in ("signal", "starts", "labels", "repetition_index"):
        assert np.array_equal(getattr(again, name), getattr(before, name))
    assert (again.repetitions, again.samples) == (before.repetitions, before.samples)


def test_filtered_recordings_appear_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, windows = tmp_path / "one.safetensors", some_windows()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full, free some space"):
            kept(path, lambda: windows)
        assert list(tmp_path.iterdir()) == []
    kept(path, lambda: windows)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CacheError, match=r"expected filtered recordings.*remove it") as caught:
        kept(path, lambda: windows)
    assert "\n" not in str(caught.value)


def test_rows_that_do_not_fit_on_the_disk_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - Filed closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    with pytest.raises(OutputError, match="the disk is full, free some space"):
        DiskRows(tmp_path, [torch.zeros(10, 2)])


def test_a_prepared_store_is_mapped_for_one_person_at_a_time(tmp_path: Path) -> None:
    """One map for all would keep resident whatever was ever read of it."""
    store = prepare("tiny", tmp_path, Preparation(), dataset=tiny())
    stored = PreparedDataset(store.folder)
    one, again = (stored.recordings("Person1")[0].signal for _ in range(2))
    assert np.array_equal(one, again)
    assert not np.shares_memory(one, again)


def test_a_population_is_learned_from_more_rows_than_are_read_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(9000, 5, generator=generator)
    labels, people = torch.arange(9000) % 3, torch.arange(9000) // 3000
    head = LinearHead(5, 3)
    head.learn(rows, labels, people)
    apart = [rows[(people == p) & (labels == g)] for g in range(3) for p in range(3)]
    means = torch.stack([part.mean(0) for part in apart])
    away = torch.cat([part - part.mean(0) for part in apart])
    torch.testing.assert_close(head.means, means.view(3, 3, 5).mean(1))
    torch.testing.assert_close(head.scatter, away.mT @ away / 9000)


def test_a_run_removes_what_it_and_killed_ones_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.DATASETS, "tiny", tiny)
    left = tmp_path / "run" / ".scratch" / "left"
    left.mkdir(parents=True)
    seen: list[list[str]] = []
    pretrain = DistillationPipeline.pretrain

    def watched(self: DistillationPipeline, *options: object) -> object:
        seen.append(sorted(path.suffix for path in left.parent.iterdir()))
        return pretrain(self, *options)  # type: ignore[arg-type]

    monkeypatch.setattr(DistillationPipeline, "pretrain", watched)
    values = {
        "dataset": "tiny",
        "fold": [1],
        "out": tmp_path / "run",
        "k": [1],
        "pretrain": {"num_epochs": 0},
    }
    run_experiment(Settings.load(values), until="pretrain")
    assert seen[0] == [".safetensors"] * 3
    assert not left.parent.exists()


def test_material_without_a_run_removes_its_own_folder() -> None:
    fold_data = make_fold_data()
    folder = fold_data.subjects.scratch
    assert any(folder.iterdir())
    del fold_data
    gc.collect()
    assert not folder.exists()
