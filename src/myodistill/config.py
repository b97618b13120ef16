"""Every option, once: the same name is the YAML key, the command-line flag and the keyword."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from myodistill.errors import SettingsError, Wanted
from myodistill.readers import read_yaml
from myodistill.validation import UNKNOWN, problem


def _split_commas(value: object) -> object:
    """Take ``1,2,4`` and a lone ``1`` for a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    values = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, bool) for one in values):
        raise PydanticCustomError("truth", "Input should be no truth value")
    return values


def _split_range(value: object) -> object:
    return value if value is None else _split_commas(value)


def _strengths(value: object) -> object:
    """Take ``mine=0.5,other=2``, or a mapping, for pairs of a name and a strength."""
    if isinstance(value, Mapping):
        return tuple(value.items())
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    return tuple((name.strip(), strength.strip()) for name, _, strength in pairs)


def _views(value: object) -> object:
    text = str(value)
    if text in ("fresh", "clean"):
        return text
    if text.isdecimal() and text.isascii() and 0 < len(text) < 5 and int(text) > 0:
        return int(text)
    raise PydanticCustomError("views", "Input should be 1 to 9999, fresh or clean")


T = TypeVar("T")


def _once(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("twice", "Input should be values that are each named once")
    return values


def _some(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise PydanticCustomError("none", "Input should be at least one value")
    return values


def _ordered(values: tuple[float, float] | None) -> tuple[float, float] | None:
    if values is not None and values[0] > values[1]:
        raise PydanticCustomError("order", "Input should be a range, the lower end first")
    return values


def _printable_word(value: T) -> T:
    if not 0 < len(str(value)) <= 1000 or not str(value).isprintable():
        raise PydanticCustomError("word", "Input should be a word, of at most 1000 characters")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", value):
        raise PydanticCustomError("device", "Input should be cpu, cuda or cuda:N")
    return value


CrossValidation = Literal["5-fold", "leave-one-subject-out"]
Schedule = Literal["one-cycle", "cosine", "constant"]
Several = Annotated[tuple[T, ...], BeforeValidator(_split_commas), AfterValidator(_once)]
"""Any number of distinct values, or none."""
Some = Annotated[Several[T], AfterValidator(_some)]
"""One or more distinct values."""
Name = Annotated[str, AfterValidator(_printable_word)]
FoldNumber = Annotated[int, Field(ge=1, le=10_000)]
Count = Annotated[int, Field(ge=0, le=1000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Epochs = Annotated[int, Field(ge=0, le=100_000)]
BatchSize = Annotated[int, Field(ge=2, le=65_536)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Repetitions = Annotated[float, Field(ge=0, le=100)]
Decibel = Annotated[float, Field(ge=-200, le=200)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind in (int, float):
            raise PydanticCustomError("number", "Input should be a number")
        return value


class Training(_Settings):
    """How one network is trained, at any stage."""

    num_epochs: Epochs = Field(20, description="passes over the training windows")
    batch_size: BatchSize = Field(128, description="windows a step")
    learning_rate: LearningRate = Field(1e-3, description="peak of the schedule, for AdamW")
    weight_decay: float = Field(1e-2, ge=0, le=100, description="of AdamW")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share spread over all gestures")
    schedule: Schedule = Field("cosine", description="of the learning rate")
    patience: Epochs = Field(
        0,
        description="epochs without gain on a held-out repetition before stopping; 0: fixed budget",
    )


class Pretraining(Training):
    """Stage 1: the teacher across subjects."""

    num_epochs: Epochs = Field(5, description="passes over the other subjects' windows")
    batch_size: BatchSize = Field(300, description="windows a step")
    learning_rate: LearningRate = Field(2e-3, description="peak of the schedule, for AdamW")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share spread over all gestures")
    schedule: Schedule = Field("one-cycle", description="of the learning rate")


class StudentPretraining(Pretraining):
    """Stage 3, first half: the student across subjects."""

    learning_rate: LearningRate = Field(3e-3, description="peak of the schedule, for AdamW")


class Finetuning(Training):
    """Stage 2: the teacher on one subject."""

    num_epochs: Epochs = Field(20, description="passes over the calibration windows")
    learning_rate: LearningRate = Field(2e-3, description="peak of the schedule, for AdamW")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share spread over all gestures")
    rehearsal: Repetitions = Field(
        0.25, description="repetitions that the training subjects count for in every batch"
    )


class Distillation(Training):
    """Stage 3, second half: the student on one subject."""

    num_epochs: Epochs = Field(50, description="passes over the calibration windows")
    batch_size: BatchSize = Field(256, description="windows a step")
    learning_rate: LearningRate = Field(3e-3, description="peak of the schedule, for AdamW")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share spread over all gestures")
    rehearsal: Repetitions = Field(
        1.0, description="repetitions that the training subjects count for in every batch"
    )


class Augmentation(_Settings):
    """What is done to a training window each time it is seen; all off unless asked for."""

    rotation: float = Field(
        0.0, ge=0, le=1000, description="most electrodes to turn by (a grid shifts)"
    )
    fractional: bool = Field(False, description="turn by parts of an electrode, interpolated")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of each channel to fall silent")
    gain_db: float = Field(
        0.0, ge=0, le=60, description="spread (sd) of each channel's gain, in dB"
    )
    jitter: float = Field(0.0, ge=0, le=100, description="sd of white noise, in units of the batch")
    time_shift: int = Field(0, ge=0, le=100_000, description="most samples to shift in time")
    mains_hz: float = Field(0.0, ge=0, le=1000, description="frequency of added mains hum; 0: none")
    mains_db: Decibel = Field(-20.0, description="loudest hum against each channel's power, in dB")
    snr_db: Annotated[
        tuple[Decibel, Decibel] | None, BeforeValidator(_split_range), AfterValidator(_ordered)
    ] = Field(None, description="range of signal to added noise, in dB: 5,20")
    mixup: float = Field(0.0, ge=0, le=1, description="strength (alpha) of mixup; 0: none")
    extra: Annotated[tuple[tuple[Name, float], ...], BeforeValidator(_strengths)] = Field(
        (), description="augmentations of plug-ins with their strengths: name=strength,..."
    )


class Settings(_Settings):
    """A whole run: whose recordings, which models, how each stage trains."""

    dataset: Name = Field("synthetic", description="name of the dataset")
    out: Annotated[Path, BeforeValidator(_printable_word)] = Field(
        Path("runs/run"), description="folder that the run is written to"
    )
    plugin: Several[Name] = Field(
        (), description="plug-ins to load: .py files, or modules that can be imported"
    )
    cross_validation: CrossValidation = Field(
        "5-fold", description="how subjects are held out, unless the dataset defines it"
    )
    fold: Several[FoldNumber] = Field((), description="folds over subjects, from 1; empty: all")
    subjects: Several[Name] = Field((), description="held-out subjects; empty: all of the folds")
    k: Some[Count] = Field((1, 2, 4), description="calibration repetitions; 0: unlabelled")
    seed: Some[Seed] = Field((0,), description="seeds of weights, order and augmentation")
    teacher_model: Some[Name] = Field(
        ("population", "covariance"),
        description="teacher models; several are merged into one; name@band-power, @spectrogram or "
        "@log-covariance reads that in place of samples",
    )
    student_model: Some[Name] = Field(
        ("log-power-30k",), description="student models, each distilled from the same teachers"
    )
    baseline: Several[Name] = Field(
        (), description="additional methods: classical ones, and networks without a teacher"
    )
    recentre: bool = Field(True, description="whiten each person by their mean covariance")
    adapt_batch_norm: bool = Field(
        False, description="take batch-norm statistics from the person, unlabelled"
    )
    loss: Some[Name] = Field(("soft-target",), description="distillation losses, a student of each")
    alpha: float = Field(0.0, ge=0, le=1, description="weight of the hard-label loss")
    temperature: float = Field(
        3.0,
        gt=0,
        le=1000,
        validation_alias=AliasChoices("temperature", "temp"),
        description="temperature of the soft targets",
    )
    feature_weight: float = Field(
        1.0, ge=0, le=1000, description="weight of the losses over features beside the soft targets"
    )
    teacher_merge: Literal["mean", "confidence"] = Field(
        "mean", description="how several teachers become one, window by window"
    )
    calibrate_teachers: bool = Field(
        False, description="fit each teacher's temperature on its last repetition, from K = 2"
    )
    views: Annotated[int | Literal["fresh", "clean"], BeforeValidator(_views)] = Field(
        4,
        description="with augmentation: how many views of a window are cycled, each with the "
        "teachers' cached outputs; fresh: always new, teachers run live; clean: always new, "
        "teachers saw the window as recorded",
    )
    refill: bool = Field(False, description="compute cached teacher outputs again")
    newest_share: float = Field(
        0.5,
        ge=0,
        le=0.95,
        description="share of a person's own windows that are of the newest session, where earlier "
        "sessions calibrate with it",
    )
    trials: int = Field(
        20,
        ge=1,
        le=100_000,
        description="settings that tune tries, for the student with and without a teacher",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "cpu", description="cpu, cuda or cuda:N"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the forward pass")
    compile: Literal["no", "default", "reduce-overhead"] = Field(
        "no", description="torch.compile; reduce-overhead takes CUDA graphs"
    )
    channels_last: bool = Field(
        True, description="keep the channels of an image together in memory, for convolutions"
    )
    stacked: bool | None = Field(
        None,
        description="calibrate the students of a fold as one batched computation; left out: on a "
        "GPU only",
    )
    processes: int = Field(
        1, ge=1, le=256, description="folds, seeds and subjects worked on at once"
    )
    threads: int = Field(1, ge=1, le=256, description="of each process; small networks want one")
    resume: bool = Field(True, description="resume from the checkpoints of a killed run")
    augmentation: Augmentation = Augmentation()
    pretrain: Pretraining = Pretraining()
    pretrain_student: StudentPretraining = StudentPretraining()
    finetune: Finetuning = Finetuning()
    distill: Distillation = Distillation()

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Settings:
        """Validate settings.

        Raises:
            SettingsError: A key is unknown or a value is not allowed; the line names the first.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            key, reason = problem(error)
            if reason == UNKNOWN:
                reason, key = f"there is no option '{key}'; see --help", "settings"
            raise SettingsError(f"{key}: {reason}") from None


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a YAML file; they are not validated yet.

    Raises:
        SettingsError: The file cannot be read or is not a mapping.
    """
    return spelled_out(read_yaml(path, Wanted("a settings file", SettingsError)))


def spelled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace short names of options by their own; merge settings only after this.

    An option that is given under both names keeps both, which :meth:`Settings.load` refuses.
    """
    both = "temp" in values and "temperature" in values
    return {"temperature" if n == "temp" and not both else n: v for n, v in values.items()}


def digest(*values: object) -> str:
    """Return 16 hex digits that change when any of some JSON-like values does."""
    text = json.dumps(values, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
