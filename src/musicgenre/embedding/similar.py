"""The tracks of a library that sound most like a track: cosine of embeddings, exact, over a file of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._files import sha256_of
from musicgenre._parallel import in_threads, usable_cores
from musicgenre._text import did_you_mean_path, printable
from musicgenre._transfer import fetching_nothing
from musicgenre.audio import naming
from musicgenre.embedding.embed import NETWORKS, Embedder, difference
from musicgenre.embedding.file import EmbeddingSettings, Float16, TrackEmbeddings, read_embeddings
from musicgenre.errors import BundleError, DataError, UsageError
from musicgenre.features.registry import check_places

Float32 = NDArray[np.float32]

_EXACT_ROWS = 4096  # rows multiplied in float64 at a time
_BLOCK_VALUES = 200_000  # widened at a time: 800 kB of float32 stay in a core's cache
_SHOWN_TRACKS = 3
_LOUDNESS_COUNTS = (
    "the index holds tracks as loud as they are, so loudness counts too; musicgenre embed makes one without "
    "--level off where it does not"
)

# Half precision is widened by its bits, several times as fast as NumPy's own way: the 15 bits behind the sign move to
# where float32 has them, which makes every value 2**112 times too small, subnormal ones included.
_SCALE = np.float32(2.0**112)
_MANTISSA_SHIFT = 13
_KEPT_BITS = np.int32(0x8FFFE000 - (1 << 32))  # without the copies of the sign that widening an int16 leaves
_MAGNITUDE = np.int16(0x7FFF)
_INFINITY = 0x7C00  # magnitudes from here on are infinite or no numbers


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
                f"the embedding of {printable(tracks.paths[unusable])} is not made of numbers",
                next_step="Make the file anew with: musicgenre embed FOLDER --output FILE.npz",
            )

        self._tracks = tracks
        length = lengths(tracks.vectors)
        self._per_length = np.divide(1, length, out=np.zeros_like(length), where=length > 0)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SimilarityIndex:
        """Open a file that `embed_tracks` or `musicgenre embed` wrote; its embeddings are mapped, not read.

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
            same = self._rows_of_content(bytes.fromhex(sha256_of(Path(track))))
            return int(same[0]) if len(same) else None

        # The end of a path names the track too, where whole names of folders and files are left off.
        named = []
        for row, path in enumerate(paths):
            if track and path.endswith(track):
                before = path[: len(path) - len(track)]
                if not before or before[-1] in "/\\":
                    named.append(row)
        if len(named) > 1:
            shown = ", ".join(printable(paths[row]) for row in named[:_SHOWN_TRACKS])
            more = ", ..." if len(named) > _SHOWN_TRACKS else ""
            raise UsageError(
                f"{printable(track)!r} names {len(named)} tracks of the index",
                valid=f"{shown}{more}",
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
        itself = self._rows_of_content(self._tracks.sha256[row].tobytes())
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
            When the vector has another width, has no direction, or `top` is less than one.
        """
        if top < 1:
            raise UsageError(f"top {top} finds nothing", valid="1 or more")
        vectors = self._tracks.vectors
        if vector.shape != vectors.shape[1:]:
            raise UsageError(
                f"an embedding of shape {vector.shape} does not fit the index", valid=f"{vectors.shape[1:]}"
            )
        precise = vector.astype(np.float64)
        length = float(np.linalg.norm(precise))
        if not 0 < length < np.inf:
            raise UsageError(
                "the embedding of this track has no direction: it is zero or not made of numbers",
                next_step="Choose a track that is not silent",
            )
        direction = precise / length

        # All tracks in float32 first: quick, and right to some digits.
        scores = products(vectors, direction.astype(np.float32), usable_cores())
        scores *= self._per_length
        wanted = min(top, len(scores))
        if leave_out is not None:
            scores[leave_out] = -np.inf
            wanted = min(wanted, len(scores) - len(np.unique(leave_out)))
        if not wanted:
            return ()

        # Then in float64 those that may be among the nearest, given what float32 can have rounded away.
        least = np.partition(scores, len(scores) - wanted)[-wanted]
        margin = 4 * vectors.shape[1] * np.finfo(np.float32).eps
        candidates = np.flatnonzero((scores >= least - margin) & np.isfinite(scores))
        parts = []
        for start in range(0, len(candidates), _EXACT_ROWS):  # as many at a time as fit into memory easily
            block = vectors[candidates[start : start + _EXACT_ROWS]].astype(np.float64)
            block_lengths = np.linalg.norm(block, axis=1)
            # Row by row, so that equal rows give equal cosines wherever they stand.
            dots = np.einsum("ij,j->i", block, direction)
            parts.append(np.divide(dots, block_lengths, out=np.zeros_like(dots), where=block_lengths > 0))
        cosines = np.concatenate(parts).clip(-1, 1)

        order = np.lexsort((candidates, -cosines))[:wanted]
        return tuple(Neighbour(self._tracks.paths[candidates[i]], float(cosines[i])) for i in order)

    def _rows_of_content(self, digest: bytes) -> NDArray[np.intp]:
        """Rows of the tracks whose files have this checksum."""
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
    max_duration_s: float | None = None,
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
    max_duration_s : float, optional
        Length of the longest file that is heard, in seconds; `inf` for any. By default a day.
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
            embedder_of(index.settings, model, options)  # refuses another model, though it has nothing to hear
        return index.nearest_to(row, top=top)
    if not Path(name).exists():
        raise UsageError(
            f"{printable(name)} is neither a file nor a track of the index",
            valid="a path or file name as it stands in the index, or an audio file",
            next_step=f"{did_you_mean_path(name)}Check the name and the folder",
        )

    embedder = embedder_of(index.settings, model, options, max_duration_s)
    heard = naming(name, lambda: embedder.embed(name))
    for warning in heard.warnings:
        report(warning)
    if index.settings.level is None and index.settings.model not in NETWORKS:
        report(_LOUDNESS_COUNTS)
    return index.nearest(heard.vector, top=top)


def embedder_of(
    settings: EmbeddingSettings,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    max_duration_s: float | None = None,
    threads: int | None = None,
) -> Embedder:
    """Load the model that made an index, for tracks that are not in it.

    Parameters
    ----------
    settings : EmbeddingSettings
        Those of the index.
    model, options, max_duration_s
        As `similar` takes them.
    threads : int, optional
        Threads that one inference may use; all cores by default.

    Raises
    ------
    UsageError
        When `model` or `options` name another one.
    BundleError
        When it cannot be loaded.
    """
    name = settings.model if model is None else model
    if name != settings.model and (name in NETWORKS or settings.model in NETWORKS):  # before anything is fetched
        raise _another_model(f"model {settings.model}, not {name}")

    # The options of the index make a representation again; a bundle has none.
    chosen: dict[str, Any] = {}
    if settings.model in NETWORKS:
        chosen = {key: value for key, value in settings.options.items() if key != "version"}
        chosen |= {**settings.location, "weights_sha256": settings.model_sha256}
    check_places(chosen)
    chosen |= options or {}
    try:
        with fetching_nothing("the index"):
            embedder = Embedder(
                name,
                options=chosen,
                what=settings.what,
                pool=settings.pool,
                coverage=settings.coverage,
                level=settings.level or "off",
                threads=threads,
                max_duration_s=max_duration_s,
            )
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
        raise _another_model(difference(settings, embedder.settings))
    return embedder


def _another_model(told: str) -> UsageError:
    return UsageError(
        f"the index was made with another model: {told}",
        next_step="Name the index's model with --model, or embed the tracks again",
    )


def products(rows: Float16, vector: Float32, threads: int = 1) -> Float32:
    """Multiply finite rows (n, width) with a vector (width,); float32 (n,), the same for any number of threads."""
    result = np.empty(len(rows), dtype=np.float32)
    scaled = vector * _SCALE

    def multiply(bounds: tuple[int, int]) -> None:
        first, last = bounds
        for start, block in _widened(rows[first:last]):
            np.dot(block, scaled, out=result[first + start : first + start + len(block)])

    # Threads take whole blocks, so that blocks and roundings are the same for any number of threads.
    step = _rows_per_block(rows)
    n_blocks = len(rows) // step
    starts = [step * (n_blocks * part // threads) for part in range(threads)]
    shares = list(zip(starts, [*starts[1:], len(rows)], strict=True))
    for _ in in_threads(multiply, shares, threads):
        pass
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
    step = _rows_per_block(rows)
    for start in range(0, len(rows), step):
        bad = (bits[start : start + step] & _MAGNITUDE) >= _INFINITY
        if bad.any():
            return start + int(bad.any(axis=1).argmax())
    return None


def _widened(rows: Float16) -> Iterator[tuple[int, Float32]]:
    """Give blocks as float32, 2**112 times too small, in a buffer that the next block overwrites."""
    bits = rows.view(np.int16)
    step = _rows_per_block(rows)
    buffer = np.empty((min(step, len(rows)), rows.shape[1]), dtype=np.int32)
    for start in range(0, len(rows), step):
        block = buffer[: len(rows) - start]  # the last may be shorter
        block[...] = bits[start : start + step]
        np.left_shift(block, _MANTISSA_SHIFT, out=block)
        np.bitwise_and(block, _KEPT_BITS, out=block)
        yield start, block.view(np.float32)


def _rows_per_block(rows: Float16) -> int:
    return max(1, _BLOCK_VALUES // int(rows.shape[1]))
