"""How sure a decoder has to be: a threshold from a person's calibration windows."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from myodistill.bundle import Bundle
from myodistill.errors import DataError, SettingsError
from myodistill.signals.windows import Windows


def rejection_threshold(bundle: Bundle, windows: Windows, share: float) -> float:
    """Return the confidence below which a wanted share of windows is withheld.

    A student is surer of windows that it learned from than of those in use, of which more will be
    withheld.

    Args:
        bundle: Of a student calibrated for a person.
        windows: Filtered, as for :meth:`Bundle.logits`; of gestures that are to be decided.
        share: Largest share of the windows to withhold, from 0 up to 1.

    Returns:
        The ``threshold`` of a :class:`~myodistill.decision_rule.DecisionRule`.

    Raises:
        SettingsError: The share is out of its range.
        DataError: There are no windows.
    """
    if not 0 <= share < 1:
        raise SettingsError(f"withhold: expected a share from 0 up to 1, got {share:g}")
    if not len(windows):
        raise DataError("withhold: expected windows to choose a threshold on, got none")
    confidence = np.sort(softmax(bundle.logits(windows).astype(np.float64), axis=1).max(axis=1))
    return float(confidence[int(share * len(confidence))])
