"""What each operator gives: the shape of its results, how much work they are, how much memory it takes on the way.

Every size must follow from the shapes of the inputs and from constants. Operators whose results are as large as the
sound wants (NonZero, Compress, Unique), and those that are not listed here, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from musicgenre.bundle._graph import BOOL, DTYPES, FLOAT, INT64, MOST_KNOWN, GraphError, Node
from musicgenre.bundle._graph_call import FEWEST_BYTES, Call, Shape, Value
from musicgenre.bundle._graph_values import evaluate

_MOST_RANK = 16
_MOST_VALUES = 2**40  # beyond it there is no use in counting


def infer(node: Node, inputs: Sequence[Value | None], opset: int) -> tuple[list[Value], int, int]:
    """Say what an operator gives, how much work it is, and how much memory it takes on the way."""
    rule = _RULES.get(node.kind)
    if rule is None:
        raise GraphError(f"it has the operator {node.kind}, whose cost is not known before it runs")
    if not node.outputs or not node.outputs[0]:
        raise GraphError(f"the operator {node.kind} gives nothing")

    call = Call(node, inputs, opset)
    outputs = rule(call)
    is_constant = all(value is None or value.is_constant for value in inputs)
    outputs = [replace(value, is_constant=value.is_constant or is_constant) for value in outputs]
    if len(node.outputs) > len(outputs) and any(node.outputs[len(outputs) :]):
        raise GraphError(f"the operator {node.kind} gives {len(node.outputs)} results")
    for value in outputs:
        is_large = math.prod(value.shape) > _MOST_VALUES or len(value.shape) > _MOST_RANK
        if is_large or any(length < 0 or length > _MOST_VALUES for length in value.shape):
            raise GraphError(f"the operator {node.kind} would give {' x '.join(map(str, value.shape))[:80]} values")

    # what shapes are computed from is computed here: whole numbers, a few
    first = outputs[0]
    if first.known is None and math.prod(first.shape) <= MOST_KNOWN:
        known = evaluate(node, [None if value is None else value.known for value in inputs], first.shape)
        if known is not None:
            outputs[0] = replace(first, known=known)

    given = [value for value in inputs if value is not None]
    n_values = sum(math.prod(value.shape) for value in (*given, *outputs))
    scratch_bytes = call.scratch_bytes or max((value.n_bytes for value in (*given, *outputs)), default=0)
    return outputs, call.work + n_values, scratch_bytes


def _same(call: Call) -> list[Value]:
    """Give as many values as come in."""
    value = replace(call[0], known=None, is_constant=False)
    return [value]


def _mask(call: Call) -> list[Value]:
    return [Value(call[0].shape, BOOL)]


def _dropout(call: Call) -> list[Value]:
    training = call.optional(2)
    if training is not None and (training.known is None or training.known.any()):
        raise GraphError("it draws random numbers")
    return [replace(call[0], is_constant=False), Value(call[0].shape, BOOL)]


def _broadcast_shapes(call: Call, shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    result = []
    for lengths in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        longer = {length for length in lengths if length != 1}
        if len(longer) > 1:
            raise call.wrong(*shapes)
        result.append(longer.pop() if longer else 1)
    return tuple(result)


def _broadcast(call: Call) -> list[Value]:
    present = [call[number] for number in range(len(call.inputs))]
    shape = _broadcast_shapes(call, [value.shape for value in present])
    kind = present[0].kind
    if call.node.kind == "Where":
        kind = call[1].kind
    if call.node.kind in _COMPARISONS:
        kind = BOOL

    # A processor stops the whole process where it divides whole numbers by nothing.
    dtype = DTYPES[kind]
    if call.node.kind in ("Div", "Mod") and dtype is not None and dtype.kind in "iu":
        divisor = call[1].known
        if divisor is None or ((divisor == 0) | (divisor == -1)).any():
            raise GraphError("it divides whole numbers by what may be zero")
    return [Value(shape, kind)]


def _reduce(call: Call) -> list[Value]:
    shape = call[0].shape
    given = call.given("axes", 1) or []
    keep = call.number("keepdims", 1)
    if not given and call.number("noop_with_empty_axes", 0):
        return [Value(shape, call[0].kind)]
    axes = call.axes(given, len(shape)) if given else list(range(len(shape)))
    return [Value(_without(shape, axes, keep), call[0].kind)]


def _arg_reduce(call: Call) -> list[Value]:
    shape = call[0].shape
    axis = call.axis(call.number("axis", 0), len(shape))
    if not shape[axis]:
        raise call.wrong(shape)
    return [Value(_without(shape, [axis], call.number("keepdims", 1)), INT64)]


def _without(shape: Shape, axes: Sequence[int], keep: int) -> Shape:
    if keep:
        return tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    return tuple(length for axis, length in enumerate(shape) if axis not in axes)


def _shape(call: Call) -> list[Value]:
    shape = np.array(call[0].shape, np.int64)
    start, end = call.number("start", 0), call.number("end", len(shape))
    part = shape[start:end]
    return [Value(part.shape, INT64, part, is_constant=True)]


def _size(call: Call) -> list[Value]:
    count = np.array(math.prod(call[0].shape), np.int64)
    return [Value((), INT64, count, is_constant=True)]


def _reshape(call: Call) -> list[Value]:
    given = call[0].shape
    wanted = call.given("shape", 1)
    if wanted is None or wanted.count(-1) > 1 or any(length < -1 for length in wanted):
        raise GraphError(f"the operator Reshape is to give {wanted}")
    keeps_zeros = bool(call.number("allowzero", 0))

    shape = []
    for axis, length in enumerate(wanted):
        keeps = length == 0 and not keeps_zeros
        if keeps and axis >= len(given):
            raise call.wrong(given, tuple(wanted))
        shape.append(given[axis] if keeps else length)
    rest = math.prod(length for length in shape if length != -1)
    if -1 in shape:
        if rest == 0 or math.prod(given) % rest:
            raise call.wrong(given, tuple(wanted))
        shape[shape.index(-1)] = math.prod(given) // rest
    if math.prod(shape) != math.prod(given):
        raise call.wrong(given, tuple(wanted))
    return [Value(tuple(shape), call[0].kind)]


def _flatten(call: Call) -> list[Value]:
    shape = call[0].shape
    axis = call.number("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise call.wrong(shape)
    axis = axis + len(shape) if axis < 0 else axis
    return [Value((math.prod(shape[:axis]), math.prod(shape[axis:])), call[0].kind)]


def _squeeze(call: Call) -> list[Value]:
    shape = call[0].shape
    axes = call.given("axes", 1)
    chosen = [n for n, length in enumerate(shape) if length == 1] if axes is None else call.axes(axes, len(shape))
    if any(shape[axis] != 1 for axis in chosen):
        raise call.wrong(shape)
    return [Value(_without(shape, chosen, 0), call[0].kind)]


def _unsqueeze(call: Call) -> list[Value]:
    shape = list(call[0].shape)
    given = call.given("axes", 1) or []
    for axis in sorted(call.axes(given, len(shape) + len(given))):
        shape.insert(axis, 1)
    return [Value(tuple(shape), call[0].kind)]


def _transpose(call: Call) -> list[Value]:
    shape = call[0].shape
    order = call.numbers("perm", range(len(shape))[::-1])
    if sorted(order) != list(range(len(shape))):
        raise call.wrong(shape, tuple(order))
    return [Value(tuple(shape[axis] for axis in order), call[0].kind)]


def _concat(call: Call) -> list[Value]:
    shapes = [call[number].shape for number in range(len(call.inputs))]
    axis = call.axis(call.number("axis", 1), len(shapes[0]))
    rests = {shape[:axis] + shape[axis + 1 :] for shape in shapes if len(shape) == len(shapes[0])}
    if len(rests) != 1 or {len(shape) for shape in shapes} != {len(shapes[0])}:
        raise call.wrong(*shapes[:3])
    length = sum(shape[axis] for shape in shapes)
    return [Value((*shapes[0][:axis], length, *shapes[0][axis + 1 :]), call[0].kind)]


def _split(call: Call) -> list[Value]:
    shape = call[0].shape
    axis = call.axis(call.number("axis", 0), len(shape))
    lengths = call.given("split", 1)
    if lengths is None:
        n_parts = call.number("num_outputs", len(call.node.outputs))
        if n_parts < 1 or n_parts != len(call.node.outputs):
            raise call.wrong(shape)
        step = -(-shape[axis] // n_parts)
        lengths = [min(step, max(0, shape[axis] - step * part)) for part in range(n_parts)]
    if len(lengths) != len(call.node.outputs) or sum(lengths) != shape[axis] or min(lengths) < 0:
        raise call.wrong(shape, tuple(lengths))
    return [Value((*shape[:axis], length, *shape[axis + 1 :]), call[0].kind) for length in lengths]


def _slice(call: Call) -> list[Value]:
    shape = list(call[0].shape)
    starts, ends = call.given("starts", 1), call.given("ends", 2)
    if starts is None or ends is None or len(starts) != len(ends):
        raise call.wrong(call[0].shape)
    axes = call.given("axes", 3)
    steps = call.given("steps", 4) or [1] * len(starts)
    chosen = call.axes(range(len(starts)) if axes is None else axes, len(shape))
    if not len(chosen) == len(steps) == len(starts) or 0 in steps:
        raise call.wrong(call[0].shape)
    for axis, start, end, step in zip(chosen, starts, ends, steps, strict=True):
        shape[axis] = len(range(*slice(start, _open_end(end, step, shape[axis]), step).indices(shape[axis])))
    return [Value(tuple(shape), call[0].kind)]


def _open_end(end: int, step: int, length: int) -> int | None:
    """End of a slice as Python has it: one that lies in front of the first value, counted backwards, is none."""
    return None if step < 0 and end < -length else end


def _gather(call: Call) -> list[Value]:
    shape, indices = call[0].shape, call[1].shape
    axis = call.axis(call.number("axis", 0), len(shape))
    return [Value((*shape[:axis], *indices, *shape[axis + 1 :]), call[0].kind)]


def _gather_elements(call: Call) -> list[Value]:
    return [Value(call[1].shape, call[0].kind)]


def _gather_nd(call: Call) -> list[Value]:
    shape, indices = call[0].shape, call[1].shape
    n_batch = call.number("batch_dims", 0)
    if not indices or not 0 <= n_batch < min(len(shape), len(indices)) or indices[-1] > len(shape) - n_batch:
        raise call.wrong(shape, indices)
    return [Value((*indices[:-1], *shape[n_batch + indices[-1] :]), call[0].kind)]


def _expand(call: Call) -> list[Value]:
    wanted = tuple(call.sizes(call[1]))
    return [Value(_broadcast_shapes(call, [call[0].shape, wanted]), call[0].kind)]


def _tile(call: Call) -> list[Value]:
    repeats = call.sizes(call[1])
    if len(repeats) != len(call[0].shape) or any(n < 0 for n in repeats):
        raise call.wrong(call[0].shape, tuple(repeats))
    shape = tuple(n * times for n, times in zip(call[0].shape, repeats, strict=True))
    return [Value(shape, call[0].kind)]


def _pad(call: Call) -> list[Value]:
    shape = list(call[0].shape)
    pads = call.given("pads", 1) or []
    axes = call.optional(3)
    chosen = list(range(len(shape))) if axes is None else call.axes(call.sizes(axes), len(shape))
    if len(pads) != 2 * len(chosen):
        raise call.wrong(call[0].shape, tuple(pads))
    for number, axis in enumerate(chosen):
        shape[axis] += pads[number] + pads[number + len(chosen)]
    return [Value(tuple(shape), call[0].kind)]


def _constant(call: Call) -> list[Value]:
    if len(call.node.attributes) != 1:
        raise GraphError("the operator Constant has no single value")
    ((name, value),) = call.node.attributes.items()
    if name == "value":
        return [Value(value.shape, value.kind, value.values(), is_constant=True)]
    if name in ("value_float", "value_floats"):
        known = np.array(value, np.float32)
    elif name in ("value_int", "value_ints"):
        known = np.array(value, np.int64)
    else:
        raise GraphError(f"the operator Constant holds a {name}")
    return [Value(known.shape, FLOAT if known.dtype == np.float32 else INT64, known, is_constant=True)]


def _constant_of_shape(call: Call) -> list[Value]:
    value = call.node.attributes.get("value")
    return [Value(tuple(call.sizes(call[0])), FLOAT if value is None else value.kind)]


def _range(call: Call) -> list[Value]:
    bounds = [call[number].known for number in range(3)]
    if any(bound is None or bound.size != 1 for bound in bounds):
        raise GraphError("how much the operator Range gives depends on the sound")
    start, limit, step = (float(bound.reshape(-1)[0]) for bound in bounds if bound is not None)
    if step == 0 or not all(map(math.isfinite, (start, limit, step))):
        raise GraphError("the operator Range never ends")
    return [Value((max(0, math.ceil((limit - start) / step)),), call[0].kind)]


def _one_hot(call: Call) -> list[Value]:
    depth = call.sizes(call[1])
    if len(depth) != 1:
        raise call.wrong(tuple(depth))
    shape = list(call[0].shape)
    shape.insert(call.axis(call.number("axis", -1), len(shape) + 1), depth[0])
    return [Value(tuple(shape), call[2].kind)]


def _cast(call: Call) -> list[Value]:
    kind = call[1].kind if call.node.kind == "CastLike" else call.number("to", 0)
    if kind not in DTYPES:
        raise GraphError(f"the operator Cast is to give the element type {kind}")
    return [Value(call[0].shape, kind)]


def _top_k(call: Call) -> list[Value]:
    shape = list(call[0].shape)
    axis = call.axis(call.number("axis", -1), len(shape))
    count = call.given("k", 1) or []
    if len(count) != 1 or not 0 <= count[0] <= shape[axis]:
        raise call.wrong(call[0].shape, tuple(count))
    call.work = math.prod(shape) * max(1, shape[axis].bit_length())
    shape[axis] = count[0]
    return [Value(tuple(shape), call[0].kind), Value(tuple(shape), INT64)]


def _depth_to_space(call: Call) -> list[Value]:
    block = call.number("blocksize", 0)
    if block < 1 or len(call[0].shape) != 4:
        raise call.wrong(call[0].shape)
    n, channels, height, width = call[0].shape
    if call.node.kind == "DepthToSpace":
        return [Value((n, channels // block**2, height * block, width * block), call[0].kind)]
    return [Value((n, channels * block**2, height // block, width // block), call[0].kind)]


def _resize(call: Call) -> list[Value]:
    shape = call[0].shape
    if call.word("keep_aspect_ratio_policy", "stretch") != "stretch" or "axes" in call.node.attributes:
        raise GraphError("the operator Resize keeps proportions or names axes, which are not followed here")
    position = 1 if call.opset < 11 else 2
    sizes = call.optional(3)
    wanted: list[int]
    if sizes is not None and 0 not in sizes.shape:
        wanted = call.sizes(sizes)
    else:
        scales = call.node.attributes.get("scales") if call.opset < 9 else call[position].known
        if scales is None or not np.isfinite(scales).all() or len(scales) != len(shape):
            raise GraphError(f"how much the operator {call.node.kind} gives depends on the sound")
        wanted = [math.floor(n * float(np.float32(scale))) for n, scale in zip(shape, scales, strict=True)]
    if len(wanted) != len(shape):
        raise call.wrong(shape, tuple(wanted))
    return [Value(tuple(wanted), call[0].kind)]


def _einsum(call: Call) -> list[Value]:
    left, arrow, right = call.word("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or not all(term.isalpha() for term in terms) or (right and not right.isalpha()):
        raise GraphError("the operator Einsum has an equation that is not followed here")
    lengths: dict[str, int] = {}
    for number, term in enumerate(terms):
        shape = call[number].shape
        if len(shape) != len(term):
            raise call.wrong(shape)
        for letter, length in zip(term, shape, strict=True):
            if lengths.setdefault(letter, length) != length:
                raise call.wrong(shape)
    if len(terms) != len(call.inputs) or not set(right) <= lengths.keys():
        raise GraphError("the operator Einsum has an equation that does not fit")
    call.work = math.prod(lengths.values())
    # products of two terms at a time stand in memory, with the axes that later ones need
    result = Value(tuple(lengths[letter] for letter in right), call[0].kind)
    call.scratch_bytes = (
        call.work * FEWEST_BYTES
        if len(terms) > 2
        else 3 * max(value.n_bytes for value in (*(call[n] for n in range(len(terms))), result))
    )
    return [result]


def _matmul(call: Call) -> list[Value]:
    position = 3 if call.node.kind == "QLinearMatMul" else 1
    a, b = call[0].shape, call[position].shape
    if not a or not b:
        raise call.wrong(a, b)
    rows = a if len(a) > 1 else (1, *a)
    columns = b if len(b) > 1 else (*b, 1)
    if rows[-1] != columns[-2]:
        raise call.wrong(a, b)
    batch = _broadcast_shapes(call, [rows[:-2], columns[:-2]]) if len(rows) + len(columns) > 4 else ()
    shape = (*batch, *((rows[-2],) if len(a) > 1 else ()), *((columns[-1],) if len(b) > 1 else ()))
    call.work = math.prod(batch) * rows[-2] * rows[-1] * columns[-1]
    return [Value(shape, 6 if call.node.kind == "MatMulInteger" else call[0].kind)]


def _gemm(call: Call) -> list[Value]:
    a, b = call[0].shape, call[1].shape
    if len(a) != 2 or len(b) != 2:
        raise call.wrong(a, b)
    n_rows, inner = a[::-1] if call.number("transA", 0) else a
    inner_b, n_columns = b[::-1] if call.number("transB", 0) else b
    if inner != inner_b:
        raise call.wrong(a, b)
    call.work = n_rows * inner * n_columns
    return [Value((n_rows, n_columns), call[0].kind)]


def _window(call: Call, lengths: Shape, kernel: Sequence[int]) -> list[int]:
    """Lengths that a window gives as it moves along: of convolutions and pools."""
    n = len(lengths)
    steps = call.numbers("strides", [1] * n, least=1)
    dilations = call.numbers("dilations", [1] * n, least=1)
    pads = call.numbers("pads", [0] * (2 * n))
    auto = call.word("auto_pad", "NOTSET")
    result = []
    for axis, length in enumerate(lengths):
        span = dilations[axis] * (kernel[axis] - 1) + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-length // steps[axis]))
            continue
        room = length - span + (pads[axis] + pads[axis + n] if auto == "NOTSET" else 0)
        if room < 0 or min(kernel) < 1:
            raise call.wrong(lengths, tuple(kernel))
        count = room // steps[axis] + 1
        if call.number("ceil_mode", 0) and room % steps[axis]:
            # one that would begin in the padding behind is left out
            count += int(count * steps[axis] < length + pads[axis])
        result.append(count)
    return result


def _convolution(call: Call) -> list[Value]:
    position = 3 if call.node.kind == "QLinearConv" else 1
    x, w = call[0].shape, call[position].shape
    groups = call.number("group", 1)
    if len(x) != len(w) or len(x) < 3 or groups < 1 or x[1] != w[1] * groups or w[0] % groups:
        raise call.wrong(x, w)
    kernel = call.numbers("kernel_shape", w[2:], least=1)
    if tuple(kernel) != w[2:]:
        raise call.wrong(x, w)
    outer = _window(call, x[2:], kernel)
    call.work = x[0] * math.prod(outer) * math.prod(w)
    call.scratch_bytes = FEWEST_BYTES * math.prod(outer) * math.prod(w[1:]) + call[0].n_bytes
    return [Value((x[0], w[0], *outer), 6 if call.node.kind == "ConvInteger" else call[0].kind)]


def _transposed_convolution(call: Call) -> list[Value]:
    x, w = call[0].shape, call[1].shape
    groups = call.number("group", 1)
    if len(x) != len(w) or len(x) < 3 or groups < 1 or x[1] != w[0] or w[0] % groups:
        raise call.wrong(x, w)
    n = len(x) - 2
    kernel = call.numbers("kernel_shape", w[2:], least=1)
    if tuple(kernel) != w[2:]:
        raise call.wrong(x, w)
    steps, dilations = call.numbers("strides", [1] * n, least=1), call.numbers("dilations", [1] * n, least=1)
    pads, extra = call.numbers("pads", [0] * (2 * n)), call.numbers("output_padding", [0] * n)
    outer = []
    for axis, length in enumerate(x[2:]):
        span = dilations[axis] * (kernel[axis] - 1) + 1
        outer.append(steps[axis] * (length - 1) + extra[axis] + span - pads[axis] - pads[axis + n])
    if call.word("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        outer = [length * step for length, step in zip(x[2:], steps, strict=True)]
    if "output_shape" in call.node.attributes:
        outer = call.numbers("output_shape", [0] * n)
    call.work = math.prod(x) * math.prod(w[1:])
    call.scratch_bytes = FEWEST_BYTES * math.prod(x[2:]) * math.prod(w[1:]) + call[0].n_bytes
    return [Value((x[0], w[1] * groups, *outer), call[0].kind)]


def _pool(call: Call) -> list[Value]:
    shape = call[0].shape
    given = call.node.attributes.get("kernel_shape")
    if not isinstance(given, list) or len(given) != len(shape) - 2:
        raise call.wrong(shape)
    kernel = call.numbers("kernel_shape", given, least=1)
    outer = _window(call, shape[2:], kernel)
    call.work = shape[0] * shape[1] * math.prod(outer) * math.prod(kernel)
    result = (*shape[:2], *outer)
    return [Value(result, call[0].kind), Value(result, INT64)] if call.node.kind == "MaxPool" else [Value(result)]


def _global_pool(call: Call) -> list[Value]:
    shape = call[0].shape
    if len(shape) < 3:
        raise call.wrong(shape)
    return [Value((*shape[:2], *([1] * (len(shape) - 2))), call[0].kind)]


def _recurrent(call: Call) -> list[Value]:
    x, weights, recurrence = call[0].shape, call[1].shape, call[2].shape
    if not len(x) == len(weights) == len(recurrence) == 3:
        raise call.wrong(x, weights, recurrence)
    n_ways, n_gated, n_in = weights
    n_hidden = recurrence[2]
    batch_first = call.number("layout", 0)
    n_steps, n_rows = (x[1], x[0]) if batch_first else (x[0], x[1])
    n_gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[call.node.kind]
    fits = n_gated == n_gates * n_hidden == recurrence[1] and n_in == x[2] and recurrence[0] == n_ways in (1, 2)
    if not fits:
        raise call.wrong(x, weights, recurrence)
    call.work = n_steps * n_rows * n_ways * n_gated * (n_in + n_hidden)
    call.scratch_bytes = 2 * FEWEST_BYTES * n_steps * n_rows * n_ways * n_gated + 2 * call[0].n_bytes

    if batch_first:
        everything, last = (n_rows, n_steps, n_ways, n_hidden), (n_rows, n_ways, n_hidden)
    else:
        everything, last = (n_steps, n_ways, n_rows, n_hidden), (n_ways, n_rows, n_hidden)
    return [Value(everything, call[0].kind), Value(last, call[0].kind), Value(last, call[0].kind)]


def _quantize(call: Call) -> list[Value]:
    zero = call.optional(2)
    return [Value(call[0].shape, 2 if zero is None else zero.kind)]


def _dynamic_quantize(call: Call) -> list[Value]:
    return [Value(call[0].shape, 2), Value(()), Value((), 2)]


def _dequantize(call: Call) -> list[Value]:
    return [Value(call[0].shape, call[1].kind)]


_COMPARISONS = ("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")

_BY_RULE: dict[Callable[[Call], list[Value]], str] = {
    _same: "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity LeakyRelu Log LogSoftmax Hardmax Softmax LRN MeanVarianceNormalization Mish Neg Reciprocal Relu Round "
    "Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh ThresholdedRelu BatchNormalization "
    "InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LpNormalization CumSum Trilu "
    "ScatterElements ScatterND BitwiseNot",
    _mask: "Not IsNaN IsInf",
    _dropout: "Dropout",
    _broadcast: f"Add Sub Mul Div Mod Pow PRelu Min Max Mean Sum Where BitwiseAnd BitwiseOr BitwiseXor "
    f"{' '.join(_COMPARISONS)}",
    _reduce: "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
    "ReduceSumSquare",
    _arg_reduce: "ArgMax ArgMin",
    _shape: "Shape",
    _size: "Size",
    _reshape: "Reshape",
    _flatten: "Flatten",
    _squeeze: "Squeeze",
    _unsqueeze: "Unsqueeze",
    _transpose: "Transpose",
    _concat: "Concat",
    _split: "Split",
    _slice: "Slice",
    _gather: "Gather",
    _gather_elements: "GatherElements",
    _gather_nd: "GatherND",
    _expand: "Expand",
    _tile: "Tile",
    _pad: "Pad",
    _constant: "Constant",
    _constant_of_shape: "ConstantOfShape",
    _range: "Range",
    _one_hot: "OneHot",
    _cast: "Cast CastLike",
    _top_k: "TopK",
    _depth_to_space: "DepthToSpace SpaceToDepth",
    _resize: "Resize Upsample",
    _einsum: "Einsum",
    _matmul: "MatMul MatMulInteger QLinearMatMul",
    _gemm: "Gemm",
    _convolution: "Conv ConvInteger QLinearConv",
    _transposed_convolution: "ConvTranspose",
    _pool: "MaxPool AveragePool LpPool",
    _global_pool: "GlobalAveragePool GlobalMaxPool GlobalLpPool",
    _recurrent: "LSTM GRU RNN",
    _quantize: "QuantizeLinear",
    _dynamic_quantize: "DynamicQuantizeLinear",
    _dequantize: "DequantizeLinear",
}
_RULES = {kind: rule for rule, kinds in _BY_RULE.items() for kind in kinds.split()}
