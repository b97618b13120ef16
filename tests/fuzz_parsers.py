"""Every parser of the software with valid samples of what it reads."""

from __future__ import annotations

import contextlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import fuzz_inputs as inputs
import h5py
import numpy as np
import onnx
import pandas as pd
import torch
import yaml
from decoding import bundle
from evaluation_tables import example_results, write_answers, write_run
from fuzz_inputs import RAW_JSON, RAW_YAML
from fuzz_live import add_live
from layouts import write_bids
from scipy.io import savemat
from torch import nn

from myodistill.bundle import Bundle
from myodistill.bundle_card import card_hash
from myodistill.cli.flags import put
from myodistill.config import Settings, digest, read_settings
from myodistill.datasets.arrays import read_arrays
from myodistill.datasets.bids import EmgBids
from myodistill.datasets.dataset import FilePerGesture
from myodistill.datasets.described import Described
from myodistill.datasets.myo import Myo
from myodistill.datasets.prepared import PreparedDataset
from myodistill.datasets.recording import Annotation
from myodistill.datasets.subject_card import CARD
from myodistill.datasets.subject_store import SubjectStore
from myodistill.datasets.synthetic import Synthetic
from myodistill.datasets.threedc import ThreeDC
from myodistill.datasets.trees import list_files
from myodistill.deploy.onnx import metadata
from myodistill.deploy.parity_table import DeployedForm, ParityTable
from myodistill.distillation import cache
from myodistill.distillation.population import Population, pretrain
from myodistill.evaluation import results
from myodistill.evaluation.protocol import require_one_protocol
from myodistill.realtime.runtime import OnnxModel
from myodistill.reporting.run import Run, read_run
from myodistill.signals.preparation import Preparation
from myodistill.signals.prepared import prepare
from myodistill.splits import Split
from myodistill.studies.study import read_study
from myodistill.training import checkpoint
from myodistill.training.teacher_output import TeacherOutput

