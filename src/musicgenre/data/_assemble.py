"""Plumbing that puts a store together: part files, index and description, visible only once all are whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import replacing, write_text_atomic
from musicgenre.data._csv import format_rows
from musicgenre.data.manifest import Track
from musicgenre.data.rows import FeatureRows, Features, blocks_of, measure_normalisation
from musicgenre.data.store import FORMAT_VERSION, INDEX_COLUMNS, STORE_FILE

_OURS = re.compile(r"(index-[0-9a-f]{16}\.csv|[a-z]+(-fold-\d+)?-[0-9a-f]{16}\.npy)")
TEMPORARY = (f".{STORE_FILE}.*.tmp", ".index-????????????????.csv.*.tmp", ".*-????????????????.npy.*.tmp")


@dataclass(frozen=True)
class ReadyTrack:
    """A track whose rows can be had under ``key``; ``starts_s`` (n,) says how many there are.

    ``only`` is the number of the one row that is wanted of them all, if just one is.
    """

    track: Track
    key: str
    starts_s: NDArray[np.float64]
    only: int | None = None

    @property
    def name(self) -> str:
        """What decides its rows, as text."""
        return self.key if self.only is None else f"{self.key}:{self.only}"


def write_store(
    folder: Path,
    description: Mapping[str, Any],
    tracks: Sequence[ReadyTrack],
    rows_of: Callable[[ReadyTrack], Features],
) -> None:
    """Write a store from rows at hand.

    Parameters
    ----------
    folder : Path
        The store's folder, which the caller has locked.
    description : Mapping
        ``store.json`` without ``parts``, ``index`` and ``normalisation``.
    tracks : sequence of ReadyTrack
        In the manifest's order.
    rows_of : callable
        Gives a track's rows, shape (n, *shape).
    """
    shape, dtype = tuple(description["shape"]), np.dtype(description["dtype"])
    parts: dict[str, dict[str, Any]] = {}
    for name, members in _by_part(tracks).items():
        file = f"{name}-{_digest([track.name for track in members])}.npy"
        n_rows = sum(len(track.starts_s) for track in members)
        _write_part(folder / file, members, rows_of, (n_rows, *shape), dtype)
        parts[name] = {"file": file, "rows": n_rows, "bytes": (folder / file).stat().st_size}
    index = format_rows([list(INDEX_COLUMNS), *_index_rows(_by_part(tracks))])
    index_file = f"index-{_digest([index])}.csv"
    write_text_atomic(folder / index_file, index)
    whole = {
        "format_version": FORMAT_VERSION,
        **description,
        "parts": parts,
        "index": index_file,
        "normalisation": _normalisation(folder, parts, description),
    }
    write_text_atomic(folder / STORE_FILE, json.dumps(whole, indent=1) + "\n")
    _remove_superseded(folder, {STORE_FILE, index_file, *(part["file"] for part in parts.values())})


def part_name(track: Track) -> str:
    """Name the part file of a track: its split value, its fold, or both."""
    pieces = [track.split, "" if track.fold is None else f"fold-{track.fold}"]
    return "-".join(piece for piece in pieces if piece) or "all"


def _by_part(tracks: Sequence[ReadyTrack]) -> dict[str, list[ReadyTrack]]:
    parts: dict[str, list[ReadyTrack]] = {}
    for track in tracks:
        parts.setdefault(part_name(track.track), []).append(track)
    return dict(sorted(parts.items()))


def _write_part(
    path: Path,
    members: Sequence[ReadyTrack],
    rows_of: Callable[[ReadyTrack], Features],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> None:
    """Write one ``.npy`` file. Plain writes: a full disk is an error then, where a mapped write would be a crash."""
    if path.is_file():
        return  # its name is made of what it holds
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for track in members:
            stream.write(np.ascontiguousarray(rows_of(track), dtype).reshape(-1).view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())


def _index_rows(parts: Mapping[str, Sequence[ReadyTrack]]) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, members in parts.items():
        row = 0
        for ready in members:
            track = ready.track
            about = [
                track.label,
                ";".join(track.labels),
                track.split,
                "" if track.fold is None else str(track.fold),
                "true" if track.augmented else "false",
            ]
            for segment, start_s in enumerate(ready.starts_s):
                place = [name, str(row), track.track_id, track.source_id, str(segment), repr(float(start_s))]
                rows.append([*place, *about])
                row += 1
    return rows


def _normalisation(
    folder: Path, parts: Mapping[str, Mapping[str, Any]], description: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Measure the training part, augmented rows included: that is what the model will see."""
    train = {name: part for name, part in parts.items() if name == "train" or name.startswith("train-")}
    if not train:
        return None
    counts = [part["rows"] for part in train.values()]
    rows = FeatureRows(
        [folder / part["file"] for part in train.values()],
        tuple(description["shape"]),
        np.dtype(description["dtype"]),
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([np.arange(count) for count in counts]),
    )
    return measure_normalisation(rows, description["row_axis"], blocks_of(description)).as_dict()


def _remove_superseded(folder: Path, kept: set[str]) -> None:
    """Delete files of the store's former state; where a reader still maps one (Windows), it stays for next time."""
    for path in folder.iterdir():
        if path.name not in kept and _OURS.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8")).hexdigest()[:16]
