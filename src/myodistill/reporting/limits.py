"""What a reader of a run's scores should know before believing them."""

from __future__ import annotations

from collections.abc import Sequence

from myodistill.evaluation.protocol import at_chance, method_name
from myodistill.evaluation.results import METHOD, named
from myodistill.reporting.headline import Headline
from myodistill.reporting.run import Run


def warnings(run: Run) -> list[str]:
    """Return what is wrong with a run, not only limited; an empty list is the normal case."""
    notes = []
    frame = run.results
    for split in run.splits:
        scored = set(frame.loc[frame["fold"] == split.fold, "subject"])
        if names := sorted(scored - set(split.heldout)):
            notes.append(
                f"Fold {split.fold} scored {', '.join(names)}, whom its split {split.hash} does "
                f"not hold out: teachers may have learned from them, so these scores are not of "
                f"unseen people."
            )
    if run.splits and (other := sorted({s.dataset for s in run.splits} - set(frame["dataset"]))):
        notes.append(
            f"The splits are of {', '.join(other)}, the results of {frame['dataset'].iloc[0]}: "
            f"they do not belong together."
        )
    for method, by_k in run.confusion.items():
        scored = set(frame.loc[(frame[METHOD] == list(method)).all(axis=1), "k"])
        if not set(by_k) <= scored:
            ks = ", ".join(str(k) for k in sorted(set(by_k) - scored))
            notes.append(
                f"There are confusion counts of {method[0]} {named(*method[1:])} at K={ks}, which "
                f"was never scored."
            )
    if not (frame["stage"] == "baseline").any():
        notes.append(
            "No classical baseline was scored: whether any network here beats a linear method is "
            "not known."
        )
    return notes


def chance_notes(run: Run) -> list[str]:
    """Name the methods that did no better than guessing; none if the gestures are not known."""
    gestures = run.gestures or (run.facts.gestures if run.facts else ())
    if len(gestures) < 2:
        return []
    chance = f"{100 / len(gestures):.1f} %"
    notes = []
    for method, group in at_chance(run.results, len(gestures)).groupby(METHOD, sort=False):
        ks = ", ".join(str(k) for k in group["k"])
        scores = ", ".join(f"{100 * score:.1f}" for score in group["balanced_accuracy"])
        notes.append(
            f"{method_name(*method)} guesses at K={ks}: its balanced accuracy of {scores} % is not "
            f"above chance, {chance}. What guesses has learned nothing, and a difference from it "
            f"means little; a network may need more epochs or another learning rate."
        )
    return notes


def limits(run: Run, headlines: Sequence[Headline]) -> list[str]:
    """Return the limits of what a run shows."""
    frame = run.results
    people, seeds = int(frame["subject"].nunique()), int(frame["seed"].nunique())
    notes = [
        f"The sample is {people} {'people' if people > 1 else 'person'}, not the number of "
        f"windows: windows of one person overlap and resemble each other.",
        "Recordings are decoded as they were made: nobody sees the decisions and learns from them, "
        "as a user would.",
    ]
    if run.events is None:
        notes.append(
            "Scores are of recorded windows taken one by one. In use, one also meets delays, false "
            "activations and missed gestures, which these numbers do not show."
        )
    if people < 2:
        notes.append("With one subject there is neither an interval nor a test.")
    if any(line.candidates > 1 for line in headlines):
        notes.append(
            "The best student, teacher and classical baseline were picked by the scores that they "
            "are reported with, which flatters each a little; the full table is above."
        )
    below = [line for line in headlines if _below_baseline(line)]
    if below:
        ks = ", ".join(f"K={line.k}" for line in below)
        notes.append(f"At {ks} the best student is below the best classical method on average.")
    if seeds == 1:
        notes.append("Each network was trained once; how much the seed matters is not known.")
    if frame["k"].nunique() > 1:
        notes.append("p-values are corrected within one K, not across several.")
    if run.splits:
        split = run.splits[0]
        if split.test_sessions == (split.calibration_session,):
            notes.append("Calibration and test share a session: re-donning is not part of it.")
        done = {int(fold) for fold in frame["fold"].unique()}
        if len(done) < split.folds:
            notes.append(f"Of {split.folds} folds {len(done)} were run; not everybody was scored.")
    if not run.flops:
        notes.append("Operations for a window were not recorded, so cost is shown as parameters.")
    return notes


def _below_baseline(line: Headline) -> bool:
    return any("classical" in other.what and other.difference < 0 for other in line.versus)
