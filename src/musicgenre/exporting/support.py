"""What the training music of a run looks like to its bundle, so that the bundle says `unsure` of what is unlike it.

The tracks are heard as anybody's will be: by the bundle itself, through the listener's own door, as many seconds as
`classify` hears. The training part gives the statistics, the right answers on the validation part their limit. The
test part is not heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from musicgenre import audio
from musicgenre._parallel import in_threads
from musicgenre.data.manifest import Track
from musicgenre.errors import AudioError
from musicgenre.evaluation.protocols import is_leaky
from musicgenre.listening.classifier import DEFAULT_COVERAGE_S
from musicgenre.listening.framing import Coverage
from musicgenre.listening.hearing import Heard
from musicgenre.listening.listeners import load_listener
from musicgenre.models.support import FEWEST_RIGHT, RIGHT_ANSWERS_LOST, Support, at_limit, fit_support
from musicgenre.runs.folder import Run

MOST_TRACKS = 300
"""Tracks of a part that are heard, evenly spread over it: three times what gives all axes their two tracks."""

_PARTS = ("train", "validation")


@dataclass(frozen=True, slots=True, eq=False)
class KnownMusic:
    """What a bundle can tell of its training music.

    Parameters
    ----------
    supports : tuple of Support or None
        One a model of the bundle; None where nothing can be told.
    note : str
        How they were found, or why not; one sentence without the full stop.
    """

    supports: tuple[Support | None, ...]
    note: str


def known_music(
    trial: Path,
    run: Run,
    reads: Sequence[str],
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> KnownMusic:
    """Let a bundle hear training and validation tracks of its run, and describe what it hears.

    Parameters
    ----------
    trial : Path
        The bundle, calibrated, without such statistics.
    run : Run
        What it was exported from: one label a track.
    reads : sequence of str
        The output that is described, one a model of the bundle.
    jobs : int
        Tracks at a time.
    progress : callable
        Told (tracks done, tracks in all).
    """

    def nothing(why: str) -> KnownMusic:
        return KnownMusic((None,) * len(reads), f"It cannot tell what is unlike its training music: {why}")

    if is_leaky(run.protocol):
        return nothing("there is no honest validation part")
    at_hand = tracks_at_hand(run)
    train, validation = (_evenly([track for track in at_hand if track.split == part]) for part in _PARTS)
    if min(len(train), len(validation)) < FEWEST_RIGHT:
        return nothing(
            f"{len(train)} training and {len(validation)} validation tracks are at hand, and {FEWEST_RIGHT} of each"
            " are needed"
        )

    listener = load_listener(str(trial), threads=1)
    ear = listener.ear(Coverage.parse(DEFAULT_COVERAGE_S))

    def hear(track: Track) -> Heard | None:
        try:
            return ear.hear(track.path)
        except AudioError:
            return None  # training may have left it out for the same reason

    known: list[Heard] = []
    right: list[Heard] = []
    tracks = [*train, *validation]
    with closing(in_threads(hear, tracks, jobs)) as results:
        for done, (track, heard) in enumerate(zip(tracks, results, strict=True), start=1):
            if heard is not None and track.split == "train":
                known.append(heard)
            elif heard is not None and listener.answer(None, heard).genre == track.label:
                right.append(heard)  # surely, where there is a threshold
            progress(done, len(tracks))
    if min(len(known), len(right)) < FEWEST_RIGHT:
        return nothing(
            f"of {len(validation)} validation tracks {len(right)} are answered rightly, and {FEWEST_RIGHT} are needed"
        )

    supports = []
    beyond = []  # which of the right answers each model would give up
    for number, output in enumerate(reads):
        support = fit_support([_own(heard, number).outputs[output] for heard in known])
        distances = [support.distance(_own(heard, number).outputs[output]) for heard in right]
        support = at_limit(support, float(np.quantile(distances, 1 - RIGHT_ANSWERS_LOST)))
        supports.append(replace(support, least_tags=0.0))  # a classifier gives no tags to tell music by
        beyond.append(np.array(distances) > support.limit)

    n_lost = int((2 * np.sum(beyond, axis=0) >= len(reads)).sum())  # half of the models decide
    outputs = " and ".join(sorted(set(reads)))
    return KnownMusic(
        tuple(supports),
        f"What is unlike {len(known)} training tracks, by {outputs}, is unsure; the limit costs {n_lost} of"
        f" {len(right)} right answers on {len(validation)} validation tracks, which set it",
    )


def tracks_at_hand(run: Run) -> list[Track]:
    """List the tracks of a run's own manifest whose sound files are there; augmented copies are left out."""
    manifest = run.manifest()
    found = []
    for track in () if manifest is None else manifest.tracks:
        is_sound = track.path.suffix.lower() in audio.AUDIO_SUFFIXES
        if is_sound and not track.augmented and track.path.is_file():
            found.append(track)
    return found


def _evenly(tracks: list[Track]) -> list[Track]:
    """As many tracks as are heard, evenly spread."""
    if len(tracks) <= MOST_TRACKS:
        return tracks
    return [tracks[place] for place in np.linspace(0, len(tracks) - 1, MOST_TRACKS).astype(int)]


def _own(heard: Heard, number: int) -> Heard:
    """What one model of a bundle heard."""
    return heard.members[number] if heard.members else heard
