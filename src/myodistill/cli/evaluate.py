"""The commands that score what was trained."""

from __future__ import annotations

from pathlib import Path

import click

from myodistill.cli.experiment import experiment, show
from myodistill.cli.flags import Command, Group, settings_command
from myodistill.config import Settings
from myodistill.errors import SettingsError, shown

evaluate = Group("evaluate", help="Score what was trained.", no_args_is_help=True)


@settings_command(evaluate, "teacher")
def teacher(settings: Settings) -> None:
    """Score the teachers, before and after fine-tuning, beside the classical baselines.

    A second table says how far their confidence is from the share that is right.
    """
    from rich.console import Console

    from myodistill.evaluation import results

    table = experiment(settings, "finetune")
    Console().print(results.render(table, "calibration_error"))
    show(table, settings)


@settings_command(evaluate, "student")
def student(settings: Settings) -> None:
    """Score the students, with and without a teacher, beside the classical baselines."""
    from myodistill.evaluation.protocol import STUDENTS

    table = experiment(settings)
    show(table[table["stage"].isin(("baseline", *STUDENTS))], settings)


@settings_command(
    evaluate,
    "long-term",
    defaults={
        "dataset": "long-term",
        "out": Path("runs/long-term"),
        "k": (0, 1),
        "teacher_model": ("covariance", "log-power"),  # docs/decisions.md, "Days"
    },
    options=(
        click.Option(
            ["--days"], metavar="LIST", help="days to decode [default: 3,6,11,16,21,26,30]"
        ),
        click.Option(
            ["--history"],
            metavar="LIST",
            help="labelled days just before, to learn from [default: 0,1,2,5,10,20]",
        ),
        click.Option(
            ["--first-day/--no-first-day"],
            default=True,
            help="decode all later days from day 1 alone as well [default: first-day]",
        ),
    ),
)
def long_term(settings: Settings, days: str | None, history: str | None, first_day: bool) -> None:
    """Score students over days, on which the electrodes were put on again.

    Each day is decoded from labelled days before it: with nothing of the day, re-centred by its
    first trial without labels (--k 0), or calibrated on that trial (--k 1). Its other trials are
    scored. Epochs of pre-training count for 20 days; fewer get as many steps.
    """
    from rich.console import Console

    from myodistill.evaluation.day_results import render
    from myodistill.studies.long_term import DayProtocol, run_long_term

    given = {"days": days, "history": history}
    lists = {name: _numbers(name, text) for name, text in given.items() if text is not None}
    frame = run_long_term(settings, DayProtocol(**lists, first_day=first_day))
    console = Console()
    for table in render(frame):
        console.print(table)
    for name in ("results.parquet", "table.md", "figures/accuracy-over-days.png"):
        click.echo(f"{settings.out / name}")


@evaluate.command("adaptation", cls=Command)
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--k", metavar="LIST", help="calibration repetitions [default: all of the run]")
@click.option("--student-model", metavar="NAME", help="one of the run's [default: all of them]")
@click.option(
    "--method",
    metavar="LIST",
    default="guarded-gesture-means",
    show_default=True,
    help="of channel-normalisation, adaptive-batch-norm, common-shift, gesture-means and "
    "guarded-gesture-means",
)
def adaptation(run_folder: Path, k: str | None, student_model: str | None, method: str) -> None:
    """Score the students of RUN_FOLDER while they follow their wearer without labels.

    Each person's test session is decoded as recorded, shuffled, with nine tenths rest, with half
    of the gestures, with an unknown movement, with an electrode that dies, and with a band that
    turns; static beside adapting. Nothing is trained.
    """
    from rich.console import Console

    from myodistill.evaluation.adaptation_results import FILE, render
    from myodistill.studies.adaptation import evaluate_adaptation

    frame = evaluate_adaptation(
        run_folder,
        k=None if k is None else _numbers("k", k),
        student=student_model,
        methods=[name.strip() for name in method.split(",")],
    )
    console = Console()
    for table in render(frame):
        console.print(table)
    for name in (FILE, "adaptation.md", "figures/accuracy-in-use.png"):
        click.echo(f"{run_folder / name}")


@evaluate.command("leakage", cls=Command)
@click.option("--dataset", metavar="TEXT", default="synthetic", show_default=True)
@click.option(
    "--split",
    metavar="LIST",
    help="of repetition, random-windows, pooled-windows, and the honest protocol and subject, "
    "which are added where one stands beside them [default: all]",
)
@click.option(
    "--method",
    metavar="LIST",
    help="classical methods and networks [default: lda-time-domain,lda-log-covariance,"
    "svm-time-domain,log-power-30k,covariance]",
)
@click.option("--k", type=int, help="repetitions that calibrate [default: all of a session]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--subjects", metavar="LIST", help="people to score [default: all]")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/LEAKING"), show_default=True
)
def leakage(
    dataset: str,
    split: str | None,
    method: str | None,
    k: int | None,
    seed: int,
    subjects: str | None,
    processes: int,
    out: Path,
) -> None:
    """Show how much a split that leaks flatters each method; for teaching alone.

    Overlapping windows shuffled into training and test, within a person or over all people, and
    repetitions of the session that is scored stand beside the honest protocols. All that is written
    begins with LEAKING, lies in a folder of its own, and is refused wherever results are read.
    """
    from rich.console import Console

    from myodistill.evaluation.leaking_results import FILE, TABLE, render
    from myodistill.studies.leakage import LeakageStudy, evaluate_leakage

    given = {"splits": split, "methods": method, "subjects": subjects}
    lists = {name: _names(text) for name, text in given.items() if text is not None}
    study = LeakageStudy(dataset, k=k, seed=seed, **lists)
    frame = evaluate_leakage(study, out, processes=processes)
    console = Console()
    for table in render(frame):
        console.print(table)
    for name in (FILE, TABLE, "LEAKING-splits.png"):
        click.echo(f"{out / name}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """Read whole numbers that are separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) < 6):
            raise SettingsError(f"{name}: expected whole numbers like 1,2,5, got {shown(part)}")
    return tuple(map(int, parts))
