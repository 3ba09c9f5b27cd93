"""A linear classifier for few tracks of few artists: the mean of two fits that err differently. NumPy only.

The first fit is linear discriminant analysis with a shrunken covariance; the second is multinomial logistic regression
with a ridge, in the space of its discriminants. Both give each artist (group) a weight that grows more slowly
than its number of tracks, since a second track of an artist tells less than a track of someone new, and each label the
same weight in total. See docs/genre-head.md for what this was chosen from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgenre._numbers import check_finite, softmax
from musicgenre.errors import DataError

Float64 = NDArray[np.float64]
Labels = NDArray[np.intp]

_LOGISTIC_STEPS = 500  # far more than any fit has needed
_STEP_TOLERANCE = 1e-7  # no coefficient moves by more: the fit has ended
_BIAS_RIDGE = 1e-6  # the bias is free, but the matrix to solve must not be singular
_SMALLEST_SCALE = 1e-9  # a feature that never changes must not be divided by 0
_SMALLEST_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How strongly the fit is held back.

    Parameters
    ----------
    shrinkage : float
        Share, within 0..1, of the within-label covariance that is replaced by a multiple of the identity.
    ridge : float
        Penalty on the squared weights of the logistic regression, against the sum of the tracks' log losses.
    group_power : float
        A group with n tracks weighs n ** (1 - group_power): 0 counts tracks, 1 counts groups.
    prior_strength : float
        Weight, on standardised features, of what is known before any track is heard (`prior` of the fit).
    """

    shrinkage: float = 0.1
    ridge: float = 10.0
    group_power: float = 0.5
    prior_strength: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Logits are `features @ weights + bias`.

    Parameters
    ----------
    weights : ndarray, shape (width, n_labels)
    bias : ndarray, shape (n_labels,)
    """

    weights: Float64
    bias: Float64

    def logits(self, features: Float64) -> Float64:
        """Logits of features, shape (..., width) to (..., n_labels)."""
        return np.asarray(features @ self.weights + self.bias)


def fit_discriminant(
    features: Float64,
    labels: Labels,
    n_labels: int,
    *,
    groups: Labels | None = None,
    prior: Float64 | None = None,
    settings: FitSettings | None = None,
) -> Linear:
    """Fit the classifier.

    Parameters
    ----------
    features : ndarray, shape (n_tracks, width)
        One vector per track.
    labels : ndarray of int, shape (n_tracks,)
        Label numbers, each of 0..n_labels - 1 at least once.
    n_labels : int
        Number of labels, at least 2.
    groups : ndarray of int, shape (n_tracks,), optional
        Numbers of the artists; without them every track stands for itself.
    prior : ndarray, shape (width, n_labels), optional
        Which feature speaks for which label by its very meaning, such as a tag that has the label's name.
    settings : FitSettings, optional
        How strongly to regularise.

    Returns
    -------
    Linear
        Its logits are over-confident: give them a temperature (musicgenre.evaluation.calibration).

    Raises
    ------
    DataError
        When a label has no track, or features are not finite.
    """
    settings = settings or FitSettings()
    missing = set(range(n_labels)) - set(labels.tolist())
    if n_labels < 2 or missing:
        raise DataError(
            f"labels {sorted(missing)} have no track", valid="at least two labels, a track or more in each"
        )
    check_finite(features, "features")

    # standardise, so that one ridge and one shrinkage suit every feature
    weight = track_weights(labels, groups, settings.group_power)
    centre = np.average(features, axis=0, weights=weight)
    scale = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=weight)) + _SMALLEST_SCALE
    standard = (features - centre) / scale

    # the two fits, and their mean
    discriminants, means = _discriminants(standard, labels, n_labels, weight, settings.shrinkage)
    projected = standard @ discriminants  # (n_tracks, n_discriminants), within-label covariance: identity
    analysis = Linear(means.T, -0.5 * (means**2).sum(axis=1))
    regression = _fit_logistic(projected, labels, n_labels, weight, settings.ridge)
    mean = _mean_at_equal_spread(regression, analysis, projected, weight)

    # back from discriminants to standardised features, where a prior speaks, and from these to features as they come
    weights = discriminants @ mean.weights
    if prior is not None:
        weights = weights + settings.prior_strength * prior
    weights = weights / scale[:, np.newaxis]
    return Linear(weights, mean.bias - centre @ weights)


def track_weights(labels: Labels, groups: Labels | None, group_power: float) -> Float64:
    """Weight of every track: less in large groups, the same sum for every label; the mean is 1."""
    weight = np.ones(len(labels))
    if groups is not None:
        _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        weight = sizes[members].astype(np.float64) ** -group_power

    totals = np.bincount(labels, weights=weight)
    weight = weight / totals[labels]
    return np.asarray(weight / weight.mean())


def _discriminants(
    standard: Float64, labels: Labels, n_labels: int, weight: Float64, shrinkage: float
) -> tuple[Float64, Float64]:
    """Directions that whiten the shrunken within-label covariance and span the label means.

    Returns
    -------
    (discriminants, means)
        Shapes (width, n_discriminants) and (n_labels, n_discriminants); the means are in the space of the first.
    """
    width = standard.shape[1]
    # Fewer tracks than features span a part of the space. Outside of it nothing varies and no means lie, so all that
    # follows is the same within it, and the matrix to take apart much smaller.
    span = np.linalg.qr(standard.T)[0] if len(standard) < width else None
    if span is not None:
        standard = standard @ span
    means = np.stack([np.average(standard[labels == k], axis=0, weights=weight[labels == k]) for k in range(n_labels)])

    # the shrunken covariance within labels
    within = standard - means[labels]
    covariance = (within * weight[:, np.newaxis]).T @ within / weight.sum()
    floor = max(float(np.trace(covariance)) / width, 1e-6)  # tracks that are all equal leave no covariance at all
    covariance = (1 - shrinkage) * covariance + shrinkage * floor * np.eye(len(covariance))

    # whitened by it, the means span the directions that tell labels apart: one fewer than there are labels
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-9 * floor))
    white_means = means @ whitening
    *_, rows = np.linalg.svd(white_means - white_means.mean(axis=0), full_matrices=False)
    basis = rows[: min(n_labels - 1, len(covariance))].T
    discriminants = whitening @ basis
    if span is not None:
        discriminants = span @ discriminants
    return discriminants, white_means @ basis


def _fit_logistic(features: Float64, labels: Labels, n_labels: int, weight: Float64, ridge: float) -> Linear:
    """Minimise the weighted log loss plus ridge / 2 times the squared weights (bias free).

    Each step minimises Boehning's quadratic bound on the loss, so that no line search is needed and the one matrix to
    solve stays the same. It is taken from a point further along the way of the last one (Nesterov 1983), which needs a
    small part of the steps; where it leads back, the way begins anew (O'Donoghue and Candes 2015).
    """
    design = np.column_stack([features, np.ones(len(features))])
    targets = np.eye(n_labels)[labels]
    penalty = np.full((design.shape[1], 1), ridge)
    penalty[-1] = _BIAS_RIDGE
    solve = np.linalg.inv(0.5 * (design * weight[:, np.newaxis]).T @ design + np.diag(penalty[:, 0]))

    coefficients = before = np.zeros((design.shape[1], n_labels))
    n_onwards = 0  # steps since the way began
    for _ in range(_LOGISTIC_STEPS):
        ahead = coefficients + n_onwards / (n_onwards + 3) * (coefficients - before)
        misses = targets - softmax(design @ ahead)
        slope = design.T @ (weight[:, np.newaxis] * misses) - penalty * ahead
        step = solve @ slope

        before, coefficients = coefficients, ahead + step
        n_onwards = n_onwards + 1 if np.vdot(step, coefficients - before) >= 0 else 0
        if np.abs(step).max() < _STEP_TOLERANCE:
            break

    return Linear(coefficients[:-1], coefficients[-1])


def _mean_at_equal_spread(first: Linear, second: Linear, features: Float64, weight: Float64) -> Linear:
    """Average two classifiers after scaling the second so that both spread their logits equally."""
    spreads = []
    for fit in (first, second):
        logits = fit.logits(features)
        centred = logits - logits.mean(axis=1, keepdims=True)
        spreads.append(np.sqrt(np.average((centred**2).sum(axis=1), weights=weight)))

    ratio = spreads[0] / max(spreads[1], _SMALLEST_SPREAD)
    return Linear((first.weights + ratio * second.weights) / 2, (first.bias + ratio * second.bias) / 2)
