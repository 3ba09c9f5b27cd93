"""YAML that people write: plain values alone, nothing that grows when it is read, and what is wrong as one error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musicgenre._json import LARGEST_INTEGER, is_plain
from musicgenre.errors import needing

with needing("reading recipes", "train"):  # the light install has no YAML
    import yaml

# Far more than any recipe has: a list of every track of a large collection fits.
_MOST_BYTES = 10_000_000
_MOST_VALUES = 100_000  # each as often as an alias repeats it
_DEEPEST = 50

_TAG = "tag:yaml.org,2002:"
_WORD, _MERGED = f"{_TAG}str", f"{_TAG}merge"
_PLAIN = {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
_DATE = f"{_TAG}timestamp"
_SHOWN_CHARACTERS = 40


def read_yaml(path: Path) -> Any:
    """Read the YAML of a file in UTF-8.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is too large, no text, or `parsed_yaml` refuses what it says.
    """
    n_bytes = path.stat().st_size
    if n_bytes > _MOST_BYTES:
        raise ValueError(f"it has {n_bytes / 1e6:.0f} MB, and {_MOST_BYTES / 1e6:.0f} MB are the most")
    return parsed_yaml(path.read_text(encoding="utf-8-sig"))  # Windows editors like to begin with a mark


def parsed_yaml(text: str) -> Any:
    """Read YAML whose values are plain: texts, numbers, true and false, null, lists, and mappings with words as keys.

    Aliases (`*name`) and merged mappings (`<<`) are welcome as long as what they stand for is finite and small.

    Parameters
    ----------
    text : str
        One YAML document.

    Raises
    ------
    ValueError
        For whatever is wrong with it: no YAML, a date, another kind of value, a key twice, brackets within brackets
        without end, a value that holds itself, aliases that stand for more than 100,000 values.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _n_values(node, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except LookupError as error:  # such as `!!bool maybe`
        raise ValueError("a value is not of the kind that stands in front of it (!!)") from error


class _Loader(yaml.SafeLoader):
    """Reads nodes no deeper and no more of them than any recipe has, and whole numbers of a size."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._n_nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Read the next value with all that it holds."""
        self._n_nodes += 1
        self._depth += 1
        if self._depth > _DEEPEST or self._n_nodes > _MOST_VALUES:
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            if self._depth > _DEEPEST:
                raise ValueError(f"line {line}: more than {_DEEPEST} lists or mappings stand within each other")
            raise ValueError(f"line {line}: it has more than {_MOST_VALUES:,} values")

        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def integer(self, node: yaml.ScalarNode) -> int:
        """Read a whole number: one of thousands of digits could not even be shown."""
        try:
            number = int(self.construct_yaml_int(node))
        except ValueError:
            number = LARGEST_INTEGER + 1  # so many digits that Python takes none of them, or `!!int` before a word
        if abs(number) > LARGEST_INTEGER:
            raise ValueError(f"{_where(node)} is no whole number up to 2^64")
        return number

    def word(self, node: yaml.ScalarNode) -> str:
        """Read a text: one with half a character can be written nowhere."""
        text = str(self.construct_scalar(node))
        if not is_plain(text):
            raise ValueError(f"{_where(node)} holds half a character")
        return text


_Loader.add_constructor(f"{_TAG}int", _Loader.integer)
_Loader.add_constructor(_WORD, _Loader.word)


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values that a node stands for, each as often as aliases repeat it; refuse what is not plain."""
    n_values = known.get(id(node))
    if n_values == 0:
        raise ValueError(f"line {node.start_mark.line + 1}: what begins there holds itself")
    if n_values is not None:
        return n_values

    if node.tag == _DATE:
        raise ValueError(f"{_where(node)} is a date to YAML, and none is wanted: put it in quotes to make it text")
    if node.tag not in _PLAIN:
        kind = node.tag.removeprefix(_TAG)
        raise ValueError(f"{_where(node)} is of the kind {kind!r}; only text, numbers, lists and mappings are read")

    known[id(node)] = 0  # for the time in which it would be met within itself
    n_values = 1
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            n_values += _n_values(value, known)
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for _, value in node.value:
            n_values += 1 + _n_values(value, known)

    if n_values > _MOST_VALUES:
        line = node.start_mark.line + 1
        raise ValueError(f"line {line}: its aliases stand for more than {_MOST_VALUES:,} values")
    known[id(node)] = n_values
    return n_values


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuse keys that are no words, and one that stands twice: the first would be lost."""
    keys = set()
    for key, _ in node.value:
        if key.tag == _MERGED:
            continue
        if key.tag != _WORD or not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"{_where(key)} stands as a key, and keys are words: put it in quotes")
        if key.value in keys:
            raise ValueError(f"{_where(key)} stands twice as a key")
        keys.add(key.value)


def _where(node: yaml.Node) -> str:
    """A value, cut short, and the line that it stands in."""
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        return f"line {line}: a list or mapping"
    cut_short = "..." if len(node.value) > _SHOWN_CHARACTERS else ""
    return f"line {line}: {ascii(node.value[:_SHOWN_CHARACTERS])[1:-1]}{cut_short}"