Make = Callable[[random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        name: Of the parser.
        path: File that an input is written to.
        makes: Ways to make an input; each is as likely.
        read: Reads what was written.
        share: How many of the inputs it gets, against the others.
        valid: The file's content as it was.
    """

    name: str
    path: Path
    makes: tuple[Make, ...]
    read: Callable[[], object]
    share: float
    valid: bytes


def targets(root: Path) -> list[Target]:
    """Write samples below a folder; return every parser with how to damage them."""
    found: list[Target] = []

    def add(
        name: str, path: Path, read: Callable[[], object], share: float, *makes: Make,
        value: Any = None, raw: tuple[str, ...] = RAW_JSON, others: tuple[bytes, ...] = (),
    ) -> None:  # fmt: skip
        content = path.read_bytes()
        chosen = makes or (lambda rng: inputs.damaged(rng, content, *others),)
        if value is not None:
            whole = lambda rng: inputs.document(rng, value, raw)  # noqa: E731
            chosen = (*chosen, whole, whole)
        found.append(Target(name, path, chosen, read, share, content))

    parts = (_settings, _runs, _bundles, _people, _tensors, _recordings, _described, _subjects,
             add_live)  # fmt: skip
    for part in parts:
        part(root / part.__name__, add)
    return found


Add = Callable[..., None]


def _write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _settings(root: Path, add: Add) -> None:
    values = Settings.load({"augmentation": {"snr_db": [5, 20]}}).model_dump(mode="json")
    path = _write(root / "settings.yaml", yaml.safe_dump(values, sort_keys=False))
    read = lambda: Settings.load(read_settings(path))  # noqa: E731
    add("settings YAML", path, read, 12, value=values, raw=RAW_YAML)

    study = {
        "out": "runs/x",
        "title": "a",
        "defaults": {"k": [1], "distill": {"num_epochs": 7}},
        "runs": {"a": {}, "b": {"distill": {"batch_size": 9}}},
        "each": {"seed": [[0], [1]], "distill.learning_rate": [0.1]},
    }
    place = _write(root / "study.yaml", yaml.safe_dump(study, sort_keys=False))
    add("study YAML", place, lambda: read_study(place), 10, value=study, raw=RAW_YAML)

    keys = [
        *values,
        *(f"{one}.{key}" for one, part in values.items() if isinstance(part, dict) for key in part),
    ]
    flags = _write(root / "flags", "k\n1,2")

    def option(rng: random.Random) -> bytes:
        value = rng.choice((*inputs.NASTY, *RAW_YAML, rng.choice(keys), ",".join(RAW_YAML[:3])))
        known = f"{rng.choice(keys)}\n{value}".encode("utf-8", "surrogatepass")
        return inputs.damaged(rng, known) if rng.random() < 0.2 else known

    def flag() -> object:
        key, _, text = flags.read_bytes().decode("utf-8", "replace").partition("\n")
        given: dict[str, Any] = {}
        put(given, key, text)
        return Settings.load(given)

    add("flags", flags, flag, 8, option)


def _runs(root: Path, add: Add) -> None:
    frame = example_results(3, 1)
    frame = frame[frame["k"].isin((1, 4))].reset_index(drop=True)
    run = write_run(root / "run", frame)
    models = {"log-power": {"flops": 12345}}
    _write(run / "models.json", json.dumps(models))
    whole = lambda: read_run(run)  # noqa: E731
    for name, share in (("settings", 2), ("confusion", 5), ("environment", 2), ("models", 3)):
        path = run / f"{name}.json"
        add(f"{name} JSON", path, whole, share, value=json.loads(path.read_text()))
    split = run / "splits" / "fold-1.json"
    value = json.loads(split.read_text())
    add("split JSON", split, lambda: Split.load(split), 6, value=value)

    def scores() -> object:
        table = results.read(run / "results.parquet")
        require_one_protocol(table)
        return results.markdown(table)

    for name, read, share in (("results", scores, 3), ("events", whole, 2), ("sessions", whole, 2)):
        path = run / f"{name}.parquet"
        content, small = path.read_bytes(), pd.read_parquet(path)
        damage: Make = lambda rng, c=content: inputs.damaged(rng, c)  # type: ignore[misc] # noqa: E731
        change: Make = lambda rng, f=small: inputs.table(rng, f)  # type: ignore[misc] # noqa: E731
        add(f"{name} Parquet", path, read, share, damage, change)

    one = frame[(frame["stage"] == "pretrained_distilled") & (frame["k"] == 1)].iloc[:1]
    write_answers(run, one, windows=3)
    path = next(run.rglob("*.npz"))
    kept, method = Run(run, one), ("pretrained_distilled", "log-power", "soft-target")
    content = path.read_bytes()
    add(
        "scores npz", path, lambda: kept.predictions([method], 1), 8,
        lambda rng: inputs.damaged(rng, content),
        lambda rng: inputs.arrays(rng, ("labels", "probabilities")),
    )  # fmt: skip
    forms = (
        DeployedForm("PyTorch", None, accuracy=0.5, difference=0.1),
        DeployedForm("C", "PyTorch", reason="no gcc"),
    )
    parity_table = ParityTable(
        "gru",
        {"subject": "a", "k": 1, "stage": "pretrained_distilled"},
        forms,
        (("a", "b", "float32"),),
        0.1,
    )
    place = root / "parity.json"
    parity_table.write(place)
    read = lambda: ParityTable.read(place).notes()  # noqa: E731
    add("parity table", place, read, 5, value=json.loads(place.read_text()))


def _seal(path: Path) -> None:
    """Give a card the hash of what it says, as a forger would."""
    with contextlib.suppress(Exception):
        card = json.loads(path.read_text())
        path.write_text(json.dumps({**card, "card_sha256": card_hash(card)}))


def _bundles(root: Path, add: Add) -> None:
    student = bundle()
    student.save(root / "bundle")
    card = json.loads((root / "bundle" / "bundle.json").read_text())
    path = root / "bundle" / "bundle.json"

    def load_sealed() -> object:
        _seal(path)  # else every change is refused for the hash alone
        return Bundle.load(path.parent)

    add("bundle card", path, load_sealed, 6, value=card)

    student.save(root / "weights")
    loose = root / "weights"
    file = loose / "weights.safetensors"
    content = file.read_bytes()

    def load() -> object:
        known = {**card, "weights_sha256": sha256(file.read_bytes()).hexdigest()}
        _seal(_write(loose / "bundle.json", json.dumps(known)))
        return Bundle.load(loose)

    add("bundle weights", file, load, 3, lambda rng: inputs.damaged(rng, content),
        lambda rng: inputs.tensors(rng, content))  # fmt: skip

    about = metadata(student)
    nodes = [onnx.helper.make_node("Identity", ["windows"], ["logits"])]
    ends = [onnx.helper.make_tensor_value_info(n, 1, [1, 4, 10]) for n in ("windows", "logits")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:]),
        opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip
    onnx.helper.set_model_props(model, about)
    exported = _write(root / "model.onnx", model.SerializeToString())

    def said(rng: random.Random) -> bytes:
        key = rng.choice(list(about))
        try:
            text = inputs.document(rng, json.loads(about[key]), RAW_JSON)
        except ValueError:
            text = inputs.damaged(rng, about[key].encode())
        onnx.helper.set_model_props(model, {**about, key: text.decode("utf-8", "replace")})
        return bytes(model.SerializeToString())

    valid = exported.read_bytes()
    add("ONNX metadata", exported, lambda: OnnxModel.load(exported), 3, said, said,
        lambda rng: inputs.damaged(rng, valid))  # fmt: skip


def _people(root: Path, add: Add) -> None:
    """A population: its card sealed as a forger would, and one of its files."""
    dataset = Synthetic(subjects=3, seconds=0.5, repetitions=1)
    pretrain(dataset, out=root, teacher_model=["population"], student_model=["log-power-10k"],
             pretrain_student={"num_epochs": 1})  # fmt: skip
    path, name = root / "population.json", "rehearsal/windows.safetensors"
    file = root / name
    whole, content = json.loads(path.read_text()), file.read_bytes()

    def read() -> object:
        with contextlib.suppress(Exception):
            card = json.loads(path.read_text())
            card.pop("card_sha256", None)
            path.write_text(json.dumps({**card, "card_sha256": digest(card)}))
        people = Population.load(root)
        return people.hash, people.card

    def read_forged() -> object:
        files = {**whole["files"], name: sha256(file.read_bytes()).hexdigest()}
        _write(path, json.dumps({**whole, "files": files}))
        return read()

    add("population card", path, read, 3, value=whole)
    add("population windows", file, read_forged, 2, lambda rng: inputs.damaged(rng, content),
        lambda rng: inputs.tensors(rng, content))  # fmt: skip


def _tensors(root: Path, add: Add) -> None:
    torch.manual_seed(0)

    def state(path: Path) -> checkpoint.TrainingState:
        task = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        optimizer = torch.optim.AdamW(task.parameters())
        task(torch.ones(2, 2)).sum().backward()
        optimizer.step()
        return checkpoint.TrainingState(task, optimizer, path)

    path = root / "checkpoint.safetensors"
    root.mkdir()
    kept = state(path)
    kept._written = float("-inf")
    kept.save(1, {name: one.clone() for name, one in kept._task.state_dict().items()})
    fresh = state(path)
    best = {name: value.clone() for name, value in fresh._task.state_dict().items()}
    outputs = root / "outputs.safetensors"
    key = cache.CacheKey("a", "b", "c", (0, 1), 3, 2)
    said = TeacherOutput(torch.zeros(3, 2))
    folder = root / "outputs"
    cache.cached_outputs(folder, key, lambda view: said)
    _write(outputs, next(folder.iterdir()).read_bytes())
    for name, file, read in (
        ("checkpoint", path, lambda: fresh.resume(dict(best))),
        ("teacher outputs", outputs, lambda: cache.read(outputs, key)),
    ):
        content = file.read_bytes()
        damage: Make = lambda rng, c=content: inputs.damaged(rng, c)  # type: ignore[misc] # noqa: E731
        change: Make = lambda rng, c=content: inputs.tensors(rng, c)  # type: ignore[misc] # noqa: E731
        add(name, file, read, 5, damage, change)


def _recordings(root: Path, add: Add) -> None:
    rng = np.random.default_rng(0)
    for loader, suffix in ((ThreeDC, "txt"), (Myo, "dat")):
        channels = loader.facts.electrodes.channels
        signal = rng.integers(-100, 100, (6, channels)).astype("<i2")
        text = "\n".join(",".join(map(str, row)) for row in signal) + "\n"
        path = _write(
            root / loader.__name__ / f"0.{suffix}", signal.tobytes() if suffix == "dat" else text
        )
        (file,) = list_files(path.parent)
        dataset = loader.__new__(loader)
        FilePerGesture.__init__(dataset, {("a", "b", 0, 0): file})
        add(loader.__name__, path, lambda d=dataset: d._recording("a", "b", 0, 0), 5)

    kinds: dict[str, Callable[[io.BytesIO], object]] = {
        "csv": lambda out: out.write(b"a,b\n1,2\n3,4.5\n"),
        "tsv": lambda out: out.write(b"1\t2\n3\t4\n"),
        "npy": lambda out: np.save(out, np.ones((3, 2))),
        "npz": lambda out: np.savez(out, a=np.ones((3, 2)), b=np.arange(3)),
        "mat": lambda out: savemat(out, {"emg": np.ones((3, 2)), "s": "x"}),  # type: ignore[arg-type]
        "h5": lambda out: (
            h5py.File(out, "w").create_dataset("a", data=np.ones((3, 2))).file.close()
        ),
    }
    for kind, write in kinds.items():
        buffer = io.BytesIO()
        write(buffer)
        path = _write(root / kind / f"a.{kind}", buffer.getvalue())
        read = lambda p=path: [read_arrays(file) for file in list_files(p.parent)]  # noqa: E731
        share = {"mat": 0.2, "h5": 0.5}.get(kind, 4)
        odd: tuple[Make, ...] = (
            (lambda rng: inputs.arrays(rng, ("a", "b")),) if kind == "npz" else ()
        )
        content = path.read_bytes()
        damage: Make = lambda rng, c=content: inputs.damaged(rng, c)  # type: ignore[misc] # noqa: E731
        add(f"arrays .{kind}", path, read, share, damage, *odd)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", "hello " * 20)
        archive.writestr("c.txt", "x")
    path = _write(root / "a.zip", buffer.getvalue())
    unpack = lambda: [file.read() for file in list_files(path)]  # noqa: E731
    add("zip archive", path, unpack, 6)


def _described(root: Path, add: Add) -> None:
    text = "\n".join(f"{i % 7},{i % 5},{i // 20 % 2}" for i in range(80))
    _write(root / "s1-1.csv", text)
    about = {
        "files": "s{subject}-{session}.csv",
        "labels": 2,
        "channels": [0, 1],
        "sampling_rate": 20.0,
        "electrodes": {"layout": "ring", "columns": 2},
        "gestures": {"0": "rest", "1": "fist"},
        "ignore": ["7"],
        "passband": [1.0, 9.0],
    }
    path = _write(root / "mine.yaml", yaml.safe_dump(about, sort_keys=False))

    def described() -> object:
        dataset = Described(path)
        return dataset.recordings(dataset.subjects()[0])

    add("description YAML", path, described, 8, value=about, raw=RAW_YAML)

    people = Synthetic(subjects=2, seconds=0.5, repetitions=1)
    store = prepare("tiny", root / "store", Preparation(), dataset=people, tell=lambda line: None)

    def stored() -> object:
        dataset = PreparedDataset(store.folder)
        return [dataset.recordings(subject) for subject in dataset.subjects()]

    for name in ("store.json", "recordings.parquet", "annotations.parquet"):
        file = store.folder / name
        if name.endswith("json"):
            add("store.json", file, stored, 3, value=json.loads(file.read_text()))
            continue
        content, frame = file.read_bytes(), pd.read_parquet(file)
        damage: Make = lambda rng, c=content: inputs.damaged(rng, c)  # type: ignore[misc] # noqa: E731
        change: Make = lambda rng, f=frame: inputs.table(rng, f)  # type: ignore[misc] # noqa: E731
        add(f"store {name}", file, stored, 1.5, damage, change)

    bids = write_bids(root / "bids", sessions=1)
    open_bids = lambda: [d.recordings(s) for d in [EmgBids(bids)] for s in d.subjects()]  # noqa: E731
    for name in ("channels", "events", "electrodes"):
        add(f"BIDS {name}", next(bids.rglob(f"*_{name}.tsv")), open_bids, 0.7)


def _subjects(root: Path, add: Add) -> None:
    people = Synthetic(subjects=1, seconds=0.5, repetitions=1)
    recordings = people.recordings("Person1")
    short = [replace(one, signal=one.signal[:50], annotations=()) for one in recordings]
    notes = (Annotation(0, 40, 1, 0),)
    SubjectStore.create(root, "Person1", people.facts).extend(
        {"monday": [replace(short[0], annotations=notes)], "tuesday": short[1:]}
    )
    path, file = root / CARD, root / "sessions" / "monday.safetensors"
    whole, content = json.loads(path.read_text()), file.read_bytes()

    def seal() -> None:
        """Give the card the hash of what it says, as a forger would."""
        with contextlib.suppress(Exception):
            card = json.loads(path.read_text())
            card.pop("card_sha256", None)
            path.write_text(json.dumps({**card, "card_sha256": digest(card)}))

    def read() -> object:
        seal()
        return SubjectStore(root).recordings("Person1")

    def read_session() -> object:
        first, second = whole["sessions"]
        known = {**first, "sha256": sha256(file.read_bytes()).hexdigest()}
        _write(path, json.dumps({**whole, "sessions": [known, second]}))
        return read()

    add("subject card", path, read, 5, value=whole)
    add("subject session", file, read_session, 4, lambda rng: inputs.damaged(rng, content),
        lambda rng: inputs.tensors(rng, content))  # fmt: skip
