"""The commands that train: a whole run, its stages, a search, and studies of many runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from myodistill.cli.flags import Group, settings_command
from myodistill.config import Settings
from myodistill.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

    from myodistill.studies.runner import Until


def run(settings: Settings) -> None:
    """Do everything: pre-train, fine-tune, distill, evaluate, for chosen folds and subjects.

    Finished work that is still valid is not repeated; a killed run resumes.
    """
    from myodistill.datasets.registry import open_dataset
    from myodistill.evaluation.events import without_rest
    from myodistill.evaluation.results import Method
    from myodistill.reporting.report import report

    table = experiment(settings)
    show(table, settings)
    written = report(settings.out)
    best = table[table["stage"] == "pretrained_distilled"].sort_values("k").iloc[-1]
    seed = settings.out / f"fold-{best.fold}" / f"seed-{best.seed}"
    method = Method("pretrained_distilled", best.model, best.loss)
    click.echo(f"report: {written}")
    if caution := without_rest(open_dataset(settings.dataset).facts.gestures):
        click.echo(caution, err=True)
    click.echo(
        f"student bundle of {best.subject}: {seed / best.subject / f'k-{best.k}' / method.folder}"
    )


def pretrain(settings: Settings, fold: str, exclude: str, expected: Path | None) -> None:
    """Stage 1: train the teachers across the subjects that are not held out.

    With --fold none nobody is held out: --out becomes a population, which new people are
    calibrated from (myodistill calibrate).
    """
    from myodistill.cli.population import pretrain_everybody

    if fold == "none":
        pretrain_everybody(settings, exclude, expected)
        return
    if exclude or expected is not None:
        raise SettingsError("pretrain: expected --exclude and --expected with --fold none only")
    if fold:
        settings = Settings.load({**settings.model_dump(), "fold": fold})
    experiment(settings, "pretrain")
    click.echo(f"teachers: {settings.out}/fold-*/seed-*/pretrain-*")


def finetune(settings: Settings) -> None:
    """Stage 2: fine-tune the teachers to held-out subjects; pre-trains what is missing."""
    show(experiment(settings, "finetune"), settings)


def distill(settings: Settings) -> None:
    """Stage 3: distill students from the fine-tuned teachers; trains what is missing."""
    show(experiment(settings), settings)


def tune(settings: Settings) -> None:
    """Search for alpha, temperature, loss and learning rate on one fold's training subjects.

    The student without a teacher gets the same number of trials. Needs one --fold; --loss names
    the losses to choose from.
    """
    from myodistill.studies import tune as tuning

    results = tuning.tune(settings, log=partial(click.echo, err=True))
    click.echo(tuning.table(results), nl=False)


def baseline(settings: Settings) -> None:
    """Add a method to a run under its protocol: a classical one, or a network without a teacher.

    Options that are not given are taken from the run in --out, if there is one. A later run keeps
    these rows if it is given the same --baseline. Several names are separated by commas.
    """
    from myodistill.reporting.report import report

    show(experiment(settings, "baseline"), settings)
    click.echo(f"report: {report(settings.out)}")


@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="folder; else the one that the study names"
)
def study(file: Path, out: Path | None) -> None:
    """Complete a study run by run, and write every report and an index."""
    from rich.console import Console

    from myodistill.studies.study import carry_out, read_study

    click.echo(f"index: {carry_out(read_study(file, out=out), console=Console())}")


def add_experiments(app: Group) -> None:
    """Add the commands to a group."""
    settings_command(app, "run")(run)
    settings_command(
        app,
        "pretrain",
        section="pretrain",
        with_stages=True,
        rename={"teacher_model": "model"},
        options=_OF_PRETRAIN,
    )(pretrain)
    settings_command(app, "finetune", section="finetune")(finetune)
    settings_command(app, "distill", section="distill")(distill)
    settings_command(app, "tune")(tune)
    settings_command(app, "baseline", rename={"baseline": "name"}, argument="baseline")(baseline)
    app.command("study")(study)


_OF_PRETRAIN = (
    click.Option(
        ["--fold"],
        default="",
        metavar="LIST|none",
        help="folds over subjects, from 1; left out: all; none: hold nobody out",
    ),
    click.Option(["--exclude"], default="", metavar="LIST", help="people to leave out"),
    click.Option(
        ["--expected"],
        type=click.Path(path_type=Path),
        metavar="RUN_FOLDER",
        help="a run whose held-out people say what to expect of the population",
    ),
)


def experiment(settings: Settings, until: Until = "distill") -> pd.DataFrame:
    """Run the stages up to ``until`` under one bar; return the results table."""
    from myodistill.studies.experiment import run_experiment, steps

    with _progress(partial(steps, settings)) as tick:
        return run_experiment(settings, until=until, tick=tick)


@contextmanager
def _progress(total: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Show how far a run is and how long it will take, in a terminal; plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (
        TextColumn("run"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=24 * 3600) as progress:
        task = progress.add_task("run", total=total())
        yield partial(progress.advance, task)


def show(table: pd.DataFrame, settings: Settings) -> None:
    """Print a summary of the results, and the path of the full table."""
    from rich.console import Console

    from myodistill.datasets.registry import open_dataset
    from myodistill.evaluation import results
    from myodistill.evaluation.protocol import at_chance

    gestures = len(open_dataset(settings.dataset).facts.gestures)
    stuck = at_chance(table, gestures) if len(table) else None
    Console().print(results.render(table, at_chance=stuck))
    click.echo(f"results: {settings.out / 'results.parquet'}")
