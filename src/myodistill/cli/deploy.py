"""The commands that take a bundle to a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from myodistill.bundle import Bundle
from myodistill.deploy.export import export as export_bundle
from myodistill.deploy.parity import deploy_report as check_parity
from myodistill.deploy.rejection import rejection_threshold
from myodistill.deploy.subject_data import SubjectData
from myodistill.deploy.targets import TARGETS, require_target
from myodistill.errors import SettingsError
from myodistill.evaluation.events import without_rest

BundleFolder = Annotated[Path, typer.Argument(help="folder of a person's student")]
RunPaths = Annotated[
    str | None, typer.Option(help="name, file or folder, where the bundle's own is no help")
]


def export(
    bundle: BundleFolder,
    to: Annotated[str, typer.Option(help=", ".join(TARGETS))],
    out: Annotated[Path | None, typer.Option(help="file for ONNX, else folder")] = None,
    dataset: RunPaths = None,
    reject_below: Annotated[
        float | None, typer.Option(help="withhold decisions less confident than this (0 to 1)")
    ] = None,
    withhold: Annotated[
        float | None, typer.Option(help="or: withhold this share (0 to 1) of calibration windows")
    ] = None,
) -> None:
    """Write a student for a target: ONNX, 8-bit ONNX, C99 sources, or ExecuTorch."""
    require_target(to)
    if reject_below is not None and withhold is not None:
        raise SettingsError("export: expected one of --reject-below and --withhold, got both")
    student = Bundle.load(bundle)
    rule = student.rule if reject_below is None else replace(student.rule, threshold=reject_below)
    wearer = SubjectData.of(student, dataset)
    if withhold is not None:
        threshold = rejection_threshold(student, wearer.calibration, withhold)
        rule = replace(rule, threshold=threshold)
    place = out or bundle / ("decoder.onnx" if to == "onnx" else to)
    export_bundle(student, to, place, calibration=wearer.ranges, rule=rule)
    typer.echo(f"{to}: {place}")
    if rule.threshold:
        typer.echo(f"decisions less than {rule.threshold:.4g} confident are withheld")
    elif caution := without_rest(student.spec.gestures):
        typer.echo(caution, err=True)


def deploy_report(
    bundle: BundleFolder,
    out: Annotated[Path | None, typer.Option(help="JSON file; else beside the bundle")] = None,
    dataset: RunPaths = None,
) -> None:
    """Measure a student on every rung from PyTorch to the Cortex-M, on the test sessions.

    The report of the run shows it when it is written again: myodistill report RUN_FOLDER.
    """
    student = Bundle.load(bundle)
    wearer = SubjectData.of(student, dataset)
    parity_table = check_parity(student, wearer.tests, wearer.ranges)
    place = out or bundle / "parity.json"
    parity_table.write(place)
    Console(width=140).print(parity_table.table())
    typer.echo(f"parity table: {place}")
