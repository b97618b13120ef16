"""One command per stage; every flag is made from the settings."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import pandas as pd
import typer
from pydantic import BaseModel
from rich.console import Console

from myodistill.cli import deploy as cli_deploy
from myodistill.cli.data import data
from myodistill.config import Settings, read_settings
from myodistill.datasets.registry import open_dataset
from myodistill.deploy import targets
from myodistill.errors import MyoDistillError, SettingsError, Wanted, shown
from myodistill.evaluation import results
from myodistill.evaluation.events import without_rest
from myodistill.evaluation.protocol import STUDENTS, at_chance, require_one_protocol
from myodistill.models import verification
from myodistill.readers import read_json
from myodistill.reporting.figures import draw
from myodistill.reporting.report import report
from myodistill.studies import tune as tuning
from myodistill.studies.experiment import run_experiment
from myodistill.studies.runner import Method
from myodistill.studies.study import carry_out, read_study

app = typer.Typer(
    help="Many people's muscle recordings in, a tiny gesture decoder for one person out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
evaluate = typer.Typer(help="Score what was trained.", no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")
app.add_typer(data, name="data")

console = Console()

_SETTINGS = Wanted("the settings of a run", SettingsError, "choose another folder with --out")

_SECTIONS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)


def main() -> None:
    """Run the command line: exit code 2 and one line for what a user can mend."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except MyoDistillError as error:
        typer.echo(f"myodistill: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("myodistill: stopped; the same command goes on from here", err=True)
        raise SystemExit(130) from None


def command(
    group: typer.Typer,
    name: str,
    *,
    section: str = "",
    rename: dict[str, str] | None = None,
    argument: str = "",
) -> Callable[[Callable[[Settings], None]], Callable[[Settings], None]]:
    """Register a function of the settings as a command that takes them as flags.

    Args:
        group: Where the command goes.
        name: Of the command.
        section: The stage whose options lose their prefix here: ``pretrain --num-epochs`` is
            ``run --pretrain.num-epochs``.
        rename: Other flag names for some options, as the published method calls them.
        argument: An option that is asked for without a flag. Such a command adds to a run: what
            is not said is taken from the settings of the run in ``--out``.
    """
    options = _options(section)
    places = {key: f"option_{place}" for place, key in enumerate(options)}
    flags = {key: (rename or {}).get(key, key.removeprefix(f"{section}.")) for key in options}

    def register(function: Callable[[Settings], None]) -> Callable[[Settings], None]:
        def call(config: Path | None, **given: str | None) -> None:
            values = read_settings(config) if config is not None else {}
            if argument and config is None and given[places["out"]] is not None:
                values = _of_run(Path(str(given[places["out"]])))
            for key, text in zip(options, given.values(), strict=True):
                if text is not None:
                    _put(values, key, text)
            function(Settings.load(values))

        parameters = [
            _parameter("config", Path, "--config", "YAML file of options; flags go before it")
        ]
        parameters += [
            _parameter(
                places[key],
                str,
                flags[key] if key == argument else "--" + flags[key].replace("_", "-"),
                text,
            )
            for key, text in options.items()
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        group.command(
            name,
            help=inspect.getdoc(function),
            context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
        )(call)
        return function

    return register


def _parameter(name: str, kind: Any, flag: str, text: str) -> inspect.Parameter:
    if not flag.startswith("--"):
        required = Annotated[kind, typer.Argument(help=text, metavar=flag.upper())]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=required)
    metavar = "FILE" if kind is Path else "VALUE"
    option = typer.Option(flag, help=text, metavar=metavar, show_default=False)
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _options(section: str) -> dict[str, str]:
    """Help text by dotted option name: all of the run, or those of one stage."""
    options: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        if name not in _SECTIONS:
            options[name] = _help(field.description, field.default, field.annotation)
    for name in _SECTIONS:
        if section in ("", name):
            stage: Any = Settings.model_fields[name].annotation
            for key, field in stage.model_fields.items():
                options[f"{name}.{key}"] = _help(field.description, field.default, field.annotation)
    return options


def _help(description: str | None, default: object, annotation: Any) -> str:
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    allowed = [str(value) for value in get_args(annotation) if isinstance(value, str)]
    choices = f" ({', '.join(allowed)})" if allowed else ""
    return f"{description}{choices} [{shown or 'all'}]"


def _of_run(folder: Path) -> dict[str, Any]:
    """Return the settings of a run, none if there is no run."""
    path = folder / "settings.json"
    return read_json(path, _SETTINGS) | {"baseline": ()} if path.exists() else {}


def _put(values: dict[str, Any], key: str, text: str) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{part}: expected options below it, got {shown(values)}")
    values[last] = text


@command(app, "run")
def run(settings: Settings) -> None:
    """Do everything: pre-train, fine-tune, distill, evaluate, for chosen folds and subjects.

    What is already there and still valid is not done again; a killed run goes on.
    """
    table = run_experiment(settings)
    _show(table, settings)
    written = report(settings.out)
    best = table[table["stage"] == "pretrained_distilled"].sort_values("k").iloc[-1]
    seed = settings.out / f"fold-{best.fold}" / f"seed-{best.seed}"
    method = Method("pretrained_distilled", best.model, best.loss)
    typer.echo(f"report: {written}")
    if caution := without_rest(open_dataset(settings.dataset).facts.gestures):
        typer.echo(caution, err=True)
    typer.echo(
        f"student bundle of {best.subject}: {seed / best.subject / f'k-{best.k}' / method.folder}"
    )


@command(app, "pretrain", section="pretrain", rename={"teacher_model": "model"})
def pretrain(settings: Settings) -> None:
    """Stage 1: train the teachers across the subjects that are not held out."""
    run_experiment(settings, until="pretrain")
    typer.echo(f"teachers: {settings.out}/fold-*/seed-*/pretrain-*")


@command(app, "finetune", section="finetune")
def finetune(settings: Settings) -> None:
    """Stage 2: fine-tune the teachers to held-out subjects; pre-trains what is missing."""
    _show(run_experiment(settings, until="finetune"), settings)


@command(app, "distill", section="distill")
def distill(settings: Settings) -> None:
    """Stage 3: distill students from the fine-tuned teachers; trains what is missing."""
    _show(run_experiment(settings), settings)


@command(app, "tune")
def tune(settings: Settings) -> None:
    """Search for alpha, temperature, loss and learning rate on one fold's training subjects.

    The student without a teacher gets the same number of trials. Needs one --fold; --loss names
    the losses to choose from.
    """
    found = tuning.tune(settings, say=lambda line: typer.echo(line, err=True))
    typer.echo(tuning.table(found), nl=False)


@command(evaluate, "teacher")
def evaluate_teacher(settings: Settings) -> None:
    """Score the teachers, before and after fine-tuning, beside the classical floors.

    A second table says how far their confidence is from the share that is right.
    """
    table = run_experiment(settings, until="finetune")
    console.print(results.render(table, "calibration_error"))
    _show(table, settings)


@command(evaluate, "student")
def evaluate_student(settings: Settings) -> None:
    """Score the students, with and without a teacher, beside the classical floors."""
    table = run_experiment(settings)
    _show(table[table["stage"].isin(("baseline", *STUDENTS))], settings)


@command(app, "baseline", rename={"baseline": "name"}, argument="baseline")
def baseline(settings: Settings) -> None:
    """Add a method to a run under its protocol: a classical one, or a network without a teacher.

    What is not said is as in the run in --out, if there is one; a later run keeps the rows if it
    is told --baseline. Several names are separated by commas.
    """
    _show(run_experiment(settings, until="baseline"), settings)
    typer.echo(f"report: {report(settings.out)}")


@app.command("study")
def make_study(
    file: Annotated[Path, typer.Argument(help="YAML file, as those in studies/")],
    out: Annotated[Path | None, typer.Option(help="folder, if not the one that it says")] = None,
) -> None:
    """Do what is missing of a study, run by run, and write every report and one index."""
    typer.echo(f"index: {carry_out(read_study(file, out=out), console=console)}")


@app.command("report")
def make_report(run_folder: Path) -> None:
    """Write RUN_FOLDER/report.html from the results of a run."""
    typer.echo(f"report: {report(run_folder)}")


@app.command("table")
def table(run_folder: Path) -> None:
    """Print the results of a run as a Markdown table, with 95 % intervals over subjects."""
    frame = results.read(run_folder / "results.parquet")
    require_one_protocol(frame)
    typer.echo(results.markdown(frame), nl=False)


@app.command("figure")
def figure(name: str, run_folder: Path) -> None:
    """Draw one figure of a run into RUN_FOLDER/figures, with the data behind it."""
    for picture in draw(name, run_folder):
        for path in picture.save(run_folder / "figures"):
            typer.echo(path)


@app.command("models")
def show_models(
    pattern: Annotated[str, typer.Argument(help="wildcard over names")] = "*",
    geometry: Annotated[str, typer.Option(help="signal to count for")] = "hyser",
    layout: Annotated[
        verification.Format, typer.Option("--format", help="table, csv, json or markdown")
    ] = "table",
    latency: Annotated[bool, typer.Option("--latency", help="time one window on one core")] = False,
    deployable: Annotated[
        bool, typer.Option("--deployable", help="instead: which targets run each student")
    ] = False,
) -> None:
    """Count every model's parameters and operations; exit with 1 if a printed count is missed."""
    if deployable:
        typer.echo(targets.render(targets.fits(geometry, pattern), layout), nl=False)
        return
    counted = verification.rows(geometry, pattern, timed=latency)
    typer.echo(verification.render(counted, layout), nl=False)
    if verification.off(counted):
        raise typer.Exit(1)


app.command("export")(cli_deploy.export)
app.command("deploy-report")(cli_deploy.deploy_report)


def _show(table: pd.DataFrame, settings: Settings) -> None:
    gestures = len(open_dataset(settings.dataset).facts.gestures)
    stuck = at_chance(table, gestures) if len(table) else None
    console.print(results.render(table, at_chance=stuck))
    typer.echo(f"results: {settings.out / 'results.parquet'}")
