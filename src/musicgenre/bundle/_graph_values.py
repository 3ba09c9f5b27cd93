"""The small numbers in a graph that decide how large its tensors are, computed as onnxruntime computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.bundle._graph import DTYPES, MOST_KNOWN, Node

_NEAR = 1e-4  # a number so near to a whole one might be rounded to another elsewhere

Array = NDArray[Any]


def evaluate(node: Node, inputs: Sequence[Array | None], shape: tuple[int, ...]) -> Array | None:
    """Compute the first result of an operator whose inputs are known.

    Parameters
    ----------
    node : Node
        The operator.
    inputs : sequence of ndarray or None
        What it takes; `None` for what is not there or not known.
    shape : tuple of int
        Shape of the result.

    Returns
    -------
    ndarray or None
        The result; `None` where it is not known.
    """
    compute = _COMPUTE.get(node.kind)
    if (
        compute is None
        or not inputs
        or any(value is None for value in inputs[: _N_NEEDED.get(node.kind, len(inputs))])
    ):
        return None
    try:
        with np.errstate(all="ignore"):
            result = compute(node.attributes, *inputs)
    except (ValueError, IndexError, TypeError, OverflowError):  # onnxruntime refuses it too, as it runs
        return None
    if result is None:
        return None
    result = np.asarray(result)
    return result.reshape(shape) if result.size == math.prod(shape) else None


def _divide(_: Mapping[str, Any], a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), a.dtype)  # towards zero, as in C


def _modulo(attributes: Mapping[str, Any], a: Array, b: Array) -> Array:
    return np.asarray(np.fmod(a, b) if attributes.get("fmod", 0) else np.mod(a, b))


def _cast(attributes: Mapping[str, Any], value: Array) -> Array | None:
    dtype = DTYPES.get(attributes.get("to", 0))
    if dtype is None:
        return None
    if value.dtype.kind == "f" and dtype.kind in "iu":
        return None if _is_unsure(value) else np.trunc(value).astype(dtype)
    return value.astype(dtype)


def _rounded(function: Callable[[Array], Array]) -> Callable[..., Array | None]:
    return lambda _, value: None if _is_unsure(value) else function(value)


def _is_unsure(value: Array) -> bool:
    """Whether rounding on the way may decide which whole number comes out, or it is beyond all sizes."""
    away = np.abs(value - np.round(value))
    near = (away > 0) & (away < _NEAR * np.maximum(1.0, np.abs(value)))
    return bool((near | ~(np.abs(value) < 2.0**53)).any())


def _gather(attributes: Mapping[str, Any], value: Array, indices: Array) -> Array:
    return np.take(value, indices, axis=attributes.get("axis", 0), mode="raise")


def _slice(
    attributes: Mapping[str, Any],
    value: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array | None:
    given = [attributes.get(name, array) for name, array in (("starts", starts), ("ends", ends), ("axes", axes))]
    if given[0] is None or given[1] is None:
        return None
    first, last = (np.asarray(part).reshape(-1).tolist() for part in given[:2])
    chosen = range(len(first)) if given[2] is None else np.asarray(given[2]).reshape(-1).tolist()
    strides = [1] * len(first) if steps is None else steps.reshape(-1).tolist()
    for axis, start, end, step in zip(chosen, first, last, strides, strict=True):
        stop = None if step < 0 and end < -value.shape[axis] else end
        value = value[(slice(None),) * (axis % value.ndim) + (slice(start, stop, step),)]
    return value


def _concat(attributes: Mapping[str, Any], *parts: Array) -> Array:
    return np.concatenate(parts, axis=attributes.get("axis", 1))


def _transpose(attributes: Mapping[str, Any], value: Array) -> Array:
    return np.transpose(value, attributes.get("perm"))


def _filled(attributes: Mapping[str, Any], shape: Array) -> Array | None:
    given = attributes.get("value")
    fill = np.zeros(1, np.float32) if given is None else given.values()
    sizes = [int(n) for n in shape.reshape(-1)]
    if fill is None or fill.size != 1 or not 0 <= math.prod(sizes) <= MOST_KNOWN:
        return None
    return np.full(sizes, fill.reshape(-1)[0], fill.dtype)


def _range(_: Mapping[str, Any], start: Array, limit: Array, step: Array) -> Array | None:
    if start.dtype.kind not in "iu":
        return None
    bounds = range(*(int(bound.reshape(-1)[0]) for bound in (start, limit, step)))
    return np.array(bounds, start.dtype)


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(attributes: Mapping[str, Any], value: Array, axes: Array | None = None) -> Array:
        given = attributes.get("axes", axes)
        chosen = None if given is None else tuple(int(axis) for axis in np.asarray(given).reshape(-1))
        return np.asarray(function(value, axis=chosen or None, keepdims=bool(attributes.get("keepdims", 1)))).astype(
            value.dtype
        )

    return reduce


def _plain(function: Callable[..., Any]) -> Callable[..., Array]:
    return lambda _, *values: np.asarray(function(*values))


def _extreme(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def fold(_: Mapping[str, Any], first: Array, *others: Array) -> Array:
        for other in others:
            first = function(first, other)
        return first

    return fold


def _as_it_is(_: Mapping[str, Any], value: Array, *__: Any) -> Array:
    return value


# Reshaping leaves the values as they are; `evaluate` gives them the shape. The second input says which.
_COMPUTE: dict[str, Callable[..., Array | None]] = {
    **dict.fromkeys(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"), _as_it_is),
    "Add": _plain(np.add),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _divide,
    "Mod": _modulo,
    "Neg": _plain(np.negative),
    "Abs": _plain(np.abs),
    "Sqrt": _plain(np.sqrt),
    "Min": _extreme(np.minimum),
    "Max": _extreme(np.maximum),
    "Floor": _rounded(np.floor),
    "Ceil": _rounded(np.ceil),
    "Round": _rounded(np.round),
    "Equal": _plain(np.equal),
    "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal),
    "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal),
    "And": _plain(np.logical_and),
    "Or": _plain(np.logical_or),
    "Not": _plain(np.logical_not),
    "Where": _plain(np.where),
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Transpose": _transpose,
    "Tile": _plain(lambda value, repeats: np.tile(value, [int(n) for n in repeats])),
    "Expand": _plain(lambda value, shape: value * np.ones([int(n) for n in shape], value.dtype)),
    "ConstantOfShape": _filled,
    "Range": _range,
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
}
_N_NEEDED = {"Reshape": 1, "Squeeze": 1, "Unsqueeze": 1, "Dropout": 1}
