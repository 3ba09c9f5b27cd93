"""Open a bundle, load its model and run it. Needs onnxruntime and NumPy, nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._parallel import usable_cores
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import read_sealed
from musicgenre.bundle.stages import LoadedStage, load_stage
from musicgenre.errors import BundleError, UsageError, require
from musicgenre.features.base import TrackSound, fit_length
from musicgenre.features.registry import PLUGIN_PACKAGE, representation_from_settings

if TYPE_CHECKING:
    from musicgenre._onnxruntime import Session

Float32 = NDArray[np.float32]

_PACKAGES = {
    "features": ("numba",),
    "train": ("torch",),
    "plot": ("matplotlib",),
    "pretrained": ("torch", "transformers"),
}
"""What the front end of a bundle imports, by the extra on its card."""

_OUTPUTS: dict[str, set[str]] = {"classifier": {"logits"}, "embedding": {"tags", "embedding"}}

_OF_OTHER_KINDS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError)
"""What representations say of settings that are no settings: a number for a list, nothing for a name."""


@dataclass(frozen=True, slots=True, eq=False)
class BundleFile:
    """A bundle's file, read and checked against its checksum; `load_bundle` and `load_ensemble` make the model of it.

    Attributes
    ----------
    path : Path
        Where it lies.
    card : BundleCard
        Its card.
    content : bytes
        Its bytes, an ONNX model.
    """

    path: Path
    card: BundleCard
    content: bytes = field(repr=False)


def open_bundle(source: str | os.PathLike[str] | BundleFile) -> BundleFile:
    """Read a bundle's file and check it, without loading the model.

    Parameters
    ----------
    source : path or BundleFile
        The `.onnx` file; one that is open already comes back as it is, and is not read again.

    Raises
    ------
    BundleError
        When the file is missing, not a bundle, too new, or damaged.
    """
    if isinstance(source, BundleFile):
        return source
    path = Path(source)
    content, card = read_sealed(path)
    return BundleFile(path, card, content)


def read_card(path: str | os.PathLike[str]) -> BundleCard:
    """Read and check a bundle's card; errors are those of `open_bundle`."""
    return open_bundle(path).card


def load_bundle(source: str | os.PathLike[str] | BundleFile, *, threads: int | None = None) -> Bundle:
    """Load a bundle.

    Parameters
    ----------
    source : path or BundleFile
        The `.onnx` file, or what `open_bundle` gave.
    threads : int, optional
        Rows that one `Bundle.run` may run at a time; as many as there are cores by default.

    Raises
    ------
    BundleError
        When the file is missing, not a bundle, too new, or damaged.
    MissingExtraError
        When the bundle's front end needs packages that are not installed.
    """
    file = open_bundle(source)
    if file.card.kind == "ensemble":
        raise BundleError(
            f"{file.path} is an ensemble of {len(file.card.members)} models",
            valid="a bundle of one model",
            next_step="musicgenre classify --model takes it; in Python: musicgenre.bundle.load_ensemble",
        )
    return bundle_of(file.content, file.card, str(file.path), threads=threads)


def bundle_of(model: bytes, card: BundleCard, where: str, *, threads: int | None = None, prefix: str = "") -> Bundle:
    """Make a bundle of an ONNX model and its card.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    card : BundleCard
        Its card.
    where : str
        What to call it in errors.
    threads, prefix
        As `load_bundle` and `Bundle` take them.

    Raises
    ------
    BundleError
        When the model cannot be loaded, does not do what its card says, or reads features that cannot be computed.
    MissingExtraError
        When its front end needs packages that are not installed.
    """
    require(f"the bundle {card.name}", card.extra, *_PACKAGES.get(card.extra, ()))

    from musicgenre._onnxruntime import ERRORS, open_session

    try:
        session = open_session(model)
    except ERRORS as error:
        raise _not_running(f"cannot load {where}", error) from error

    # A front end in Python may need no extra at all: then only the graph tells that there is one.
    taken = {entry.name.removeprefix(prefix): entry.shape for entry in session.get_inputs()}
    given = {entry.name.removeprefix(prefix): entry.shape for entry in session.get_outputs()}
    feed = "features" if card.extra or "features" in taken else "waveform"

    # What published networks read of it must be there; their outputs count as the graph's.
    stages = tuple(load_stage(stage, where) for stage in card.published_stages)
    reads_all = True
    for stage in stages:
        reads_all = reads_all and stage.stage.reads in given
        given |= stage.shapes

    # Graph and card must agree, as far as the graph tells sizes: a length may be a name, for any.
    length = (taken.get(feed) or [None])[-1]
    output = "tags" if card.kind == "embedding" else "logits"
    width = (given.get(output) or [None])[-1]
    fits = reads_all and taken.keys() == {feed} and _OUTPUTS[card.kind] <= given.keys()
    if feed == "waveform" and isinstance(length, int):
        fits = fits and length == card.segment_samples
    if isinstance(width, int):
        fits = fits and width == len(card.labels)
    if not fits:
        raise BundleError(
            f"the graph in {where} does not do what its card says: it takes {taken} and gives {given}",
            valid=f"{feed} (rows, {card.segment_samples}) to {output} (rows, {len(card.labels)})",
            next_step="Get or export it anew",
        )

    front_end = PythonFrontEnd(card.front_end, card.name) if feed == "features" else None
    return Bundle(card, session, usable_cores() if threads is None else threads, front_end, prefix, stages)


