"""Read an ONNX graph before onnxruntime does, and refuse what a model of ours never needs.

A bundle may come from anybody. This reader knows a part of the format, and whatever is outside of that part is an
error: tensors that lie in other files, loops and branches, functions, custom operators, sequences, fields that came
later. What it lets pass means the same to onnxruntime: no field stands twice or with another wire type.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgenre._protobuf import ProtobufError, fields, read_varint
from musicgenre._text import printable

MOST_NODES = 100_000
"""Nodes of a graph, tensors of a graph: the largest networks have some thousands."""

MOST_KNOWN = 65_536
"""Values of a tensor that is followed: shapes, indices, and what they are computed from."""

_SHOWN_CHARACTERS = 400  # of what is wrong
_MOST_ENTRIES = 65_536  # of a list in an attribute
_MOST_RANK = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

DTYPES: dict[int, np.dtype[Any] | None] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
    16: None,  # bfloat16, which NumPy lacks
}
"""Element types that pass, by their number in the format; no text, no complex numbers, nothing below a byte."""

FLOAT, INT64, BOOL = 1, 7, 9

# Fields of each message that pass, with their wire type; `many` may stand more than once.
_MODEL = {1: _VARINT, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _VARINT, 6: _BYTES, 7: _BYTES, 8: _BYTES, 14: _BYTES}
_OPSET = {1: _BYTES, 2: _VARINT}
_ENTRY = {1: _BYTES, 2: _BYTES}
_GRAPH = {1: _BYTES, 2: _BYTES, 5: _BYTES, 10: _BYTES, 11: _BYTES, 12: _BYTES, 13: _BYTES, 16: _BYTES}
_NODE = {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _BYTES, 6: _BYTES, 7: _BYTES, 8: _BYTES, 9: _BYTES}
_ATTRIBUTE = {
    1: _BYTES,
    2: _FIXED32,
    3: _VARINT,
    4: _BYTES,
    5: _BYTES,
    7: _FIXED32,
    8: _VARINT,
    13: _BYTES,
    20: _VARINT,
}
_TENSOR = {
    1: _VARINT, 2: _VARINT, 4: _BYTES, 5: _BYTES, 7: _BYTES, 8: _BYTES,
    9: _BYTES, 10: _BYTES, 11: _BYTES, 12: _BYTES, 14: _VARINT, 16: _BYTES,
}  # fmt: skip
_VALUE = {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES}
_TYPE = {1: _BYTES, 6: _BYTES}
_TENSOR_TYPE = {1: _VARINT, 2: _BYTES}
_SHAPE = {1: _BYTES}
_DIMENSION = {1: _VARINT, 2: _BYTES, 3: _BYTES}

_WHAT = {
    ("model", 20): "training information",
    ("model", 25): "functions of its own",
    ("graph", 15): "sparse tensors",
    ("attribute", 6): "graphs inside nodes (If, Loop, Scan)",
    ("attribute", 11): "graphs inside nodes (If, Loop, Scan)",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 3): "tensors in pieces",
    ("tensor", 6): "text in a tensor",
    ("tensor", 13): "a tensor that lies in another file",
    ("type", 4): "sequences",
    ("type", 5): "maps",
    ("type", 8): "sparse tensors",
    ("type", 9): "optional values",
}
"""What is refused by its name; the rest is a field that is not known."""

# Where a tensor's values may stand beside `raw_data`: field, and its packed type by element type.
_PACKED = {1: (4, "f4"), 7: (7, "<i8"), 11: (10, "<f8"), 13: (11, "<u8"), 12: (11, "<u8")}
_INT32_DATA = 5

# Attributes: their type, the field it stands in, and whether it is a list.
_FLOAT, _INT, _STRING, _TENSOR_VALUE, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7
_FIELD_OF_TYPE = {_FLOAT: 2, _INT: 3, _STRING: 4, _TENSOR_VALUE: 5, _FLOATS: 7, _INTS: 8}

Buffer = bytes | memoryview
Dimension = int | str | None


class GraphError(ValueError):
    """The graph holds what is refused, is damaged, or would cost too much.

    Parameters
    ----------
    reason : str
        Which of these; names from the file in it are made printable.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason)[:_SHOWN_CHARACTERS])


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A constant of a graph.

    Attributes
    ----------
    kind : int
        Its element type, a key of `DTYPES`.
    shape : tuple of int
        Its shape.
    data : bytes or None
        Its values as they lie in memory; `None` where they are many.
    """

    kind: int
    shape: tuple[int, ...]
    data: bytes | None = field(repr=False)

    def values(self) -> NDArray[Any] | None:
        """Give its values, as far as they are at hand."""
        dtype = DTYPES[self.kind]
        if self.data is None or dtype is None:
            return None
        return np.frombuffer(self.data, dtype.newbyteorder("<")).astype(dtype).reshape(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operator: its name in the standard domain, the tensors it takes and gives, and its attributes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A graph of standard operators, in the order they are computed.

    Attributes
    ----------
    opset : int
        Version of the operators.
    inputs, outputs : dict
        Declared shape by name: numbers, names, or `None` for what is not told. Inputs without those that have a
        default.
    constants : dict
        Tensors by name.
    defaults : set of str
        Those of them that may be fed: inputs that have a default.
    nodes : list of Node
        The operators.
    """

    opset: int
    inputs: dict[str, tuple[Dimension, ...] | None]
    outputs: dict[str, tuple[Dimension, ...] | None]
    constants: dict[str, Tensor]
    defaults: set[str]
    nodes: list[Node]


