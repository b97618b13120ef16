"""What a page is started with: the decoder or the population, the source, the person's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import SignalSpec
from myodistill.datasets.registry import DATASETS, is_dataset, open_dataset
from myodistill.errors import DataError, MyoDistillError, SettingsError, shown
from myodistill.files import plain_name
from myodistill.live import register_sources
from myodistill.live.demo import SOURCE, Performer, generated
from myodistill.live.running import is_replay, looped, opened, paced
from myodistill.live.server.keeping import Keeper
from myodistill.live.server.learning import CommandCalibration
from myodistill.live.server.tasks import Person
from myodistill.realtime.models import load_model
from myodistill.realtime.sources import Chunk, open_chunks
from myodistill.realtime.windows import StoredModel

if TYPE_CHECKING:
    from myodistill.distillation.population import Population


@dataclass(frozen=True)
class Started:
    """What is to be shown.

    Attributes:
        name: Of the decoder or population.
        spec: The signal, and the gestures.
        unit: Of the samples.
        model: None where a guided calibration is to make it.
        person: Whom something can be done for.
    """

    name: str
    spec: SignalSpec
    unit: str
    model: StoredModel | None
    person: Person


def load(
    path: Path,
    *,
    population: Path | None = None,
    record: Path | None = None,
    subject: str = "",
    out: Path | None = None,
) -> Started:
    """Load what a page is started with.

    Args:
        path: Of a bundle, an exported decoder or a population.
        population: That calibrates, beside a decoder.
        record: The person's folder.
        subject: The person's name.
        out: Folder of the bundle that a guided calibration makes.

    Raises:
        MyoDistillError: Something is damaged, missing, or does not go with the rest.
    """
    if (path / "population.json").is_file():
        if population is not None:
            raise SettingsError("population: expected one, got two; leave out --population")
        people: Population | None = _population(path)
        model = None
    else:
        people = None if population is None else _population(population)
        model = load_model(path)
    if people is None:
        if out is not None:
            raise SettingsError("out: expected a population to calibrate by, add --population")
        assert model is not None
        return _with_decoder(path, model, record, subject)
    facts = people.facts
    if model is not None:
        _require_alike(model, facts)
    if not subject and (record is None or not (record / "subject.json").is_file()):
        raise SettingsError(
            "subject: expected the person's name, got none; a guided calibration is kept in "
            "their folder: add --subject"
        )
    keeper = Keeper(record or Path("people") / _plain(subject), subject, facts)
    if keeper.subject.casefold() in {one.casefold() for one in people.subjects}:
        raise DataError(
            f"subject: expected a person who is not in the population, {shown(keeper.subject)} "
            f"is; give another name"
        )
    bundle = out or Path("bundles") / keeper.subject
    calibrate = CommandCalibration(population or path, keeper.folder, bundle)
    person = Person(facts.spec(), keeper, calibrate)
    spec = facts.spec() if model is None else model.spec
    return Started(path.name, spec, facts.unit, model, person)


def _with_decoder(path: Path, model: StoredModel, record: Path | None, subject: str) -> Started:
    keeper = None
    if record is not None:
        subject = subject or str(model.origin.get("subject", ""))
        keeper = Keeper(record, subject, _facts(model))
    elif subject:
        raise SettingsError("subject: expected a folder to record into, add --record FOLDER")
    name = str(model.origin.get("subject") or path.name)  # folders of runs have longer ones
    return Started(name, model.spec, model.unit, model, Person(keeper=keeper))


def _plain(subject: str) -> str:
    return plain_name("subject", subject)


def _population(path: Path) -> Population:
    from myodistill.distillation.population import Population

    return Population.load(path)


def _require_alike(model: StoredModel, facts: Facts) -> None:
    for name, ours, theirs in (
        ("channels", model.spec.channels, facts.electrodes.channels),
        ("sampling rate", model.spec.sampling_rate, facts.sampling_rate),
        ("unit", model.unit, facts.unit),
    ):
        if ours != theirs:
            raise DataError(
                f"population: expected the {name} of the decoder, {shown(ours)}, got "
                f"{shown(theirs)}; choose the population that it was made of"
            )


def _facts(model: StoredModel) -> Facts:
    """Return what a person's folder says of recordings for a decoder."""
    spec, fitted = model.spec, model.preprocessing
    return Facts(
        name="recorded",
        title="recorded",
        electrodes=spec.electrodes,
        sampling_rate=spec.sampling_rate,
        gestures=spec.gestures,
        unit=model.unit,
        samples=spec.samples,
        step=model.step,
        passband=fitted.passband if fitted is not None else (20.0, 0.45 * spec.sampling_rate),
        mains=fitted.mains if fitted is not None else 0.0,
        repetitions=1,
        calibration_session="train",
        test_sessions=(),
        licence="the person's own",
        citation="",
        home="",
    )


@dataclass(frozen=True)
class Given:
    """A source that is ready to be opened.

    Attributes:
        title: For people.
        replayed: Whether it is no device.
        open: Opens it; takes what tells which gesture a guide asks for.
    """

    title: str
    replayed: bool
    open: Callable[[Callable[[], str | None]], Iterable[Chunk]]


def source_of(started: Started, source: str, *, speed: float = 1.0, loop: bool = False) -> Given:
    """Return the source of that address, or a replay where there is none.

    Raises:
        MyoDistillError: It cannot be what the decoder reads; most is found when it is opened.
    """
    register_sources()
    spec, rate = started.spec, started.spec.sampling_rate
    if not source:
        source = "" if started.model is None else _own(started.model)
        if not source:
            return Given(SOURCE, True, lambda asked: paced(_performed(spec, asked), rate, speed))
        chosen = list(open_chunks(source, spec))  # all of it, so that beginning again is no break
        title = f"{source}, as no --source is given"
        return Given(title, True, lambda asked: paced(looped(lambda: chosen), rate, speed))
    chunks = opened(source, spec, speed=speed, loop=loop)
    if is_replay(source):
        _require_unit(source.partition(":")[2], started.unit)
    return Given(source, is_replay(source), lambda asked: chunks)


def _performed(spec: SignalSpec, asked: Callable[[], str | None]) -> Iterator[Chunk]:
    seed = time.time_ns() % (1 << 32)  # somebody else each time: nobody is recorded twice
    yield from Performer(generated(spec, seed=seed), spec, asked).chunks()


def _own(model: StoredModel) -> str:
    """Return the replay of the person whom a decoder was made for, if they are at hand."""
    name, subject = (str(model.origin.get(key, "")) for key in ("dataset", "subject"))
    if name not in DATASETS or not subject:
        return ""
    try:
        dataset = open_dataset(name)
    except MyoDistillError:
        return ""
    alike = replace(dataset.facts, gestures=model.spec.gestures).spec(model.spec.samples)
    same = alike == model.spec and dataset.facts.unit == model.unit
    return f"replay:{name},{subject}" if same and subject in dataset.subjects() else ""


def _require_unit(address: str, unit: str) -> None:
    """Refuse the replay of a dataset in another unit."""
    name = address.partition(",")[0]
    if Path(address[:200]).is_file() or not (name in DATASETS or is_dataset(name)):
        return
    found = open_dataset(name).facts.unit
    if found != unit:
        raise DataError(
            f"replay: expected samples in {shown(unit)}, those of {shown(name)} are in "
            f"{shown(found)}; choose recordings that the decoder was made for"
        )
