"""What a bundle must have seen: derived from its stage and split, not believed.

No bundle is signed: someone who rewrites all of its files, stage and split included, is believed.
What a bundle says of itself must at least agree with the split that it is scored under.
"""

from __future__ import annotations

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Repetition
from myodistill.errors import BundleError, LeakageError
from myodistill.splits import Split, require_unseen

_LEARNED_FROM_OTHERS = (
    "pretrain",
    "pretrain-student",
    "finetune",
    "pretrained",
    "distilled",
    "pretrained_distilled",
)
_OF_A_PERSON = ("finetune", "supervised", "pretrained", "distilled", "pretrained_distilled")


def implied_seen(bundle: Bundle, split: Split) -> frozenset[Repetition]:
    """Return the least that a bundle of its stage, subject and K has seen under a split.

    Of the training subjects that is their calibration session, which everybody has.

    Raises:
        BundleError: It names no stage, or a stage without what belongs to it.
    """
    stage, subject, k = (bundle.origin.get(name) for name in ("stage", "subject", "k"))
    if stage not in (*_LEARNED_FROM_OTHERS, *_OF_A_PERSON):
        raise BundleError(
            f"{bundle.model}: expected a bundle that says its stage, got '{str(stage)[:40]}'; "
            f"run again"
        )
    seen: frozenset[Repetition] = frozenset()
    if stage in _LEARNED_FROM_OTHERS:
        everybody = (split.calibration(who, split.repetitions) for who in split.pretraining)
        seen = seen.union(*everybody)
    if stage in _OF_A_PERSON:
        known = isinstance(k, int) and 0 <= k <= split.repetitions
        if subject not in split.heldout or not known:
            raise BundleError(
                f"{bundle.model}: expected a held-out subject of the split and their K, got "
                f"'{str(subject)[:40]}' and {str(k)[:10]}; run again"
            )
        assert isinstance(k, int)
        seen |= split.unlabelled(str(subject), k)
    return seen


def require_scorable(bundle: Bundle, split: Split, subject: str) -> None:
    """Refuse to score a bundle on a subject's test sessions unless it cannot have seen them.

    Raises:
        LeakageError: It saw some of them, or admits to less than its stage and split imply.
        BundleError: It is of another split, or does not say of which stage.
    """
    what = f"{bundle.origin.get('stage')} {bundle.model}"
    fitted = bundle.seen | (bundle.preprocessing.seen if bundle.preprocessing else frozenset())
    require_unseen(split.test(subject), fitted, what=what)
    implied = implied_seen(bundle, split)
    require_unseen(split.test(subject), implied, what=what)
    mine = split.narrowed(bundle.origin.get("subject")).hash
    if bundle.origin.get("split") != mine:
        raise BundleError(
            f"{what}: expected a bundle of the split {mine}, it is of "
            f"'{str(bundle.origin.get('split'))[:40]}'; run again"
        )
    if lacking := sorted(implied - bundle.seen):
        raise LeakageError(
            f"leakage: expected a {what} that admits to {lacking[0]}, as its stage and split "
            f"imply; it leaves out {len(lacking)} such repetitions; run again"
        )
