"""The commands that list what a run can be made of: models, losses, exporters."""

from __future__ import annotations

import click

from myodistill.cli.flags import Command


@click.command("models", cls=Command)
@click.argument("pattern", default="*")
@click.option("--geometry", default="hyser", show_default=True, help="signal to count for")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "csv", "json", "markdown"]),
    default="table",
    show_default=True,
)
@click.option("--latency", is_flag=True, help="time one window on one core")
@click.option("--deployable", is_flag=True, help="instead: which targets run each student")
@click.pass_context
def models(
    context: click.Context,
    pattern: str,
    geometry: str,
    layout: str,
    latency: bool,
    deployable: bool,
) -> None:
    """Count the parameters and operations of the models whose names match PATTERN.

    Exits with 1 if a count is more than 1 % off the published one.
    """
    from myodistill.deploy import targets
    from myodistill.models import verification

    form: verification.Format = layout  # type: ignore[assignment]  # one of the choices
    if deployable:
        click.echo(targets.render(targets.fits(geometry, pattern), form), nl=False)
        return
    counted = verification.rows(geometry, pattern, timed=latency)
    click.echo(verification.render(counted, form), nl=False)
    if verification.off(counted):
        context.exit(1)


@click.command("losses", cls=Command)
def losses() -> None:
    """List the distillation losses."""
    from myodistill.training.losses import FEATURE_LOSSES, LOSSES

    for name in (*LOSSES, *FEATURE_LOSSES):
        click.echo(name)


@click.command("exporters", cls=Command)
def exporters() -> None:
    """List what a bundle can be exported to."""
    from myodistill.deploy.targets import targets

    for name, gives in targets().items():
        click.echo(f"{name}: {gives}")
