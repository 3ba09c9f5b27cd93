"""Plumbing of preparation: one file to its rows. It runs in worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import sha256_of
from musicgenre.data.cache import RowCache, Signature, entry_key
from musicgenre.data.rows import Features
from musicgenre.errors import AudioError, DataError, MusicgenreError, UsageError
from musicgenre.features.base import SHORTEST_HOP_S, Float32, Representation, TrackSound, mean_of
from musicgenre.features.base import cut as cut_waveform


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


def reads_of(representation: Representation) -> str:
    """Say what the representation reads: ``waveform`` (the default), ``track``, ``file`` or ``columns``."""
    return str(getattr(representation, "reads", "waveform"))


def cut_of(representation: Representation, segment_s: float | None, hop_s: float | None, dtype: str) -> Cut:
    """Settle the cut: the representation's own length unless it takes any."""
    own_s = representation.segment_s
    if segment_s is not None and own_s is not None and abs(segment_s - own_s) > 1e-9:
        raise UsageError(
            f"segment_s={segment_s} does not fit the representation {representation.name}",
            valid=f"It was made for segments of {own_s} s",
            next_step=f"Make it with segment_s={segment_s}",
        )
    length_s = own_s if segment_s is None else segment_s
    if reads_of(representation) not in ("waveform", "track") or length_s is None:
        return Cut(None, None, dtype)
    step_s = length_s if hop_s is None else hop_s
    if not step_s >= SHORTEST_HOP_S:
        raise UsageError(
            f"segments cannot begin every {step_s:g} s",
            valid=f"{SHORTEST_HOP_S} s or more",
            next_step="Set a longer hop" if hop_s is not None else "Set a longer segment, or a hop",
        )
    return Cut(length_s, step_s, dtype)


def key_of(content_sha256: str, representation: Representation, cut: Cut) -> str:
    """Name the rows of a file's content."""
    return entry_key(content_sha256, {"representation": representation.settings(), **asdict(cut)})


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
            found = None if outcome.problem else self._cache.read(outcome.key)
            if found is not None:
                return mean_of(found[1].astype(np.float32, copy=False))
            if outcome.key:
                self._cache.path_of(outcome.key).unlink(missing_ok=True)
        return super().whole(representation)  # which raises what is wrong


Shared = tuple[Representation, Cut, RowCache]


@dataclass(frozen=True)
class Heard:
    """A file decoded and cut, whose rows are not computed yet; ``segments`` (n_segments, n_samples).

    ``track`` is the whole of it; a file that is not sound has none.
    """

    key: str
    sha256: str
    signature: Signature
    starts_s: NDArray[np.float64]
    segments: NDArray[np.float32]
    track: CachedTrack | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the decoder noticed so far."""
        return () if self.track is None else self.track.warnings


def make_rows(shared: Shared, job: Job) -> Outcome:
    """Put the rows of a file into the cache, unless they are there. A file at fault is an outcome, not an error."""
    representation, cut, _ = shared
    heard = hear(shared, job)
    if isinstance(heard, Outcome):
        return heard
    if reads_of(representation) == "file":
        return keep(shared, heard, lambda: [cast("Any", representation).compute_file(job.path)])
    if reads_of(representation) == "track":
        whole = cast("Any", representation).compute_track
        return keep(shared, heard, lambda: whole(heard.track, heard.starts_s.tolist(), cut.segment_s))
    return keep(shared, heard, lambda: [representation.compute(segment) for segment in heard.segments])


def hear(shared: Shared, job: Job) -> Heard | Outcome:
    """Decode and cut a file, unless its rows are in the cache or it is at fault."""
    representation, cut, cache = shared
    try:
        signature = Signature.of(job.path)
        sha256 = job.sha256 or sha256_of(job.path)
    except OSError as error:
        return Outcome(problem=f"the file cannot be read ({error.strerror})")
    key = key_of(sha256, representation, cut)
    if key in cache:
        return Outcome(key, sha256, signature, reused=True)
    if reads_of(representation) == "file":
        return Heard(key, sha256, signature, np.zeros(1), np.zeros((1, 0), np.float32), None)
    track, rate_hz = CachedTrack(job.path, sha256, cache), representation.sample_rate_hz
    try:
        waveform = track.at(rate_hz)
    except AudioError as error:
        return Outcome(sha256=sha256, signature=signature, problem=str(error))
    starts_s, segments = cut_waveform(waveform, rate_hz, cut.segment_s, cut.hop_s)
    return Heard(key, sha256, signature, starts_s, segments, track)


def keep(shared: Shared, heard: Heard, compute: Callable[[], list[NDArray[np.float32]]]) -> Outcome:
    """Compute the rows of a file, check them and put them into the cache."""
    representation, cut, cache = shared
    try:
        rows = _stored(compute(), representation, cut.dtype)
    except (AudioError, DataError) as error:
        return Outcome(sha256=heard.sha256, signature=heard.signature, problem=str(error))
    cache.write(heard.key, heard.starts_s, rows)
    return Outcome(heard.key, heard.sha256, heard.signature, warnings=heard.warnings)


def warm_up(representation: Representation) -> None:
    """Load what :func:`make_rows` needs, compiled code too, by computing the features of a second of noise."""
    if reads_of(representation) == "waveform":
        import soundfile  # noqa: F401 - the decoder of most files
        import soxr  # noqa: F401

        noise = np.random.default_rng(0).standard_normal(representation.sample_rate_hz).astype(np.float32)
        with suppress(MusicgenreError):  # whatever is wrong shows with the first track
            representation.compute(noise)


def rows_of_columns(representation: Representation, cut: Cut, columns: Mapping[str, str]) -> Features:
    """Make the one row of a track from its manifest's columns."""
    row = cast("Any", representation).compute_columns(columns)
    return _stored([row], representation, cut.dtype)


