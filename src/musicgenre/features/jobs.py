"""From a file to its rows in the cache: one at a time in worker processes, or several tracks together in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import sha256_of
from musicgenre._parallel import in_threads
from musicgenre.data.cache import RowCache, Signature, entry_key
from musicgenre.data.rows import Features
from musicgenre.errors import AudioError, DataError, MusicgenreError, UsageError
from musicgenre.features import base
from musicgenre.features.base import SHORTEST_HOP_S, Float32, Representation, TrackSound, mean_of

_BATCH_TRACKS = 8
_BATCH_S = 300.0  # and no more sound than this, unless one track is longer

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cut:
    """How tracks are cut and rows stored."""

    segment_s: float | None
    hop_s: float | None
    dtype: str


@dataclass(frozen=True)
class Job:
    """A file, and its content's hash if that is known."""

    path: Path
    sha256: str | None


@dataclass(frozen=True)
class Outcome:
    """Where the rows of a file are, or why there are none."""

    key: str = ""
    sha256: str = ""
    signature: Signature | None = None
    reused: bool = False
    problem: str = ""
    warnings: tuple[str, ...] = ()


Shared = tuple[Representation, Cut, RowCache]
"""What all files of a preparation share."""


@dataclass(frozen=True)
class Heard:
    """A file decoded and cut, whose rows are not computed yet; `segments` (n_segments, n_samples).

    `track` is the whole of it; a file that is not sound has none.
    """

    key: str
    sha256: str
    signature: Signature
    starts_s: NDArray[np.float64]
    segments: NDArray[np.float32]
    track: CachedTrack | None


class CachedTrack(TrackSound):
    """A track whose descriptions as a whole are kept in the cache, under the key they have when prepared alone.

    So an embedding is computed once, however many joined representations it is part of.
    """

    def __init__(self, path: Path, sha256: str, cache: RowCache) -> None:
        from musicgenre import audio

        super().__init__(lambda rate_hz: audio.load(path, rate_hz))
        self._job, self._cache = Job(path, sha256), cache

    def whole(self, representation: Representation) -> NDArray[np.float32]:
        """Take the rows of the representation from the cache, or put them there; their mean."""
        cut = cut_of(representation, None, None, "float32")

        for _ in range(2):  # an entry that is damaged is made once more
            outcome = make_rows((representation, cut, self._cache), self._job)
            if outcome.problem:
                break
            found = self._cache.read(outcome.key)
            if found is not None:
                return mean_of(found[1].astype(np.float32, copy=False))
            self._cache.path_of(outcome.key).unlink(missing_ok=True)

        return super().whole(representation)  # which raises what is wrong


def cut_of(representation: Representation, segment_s: float | None, hop_s: float | None, dtype: str) -> Cut:
    """Settle the cut: the representation's own length unless it takes any."""
    own_s = representation.segment_s
    # They may differ by rounding: one was written in a recipe, the other worked out of whole samples.
    if segment_s is not None and own_s is not None and abs(segment_s - own_s) > 1e-9:
        raise UsageError(
            f"segment_s={segment_s} does not fit the representation {representation.name}",
            valid=f"It was made for segments of {own_s} s",
            next_step=f"Make it with segment_s={segment_s}",
        )

    length_s = own_s if segment_s is None else segment_s
    if representation.reads not in ("waveform", "track") or length_s is None:
        return Cut(None, None, dtype)

    step_s = length_s if hop_s is None else hop_s
    if not step_s >= SHORTEST_HOP_S:  # in this order, for NaN compares as false
        raise UsageError(
            f"segments cannot begin every {step_s:g} s",
            valid=f"{SHORTEST_HOP_S} s or more",
            next_step="Set a longer hop" if hop_s is not None else "Set a longer segment, or a hop",
        )
    return Cut(length_s, step_s, dtype)


def key_of(content_sha256: str, representation: Representation, cut: Cut) -> str:
    """Name the rows of a file's content."""
    return entry_key(content_sha256, {"representation": representation.settings(), **asdict(cut)})


def make_rows(shared: Shared, job: Job) -> Outcome:
    """Put the rows of a file into the cache, unless they are there. A file at fault is an outcome, not an error."""
    representation, cut, _ = shared
    heard = _hear(shared, job)
    if isinstance(heard, Outcome):
        return heard

    def compute() -> list[Float32]:
        if heard.track is None:
            return [representation.compute_file(job.path)]
        if representation.reads == "track":
            return representation.compute_track(heard.track, heard.starts_s.tolist(), cut.segment_s)
        return [representation.compute(segment) for segment in heard.segments]

    return _keep(shared, heard, compute)


