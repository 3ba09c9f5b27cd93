"""The sections of a track: neighbouring segments of one genre, with what flickers by smoothed away.

The rule. Every segment is given a genre, for sure or not. Of all ways to do so the one is taken in which the most
seconds are right, going by the segments' own probabilities, when every change costs ten seconds (a twentieth of what
was heard, where that is less than 200 seconds). Another genre in between thus becomes a section of its own only
where it lasts for 20 seconds at full probability, or longer at a lower one. A second that is unsure counts as right
with the mean of its genre's probability and the model's threshold: that is more than the probability alone just
where this is below the threshold, so a section is unsure when the mean probability of its genre is, as a track is.
Where more than `MOST_SECTIONS` are left, the price is doubled until they are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from musicgenre.listening.answer import UNSURE, Answer, TimelineSection, TimelineSegment, close_to_best, ranked

MOST_SECTIONS = 20

_CHANGE_COSTS_S = 10.0
_CHANGE_COSTS_SHARE = 0.05  # of what was heard; the lower one counts

Float64 = NDArray[np.float64]


def find_sections(
    times_s: Sequence[tuple[float, float]], scores: Float64, labels: Sequence[str], *, unsure_threshold: float
) -> tuple[TimelineSection, ...]:
    """Merge neighbouring segments into sections by the rule above.

    Parameters
    ----------
    times_s : sequence of (float, float)
        Start and end of each segment in seconds, in order; they may overlap, and leave gaps.
    scores : ndarray, shape (n_segments, n_labels)
        Probabilities of each segment.
    labels : sequence of str
        Genres of the columns.
    unsure_threshold : float
        A section whose best genre has a lower mean probability is `unsure`.

    Returns
    -------
    tuple of TimelineSection
        In order, `MOST_SECTIONS` at most. Neighbours differ, if only in what they perhaps are.
    """
    if not times_s:
        return ()

    # Where segments overlap, each counts up to the beginning of the next one.
    starts_s = np.array([start for start, _ in times_s])
    ends_s = np.array([end for _, end in times_s])
    ends_s[:-1] = np.minimum(ends_s[:-1], starts_s[1:])
    seconds = ends_s - starts_s
    seconds_right = scores * seconds[:, None]

    # Each genre for sure, then each genre not for sure.
    unsure = (seconds_right + unsure_threshold * seconds[:, None]) / 2
    choices = np.concatenate([seconds_right, unsure], axis=1)
    price_s = min(_CHANGE_COSTS_S, _CHANGE_COSTS_SHARE * float(seconds.sum()))
    while True:
        names = _best_names(choices, price_s)
        parts = _split(names)
        if len(parts) <= MOST_SECTIONS:
            break
        price_s *= 2

    sections = []
    for part in parts:
        by_genre = ranked(labels, seconds_right[part].sum(axis=0) / seconds[part].sum())
        genre, confidence = next(iter(by_genre.items()))
        sections.append(
            TimelineSection(
                start_s=float(starts_s[part][0]),
                end_s=float(ends_s[part][-1]),
                genre=UNSURE if names[part][0] >= len(labels) else genre,
                confidence=confidence,
                candidates=close_to_best(by_genre),
            )
        )
    return tuple(sections)


def find_stretches(answer: Answer) -> tuple[TimelineSection, ...]:
    """Merge only neighbouring segments that say the same, each judged alone: what sections are smoothed from.

    Parameters
    ----------
    answer : Answer
        Of a model that names genres.

    Returns
    -------
    tuple of TimelineSection
        In order, as many as there are; neighbours differ.
    """

    def judge(segment: TimelineSegment) -> str:
        return segment.genre if segment.confidence >= answer.unsure_threshold else UNSURE

    stretches = []
    for genre, group in groupby(answer.timeline, key=judge):
        segments = list(group)
        confidence = sum(segment.confidence for segment in segments) / len(segments)
        candidates = Counter(segment.genre for segment in segments).most_common()
        stretches.append(
            TimelineSection(
                start_s=segments[0].start_s,
                end_s=segments[-1].end_s,
                genre=genre,
                confidence=confidence,
                candidates=tuple(name for name, _ in candidates),
            )
        )
    return tuple(stretches)


def _best_names(seconds_right: Float64, price_s: float) -> NDArray[np.intp]:
    """Name a column for each row (n_segments, n_labels) so that the sum less the price of changes is greatest."""
    n_segments, n_labels = seconds_right.shape
    came_from = np.empty((n_segments, n_labels), dtype=np.intp)
    stay = np.arange(n_labels)

    # The best sum of all ways that end in each label, segment by segment (Viterbi's algorithm).
    total = seconds_right[0].copy()
    for index in range(1, n_segments):
        best = int(total.argmax())
        changed = total[best] - price_s
        came_from[index] = np.where(total >= changed, stay, best)
        total = np.maximum(total, changed) + seconds_right[index]

    names = np.empty(n_segments, dtype=np.intp)
    names[-1] = total.argmax()
    for index in range(n_segments - 1, 0, -1):
        names[index - 1] = came_from[index, names[index]]
    return names


def _split(names: NDArray[np.intp]) -> list[slice]:
    """Cut where the name changes."""
    cuts = [0, *(np.flatnonzero(np.diff(names)) + 1).tolist(), len(names)]
    return [slice(start, stop) for start, stop in pairwise(cuts)]
