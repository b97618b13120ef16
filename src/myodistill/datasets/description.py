"""What the YAML file of a dataset of your own may say: every key, its type and its bounds."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from myodistill.datasets.limits import MOST_CHANNELS
from myodistill.errors import DataError, Wanted, shown
from myodistill.files import plain_name
from myodistill.readers import read_yaml
from myodistill.validation import problem

NAMES = ("subject", "session", "gesture", "repetition")
T = TypeVar("T")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected one line of printable characters")
    return text


def _prose(value: object) -> object:
    """Join several lines of prose into one."""
    return " ".join(value.split()) if isinstance(value, str) else value


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    again = [value for value, count in Counter(values).items() if count > 1]
    if again:
        raise ValueError(f"expected each value once, {shown(again[0])} is there twice")
    return values


def _session(name: str) -> str:
    return plain_name("session", name)


Line = Annotated[str, Field(max_length=300), AfterValidator(_printable)]
Prose = Annotated[str, BeforeValidator(_prose), Field(max_length=2000), AfterValidator(_printable)]
Session = Annotated[str, AfterValidator(_session)]
Axis = Annotated[int, Field(strict=True, ge=-3, le=2)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**7)]
Channel = Annotated[int, Field(strict=True, ge=0, lt=MOST_CHANNELS)]
Side = Annotated[int, Field(strict=True, ge=1, le=MOST_CHANNELS)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Column = Line | Annotated[int, Field(strict=True, ge=-MOST_CHANNELS, lt=MOST_CHANNELS)] | None
Code = Annotated[int, Field(strict=True)] | Line
Gesture = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Channels = Annotated[tuple[Channel, ...], AfterValidator(_distinct)]


class Layout(BaseModel):
    """Where the electrodes sit."""

    model_config = ConfigDict(extra="forbid")

    layout: Literal["ring", "grid"]
    rows: Side = 1
    columns: Side
    order: Channels = ()
    spacing_mm: Annotated[Number, Field(ge=0, le=1000)] = 0.0


class Description(BaseModel):
    """What the YAML file says; every key is one of these."""

    model_config = ConfigDict(extra="forbid")

    files: Annotated[Line, Field(min_length=1)] = Field(
        description="path with {subject}, {session}, {gesture}, {repetition}, *"
    )
    root: Annotated[Line, Field(min_length=1)] = "."
    signal: Line = ""
    time_axis: Axis = 0
    channel_axis: Axis = 1
    window_axis: Axis | None = None
    channels: Channels = ()
    labels: Column = None
    repetitions_of: Column = None
    subjects_of: Column = None
    sampling_rate: Annotated[Number, Field(gt=0, le=1e6)]
    unit: Annotated[Line, Field(max_length=30)] = "counts"
    scale: Annotated[Number, Field(ge=-1e12, le=1e12)] = 1.0
    electrodes: Layout
    gestures: Annotated[dict[Code, Gesture], Field(min_length=2, max_length=1000)]
    ignore: Annotated[tuple[Code, ...], AfterValidator(_distinct)] = ()
    calibration_session: Session = "1"
    test_sessions: Annotated[tuple[Session, ...], AfterValidator(_distinct)] = ()
    repetitions: Annotated[Count, Field(le=10**4)] | None = None
    samples: Count | None = None
    step: Count | None = None
    passband: tuple[Number, Number] | None = None
    mains: Annotated[Number, Field(ge=0)] = 0.0
    title: Prose = ""
    licence: Prose = "not stated"
    citation: Prose = "not stated"
    home: Prose = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse values that are possible alone and not together."""
        nyquist = self.sampling_rate / 2
        low, high = self.passband or (nyquist / 2, nyquist)
        used = re.findall(r"\{(\w*)\}", self.files)
        twice = [
            f"{{{name}}} in files or {key}, not both"
            for name, key in zip(
                NAMES, ("subjects_of", "", "labels", "repetitions_of"), strict=True
            )
            if name in used and key and getattr(self, key) is not None
        ]
        codes = [str(code) for code in (*self.gestures, *self.ignore)]
        for wrong, expected in (
            (not 0 < low < high, f"passband of 0 < low < high, got {low:g} to {high:g}"),
            (high > nyquist, f"passband up to the Nyquist frequency {nyquist:g} Hz, got {high:g}"),
            (self.mains >= nyquist, f"mains below the Nyquist frequency {nyquist:g} Hz"),
            (self.scale == 0, "scale that is not 0"),
            (
                self.calibration_session in self.test_sessions,
                "test_sessions without the calibration session, which would be scored on what it "
                "calibrates with",
            ),
            (
                len(set(self.gestures.values())) < len(self.gestures),
                "gestures with different names",
            ),
            (len(set(codes)) < len(codes), "each label once in gestures and ignore"),
            (
                bool(set(used) - set(NAMES)) or len(set(used)) < len(used),
                f"each of {{{'}, {'.join(NAMES)}}} at most once in files",
            ),
            (bool(twice), "; ".join(twice)),
            (len(re.findall(r"\*+", self.files)) > 4, "at most 4 * in files"),
        ):
            if wrong:
                raise ValueError(f"expected {expected}")
        return self


def read_description(path: Path) -> Description:
    """Read and validate a description.

    Raises:
        DataError: The file is missing or not YAML, or a key is wrong; the line names it.
    """
    values = read_yaml(path, Wanted("a description"), integer_keys=True)
    try:
        return Description.model_validate(values)
    except ValidationError as error:
        key, reason = problem(error)
        raise DataError(f"{path}: {key or 'the file'}: {reason}") from None
