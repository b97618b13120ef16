"""What a person's own folder says of itself, in ``subject.json``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from myodistill.config import digest
from myodistill.datasets.dataset import Facts
from myodistill.errors import DataError, Wanted, shown
from myodistill.files import plain_name, plain_names, write_text
from myodistill.readers import read_json
from myodistill.validation import checked

FORMAT = 1
CARD = "subject.json"
WANTED = Wanted("a person's recordings", advice="restore the folder from a copy, or record anew")
MOST_REPETITIONS = 10**6
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Session(BaseModel):
    """What a store says of one session.

    Attributes:
        name: Of the session, as the person calls it.
        recorded: When it was put into the store.
        source: What it came from.
        file: Within the store's folder.
        sha256: Of the file's bytes.
        repetitions: Performed in it, counted; 0 where nothing is labelled.
        signals: SHA-256 of each recording's samples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recorded: AwareDatetime
    source: Annotated[str, Field(max_length=200)]
    file: str
    sha256: Sha256
    repetitions: Annotated[int, Field(ge=0, le=MOST_REPETITIONS)]
    signals: Annotated[tuple[Sha256, ...], Field(min_length=1)]


class SubjectCard(BaseModel):
    """What ``subject.json`` says.

    Attributes:
        subject: The person's name.
        facts: Of the recordings; the sessions leave some of them otherwise, see :meth:`now`.
        sessions: In the order recorded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str
    facts: Facts
    sessions: tuple[Session, ...]

    def now(self) -> Facts:
        """Return the facts as the sessions leave them: the newest labelled one calibrates."""
        facts = replace(
            self.facts, name=self.subject, title=self.subject, test_sessions=(), home=""
        )
        if not self.sessions:
            return facts
        newest = next((s for s in self.sessions[::-1] if s.repetitions), self.sessions[-1])
        return replace(
            facts, calibration_session=newest.name, repetitions=max(newest.repetitions, 1)
        )


def file_of(session: str) -> str:
    """Return the path of a session's file within the folder."""
    return f"sessions/{session}.safetensors"


def write_card(folder: Path, card: SubjectCard) -> None:
    """Write ``subject.json``, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    values = {"format": FORMAT, **card.model_dump(mode="json", exclude={"facts"})}
    values["facts"] = card.facts.to_dict()
    sealed = {**values, "card_sha256": digest(values)}
    write_text(folder / CARD, json.dumps(sealed, indent=1, ensure_ascii=False))


def read_card(folder: Path) -> SubjectCard:
    """Read ``subject.json``.

    Raises:
        DataError: It is not there, damaged, altered, or of a newer version of the package.
    """
    path = folder / CARD
    values = read_json(path, WANTED)
    made = values.pop("format", None)
    if type(made) is not int or made > FORMAT or made < 1:
        raise DataError(
            f"{path}: expected a person's recordings of format 1 to {FORMAT}, got "
            f"{shown(made, 20)}; update myodistill, or restore the folder from a copy"
        )
    seal = values.pop("card_sha256", None)
    if seal != digest({"format": made, **values}):
        WANTED.refuse(path, "a file that was altered since it was written")
    card = checked(TypeAdapter(SubjectCard), values, path, WANTED)
    plain_name("subject", card.subject)
    names = plain_names("session", [one.name for one in card.sessions])
    if len(names) < len(card.sessions) or not names:
        WANTED.refuse(path, "no session" if not names else "a session that is named twice")
    for one in card.sessions:
        if one.file != file_of(one.name):
            WANTED.refuse(path, f"{shown(one.file)} for the file of session {shown(one.name)}")
    return card
