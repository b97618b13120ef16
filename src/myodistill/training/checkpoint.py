"""Everything that a killed training run needs to resume, in one file that holds no code."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from safetensors.torch import save
from torch import Tensor, nn

from myodistill.errors import ModelError, Wanted
from myodistill.files import write_bytes
from myodistill.readers import checksums, parse_json, read_tensors
from myodistill.validation import checked

_SECONDS_BETWEEN = 1.0
_WANTED = Wanted(
    "a checkpoint of this network", ModelError, "remove the file to start this stage again"
)


@dataclass(frozen=True)
class _Header:
    """What is stored beside the tensors; ``best_score`` is None before the first validation."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    epoch: Annotated[int, Field(ge=0)]
    best_score: float | None
    best_epoch: Annotated[int, Field(ge=-1)]
    sums: dict[str, int]


class TrainingState:
    """The state of training between two epochs: weights, optimiser, best weights so far.

    Args:
        task: Module whose weights are stored.
        optimizer: Whose state is stored.
        path: The checkpoint file; None stores nothing.
    """

    def __init__(
        self, task: nn.Module, optimizer: torch.optim.Optimizer, path: Path | None
    ) -> None:
        self.best_score = float("-inf")
        self.best_epoch = -1
        self._task = task
        self._optimizer = optimizer
        self._path = path
        self._written = time.monotonic()

    def note(self, score: float, epoch: int) -> bool:
        """Record a validation score; return whether it is the best so far."""
        if score <= self.best_score:
            return False
        self.best_score, self.best_epoch = score, epoch
        return True

    def save(self, epoch: int, best: dict[str, Tensor]) -> None:
        """Write the state after ``epoch`` epochs, at most once a second."""
        if self._path is None or time.monotonic() - self._written < _SECONDS_BETWEEN:
            return
        tensors = {f"task/{name}": value for name, value in self._task.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in best.items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
        content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        score = None if self.best_epoch < 0 else self.best_score
        header = _Header(epoch, score, self.best_epoch, checksums(content))
        write_bytes(self._path, save(content, {"state": json.dumps(asdict(header))}))
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file: training cannot resume from it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def resume(self, best: dict[str, Tensor]) -> int:
        """Load the file if there is one, into the task, the optimiser and ``best``.

        Returns:
            Number of epochs done.

        Raises:
            ModelError: The file is damaged or belongs to another network.
        """
        if self._path is None or not self._path.exists():
            return 0
        tensors, metadata = read_tensors(self._path, _WANTED)
        state = parse_json(metadata.get("state", ""), self._path, _WANTED)
        header = checked(TypeAdapter(_Header), state, self._path, _WANTED)
        if checksums(tensors) != header.sums:
            _WANTED.refuse(self._path, "a file that was altered")
        with _WANTED.reading(self._path):
            stored = _under("best/", tensors)
            _require_same_shapes(stored, best)
            self._task.load_state_dict(_under("task/", tensors))
            self._optimizer.load_state_dict(self._moments(_under("optimizer/", tensors)))
            best.update(stored)
        self.best_epoch = header.best_epoch
        self.best_score = float("-inf") if header.best_score is None else header.best_score
        return header.epoch

    def _moments(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Return the optimiser's state; its tensors must have the shapes of their parameters."""
        groups = self._optimizer.param_groups
        parameters = dict(enumerate(one for group in groups for one in group["params"]))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, key = name.split("/")
            if value.ndim and value.shape != parameters[int(index)].shape:
                raise ValueError(f"{name} of shape {tuple(value.shape)}")
            moments.setdefault(int(index), {})[key] = value
        return {"state": moments, "param_groups": self._optimizer.state_dict()["param_groups"]}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _require_same_shapes(stored: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    shapes = [{name: value.shape for name, value in one.items()} for one in (stored, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError("the weights of another network")
