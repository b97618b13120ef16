"""Files of a run that are edited, exchanged or brought from elsewhere.

Each attempt is refused, or has no effect.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import people
import pytest
from attempts import (
    HELD_OUT,
    TRAINING,
    Trained,
    call,
    changed,
    honest,
    refused,
    refused_or_harmless,
    relabel,
    replace,
    train,
    train_original,
)
from people import CALIBRATION, TEST

FOLD = Path("fold-1/seed-0")
TEACHER = FOLD / "pretrain-population"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_original(tmp_path_factory.mktemp("original"))


@pytest.fixture
def tampered(original: Trained, tmp_path: Path) -> Path:
    """A copy of the run to be tampered with."""
    return Path(shutil.copytree(original.out, tmp_path / "tampered"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1))


def sealed(card: dict[str, Any]) -> str:
    """What a forger who has read the source writes as the hash of an edited card."""
    content = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def forget(card: dict[str, Any], *, seal: str = "kept") -> None:
    """Strike all but one repetition from what a bundle has seen."""
    assert card["card_sha256"] == sealed(card)
    del card["seen"][1:]
    if seal == "dropped":
        del card["card_sha256"]
    elif seal == "recomputed":
        card["card_sha256"] = sealed(card)


@pytest.mark.parametrize("seal", ["kept", "dropped", "recomputed"])
@pytest.mark.parametrize("remade", [False, True])
def test_a_bundle_whose_seen_was_edited(
    original: Trained, tampered: Path, seal: str, remade: bool
) -> None:
    edit(tampered / TEACHER / "bundle.json", lambda card: forget(card, seal=seal))
    if remade:
        shutil.rmtree(tampered / FOLD / "P1")
    said = train(original.data, tampered)
    refused_or_harmless(said, tampered, original.out)


@pytest.mark.parametrize("seal", ["kept", "dropped"])
def test_an_edited_bundle_does_not_leave(original: Trained, tampered: Path, seal: str) -> None:
    bundle = next(tampered.glob("fold-1/seed-0/P1/k-2/pretrained_distilled-*"))
    edit(bundle / "bundle.json", lambda card: forget(card, seal=seal))
    refused(call("export", bundle, "--to", "onnx", "--dataset", original.data))
    assert not (bundle / "decoder.onnx").exists()


@pytest.mark.parametrize("forgery", ["has seen the test", "of a training person"])
def test_no_report_of_a_bundle_that_has_seen_the_test(
    original: Trained, tampered: Path, monkeypatch: pytest.MonkeyPatch, forgery: str
) -> None:
    monkeypatch.setenv("PATH", "")  # no compiler: what is not refused is soon done
    bundle = next(tampered.glob("fold-1/seed-0/P1/k-2/pretrained_distilled-*"))

    def change(card: dict[str, Any]) -> None:
        if forgery == "has seen the test":
            card["seen"].append(["P1", TEST, 0])
        else:
            card["origin"]["subject"] = "P2"
        card["card_sha256"] = sealed(card)

    edit(bundle / "bundle.json", change)
    refused(call("deploy-report", bundle, "--dataset", original.data))
    assert not (bundle / "parity.json").exists()


def test_an_edited_score(original: Trained, tampered: Path) -> None:
    for path in tampered.rglob("scores/*.json"):
        edit(path, lambda kept: kept["value"]["result"].update(accuracy=1.0))
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


def test_edited_probabilities(original: Trained, tampered: Path) -> None:
    for path in tampered.rglob("scores/*.npz"):
        kept = dict(np.load(path))
        kept["probabilities"] = np.eye(len(people.GESTURES), dtype=np.float16)[kept["labels"]]
        np.savez_compressed(path, **kept)
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


def test_an_edited_split(original: Trained, tampered: Path) -> None:
    path = tampered / "splits" / "fold-1.json"
    edit(path, lambda split: split.update(heldout=["P1"], pretraining=["P2", "P3", "P4"]))
    refused_or_harmless(train(original.data, tampered), tampered, original.out)
    assert path.read_bytes() == (original.out / "splits" / "fold-1.json").read_bytes()


@pytest.mark.parametrize(
    "record", [pytest.param("its own", marks=pytest.mark.slow), "the one that is wanted"]
)
def test_a_teacher_of_another_fold(
    original: Trained, tampered: Path, tmp_path: Path, record: str
) -> None:
    other = honest(original.takes, tmp_path, "pretrain", fold=[2]) / "fold-2/seed-0"
    wanted = (tampered / TEACHER / "record.json").read_bytes()
    shutil.copytree(other / TEACHER.name, tampered / TEACHER, dirs_exist_ok=True)
    if record != "its own":
        (tampered / TEACHER / "record.json").write_bytes(wanted)
    for place in ("P1", "P6", "pretrain-pretrained_distilled-log-power-10k"):
        shutil.rmtree(tampered / FOLD / place)
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


@pytest.mark.parametrize("stage", ["pretrained_distilled-log-power-10k", "finetune-covariance"])
def test_a_bundle_of_another_person(original: Trained, tampered: Path, stage: str) -> None:
    mine, other = (tampered / FOLD / who / "k-2" for who in HELD_OUT)
    for name in ("bundle.json", "weights.safetensors"):
        shutil.copy(other / stage / name, mine / stage / name)
    shutil.rmtree(mine / "scores")
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


def test_teacher_outputs_of_another_run(original: Trained, tampered: Path, tmp_path: Path) -> None:
    other = honest(changed(original.takes, TEST, replace, TRAINING), tmp_path)
    mine, theirs = (
        sorted((out / "fold-1/teacher-outputs").iterdir(), key=lambda p: p.stat().st_size)
        for out in (tampered, other)
    )
    assert [path.stat().st_size for path in mine] == [path.stat().st_size for path in theirs]
    for here, there in zip(mine, theirs, strict=True):
        here.write_bytes(there.read_bytes())
    for place in ("P1", "P6", "pretrain-pretrained_distilled-log-power-10k"):
        shutil.rmtree(tampered / FOLD / place)
    refused_or_harmless(train(original.data, tampered), tampered, original.out)


@pytest.mark.slow
def test_relabelled_recordings_are_not_taken_for_the_old_ones(
    original: Trained, tampered: Path, tmp_path: Path
) -> None:
    other = changed(original.takes, CALIBRATION, relabel, (*HELD_OUT, *TRAINING))
    fresh = honest(other, tmp_path / "fresh")
    said = train(tmp_path / "fresh" / "data" / "people.yaml", tampered)
    refused_or_harmless(said, tampered, fresh)
