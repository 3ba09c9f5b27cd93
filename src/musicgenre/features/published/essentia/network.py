"""Essentia's published networks: the front end that feeds them, and what a file's inputs and outputs are.

A published graph stays as it is. What it takes and gives is found by running it once: names differ between exports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.errors import BundleError
from musicgenre.features.published.essentia.published import (
    EFFNET,
    EMBEDDING_WIDTH,
    PATCH_FRAMES,
    SEGMENT_SAMPLES,
    SPEC,
    STYLES_WIDTH,
)

if TYPE_CHECKING:
    from musicgenre._onnxruntime import Session

Float32 = NDArray[np.float32]

N_BANDS = SPEC.n_mels
_N_TRIALS = 8  # rows of numbers that a network is tried with
_LARGEST_LOG_MEL = 6.0  # of loud sound
_SLACK = 1e-3  # of probabilities and their sum, in float32
_SEED = 2022


@dataclass(frozen=True, slots=True)
class Ports:
    """What a network's input and outputs are called.

    Attributes
    ----------
    input : str
        Its only input.
    outputs : dict of str to str
        Its outputs by what they mean to us.
    """

    input: str
    outputs: dict[str, str]


def front_graph() -> bytes:
    """Write the front end as an ONNX file: `waveform` (rows, SEGMENT_SAMPLES) to `patches` (rows, 128, 96)."""
    from dataclasses import replace

    from musicgenre._onnx import GraphBuilder
    from musicgenre.features.mel.onnx import add_melspectrogram

    graph = GraphBuilder("front_end")
    waveform = graph.input("waveform", "float32", ["rows", SEGMENT_SAMPLES])
    bands = add_melspectrogram(graph, waveform, replace(SPEC, center=False))  # rows are padded already
    graph.output(graph.transpose(bands, [0, 2, 1]), "patches", ["rows", PATCH_FRAMES, N_BANDS])
    return graph.build()


def untrained_graph() -> bytes:
    """Write a network of Discogs-EffNet's form, always the same, that was never trained: to try things out."""
    from musicgenre._onnx import GraphBuilder

    random = np.random.default_rng(_SEED)
    into = random.standard_normal((N_BANDS, EMBEDDING_WIDTH)) / np.sqrt(N_BANDS)
    out = random.standard_normal((EMBEDDING_WIDTH, STYLES_WIDTH)) / np.sqrt(EMBEDDING_WIDTH)

    graph = GraphBuilder("untrained")
    patches = graph.input("melspectrogram", "float32", ["n", PATCH_FRAMES, N_BANDS])
    mean = graph.op("ReduceMean", patches, axes=[1], keepdims=0)
    embedding = graph.op("Relu", graph.op("MatMul", mean, graph.floats(into)))
    styles = graph.op("Sigmoid", graph.op("MatMul", embedding, graph.floats(out)))
    graph.output(styles, "activations", ["n", STYLES_WIDTH])
    graph.output(embedding, "embeddings", ["n", EMBEDDING_WIDTH])
    return graph.build()


def effnet_ports(model: bytes, where: str) -> Ports:
    """Find out what Discogs-EffNet's input and outputs are called, the latter by their widths.

    Returns
    -------
    Ports
        Outputs `tags`, (n, 400) probabilities, and `embedding`, (n, 1280).

    Raises
    ------
    BundleError
        When it is another network, or another form of this one.
    """
    valid = (
        f"{EFFNET} with patches (n, {PATCH_FRAMES}, {N_BANDS}) of any number n, and outputs {STYLES_WIDTH} and "
        f"{EMBEDDING_WIDTH} wide: the file discogs-effnet-bsdynamic-1.onnx"
    )
    session = open_network(model, where)
    name, shape = _only_input(session, where, valid)
    if len(shape) != 3 or not _fits(shape[1:], (PATCH_FRAMES, N_BANDS)):
        raise BundleError(f"{where} takes {name} {_words(shape)}", valid=valid)
    if isinstance(shape[0], int):
        raise BundleError(
            f"{where} takes {shape[0]} patches at a time, no more and no fewer: a '-bs{shape[0]}' export",
            valid=valid,
            next_step="Take the '-bsdynamic' export",
        )

    random = np.random.default_rng(_SEED)
    patches = random.uniform(0.0, _LARGEST_LOG_MEL, (_N_TRIALS, PATCH_FRAMES, N_BANDS)).astype(np.float32)
    given = try_network(session, name, patches, where)
    tags = _of_width(given, STYLES_WIDTH, where, valid)
    embedding = _of_width(given, EMBEDDING_WIDTH, where, valid)
    if not are_probabilities(given[tags]):
        raise BundleError(f"{where} gives numbers in {tags} that are no probabilities", valid=valid)
    return Ports(name, {"tags": tags, "embedding": embedding})


