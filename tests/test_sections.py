"""The sections of a timeline: what is merged, what is unsure, and that there are never too many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from musicgenre.listening.answer import Answer, TimelineSection, TimelineSegment
from musicgenre.listening.sections import MOST_SECTIONS, find_sections, find_stretches

LABELS = ("blues", "jazz", "rock")
STEP_S = 3.0


def sections(
    *rows: tuple[float, ...], unsure_threshold: float = 0.5, step_s: float = STEP_S
) -> tuple[TimelineSection, ...]:
    times_s = [(index * step_s, (index + 1) * step_s) for index in range(len(rows))]
    return find_sections(times_s, np.array(rows), LABELS, unsure_threshold=unsure_threshold)


BLUES, JAZZ, ROCK = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)
NOBODY_KNOWS = (0.3, 0.36, 0.34)


def told(found: tuple[TimelineSection, ...]) -> list[tuple[str, float, float]]:
    return [(section.genre, section.start_s, section.end_s) for section in found]


def test_what_flickers_by_is_no_section_and_what_lasts_is_one() -> None:
    flickering = [BLUES] * 60 + [ROCK] * 5 + [BLUES] * 60 + [JAZZ] * 20 + [BLUES] * 60
    assert told(sections(*flickering)) == [("blues", 0, 375), ("jazz", 375, 435), ("blues", 435, 615)]


def test_a_change_costs_a_twentieth_of_a_short_track() -> None:
    found = sections(*[BLUES] * 3, *[ROCK] * 2, step_s=1.0)
    assert told(found) == [("blues", 0, 3), ("rock", 3, 5)]
    assert found[0].confidence == pytest.approx(0.8) and found[0].candidates == ("blues",)


def test_what_nobody_is_sure_of_is_unsure_and_says_what_it_might_be() -> None:
    found = sections(*[BLUES] * 40, *[NOBODY_KNOWS] * 60, *[ROCK] * 40)
    assert told(found) == [("blues", 0, 120), ("unsure", 120, 300), ("rock", 300, 420)]
    assert found[1].candidates == ("jazz", "rock", "blues") and found[1].confidence == pytest.approx(0.36)
    assert [section.genre for section in sections(*[NOBODY_KNOWS] * 9, unsure_threshold=0.0)] == ["jazz"]


def test_segments_may_overlap_and_leave_gaps() -> None:
    found = find_sections(
        [(0.0, 4.0), (2.0, 6.0), (50.0, 54.0)], np.array([BLUES, BLUES, ROCK]), LABELS, unsure_threshold=0.5
    )
    assert told(found) == [("blues", 0, 6), ("rock", 50, 54)]
    assert find_sections([], np.zeros((0, 3)), LABELS, unsure_threshold=0.5) == ()


@given(
    arrays(np.float64, st.tuples(st.integers(1, 200), st.just(3)), elements=st.floats(0.01, 1.0)),
    st.floats(0.0, 0.9),
)
def test_sections_cover_the_track_and_are_judged_by_their_mean(scores: np.ndarray, threshold: float) -> None:
    scores /= scores.sum(axis=1, keepdims=True)
    found = sections(*map(tuple, scores), unsure_threshold=threshold)
    assert 1 <= len(found) <= MOST_SECTIONS
    assert [found[0].start_s, found[-1].end_s] == [0.0, len(scores) * STEP_S]
    for one, other in pairwise(found):
        assert one.end_s == other.start_s
    for section in found:
        part = scores[round(section.start_s / STEP_S) : round(section.end_s / STEP_S)].mean(axis=0)
        assert section.confidence == pytest.approx(part.max())
        if part.max() < threshold - 1e-9:
            assert section.genre == "unsure"
        elif part.max() > threshold + 1e-9:
            assert part[LABELS.index(section.genre)] == pytest.approx(part.max())


def test_many_long_parts_are_told_in_twenty_lines() -> None:
    found = sections(*([*[BLUES] * 20, *[ROCK] * 20] * 30))
    assert 1 <= len(found) <= MOST_SECTIONS


def test_stretches_merge_only_what_says_the_same() -> None:
    segments = [
        TimelineSegment(index * STEP_S, (index + 1) * STEP_S, genre, confidence)
        for index, (genre, confidence) in enumerate(
            [("blues", 0.9), ("blues", 0.7), ("rock", 0.3), ("jazz", 0.4), ("jazz", 0.8)]
        )
    ]
    answer = Answer("a", 15, 15, "blues", 0.9, {"blues": 0.9}, timeline=tuple(segments), unsure_threshold=0.5)
    found = find_stretches(answer)
    assert told(found) == [("blues", 0, 6), ("unsure", 6, 12), ("jazz", 12, 15)]
    assert found[0].confidence == pytest.approx(0.8) and found[1].candidates == ("rock", "jazz")
