"""What is known of the tensors of a graph before it runs, and one operator with its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from musicgenre.bundle._graph import DTYPES, FLOAT, GraphError, Node

FEWEST_BYTES = 4
"""A value is taken for at least as large: narrow ones are widened to compute."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """What is known of a tensor.

    Attributes
    ----------
    shape : tuple of int
        Its shape.
    kind : int
        Its element type.
    known : ndarray or None
        Its values, where they are few and do not depend on the sound.
    is_constant : bool
        Whether it does not depend on the sound.
    """

    shape: Shape
    kind: int = FLOAT
    known: NDArray[Any] | None = None
    is_constant: bool = False

    @property
    def n_bytes(self) -> int:
        """Its size in memory."""
        dtype = DTYPES[self.kind]
        return math.prod(self.shape) * max(FEWEST_BYTES, 2 if dtype is None else dtype.itemsize)


class Call:
    """One operator with what is known of its inputs."""

    def __init__(self, node: Node, inputs: Sequence[Value | None], opset: int) -> None:
        self.node = node
        self.inputs = inputs
        self.opset = opset
        self.work = 0
        self.scratch_bytes = 0

    def __getitem__(self, number: int) -> Value:
        """Give an input that must be there."""
        value = self.optional(number)
        if value is None:
            raise GraphError(f"the operator {self.node.kind} lacks input {number}")
        return value

    def optional(self, number: int) -> Value | None:
        """Give an input, if it is there."""
        return self.inputs[number] if number < len(self.inputs) else None

    def number(self, name: str, default: int) -> int:
        """Give an attribute that is a whole number."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise GraphError(f"{name} of the operator {self.node.kind} is no whole number")
        return value

    def word(self, name: str, default: str) -> str:
        """Give an attribute that is text."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, str):
            raise GraphError(f"{name} of the operator {self.node.kind} is no text")
        return value

    def numbers(self, name: str, default: Sequence[int], *, least: int = 0) -> list[int]:
        """Give an attribute that is a list of whole numbers, as many as the default has."""
        value = self.node.attributes.get(name, list(default))
        if not isinstance(value, list) or len(value) != len(default) or not all(isinstance(n, int) for n in value):
            raise GraphError(f"{name} of the operator {self.node.kind} is no list of {len(default)} whole numbers")
        if any(n < least for n in value):
            raise GraphError(f"{name} of the operator {self.node.kind} is {value}")
        return value

    def given(self, name: str, position: int) -> list[int] | None:
        """Give a list of whole numbers that is an attribute in older operators and an input in newer ones."""
        if name in self.node.attributes:
            value = self.node.attributes[name]
            numbers = value if isinstance(value, list) else [value]
            if not all(isinstance(n, int) for n in numbers):
                raise GraphError(f"{name} of the operator {self.node.kind} is no list of whole numbers")
            return numbers
        value = self.optional(position)
        if value is None:
            return None
        return self.sizes(value)

    def sizes(self, value: Value) -> list[int]:
        """Give the whole numbers of an input that decides how large the result is."""
        if value.known is None or value.known.dtype.kind not in "iu":
            raise GraphError(f"how much the operator {self.node.kind} gives depends on the sound")
        return [int(n) for n in value.known.reshape(-1)]

    def axis(self, value: int, rank: int) -> int:
        """Give the number of an axis, counted from the front."""
        if not -rank <= value < rank:
            raise GraphError(f"the operator {self.node.kind} has axis {value} of {rank}")
        return value % rank

    def axes(self, values: Sequence[int], rank: int) -> list[int]:
        """Give the numbers of several axes, counted from the front; each stands once."""
        found = [self.axis(value, rank) for value in values]
        if len(set(found)) != len(found):
            raise GraphError(f"the operator {self.node.kind} names an axis twice")
        return found

    def wrong(self, *shapes: Shape) -> GraphError:
        """Make the error for shapes that do not go together."""
        return GraphError(f"the operator {self.node.kind} cannot take {' and '.join(map(str, shapes))}")