class Bundle:
    """A loaded model. Safe to share between threads.

    Rows run one by one, several at a time: a single row keeps a core's cache warm, and independent rows need no
    waiting for each other, unlike threads inside one operator.

    Parameters
    ----------
    card : BundleCard
        What the model hears and says.
    session : Session
        The graph, ready to run.
    threads : int
        Rows at a time.
    front_end : PythonFrontEnd, optional
        Computes what the graph reads, where the graph does not read the waveform itself.
    prefix : str
        Stands before the names of the graph's inputs and outputs, where it is one of an ensemble.
    stages : tuple of LoadedStage
        Published networks that what the graph gives goes through.
    """

    def __init__(
        self,
        card: BundleCard,
        session: Session,
        threads: int = 1,
        front_end: PythonFrontEnd | None = None,
        prefix: str = "",
        stages: tuple[LoadedStage, ...] = (),
    ) -> None:
        self.card = card
        self._stages = stages
        self._front_end = front_end
        self._session = session
        self._prefix = prefix
        self._outputs = [output.name for output in session.get_outputs()]

        # A graph that cuts whole tracks pads them unless told otherwise; rows are cut already.
        self._constant_feeds: dict[str, NDArray[np.int64]] = {}
        if any(entry.name == "padding" for entry in session.get_overridable_initializers()):
            self._constant_feeds["padding"] = np.zeros((), dtype=np.int64)

        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._pool_process = 0  # the process whose threads the pool has

    @property
    def hears_tracks(self) -> bool:
        """Whether it wants the whole track, beside each segment or in place of it: see `run_track`."""
        return self.card.hears == "whole" or self._knows_tracks

    @property
    def computes_features(self) -> bool:
        """Whether Python computes what the graph reads."""
        return self._front_end is not None

    @property
    def _knows_tracks(self) -> bool:
        """Whether the front end makes of a track what its segments alone do not tell."""
        return self._front_end is not None and self._front_end.hears_tracks

    def run(self, rows: NDArray[np.floating]) -> dict[str, Float32]:
        """Run the model on segments.

        Parameters
        ----------
        rows : ndarray, shape (n_rows, card.segment_samples)
            One segment of sound a row, at `card.sample_rate_hz`, cut as the card says.

        Returns
        -------
        dict of str to float32 ndarray
            `tags` and `embedding`, or `logits`; each of shape (n_rows, width).

        Raises
        ------
        UsageError
            When the rows have another shape.
        """
        takes_any_length = self.card.hears == "whole" and rows.size > 0
        fits = rows.ndim == 2 and (rows.shape[1] == self.card.segment_samples or takes_any_length)
        if not fits or len(rows) == 0:
            raise UsageError(
                f"rows of shape {rows.shape} do not fit {self.card.name}",
                valid=f"(n, {self.card.segment_samples}), n at least 1",
            )
        if self._knows_tracks:
            raise UsageError(
                f"{self.card.name} knows the whole track and cannot be run on segments alone",
                next_step="Use Bundle.run_track, or musicgenre.Classifier",
            )

        sound = np.ascontiguousarray(rows, dtype=np.float32)
        if self._front_end is None:
            return self._run_each(sound, "waveform", lambda row: row)
        return self._run_each(sound, "features", self._front_end.compute)

    def run_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> dict[str, Float32]:
        """Run a model that hears whole tracks on some segments of one, or on all of it.

        Parameters
        ----------
        track : TrackSound
            All that is heard of the track.
        starts_s : sequence of float
            Where the segments begin in it, in seconds.
        segment_s : float or None
            Their length, where the front end has none of its own; `None`: the one segment is all that is heard.

        Returns
        -------
        dict of str to float32 ndarray
            As `run`, a row per segment.
        """
        if not self.hears_tracks:
            raise UsageError(f"{self.card.name} hears segments alone", next_step="Use Bundle.run")
        if not self._knows_tracks or self._front_end is None:
            waveform = track.at(self.card.sample_rate_hz)
            if segment_s is None:
                return self.run(waveform[None])
            rows = []
            for start_s in starts_s:
                start = round(start_s * self.card.sample_rate_hz)
                rows.append(fit_length(waveform[start:], self.card.segment_samples))
            return self.run(np.stack(rows))
        features = self._front_end.compute_track(track, starts_s, segment_s)
        return self._run_each(features, "features", lambda row: row)

    def _run_each(self, rows: Float32, feed: str, prepare: Callable[[Float32], Float32]) -> dict[str, Float32]:
        """Run rows one by one, several at a time; `prepare` makes of each, (1, ...), what the graph reads."""
        from musicgenre._onnxruntime import ERRORS

        names = [name.removeprefix(self._prefix) for name in self._outputs]

        def run_row(row: Float32) -> dict[str, Float32]:
            feeds = {f"{self._prefix}{feed}": prepare(row), **self._constant_feeds}
            try:
                results = dict(zip(names, self._session.run(self._outputs, feeds), strict=True))
                for stage in self._stages:
                    results |= stage.run(results)
            except ERRORS as error:
                raise _not_running(f"cannot run {self.card.name}", error) from error

            # What one stage hands to the next is large, and no answer.
            if self._stages:
                results = {name: results[name] for name in _OUTPUTS[self.card.kind]}
            return results

        # One row needs no pool; several are worth its hand-over.
        single = [rows[index : index + 1] for index in range(len(rows))]
        if self._threads == 1 or len(single) == 1:
            by_row = list(map(run_row, single))
        else:
            by_row = list(self._threads_here().map(run_row, single))
        return {name: np.concatenate([results[name] for results in by_row]) for name in by_row[0]}

    def _threads_here(self) -> ThreadPoolExecutor:
        """The threads of this process: a forked child has the pool of its parent, but none of the threads in it."""
        if self._pool is None or self._pool_process != os.getpid():
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bundle")
            self._pool_process = os.getpid()
        return self._pool


