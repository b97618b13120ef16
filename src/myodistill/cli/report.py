"""The commands that show a run: its report, its table, its figures."""

from __future__ import annotations

from pathlib import Path

import click

from myodistill.cli.flags import Command

_run_folder = click.argument("run_folder", type=click.Path(path_type=Path))


@click.command("report", cls=Command)
@_run_folder
def report(run_folder: Path) -> None:
    """Write RUN_FOLDER/report.html from the results of a run."""
    from myodistill.reporting.report import report as write

    click.echo(f"report: {write(run_folder)}")


@click.command("table", cls=Command)
@_run_folder
def table(run_folder: Path) -> None:
    """Print the results of a run as a Markdown table, with 95 % intervals over subjects."""
    from myodistill.evaluation import results
    from myodistill.evaluation.protocol import require_one_protocol

    frame = results.read(run_folder / "results.parquet")
    require_one_protocol(frame)
    click.echo(results.markdown(frame), nl=False)


@click.command("figure", cls=Command)
@click.argument("name")
@_run_folder
def figure(name: str, run_folder: Path) -> None:
    """Draw one figure of a run into RUN_FOLDER/figures, with the data behind it."""
    from myodistill.reporting.figures import draw

    for picture in draw(name, run_folder):
        for path in picture.save(run_folder / "figures"):
            click.echo(path)


@click.command("figures", cls=Command)
def figures() -> None:
    """List the figures that can be drawn of a run."""
    from myodistill.reporting.figures import FIGURES

    for name in FIGURES:
        click.echo(name)