def run_batched(shared: Shared, jobs: Sequence[Job], threads: int) -> Iterator[tuple[int, Outcome]]:
    """Yield (index, outcome) of every job, as `musicgenre._parallel.run_jobs` does for single ones.

    Parameters
    ----------
    shared : tuple
        Representation, cut and cache.
    jobs : sequence of Job
        The files.
    threads : int
        Threads that decode, and that the network may use.
    """
    representation = shared[0]

    def outcomes(batch: list[tuple[int, Heard]]) -> Iterator[tuple[int, Outcome]]:
        if not batch:
            return
        segments = [segment for _, heard in batch for segment in heard.segments]
        rows = representation.compute_many(segments, threads=threads)

        # Every track is kept by itself: numbers that are none spoil only their own.
        for index, heard in batch:
            own, rows = rows[: len(heard.segments)], rows[len(heard.segments) :]
            yield index, _keep(shared, heard, lambda own=own: own)  # type: ignore[misc]

    # Decoding goes on in threads, a batch ahead, while the network hears the batch before.
    decoding = in_threads(lambda job: _hear(shared, job), jobs, threads, ahead=_BATCH_TRACKS)
    with closing(decoding) as decoded:
        batch: list[tuple[int, Heard]] = []
        batch_s = 0.0
        for index, heard in enumerate(decoded):
            if isinstance(heard, Outcome):
                yield index, heard
                continue

            batch.append((index, heard))
            batch_s += heard.segments.size / representation.sample_rate_hz
            if len(batch) == _BATCH_TRACKS or batch_s >= _BATCH_S:
                yield from outcomes(batch)
                batch, batch_s = [], 0.0
        yield from outcomes(batch)


def rows_of_columns(representation: Representation, cut: Cut, columns: Mapping[str, str]) -> Features:
    """Make the one row of a track from its manifest's columns."""
    return _stored([representation.compute_columns(columns)], representation, cut.dtype)


def warm_up(representation: Representation) -> None:
    """Load what `make_rows` needs, compiled code too, by computing the features of a second of noise."""
    if representation.reads == "waveform":
        import soundfile  # noqa: F401 - the decoder of most files
        import soxr  # noqa: F401

        noise = np.random.default_rng(0).standard_normal(representation.sample_rate_hz).astype(np.float32)
        with suppress(MusicgenreError):  # whatever is wrong shows with the first track
            representation.compute(noise)


def in_torch_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Give `function(item)` of every item in order, `threads` at a time; torch's own threads are off meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # for the threads to come too
    try:
        return list(in_threads(function, items, threads))
    finally:
        torch.set_num_threads(before)


def _hear(shared: Shared, job: Job) -> Heard | Outcome:
    """Decode and cut a file, unless its rows are in the cache or it is at fault."""
    from musicgenre.audio import as_audio_error

    representation, cut, cache = shared
    try:
        with as_audio_error(job.path):
            signature = Signature.of(job.path)
            sha256 = job.sha256 or sha256_of(job.path)
    except AudioError as error:
        return Outcome(problem=str(error))

    # A file that is known need not be decoded at all.
    key = key_of(sha256, representation, cut)
    if key in cache:
        return Outcome(key, sha256, signature, reused=True)
    if representation.reads == "file":
        return Heard(key, sha256, signature, np.zeros(1), np.zeros((1, 0), np.float32), None)

    track, rate_hz = CachedTrack(job.path, sha256, cache), representation.sample_rate_hz
    try:
        waveform = track.at(rate_hz)
    except AudioError as error:
        return Outcome(sha256=sha256, signature=signature, problem=str(error))
    starts_s, segments = base.cut(waveform, rate_hz, cut.segment_s, cut.hop_s)
    return Heard(key, sha256, signature, starts_s, segments, track)


def _keep(shared: Shared, heard: Heard, compute: Callable[[], list[Float32]]) -> Outcome:
    """Compute the rows of a file, check them and put them into the cache."""
    representation, cut, cache = shared
    try:
        rows = _stored(compute(), representation, cut.dtype)
    except (AudioError, DataError) as error:
        return Outcome(sha256=heard.sha256, signature=heard.signature, problem=str(error))

    cache.write(heard.key, heard.starts_s, rows)
    # Only now, for computing may have decoded the track again, at another rate.
    warnings = () if heard.track is None else heard.track.warnings
    return Outcome(heard.key, heard.sha256, heard.signature, warnings=warnings)


def _stored(rows: list[Float32], representation: Representation, dtype: str) -> Features:
    """Stack and check rows; shape (n, *shape)."""
    stacked = np.stack(rows)
    if stacked.shape[1:] != tuple(representation.shape()):
        raise DataError(f"the features have shape {stacked.shape[1:]}", valid=f"Expected {representation.shape()}")
    if not np.isfinite(stacked).all():
        raise DataError("the features are not finite numbers")

    with np.errstate(over="ignore"):  # told below, in our words
        converted: Features = stacked.astype(dtype)
    if not np.isfinite(converted).all():
        raise UsageError(
            f"values up to {np.abs(stacked).max():.3g} do not fit float16",
            valid="float16 ends at 65,504",
            next_step="Prepare with float32",
        )
    return converted