def read_graph(model: bytes) -> Graph:
    """Read a model, whole.

    Parameters
    ----------
    model : bytes
        A serialised ONNX model.

    Raises
    ------
    GraphError
        It is damaged or holds what is refused.
    """
    try:
        return _read_model(model)
    except (ProtobufError, UnicodeDecodeError, struct.error) as error:
        raise GraphError(f"it is damaged ({error})") from error


def _read_model(model: Buffer) -> Graph:
    graph = None
    opset = 0
    for number, value in _message(memoryview(model), "model", _MODEL, many={8, 14}):
        if number == 7:
            graph = value
        elif number == 14:
            for _, text in _message(value, "entry", _ENTRY):
                _text(text)
        elif number == 8:
            parts = dict(_message(value, "opset", _OPSET))
            if _text(parts.get(1, b"")) in ("", "ai.onnx"):
                version = _signed(parts.get(2, 0))
                if opset not in (0, version):  # graphs that were joined say the same one twice
                    raise GraphError("it names two versions of the standard operators")
                opset = version
        elif number in (2, 3, 4, 6):
            _text(value)

    if graph is None or opset < 1:
        raise GraphError("it has no graph of standard operators")
    return _read_inside(graph, opset)


def _read_inside(graph: Buffer, opset: int) -> Graph:
    """Read the graph of a model."""
    nodes: list[Node] = []
    constants: dict[str, Tensor] = {}
    inputs: dict[str, tuple[Dimension, ...] | None] = {}
    outputs: dict[str, tuple[Dimension, ...] | None] = {}
    for number, value in _message(graph, "graph", _GRAPH, many={1, 5, 11, 12, 13, 16}):
        if number == 1:
            nodes.append(_read_node(value))
        elif number == 5:
            name, tensor = _read_tensor(value)
            _put(constants, name, tensor)
        elif number in (11, 12):
            _put(inputs if number == 11 else outputs, *_read_value(value))
        elif number == 13:
            _read_value(value)
        elif number == 16:
            for _, text in _message(value, "entry", _ENTRY):
                _text(text)
        else:
            _text(value)
        if max(len(nodes), len(constants)) > MOST_NODES:
            raise GraphError(f"it has more than {MOST_NODES:,} nodes or tensors")

    # every name stands for one tensor, and is known before it is used
    known = {*constants, *inputs}
    for node in nodes:
        for name in node.inputs:
            if name and name not in known:
                raise GraphError(f"the operator {node.kind} takes {name!r}, which nothing gives before it")
        for name in node.outputs:
            if name and name in known:
                raise GraphError(f"{name!r} is given twice")
            known.add(name)
    for name in outputs:
        if name not in known:
            raise GraphError(f"nothing gives its output {name!r}")

    fed = {name: shape for name, shape in inputs.items() if name not in constants}
    return Graph(opset, fed, outputs, constants, inputs.keys() & constants.keys(), nodes)


