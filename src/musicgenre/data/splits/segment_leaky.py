"""The protocol `segment-leaky`: a known mistake under its own name, to reproduce published claims (E5, E8)."""

from __future__ import annotations

from musicgenre.data.manifest import Manifest
from musicgenre.data.splits._allocate import draw
from musicgenre.data.splits.random_parts import with_parts
from musicgenre.data.splits.registry import register
from musicgenre.errors import UsageError


@register(
    "segment-leaky",
    summary="A KNOWN MISTAKE: segments of one track go to train and test at random, 70:30.",
    comparable="Only reports that made the same mistake. It says nothing about new tracks.",
    leaky=True,
)
def mark_segment_leaky(manifest: Manifest, *, seed: int) -> Manifest:
    """Record the protocol; the segments are split when they exist, by `segment_leaky_parts`.

    Parameters
    ----------
    manifest : Manifest
        Original tracks.
    seed : int
        The seed, kept in the manifest.

    Returns
    -------
    Manifest
        Without split: every track is on both sides.
    """
    return with_parts(manifest, {})


def segment_leaky_parts(n_segments: int, seed: int, *, test_size: float = 0.3) -> list[str]:
    """Split segments at random, whatever track they come from.

    Parameters
    ----------
    n_segments : int
        All segments, tracks in order of their ids and segments in order of time.
    seed : int
        Same seed, same parts.
    test_size : float, optional
        Share of the test part, which is the validation part as well.

    Returns
    -------
    list of str
        `train` or `test` for every segment.
    """
    if not 0 < test_size < 1:
        raise UsageError(f"a test share of {test_size:g} is impossible", valid="Between 0 and 1")
    order = sorted(range(n_segments), key=lambda index: draw(seed, "segment-leaky", index))
    parts = ["train"] * n_segments
    for index in order[: round(n_segments * test_size)]:
        parts[index] = "test"
    return parts
