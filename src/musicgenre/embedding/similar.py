"""The tracks of a library that sound most like a track: cosine of embeddings, exact, over a file of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre import audio
from musicgenre._files import sha256_of
from musicgenre.data._pool import usable_cores
from musicgenre.embedding.embed import NETWORKS, Embedder, difference
from musicgenre.embedding.file import EmbeddingSettings, TrackEmbeddings, read_embeddings
from musicgenre.errors import BundleError, DataError, UsageError

_EXACT_ROWS = 4096  # rows multiplied in float64 at a time
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A track that was found.

    Attributes
    ----------
    path : str
        The file, as it was named when it was embedded.
    cosine : float
        How alike the two embeddings are, in [-1, 1]; 1 is the same direction.
    """

    path: str
    cosine: float


class SimilarityIndex:
    """Answers which tracks sound most like a track. Safe to share between threads.

    Parameters
    ----------
    tracks : TrackEmbeddings
        The library.

    Raises
    ------
    DataError
        When an embedding holds a value that is no finite number.
    """

    def __init__(self, tracks: TrackEmbeddings) -> None:
        unusable = first_unusable(tracks.vectors)
        if unusable is not None:
            raise DataError(
                f"the embedding of {audio.printable(tracks.paths[unusable])} is not made of numbers",
                next_step="Make the file anew with: musicgenre embed FOLDER --output FILE.npz",
            )
        self._tracks = tracks
        length = lengths(tracks.vectors)
        self._per_length = np.divide(1, length, out=np.zeros_like(length), where=length > 0)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SimilarityIndex:
        """Open a file that ``embed_tracks`` or ``musicgenre embed`` wrote; its embeddings are mapped, not read.

        Raises
        ------
        DataError
            When the file is missing, damaged or no file of embeddings.
        """
        return cls(read_embeddings(path))

    @property
    def settings(self) -> EmbeddingSettings:
        """What the embeddings were made with."""
        return self._tracks.settings

    @property
    def paths(self) -> tuple[str, ...]:
        """The tracks, as they were named when they were embedded."""
        return tuple(self._tracks.paths)

    def __len__(self) -> int:
        return len(self._tracks)

    def find(self, track: str) -> int | None:
        """Look for a track by its path, by its content where it is a file, or by its plain file name.

        Parameters
        ----------
        track : str
            The path or name.

        Returns
        -------
        int or None
            Its row; None when it is not there.

        Raises
        ------
        UsageError
            When it names several tracks.
        """
        paths = self._tracks.paths
        if track in paths:
            return paths.index(track)
        if Path(track).is_file():
            same = self._same_content(bytes.fromhex(sha256_of(Path(track))))
            return int(same[0]) if len(same) else None
        named = [row for row, path in enumerate(paths) if track and path.endswith(track) and _is_tail(path, track)]
        if len(named) > 1:
            shown = ", ".join(audio.printable(paths[row]) for row in named[:_NAMED])
            raise UsageError(
                f"{audio.printable(track)!r} names {len(named)} tracks of the index",
                valid=f"{shown}{', ...' if len(named) > _NAMED else ''}",
                next_step="Give more of the path",
            )
        return named[0] if named else None

    def nearest_to(self, row: int, *, top: int = 10) -> tuple[Neighbour, ...]:
        """Find the tracks most like one of the index; the track itself and copies of its file are left out.

        Parameters
        ----------
        row : int
            The track.
        top : int
            How many to find.
        """
        itself = self._same_content(self._tracks.sha256[row].tobytes())
        return self.nearest(self._tracks.vectors[row], top=top, leave_out=itself)

    def nearest(
        self, vector: NDArray[np.floating], *, top: int = 10, leave_out: NDArray[np.integer] | None = None
    ) -> tuple[Neighbour, ...]:
        """Find the tracks most like an embedding.

        Parameters
        ----------
        vector : ndarray, shape (width,)
            An embedding made with the same settings.
        top : int
            How many to find.
        leave_out : ndarray of int, optional
            Rows that are not wanted.

        Returns
        -------
        tuple of Neighbour
            The nearest first; equally near ones in the order of the index.

        Raises
        ------
        UsageError
            When the vector has another width, has no direction, or ``top`` is less than one.
        """
        direction = self._direction(vector, top)
        scores = products(self._tracks.vectors, direction.astype(np.float32), usable_cores())
        scores *= self._per_length
        wanted = min(top, len(scores))
        if leave_out is not None:
            scores[leave_out] = -np.inf
            wanted = min(wanted, len(scores) - len(np.unique(leave_out)))
        if not wanted:
            return ()
        candidates = self._candidates(scores, wanted)
        cosines = self._exact(candidates, direction)
        order = np.lexsort((candidates, -cosines))[:wanted]
        return tuple(Neighbour(self._tracks.paths[candidates[i]], float(cosines[i])) for i in order)

    def _direction(self, vector: NDArray[np.floating], top: int) -> NDArray[np.float64]:
        if top < 1:
            raise UsageError(f"top {top} finds nothing", valid="1 or more")
        if vector.shape != self._tracks.vectors.shape[1:]:
            raise UsageError(
                f"an embedding of shape {vector.shape} does not fit the index",
                valid=f"{self._tracks.vectors.shape[1:]}",
            )
        precise = vector.astype(np.float64)
        length = float(np.linalg.norm(precise))
        if not 0 < length < np.inf:
            raise UsageError(
                "the embedding of this track has no direction: it is zero or not made of numbers",
                next_step="Choose a track that is not silent",
            )
        return precise / length

    def _candidates(self, scores: NDArray[np.float32], wanted: int) -> NDArray[np.intp]:
        """Rows that may be among the nearest, given what float32 can have rounded away."""
        least = np.partition(scores, len(scores) - wanted)[-wanted]
        margin = 4 * self._tracks.vectors.shape[1] * np.finfo(np.float32).eps
        return np.flatnonzero((scores >= least - margin) & np.isfinite(scores))

    def _exact(self, rows: NDArray[np.intp], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(rows), _EXACT_ROWS):
            block = self._tracks.vectors[rows[start : start + _EXACT_ROWS]].astype(np.float64)
            length = np.linalg.norm(block, axis=1)
            # Row by row, so that equal rows give equal cosines wherever they stand.
            product = np.einsum("ij,j->i", block, direction)
            parts.append(np.divide(product, length, out=np.zeros_like(length), where=length > 0))
        cosines: NDArray[np.float64] = np.concatenate(parts).clip(-1, 1)
        return cosines

    def _same_content(self, digest: bytes) -> NDArray[np.intp]:
        wanted = np.frombuffer(digest, dtype=np.uint8)
        rows = np.flatnonzero(self._tracks.sha256[:, 0] == wanted[0])  # a few in a thousand are left to compare
        same: NDArray[np.intp] = rows[(self._tracks.sha256[rows] == wanted).all(axis=1)]
        return same


