"""How long tracks are, told without decoding them, and what is too short to tell a genre by."""

from __future__ import annotations

from musicgenre.audio import AUDIO_SUFFIXES, probe
from musicgenre.data.manifest import Track
from musicgenre.errors import AudioError

SHORT_TRACK_S = 3.0  # one segment of the usual networks and recipes


def duration_s_of(track: Track) -> float | None:
    """Length of a track in seconds, as its file's header says; None where that is not known, or it is no sound."""
    if track.path.suffix.lower() not in AUDIO_SUFFIXES:
        return None
    try:
        return probe(track.path).duration_s
    except AudioError:  # what cannot be heard is named where it is heard
        return None
