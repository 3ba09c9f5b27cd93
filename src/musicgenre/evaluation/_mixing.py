"""Fit how several models answer together: weights, or a regression on top (stacking).

Everything here is fitted to validation tracks. ``members`` has shape (n_models, n_tracks, n_labels) throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import MissingExtraError, RunError
from musicgenre.models.mixture import SMALLEST, Array, Stacked, evidence

How = Literal["mean", "weighted", "stacking"]
"""How the models of an ensemble answer together."""

HOWS: tuple[How, ...] = get_args(How)
FITTED: tuple[How, ...] = ("weighted", "stacking")

STACKING_C = 1.0
"""Inverse strength of the penalty on stacking's coefficients; fixed, so that nothing has to choose it."""

_N_STEPS = 500


def mixture_weights(members: Array, truth: NDArray[np.intp]) -> Array:
    """Weights, shape (n_models,) with sum 1, under which the mixture makes the true labels most likely.

    The likelihood has one maximum over all weights; expectation-maximisation climbs to it from equal weights.
    """
    own = np.maximum(members[:, np.arange(len(truth)), truth], SMALLEST)  # (n_models, n_tracks)
    weights = np.full(len(members), 1.0 / len(members))
    for _ in range(_N_STEPS):
        shares = weights[:, None] * own
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    return np.asarray(weights / weights.sum())


def fitted_stacking(members: Array, truth: NDArray[np.intp], labels: Sequence[str]) -> Stacked:
    """Fit a multinomial logistic regression to the models' log-probabilities.

    Raises
    ------
    RunError
        If a label has no validation track.
    """
    absent = [label for index, label in enumerate(labels) if not (truth == index).any()]
    if absent:
        raise RunError(
            f"no validation track has the label {', '.join(absent)}, so that stacking cannot be fitted",
            valid="One validation track of every label at least",
            next_step="Use --how mean, or train with a larger validation part",
        )
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise MissingExtraError("stacking", "train") from error
    fitted = LogisticRegression(C=STACKING_C, max_iter=2_000).fit(evidence(members), truth)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(intercepts) == 1:  # of two labels scikit-learn keeps the second alone, against 0
        coefficients, intercepts = np.vstack([0.0 * coefficients, coefficients]), np.append(0.0, intercepts)
    return Stacked(coefficients, intercepts)
