"""The C decoder follows its wearer as the Python one does."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding import STEP, adaptable, bundle, recording

from myodistill.bundle import Bundle
from myodistill.deploy.cortex import emulate, lacking
from myodistill.deploy.plain_c import to_c
from myodistill.deploy.programs import DecodedRecording, build_host, decode_on_host
from myodistill.realtime.decoder import Decoder

LACKING = lacking()
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")


def wandering(seed: int) -> np.ndarray:
    """Gestures one after another, over and over, while the channels' gains drift."""
    parts = [recording(3, 4, seconds=0.6, seed=100 * seed + index) for index in range(8)]
    signal = np.concatenate(parts)
    drift = np.linspace(0, 0.8, len(signal))[:, None] * np.array([1, -0.5, 0.5, 0])
    return np.asarray(signal * (1 + drift), dtype=np.float32)


@pytest.fixture(scope="module")
def student() -> Bundle:
    return adaptable(bundle(epochs=20))


def played(folder: Path, student: Bundle, signal: np.ndarray, *, adapt: bool) -> DecodedRecording:
    if not folder.exists():
        to_c(student, step=STEP).write(folder)
    program = build_host(folder, optimise="-O1", sanitise=True, adapt=adapt)
    (found,) = decode_on_host(program, [signal], folder)
    return found


def test_decides_as_python_does(student: Bundle, tmp_path: Path) -> None:
    equal, moved = [], []
    for seed in range(3):
        signal = wandering(seed)
        signal[5000, 2] = np.nan
        c = played(tmp_path / "c", student, signal, adapt=True)
        decoder = Decoder(student, step=STEP, adapt=True)
        decisions = decoder.push(signal)
        assert c.abstained == decoder.abstained > 0
        equal += [a == b.prediction for a, b in zip(c.predictions, decisions, strict=True)]
        static = Decoder(student, step=STEP).push(signal)
        moved += [a.confidence != b.confidence for a, b in zip(decisions, static, strict=True)]
    assert np.mean(equal) >= 0.999
    assert np.mean(moved) > 0.5


def test_is_off_until_it_is_asked_for(student: Bundle, tmp_path: Path) -> None:
    signal = wandering(0)
    c = played(tmp_path / "c", student, signal, adapt=False)
    static = Decoder(student, step=STEP).push(signal)
    assert c.predictions.tolist() == [one.prediction for one in static]


def test_a_student_that_cannot_adapt_has_no_code_for_it(student: Bundle, tmp_path: Path) -> None:
    plain = to_c(replace(student, adaptation=None), step=STEP)
    assert "#define MD_ADAPTS 0\n" in plain.files["md.h"]
    assert plain.ram < to_c(student, step=STEP).ram
    signal = wandering(0)
    c = played(tmp_path / "c", replace(student, adaptation=None), signal, adapt=False)
    assert len(c.predictions)


REMEMBERS = """
#include <math.h>
#include <stdio.h>
#include "md.h"

static md_decoder one, two;

/* Decode noise; returns whether both decoders' logits were the same throughout. */
static int alike(int samples)
{
    static unsigned long state = 1;
    int n, c, same = 1;
    for (n = 0; n < samples; n++) {
        float sample[MD_CHANNELS];
        md_decision a, b;
        for (c = 0; c < MD_CHANNELS; c++) {
            state = (state * 1103515245ul + 12345ul) & 0x7ffffffful;
            sample[c] = (float)(state >> 8) / 4096.0f;
        }
        if (md_push(&one, sample, &a) && md_push(&two, sample, &b)) {
            for (c = 0; c < MD_CLASSES; c++) {
                same = same && one.logits[c] == two.logits[c];
            }
        } else {
            md_push(&two, sample, &b);
        }
    }
    return same;
}

int main(void)
{
    md_adaptation learned, other;
    md_init(&one);
    one.adaptation.means[0][0] += 3.0f; /* as if it had learned */
    one.adaptation.evidence[1] = 7.0f;
    learned = one.adaptation;
    md_init(&two);
    printf("%d", two.adaptation.means[0][0] != learned.means[0][0]);
    printf("%d", md_remember(&two, &learned));
    printf("%d", two.adaptation.means[0][0] == learned.means[0][0]);
    printf("%d", two.adaptation.evidence[1] == 7.0f);
    other = learned;
    other.id++;
    printf("%d", md_remember(&two, &other));
    other = learned;
    other.means[1][0] = NAN;
    printf("%d", md_remember(&two, &other));
    other = learned;
    other.variances[1] = -1.0f;
    printf("%d", md_remember(&two, &other));
    one.adapting = two.adapting = 1;
    printf("%d", alike(3000));
    md_forget(&one);
    md_init(&two);
    two.adapting = 1;
    printf("%d", one.adaptation.means[0][0] == two.adaptation.means[0][0]);
    return 0;
}
"""


def test_what_was_learned_goes_over_a_power_cycle(student: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    to_c(student, step=STEP).write(folder)
    (folder / "remembers.c").write_text(REMEMBERS)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsanitize=undefined"]
    command = ["gcc", *strict, "remembers.c", "md.c", "-o", "remembers", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    shown = subprocess.run([str(folder / "remembers")], capture_output=True, check=True).stdout
    assert shown.decode() == "111100011"


@pytest.mark.skipif(LACKING is not None, reason=f"no {LACKING} on this machine")
def test_the_same_on_a_microcontroller(student: Bundle, tmp_path: Path) -> None:
    signal = wandering(1)[:8000]
    host = played(tmp_path / "c", student, signal, adapt=True)
    chip = emulate(tmp_path / "c", signal, adapt=True)
    assert chip.decoded.predictions.tolist() == host.predictions.tolist()
    assert chip.decoded.gestures.tolist() == host.gestures.tolist()
    plain = emulate(tmp_path / "c", signal, adapt=False)
    assert 1 < chip.instructions / plain.instructions < 1.2
    assert chip.stack < 640
