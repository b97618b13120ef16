"""The ``record`` command: a person's sessions go into their own folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from myodistill.cli.flags import Command
from myodistill.errors import DataError, shown, unknown_name

if TYPE_CHECKING:
    from myodistill.datasets.dataset import Dataset
    from myodistill.datasets.recording import Recording
    from myodistill.datasets.subject_store import SubjectStore


@click.command("record", cls=Command)
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("what")
@click.option("--subject", default="", help="whose recordings, where WHAT has several people")
@click.option("--session", default="", help="name of the session in the store; else its own")
@click.option("--from-sessions", default="", help="which, separated by commas; else all")
@click.option("--repetitions", type=click.IntRange(1), help="of each session the first; else all")
@click.option("--as", "name", default="", help="the person's name in the store; else its own")
@click.option("--unlabelled", is_flag=True, help="leave the labels behind: only to re-centre by")
@click.option("--repair", is_flag=True, help="fill in bad channels from their neighbours")
def record(
    store: Path,
    what: str,
    subject: str,
    session: str,
    from_sessions: str,
    repetitions: int | None,
    name: str,
    unlabelled: bool,
    repair: bool,
) -> None:
    """Add labelled sessions to a person's own folder; the first time makes the folder.

    WHAT is a dataset: a name, a .yaml file, an EMG-BIDS folder or a prepared store.
    """
    from myodistill.datasets.registry import open_dataset
    from myodistill.signals.duplicates import DuplicateFinder

    dataset = open_dataset(what)
    person = _person(dataset, subject)
    dataset.repair = True  # what was filled in is said, or refused below
    chosen = _chosen(dataset.recordings(person), from_sessions)
    if session and len(chosen) > 1:
        raise DataError(
            f"session: expected one session to call {shown(session)}, got {len(chosen)} "
            f"({shown(list(chosen), 60)}); choose it with --from-sessions"
        )
    added: dict[str, list[Recording]] = {}
    for own, recordings in chosen.items():
        called = session or own
        kept = recordings if repetitions is None else _first(recordings, own, repetitions)
        mended = _mended(kept, called, repair)
        if unlabelled:
            mended = [replace(one, annotations=()) for one in mended]
        added[called] = [replace(one, subject=name or person, session=called) for one in mended]
    own_folder = _open(store, name or person, dataset)
    finder = DuplicateFinder(own_folder.facts.samples)
    for recordings in (own_folder.recordings(own_folder.subject), *added.values()):
        finder.add(recordings)
    finder.require_none()
    own_folder.extend(added, source=f"{what}, {person}")
    for called, recordings in added.items():
        notes = [note for one in recordings for note in one.annotations]
        click.echo(
            f"{called}: {len({note.repetition for note in notes})} repetitions, "
            f"{len({note.gesture for note in notes})} gestures, "
            f"{sum(one.seconds for one in recordings):.1f} seconds"
        )


def _open(folder: Path, person: str, dataset: Dataset) -> SubjectStore:
    from myodistill.datasets.subject_card import CARD
    from myodistill.datasets.subject_store import SubjectStore

    if not (folder / CARD).is_file():
        return SubjectStore.create(folder, person, dataset.facts)
    store = SubjectStore(folder)
    if store.subject != person:
        raise DataError(
            f"{folder}: expected recordings of {shown(store.subject)}, got those of "
            f"{shown(person)}; choose another folder, or say with --as that they are one person"
        )
    return store


def _person(dataset: Dataset, subject: str) -> str:
    people = dataset.subjects()
    if subject and subject not in people:
        raise DataError(unknown_name("subject", subject, people))
    if not subject and len(people) != 1:
        raise DataError(
            f"{dataset.facts.name}: expected recordings of one person, got those of {len(people)} "
            f"({shown(list(people), 60)}); choose one with --subject"
        )
    return subject or people[0]


def _chosen(recordings: list[Recording], from_sessions: str) -> dict[str, list[Recording]]:
    """Return the recordings by session, in the order asked for."""
    by_session: dict[str, list[Recording]] = {}
    for one in recordings:
        by_session.setdefault(one.session, []).append(one)
    wanted = [part.strip() for part in from_sessions.split(",") if part.strip()]
    for name in wanted:
        if name not in by_session:
            raise DataError(unknown_name("session", name, by_session))
    return {name: by_session[name] for name in wanted or by_session}


def _first(recordings: list[Recording], session: str, count: int) -> list[Recording]:
    """Return the first repetitions of a session, without the signal that comes after them."""
    performed = sorted({note.repetition for one in recordings for note in one.annotations})
    if len(performed) < count:
        raise DataError(
            f"repetitions: expected at most the {len(performed)} that session {shown(session)} "
            f"has, got {count}; ask for fewer"
        )
    kept = []
    for one in recordings:
        notes = tuple(n for n in one.annotations if n.repetition in performed[:count])
        if notes:
            stop = max(note.stop for note in notes)
            kept.append(replace(one, signal=one.signal[:stop], annotations=notes))
    return kept


def _mended(recordings: list[Recording], session: str, repair: bool) -> list[Recording]:
    """Warn of bad electrodes, and fill them in where that is asked for.

    Raises:
        DataError: An electrode is flat, and is not to be repaired.
    """
    from myodistill.datasets.quality import fill_in, saturated_channels

    flat: set[int] = set()
    saturated: set[int] = set()
    mended = []
    for one in recordings:
        flat.update(one.filled_in)
        bad = tuple(int(channel) for channel in saturated_channels(one.signal))
        saturated.update(set(bad) - set(one.filled_in))
        signal = one.signal
        if bad and repair:
            every = tuple(sorted({*bad, *one.filled_in}))
            signal = fill_in(signal, one.electrodes, every, source=one.source)
        mended.append(replace(one, signal=signal))
    if flat and not repair:
        raise DataError(
            f"session {shown(session)}: expected a changing signal, {_channels(flat)} flat; check "
            f"the electrode and record again, or fill it in from its neighbours with --repair"
        )
    words = [
        f"{_channels(of)} {why}" for of, why in ((flat, "flat"), (saturated, "saturated")) if of
    ]
    if words:
        done = "filled in from their neighbours" if repair else "--repair fills in from neighbours"
        click.echo(f"warning: {session}: {', '.join(words)}; {done}", err=True)
    return mended


def _channels(channels: set[int]) -> str:
    names = ", ".join(map(str, sorted(channels)[:8])) + (", ..." if len(channels) > 8 else "")
    return f"channel {names} is" if len(channels) == 1 else f"channels {names} are"
