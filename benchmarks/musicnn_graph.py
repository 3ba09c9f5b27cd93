"""What makes the MusiCNN graph quick: the same network written in several ways, timed against each other in one run.

Run with ``python benchmarks/musicnn_graph.py``; it fetches the published weights (29 MB, or ``--from WHEEL``). The
sound is 10 patches (30 s) of synthetic music, or ``--track FILE``. The variants take turns; the best of all rounds
counts, in CPU time on one core. ``largest tag difference`` is against the network as published.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from musicgenre._onnx import GraphBuilder
from musicgenre.bundle import load_bundle, save_bundle
from musicgenre.bundle.musicnn import convert
from musicgenre.features.mel import onnx as _onnx
from musicgenre.features.published.musicnn import graph as musicnn_graph
from musicgenre.features.published.musicnn.checkpoint import Checkpoint
from musicgenre.features.published.musicnn.graph import TEMPORAL, TIMBRAL, Front, Layer, Read, batch_norm, layer_of
from musicgenre.features.published.musicnn.published import HOP_SAMPLES, SEGMENT_SAMPLES, SPEC, published
from musicgenre.features.published.musicnn.weights import find_weights, read_checkpoint

N_PATCHES = 10
_PADS = {"conv2d": [3, 0, 3, 0], "conv2d_1": [3, 0, 3, 0]}

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Variant:
    """One way to write the network."""

    name: str
    build: Callable[[Read], bytes]


def plain_front(maximum_first: bool, leave_out_dead: bool) -> Callable[[GraphBuilder, str, Read], Front]:
    """Make a first layer of ordinary convolutions over images."""

    def add(graph: GraphBuilder, patches: str, read: Read) -> Front:
        scale, shift = batch_norm(read, 0)
        normed = graph.op("Add", graph.op("Mul", patches, graph.floats(scale)), graph.floats(shift))
        image = graph.op("Unsqueeze", normed, graph.integers([1]))  # (rows, 1, 187, 96)
        tensors, alive, constants = [], [], []
        for name, norm in (*TIMBRAL, *TEMPORAL):
            layer = layer_of(read, name, norm)
            kept = layer.alive if leave_out_dead else np.ones_like(layer.alive)
            tensors.append(_add_image_layer(graph, image, layer, kept, name, maximum_first))
            alive.append(kept)
            constants.append(np.where(kept, 0.0, layer.constants))
        return Front(graph.op("Concat", *tensors, axis=1), np.concatenate(alive), np.concatenate(constants))

    return add


def _add_image_layer(
    graph: GraphBuilder,
    image: str,
    layer: Layer,
    kept: NDArray[np.bool_],
    name: str,
    maximum_first: bool,
) -> str:
    """One convolution, bias, ReLU, batch-norm and maximum over frequency, in either order."""
    sign = layer.sign[kept] if maximum_first else np.ones(kept.sum())
    kernel = (layer.kernel * (1.0 if maximum_first else layer.sign))[..., kept].transpose(2, 0, 1)[:, None]
    n_taps = kernel.shape[2]
    pads = _PADS.get(name, [(n_taps - 1) // 2, 0, n_taps // 2, 0])
    hidden = graph.op("Conv", image, graph.floats(kernel), pads=pads)
    if maximum_first:
        hidden = graph.op("ReduceMax", hidden, axes=[3], keepdims=1)

    def column(values: NDArray[np.float64]) -> str:
        return graph.floats(values[:, None, None])

    hidden = graph.op("Add", graph.op("Mul", hidden, column(sign)), column(layer.bias[kept]))
    scaled = graph.op("Mul", graph.op("Relu", hidden), column(layer.scale[kept]))
    hidden = graph.op("Add", scaled, column(layer.shift[kept]))
    if maximum_first:
        return graph.op("Squeeze", hidden, graph.integers([3]))
    return graph.op("ReduceMax", hidden, axes=[3], keepdims=0)


def quantised(model: bytes, rows: Float32, folder: Path) -> bytes:
    """Exchange the network's convolutions for 8-bit ones, calibrated on the very sound they will hear."""
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows = iter(rows)

        def get_next(self) -> dict[str, NDArray[np.generic]] | None:
            row = next(self._rows, None)
            return None if row is None else {"waveform": row[None], "padding": np.zeros((), dtype=np.int64)}

    graph = onnx.load_from_string(model)
    for node in graph.graph.node:
        node.name = node.output[0]
    layers = [node.name for node in graph.graph.node if node.op_type == "Conv"][2:]  # the first two are the DFT
    onnx.save(graph, folder / "float.onnx")
    quantization.quantize_static(
        folder / "float.onnx",
        folder / "int8.onnx",
        Reader(),
        quant_format=quantization.QuantFormat.QOperator,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,  # unsigned by signed is the quick pair
        nodes_to_quantize=layers,
    )
    return (folder / "int8.onnx").read_bytes()