def _stored(rows: list[NDArray[np.float32]], representation: Representation, dtype: str) -> Features:
    """Stack and check rows; shape (n, *shape)."""
    stacked = np.stack(rows)
    if stacked.shape[1:] != tuple(representation.shape()):
        raise DataError(f"the features have shape {stacked.shape[1:]}", valid=f"Expected {representation.shape()}")
    if not np.isfinite(stacked).all():
        raise DataError("the features are not finite numbers")
    with np.errstate(over="ignore"):
        converted: Features = stacked.astype(dtype)
    if not np.isfinite(converted).all():
        raise UsageError(
            f"values up to {np.abs(stacked).max():.3g} do not fit float16",
            valid="float16 ends at 65,504",
            next_step="Prepare with float32",
        )
    return converted


_BATCH_TRACKS = 8
_BATCH_S = 300.0  # and no more sound than this, unless one track is longer


def hears_many(representation: Representation) -> bool:
    """Whether it offers ``compute_many(waveforms, threads=...)``, a list of arrays for a list of waveforms."""
    return hasattr(representation, "compute_many")


def run_batched(shared: Shared, jobs: Sequence[Job], n_threads: int) -> Iterator[tuple[int, Outcome]]:
    """Yield (index, outcome) of every job, as :func:`~musicgenre.data._pool.run_jobs` does for single ones.

    Parameters
    ----------
    shared : tuple
        Representation, cut and cache.
    jobs : sequence of Job
        The files.
    n_threads : int
        Threads that decode, and that the network may use.
    """
    with closing(_decoded(shared, jobs, n_threads)) as decoded:
        batch: list[tuple[int, Heard]] = []
        seconds = 0.0
        for index, heard in decoded:
            if isinstance(heard, Outcome):
                yield index, heard
                continue
            batch.append((index, heard))
            seconds += heard.segments.size / shared[0].sample_rate_hz
            if len(batch) == _BATCH_TRACKS or seconds >= _BATCH_S:
                yield from _computed(shared, batch, n_threads)
                batch, seconds = [], 0.0
        yield from _computed(shared, batch, n_threads)


def _decoded(
    shared: Shared, jobs: Sequence[Job], n_threads: int
) -> Generator[tuple[int, Heard | Outcome], None, None]:
    """Decode in threads, in order, a batch ahead of whoever takes the results."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode")
    try:
        waiting = enumerate(jobs)
        running = deque((index, pool.submit(hear, shared, job)) for index, job in _first(waiting, _BATCH_TRACKS))
        while running:
            index, future = running.popleft()
            running.extend((later, pool.submit(hear, shared, job)) for later, job in _first(waiting, 1))
            yield index, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: Iterator[tuple[int, Job]], count: int) -> list[tuple[int, Job]]:
    return [item for _, item in zip(range(count), waiting, strict=False)]


def _computed(shared: Shared, batch: list[tuple[int, Heard]], n_threads: int) -> Iterator[tuple[int, Outcome]]:
    segments = [segment for _, heard in batch for segment in heard.segments]
    rows: list[Float32] = cast("Any", shared[0]).compute_many(segments, threads=n_threads) if segments else []
    for index, heard in batch:
        own, rows = rows[: len(heard.segments)], rows[len(heard.segments) :]
        yield index, keep(shared, heard, lambda own=own: own)  # type: ignore[misc]


Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Give ``function(item)`` of every item in order, ``threads`` at a time; it must let go of Python's lock."""
    if threads == 1 or len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads, thread_name_prefix="network") as pool:
        return list(pool.map(function, items))


def in_torch_threads(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """As :func:`in_threads`, for a function of torch's, whose own threads are off meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # for the threads to come too
    try:
        return in_threads(function, items, threads)
    finally:
        torch.set_num_threads(before)
