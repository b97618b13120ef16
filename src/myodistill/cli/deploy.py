"""The commands that take a bundle to a device, or run it here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from myodistill.cli.flags import Command
from myodistill.errors import SettingsError

if TYPE_CHECKING:
    from myodistill.decision_rule import DecisionRule
    from myodistill.deploy.subject_data import SubjectData

_path = click.Path(path_type=Path)
_bundle = click.argument("bundle", type=_path)
_dataset = click.option("--dataset", help="dataset's name, file or folder; else as the bundle says")

_reject_below = click.option(
    "--reject-below", type=float, help="withhold decisions less confident than this (0 to 1)"
)
_withhold = click.option(
    "--withhold", type=float, help="or withhold this share (0 to 1) of calibration windows"
)


def _rule(
    subject_data: SubjectData, reject_below: float | None, withhold: float | None
) -> DecisionRule:
    """Return the rule of a student, with another threshold if one is asked for."""
    from myodistill.deploy.rejection import rejection_threshold

    student = subject_data.student
    if withhold is not None:
        reject_below = rejection_threshold(student, subject_data.calibration, withhold)
    return student.rule if reject_below is None else replace(student.rule, threshold=reject_below)


def _require_one(reject_below: float | None, withhold: float | None) -> None:
    if reject_below is not None and withhold is not None:
        raise SettingsError("threshold: expected one of --reject-below and --withhold, got both")


@click.command("export", cls=Command)
@_bundle
@click.option("--to", required=True, help="target, see 'myodistill exporters'")
@click.option("--out", type=_path, help="file for ONNX, else folder")
@click.option("--shared", is_flag=True, help="with C: compile it for this computer as well")
@_dataset
@_reject_below
@_withhold
def export(
    bundle: Path,
    to: str,
    out: Path | None,
    shared: bool,
    dataset: str | None,
    reject_below: float | None,
    withhold: float | None,
) -> None:
    """Write a student for a target: ONNX, 8-bit ONNX, C99 sources, ExecuTorch or a plug-in's."""
    from myodistill.bundle import Bundle
    from myodistill.deploy.export import export as export_bundle
    from myodistill.deploy.subject_data import SubjectData
    from myodistill.deploy.targets import require_target
    from myodistill.evaluation.events import without_rest

    require_target(to)
    _require_one(reject_below, withhold)
    student = Bundle.load(bundle)
    subject_data = SubjectData.of(student, dataset)
    rule = _rule(subject_data, reject_below, withhold)
    path = out or bundle / ("decoder.onnx" if to == "onnx" else to)
    export_bundle(student, to, path, windows=subject_data.ranges, rule=rule, shared=shared)
    click.echo(f"{to}: {path}")
    if rule.threshold:
        click.echo(f"decisions less than {rule.threshold:.4g} confident are withheld")
    elif caution := without_rest(student.spec.gestures):
        click.echo(caution, err=True)


@click.command("deploy-report", cls=Command)
@_bundle
@click.option("--out", type=_path, help="JSON file; else beside the bundle")
@_dataset
@_reject_below
@_withhold
def deploy_report(
    bundle: Path,
    out: Path | None,
    dataset: str | None,
    reject_below: float | None,
    withhold: float | None,
) -> None:
    """Measure every form of a student, from PyTorch to the Cortex-M, on the test sessions.

    To add the result to the report of the run, write the report again: myodistill report
    RUN_FOLDER.
    """
    from rich.console import Console

    from myodistill.bundle import Bundle
    from myodistill.deploy.parity import deploy_report as check_parity
    from myodistill.deploy.subject_data import SubjectData

    _require_one(reject_below, withhold)
    student = Bundle.load(bundle)
    subject_data = SubjectData.of(student, dataset)
    rule = _rule(subject_data, reject_below, withhold)
    parity_table = check_parity(
        student, subject_data.tests, subject_data.ranges, rule=rule, unseen=subject_data.unseen
    )
    path = out or bundle / "parity.json"
    parity_table.write(path)
    Console(width=80).print(parity_table.table())
    click.echo(f"parity table: {path}")


@click.command("decode", cls=Command)
@_bundle
@click.option("--source", required=True, metavar="NAME:ADDRESS", help="e.g. replay:take.csv")
def decode(bundle: Path, source: str) -> None:
    """Decode a stream with a person's bundle: one line of JSON per decision.

    A decision that is withheld has no gesture.
    """
    from myodistill.bundle import Bundle
    from myodistill.realtime.decoder import Decoder
    from myodistill.realtime.sources import open_source

    student = Bundle.load(bundle)
    decoder, gestures = Decoder(student), student.spec.gestures
    for chunk in open_source(source, student.spec):
        for one in decoder.push(chunk):
            line = {
                "sample": one.sample,
                "seconds": one.sample / student.spec.sampling_rate,
                "gesture": gestures[one.gesture] if one.gesture >= 0 else None,
                "confidence": one.confidence,
            }
            click.echo(json.dumps(line, ensure_ascii=False))
