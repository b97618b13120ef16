"""The code in ``CONTRIBUTING.md`` runs and does what is said beside it.

It runs in a process of its own, as what it registers would stay registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import decoding
import numpy as np
import pytest
import torch
import yaml

from myodistill.datasets.recording import SignalSpec, ring
from myodistill.datasets.registry import open_dataset
from myodistill.decision_rule import EVERY_PREDICTION
from myodistill.errors import MyoDistillError
from myodistill.models.registry import build

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = dict(re.findall(r"^### An? (\w+)\n.*?^```python\n(.*?)^```$", PAGE, re.M | re.S))

Names = dict[str, Any]


def execute(block: str, use: Callable[[Names, Path], None], folder: Path) -> None:
    """Run a block and use what it defines; run again, it is refused as registered already."""
    names: Names = {"__name__": "mine"}
    exec(block, names)
    use(names, folder)
    with pytest.raises(MyoDistillError, match="registered already"):
        exec(block, dict(names))


def use_dataset(names: Names, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for session in ("calibration", "use"):
        where = folder / "bracelet-1" / "P1" / session
        where.mkdir(parents=True)
        for name in ("0-0", "0-1", "0-2", "1-0", "1-1", "1-2"):
            np.save(where / f"{name}.npy", rng.standard_normal((300, 8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYODISTILL_DATA", str(folder))
        dataset = open_dataset("bracelet")
        recordings = dataset.recordings("P1")
    assert isinstance(dataset, names["Bracelet"])
    assert [r.annotations[0].gesture for r in recordings] == [0, 1, 2] * 4
    assert {r.session for r in recordings} == {"calibration", "use"}


def use_model(names: Names, folder: Path) -> None:
    spec = SignalSpec(ring(4), 50, 200.0, ("rest", "fist", "point"))
    network = build("one-layer", spec, seed=0)
    assert network(torch.zeros(2, 4, 50)).shape == (2, 3)


def use_loss(names: Names, folder: Path) -> None:
    teacher = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    loss, labels = names["cosine"], torch.tensor([0, 1])
    assert abs(loss(teacher, teacher, labels, 2.0)) < 1e-6
    assert loss(-teacher, teacher, labels, 2.0) > 0.1


def use_augmentation(names: Names, folder: Path) -> None:
    windows = torch.ones(1000, 2, 3)
    out = names["polarity"](windows, torch.Generator().manual_seed(0), 0.25)
    assert out.shape == windows.shape
    assert 0.2 < (out[:, 0, 0] < 0).float().mean() < 0.3


def use_exporter(names: Names, folder: Path) -> None:
    bundle, out = decoding.bundle(epochs=0), folder / "gestures.h"
    names["gestures_h"](bundle, out, windows=None, step=bundle.step, rule=EVERY_PREDICTION)
    assert out.read_text() == 'static const char *const GESTURES[] = {"a", "b", "c"};\n'


USES = {
    "dataset": use_dataset,
    "model": use_model,
    "loss": use_loss,
    "augmentation": use_augmentation,
    "exporter": use_exporter,
}


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def test_every_block_of_the_page_is_run() -> None:
    assert BLOCKS.keys() == USES.keys()
    assert len(BLOCKS) == PAGE.count("```python")


@pytest.mark.parametrize("kind", USES)
def test_block(process: ProcessPoolExecutor, tmp_path: Path, kind: str) -> None:
    process.submit(execute, BLOCKS[kind], USES[kind], tmp_path).result()


def test_citation_file_has_what_is_required() -> None:
    """Keys that version 1.2.0 of the Citation File Format requires, and those that are ours."""
    card = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert card["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "license"} <= card.keys()
    assert card["license"] == "MIT"
    assert card["authors"]
    assert all("name" in author or "family-names" in author for author in card["authors"])
    assert "doi" not in card
    version = re.search(r'__version__ = "(.*)"', (ROOT / "src/myodistill/__init__.py").read_text())
    assert version is not None
    assert card["version"] == version[1]