def head_ports(model: bytes, n_classes: int, predictions: str, where: str) -> tuple[Ports, int, bool]:
    """Find out what a head's input and output are called, and what it reads and says.

    Parameters
    ----------
    model : bytes
        An ONNX head, (n, width) to (n, n_classes).
    n_classes : int
        How many names its metadata has.
    predictions : str
        What the metadata calls the output; it tells between outputs of one width, and may be empty.
    where : str
        What to call it in errors.

    Returns
    -------
    Ports
        Output `logits`: probabilities.
    int
        Width of its input.
    bool
        Whether the probabilities of a row sum to one: one class is named, not any number of them.

    Raises
    ------
    BundleError
        When it is no such head.
    """
    valid = f"a head (n, width) to (n, {n_classes}), as many probabilities as its metadata has classes"
    session = open_network(model, where)
    name, shape = _only_input(session, where, valid)
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise BundleError(
            f"{where} is no head: it takes {name} {_words(shape)}",
            valid=valid,
            next_step=f"{EFFNET} itself goes by its name: musicgenre bundles get {EFFNET} --from FILE",
        )
    if shape[0] not in (None, 1) and not isinstance(shape[0], str):
        raise BundleError(f"{where} takes {shape[0]} rows at a time, no more and no fewer", valid=valid)

    n_rows = 1 if shape[0] == 1 else _N_TRIALS
    values = np.random.default_rng(_SEED).standard_normal((n_rows, shape[1])).astype(np.float32)
    given = try_network(session, name, values, where)
    fitting = [output for output, array in given.items() if array.shape[-1] == n_classes]

    # Of several the metadata tells which one; where an export calls it otherwise, only one gives probabilities.
    if len(fitting) > 1:
        by_name = [output for output in fitting if _bare(output) == _bare(predictions)]
        fitting = by_name or [output for output in fitting if are_probabilities(given[output])]
    if len(fitting) != 1:
        raise BundleError(f"{where} gives {_outputs_in_words(given)}", valid=valid)

    chosen = given[fitting[0]]
    if not are_probabilities(chosen):
        raise BundleError(
            f"{where} gives numbers in {fitting[0]} that are no probabilities",
            valid=valid,
            next_step="Heads that measure something, as arousal and valence, are not taken",
        )
    sums_to_one = bool(np.abs(chosen.sum(axis=1) - 1.0).max() < _SLACK) and n_classes > 1
    return Ports(name, {"logits": fitting[0]}), shape[1], sums_to_one


def open_network(model: bytes, where: str) -> Session:
    """Load a published graph.

    Raises
    ------
    BundleError
        When ONNX Runtime cannot load it.
    """
    from musicgenre._onnxruntime import ERRORS, VERSION, open_session

    try:
        return open_session(model)
    except ERRORS as error:
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"onnxruntime {VERSION} cannot load {where} ({reason})", next_step="Fetch it again, or update onnxruntime"
        ) from error


def try_network(session: Session, name: str, values: Float32, where: str) -> dict[str, Float32]:
    """Run a graph on some rows; its outputs by name, each (n_rows, width).

    Raises
    ------
    BundleError
        When it does not run, or gives something that is no row of numbers for each.
    """
    from musicgenre._onnxruntime import ERRORS

    names = [output.name for output in session.get_outputs()]
    try:
        arrays = session.run(names, {name: values})
    except ERRORS as error:
        raise BundleError(f"{where} cannot be run ({str(error).splitlines()[0]})") from error

    given = {}
    for output, array in zip(names, arrays, strict=True):
        is_table = isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype == np.float32
        if is_table and len(array) == len(values):
            given[output] = array
    if not given or not all(np.isfinite(array).all() for array in given.values()):
        raise BundleError(f"{where} gives no finite numbers", valid="one row of float32 numbers for each that goes in")
    return given


def are_probabilities(values: Float32) -> bool:
    """Tell whether all numbers lie between 0 and 1."""
    return bool(values.min() >= -_SLACK and values.max() <= 1.0 + _SLACK)


def _only_input(session: Session, where: str, valid: str) -> tuple[str, list[Any]]:
    """Name and shape of the input of a graph that has one, of float32."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        taken = ", ".join(f"{entry.name} {_words(entry.shape)} {entry.type}" for entry in inputs)
        raise BundleError(f"{where} takes {taken or 'nothing'}", valid=valid)
    return inputs[0].name, list(inputs[0].shape)


def _of_width(given: dict[str, Float32], width: int, where: str, valid: str) -> str:
    """Name the only output of a width."""
    fitting = [name for name, array in given.items() if array.shape[1] == width]
    if len(fitting) != 1:
        raise BundleError(f"{where} gives {_outputs_in_words(given)}", valid=valid)
    return fitting[0]


def _fits(shape: list[Any], wanted: tuple[int, ...]) -> bool:
    """Tell whether a shape is the wanted one, as far as it tells sizes: a length may be a name, for any."""
    return all(size == want for size, want in zip(shape, wanted, strict=True) if isinstance(size, int))


def _words(shape: list[Any]) -> str:
    return f"({', '.join(str(size if size is not None else '?') for size in shape)})"


def _outputs_in_words(given: dict[str, Float32]) -> str:
    return ", ".join(f"{name} {array.shape[1]} wide" for name, array in given.items())


def _bare(name: str) -> str:
    """Leave out the number that TensorFlow puts behind the name of an output."""
    return name.partition(":")[0]
