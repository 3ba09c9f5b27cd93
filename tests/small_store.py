"""Make a small store with a split, whose rows name themselves: every value of row n of track t is 100 t + n."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.store import ReadyTrack, Store, open_store, write_store
from musicgenre.features.registry import create_representation

LABELS = ("classical", "jazz", "metal")


def make_store(folder: Path, n_tracks: int = 12, n_rows: int = 3, shape: tuple[int, ...] = (2, 3)) -> Store:
    """Write a store of ``n_tracks`` training, 3 validation and 3 test tracks, ``n_rows`` rows each."""
    splits = ["train"] * n_tracks + ["validation"] * 3 + ["test"] * 3
    tracks = [
        Track(f"t{number:03}", folder / f"{number}.wav", LABELS[number % 3], split=split)
        for number, split in enumerate(splits)
    ]
    ready = [ReadyTrack(track, track.track_id, np.arange(n_rows) * 3.0) for track in tracks]

    def rows_of(one: ReadyTrack) -> np.ndarray:
        values = 100 * int(one.track.track_id[1:]) + np.arange(n_rows)
        return np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (n_rows, *shape)).astype(np.float16)

    description = {
        "representation": create_representation("mfcc").settings(),
        "segment_s": 3.0,
        "hop_s": 3.0,
        "dtype": "float16",
        "shape": list(shape),
        "row_axis": None,
        "labels": list(Manifest(None, tuple(tracks)).labels),
        "skipped": [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_store(folder, description, ready, rows_of)
    return open_store(folder)
