"""Options that every command with a live stream has."""

from __future__ import annotations

from pathlib import Path

import click

adapt = click.option("--adapt", is_flag=True, help="follow the wearer without labels")
state = click.option(
    "--state", type=click.Path(path_type=Path), help="file that keeps what adapting learned"
)
loop = click.option("--loop", is_flag=True, help="begin a replay again when it ends")
rate_after = click.option(
    "--rate-after",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    help="seconds after which a wrong sampling rate is refused; 0 for never",
)
