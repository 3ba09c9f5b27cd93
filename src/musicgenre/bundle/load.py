"""Open a bundle, load its model and run it. Needs onnxruntime and NumPy, nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._parallel import usable_cores
from musicgenre._text import printable, shortened
from musicgenre._transfer import fetching_nothing
from musicgenre.bundle._graph import FLOAT, INT64, Graph, GraphError, read_graph
from musicgenre.bundle._graph_cost import Cost, cost_of
from musicgenre.bundle.card import BundleCard
from musicgenre.bundle.container import MOST_MODEL_MB, read_sealed
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

_OUTPUTS: dict[str, frozenset[str]] = {
    "classifier": frozenset({"logits"}),
    "embedding": frozenset({"tags", "embedding"}),
}

_MORE_OUTPUTS = frozenset({"embedding"})
"""What a classifier may give beside: an export hears it before it knows what to put on the card."""

_GRAPH_ADVICE = "docs/bundles.md says what the graph of a bundle may hold"
_KEPT_COSTS = 1_000  # lengths of whole tracks of which it is remembered what they cost
_SHOWN, _SHOWN_CHARACTERS = 6, 300  # inputs and outputs in a message, and characters of them

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


def open_bundle(source: str | os.PathLike[str] | BundleFile, *, max_model_mb: int = MOST_MODEL_MB) -> BundleFile:
    """Read a bundle's file and check it, without loading the model.

    Parameters
    ----------
    source : path or BundleFile
        The `.onnx` file; one that is open already comes back as it is, and is not read again.
    max_model_mb : int
        How large the file may be, in millions of bytes.

    Raises
    ------
    BundleError
        When the file is missing, too large, not a bundle, too new, or damaged.
    """
    if isinstance(source, BundleFile):
        return source
    path = Path(source)
    content, card = read_sealed(path, most_mb=max_model_mb)
    return BundleFile(path, card, content)


def read_card(path: str | os.PathLike[str]) -> BundleCard:
    """Read and check a bundle's card; errors are those of `open_bundle`."""
    return open_bundle(path).card


def load_bundle(
    source: str | os.PathLike[str] | BundleFile, *, threads: int | None = None, max_model_mb: int = MOST_MODEL_MB
) -> Bundle:
    """Load a bundle. It may come from anybody: what it may hold and need is told in docs/bundles.md.

    Parameters
    ----------
    source : path or BundleFile
        The `.onnx` file, or what `open_bundle` gave.
    threads : int, optional
        Rows that one `Bundle.run` may run at a time; as many as there are cores by default, fewer where they would not
        fit into memory together.
    max_model_mb : int
        How large the file may be, and how much memory it may need while it runs, in millions of bytes.

    Raises
    ------
    BundleError
        When the file is missing, not a bundle, too new, damaged, or holds or needs more than it may.
    MissingExtraError
        When the bundle's front end needs packages that are not installed.
    """
    file = open_bundle(source, max_model_mb=max_model_mb)
    if file.card.kind == "ensemble":
        raise BundleError(
            f"{file.path} is an ensemble of {len(file.card.members)} models",
            valid="a bundle of one model",
            next_step="musicgenre classify --model takes it; in Python: musicgenre.bundle.load_ensemble",
        )
    return bundle_of(file.content, file.card, str(file.path), threads=threads, max_model_mb=max_model_mb)


