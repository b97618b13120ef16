"""The commands that score what was trained."""

from __future__ import annotations

from myodistill.cli.experiment import experiment, show
from myodistill.cli.flags import Group, settings_command
from myodistill.config import Settings

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
