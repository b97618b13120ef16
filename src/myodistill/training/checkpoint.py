"""Everything that a killed training run needs to go on, in one file without code in it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from myodistill.errors import ModelError
from myodistill.files import write_bytes

_SECONDS_BETWEEN = 1.0


class Checkpoint:
    """The state of a run between two epochs: weights, optimiser, best weights so far.

    Args:
        task: Module whose weights are kept.
        optimizer: Whose state is kept.
        path: The file; None keeps nothing.
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
        """Remember a validation score; say whether it is the best so far."""
        if score <= self.best_score:
            return False
        self.best_score, self.best_epoch = score, epoch
        return True

    def save(self, epoch: int, best: dict[str, Tensor]) -> None:
        """Write the state after ``epoch`` epochs, unless the last writing was a moment ago."""
        if self._path is None or time.monotonic() - self._written < _SECONDS_BETWEEN:
            return
        tensors = {f"task/{name}": value for name, value in self._task.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in best.items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
        header = {"epoch": epoch, "best_score": self.best_score, "best_epoch": self.best_epoch}
        content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_bytes(self._path, save(content, {"state": json.dumps(header)}))
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file: what was being trained cannot go on from it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def resume(self, best: dict[str, Tensor]) -> int:
        """Load the file if there is one, into the task, the optimiser and ``best``.

        Returns:
            How many epochs are done.

        Raises:
            ModelError: The file is damaged or belongs to another network.
        """
        if self._path is None or not self._path.exists():
            return 0
        try:
            with safe_open(self._path, framework="pt") as file:
                header = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._task.load_state_dict(_under("task/", tensors))
            best.update(_under("best/", tensors))
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _under("optimizer/", tensors).items():
                index, key = name.split("/")
                moments.setdefault(int(index), {})[key] = value
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{self._path}: expected a checkpoint of this network, it is damaged or belongs "
                f"to another; remove it to start this stage again"
            ) from error
        self.best_score, self.best_epoch = header["best_score"], header["best_epoch"]
        return int(header["epoch"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