def bundle_of(
    model: bytes,
    card: BundleCard,
    where: str,
    *,
    threads: int | None = None,
    max_model_mb: int = MOST_MODEL_MB,
    prefix: str = "",
) -> Bundle:
    """Make a bundle of an ONNX model and its card.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    card : BundleCard
        Its card.
    where : str
        What to call it in errors.
    threads, max_model_mb, prefix
        As `load_bundle` and `Bundle` take them.

    Raises
    ------
    BundleError
        When the model cannot be loaded, does not do what its card says, or reads features that cannot be computed.
    MissingExtraError
        When its front end needs packages that are not installed.
    """
    require(f"the bundle {card.name}", card.extra, *_PACKAGES.get(card.extra, ()))

    # Our own look at the graph comes first: what it holds, and whether it does what its card says.
    try:
        graph = read_graph(model)
    except GraphError as error:
        raise BundleError(f"musicgenre cannot load {where}: {error}", next_step=_GRAPH_ADVICE) from error
    taken = {name.removeprefix(prefix): shape for name, shape in graph.inputs.items()}
    given: dict[str, Sequence[object] | None] = {}
    given.update((name.removeprefix(prefix), shape) for name, shape in graph.outputs.items())

    # A front end in Python may need no extra at all: then only the graph tells that there is one.
    feed = "features" if card.extra or "features" in taken else "waveform"

    # What published networks read of it must be there; their outputs count as the graph's.
    stages = tuple(load_stage(stage, where) for stage in card.published_stages)
    reads_all = True
    for stage in stages:
        reads_all = reads_all and stage.stage.reads in given
        given |= stage.shapes

    # Graph and card must agree, as far as the graph tells sizes: a length may be a name, for any.
    output = "tags" if card.kind == "embedding" else "logits"
    length = (taken.get(feed) or [None])[-1]
    width = (given.get(output) or [None])[-1]
    fits = reads_all and taken.keys() == {feed} and _needed_outputs(card) <= given.keys()
    if feed == "waveform" and isinstance(length, int):
        fits = fits and length == card.segment_samples
    if isinstance(width, int):
        fits = fits and width == len(card.labels)
    if not fits:
        raise _not_as_told(where, card, f"takes {_in_words(taken)} and gives {_in_words(given)}")

    # A graph that cuts whole tracks pads them unless told otherwise; rows are cut already.
    constant_feeds = {"padding": np.zeros((), dtype=np.int64)} if _takes_padding(graph) else {}
    front_end = PythonFrontEnd(card.front_end, card.name) if feed == "features" else None
    row = (card.segment_samples,) if front_end is None else front_end.shape
    try:
        cost = cost_of(graph, {f"{prefix}{feed}": (1, *row)}, constant_feeds, max_model_mb * 1_000_000)
    except GraphError as error:
        raise BundleError(f"musicgenre cannot run {card.name}: {error}", next_step=_GRAPH_ADVICE) from error

    # What the stages read is no answer, and may have any shape; what they give is looked at as they give it.
    answers = _needed_outputs(card) | (_MORE_OUTPUTS & given.keys())
    answers -= {name for stage in stages for name in stage.shapes}
    handed_on = {stage.stage.reads for stage in stages}
    names = [name for name in graph.outputs if name.removeprefix(prefix) in answers | handed_on]
    shapes = {name.removeprefix(prefix): cost.shapes[name] for name in names}
    fits = all(cost.kinds[name] == FLOAT for name in names)
    fits = fits and all(_is_answer(name, shapes[name], card) for name in answers)
    if not fits:
        raise _not_as_told(where, card, f"gives {_in_words(shapes)} for a segment")

    from musicgenre._onnxruntime import ERRORS, open_session

    try:
        session = open_session(model)
    except ERRORS as error:
        raise _not_running(f"cannot load {where}", error) from error

    # Side by side only as many rows as fit.
    room = Room(max_model_mb * 1_000_000 - cost.n_constant_bytes)
    n_threads = usable_cores() if threads is None else threads
    network = Network(session, graph, names, constant_feeds, max_model_mb * 1_000_000, room, {(1, *row): cost})
    return Bundle(card, network, n_threads, front_end, prefix, stages)