def _read_node(message: Buffer) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, Any] = {}
    kind = domain = ""
    for number, value in _message(message, "node", _NODE, many={1, 2, 5, 9}):
        if number == 5:
            _put(attributes, *_read_attribute(value))
        elif number == 9:
            for _, text in _message(value, "entry", _ENTRY):
                _text(text)
        elif number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            kind = _text(value)
        elif number == 7:
            domain = _text(value)
        elif _text(value) and number == 8:
            raise GraphError(f"the operator {kind} is overloaded")

    if domain not in ("", "ai.onnx"):
        raise GraphError(f"it has the operator {kind} of the domain {domain}, and only standard ones are run")
    return Node(kind, tuple(inputs), tuple(outputs), attributes)


def _read_attribute(message: Buffer) -> tuple[str, Any]:
    """Read one attribute: its name and a number, text, a tensor or a list of numbers."""
    name, kind = "", 0
    found: dict[int, Any] = {}
    many = {7, 8}
    for number, value in _message(message, "attribute", _ATTRIBUTE, many=many, packed=many):
        if number == 1:
            name = _text(value)
        elif number == 13:
            _text(value)
        elif number == 20:
            kind = value
        elif number in many:
            found.setdefault(number, []).extend(_numbers(value, is_float=number == 7))
            if len(found[number]) > _MOST_ENTRIES:
                raise GraphError(f"the attribute {name!r} holds more than {_MOST_ENTRIES:,} numbers")
        else:
            found[number] = value

    if kind not in _FIELD_OF_TYPE:
        raise GraphError(f"the attribute {name!r} is of the type {kind}")
    wanted = _FIELD_OF_TYPE[kind]
    if found.keys() - {wanted} or (wanted not in found and wanted not in many):
        raise GraphError(f"the attribute {name!r} says another type than it holds")

    value = found.get(wanted, [])
    if kind == _FLOAT:
        return name, struct.unpack("<f", struct.pack("<I", value))[0]
    if kind == _INT:
        return name, _signed(value)
    if kind == _STRING:
        return name, _text(value)
    if kind == _TENSOR_VALUE:
        return name, _read_tensor(value)[1]
    return name, value


def _read_tensor(message: Buffer) -> tuple[str, Tensor]:
    name, kind = "", 0
    shape: list[int] = []
    data: dict[int, Buffer] = {}
    for number, value in _message(message, "tensor", _TENSOR, many={1, 16}, packed={1}):
        if number == 1:
            shape.extend(_numbers(value, is_float=False))
        elif number == 2:
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 12:
            _text(value)
        elif number == 14 and value != 0:
            raise GraphError(f"it holds {_WHAT['tensor', 13]}")
        elif number == 16:
            for _, text in _message(value, "entry", _ENTRY):
                _text(text)
        elif number != 14:
            data[number] = value

    if kind not in DTYPES:
        raise GraphError(f"the tensor {name!r} is of the element type {kind}")
    if len(shape) > _MOST_RANK or any(length < 0 for length in shape):
        raise GraphError(f"the tensor {name!r} has the shape {tuple(shape[:_MOST_RANK])}")
    if len(data) > 1:
        raise GraphError(f"the tensor {name!r} holds its values twice")
    return name, Tensor(kind, tuple(shape), _values_of(name, kind, shape, data))


def _values_of(name: str, kind: int, shape: list[int], data: dict[int, Buffer]) -> bytes | None:
    """Give a tensor's values as they lie in memory, where they are few; they must be as many as its shape says."""
    count = math.prod(shape)
    dtype = DTYPES[kind]
    size = 2 if dtype is None else dtype.itemsize
    number, content = next(iter(data.items()), (9, b""))

    values: Buffer | None
    if number == 9:
        n_found, values = len(content) / size, content
    elif number == _INT32_DATA and kind not in _PACKED:
        numbers = _many_varints(content, count)
        n_found = len(numbers)
        values = None if dtype is None or dtype == np.float16 else np.array(numbers, np.int64).astype(dtype).tobytes()
    elif kind in _PACKED and number == _PACKED[kind][0]:
        if number in (4, 10):
            n_found, values = len(content) / size, content
        else:
            numbers = _many_varints(content, count)
            n_found, values = len(numbers), np.array(numbers, np.int64).astype(dtype).tobytes()
    else:
        raise GraphError(f"the tensor {name!r} holds values of another type than it says")

    if n_found != count:
        raise GraphError(f"the tensor {name!r} of shape {tuple(shape)} holds {n_found:g} values")
    return None if values is None or count > MOST_KNOWN else bytes(values)


