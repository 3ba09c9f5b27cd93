"""Several ONNX models as one graph, and each of them taken out again, told apart by a prefix of all names in it.

Joining is done where runs are exported, with ``onnx``; taking apart is done wherever a bundle is used, without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from musicgenre._protobuf import ProtobufError, bytes_field, fields
from musicgenre.errors import BundleError, MissingExtraError

_GRAPH_FIELD = 7  # ModelProto.graph
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13  # GraphProto
_NAME_IN = {_NODE: 2, _INITIALIZER: 8, _INPUT: 1, _OUTPUT: 1, _VALUE_INFO: 1}  # a node is known by its outputs


def prefix_of(number: int) -> str:
    """What stands before all names of one model in the joined graph."""
    return f"{number}/"


def join(models: Sequence[bytes]) -> bytes:
    """Put ONNX models side by side in one graph; the names of model ``n`` begin with ``n/``.

    Raises
    ------
    MissingExtraError
        ``onnx`` is not installed.
    """
    try:
        import onnx
        from onnx import compose
    except ModuleNotFoundError as error:
        raise MissingExtraError("exporting an ensemble", "train") from error
    parts = [compose.add_prefix(onnx.load_from_string(one), prefix_of(n)) for n, one in enumerate(models)]
    joined = parts[0]
    joined.graph.name = "ensemble"
    joined.ir_version = max(part.ir_version for part in parts)
    for part in parts[1:]:
        for name in ("node", "initializer", "input", "output", "value_info"):
            getattr(joined.graph, name).extend(getattr(part.graph, name))
    onnx.checker.check_model(joined, full_check=True)
    return bytes(joined.SerializeToString(deterministic=True))


def taken_out(model: bytes, number: int, where: str) -> bytes:
    """Take one model out of a joined graph; its names keep their prefix.

    Raises
    ------
    BundleError
        There is no such model in it.
    """
    prefix = prefix_of(number).encode()
    try:
        kept = [_part(value, prefix) if field == _GRAPH_FIELD else model[slice(*span)]
                for field, value, span in fields(model)]  # fmt: skip
    except ProtobufError as error:
        raise BundleError(f"{where} is damaged ({error})", next_step="Export it anew") from error
    return b"".join(kept)


def _part(graph: int | bytes, prefix: bytes) -> bytes:
    if isinstance(graph, int):
        raise ProtobufError("the graph is a number")
    kept = [
        graph[slice(*span)]
        for field, value, span in fields(graph)
        if field not in _NAME_IN or any(name.startswith(prefix) for name in _names(value, _NAME_IN[field]))
    ]
    if not any(field == _INPUT for field, _, _ in fields(b"".join(kept))):
        raise ProtobufError(f"it lacks the model {prefix.decode()}")
    return bytes_field(_GRAPH_FIELD, b"".join(kept))


def _names(message: int | bytes, field: int) -> Iterator[bytes]:
    if isinstance(message, bytes):
        yield from (value for number, value, _ in fields(message) if number == field and isinstance(value, bytes))
