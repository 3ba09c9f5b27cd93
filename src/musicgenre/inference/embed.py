"""Embed tracks: one vector a track from what a network hears, many tracks in one file that can be added to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from musicgenre._files import sha256_of
from musicgenre.audio import printable
from musicgenre.bundle.load import load_bundle
from musicgenre.bundle.store import DEFAULT_BUNDLE, ensure_bundle
from musicgenre.errors import AudioError, BundleError, UsageError
from musicgenre.inference.batch import Failure, hear_many
from musicgenre.inference.classifier import DEFAULT_COVERAGE_S
from musicgenre.inference.embedding_file import (
    EmbeddingSettings,
    Float16,
    Pool,
    TrackEmbeddings,
    What,
    check_output,
    read_embeddings,
    write_embeddings,
)
from musicgenre.inference.framing import Coverage, Float32, Framing
from musicgenre.inference.hearing import Ear, Source

_SAVE_EVERY_S = 60.0
_SAVING_SHARE = 20  # and no more than a twentieth of the time is spent on it


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One track as a vector.

    Attributes
    ----------
    vector : float16 ndarray, shape (width,)
        The pooled output of the heard segments.
    warnings : tuple of str
        What was noticed on the way.
    """

    vector: Float16
    warnings: tuple[str, ...]


class Embedder:
    """Turns tracks into vectors. Loads its model once; safe to share between threads.

    Parameters
    ----------
    model : str
        ``default`` (MusiCNN), the name of an embedding bundle in the cache, or the path of one (``.onnx``).
    what : {"embedding", "tags"}
        The network's output to take: its penultimate layer, or tag probabilities.
    pool : {"mean", "max", "mean-max"}
        How the heard segments become one vector.
    coverage : float, ``full`` or None
        Seconds of each track to hear, evenly spread, or ``full``. None takes the default of classification.
    threads : int, optional
        Threads that one inference may use; all cores by default.

    Raises
    ------
    BundleError
        When the model is missing, damaged or has no embeddings.
    UsageError
        When one of the other values is not valid.
    """

    def __init__(
        self,
        model: str = "default",
        *,
        what: What = "embedding",
        pool: Pool = "mean",
        coverage: float | str | None = None,
        threads: int | None = None,
    ) -> None:
        for name, value, valid in (("what", what, get_args(What)), ("pool", pool, get_args(Pool))):
            if value not in valid:
                raise UsageError(f"{name} {value!r} is not known", valid=f"{', '.join(valid)}")
        heard = Coverage.parse(DEFAULT_COVERAGE_S if coverage is None else coverage)
        bundle = load_bundle(_bundle_path(model), threads=threads)
        card = bundle.card
        if card.kind != "embedding":
            raise BundleError(
                f"{card.name} gives no embeddings: it is a {card.kind}",
                valid="'default', or an embedding bundle such as msd-musicnn",
            )
        framing = Framing(card.sample_rate_hz, card.segment_samples, card.hop_samples, card.lead_samples)
        self._ear = Ear(framing, heard, bundle.run)
        said = "full" if heard.seconds is None else f"{heard.seconds:.12g}"
        self._settings = EmbeddingSettings(card.name, card.sha256, what, pool, said)

    @property
    def settings(self) -> EmbeddingSettings:
        """What the embeddings are made with."""
        return self._settings

    def embed(self, source: Source, *, sample_rate_hz: int | None = None) -> Embedding:
        """Hear one track.

        Parameters
        ----------
        source : path, binary file object or ndarray
            The track. An array holds samples in [-1, 1], shape (n_samples,) or (n_samples, n_channels).
        sample_rate_hz : int
            Rate of an array; required for arrays, refused for anything else.

        Raises
        ------
        AudioError
            When the source cannot be heard.
        """
        heard = self._ear.hear(source, sample_rate_hz=sample_rate_hz)
        with np.errstate(invalid="ignore", over="ignore"):
            vector = _pooled(heard.outputs[self._settings.what], self._settings.pool).astype(np.float16)
        if not np.isfinite(vector).all():
            raise AudioError(
                f"{source if isinstance(source, str | Path) else 'the sound'} gives no embedding that is a number",
                valid="Samples near full scale, which is 1",
                next_step="Divide its samples by their largest, or export it again",
            )
        return Embedding(vector, heard.warnings)


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """What became of the tracks.

    Attributes
    ----------
    embedded, reused : int
        Tracks heard now, and tracks the file held already.
    failures : tuple of Failure
        Tracks that could not be heard, and why.
    warnings : tuple of (str, str)
        Tracks with what was noticed about them.
    """

    embedded: int
    reused: int
    failures: tuple[Failure, ...]
    warnings: tuple[tuple[str, str], ...]


