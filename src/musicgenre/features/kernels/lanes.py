"""Sixteen float32 values side by side, as one value in numba code.

The compiler turns plain loops into vector instructions only where it can prove that arrays do not overlap, which it
cannot in a Fourier transform done in place. So the kernels here say it themselves: a `Lanes` value is one LLVM
vector of 16 floats (one AVX-512 register, two of AVX, four of SSE or NEON: LLVM splits it), loaded from and stored to
flat float32 arrays at any offset.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

N_LANES = 16

_VECTOR = ir.VectorType(ir.FloatType(), N_LANES)
_INDEX = ir.IntType(32)
_RIFFLES = [  # of two vectors: their first halves, one from each in turn, and their second halves
    ir.Constant(ir.VectorType(_INDEX, N_LANES), [half + i // 2 + i % 2 * N_LANES for i in range(N_LANES)])
    for half in (0, N_LANES // 2)
]
_FLAGS = ("contract",)  # a product and a sum may become one fused operation


class LanesType(types.Type):
    """The numba type of sixteen floats."""

    def __init__(self) -> None:
        super().__init__(name="Lanes16")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)  # type: ignore[no-untyped-call]


def _emitting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a numba intrinsic, callable in compiled code alone: its arguments there lack the typing context."""
    made: Callable[..., Any] = intrinsic(function)
    return made


def _element(context: Any, builder: Any, kind: Any, array: Any) -> Callable[[Any], Any]:
    """Return the function from an offset into `array` to the pointer to sixteen floats there."""
    data = context.make_array(kind)(context, builder, array).data
    return lambda offset: builder.bitcast(builder.gep(data, [offset]), ir.PointerType(_VECTOR))


@_emitting
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """Sixteen floats of a flat array, from `offset` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_element(context, builder, signature.args[0], arguments[0])(arguments[1]), align=4)

    return lanes(array, types.intp), generate


@_emitting
def store(typing_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write sixteen floats to a flat array, from `offset` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _element(context, builder, signature.args[0], arguments[0])(arguments[1])
        builder.store(arguments[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@_emitting
def splat(typing_context: Any, value: Any) -> Any:
    """Sixteen times the same float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = builder.insert_element(
            ir.Constant(_VECTOR, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0)
        )
        mask = ir.Constant(ir.VectorType(ir.IntType(32), N_LANES), [0] * N_LANES)
        return builder.shuffle_vector(single, ir.Constant(_VECTOR, ir.Undefined), mask)

    return lanes(types.float32), generate


@_emitting
def transpose_tile(
    typing_context: Any, source: Any, offset: Any, stride: Any, target: Any, place: Any, target_stride: Any
) -> Any:
    """Copy a tile of 16 x 16 floats, its rows `stride` apart, to columns of `target`.

    Four rounds of riffling the first half of the rows into the second turn rows into columns.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source_array, offset_value, stride_value, target_array, place_value, target_stride_value = arguments

        read = _element(context, builder, signature.args[0], source_array)
        rows, position = [], offset_value
        for _ in range(N_LANES):
            rows.append(builder.load(read(position), align=4))
            position = builder.add(position, stride_value)

        for _ in range(4):  # 2 to the fourth is 16: after as many rounds every value is in its place
            riffled = []
            for a, b in zip(rows[: N_LANES // 2], rows[N_LANES // 2 :], strict=True):
                riffled += [builder.shuffle_vector(a, b, mask) for mask in _RIFFLES]
            rows = riffled

        written, position = _element(context, builder, signature.args[3], target_array), place_value
        for row in rows:
            builder.store(row, written(position), align=4)
            position = builder.add(position, target_stride_value)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, target, index, index), generate


def _arithmetic(method: str) -> Any:
    """Make the intrinsic for one of LLVM's operations on two vectors."""

    @_emitting
    def operation(typing_context: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, method)(arguments[0], arguments[1], flags=_FLAGS)

        return lanes(lanes, lanes), generate

    return operation


@_emitting
def square_root(typing_context: Any, value: Any) -> Any:
    """Sixteen square roots, correctly rounded."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        root = cgutils.get_or_insert_function(builder.module, kind, "llvm.sqrt.v16f32")  # type: ignore[no-untyped-call]
        return builder.call(root, arguments)

    return lanes(lanes), generate


def _choice(comparison: str) -> Any:
    """Make the intrinsic that takes, lane by lane, `yes` where the comparison holds and else `no`."""

    @_emitting
    def operation(typing_context: Any, left: Any, right: Any, yes: Any, no: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            left_value, right_value, yes_value, no_value = arguments
            return builder.select(builder.fcmp_ordered(comparison, left_value, right_value), yes_value, no_value)

        return lanes(lanes, lanes, lanes, lanes), generate

    return operation


where_less = _choice("<")


def _operator(method: str) -> Any:
    """Make what `overload` wants for an operator: a function from types to the code for them, or `None`."""
    operation = _arithmetic(method)

    def typing(left: Any, right: Any) -> Any:
        if isinstance(left, LanesType) and isinstance(right, LanesType):
            return lambda left, right: operation(left, right)  # noqa: PLW0108 (numba takes no intrinsic here)
        return None

    return typing


for _symbol, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    overload(_symbol, strict=False)(_operator(_method))
