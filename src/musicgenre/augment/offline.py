"""Offline augmentation: copies of the training tracks written as audio, each with the record that repeats it.

Every copy is a row of a new manifest, `augmented`, whose column `augmentation` holds the drawn values as JSON;
`replay` makes its samples again from the original. What happens to a copy depends on the seed, its original's
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

from musicgenre._files import remove_stale, replacing, sha256_of, writing_to
from musicgenre._json import json_sha256, parsed_json
from musicgenre._locks import folder_lock
from musicgenre._outputs import UNFINISHED, refuse_foreign_folder, refuse_input
from musicgenre._parallel import run_jobs
from musicgenre.augment.waveform import Chain, Drawn, apply, load_transforms
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
    """What `augment` did.

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
    """A copy that is wanted: of which track, under which id, and what happens to it."""

    source: Track
    track_id: str
    drawn: Drawn


@dataclass(frozen=True)
class _Outcome:
    """What became of a copy: the name of its file, or the reason why there is none."""

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
        Gets `audio/` (FLAC, 16 bit, the original's rate) and `manifest.csv`; new, empty, or of an earlier
        augmentation, whose manifest is replaced and whose copies are kept.
    copies : int
        Copies of every track.
    seed : int
        Same seed, same copies.
    jobs : int
        Processes; more than one needs the calling script's `if __name__ == "__main__":`.
    progress : callable, optional
        Called with (copies done, all copies).
    wait_s : float
        How long to wait for another augmentation into the same folder.

    Returns
    -------
    Augmentation
        Counts, and the manifest.

    Raises
    ------
    UsageError
        The folder holds something else, or a number is not possible.
    DataError
        The manifest has no training part, the folder takes no more, or another augmentation writes into it.
    """
    started = time.monotonic()
    if copies < 1 or jobs < 1 or seed < 0:
        raise UsageError(f"copies={copies}, jobs={jobs}, seed={seed}", valid="1 copy, 1 process, seed 0 at least")

    folder = folder.absolute()
    check_output(folder, manifest)
    wanted: list[_Copy] = []
    for track in _training_tracks(manifest):
        for number in range(copies):
            drawn = chain.draw(seed_of(seed, track.track_id, number))
            wanted.append(_Copy(track, f"{track.track_id}+{chain.name}-{number}", drawn))
    if progress is not None:
        progress(0, len(wanted))

    with writing_to(folder), folder_lock(folder, "augmentation", wait_s=wait_s):
        (folder / UNFINISHED).touch()
        remove_stale(folder, _TEMPORARY)
        outcomes: dict[str, _Outcome] = {}
        for index, outcome in run_jobs(_write_copy, folder / AUDIO_FOLDER, wanted, jobs, load_transforms):
            outcomes[wanted[index].track_id] = outcome or _Outcome(problem="the process that worked on it crashed")
            if progress is not None:
                progress(len(outcomes), len(wanted))

        # Last of all: whoever is stopped before finds the copies again, but no manifest that names missing ones.
        whole = Manifest(folder / MANIFEST_FILE, _rows(manifest, wanted, outcomes, folder / AUDIO_FOLDER))
        write_manifest(whole, folder / MANIFEST_FILE)
        (folder / UNFINISHED).unlink()

    skipped: list[Skipped] = []
    for copy in wanted:
        problem = outcomes[copy.track_id].problem
        if problem:
            skipped.append(Skipped(copy.track_id, copy.source.path, problem))
    reused = sum(outcome.reused for outcome in outcomes.values())
    written = len(outcomes) - len(skipped) - reused
    return Augmentation(whole, written, reused, tuple(skipped), time.monotonic() - started)


def check_output(folder: Path, manifest: Manifest) -> None:
    """Refuse a folder that holds anything but an augmentation, or in which the manifest that is read is linked.

    Raises
    ------
    UsageError
        If it does.
    """
    refuse_foreign_folder(folder, _holds_copies, command="'musicgenre augment'")
    own = folder.absolute() / MANIFEST_FILE
    if manifest.path is not None and manifest.path != own:  # an augmentation's own manifest can be augmented in place
        refuse_input(own, [manifest.path])


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
        The file of its `source_id`.

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


def _holds_copies(folder: Path) -> bool:
    """Whether the folder has copies, and a manifest with the column that augmentation adds."""
    if not (folder / AUDIO_FOLDER).is_dir():
        return False
    try:
        with (folder / MANIFEST_FILE).open(encoding="utf-8", errors="replace") as stream:
            return AUGMENTATION_COLUMN in stream.readline().strip().split(",")
    except OSError:
        return False


def _training_tracks(manifest: Manifest) -> list[Track]:
    """Originals of the training part; with folds and no split all of them, for each trains in some fold."""
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


def _write_copy(folder: Path, copy: _Copy) -> _Outcome:
    """Write one copy, unless it is there. It runs in worker processes."""
    from musicgenre.audio import as_audio_error

    try:
        with as_audio_error(copy.source.path):
            content = sha256_of(copy.source.path)
    except AudioError as error:
        return _Outcome(problem=str(error))

    # The name holds all that decides the samples: another original, chain or seed makes another file.
    digest = json_sha256([_VERSION, copy.track_id, content, copy.drawn])[:12]
    name = f"{re.sub(r'[^A-Za-z0-9._-]+', '_', copy.track_id)[-80:]}.{digest}.flac"
    if (folder / name).is_file():
        return _Outcome(name, reused=True)

    try:
        samples, rate_hz = _augmented(copy.source.path, copy.drawn)
    except AudioError as error:
        return _Outcome(problem=str(error))

    # Encoded in memory first: libsndfile's own errors do not tell a full disk from others.
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, samples, rate_hz, format="FLAC", subtype="PCM_16")
    with replacing(folder / name, tidy=False) as temporary:
        temporary.write_bytes(encoded.getvalue())
    return _Outcome(name)


def _augmented(path: Path, drawn: Drawn) -> tuple[NDArray[np.int16], int]:
    """Samples of a copy as they stand in its file, and their rate in Hz."""
    from musicgenre.audio import load, probe

    rate_hz = probe(path).sample_rate_hz
    sound = apply(drawn, load(path, rate_hz).waveform, rate_hz)
    steps = np.rint(sound.astype(np.float64) * _FULL_SCALE)
    return np.clip(steps, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16), rate_hz


def _rows(
    manifest: Manifest, wanted: Sequence[_Copy], outcomes: dict[str, _Outcome], folder: Path
) -> tuple[Track, ...]:
    """Put every copy behind its original; copies of an earlier augmentation of this manifest give way."""
    copies: dict[str, list[Track]] = {}
    new_ids: set[str] = set()
    for copy in wanted:
        outcome = outcomes[copy.track_id]
        if not outcome.problem:
            copies.setdefault(copy.source.track_id, []).append(_row(copy, folder / outcome.name))
            new_ids.add(copy.track_id)

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
    columns = {AUGMENTATION_COLUMN: json.dumps(copy.drawn, sort_keys=True)}
    for name, cell in source.columns.items():
        if name in (*_SPLIT_RECORD, UNKNOWN_COLUMN) or name.startswith(TARGET_PREFIX):
            columns[name] = cell

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
        columns=columns,
    )
