"""Write ONNX graphs node by node. Low opset and IR, so that old onnxruntimes read them.

Only code that writes a bundle imports this (and with it `onnx`); reading a bundle needs onnxruntime alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 7

Attribute = int | float | str | list[int] | list[float]
Dimension = int | str
_KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class GraphBuilder:
    """Collects nodes, constants, inputs and outputs; tensors are passed around by name.

    Parameters
    ----------
    name : str
        Name of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._known: dict[tuple[bytes, str, tuple[int, ...]], str] = {}
        self._count = 0

    def input(self, name: str, kind: Literal["float32", "int64"], shape: Sequence[Dimension]) -> str:
        """Declare an input; a string stands for a dimension of any length."""
        self._inputs.append(helper.make_tensor_value_info(name, _KINDS[kind], list(shape)))
        return name

    def optional_input(self, name: str, default: NDArray[np.generic]) -> str:
        """Declare an input that holds ``default`` unless the caller feeds it."""
        self._inputs.append(
            helper.make_tensor_value_info(name, _KINDS[str(default.dtype)], [int(n) for n in default.shape])
        )
        self._constants.append(numpy_helper.from_array(default, name))
        return name

    def output(self, tensor: str, name: str, shape: Sequence[Dimension]) -> None:
        """Declare ``tensor`` an output called ``name`` (float32)."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def floats(self, values: ArrayLike) -> str:
        """Add a float32 constant."""
        return self._constant(np.asarray(values, dtype=np.float32))

    def integers(self, values: ArrayLike) -> str:
        """Add an int64 constant."""
        return self._constant(np.asarray(values, dtype=np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node with one result; give the result's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, n_outputs: int, *inputs: str, **attributes: Attribute) -> list[str]:
        """Add a node with several results; give their names."""
        names = [self._fresh(kind) for _ in range(n_outputs)]
        node = helper.make_node(kind, list(inputs), names)
        # in the order of their names, so that the same graph makes the same bytes
        node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(attributes.items()))
        self._nodes.append(node)
        return names

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        """Reshape; 0 keeps a dimension, -1 infers one."""
        return self.op("Reshape", tensor, self.integers(list(shape)))

    def transpose(self, tensor: str, order: Sequence[int]) -> str:
        """Reorder the axes."""
        return self.op("Transpose", tensor, perm=list(order))

    def slice(self, tensor: str, axis: int, start: int, stop: int, step: int = 1) -> str:
        """Take ``start:stop:step`` along one axis."""
        bounds = (self.integers([number]) for number in (start, stop, axis, step))
        return self.op("Slice", tensor, *bounds)

    def build(self) -> bytes:
        """Give the finished model, checked, as the bytes of an ONNX file."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="musicgenre"
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _constant(self, array: NDArray[np.generic]) -> str:
        """Add a constant, once however often it is asked for: equal ones share a tensor of the file."""
        key = (array.tobytes(), str(array.dtype), array.shape)
        if key not in self._known:
            self._known[key] = self._fresh("constant")
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), self._known[key]))
        return self._known[key]

    def _fresh(self, kind: str) -> str:
        """Name a tensor as no other is named."""
        self._count += 1
        return f"{kind.lower()}_{self._count}"