class PythonFrontEnd:
    """Computes the representation that a bundle's card describes.

    Parameters
    ----------
    settings : mapping
        The card's `front_end`: settings of the representation.
    name : str
        Name of the bundle, for messages.

    Raises
    ------
    BundleError
        When this version of musicgenre does not compute such features, or they need published weights that are not at
        hand and cannot be fetched.

    Attributes
    ----------
    hears_tracks : bool
        Whether some of the features describe the whole track: `compute_track` computes them.
    """

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        try:
            made = self._representation = representation_from_settings(settings)
        except (UsageError, *_OF_OTHER_KINDS) as error:
            next_step = "Update musicgenre, or export the run anew"
            if package := settings.get(PLUGIN_PACKAGE):
                next_step = f"Install the plugin that brings them, the Python package {package}"
            raise BundleError(
                f"the bundle {name} reads features that this musicgenre does not compute ({error})",
                next_step=next_step,
            ) from error

        self.hears_tracks = made.reads == "track"
        made.make_ready()

    def compute_track(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> Float32:
        """Compute the features of the segments of a track that begin at `starts_s`, (n, *shape)."""
        features = self._representation.compute_track(track, starts_s, segment_s)
        return np.stack(features).astype(np.float32, copy=False)

    def compute(self, rows: NDArray[np.floating]) -> Float32:
        """Compute the features of segments: (n, segment_samples) to (n, *shape)."""
        features = [self._representation.compute(np.asarray(row, dtype=np.float32)) for row in rows]
        return np.stack(features).astype(np.float32, copy=False)


def _not_running(what: str, error: Exception) -> BundleError:
    from musicgenre._onnxruntime import VERSION

    return BundleError(f"onnxruntime {VERSION} {what} ({str(error).splitlines()[0]})")
