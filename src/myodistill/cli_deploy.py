"""The commands that take a bundle to a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from myodistill.datasets.catalogue import open_dataset
from myodistill.datasets.dataset import Dataset
from myodistill.deploy.bundle import Bundle
from myodistill.deploy.export import TARGETS
from myodistill.deploy.export import export as export_bundle
from myodistill.deploy.ladder import deploy_report as climb
from myodistill.errors import BundleError
from myodistill.signals.preprocessing import filtered
from myodistill.signals.windows import Windows
from myodistill.splits import Split, make_split

BundleFolder = Annotated[Path, typer.Argument(help="folder of a person's student")]


def export(
    bundle: BundleFolder,
    to: Annotated[str, typer.Option(help=", ".join(TARGETS))],
    out: Annotated[Path | None, typer.Option(help="file, or folder for C")] = None,
) -> None:
    """Write a student for a target: ONNX, 8-bit ONNX, or C99 sources."""
    student = Bundle.load(bundle)
    place = out or bundle / ("decoder.onnx" if to == "onnx" else to)
    dataset, split, subject = _origin(student)
    calibration = _calibration(student, dataset, split, subject)
    export_bundle(student, to, place, calibration=calibration, step=dataset.facts.step)
    typer.echo(f"{to}: {place}")


def deploy_report(
    bundle: BundleFolder,
    out: Annotated[Path | None, typer.Option(help="JSON file; else beside the bundle")] = None,
) -> None:
    """Measure a student on every rung from PyTorch to the Cortex-M, on the test sessions."""
    student = Bundle.load(bundle)
    dataset, split, subject = _origin(student)
    recordings = [
        recording
        for recording in dataset.recordings(subject)
        if recording.session in split.test_sessions
    ]
    calibration = _calibration(student, dataset, split, subject)
    ladder = climb(student, recordings, calibration, step=dataset.facts.step)
    place = out or bundle / "ladder.json"
    ladder.write(place)
    Console(width=140).print(ladder.table())
    typer.echo(f"ladder: {place}")


def _origin(student: Bundle) -> tuple[Dataset, Split, str]:
    """Return whose student it is, from its provenance.

    Raises:
        BundleError: It belongs to no person, or the data at hand make another split.
    """
    origin = student.origin
    if not origin.get("subject"):
        raise BundleError(
            f"{student.model}: expected a student that has met its person, got one of the stage "
            f"'{origin.get('stage')}'; take a bundle from a subject's folder"
        )
    dataset = open_dataset(origin["dataset"])
    split = make_split(dataset, origin["fold"])
    if split.hash != origin["split"]:
        raise BundleError(
            f"{student.model}: expected the split {origin['split']} that it was trained on, the "
            f"recordings at hand make {split.hash}; point MYODISTILL_DATA to the same ones"
        )
    return dataset, split, origin["subject"]


def _calibration(student: Bundle, dataset: Dataset, split: Split, subject: str) -> Windows:
    """Return the filtered windows that the student calibrated on; none of them is scored."""
    assert student.preprocessing is not None
    windows = filtered(
        dataset.recordings(subject),
        student.preprocessing.sections(),
        samples=student.spec.samples,
        step=dataset.facts.step,
    )
    return windows.select(split.unlabelled(subject, student.origin["k"]))