def similar(
    track: str | os.PathLike[str],
    index: SimilarityIndex,
    *,
    top: int = 10,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Neighbour, ...]:
    """Find the tracks of an index that sound most like a track.

    Parameters
    ----------
    track : str or path
        A track of the index, by path or plain name, or any audio file, which is then heard.
    index : SimilarityIndex
        The library.
    top : int
        How many to find.
    model : str, optional
        The model to hear the track with; must be the one the index was made with. By default that one, from the cache.
    options : mapping, optional
        Options of the index's representation in place of its own, such as where its weights lie now.
    report : callable
        Told what was noticed while hearing the track.

    Returns
    -------
    tuple of Neighbour
        The nearest first; the track itself and copies of its file are left out.

    Raises
    ------
    UsageError
        When the track is neither in the index nor a file, or the index was made with another model.
    AudioError
        When the file cannot be heard.
    """
    name = os.fspath(track)
    row = index.find(name)
    if row is not None:
        if model is not None or options:
            _embedder(index.settings, model, options)
        return index.nearest_to(row, top=top)
    if not Path(name).exists():
        raise UsageError(
            f"{audio.printable(name)} is neither a file nor a track of the index",
            valid="a path or file name as it stands in the index, or an audio file",
        )
    heard = _embedder(index.settings, model, options).embed(name)
    for warning in heard.warnings:
        report(warning)
    return index.nearest(heard.vector, top=top)


