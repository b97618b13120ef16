"""Adaptation of batch normalisation without labels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from myodistill.training.batches import Inputs


@torch.no_grad()
def adapt_batch_norm(network: nn.Module, inputs: Inputs, *, batch: int = 2048) -> None:
    """Take the statistics of batch normalisation from some windows.

    Means and variances are replaced by those over the windows, weights stay (Li et al., Revisiting
    batch normalization for practical domain adaptation, 2016, section 3.2). Dropout stays off. A
    network without batch normalisation is left as it is.

    Args:
        network: Changed in place.
        inputs: What it reads.
        batch: Windows at a time.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    for indices in torch.split(torch.arange(len(inputs)), batch) if norms else ():
        if len(indices) > 1:
            network(inputs[indices])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