def embed_tracks(
    paths: Sequence[str],
    embedder: Embedder,
    output: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EmbedReport:
    """Embed tracks into one file; it is whole at any time, and can be added to later.

    Parameters
    ----------
    paths : sequence of str
        The tracks.
    embedder : Embedder
        Hears them.
    output : Path
        The file; ends in ``.npz``, or in ``.parquet`` where pyarrow is installed.
    jobs : int
        Tracks at a time.
    resume : bool
        Add to an existing ``.npz`` file: its tracks are not heard again unless their files changed.
    overwrite : bool
        Replace an existing file.
    progress : callable
        Told (tracks done, tracks in all).

    Returns
    -------
    EmbedReport

    Raises
    ------
    UsageError
        When the file exists and neither ``resume`` nor ``overwrite`` is given, cannot be written, or was made with
        another model or other settings.
    DataError
        When the file to go on with is damaged.
    """
    library = _Library(_start(output, embedder.settings, resume=resume, overwrite=overwrite))
    missing = [path for path in paths if not library.knows(path)]
    done = reused = len(paths) - len(missing)
    progress(done, len(paths))
    failures: list[Failure] = []
    warnings: list[tuple[str, str]] = []
    saver = _Saver(library, output)
    try:
        with closing(hear_many(missing, lambda path: _row(path, embedder), jobs=jobs)) as results:
            for result in results:
                if isinstance(result, Failure):
                    failures.append(result)
                else:
                    library.add(result)
                    warnings += [(result.path, warning) for warning in result.embedding.warnings]
                done += 1
                progress(done, len(paths))
                saver.save_now_and_then()
    finally:
        saver.save()
    return EmbedReport(done - reused - len(failures), reused, tuple(failures), tuple(warnings))


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    path: str
    embedding: Embedding
    size_bytes: int
    modified_ns: int
    sha256: bytes


class _Library:
    """The rows of a file in the making, found by path and by content."""

    def __init__(self, tracks: TrackEmbeddings) -> None:
        self.settings = tracks.settings
        self.changed = False
        self._paths = list(tracks.paths)
        self._vectors: list[Float16] = list(tracks.vectors)
        self._files = list(zip(tracks.size_bytes.tolist(), tracks.modified_ns.tolist(), strict=True))
        self._hashes = [row.tobytes() for row in tracks.sha256]
        self._by_path = {path: row for row, path in enumerate(self._paths)}
        self._by_hash = {digest: row for row, digest in enumerate(self._hashes)}
        self._sizes = {size for size, _ in self._files}

    def __len__(self) -> int:
        return len(self._paths)

    def knows(self, path: str) -> bool:
        """Tell whether this very content was heard; one that moved or was touched is put down as it is now."""
        try:
            status = Path(path).stat()
            now = (status.st_size, status.st_mtime_ns)
            row = self._by_path.get(path)
            if row is not None and self._files[row] == now:
                return True
            same = self._by_hash.get(bytes.fromhex(sha256_of(Path(path)))) if now[0] in self._sizes else None
        except OSError:
            return False
        if same is None:
            return False
        if row is None and not Path(self._paths[same]).exists():  # moved: its row goes with it
            self._by_path[path] = self._by_path.pop(self._paths[same])
            self._paths[same] = path
            self._files[same] = now
            self.changed = True
            return True
        self._put(path, self._vectors[same], now, self._hashes[same])
        return True

    def add(self, row: _Row) -> None:
        """Put down a track; one of the same name is replaced."""
        self._put(row.path, row.embedding.vector, (row.size_bytes, row.modified_ns), row.sha256)

    def tracks(self) -> TrackEmbeddings:
        """Everything put down so far."""
        files = np.array(self._files, dtype=np.int64).reshape(-1, 2)
        hashes = np.frombuffer(b"".join(self._hashes), dtype=np.uint8).reshape(-1, 32)
        vectors = np.stack(self._vectors)
        return TrackEmbeddings(
            self.settings, tuple(self._paths), vectors, files[:, 0].copy(), files[:, 1].copy(), hashes
        )

    def _put(self, path: str, vector: Float16, file: tuple[int, int], digest: bytes) -> None:
        row = self._by_path.setdefault(path, len(self._paths))
        if row == len(self._paths):
            self._paths.append(path)
            self._vectors.append(vector)
            self._files.append(file)
            self._hashes.append(digest)
        else:
            if self._by_hash.get(self._hashes[row]) == row:
                del self._by_hash[self._hashes[row]]
            self._vectors[row], self._files[row], self._hashes[row] = vector, file, digest
        self._by_hash.setdefault(digest, row)
        self._sizes.add(file[0])
        self.changed = True


class _Saver:
    """Writes the file at the end, and on the way often enough that a power cut costs little."""

    def __init__(self, library: _Library, output: Path) -> None:
        self._library = library
        self._output = output
        self._next_s = time.monotonic() + _SAVE_EVERY_S

    def save_now_and_then(self) -> None:
        start_s = time.monotonic()
        if start_s < self._next_s:
            return
        self.save()
        end_s = time.monotonic()
        self._next_s = end_s + max(_SAVE_EVERY_S, _SAVING_SHARE * (end_s - start_s))

    def save(self) -> None:
        if self._library.changed and len(self._library):
            write_embeddings(self._output, self._library.tracks())
            self._library.changed = False


def _start(output: Path, settings: EmbeddingSettings, *, resume: bool, overwrite: bool) -> TrackEmbeddings:
    """Read the file to go on with, or begin with nothing."""
    check_output(output)
    if resume and overwrite:
        raise UsageError("resuming and overwriting contradict each other", next_step="Give one of them")
    if resume and output.suffix.lower() != ".npz":
        raise UsageError(f"{output} cannot be resumed", valid="Files that end in .npz can")
    if not output.exists() or overwrite:
        if output.exists() and not output.is_file():
            raise UsageError(f"{output} is no file", next_step="Choose another --output")
        return _empty(settings)
    if not resume:
        raise UsageError(
            f"{output} exists already",
            valid="A file is never overwritten unasked",
            next_step="Add --resume to go on with it, or --overwrite to replace it",
        )
    tracks = read_embeddings(output, mapped=False)  # where files are locked while mapped, it could not be replaced
    if tracks.settings != settings:
        raise UsageError(
            f"{output} was made with other settings: {difference(tracks.settings, settings)}",
            valid="Embeddings in one file are made alike",
            next_step="Choose the same settings, another --output, or --overwrite",
        )
    return tracks


def difference(theirs: EmbeddingSettings, ours: EmbeddingSettings) -> str:
    """Say where two settings differ, as ``pool mean, not max``."""
    names = ("what", "pool", "coverage") if theirs.model_sha256 == ours.model_sha256 else ("model", "model_sha256")
    pairs: Iterable[tuple[str, str, str]] = ((name, getattr(theirs, name), getattr(ours, name)) for name in names)
    return "; ".join(
        f"{name.replace('_', ' ')} {printable(their)}, not {printable(our)}"
        for name, their, our in pairs
        if their != our
    )


def _empty(settings: EmbeddingSettings) -> TrackEmbeddings:
    none = np.zeros(0, dtype=np.int64)
    return TrackEmbeddings(
        settings, (), np.zeros((0, 1), dtype=np.float16), none, none, np.zeros((0, 32), dtype=np.uint8)
    )


def _row(path: str, embedder: Embedder) -> _Row:
    """Hear one track; its size and time are taken before, so that a change meanwhile is noticed next time."""
    file = Path(path)
    status = file.stat() if file.is_file() else None
    embedding = embedder.embed(path)
    if status is None:
        raise AudioError(f"{printable(path)} is not a file")
    return _Row(path, embedding, status.st_size, status.st_mtime_ns, bytes.fromhex(sha256_of(file)))


def _bundle_path(model: str) -> Path:
    if Path(model).suffix == ".onnx":
        return Path(model)
    return ensure_bundle(DEFAULT_BUNDLE if model == "default" else model)


def _pooled(rows: Float32, pool: Pool) -> Float32:
    parts = [] if pool == "max" else [rows.mean(axis=0, dtype=np.float64)]
    if pool != "mean":
        parts.append(rows.max(axis=0))
    return np.concatenate(parts).astype(np.float32)
