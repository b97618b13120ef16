"""Teacher outputs, computed once for every window and view; compact and memory-mapped.

One file per teacher and set of windows. Its key names the teacher's weights, the windows and the
views; a file with another key is never used.
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
from myodistill.training.teacher_output import TeacherOutput

_WANTED = Wanted(
    "teacher outputs", CacheError, "remove the file, or pass --refill to compute it again"
)


@dataclass(frozen=True)
class CacheKey:
    """What decides a teacher's outputs.

    Attributes:
        teacher: Hash of its weights.
        windows: Hash of the signals, their pre-processing, and the starts of the windows.
        augmentation: Hash of the augmentation's settings.
        views: Numbers of the views; view 0 holds the windows as they were recorded.
        count: Number of windows.
        gestures: Number of gestures.
        features: Whether features are stored beside the logits.
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
        """Name of the file that holds these outputs and no others."""
        return f"{digest(asdict(self))}.safetensors"


class CachedOutputs:
    """The outputs of one teacher, half precision, read-only.

    Args:
        key: What decides them.
        logits: Shape ``(view, window, gesture)``.
        features: Shape ``(view, window, feature)``, or None.
    """

    def __init__(self, key: CacheKey, logits: Tensor, features: Tensor | None) -> None:
        self.key = key
        self._logits = logits
        self._features = features

    def view(self, number: int) -> TeacherOutput:
        """Return the outputs for every window in one view.

        Raises:
            CacheError: The view is not stored.
        """
        if number not in self.key.views:
            stored = ", ".join(map(str, self.key.views))
            raise CacheError(f"teacher outputs: expected view {number}, the cache has {stored}")
        index = self.key.views.index(number)
        return TeacherOutput(
            self._logits[index], None if self._features is None else self._features[index]
        )


def cached_outputs(
    folder: Path | None,
    key: CacheKey,
    compute: Callable[[int], TeacherOutput],
    *,
    refill: bool = False,
) -> CachedOutputs:
    """Return the outputs of a key: read from the folder, or computed and stored there.

    Computing that is killed leaves nothing behind and starts again.

    Args:
        folder: Of the cache; None keeps the outputs in memory only.
        key: Of the outputs.
        compute: Takes the number of a view, returns the output for every window.
        refill: Compute the outputs even if they are stored.

    Raises:
        CacheError: The file is damaged or was written for something else.
    """
    path = folder / key.name if folder else None
    if path is not None and path.exists() and not refill:
        return read(path, key)
    outputs = [compute(view).half() for view in key.views]
    logits = torch.stack([output.logits for output in outputs]).cpu()
    of_views = [output.features for output in outputs if output.features is not None]
    features = torch.stack(of_views).cpu() if of_views else None
    if path is None:
        return CachedOutputs(key, logits, features)
    tensors = {"logits": logits} | ({} if features is None else {"features": features})
    header = {"card": json.dumps(asdict(key)), "sums": json.dumps(checksums(tensors))}
    write_bytes(path, save(tensors, header))
    return read(path, key)


def read(path: Path, key: CacheKey) -> CachedOutputs:
    """Open a file of teacher outputs, memory-mapped.

    Raises:
        CacheError: It is damaged or has another key; the message names the difference.
    """
    tensors, header = read_tensors(path, _WANTED)
    stored, sums = (parse_json(header.get(name, ""), path, _WANTED) for name in ("card", "sums"))
    if not isinstance(stored, dict) or "logits" not in tensors:
        _WANTED.refuse(path, "a file without them")
    for name, expected in json.loads(json.dumps(asdict(key))).items():
        if stored.get(name) != expected:
            raise CacheError(
                f"{path}: expected outputs for {name} {shown(expected)}, it was written for "
                f"{shown(stored.get(name))}; {_WANTED.advice}"
            )
    shape = (len(key.views), key.count, key.gestures)
    features = tensors.get("features")
    fits = tensors["logits"].shape == shape and (features is not None) == key.features
    if not fits or sums != checksums(tensors):
        _WANTED.refuse(path, f"a file that was altered, expected the shape {shape}")
    return CachedOutputs(key, tensors["logits"], features)
