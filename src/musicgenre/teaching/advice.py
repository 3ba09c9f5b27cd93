"""What a person should know of a taught head: tracks and genres that sound alike, small genres, new artists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from musicgenre.evaluation.metrics import wilson_interval
from musicgenre.models.head import GenreHead
from musicgenre.teaching.lessons import HeardLesson
from musicgenre.teaching.score import FEW, TARGET, VERY_FEW, Float64, Labels, Score
from musicgenre.teaching.trial import Trial

_CONFUSED = 0.25
"""Share of the tracks of two genres, named as one of the two, that are named as the wrong one, from which on the two
may be one genre to the ear."""


def warnings_about(
    heard: Sequence[HeardLesson],
    pairs: Sequence[tuple[int, int]],
    labels: Sequence[str],
    truth: Labels,
    trials: Sequence[Trial],
    score: Score,
) -> tuple[str, ...]:
    """Say what a person should know: tracks and genres that sound alike, small genres, a score that means little."""
    warnings = []
    for a, b in pairs:
        first, second = heard[a].lesson, heard[b].lesson
        names = f"{first.path.name} ({first.label}) and {second.path.name} ({second.label})"
        where = " under different genres" if first.label != second.label else ""
        warnings.append(f"sound like one recording{where}: {names}; tested together")

    for number, label in enumerate(labels):
        size = int((truth == number).sum())
        if size < FEW:
            grade = "far too few" if size < VERY_FEW else "few"
            tracks = "1 track is" if size == 1 else f"{size} tracks are"
            warnings.append(f"{label}: {tracks} {grade}; {FEW} or more are better")
        if not any(trial.tested[truth == number].any() for trial in trials):
            warnings.append(f"{label}: could not be tested, since its tracks are all one group (or one track)")

    warnings += notes_on_confused(score.confusion, labels)
    if score.answered.n_answered == 0:
        warnings.append(f"no confidence is right {TARGET:.0%} of the time: every answer will be 'unsure'; add tracks")
    if score.interval[0] <= score.majority:
        warnings.append("the score is not clearly above always naming the most frequent genre")
    return tuple(warnings)


def notes_on_confused(confusion: Float64, labels: Sequence[str]) -> list[str]:
    """Name pairs of genres that cannot be told apart.

    Of the tracks of both that were named as one of the two, a quarter or more were named as the wrong one, and the
    right ones are not clearly (95 % interval) more than always naming the larger of the two would get.

    Parameters
    ----------
    confusion : ndarray, shape (n_labels, n_labels)
        Tested tracks by true (rows) and named label.
    labels : sequence of str
    """
    notes = []
    for a in range(len(labels)):
        for b in range(a + 1, len(labels)):
            both = confusion[np.ix_([a, b], [a, b])]
            n_named, n_right = float(both.sum()), float(np.trace(both))
            if n_named < 2 * VERY_FEW or n_named - n_right < _CONFUSED * n_named or not both.sum(axis=1).all():
                continue
            if wilson_interval(n_right, n_named)[0] <= both.sum(axis=1).max() / n_named:
                notes.append(
                    f"{labels[a]} and {labels[b]} cannot be told apart: {n_right:.0f} of {n_named:.0f} rightly; make"
                    " them one genre, or add tracks"
                )
    return notes


def answering(head: GenreHead, score: Score) -> str:
    """Say of how many tracks a head is sure, and what it does with sound that is unlike all of its own."""
    at_all = score.answered.n_answered > 0
    told = f"it says 'unsure' of every track: at no confidence {TARGET:.0%} of the answers are right"
    if at_all:
        told = (
            f"below a confidence of {head.unsure_threshold:.2f} it says 'unsure': it answers"
            f" {score.answered.coverage:.0%} of the tracks, {score.answered.accuracy:.0%} of them rightly"
        )
    return f"{told}; confidence is off by {score.calibration_error:.3f}"


def meaning_for_new_artists(n_known: int, n_tracks: int, untested: Sequence[str] = ()) -> str:
    """Say what a score means for artists that the head has never heard.

    Parameters
    ----------
    n_known, n_tracks : int
        Tracks whose artist is known, and all.
    untested : sequence of str
        Genres of which no track could be tested.
    """
    if untested:
        names = ", ".join(untested)
        return f"nothing of {names} could be tested: the score does not tell what is named {names} that is not"
    if n_known == n_tracks:
        return "artists are kept apart: expect as much for an artist it has never heard"
    if n_known:
        return (
            f"the artists of {n_known} of {n_tracks} tracks are known and kept apart; of the others one may stand on"
            " both sides: expect less for an artist it has never heard (--artists names them)"
        )
    return (
        "the artists are not known, so that one may stand on both sides: expect less for an artist it has never"
        " heard (--artists names them)"
    )
