"""A student of a real person, trained here for seconds, in every deployed form."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from myodistill.bundle import Bundle
from myodistill.datasets.registry import open_dataset
from myodistill.deploy.parity import deploy_report
from myodistill.models.covariance import BandNetwork
from myodistill.models.registry import build
from myodistill.signals.filters import design
from myodistill.signals.preprocessing import Preprocessing, filtered, recentring


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
@pytest.mark.parametrize("model", ["log-power-30k", "log-covariance-linear"])
def test_same_decisions_on_real_recordings(model: str, real_data: Path) -> None:
    dataset = open_dataset("3dc")
    facts = dataset.facts
    recordings = dataset.recordings("Participant1")
    sections = design(facts.sampling_rate, facts.passband)
    windows = filtered(recordings, sections, samples=facts.samples, step=facts.step)
    known = [r for r in windows.seen() if r.session == facts.calibration_session]
    calibration = windows.select(known)
    fitted = Preprocessing(
        facts.sampling_rate, facts.passband, 0.0, recentring(calibration), calibration.seen()
    )
    network = build(model, facts.spec(), seed=0)
    assert isinstance(network, BandNetwork)
    inputs = torch.from_numpy(fitted.map(calibration).gather())
    labels = torch.from_numpy(calibration.labels)
    network.front.whitening.copy_(network.front.centre(inputs))
    with torch.no_grad():
        features = torch.cat([network.front(part) for part in inputs.split(1024)])
    optimiser = torch.optim.AdamW(network.head.parameters(), 2e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(15):
        for batch in torch.randperm(len(features), generator=order).split(128):
            loss = nn.functional.cross_entropy(network.head(features[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    student = Bundle(
        model, facts.spec(), network.eval(), fitted, calibration.seen(),
        {"dataset": "3dc", "licence": facts.licence, "stage": "supervised"},
        unit=facts.unit, step=facts.step,
    )  # fmt: skip
    scored = [r for r in recordings if r.session in facts.test_sessions]
    parity_table = deploy_report(student, scored, calibration, step=facts.step)
    forms = {form.name: form for form in parity_table.forms}
    assert forms["ONNX"].equal == forms["C float"].equal == 1
    assert (forms["C int8"].equal or 0) >= 0.999
    single, eight = (forms[name].accuracy or 0 for name in ("PyTorch", "C int8"))
    assert single > 0.85
    assert eight > single - 0.005
    cortex = forms["C int8, Cortex-M4F"]
    if cortex.reason is None:
        assert cortex.equal == 1
        assert (cortex.flash or np.inf) < 94_000
        assert (cortex.ram or np.inf) < 32_000
