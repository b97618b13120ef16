"""The ``data`` commands: what there is, get it, look at it, prepare it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from myodistill.cli.flags import Group
from myodistill.errors import DataError, shown

if TYPE_CHECKING:
    from myodistill.datasets.dataset import Facts

data = Group("data", help="List, fetch, inspect and prepare recordings.", no_args_is_help=True)
_path = click.Path(path_type=Path)


@data.command("list")
def list_datasets() -> None:
    """List the known datasets and which of them are at hand."""
    from rich.console import Console
    from rich.table import Table

    from myodistill.datasets.fetch import SOURCES
    from myodistill.datasets.registry import DATASETS, facts_of, open_dataset

    console = Console(width=120, markup=False, emoji=False)
    table = Table("name", "people at hand", "electrodes", "Hz", "gestures", "licence", box=None)
    for name in DATASETS:
        facts = facts_of(name)
        try:
            dataset = open_dataset(name)
            have, facts = str(len(dataset.subjects())), dataset.facts
        except DataError:
            source = SOURCES.get(name)
            have = f"- fetch {name}" if source and not source.by_hand else "- by hand"
        if facts is None:
            continue
        electrodes = f"{_layout(facts)}"
        row = (have, electrodes, f"{facts.sampling_rate:g}", str(len(facts.gestures)))
        table.add_row(name, *row, facts.licence)
    console.print(table)


@data.command("fetch")
@click.argument("name")
@click.option("--to", type=_path, help="folder; else of MYODISTILL_DATA")
@click.option("--only", default="", help="regular expression of the files to fetch")
def fetch(name: str, to: Path | None, only: str) -> None:
    """Download a dataset, or the rest of it; prints its licence and citation first."""
    from myodistill.datasets.fetch import fetch as fetch_dataset

    paths = fetch_dataset(name, to, only=only, tell=click.echo)
    click.echo(f"{len(paths)} files are there: {paths[0] if paths else 'none matched'}")


@data.command("inspect")
@click.argument("what")
@click.option("--subject", default="", help="whose recordings; else the first's")
@click.option("--every", is_flag=True, help="read everybody's recordings")
@click.option("--gesture", default="", help="of the picture; else the second")
@click.option("--out", type=_path, help="the picture's file (.png, .svg)")
def inspect(what: str, subject: str, every: bool, gesture: str, out: Path | None) -> None:
    """Show a dataset with a picture of one gesture, or what an unknown file holds.

    WHAT is a dataset, or a file or folder to describe: for files of no known dataset it drafts the
    description that makes them one.
    """
    from rich.console import Console
    from rich.table import Table

    from myodistill.datasets.inspect import draft, picture, summarise
    from myodistill.datasets.recording import Recording
    from myodistill.datasets.registry import DATASETS, is_dataset, open_dataset
    from myodistill.files import writing
    from myodistill.signals.filters import apply, design

    path = Path(what)
    if what not in DATASETS and not is_dataset(what) and os.path.exists(path):  # noqa: PTH110
        click.echo(draft(path), nl=False)
        return
    dataset = open_dataset(what)
    facts = dataset.facts
    console = Console(width=120, markup=False, emoji=False)
    console.print(
        f"{facts.title}: {len(dataset.subjects())} people, {_layout(facts)} electrodes, "
        f"{facts.sampling_rate:g} Hz, unit {facts.unit}\n"
        f"gestures: {', '.join(facts.gestures)}\n"
        f"calibration: {facts.calibration_session}; scored: "
        f"{', '.join(facts.test_sessions) or 'none'}\n"
        f"licence: {facts.licence}\ncite: {facts.citation}\nhome: {facts.home}",
        highlight=False,
    )
    people = dataset.subjects() if every else (subject or dataset.subjects()[0],)
    table = Table("person", "session: repetitions", "minutes", "seconds a gesture", "bad channels",
                  box=None)  # fmt: skip
    recordings: list[Recording] = []
    for person in people:
        summary, recordings = summarise(dataset, person)
        bad = [f"{c} ({why}, {n} of {len(recordings)})" for c, (n, why) in summary.bad.items()]
        held = [seconds for seconds in summary.held if seconds]
        table.add_row(
            person,
            ", ".join(f"{session}: {count}" for session, count in summary.sessions.items()),
            f"{summary.seconds / 60:.1f}",
            f"{min(held):.1f}-{max(held):.1f}" if held else "none",
            ", ".join(bad[:4]) + (f" and {len(bad) - 4} more" if len(bad) > 4 else "") or "none",
        )
    console.print(table)
    chosen = (
        facts.gestures.index(gesture)
        if gesture in facts.gestures
        else min(1, len(facts.gestures) - 1)
    )
    if gesture and gesture not in facts.gestures:
        raise DataError(
            f"gesture: expected one of {', '.join(facts.gestures)}, got {shown(gesture)}"
        )
    target = out or Path(f"{facts.name}.png")
    sections = design(facts.sampling_rate, facts.passband)
    filtered = [replace(one, signal=apply(sections, one.signal)) for one in recordings]
    figure = picture(filtered, chosen)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=110)
    click.echo(f"picture of '{facts.gestures[chosen]}': {target}")


@data.command("prepare")
@click.argument("name")
@click.option("--out", type=_path, default="prepared", help="folder of prepared stores")
@click.option("--subjects", default="", help="whose, separated by commas; else all")
@click.option("--raw", is_flag=True, help="do not filter")
@click.option("--notch", is_flag=True, help="filter the mains out too")
@click.option("--sampling-rate", type=float, help="resample to this, in Hz")
@click.option("--repair", is_flag=True, help="fill in bad channels")
@click.option("--processes", type=click.IntRange(1), default=1, help="people prepared at once")
def prepare(
    name: str,
    out: Path,
    subjects: str,
    raw: bool,
    notch: bool,
    sampling_rate: float | None,
    repair: bool,
    processes: int,
) -> None:
    """Read, filter and store recordings once, memory-mapped; goes on where it was stopped.

    NAME is that of a dataset, a .yaml file or an EMG-BIDS folder.
    """
    from myodistill.datasets.registry import open_dataset
    from myodistill.signals.preparation import Preparation
    from myodistill.signals.prepared import prepare as prepare_store

    dataset = open_dataset(name)
    facts = dataset.facts
    store = prepare_store(
        name,
        out,
        Preparation(
            passband=None if raw else facts.passband,
            mains=facts.mains if notch and not raw else 0.0,
            sampling_rate=sampling_rate,
            repair=repair,
        ),
        subjects=[part.strip() for part in subjects.split(",") if part.strip()],
        processes=processes,
        dataset=dataset,
        tell=click.echo,
    )
    click.echo(
        f"{store.folder}: {len(store.subjects)} people, {store.signal.nbytes / 2**20:.0f} MiB of "
        f"signal"
    )


def _layout(facts: Facts) -> str:
    electrodes = facts.electrodes
    return f"{electrodes.rows}×{electrodes.columns} {electrodes.layout}"
