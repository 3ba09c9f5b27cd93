"""Sixteen float32 values side by side, as one value in numba code.

The compiler turns plain loops into vector instructions only where it can prove that arrays do not overlap, which it
cannot in a Fourier transform done in place. So the kernels here say it themselves: a ``Lanes`` value is one LLVM
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


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    element = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(element, ir.PointerType(_VECTOR))


@_emitting
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """Sixteen floats of a flat array, from ``offset`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, arguments), align=4)

    return lanes(array, types.intp), generate


@_emitting
def store(typing_context: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write sixteen floats to a flat array, from ``offset`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointer(context, builder, signature, arguments), align=4)
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


def _arithmetic(method: str) -> Any:
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
    @_emitting
    def operation(typing_context: Any, left: Any, right: Any, yes: Any, no: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            left_value, right_value, yes_value, no_value = arguments
            return builder.select(builder.fcmp_ordered(comparison, left_value, right_value), yes_value, no_value)

        return lanes(lanes, lanes, lanes, lanes), generate

    return operation


where_less = _choice("<")


def _operator(method: str) -> Any:
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