class Room:
    """Memory that rows share while they are computed side by side.

    Parameters
    ----------
    n_bytes : int
        How much there is.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        self._n_taken = 0
        self._changed = Condition()

    @contextmanager
    def taken(self, n_bytes: int) -> Iterator[None]:
        """Wait until so much is free, or nothing is taken, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._n_taken or self._n_taken + n_bytes <= self._n_bytes)
            self._n_taken += n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._n_taken -= n_bytes
                self._changed.notify_all()


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A graph that was looked at, ready to run.

    Attributes
    ----------
    session : Session
        The session.
    graph : Graph
        What it was made from.
    outputs : list of str
        The outputs to compute.
    constant_feeds : dict
        What is fed beside the row.
    most_bytes : int
        Memory that it may need.
    room : Room
        What is left of it for rows.
    costs : dict
        What rows cost, by their shape.
    """

    session: Session
    graph: Graph
    outputs: list[str]
    constant_feeds: dict[str, NDArray[np.int64]]
    most_bytes: int
    room: Room
    costs: dict[tuple[int, ...], Cost]

    def run(self, name: str, row: Float32) -> list[Float32]:
        """Run one row, and check that what comes out is what was worked out before.

        Raises
        ------
        Exception
            One of `musicgenre._onnxruntime.RUN_ERRORS`.
        GraphError
            A row of this length costs too much, or something else came out.
        """
        from musicgenre._onnxruntime import run_session

        # Whole tracks have lengths of their own.
        cost = self.costs.get(row.shape)
        if cost is None:
            cost = cost_of(self.graph, {name: row.shape}, self.constant_feeds, self.most_bytes)
            if len(self.costs) < _KEPT_COSTS:
                self.costs[row.shape] = cost

        with self.room.taken(cost.n_bytes - cost.n_constant_bytes):
            results: list[Float32] = run_session(self.session, self.outputs, {name: row, **self.constant_feeds})
        for result, output in zip(results, self.outputs, strict=True):
            shape = cost.shapes[output]
            if not isinstance(result, np.ndarray) or result.shape != shape or result.dtype != np.float32:
                told = f"{result.dtype} of shape {result.shape}" if isinstance(result, np.ndarray) else "no array"
                raise GraphError(f"its output {output} is {told}, not float32 of shape {shape}")
        return results


def _needed_outputs(card: BundleCard) -> frozenset[str]:
    """Names of the outputs that a bundle with this card must give."""
    reads = {card.support["reads"]} if card.support else set()
    return _OUTPUTS[card.kind] | reads


def _is_answer(name: str, shape: Sequence[object], card: BundleCard) -> bool:
    """Tell whether an output of this shape can answer for one row: `tags` and `logits` have a value a label."""
    width = shape[1] if len(shape) == 2 and shape[0] == 1 else 0
    if name == "embedding":
        return bool(width) and (not card.support or width == len(card.support["centre"]))
    return width == len(card.labels)


def _takes_padding(graph: Graph) -> bool:
    """Tell whether a graph cuts whole tracks: it has an optional input `padding`."""
    padding = graph.constants.get("padding")
    return "padding" in graph.defaults and padding is not None and (padding.kind, padding.shape) == (INT64, ())


def _in_words(shapes: Mapping[str, Sequence[object] | None]) -> str:
    """Name inputs or outputs with their shapes, a few of them, so that a line can show them."""
    told = [f"{name} {'' if shape is None else list(shape)}" for name, shape in shapes.items()]
    text = printable(shortened(told, _SHOWN))
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _not_as_told(where: str, card: BundleCard, does: str) -> BundleError:
    feed, output = ("features or waveform", "tags" if card.kind == "embedding" else "logits")
    gives = f"{output} (rows, {len(card.labels)})"
    if "embedding" in _needed_outputs(card):
        width = len(card.support["centre"]) if card.support else "width"
        gives += f" and embedding (rows, {width})"
    return BundleError(
        f"the graph in {where} does not do what its card says: it {does}",
        valid=f"{feed} (rows, {card.segment_samples}) to {gives}",
        next_step="Get or export it anew",
    )


class Bundle:
    """A loaded model. Safe to share between threads.

    Rows run one by one, several at a time: a single row keeps a core's cache warm, and independent rows need no
    waiting for each other, unlike threads inside one operator.

    Parameters
    ----------
    card : BundleCard
        What the model hears and says.
    network : Network
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
        network: Network,
        threads: int = 1,
        front_end: PythonFrontEnd | None = None,
        prefix: str = "",
        stages: tuple[LoadedStage, ...] = (),
    ) -> None:
        self.card = card
        self._stages = stages
        self._front_end = front_end
        self._network = network
        self._prefix = prefix
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
        from musicgenre._onnxruntime import RUN_ERRORS

        names = [name.removeprefix(self._prefix) for name in self._network.outputs]
        wanted = _needed_outputs(self.card) | _MORE_OUTPUTS

        def run_row(row: Float32) -> dict[str, Float32]:
            try:
                given = self._network.run(f"{self._prefix}{feed}", prepare(row))
                results = dict(zip(names, given, strict=True))
                for stage in self._stages:
                    results |= stage.run(results)
            except RUN_ERRORS as error:
                raise _not_running(f"cannot run {self.card.name}", error) from error
            except GraphError as error:
                raise BundleError(f"{self.card.name} cannot be used: {error}", next_step=_GRAPH_ADVICE) from error

            # What one stage hands to the next is large, and no answer.
            answers = {name: results[name] for name in results if name in wanted}
            for name, values in answers.items():
                if not _is_answer(name, values.shape, self.card) or values.dtype != np.float32:
                    raise BundleError(
                        f"{self.card.name} gives {name} of shape {values.shape} for a segment",
                        valid=f"(1, {len(self.card.labels)}), or (1, width) for an embedding, as its support has it",
                    )
            return answers

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
        hand: nothing is fetched because a card names it.

    Attributes
    ----------
    hears_tracks : bool
        Whether some of the features describe the whole track: `compute_track` computes them.
    shape : tuple of int
        Shape of the features of one segment.
    """

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        try:
            with fetching_nothing(f"the bundle {name}"):
                made = self._representation = representation_from_settings(settings)
                self.hears_tracks = made.reads == "track"
                self.shape = made.shape()
                made.make_ready()
        except (UsageError, *_OF_OTHER_KINDS) as error:
            next_step = "Update musicgenre, or export the run anew"
            if package := settings.get(PLUGIN_PACKAGE):
                next_step = f"Install the plugin that brings them, the Python package {package}"
            raise BundleError(
                f"the bundle {name} reads features that this musicgenre does not compute "
                f"({printable(str(error))[:_SHOWN_CHARACTERS]})",
                next_step=next_step,
            ) from error

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

    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return BundleError(f"onnxruntime {VERSION} {what} ({printable(reason)})")
