"""Prepare a manifest: compute one representation of every track and put the rows into a store.

Only what is new is computed. The rows of a track are kept in a cache under the hash of all that decides them: the
file's content, the representation's settings, the cut and the type of number. A run that was killed goes on where it
was, a changed file or setting computes anew, and another split of the same tracks only writes other part files.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from musicgenre._files import remove_stale, writing_to
from musicgenre._locks import folder_lock
from musicgenre._parallel import run_jobs
from musicgenre._version import __version__
from musicgenre.data import cache as row_cache
from musicgenre.data import store as row_store
from musicgenre.data.cache import ContentHashes, RowCache, default_cache
from musicgenre.data.durations import SHORT_TRACK_S, duration_s_of
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.rows import Features, draw_example
from musicgenre.data.store import ReadyTrack, Store, check_store_folder, open_store, write_store
from musicgenre.errors import DataError, UsageError
from musicgenre.features.base import Representation
from musicgenre.features.jobs import (
    Cut,
    Job,
    Outcome,
    Shared,
    cut_of,
    key_of,
    make_rows,
    rows_of_columns,
    run_batched,
    warm_up,
)

DTYPES = ("float32", "float16")
_NOT_HEARD_S = 0.01  # so much of silence at the end of a segment says nothing
_STALE_S = 24 * 3600.0  # no preparation leaves a file half written for a day

Progress = Callable[[int, int], None]

Runner = Callable[[Shared, Sequence[Job]], Iterator[tuple[int, Outcome | None]]]
"""Puts the rows of files into the cache, wherever that is done; (index, outcome) of each as they come, None for one
that its process died of."""


@dataclass(frozen=True)
class Skipped:
    """A track that could not be prepared, and why."""

    track_id: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Preparation:
    """What `prepare` did.

    Parameters
    ----------
    folder : Path
        The store.
    n_tracks, n_rows : int
        What it holds now.
    computed, reused : int
        Tracks computed this time, and tracks taken from the cache.
    unused : int
        Tracks that the manifest's split leaves out.
    skipped : tuple of Skipped
        Tracks that failed; everything else is in the store.
    warnings : tuple of Skipped
        Tracks in the store about which the decoder complained this time, and those shorter than a segment.
    seconds : float
        Time it took.
    """

    folder: Path
    n_tracks: int
    n_rows: int
    computed: int
    reused: int
    unused: int
    skipped: tuple[Skipped, ...]
    warnings: tuple[Skipped, ...]
    seconds: float

    def open(self) -> Store:
        """Open the store."""
        return open_store(self.folder)


def prepare(
    manifest: Manifest,
    representation: Representation,
    folder: Path,
    *,
    segment_s: float | None = None,
    hop_s: float | None = None,
    dtype: str = "float32",
    jobs: int = 1,
    cache: Path | None = None,
    progress: Progress | None = None,
    wait_s: float = 0.0,
    one_example_seed: int | None = None,
    runner: Runner | None = None,
) -> Preparation:
    """Compute `representation` of every track of `manifest` into the store `folder`.

    Parameters
    ----------
    manifest : Manifest
        Tracks; when it has splits or folds, tracks without either are left out.
    representation : Representation
        What to compute; see `create_representation`.
    folder : Path
        The store; made, or brought up to date. Of what is in it, only files of its own are replaced or removed.
    segment_s, hop_s : float, optional
        Cut tracks into segments this long and this far apart. The representation's own length, without overlap, by
        default; another length than its own is an error.
    dtype : {"float32", "float16"}
        Type of the stored values.
    jobs : int
        Processes, or threads of one process where the representation hears several tracks at once. More than one
        process needs the calling script's `if __name__ == "__main__":`.
    cache : Path, optional
        Folder of the rows computed before; `features` in the cache folder by default.
    progress : callable, optional
        Called with (tracks done, all tracks).
    wait_s : float
        How long to wait for another preparation of the same store.
    one_example_seed : int, optional
        Of every track of the training part store one segment only, drawn from this seed and the track's name
        (`musicgenre.data.rows.draw_example`); of the others all.
    runner : callable, optional
        Computes in the place of `jobs` processes of this machine: on a cluster whose nodes share the cache.

    Returns
    -------
    Preparation
        Counts and the tracks that failed.

    Raises
    ------
    UsageError
        If the folder holds anything but a store, or an option has an impossible value.
    DataError
        If another preparation writes this store, the disk is full, or no track at all can be prepared.
    """
    started = time.monotonic()
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r} is not known", valid=f"One of {', '.join(DTYPES)}")
    if jobs < 1:
        raise UsageError(f"jobs={jobs} is not positive", valid="1 process or more")

    # A manifest that is split leaves some tracks out; one that is not means all of them.
    in_use = [track for track in manifest.tracks if track.split or track.fold is not None]
    tracks = in_use or list(manifest.tracks)
    representation = representation.settled([track.path for track in manifest.tracks])
    cut = cut_of(representation, segment_s, hop_s, dtype)

    check_store_folder(folder)
    with writing_to(folder), folder_lock(folder, "preparation", wait_s=wait_s):
        remove_stale(folder, row_store.TEMPORARY)
        work = _Work(representation, cut, cache or default_cache(), progress, one_example_seed, runner)
        ready = work.from_columns(tracks) if representation.reads == "columns" else work.from_files(tracks, jobs)

        if not ready:
            first = f"; the first: {work.skipped[0].path}: {work.skipped[0].reason}" if work.skipped else ""
            raise DataError(
                f"none of the {len(work.skipped)} tracks could be prepared{first}", valid="One track at least"
            )
        write_store(folder, _description(manifest, representation, cut, work.skipped), ready, work.rows_of)

    return Preparation(
        folder=folder,
        n_tracks=len(ready),
        n_rows=sum(len(track.starts_s) for track in ready),
        computed=work.computed,
        reused=work.reused,
        unused=len(manifest) - len(tracks),
        skipped=tuple(work.skipped),
        warnings=tuple(work.warnings),
        seconds=time.monotonic() - started,
    )


class _Work:
    """One preparation under way: which rows are known, which are computed, which failed."""

    def __init__(
        self,
        representation: Representation,
        cut: Cut,
        cache: Path,
        progress: Progress | None,
        one_example_seed: int | None = None,
        runner: Runner | None = None,
    ) -> None:
        self.representation = representation
        self.cut = cut
        self.cache = RowCache(cache)
        self.one_example_seed = one_example_seed
        self.progress = progress or (lambda done, total: None)
        self.runner = runner

        self.computed = self.reused = 0
        self.skipped: list[Skipped] = []
        self.warnings: list[Skipped] = []
        self._in_memory: dict[str, Features] = {}

    def from_files(self, tracks: Sequence[Track], jobs: int) -> list[ReadyTrack]:
        """Compute or find the rows of every track; failed ones are listed in `skipped`."""
        with writing_to(self.cache.folder):
            remove_stale(self.cache.folder, row_cache.TEMPORARY, older_than_s=_STALE_S)
            hashes = ContentHashes(self.cache.folder)
            try:
                outcomes = self._outcomes(tracks, hashes, jobs)
            finally:
                hashes.close()  # keeps what was hashed, even if the preparation was broken off

        found = [self._ready(track, outcome) for track, outcome in zip(tracks, outcomes, strict=True)]
        return [ready for ready in found if ready is not None]

    def from_columns(self, tracks: Sequence[Track]) -> list[ReadyTrack]:
        """Take the rows from the manifest's own columns: quick, so nothing is cached."""
        ready = []
        for track in tracks:
            try:
                rows = rows_of_columns(self.representation, self.cut, track.columns)
            except DataError as error:
                self.skipped.append(Skipped(track.track_id, track.path, str(error)))
                continue

            content = hashlib.sha256(rows.tobytes()).hexdigest()
            key = key_of(content, self.representation, self.cut)
            self._in_memory[key] = rows
            ready.append(ReadyTrack(track, key, np.zeros(1)))

        self.computed = len(ready)
        self.progress(len(tracks), len(tracks))
        return ready

    def rows_of(self, ready: ReadyTrack) -> Features:
        """Return the rows of a track, shape (n, *shape)."""
        if ready.key in self._in_memory:
            return self._in_memory[ready.key]

        for _ in range(2):  # an entry that is damaged is made once more
            if found := self.cache.read(ready.key):
                rows = found[1]
                if ready.only is not None:
                    rows = rows[ready.only : ready.only + 1]
                if len(rows) == len(ready.starts_s):
                    return rows
            self.cache.path_of(ready.key).unlink(missing_ok=True)
            make_rows((self.representation, self.cut, self.cache), Job(ready.track.path, None))

        raise DataError(
            f"the cached features of {ready.track.track_id} are damaged, and its file has changed meanwhile",
            next_step="Run the same command again: they will be computed anew",
        )

    def _outcomes(self, tracks: Sequence[Track], hashes: ContentHashes, jobs: int) -> list[Outcome]:
        """Say of every track where its rows are, having computed those that were missing."""
        files = [Job(track.path, hashes.known(track.path)) for track in tracks]
        outcomes: dict[int, Outcome] = {}
        for index, file in enumerate(files):
            if file.sha256 is None:  # new or changed: its content is hashed where it is decoded
                continue
            key = key_of(file.sha256, self.representation, self.cut)
            if key in self.cache:
                outcomes[index] = Outcome(key=key, reused=True)
        self.progress(len(outcomes), len(files))

        missing = [index for index in range(len(files)) if index not in outcomes]
        if missing:
            self.representation.make_ready()

        # Outcomes come in any order; hashes are kept at once, so that a run that is killed has them the next time.
        for place, found in self._computed([files[index] for index in missing], jobs):
            index = missing[place]
            outcome = found or Outcome(problem="the process that worked on it crashed")
            if outcome.sha256 and outcome.signature:
                hashes.remember(files[index].path, outcome.signature, outcome.sha256)
            outcomes[index] = outcome
            self.progress(len(outcomes), len(files))

        return [outcomes[index] for index in range(len(files))]

    def _computed(self, files: Sequence[Job], jobs: int) -> Iterator[tuple[int, Outcome | None]]:
        """Compute the rows of files, in threads or processes; (index, outcome) as they come."""
        shared: Shared = (self.representation, self.cut, self.cache)
        if self.runner is not None:
            return self.runner(shared, files)
        if self.representation.hears_many:
            return run_batched(shared, files, jobs)

        # A network brings native threads, which a copied process does not survive: its workers start anew.
        warm = None if self.representation.is_network else partial(warm_up, self.representation)
        return run_jobs(make_rows, shared, files, jobs, warm)

    def _warn_if_short(self, track: Track, n_rows: int, *, is_new: bool) -> None:
        """Say so where a track is shorter than one segment: what it lacks is silence to the model."""
        segment_s = self.cut.segment_s
        reads_sound = self.representation.reads in ("waveform", "track")
        # Only a track of one row can be that short; a whole one always has one, and is looked at once.
        if not reads_sound or n_rows > 1 or (segment_s is None and not is_new):
            return

        duration_s = duration_s_of(track)
        if duration_s is None or duration_s > (segment_s or SHORT_TRACK_S) - _NOT_HEARD_S:
            return
        than = f"a segment of {segment_s:g} s" if segment_s else f"{SHORT_TRACK_S:g} s"
        self.warnings.append(Skipped(track.track_id, track.path, f"is {duration_s:.2f} s long, shorter than {than}"))

    def _ready(self, track: Track, outcome: Outcome) -> ReadyTrack | None:
        """Count a track and say which of its rows the store takes; `None` for one that failed."""
        if outcome.problem:
            self.skipped.append(Skipped(track.track_id, track.path, outcome.problem))
            return None

        starts_s = self.cache.read_starts(outcome.key)
        if starts_s is None:  # damaged in the cache, or deleted from it meanwhile: make it again
            self.cache.path_of(outcome.key).unlink(missing_ok=True)
            return self._ready(track, make_rows((self.representation, self.cut, self.cache), Job(track.path, None)))

        self._warn_if_short(track, len(starts_s), is_new=not outcome.reused)
        self.reused += outcome.reused
        self.computed += not outcome.reused
        self.warnings += [Skipped(track.track_id, track.path, text) for text in outcome.warnings]

        if self.one_example_seed is None or track.split != "train":
            return ReadyTrack(track, outcome.key, starts_s)
        only = draw_example(self.one_example_seed, track.track_id, len(starts_s))
        return ReadyTrack(track, outcome.key, starts_s[[only]], only)


def _description(
    manifest: Manifest, representation: Representation, cut: Cut, skipped: Sequence[Skipped]
) -> Mapping[str, Any]:
    """What the store says of itself, beside its parts."""
    return {
        "made_by": f"musicgenre {__version__}",
        "representation": representation.settings(),
        "segment_s": cut.segment_s,
        "hop_s": cut.hop_s,
        "dtype": cut.dtype,
        "shape": list(representation.shape()),
        "row_axis": representation.row_axis,
        "blocks": [block.as_dict() for block in representation.blocks],
        "labels": list(manifest.labels),
        "skipped": [{"track_id": skip.track_id, "reason": skip.reason} for skip in skipped],
    }
