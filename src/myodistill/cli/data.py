"""The ``data`` commands: what there is, get it, look at it, prepare it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from myodistill.datasets.dataset import Facts
from myodistill.datasets.fetch import SOURCES
from myodistill.datasets.fetch import fetch as fetch_dataset
from myodistill.datasets.inspect import draft, picture, summarise
from myodistill.datasets.recording import Recording
from myodistill.datasets.registry import DATASETS, FACTS, is_dataset, open_dataset
from myodistill.errors import DataError, shown
from myodistill.files import writing
from myodistill.signals.filters import apply, design
from myodistill.signals.preparation import Preparation
from myodistill.signals.prepared import prepare as prepare_store

data = typer.Typer(help="List, fetch, inspect and prepare recordings.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="name of a dataset, a .yaml file or an EMG-BIDS folder")]


@data.command("list")
def list_datasets() -> None:
    """List the known datasets and which of them are at hand."""
    console = Console(width=120, markup=False, emoji=False)
    table = Table("name", "people at hand", "electrodes", "Hz", "gestures", "licence", box=None)
    for name in DATASETS:
        facts = FACTS.get(name)
        try:
            dataset = open_dataset(name)
            have, facts = str(len(dataset.subjects())), dataset.facts
        except DataError:
            have = "- by hand" if SOURCES[name].by_hand else f"- fetch {name}"
        if facts is None:
            continue
        electrodes = f"{_layout(facts)}"
        row = (have, electrodes, f"{facts.sampling_rate:g}", str(len(facts.gestures)))
        table.add_row(name, *row, facts.licence)
    console.print(table)


@data.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="name of a dataset")],
    to: Annotated[Path | None, typer.Option(help="folder; else of MYODISTILL_DATA")] = None,
    only: Annotated[str, typer.Option(help="regular expression of the files to fetch")] = "",
) -> None:
    """Download a dataset, or the rest of it; prints its licence and citation first."""
    paths = fetch_dataset(name, to, only=only, tell=typer.echo)
    typer.echo(f"{len(paths)} files are there: {paths[0] if paths else 'none matched'}")


@data.command("inspect")
def inspect(
    what: Annotated[str, typer.Argument(help="a dataset; or a file or folder to describe")],
    subject: Annotated[str, typer.Option(help="whose recordings; else the first's")] = "",
    every: Annotated[bool, typer.Option("--every", help="read everybody's recordings")] = False,
    gesture: Annotated[str, typer.Option(help="of the picture; else the second")] = "",
    out: Annotated[Path | None, typer.Option(help="the picture's file (.png, .svg)")] = None,
) -> None:
    """Show a dataset with a picture of one gesture, or what an unknown file holds.

    For files of no known dataset it drafts the description that makes them one.
    """
    path = Path(what)
    if what not in DATASETS and not is_dataset(what) and os.path.exists(path):  # noqa: PTH110
        typer.echo(draft(path), nl=False)
        return
    dataset = open_dataset(what)
    facts = dataset.facts
    console = Console(width=120, markup=False, emoji=False)
    console.print(
        f"{facts.title}: {len(dataset.subjects())} people, {_layout(facts)} electrodes, "
        f"{facts.sampling_rate:g} Hz, unit {facts.unit}\n"
        f"gestures: {', '.join(facts.gestures)}\n"
        f"calibration: {facts.calibration_session}; scored: {', '.join(facts.test_sessions)}\n"
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
    typer.echo(f"picture of '{facts.gestures[chosen]}': {target}")


@data.command("prepare")
def prepare(
    name: Name,
    out: Annotated[Path, typer.Option(help="folder of prepared stores")] = Path("prepared"),
    subjects: Annotated[str, typer.Option(help="whose, separated by commas; else all")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="do not filter")] = False,
    notch: Annotated[bool, typer.Option("--notch", help="filter the mains out too")] = False,
    sampling_rate: Annotated[float | None, typer.Option(help="resample to this, in Hz")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="fill in bad channels")] = False,
    processes: Annotated[int, typer.Option(min=1, help="people prepared at once")] = 1,
) -> None:
    """Read, filter and store recordings once, memory-mapped; goes on where it was stopped."""
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
        tell=typer.echo,
    )
    typer.echo(
        f"{store.folder}: {len(store.subjects)} people, {store.signal.nbytes / 2**20:.0f} MiB of "
        f"signal"
    )


def _layout(facts: Facts) -> str:
    electrodes = facts.electrodes
    return f"{electrodes.rows}×{electrodes.columns} {electrodes.layout}"
