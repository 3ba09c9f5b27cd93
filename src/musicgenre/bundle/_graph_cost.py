"""What a graph costs before it runs: the memory its tensors need, and the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.bundle._graph import Graph, GraphError
from musicgenre.bundle._graph_call import Shape, Value
from musicgenre.bundle._graph_shapes import infer

MOST_WORK = 10**13
"""Multiplications, or values read and written, for one segment: minutes on one core, ten times a large transformer."""

MOST_WORK_OF_ONE = 10**12
"""The same for one operator, which nothing ends before it is done."""

MOST_WORK_AT_LOAD = 2 * 10**10
"""The same for what does not depend on the sound, which onnxruntime computes as it loads and nothing can end."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a graph needs.

    Attributes
    ----------
    n_bytes : int
        Most memory that tensors take at a time while one segment is computed, constants included.
    n_constant_bytes : int
        The part of it that stays, however many segments are computed side by side.
    shapes : dict
        Shape of each output, by name.
    kinds : dict
        Element type of each output, by name.
    """

    n_bytes: int
    n_constant_bytes: int
    shapes: dict[str, Shape]
    kinds: dict[str, int]


def cost_of(graph: Graph, feeds: Mapping[str, Shape], values: Mapping[str, NDArray[Any]], most_bytes: int) -> Cost:
    """Follow the shapes through a graph.

    Parameters
    ----------
    graph : Graph
        The graph.
    feeds : mapping of str to tuple of int
        Shape of each float32 input.
    values : mapping of str to ndarray
        What is fed in place of constants of the same name.
    most_bytes : int
        Memory that it may need.

    Raises
    ------
    GraphError
        It would need more memory or work than it may, or a size in it depends on the sound.
    """
    if graph.inputs.keys() != feeds.keys():
        raise GraphError(f"it takes {', '.join(graph.inputs)}, not {', '.join(feeds)}")
    tensors: dict[str, Value] = {name: Value(shape) for name, shape in feeds.items()}
    n_constant_bytes = 0
    for name, tensor in graph.constants.items():
        known = np.asarray(values[name]) if name in values else tensor.values()
        tensors[name] = Value(tensor.shape, tensor.kind, known, is_constant=True)
        n_constant_bytes += tensors[name].n_bytes

    last_use: dict[str, int] = dict.fromkeys(graph.outputs, len(graph.nodes))
    for number, node in enumerate(graph.nodes):
        for name in node.inputs:
            last_use[name] = max(last_use.get(name, 0), number)
    ending: dict[int, list[str]] = {}
    for name, number in last_use.items():
        ending.setdefault(number, []).append(name)

    # what lives now, and the most there was; what does not depend on the sound is kept for good
    living = sum(tensors[name].n_bytes for name in feeds)
    most = living
    work = work_at_load = 0
    for number, node in enumerate(graph.nodes):
        inputs = [tensors[name] if name else None for name in node.inputs]
        outputs, node_work, scratch_bytes = infer(node, inputs, graph.opset)

        for name, output in zip(node.outputs, outputs, strict=False):
            tensors[name] = output
            if output.is_constant:
                n_constant_bytes += output.n_bytes
            else:
                living += output.n_bytes
        if outputs[0].is_constant:
            work_at_load += node_work
        work += node_work
        most = max(most, living + scratch_bytes)

        if most + n_constant_bytes > most_bytes:
            shape = " x ".join(map(str, outputs[0].shape))
            raise GraphError(
                f"it would need more than {most_bytes // 10**6:,} MB of memory (at the operator {node.kind}, which "
                f"gives {shape[:80]} values)"
            )
        if work > MOST_WORK or node_work > MOST_WORK_OF_ONE or work_at_load > MOST_WORK_AT_LOAD:
            raise GraphError(f"it would compute for too long (at the operator {node.kind})")
        for name in ending.get(number, ()):
            if name and not tensors[name].is_constant:
                living -= tensors[name].n_bytes

    shapes = {name: tensors[name].shape for name in graph.outputs}
    kinds = {name: tensors[name].kind for name in graph.outputs}
    return Cost(most + n_constant_bytes, n_constant_bytes, shapes, kinds)
