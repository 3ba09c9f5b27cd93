"""What makes an answer doubtful though the track was heard: a track that is too short, or of too low a rate."""

from __future__ import annotations

from typing import Literal

Shortcoming = Literal["too short", "low sample rate"]
"""What a track lacks."""

SHORT_S = 3.0
"""Seconds below which a track is too short to judge: what is heard then are single sounds, not music."""

LOW_RATE_HZ = 16_000
"""Sample rate below which a track has lost what genres are told apart by; the default model hears at this rate."""


def doubts(duration_s: float, source_rate_hz: int, model_rate_hz: int) -> tuple[str, ...]:
    """Say why an answer about a track cannot be trusted.

    Parameters
    ----------
    duration_s : float
        Length of the whole track in seconds.
    source_rate_hz : int
        Sample rate of the track itself.
    model_rate_hz : int
        Sample rate at which the model hears: one that hears at 8,000 Hz misses nothing in a track of that rate.

    Returns
    -------
    tuple of str
        One clause for each reason; empty where there is none.
    """
    found = shortcomings(duration_s, source_rate_hz, model_rate_hz)
    reasons = []
    if "too short" in found:
        reasons.append(f"too short to judge: {duration_s:.2f} s, and less than {SHORT_S:g} s is little to go by")
    if "low sample rate" in found:
        reasons.append(f"low sample rate: {source_rate_hz} Hz, and below {LOW_RATE_HZ} Hz answers often change")
    return tuple(reasons)


def shortcomings(duration_s: float, source_rate_hz: int, model_rate_hz: int) -> tuple[Shortcoming, ...]:
    """Say what a track lacks, the gravest first; parameters are those of `doubts`."""
    found: list[Shortcoming] = []
    if duration_s < SHORT_S:
        found.append("too short")
    if source_rate_hz < min(LOW_RATE_HZ, model_rate_hz):
        found.append("low sample rate")
    return tuple(found)
