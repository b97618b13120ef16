"""How large and how slow a model is: parameters, operations, memory, delay.

One multiplication with its addition is one MAC and two FLOPs. Operations are those of convolutions,
linear and recurrent layers, counted by PyTorch's flop counter; what is done element by element
(normalisation, activations, pools) is left out, as is usual.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from myodistill.datasets.recording import SignalSpec
from myodistill.errors import ModelError
from myodistill.models.layers import parameters
from myodistill.models.registry import build, entry
from myodistill.plugins import foreign_code


@dataclass(frozen=True)
class Complexity:
    """The cost of one window.

    Attributes:
        parameters: Number of trainable parameters.
        macs: Multiply-accumulates.
        weight_bytes: Parameters and buffers as they are stored.
        activation_bytes: Most bytes of input and intermediate results alive at the same time when
            the layers run one after the other. A recurrent layer counts as its outputs and the
            gates of one step.
    """

    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int

    @property
    def flops(self) -> int:
        """Floating-point operations: two per MAC."""
        return 2 * self.macs


class _OneStep(TorchFunctionMode):
    """Run recurrent layers for one step and count it as often as there are steps.

    On a CPU the flop counter sees no operation inside an LSTM; on the meta device it sees all, but
    1536 steps take seconds, and every step costs the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.further_flops = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") not in ("lstm", "gru") or len(args) != 9:
            return func(*args, **(kwargs or {}))
        x, state, *rest = args
        time_axis = 1 if rest[-1] else 0
        with FlopCounterMode(display=False) as one:
            output, *last = func(x.narrow(time_axis, 0, 1), state, *rest)
        steps = x.shape[time_axis]
        self.further_flops += (steps - 1) * one.get_total_flops()
        shape = [*output.shape]
        shape[time_axis] = steps
        return output.new_empty(shape), *last


class _Live(TorchDispatchMode):
    """The most bytes alive at the same time, weights aside."""

    def __init__(self, model: nn.Module, window: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights = [t.untyped_storage() for t in (*model.parameters(), *model.buffers())]
        self.known = {id(storage) for storage in self.weights}
        self.live: dict[int, int] = {}
        self.peak = 0
        self.note(window)

    def note(self, result: object) -> None:
        for tensor in tree_leaves(result):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            if id(storage) not in self.known and id(storage) not in self.live:
                self.live[id(storage)] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, id(storage))
        self.peak = max(self.peak, sum(self.live.values()))

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.note(result)
        return result


def measure(model: nn.Module, spec: SignalSpec) -> Complexity:
    """Count a model on one window.

    Args:
        model: On the meta device, where counting costs nothing; it is left in evaluation mode.
        spec: The signal that it reads.
    """
    model.eval()
    window = torch.empty(1, spec.channels, spec.samples, device="meta")
    recurrent, live = _OneStep(), _Live(model, window)
    with torch.no_grad(), live, FlopCounterMode(display=False) as counter, recurrent:
        model(window)
    flops = counter.get_total_flops() + recurrent.further_flops
    stored = model.state_dict().values()
    return Complexity(
        parameters=parameters(model),
        macs=flops // 2,
        weight_bytes=sum(t.numel() * t.element_size() for t in stored),
        activation_bytes=live.peak,
    )


def complexity(name: str, spec: SignalSpec) -> Complexity:
    """Count a model of the catalogue; one of this package is not allocated for it.

    Raises:
        ModelError: It is a plug-in's and cannot run on the meta device.
    """
    if entry(name).ours:
        with torch.device("meta"):
            return measure(build(name, spec), spec)
    model = build(name, spec).to("meta")
    expected = "operations that can be counted, all tensors being parameters or buffers"
    with foreign_code(f"model {name}", expected, ModelError):
        return measure(model, spec)


@dataclass(frozen=True)
class Latency:
    """Time from a window to its logits in milliseconds."""

    median_ms: float
    p99_ms: float


def latency(name: str, spec: SignalSpec, *, runs: int = 200) -> Latency:
    """Time a model of the catalogue on this CPU, one window at a time on one thread."""
    model = build(name, spec, seed=0).eval()
    window = torch.zeros(1, spec.channels, spec.samples)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            taken = [_milliseconds(model, window) for _ in range(runs + runs // 10)]
    finally:
        torch.set_num_threads(threads)
    median, p99 = np.percentile(taken[-runs:], (50, 99))
    return Latency(float(median), float(p99))


def _milliseconds(model: nn.Module, window: Tensor) -> float:
    start = time.perf_counter()
    model(window)
    return 1000 * (time.perf_counter() - start)
