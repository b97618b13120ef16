"""The command line: what a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

import errno
import importlib.util
import logging

import click

from myodistill import __version__
from myodistill.cli.data import data
from myodistill.cli.deploy import decode, deploy_report, export
from myodistill.cli.evaluate import evaluate
from myodistill.cli.experiment import add_experiments
from myodistill.cli.flags import Group
from myodistill.cli.live import live
from myodistill.cli.models import exporters, losses, models
from myodistill.cli.population import calibrate, population, recalibrate
from myodistill.cli.record import record
from myodistill.cli.report import figure, figures, report, table
from myodistill.cli.stream import stream
from myodistill.errors import MyoDistillError, not_installed, one_line

_INSTALLED = all(map(importlib.util.find_spec, ("torch", "pandas", "scipy")))
_UNREADABLE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP)

app = Group(
    "myodistill",
    help="Many people's muscle recordings in, a tiny gesture decoder for one person out.",
    no_args_is_help=True,
)
click.version_option(__version__, prog_name="myodistill")(app)
add_experiments(app)
for _command in (evaluate, report, table, figure, figures, data, models, losses, exporters):
    app.add_command(_command)
app.add_command(data.commands["list"], "datasets")
for _command in (population, record, calibrate, recalibrate, export, deploy_report, decode):
    app.add_command(_command)
for _command in (stream, live):
    app.add_command(_command)


def main() -> None:
    """Run the command line; an error that the user can fix is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code = app.main(prog_name="myodistill", standalone_mode=False)
    except MyoDistillError as error:
        click.echo(f"myodistill: {error}", err=True)
        raise SystemExit(2) from None
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        raise SystemExit(2) from None
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        advice = f" See '{path} --help'." if path else ""
        click.echo(f"myodistill: {one_line(error.format_message(), 200)}{advice}", err=True)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        if _INSTALLED:
            raise  # a defect
        click.echo(f"myodistill: {not_installed(error)}", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        path = one_line(str(error.filename))
        click.echo(f"myodistill: {path}: expected to read there, got: {error.strerror}", err=True)
        raise SystemExit(2) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("myodistill: stopped; the same command resumes from here", err=True)
        raise SystemExit(130) from None
    raise SystemExit(code if isinstance(code, int) else 0)
