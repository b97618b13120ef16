"""The command that keeps a person's recordings in a folder of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from myodistill.cli.flags import Command
from myodistill.errors import DataError, shown

if TYPE_CHECKING:
    from myodistill.datasets.recording import Recording


@click.command("record", cls=Command)
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("what")
@click.option("--subject", help="whose recordings, where WHAT holds several people's")
@click.option("--from-sessions", default="", metavar="LIST", help="of WHAT; else all of them")
@click.option("--session", help="what the session is called in the folder; else as in WHAT")
@click.option("--as", "called", help="what the person is called in the folder; else as in WHAT")
@click.option("--repetitions", type=click.IntRange(1), help="only so many of each session")
@click.option("--unlabelled", is_flag=True, help="leave the labels behind")
@click.option("--repair", is_flag=True, help="fill in bad electrodes from their neighbours")
def record(
    store: Path,
    what: str,
    subject: str | None,
    from_sessions: str,
    session: str | None,
    called: str | None,
    repetitions: int | None,
    unlabelled: bool,
    repair: bool,
) -> None:
    """Add sessions of one person to a folder of their own, which calibrate takes.

    STORE is the folder, made if it is not there. WHAT is a dataset: a .yaml file that describes
    recordings, an EMG-BIDS folder, a prepared store, or a name.
    """
    from myodistill.datasets.registry import open_dataset
    from myodistill.datasets.subject_store import CARD, SubjectStore

    dataset = open_dataset(what)
    dataset.repair = repair
    people = dataset.subjects()
    if subject is None and len(people) != 1:
        raise DataError(
            f"record: expected recordings of one person, {shown(what)} has {len(people)}; say "
            f"whose by --subject"
        )
    name = called or subject or people[0]
    every = dataset.recordings(subject or people[0])
    wanted = [part.strip() for part in from_sessions.split(",") if part.strip()]
    sessions = list(dict.fromkeys(one.session for one in every))
    if absent := [one for one in wanted if one not in sessions]:
        raise DataError(
            f"record: expected sessions among {shown(', '.join(sessions))}, got {shown(absent[0])}"
        )
    chosen = [one for one in sessions if not wanted or one in wanted]
    if session is not None and len(chosen) > 1:
        raise DataError(
            f"record: expected one session to call {shown(session)}, got {len(chosen)}; choose one "
            f"by --from-sessions"
        )
    parts = {}
    for one in chosen:
        taken = [replace(r, subject=name) for r in every if r.session == one]
        parts[one] = [_chosen(r, repetitions, unlabelled, repair) for r in taken]
    if (store / CARD).exists():
        kept = SubjectStore(store)
    else:
        kept = SubjectStore.create(store, name, dataset.facts)
    for one, recordings in parts.items():
        kept = kept.append([replace(r, session=one) for r in recordings], session, what)
        added = kept.sessions[-1]
        seconds = sum(r.seconds for r in recordings)
        performed = {r.gestures[note.gesture] for r in recordings for note in r.annotations}
        click.echo(
            f"{store}: session {added.name} of {name}, {added.repetitions} repetitions of "
            f"{len(performed)} gestures, {seconds:.0f} s"
        )


def _chosen(
    recording: Recording, repetitions: int | None, unlabelled: bool, repair: bool
) -> Recording:
    """Return what is kept of a recording."""
    from myodistill.datasets.quality import bad_channels, fill_in

    bad = bad_channels(recording.signal)
    saturated = tuple(channel for channel, why in bad.items() if why == "clipped")
    signal = recording.signal
    if saturated and not repair:
        raise DataError(
            f"{recording.source or recording.subject}: expected electrodes within their range, "
            f"electrode {', '.join(map(str, saturated[:4]))} is saturated; record again, or fill "
            f"it in from its neighbours by --repair"
        )
    if saturated:
        signal = fill_in(signal, recording.electrodes, saturated, source=recording.source)
    notes = tuple(
        note
        for note in recording.annotations
        if not unlabelled and (repetitions is None or note.repetition < repetitions)
    )
    return replace(recording, signal=signal, annotations=notes)
