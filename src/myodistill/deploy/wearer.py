"""Whose student it is: the recordings that calibrated it, and those that may score it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from myodistill.datasets.catalogue import DATASETS, open_dataset
from myodistill.datasets.dataset import Dataset
from myodistill.datasets.recording import Recording
from myodistill.deploy.bundle import Bundle
from myodistill.errors import BundleError
from myodistill.signals.preprocessing import filtered
from myodistill.signals.windows import Windows
from myodistill.splits import Split, make_split


@dataclass(frozen=True)
class Wearer:
    """A student with the recordings of the person it decodes.

    Attributes:
        student: Their bundle.
        dataset: Where they are recorded.
        split: The fold that held them out.
        subject: Their name there.
    """

    student: Bundle = field(repr=False)
    dataset: Dataset = field(repr=False)
    split: Split = field(repr=False)
    subject: str

    @classmethod
    def of(cls, student: Bundle, dataset: str | None = None) -> Wearer:
        """Find the person by the provenance of their student.

        Args:
            student: Their bundle.
            dataset: As for :func:`~myodistill.datasets.catalogue.open_dataset`; the name in the
                bundle if not given.

        Raises:
            BundleError: It belongs to no person, does not say where it is from, or the data at
                hand make another split.
            DataError: The dataset is not at hand.
        """
        origin = student.origin
        if not origin.get("subject"):
            raise BundleError(
                f"{student.model}: expected a student that has met its person, got one of the "
                f"stage '{origin.get('stage')}'; take a bundle from a subject's folder"
            )
        wanted = {"dataset": str, "fold": int, "split": str, "k": int}
        lacking = [name for name, kind in wanted.items() if not isinstance(origin.get(name), kind)]
        if lacking:
            raise BundleError(
                f"{student.model}: expected a bundle that says its {', '.join(lacking)}, this one "
                f"does not; train it by 'myodistill run'"
            )
        if dataset is None and origin["dataset"] not in DATASETS:
            raise BundleError(
                f"{student.model}: expected a dataset of the catalogue, it was trained on "
                f"'{origin['dataset']}'; say by --dataset where that is"
            )
        found = open_dataset(dataset or origin["dataset"])
        split = make_split(found, origin["fold"])
        mine = split.narrowed(origin["subject"])
        if mine.hash != origin["split"]:
            raise BundleError(
                f"{student.model}: expected the split {origin['split']} that it was trained on, "
                f"the recordings at hand make {mine.hash}; point MYODISTILL_DATA to the same ones"
            )
        return cls(student, found, split, origin["subject"])

    @property
    def step(self) -> int:
        """Samples from one decision to the next, by the protocol."""
        return self.dataset.facts.step

    @cached_property
    def recordings(self) -> list[Recording]:
        """All recordings, raw, read when first asked for."""
        return self.dataset.recordings(self.subject)

    @property
    def tests(self) -> list[Recording]:
        """The raw recordings of the test sessions."""
        return [r for r in self.recordings if r.session in self.split.test_sessions]

    @cached_property
    def windows(self) -> Windows:
        """All filtered windows, as for :meth:`Bundle.logits`.

        Raises:
            BundleError: The student has no person's pre-processing.
        """
        student = self.student
        if student.preprocessing is None:
            raise BundleError(
                f"{student.model}: expected a person's pre-processing, the bundle has none; "
                f"calibrate it for a person first"
            )
        sections = student.preprocessing.sections()
        samples = student.spec.samples
        return filtered(self.recordings, sections, samples=samples, step=self.step)

    @property
    def calibration(self) -> Windows:
        """The filtered windows that the student calibrated on; none of them is scored."""
        origin = self.student.origin
        return self.windows.select(self.split.unlabelled(self.subject, origin["k"]))

    @property
    def scored(self) -> Windows:
        """The filtered windows of the test sessions."""
        return self.windows.select(self.split.test(self.subject))
