"""Memory of files dealt with before, so that they are known again when nothing or only their name has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from musicgenre._files import sha256_of

Value = TypeVar("Value")

_KEPT_HASHES = 64


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells whether a file changed without reading it.

    Parameters
    ----------
    size_bytes : int
        Its size.
    modified_ns : int
        When its content was last written, in nanoseconds since 1970.
    """

    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """Take the state of ``path``; raises OSError."""
        found = Path(path).stat()
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Known(Generic[Value]):
    """A file that was dealt with before.

    Parameters
    ----------
    value : object
        What was remembered with it.
    name : str
        The name it was remembered under.
    state : FileState
        Its state now.
    sha256 : str
        Hex SHA-256 of its content, or another key of it; empty where it was not taken.
    is_unchanged : bool
        Whether it has the name and the state of then; otherwise its content was met under this or another name.
    """

    value: Value
    name: str
    state: FileState
    sha256: str
    is_unchanged: bool


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    """What is kept of a file."""

    state: FileState
    sha256: str
    value: Value


class KnownFiles(Generic[Value]):
    """Files by name and by content, each with a value; the latest of one name or content counts.

    Parameters
    ----------
    other_key : callable, optional
        Asked for what else identifies the content of a file whose bytes are not known: empty where nothing does.
    """

    def __init__(self, other_key: Callable[[Path], str] | None = None) -> None:
        self._other_key = other_key
        self._entries: dict[str, _Entry[Value]] = {}
        self._name_of: dict[str, str] = {}  # by SHA-256
        self._sizes: set[int] = set()

    def remember(self, name: str, state: FileState, sha256: str, value: Value, *, of_all_bytes: bool = True) -> None:
        """Keep a file; one of the same name is replaced.

        Parameters
        ----------
        name : str
            Its path, or how that is spelled where it is written down.
        state : FileState
            What it was like before it was dealt with, so that a change meanwhile is noticed.
        sha256 : str
            Hex SHA-256 of its content, or another key of it; empty: it is known by its name alone.
        value : object
            What to find again.
        of_all_bytes : bool
            Whether the key is that of all its bytes, so that only a file of the same size can have it.
        """
        self.forget(name)
        self._entries[name] = _Entry(state, sha256, value)

        if sha256:
            self._name_of[sha256] = name
            if of_all_bytes:
                self._sizes.add(state.size_bytes)

    def forget(self, name: str) -> None:
        """Drop a file, if it is known."""
        entry = self._entries.pop(name, None)
        if entry is not None and self._name_of.get(entry.sha256) == name:
            del self._name_of[entry.sha256]

    def find(self, path: str | Path, name: str | None = None) -> Known[Value] | None:
        """Recognise a file by its name and state, or else by its content.

        Parameters
        ----------
        path : str or Path
            The file. It is read only where another of its size is known.
        name : str, optional
            What it would be remembered under, where that is spelled differently.

        Returns
        -------
        Known or None
            None for content not met before, and for a file that cannot be read.
        """
        name = str(path) if name is None else name
        try:
            state = FileState.of(path)
            entry = self._entries.get(name)
            if entry is not None and entry.state == state:
                return Known(entry.value, name, state, entry.sha256, is_unchanged=True)

            sha256 = sha256_of(Path(path)) if state.size_bytes in self._sizes else ""
            if sha256 not in self._name_of and self._other_key is not None:
                sha256 = self._other_key(Path(path))
        except OSError:
            return None

        known_as = self._name_of.get(sha256)
        if known_as is None:
            return None
        return Known(self._entries[known_as].value, known_as, state, sha256, is_unchanged=False)


def known_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content, read again only if the file changed since this process last asked."""
    return _sha256_in_state(path, FileState.of(path))


@lru_cache(maxsize=_KEPT_HASHES)
def _sha256_in_state(path: Path, _state: FileState) -> str:
    """Hash a file; its state is part of what the hash is kept under."""
    return sha256_of(path)
