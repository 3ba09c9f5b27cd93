"""Offline augmentation: copies of the training tracks written as audio, each with the record that repeats it.

Every copy is a row of a new manifest, ``augmented``, whose column ``augmentation`` holds the drawn values as JSON;
:func:`replay` makes its samples again from the original. What happens to a copy depends on the seed, its original's
id and its number alone: adding tracks changes no other copy, and a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import parsed_json, remove_stale, replacing, sha256_of
from musicgenre.augment.waveform import Chain, Drawn, apply, load_transforms
from musicgenre.data._disk import folder_lock, writing_to
from musicgenre.data._pool import run_jobs
from musicgenre.data.manifest import Manifest, Track, write_manifest
from musicgenre.data.targets import TARGET_PREFIX, UNKNOWN_COLUMN
from musicgenre.errors import AudioError, DataError, UsageError
from musicgenre.features.prepare import Skipped

AUGMENTATION_COLUMN = "augmentation"
MANIFEST_FILE = "manifest.csv"
AUDIO_FOLDER = "audio"
_VERSION = 1  # part of the file names: raise it when the same record gives other samples
_SPLIT_RECORD = ("protocol", "protocol_seed", "protocol_options")
_FULL_SCALE = 32_768
_TEMPORARY = (f".{MANIFEST_FILE}.*.tmp", f"{AUDIO_FOLDER}/.*.flac.*.tmp")


@dataclass(frozen=True)
class Augmentation:
    """What :func:`augment` did.

    Parameters
    ----------
    manifest : Manifest
        The originals and their copies, as written.
    written, reused : int
        Copies made this time, and copies that were there.
    skipped : tuple of Skipped
        Copies that could not be made.
    seconds : float
        Time it took.
    """

    manifest: Manifest
    written: int
    reused: int
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True)
class _Copy:
    source: Track
    track_id: str
    drawn: Drawn


@dataclass(frozen=True)
class _Made:
    name: str = ""
    reused: bool = False
    problem: str = ""


def augment(
    manifest: Manifest,
    chain: Chain,
    folder: Path,
    *,
    copies: int = 1,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    wait_s: float = 0.0,
) -> Augmentation:
    """Write augmented copies of the training tracks and the manifest that lists them beside the originals.

    Parameters
    ----------
    manifest : Manifest
        Split before: only originals of the training part get copies. With folds and no split all tracks do; the
        store uses a copy for training alone, and never against its own original.
    chain : Chain
        What may happen; see `get_chain`.
    folder : Path
        Gets ``audio/`` (FLAC, 16 bit, the original's rate) and ``manifest.csv``.
    copies : int
        Copies of every track.
    seed : int
        Same seed, same copies.
    jobs : int
        Processes; more than one needs the calling script's ``if __name__ == "__main__":``.
    progress : callable, optional
        Called with (copies done, all copies).
    wait_s : float
        How long to wait for another augmentation into the same folder.

    Returns
    -------
    Augmentation
        Counts, and the manifest.
    """
    started = time.monotonic()
    if copies < 1 or jobs < 1 or seed < 0:
        raise UsageError(f"copies={copies}, jobs={jobs}, seed={seed}", valid="1 copy, 1 process, seed 0 at least")
    folder = folder.absolute()
    wanted = [_plan(track, chain, seed, number) for track in _training(manifest) for number in range(copies)]
    advance = progress or (lambda done, total: None)
    advance(0, len(wanted))
    with writing_to(folder), folder_lock(folder, "augmentation", wait_s=wait_s):
        remove_stale(folder, _TEMPORARY)
        made: dict[str, _Made] = {}
        for index, found in run_jobs(_make_copy, folder / AUDIO_FOLDER, wanted, jobs, load_transforms):
            made[wanted[index].track_id] = found or _Made(problem="the process that worked on it crashed")
            advance(len(made), len(wanted))
        whole = Manifest(folder / MANIFEST_FILE, _rows(manifest, wanted, made, folder / AUDIO_FOLDER))
        write_manifest(whole, folder / MANIFEST_FILE)
    skipped = [Skipped(c.track_id, c.source.path, p) for c in wanted if (p := made[c.track_id].problem)]
    reused = sum(copy.reused for copy in made.values())
    return Augmentation(whole, len(made) - len(skipped) - reused, reused, tuple(skipped), time.monotonic() - started)


def drawn_of(track: Track) -> Drawn:
    """Read the record of an augmented row.

    Raises
    ------
    DataError
        If the row has none.
    """
    text = track.columns.get(AUGMENTATION_COLUMN, "")
    try:
        drawn = parsed_json(text)
    except ValueError as error:
        raise DataError(
            f"the row {track.track_id} has no record of its augmentation",
            valid=f"JSON in the column {AUGMENTATION_COLUMN}",
        ) from error
    return dict(drawn)


def replay(track: Track, original: Path) -> NDArray[np.float32]:
    """Make the samples of an augmented row again, bit by bit those of its file.

    Parameters
    ----------
    track : Track
        The augmented row.
    original : Path
        The file of its ``source_id``.

    Returns
    -------
    ndarray of float32, shape (n_samples,)
        At the original's rate.
    """
    samples, _ = _augmented(original, drawn_of(track))
    return samples.astype(np.float32) / np.float32(_FULL_SCALE)


def seed_of(seed: int, track_id: str, number: int) -> int:
    """Derive the seed of one copy, 0 to 2**32 - 1."""
    digest = hashlib.sha256(f"{seed}\n{track_id}\n{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _training(manifest: Manifest) -> list[Track]:
    originals = [track for track in manifest.tracks if not track.augmented]
    if any(track.split for track in originals):
        chosen = [track for track in originals if track.split == "train"]
    else:
        chosen = [track for track in originals if track.fold is not None]
    if not chosen:
        raise DataError(
            "the manifest has no training part to augment",
            valid="Tracks are split before they are augmented",
            next_step="Split it first: musicgenre data split MANIFEST --protocol track",
        )
    return chosen


def _plan(track: Track, chain: Chain, seed: int, number: int) -> _Copy:
    return _Copy(track, f"{track.track_id}+{chain.name}-{number}", chain.draw(seed_of(seed, track.track_id, number)))


def _make_copy(folder: Path, copy: _Copy) -> _Made:
    """Write one copy, unless it is there. It runs in worker processes."""
    try:
        content = sha256_of(copy.source.path)
    except OSError as error:
        return _Made(problem=f"the file cannot be read ({error.strerror})")
    identity = json.dumps([_VERSION, copy.track_id, content, copy.drawn], sort_keys=True)
    digest = hashlib.sha256(identity.encode("utf-8")).hexdigest()[:12]
    name = f"{re.sub(r'[^A-Za-z0-9._-]+', '_', copy.track_id)[-80:]}.{digest}.flac"
    if (folder / name).is_file():
        return _Made(name, reused=True)
    try:
        samples, rate_hz = _augmented(copy.source.path, copy.drawn)
    except AudioError as error:
        return _Made(problem=str(error))
    # Encoded in memory first: libsndfile's own errors do not tell a full disk from others.
    encoded = io.BytesIO()
    import soundfile

    soundfile.write(encoded, samples, rate_hz, format="FLAC", subtype="PCM_16")
    with replacing(folder / name) as temporary:
        temporary.write_bytes(encoded.getvalue())
    return _Made(name)


def _augmented(path: Path, drawn: Drawn) -> tuple[NDArray[np.int16], int]:
    from musicgenre.audio import load, probe

    rate_hz = probe(path).sample_rate_hz
    sound = apply(drawn, load(path, rate_hz).waveform, rate_hz)
    limits = (-_FULL_SCALE, _FULL_SCALE - 1)
    return np.clip(np.rint(sound.astype(np.float64) * _FULL_SCALE), *limits).astype(np.int16), rate_hz


def _rows(manifest: Manifest, wanted: Sequence[_Copy], made: dict[str, _Made], folder: Path) -> tuple[Track, ...]:
    """Put every copy behind its original; copies of an earlier augmentation of this manifest give way."""
    copies: dict[str, list[Track]] = {}
    for copy in wanted:
        if not made[copy.track_id].problem:
            copies.setdefault(copy.source.track_id, []).append(_row(copy, folder / made[copy.track_id].name))
    new_ids = {track.track_id for tracks in copies.values() for track in tracks}
    rows: list[Track] = []
    for track in manifest.tracks:
        if track.track_id not in new_ids:
            rows += [track, *copies.get(track.track_id, ())]
    return tuple(rows)


def _row(copy: _Copy, path: Path) -> Track:
    """Describe a copy. Its original's further columns (features, checksums) are not its own and are left out.

    What is known of its tags is the same as of the original's.
    """
    source = copy.source
    kept = (*_SPLIT_RECORD, UNKNOWN_COLUMN)
    columns = {name: cell for name, cell in source.columns.items() if name in kept or name.startswith(TARGET_PREFIX)}
    return Track(
        track_id=copy.track_id,
        path=path,
        label=source.label,
        labels=source.labels,
        split=source.split,
        fold=source.fold,
        group=source.group,
        augmented=True,
        source_id=source.track_id,
        columns={**columns, AUGMENTATION_COLUMN: json.dumps(copy.drawn, sort_keys=True)},
    )
