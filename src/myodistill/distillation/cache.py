"""What a teacher says, computed once: for every window and view, compact and memory-mapped.

One file per teacher and set of windows. Its card names the teacher's weights, the windows and the
views; a file with another card is never used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from myodistill.config import digest
from myodistill.errors import CacheError, Wanted, shown
from myodistill.files import write_bytes
from myodistill.readers import checksums, parse_json, read_tensors

_WANTED = Wanted(
    "teacher outputs", CacheError, "remove the file, or pass --refill to compute it again"
)


@dataclass(frozen=True)
class TeacherOutput:
    """What a teacher, or several, say of some windows.

    Attributes:
        logits: Log-probabilities, shape ``(window, gesture)``.
        features: What goes into their last layer, shape ``(window, feature)``; None if not asked.
    """

    logits: Tensor
    features: Tensor | None = None

    def half(self) -> TeacherOutput:
        """Round to half precision, in which outputs are kept; what is less than e^-1e4 is that."""
        features = None if self.features is None else self.features.half()
        return TeacherOutput(self.logits.clamp_min(-1e4).half(), features)


TeacherOutputs = Callable[[Tensor, int], TeacherOutput]
"""Teachers: places of windows and the number of a view to what they say of them."""


@dataclass(frozen=True)
class CacheKey:
    """What some outputs are of.

    Attributes:
        teacher: Hash of its weights.
        windows: Hash of the signals, their pre-processing, and where the windows begin.
        augmentation: Hash of what is done to them, with its seed.
        views: Numbers of the views, 0 for the windows as they were recorded.
        count: Number of windows.
        gestures: Number of gestures.
        features: Whether features are kept beside the logits.
    """

    teacher: str
    windows: str
    augmentation: str
    views: tuple[int, ...]
    count: int
    gestures: int
    features: bool = False

    @property
    def name(self) -> str:
        """File name that belongs to these outputs alone."""
        return f"{digest(asdict(self))}.safetensors"


class CachedOutputs:
    """The outputs of one teacher, half precision, read-only.

    Args:
        card: What they are of.
        logits: Shape ``(view, window, gesture)``.
        features: Shape ``(view, window, feature)``, or None.
    """

    def __init__(self, card: CacheKey, logits: Tensor, features: Tensor | None) -> None:
        self.card = card
        self._logits = logits
        self._features = features

    def view(self, number: int) -> TeacherOutput:
        """Return what the teacher says of every window in one view.

        Raises:
            CacheError: The view is not kept.
        """
        if number not in self.card.views:
            kept = ", ".join(map(str, self.card.views))
            raise CacheError(f"teacher outputs: expected view {number}, the cache has {kept}")
        place = self.card.views.index(number)
        return TeacherOutput(
            self._logits[place], None if self._features is None else self._features[place]
        )


def remember(
    folder: Path | None,
    card: CacheKey,
    say: Callable[[int], TeacherOutput],
    *,
    refill: bool = False,
) -> CachedOutputs:
    """Return the outputs that belong to a card: from the folder, else computed and kept there.

    A fill that is killed leaves nothing behind and is done again.

    Args:
        folder: Of the cache; None keeps the outputs in memory only.
        card: What is wanted.
        say: Computes the output for every window in one view.
        refill: Compute even if a file is there.

    Raises:
        CacheError: The file is damaged or was written for something else.
    """
    path = folder / card.name if folder else None
    if path is not None and path.exists() and not refill:
        return read(path, card)
    said = [say(view).half() for view in card.views]
    logits = torch.stack([one.logits for one in said]).cpu()
    kept = [one.features for one in said if one.features is not None]
    features = torch.stack(kept).cpu() if kept else None
    if path is None:
        return CachedOutputs(card, logits, features)
    tensors = {"logits": logits} | ({} if features is None else {"features": features})
    header = {"card": json.dumps(asdict(card)), "sums": json.dumps(checksums(tensors))}
    write_bytes(path, save(tensors, header))
    return read(path, card)


def read(path: Path, card: CacheKey) -> CachedOutputs:
    """Open a file of teacher outputs; what is read of it is mapped, not copied.

    Raises:
        CacheError: It is damaged, or its card is another one; the line names the difference.
    """
    tensors, header = read_tensors(path, _WANTED)
    found, sums = (parse_json(header.get(name, ""), path, _WANTED) for name in ("card", "sums"))
    if not isinstance(found, dict) or "logits" not in tensors:
        _WANTED.refuse(path, "a file without them")
    for name, wanted in json.loads(json.dumps(asdict(card))).items():
        if found.get(name) != wanted:
            raise CacheError(
                f"{path}: expected outputs for {name} {shown(wanted)}, it was written for "
                f"{shown(found.get(name))}; {_WANTED.advice}"
            )
    shape = (len(card.views), card.count, card.gestures)
    features = tensors.get("features")
    fits = tensors["logits"].shape == shape and (features is not None) == card.features
    if not fits or sums != checksums(tensors):
        _WANTED.refuse(path, f"a file that was altered, expected the shape {shape}")
    return CachedOutputs(card, tensors["logits"], features)