def variant(name: str, *, front: object = None, prune: bool = True, fold: bool = True, at_once: int = 32) -> Variant:
    """Describe a variant by what is exchanged in the real code."""

    def build(read: Read) -> bytes:
        with ExitStack() as stack:
            if front is not None:
                stack.enter_context(mock.patch.object(musicnn_graph, "add_front", front))
            if not prune:
                stack.enter_context(mock.patch.object(musicnn_graph, "NEGLIGIBLE", -1.0))
            if not fold:
                stack.enter_context(mock.patch.object(_onnx, "_folds", lambda _: False))
            stack.enter_context(mock.patch.object(musicnn_graph, "FILTERS_AT_ONCE", at_once))
            return musicnn_graph.patch_graph("musicnn", read)

    return Variant(name, build)


VARIANTS = (
    variant("as published: convolution, ReLU, batch-norm, maximum", front=plain_front(False, False), fold=False),
    variant("maximum before bias, ReLU and batch-norm", front=plain_front(True, False), fold=False),
    variant("  + filters in the Fourier domain, all", prune=False, fold=False, at_once=204),
    variant("  + the same, 32 filters at a time", prune=False, fold=False),
    variant("  + dead filters left out, convolutions", front=plain_front(True, True), fold=False),
    variant("  + both", fold=False),
    variant("  + front end folded (what bundles hold)"),
)


def session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Load a graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tags_of(loaded: onnxruntime.InferenceSession, rows: Float32, at_once: int = 1) -> Float32:
    """Run a graph over rows, some at a time."""
    padding = np.zeros((), dtype=np.int64)
    parts = [
        loaded.run(["tags"], {"waveform": rows[start : start + at_once], "padding": padding})[0]
        for start in range(0, len(rows), at_once)
    ]
    return np.concatenate(parts)


