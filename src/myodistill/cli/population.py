"""The commands for people who are in no study: a population, and one person's bundle of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from myodistill.cli.flags import Command, Group
from myodistill.config import Settings
from myodistill.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from myodistill.bundle import Bundle
    from myodistill.distillation.calibration import Calibration
    from myodistill.distillation.expectation import LeftOut
    from myodistill.distillation.population import Population

_path = click.Path(path_type=Path)
_population = click.argument("population", type=_path)
_population_or_none = click.argument("population", metavar="POPULATION|none")
_subject = click.option("--subject", help="whose recordings, where PERSON holds several people's")

population = Group(
    "population", help="Look at populations, and make one of several.", no_args_is_help=True
)


def pretrain_everybody(settings: Settings, exclude: str, expected: Path | None) -> None:
    """Make a population of all people of a dataset but some."""
    from myodistill.distillation.population import of_training, pretrain
    from myodistill.reporting.expected import expected_of

    found = expected_of(expected, settings) if expected is not None else ()
    left_out = [name.strip() for name in exclude.split(",") if name.strip()]
    people = pretrain(
        settings.dataset,
        exclude=left_out,
        out=settings.out,
        expected=found,
        **of_training(settings),
    )
    click.echo(f"population of {len(people.subjects)} people: {settings.out}")


@population.command("show")
@_population
def show(population: Path) -> None:
    """Print the model card of a population: whose it is, and what to expect of it."""
    from myodistill.distillation.population import Population

    click.echo(Population.load(population).card)


@population.command("merge")
@click.argument("populations", nargs=-1, required=True, type=_path)
@click.option("--out", required=True, type=_path, help="folder of the new population")
def merge(populations: tuple[Path, ...], out: Path) -> None:
    """Train one population on the people of several, with the settings of the first.

    Their datasets have to be at hand: a population holds no recordings. Electrodes, rate, unit and
    gestures must be the same.
    """
    from myodistill.distillation.merge import merge_populations

    people = merge_populations(populations, out)
    click.echo(f"population of {len(people.subjects)} people: {out}")


@click.command("calibrate", cls=Command)
@_population_or_none
@click.argument("person")
@click.option("--out", required=True, type=_path, help="folder of the bundle")
@_subject
@click.option("--k", type=int, help="repetitions of the newest session; else all that there are")
@click.option("--student-model", help="one of the population's, else its first; any without one")
@click.option("--loss", help="one of the population's, else its first; any without one")
@click.option(
    "--false-activations",
    type=float,
    help="share (0 to 1) of the person's rest that may be decided as a gesture",
)
@click.option("--to", help="export for this target, too: see 'myodistill exporters'")
@click.option(
    "--estimate/--no-estimate",
    default=True,
    help="say what accuracy to expect, by leaving out repetitions [default: estimate]",
)
def calibrate(
    population: str,
    person: str,
    out: Path,
    subject: str | None,
    k: int | None,
    student_model: str | None,
    loss: str | None,
    false_activations: float | None,
    to: str | None,
    estimate: bool,
) -> None:
    """Make the decoder of a person who is in no dataset, from a few repetitions.

    PERSON is a folder that 'myodistill record' filled, or recordings of one person that are
    described (a .yaml file, an EMG-BIDS folder, a prepared store). All sessions calibrate, the
    newest as the one that is worn; its first K repetitions are used. With none in the place of
    POPULATION, teachers and student learn from the person alone.
    """
    from myodistill.datasets.registry import open_dataset
    from myodistill.deploy.rejection import require_rate
    from myodistill.deploy.targets import require_target
    from myodistill.distillation import calibration as calibrating
    from myodistill.distillation.alone import own_population
    from myodistill.distillation.expectation import leave_one_repetition_out
    from myodistill.distillation.newcomer import of_one
    from myodistill.distillation.population import Population
    from myodistill.files import new_folder, write_text

    begin = time.monotonic()
    if to is not None:
        require_target(to)
    if false_activations is not None:
        require_rate(false_activations)
    folder = _or_none(population)
    known = None if folder is None else Population.load(folder)
    names = calibrating.student_of(known, student_model, loss)
    settings = calibrating.calibration_settings(known, {}, names)
    dataset = open_dataset(person)
    facts = dataset.facts if known is None else known.facts
    sessions = calibrating.person_sessions(known, of_one(dataset, subject), facts, k)
    if false_activations is not None:
        _rest(sessions.gestures)
    if sessions.missing:
        click.echo(
            f"no repetition of {', '.join(sessions.missing)}: decided by what other people do",
            err=True,
        )
    people = known or own_population(facts, sessions, settings)
    calibration = calibrating.Calibration.of(people, sessions, settings)
    bundle = calibration.bundle(names)
    bundle.origin["opened"] = person
    with new_folder(out) as part:
        bundle.save(part)
    used = f"{sessions.k} repetition{'s' * (sessions.k != 1)} of session {sessions.names[-1]}"
    if earlier := sessions.names[:-1]:
        used += f" and {len(earlier)} earlier session{'s' * (len(earlier) > 1)}"
    click.echo(f"bundle of {sessions.subject}: {out} ({used}, {time.monotonic() - begin:.1f} s)")
    left = None
    if sessions.k > 1 and (estimate or false_activations is not None):
        left = leave_one_repetition_out(people, sessions, settings, names)
    if estimate:
        line, values = _expectation(people, sessions.k, left)
        write_text(out / "expected.json", json.dumps(values, indent=1))
        click.echo(line)
    if false_activations is not None:
        threshold = _threshold(calibration, bundle, left, false_activations)
        bundle = replace(bundle, rule=replace(bundle.rule, threshold=threshold))
        bundle.save(out)
    if to is not None:
        _export(bundle, to, out, person)


@click.command("recalibrate", cls=Command)
@_population_or_none
@click.argument("bundle", type=_path)
@click.argument("person")
@click.option("--out", required=True, type=_path, help="folder of the new bundle")
@_subject
def recalibrate(population: str, bundle: Path, person: str, out: Path, subject: str | None) -> None:
    """Re-centre a person's bundle to electrodes that were put on again, without a label.

    The first repetition of PERSON's newest session is read, or all of a recording without labels.
    With labels of the day, calibrate instead. POPULATION is what the bundle was calibrated from.
    """
    from myodistill.datasets.registry import open_dataset
    from myodistill.distillation.calibration import recalibrate as recentred
    from myodistill.distillation.newcomer import of_one
    from myodistill.files import new_folder

    begin = time.monotonic()
    recordings = of_one(open_dataset(person), subject)
    made = recentred(bundle, _or_none(population), recordings)
    with new_folder(out) as part:
        made.save(part)
    worn = made.origin["recentred"]
    click.echo(f"bundle for session {worn}: {out} ({time.monotonic() - begin:.1f} s)")


def _or_none(population: str) -> Path | None:
    """Return the folder of a population; None for ``none``, where nobody stands behind a person."""
    return None if population == "none" else Path(population)


def _expectation(people: Population, k: int, left: LeftOut | None) -> tuple[str, dict[str, object]]:
    """Say what accuracy to expect; return the line, and what is written beside the bundle."""
    from myodistill.distillation.expectation import of_population

    if left is not None:
        low, high = left.interval
        count = len(left.accuracies)
        line = (
            f"expected accuracy: {left.mean:.1%} [{low:.1%}, {high:.1%}], window by window, each "
            f"of {count} repetitions decided after calibration on the other {left.k}"
        )
        values: dict[str, object] = {
            "from": "repetitions left out one by one",
            "k": left.k,
            "accuracies": list(left.accuracies),
            "mean": left.mean,
            "interval": [low, high],
        }
        return line, values
    if (one := of_population(people, k)) is not None:
        line = (
            f"expected accuracy: {one.mean:.1%} [{one.low:.1%}, {one.high:.1%}], worst person "
            f"{one.worst:.1%}: what {one.people} other people reached with K={k}, not measured "
            f"on this person"
        )
        return line, {"from": "people whom the population's recipe held out", **asdict(one)}
    if people.alone:
        labelled = "one repetition" if k else "a session without labels"
        return f"expected accuracy: cannot be told from {labelled}", {"from": "nothing", "k": k}
    line = (
        f"expected accuracy: unknown. With K={k} nothing can be left out, and the population does "
        f"not say what others reached (pretrain --expected RUN_FOLDER)"
    )
    return line, {"from": "nothing", "k": k}


def _threshold(
    calibration: Calibration, bundle: Bundle, left: LeftOut | None, rate: float
) -> float:
    """Choose a rejection threshold on the person's rest; say on which windows."""
    from myodistill.deploy.rejection import activation_threshold
    from myodistill.distillation.expectation import calibration_windows

    if left is not None:
        logits, labels, told = left.logits, left.labels, "repetitions that were left out"
    else:
        windows = calibration_windows(calibration)
        logits, labels, told = bundle.logits(windows), windows.labels, "the calibration itself"
    threshold = activation_threshold(logits, labels, _rest(bundle.spec.gestures), rate)
    what = f"decisions less than {threshold:.4g} confident are withheld"
    share = f"at most {rate:.1%} of the rest in {told} becomes a gesture"
    click.echo(f"{what if threshold else 'no decision is withheld'}: {share}")
    return threshold


def _rest(gestures: Sequence[str]) -> int:
    from myodistill.evaluation.events import rest_of

    rest = rest_of(gestures)
    if rest is None:
        raise SettingsError(
            "false activations: expected rest among the gestures, there is none; record rest as a "
            "gesture, or export with --withhold"
        )
    return rest


def _export(bundle: Bundle, to: str, out: Path, person: str) -> None:
    from myodistill.deploy.export import export
    from myodistill.deploy.subject_data import SubjectData

    place = out / ("decoder.onnx" if to == "onnx" else to)
    export(bundle, to, place, windows=SubjectData.of(bundle, person).ranges)
    click.echo(f"{to}: {place}")
