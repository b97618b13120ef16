"""Counts against counts made by hand, and the page against the code."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from myodistill.datasets.recording import SignalSpec, grid, ring
from myodistill.errors import ModelError, SettingsError
from myodistill.models import verification
from myodistill.models.complexity import complexity, latency, measure
from myodistill.models.verification import GEOMETRIES, off, render, rows

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SPEC = SignalSpec(ring(5), 20, 100.0, ("a", "b"))

EXACT = {
    "densenet-34": 5_916_386,
    "densenet-121": 13_770_530,
    "densenet-161": 35_718_018,
    "densenet-201": 26_744_610,
    "vgg-small": 71_368_482,
    "vgg-11": 129_794_146,
    "vgg-16": 135_291_298,
    "inception-xs": 10_682_210,
    "inception-s": 16_120_034,
    "inception-v3": 24_172_994,
    "cnn": 1_993_826,
    "lstm": 2_320_674,
}


class Steps(nn.Module):
    """A recurrent layer over the time of ``(window, channel, time)``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, windows: Tensor) -> Tensor:
        output: Tensor = self.layer(windows.transpose(1, 2))[0]
        return output


def test_a_convolution_counted_by_hand() -> None:
    model = nn.Conv1d(5, 7, 3, device="meta")  # 18 outputs of 7 features, each from 5×3 inputs
    counted = measure(model, SPEC)
    assert counted.parameters == 7 * 5 * 3 + 7
    assert counted.macs == 18 * 7 * 5 * 3
    assert counted.flops == 2 * counted.macs
    assert counted.weight_bytes == 4 * (7 * 5 * 3 + 7)
    assert counted.activation_bytes == 4 * (5 * 20 + 7 * 18)


def test_a_linear_layer_counted_by_hand() -> None:
    model = nn.Linear(20, 3, device="meta")  # once for each of 5 channels
    counted = measure(model, SPEC)
    assert (counted.parameters, counted.macs) == (20 * 3 + 3, 5 * 20 * 3)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_a_recurrent_layer_counted_by_hand(kind: type[nn.LSTM | nn.GRU], gates: int) -> None:
    model = Steps(kind(5, 7, 2, batch_first=True, device="meta"))
    counted = measure(model, SPEC)
    first, second = gates * 7 * (5 + 7), gates * 7 * (7 + 7)
    assert counted.parameters == first + second + 2 * 2 * gates * 7
    assert counted.macs == 20 * (first + second)
    with FlopCounterMode(display=False) as unrolled:
        model(torch.empty(1, 5, 20, device="meta"))
    assert counted.flops == unrolled.get_total_flops()


def test_the_peak_of_a_chain_is_its_widest_pair() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(20, 200), nn.Linear(200, 300), nn.Linear(300, 2))
    # the caller keeps the window of 5×20 alive
    assert measure(model, SPEC).activation_bytes == 4 * 5 * (20 + 200 + 300)


def test_counting_a_model_leaves_out_nothing_on_the_way() -> None:
    spec = GEOMETRIES["hyser"]
    assert complexity("lstm", spec).macs == 1536 * 4 * 640 * (256 + 640) + 640 * 34


@pytest.fixture(scope="module")
def reference() -> list[verification.Row]:
    return rows()


def test_the_reference_counts_are_exact(reference: list[verification.Row]) -> None:
    counted = {row.model: row.parameters for row in reference if row.printed}
    assert counted == EXACT
    assert off(reference) == []


def test_a_count_that_is_off_is_found(
    reference: list[verification.Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "TOLERANCE", 0.005)
    assert [row.model for row in off(reference)] == ["lstm"]


def test_other_geometries_have_no_printed_count() -> None:
    table = rows("3dc", "densenet-34")
    assert table[0].printed is None
    assert off(table) == []


def test_the_formats_say_the_same(reference: list[verification.Row]) -> None:
    records = json.loads(render(reference, "json"))
    lines = list(csv.DictReader(io.StringIO(render(reference, "csv"))))
    text, page = render(reference), render(reference, "markdown")
    for row, record, line in zip(reference, records, lines, strict=True):
        assert record["parameters"] == int(line["parameters"]) == row.parameters
        assert record["model"] == line["model"] == row.model
        assert f"{row.parameters:,}" in text
        assert f"| {row.model} | {row.role} | {row.parameters:,} |" in page


def test_the_page_in_the_documentation_is_fresh(reference: list[verification.Row]) -> None:
    assert PAGE.read_text(encoding="utf-8") == render(reference, "markdown"), (
        "docs/models.md is stale: myodistill models --format markdown > docs/models.md"
    )


def test_delay_is_measured_on_one_thread_and_the_threads_are_given_back() -> None:
    threads = torch.get_num_threads()
    delay = latency("gru-10k", SignalSpec(grid(1, 2), 20, 200.0, ("a", "b")), runs=20)
    assert 0 < delay.median_ms <= delay.p99_ms
    assert torch.get_num_threads() == threads


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(SettingsError, match="unknown geometry 'hysr': did you mean hyser"):
        rows("hysr")
    with pytest.raises(ModelError, match="unknown model 'densnet'"):
        rows("3dc", "densnet")