def best_ms(works: list[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Let the works take turns; return the best time of each in ms."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            start = clock()
            work()
            best[index] = min(best[index], 1e3 * (clock() - start))
    return best


def compare_variants(read: Read, rows: Float32, rounds: int, int8: Path | None) -> None:
    """Print the table of variants, two of them also in 8 bits if there is a folder for them."""
    names = [each.name for each in VARIANTS]
    models = [each.build(read) for each in VARIANTS]
    for index in (1, 4) if int8 is not None else ():
        names.append(f"int8: {names[index].strip(' +')}")
        models.append(quantised(models[index], rows, int8))
    sessions = [session(model) for model in models]
    expected = tags_of(sessions[0], rows)
    works = [lambda loaded=loaded: tags_of(loaded, rows) for loaded in sessions]
    times = best_ms(works, rounds, time.process_time)
    print(f"{'10 patches (30 s), one core':54}    ms   ratio   file MB   largest tag difference")
    for name, model, loaded, took in zip(names, models, sessions, times, strict=True):
        difference = np.abs(tags_of(loaded, rows) - expected).max()
        print(f"{name:54} {took:5.0f} {times[0] / took:7.2f} {len(model) / 1e6:9.2f}   {difference:.1e}")


def compare_batches(model: bytes, rows: Float32, rounds: int) -> None:
    """Print how many patches a call should take."""
    loaded = session(model)
    sizes = (1, 2, 5, 10)
    times = best_ms([lambda size=size: tags_of(loaded, rows, size) for size in sizes], rounds, time.process_time)
    print("\npatches a call, one core:", *(f"{size}: {took:.1f} ms" for size, took in zip(sizes, times, strict=True)))


def compare_threads(path: Path, rows: Float32, rounds: int) -> None:
    """Print two cores: threads inside operators against rows side by side, by the clock on the wall."""
    model = path.read_bytes()
    one, two = load_bundle(path, threads=1), load_bundle(path, threads=2)
    inside = session(model, threads=2)
    works = [
        lambda: one.run(rows),
        lambda: tags_of(inside, rows),
        lambda: tags_of(inside, rows, 10),
        lambda: two.run(rows),
    ]
    names = ("one thread", "two inside operators", "the same, one call", "two rows side by side")
    times = best_ms(works, rounds, time.perf_counter)
    print(
        "\nwall time on two cores:",
        *(f"{n}: {t:.1f} ms ({times[0] / t:.2f})" for n, t in zip(names, times, strict=True)),
        sep="\n  ",
    )


def time_loading(path: Path, rounds: int) -> None:
    """Print what a cold start pays."""
    took = best_ms([lambda: load_bundle(path, threads=1)], rounds, time.process_time)[0]
    print(f"\nloading the bundle, checksum included: {took:.0f} ms")


def synthetic_rows() -> Float32:
    """Make chords with a beat and noise, cut into rows."""
    rng = np.random.default_rng(0)
    n_samples = (N_PATCHES - 1) * HOP_SAMPLES + SEGMENT_SAMPLES
    turns = 2 * np.pi * np.arange(n_samples) / SPEC.sample_rate_hz
    chord = sum(np.sin(pitch * turns) for pitch in (110.0, 220.0, 277.2, 329.6, 1318.5))
    waveform = 0.1 * chord * np.maximum(0, np.sin(2.0 * turns)) + 0.02 * rng.standard_normal(n_samples)
    return np.stack(list(_cut(waveform.astype(np.float32))))


def rows_of(track: Path) -> Float32:
    """Read a real track's first patches."""
    from musicgenre import audio

    waveform = audio.load(
        track, SPEC.sample_rate_hz, duration_s=N_PATCHES * HOP_SAMPLES / SPEC.sample_rate_hz
    ).waveform
    edge = np.zeros(SPEC.n_fft // 2, dtype=np.float32)
    return np.stack(list(_cut(np.concatenate([edge, waveform, edge]))))


def _cut(waveform: Float32) -> Iterator[Float32]:
    for start in range(0, len(waveform) - SEGMENT_SAMPLES + 1, HOP_SAMPLES):
        yield waveform[start : start + SEGMENT_SAMPLES]


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--from", dest="source", type=Path, help="the published wheel, or a folder with its checkpoints"
    )
    parser.add_argument("--model", default="msd-musicnn", choices=["msd-musicnn", "mtt-musicnn"])
    parser.add_argument("--track", type=Path, help="a track to hear instead of synthetic music")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--int8", action="store_true", help="try 8-bit convolutions too")
    arguments = parser.parse_args()
    rows = synthetic_rows() if arguments.track is None else rows_of(arguments.track)
    with tempfile.TemporaryDirectory() as folder:
        weights = find_weights(arguments.source, Path(folder), allow_network=True, report=print)
        model = published(arguments.model)
        files = read_checkpoint(weights, model)
        print(f"{model.name}, onnxruntime {onnxruntime.__version__}\n")
        compare_variants(Checkpoint(*files).read, rows, arguments.rounds, Path(folder) if arguments.int8 else None)
        path = Path(folder) / "bundle.onnx"
        save_bundle(path, *convert(model, *files))
        compare_batches(path.read_bytes(), rows, arguments.rounds)
        compare_threads(path, rows, 3 * arguments.rounds)
        time_loading(path, arguments.rounds)


if __name__ == "__main__":
    main()
