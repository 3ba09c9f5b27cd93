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

from musicgenre import __version__
from musicgenre._files import remove_stale
from musicgenre.data import cache as _cache
from musicgenre.data import store as _assemble
from musicgenre.data._disk import folder_lock, writing_to
from musicgenre.data._pool import run_jobs
from musicgenre.data.cache import ContentHashes, RowCache, default_cache
from musicgenre.data.manifest import Manifest, Track
from musicgenre.data.rows import Features, draw_example
from musicgenre.data.store import ReadyTrack, Store, open_store, write_store
from musicgenre.errors import DataError, UsageError
from musicgenre.features.base import Representation, make_ready, runs_network
from musicgenre.features.jobs import (
    Cut,
    Job,
    Outcome,
    Shared,
    cut_of,
    hears_many,
    key_of,
    make_rows,
    reads_of,
    rows_of_columns,
    run_batched,
    warm_up,
)

DTYPES = ("float32", "float16")
_STALE_S = 24 * 3600.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Skipped:
    """A track that could not be prepared, and why."""

    track_id: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Preparation:
    """What :func:`prepare` did.

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
        Tracks in the store about which the decoder complained this time.
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
) -> Preparation:
    """Compute ``representation`` of every track of ``manifest`` into the store ``folder``.

    Parameters
    ----------
    manifest : Manifest
        Tracks; when it has splits or folds, tracks without either are left out.
    representation : Representation
        What to compute; see `create_representation`.
    folder : Path
        The store; made, or brought up to date.
    segment_s, hop_s : float, optional
        Cut tracks into segments this long and this far apart. The representation's own length, without overlap, by
        default; another length than its own is an error.
    dtype : {"float32", "float16"}
        Type of the stored values.
    jobs : int
        Processes, or threads of one process where the representation hears several tracks at once. More than one
        process needs the calling script's ``if __name__ == "__main__":``.
    cache : Path, optional
        Folder of the rows computed before; ``features`` in the cache folder by default.
    progress : callable, optional
        Called with (tracks done, all tracks).
    wait_s : float
        How long to wait for another preparation of the same store.
    one_example_seed : int, optional
        Of every track of the training part store one segment only, drawn from this seed and the track's name
        (:func:`~musicgenre.data.rows.draw_example`); of the others all.

    Returns
    -------
    Preparation
        Counts and the tracks that failed.

    Raises
    ------
    DataError
        If another preparation writes this store, the disk is full, or no track at all can be prepared.
    """
    started = time.monotonic()
    cut = cut_of(representation, segment_s, hop_s, _checked_dtype(dtype))
    if jobs < 1:
        raise UsageError(f"jobs={jobs} is not positive", valid="1 process or more")
    tracks = _used(manifest)
    with writing_to(folder), folder_lock(folder, "preparation", wait_s=wait_s):
        remove_stale(folder, _assemble.TEMPORARY)
        work = _Work(representation, cut, cache or default_cache(), progress, one_example_seed)
        ready = work.from_columns(tracks) if reads_of(representation) == "columns" else work.run(tracks, jobs)
        if not ready:
            raise _nothing_prepared(work.skipped)
        write_store(folder, _describe(manifest, representation, cut, work.skipped), ready, work.rows_of)
    n_rows = sum(len(track.starts_s) for track in ready)
    return Preparation(
        folder=folder,
        n_tracks=len(ready),
        n_rows=n_rows,
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
    ) -> None:
        self.representation = representation
        self.cut = cut
        self.cache = RowCache(cache)
        self.one_example_seed = one_example_seed
        self.progress = progress or (lambda done, total: None)
        self.computed = self.reused = 0
        self.skipped: list[Skipped] = []
        self.warnings: list[Skipped] = []
        self._in_memory: dict[str, Features] = {}

    def run(self, tracks: Sequence[Track], n_jobs: int) -> list[ReadyTrack]:
        """Compute or find the rows of every track; failed ones are listed in ``skipped``."""
        with writing_to(self.cache.folder):
            remove_stale(self.cache.folder, _cache.TEMPORARY, older_than_s=_STALE_S)
            hashes = ContentHashes(self.cache.folder)
            try:
                outcomes = self._outcomes(tracks, hashes, n_jobs)
            finally:
                hashes.close()
        return [
            ready for track, outcome in zip(tracks, outcomes, strict=True) if (ready := self._ready(track, outcome))
        ]

    def _outcomes(self, tracks: Sequence[Track], hashes: ContentHashes, n_jobs: int) -> list[Outcome]:
        jobs = [Job(track.path, hashes.known(track.path)) for track in tracks]
        outcomes = [self._known(job) for job in jobs]
        missing = [index for index, outcome in enumerate(outcomes) if outcome is None]
        done = len(jobs) - len(missing)
        self.progress(done, len(jobs))
        if missing:
            make_ready(self.representation)
        shared = (self.representation, self.cut, self.cache)
        wanted = [jobs[index] for index in missing]
        for place, found in self._run(shared, wanted, n_jobs):
            job = jobs[missing[place]]
            outcome = found or Outcome(problem="the process that worked on it crashed")
            if outcome.sha256 and outcome.signature:
                hashes.remember(job.path, outcome.signature, outcome.sha256)
            outcomes[missing[place]] = outcome
            done += 1
            self.progress(done, len(jobs))
        return [outcome for outcome in outcomes if outcome is not None]

    def _run(self, shared: Shared, wanted: Sequence[Job], n_jobs: int) -> Iterator[tuple[int, Outcome | None]]:
        if hears_many(self.representation):
            return run_batched(shared, wanted, n_jobs)
        # a network brings native threads, which a copied process does not survive: its workers start anew
        warm = None if runs_network(self.representation) else partial(warm_up, self.representation)
        return run_jobs(make_rows, shared, wanted, n_jobs, warm)

    def _known(self, job: Job) -> Outcome | None:
        if job.sha256 is None:
            return None
        key = key_of(job.sha256, self.representation, self.cut)
        return Outcome(key=key, reused=True) if key in self.cache else None

    def _ready(self, track: Track, outcome: Outcome) -> ReadyTrack | None:
        if outcome.problem:
            self.skipped.append(Skipped(track.track_id, track.path, outcome.problem))
            return None
        starts_s = self.cache.read_starts(outcome.key)
        if starts_s is None:  # damaged in the cache, or deleted from it meanwhile: make it again
            self.cache.path_of(outcome.key).unlink(missing_ok=True)
            return self._ready(track, make_rows((self.representation, self.cut, self.cache), Job(track.path, None)))
        self.reused += outcome.reused
        self.computed += not outcome.reused
        self.warnings += [Skipped(track.track_id, track.path, text) for text in outcome.warnings]
        if self.one_example_seed is None or track.split != "train":
            return ReadyTrack(track, outcome.key, starts_s)
        only = draw_example(self.one_example_seed, track.track_id, len(starts_s))
        return ReadyTrack(track, outcome.key, starts_s[[only]], only)

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
        found = self.cache.read(ready.key)
        rows = None if found is None else found[1]
        if rows is not None and ready.only is not None:
            rows = rows[ready.only : ready.only + 1]
        if rows is None or len(rows) != len(ready.starts_s):
            self.cache.path_of(ready.key).unlink(missing_ok=True)
            raise DataError(
                f"the cached features of {ready.track.track_id} are damaged",
                next_step="Run the same command again: they are removed and will be computed anew",
            )
        return rows


def _checked_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise UsageError(f"dtype={dtype!r} is not known", valid=f"One of {', '.join(DTYPES)}")
    return dtype


def _used(manifest: Manifest) -> list[Track]:
    used = [track for track in manifest.tracks if track.split or track.fold is not None]
    return used or list(manifest.tracks)


def _describe(
    manifest: Manifest, representation: Representation, cut: Cut, skipped: Sequence[Skipped]
) -> Mapping[str, Any]:
    return {
        "made_by": f"musicgenre {__version__}",
        "representation": representation.settings(),
        "segment_s": cut.segment_s,
        "hop_s": cut.hop_s,
        "dtype": cut.dtype,
        "shape": list(representation.shape()),
        "row_axis": representation.row_axis,
        "blocks": [block.as_dict() for block in getattr(representation, "blocks", ())],
        "labels": list(manifest.labels),
        "skipped": [{"track_id": skip.track_id, "reason": skip.reason} for skip in skipped],
    }


def _nothing_prepared(skipped: Sequence[Skipped]) -> DataError:
    first = f"; the first: {skipped[0].path}: {skipped[0].reason}" if skipped else ""
    return DataError(f"none of the {len(skipped)} tracks could be prepared{first}", valid="One track at least")