def _read_value(message: Buffer) -> tuple[str, tuple[Dimension, ...] | None]:
    """Read the name and the declared shape of an input or output; no shape where none is told."""
    name = ""
    shape: tuple[Dimension, ...] | None = None
    for number, value in _message(message, "value", _VALUE, many={4}):
        if number == 2:
            shape = _read_type(value)
        elif number == 4:
            for _, text in _message(value, "entry", _ENTRY):
                _text(text)
        elif number == 1:
            name = _text(value)
        else:
            _text(value)
    return name, shape


def _read_type(message: Buffer) -> tuple[Dimension, ...] | None:
    parts = dict(_message(message, "type", _TYPE))
    _text(parts.get(6, b""))
    if 1 not in parts:
        raise GraphError("it has an input or output that is no tensor")

    inside = dict(_message(parts[1], "tensor type", _TENSOR_TYPE))
    if inside.get(1) not in DTYPES:
        raise GraphError(f"it has an input or output of the element type {inside.get(1)}")
    if 2 not in inside:
        return None

    shape: list[Dimension] = []
    for _, dimension in _message(inside[2], "shape", _SHAPE, many={1}):
        told = dict(_message(dimension, "dimension", _DIMENSION))
        _text(told.get(3, b""))
        if 1 in told and 2 in told:
            raise GraphError("a dimension has a number and a name")
        if 1 in told:
            shape.append(_signed(told[1]))
        else:
            shape.append(_text(told[2]) if 2 in told else None)
        if len(shape) > _MOST_RANK:
            raise GraphError(f"it has a tensor of more than {_MOST_RANK} dimensions")
    return tuple(shape)


def _message(
    message: Any,
    what: str,
    known: Mapping[int, int],
    many: Collection[int] = (),
    packed: Collection[int] = (),
) -> Iterator[tuple[int, Any]]:
    """Walk the fields of a message, each of them known, of the right wire type and only once where it is one."""
    seen: set[int] = set()
    for number, value, (start, _) in fields(message):
        wire = message[start] & 7
        if number not in known:
            raise GraphError(f"it holds {_WHAT.get((what, number), f'an unknown part ({what} {number})')}")
        if wire != known[number] and not (number in packed and wire == _BYTES):
            raise GraphError(f"it is damaged ({what} {number} has the wire type {wire})")
        if number in seen and number not in many:
            raise GraphError(f"it is damaged ({what} {number} stands twice)")
        if isinstance(value, int) and value >= 1 << 64:
            raise GraphError(f"it is damaged ({what} {number} is too large)")
        seen.add(number)
        yield number, value


def _numbers(value: int | Buffer, *, is_float: bool) -> list[Any]:
    """Read what stands in a list: one number, or several packed together."""
    if isinstance(value, int):
        return [struct.unpack("<f", struct.pack("<I", value))[0] if is_float else _signed(value)]
    if is_float:
        return np.frombuffer(value, "<f4").tolist() if len(value) % 4 == 0 else _cut_short()
    return _many_varints(value, _MOST_ENTRIES)


def _many_varints(content: Buffer, most: int) -> list[int]:
    """Read packed numbers, and give up behind as many as there may be."""
    numbers: list[int] = []
    position = 0
    while position < len(content):
        value, position = read_varint(content, position)
        numbers.append(_signed(value))
        if len(numbers) > most:
            raise GraphError("a list holds more numbers than it may")
    return numbers


def _cut_short() -> list[Any]:
    raise GraphError("it is damaged (a list of numbers is cut short)")


def _signed(value: int) -> int:
    """Take a number of 64 bits for what it means with its sign."""
    if value >= 1 << 64:
        raise GraphError("it is damaged (a number is too large)")
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: Buffer) -> str:
    return str(value, "utf-8") if value else ""


def _put(where: dict[str, Any], name: str, value: Any) -> None:
    """Put down what has a name; two of one name are refused."""
    if not name or name in where:
        raise GraphError(f"the name {name!r} stands twice" if name else "a name is empty")
    where[name] = value
