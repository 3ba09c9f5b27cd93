"""Names of files as text that any terminal and any JSON file can hold."""

from __future__ import annotations

import os


def printable(path: str | bytes | os.PathLike[str]) -> str:
    r"""Return a file's name with everything that cannot be printed escaped.

    Parameters
    ----------
    path : str, bytes or path-like
        A name as the operating system gives it; bytes that are not UTF-8 may stand in it as surrogates.

    Returns
    -------
    str
        The name, with undecodable bytes as ``\xNN`` and control characters as ``\n``, ``\x1b``, ...
    """
    raw = path if isinstance(path, bytes) else os.fspath(path).encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