def _embedder(settings: EmbeddingSettings, model: str | None, options: Mapping[str, Any] | None) -> Embedder:
    """Load the model of an index, and make sure that it is the one."""
    name = settings.model if model is None else model
    if name != settings.model and (name in NETWORKS or settings.model in NETWORKS):  # before anything is fetched
        raise _another(f"model {settings.model}, not {name}")
    chosen = _options_of(settings) | dict(options or {})
    try:
        embedder = Embedder(name, options=chosen, what=settings.what, pool=settings.pool, coverage=settings.coverage)
    except BundleError as error:
        if not settings.location:
            raise
        places = " or ".join(f"--set {option}=PATH" for option in settings.location)
        raise BundleError(
            f"the index's model cannot be loaded: {error.problem}",
            valid=error.valid,
            next_step=f"{error.next_step or 'Get it'}. Where it lies elsewhere now, say so with {places}",
        ) from error
    if embedder.settings != settings:
        raise _another(difference(settings, embedder.settings))
    return embedder


def _options_of(settings: EmbeddingSettings) -> dict[str, Any]:
    """Options that make a representation again; none for a bundle."""
    if settings.model not in NETWORKS:
        return {}
    kept = {key: value for key, value in settings.options.items() if key != "version"}
    return {**kept, **settings.location, "weights_sha256": settings.model_sha256}


def _another(told: str) -> UsageError:
    return UsageError(
        f"the index was made with another model: {told}",
        next_step="Name the index's model with --model, or embed the tracks again",
    )


def _is_tail(path: str, name: str) -> bool:
    """Tell whether ``name`` is the last part, or last parts, of a path."""
    before = path[: len(path) - len(name)]
    return not before or before[-1] in "/\\"


Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]

_SCALE = np.float32(2.0**112)
_MANTISSA_SHIFT = 13
_KEPT_BITS = np.int32(0x8FFFE000 - (1 << 32))  # without the copies of the sign that widening an int16 leaves
_MAGNITUDE = np.int16(0x7FFF)
_INFINITY = 0x7C00  # magnitudes from here on are infinite or no numbers
_BLOCK_VALUES = 200_000  # 800 kB of float32


def products(rows: Float16, vector: Float32, threads: int = 1) -> Float32:
    """Multiply finite rows (n, width) with a vector (width,); float32 (n,), the same for any number of threads."""
    result = np.empty(len(rows), dtype=np.float32)
    scaled = vector * _SCALE

    def multiply(first: int, last: int) -> None:
        for start, block in _widened(rows[first:last]):
            np.dot(block, scaled, out=result[first + start : first + start + len(block)])

    step = _step(rows)
    bounds = [step * (len(rows) // step * part // threads) for part in range(threads)] + [len(rows)]
    if threads == 1:
        multiply(*bounds)
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="products") as pool:
            list(pool.map(multiply, bounds, bounds[1:]))
    return result


def lengths(rows: Float16) -> Float32:
    """Euclidean length of each finite row (n, width); gives float32 (n,)."""
    result = np.empty(len(rows), dtype=np.float32)
    for start, block in _widened(rows):
        np.multiply(block, _SCALE, out=block)
        np.einsum("ij,ij->i", block, block, out=result[start : start + len(block)])
    return np.sqrt(result, out=result)


def first_unusable(rows: Float16) -> int | None:
    """Find the first row (n, width) that holds a value which is infinite or no number."""
    bits = rows.view(np.int16)
    for start, stop in _blocks(rows):
        bad = (bits[start:stop] & _MAGNITUDE) >= _INFINITY
        if bad.any():
            return start + int(bad.any(axis=1).argmax())
    return None


def _step(rows: Float16) -> int:
    return max(1, _BLOCK_VALUES // int(rows.shape[1]))


def _blocks(rows: Float16) -> Iterator[tuple[int, int]]:
    step = _step(rows)
    for start in range(0, len(rows), step):
        yield start, min(start + step, len(rows))


def _widened(rows: Float16) -> Iterator[tuple[int, Float32]]:
    """Give blocks as float32, 2**112 times too small, in a buffer that the next block overwrites."""
    bits = rows.view(np.int16)
    buffer: NDArray[np.int32] | None = None
    for start, stop in _blocks(rows):
        if buffer is None:
            buffer = np.empty((stop - start, rows.shape[1]), dtype=np.int32)
        block = buffer[: stop - start]
        block[...] = bits[start:stop]
        np.left_shift(block, _MANTISSA_SHIFT, out=block)
        np.bitwise_and(block, _KEPT_BITS, out=block)
        yield start, block.view(np.float32)
