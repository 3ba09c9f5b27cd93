"""The exception family: every error a person can cause or meet.

Each message names the bad value, what would be valid, and the next step. The command line prints the message
alone (no traceback) and maps the class to an exit code.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager


class MusicgenreError(Exception):
    """Base of all errors raised on purpose by musicgenre.

    Parameters
    ----------
    problem : str
        What is wrong, with the bad value in it. One sentence, without the full stop.
    valid : str, optional
        What would have been valid, without the full stop: a sentence, or a list or phrase that begins in lower case or
        with an abbreviation (PNG), which the message introduces with "Valid:".
    next_step : str, optional
        What to do now. One sentence, without the full stop.
    """

    def __init__(self, problem: str, *, valid: str = "", next_step: str = "") -> None:
        # What comes from a file may stand in any of them, and a message is one line that leaves the terminal as it is.
        problem, valid, next_step = escaped(problem), escaped(valid), escaped(next_step)
        self.problem = problem
        self.valid = valid
        self.next_step = next_step
        is_sentence = valid[:1].isupper() and not valid[1:2].isupper()
        if valid and not is_sentence:
            valid = f"Valid: {valid}"
        super().__init__(". ".join(part.rstrip(".") for part in (problem, valid, next_step) if part) + ".")

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, so that the error crosses process borders whole."""
        return (_rebuild, (type(self), self.problem, self.valid, self.next_step))


class AudioError(MusicgenreError):
    """A file or array that cannot be heard: missing, empty, not audio, no samples, ..."""


class BundleError(MusicgenreError):
    """A model bundle that is missing, damaged, too new, or cannot be fetched."""


class DataError(MusicgenreError):
    """A manifest, data set, split or feature store that cannot be used as it stands."""


class RecipeError(MusicgenreError):
    """A training recipe with an unknown key, a wrong type or an impossible combination."""


class RunError(MusicgenreError):
    """A run folder that is missing, damaged, from a newer version, or whose training failed."""


class LibraryError(MusicgenreError):
    """A music file whose tags cannot be read, written or taken back, or a plan or journal that cannot be used."""


class UsageError(MusicgenreError):
    """A request that contradicts itself or names something that does not exist."""


class MissingExtraError(MusicgenreError):
    """A part of musicgenre that needs an optional install (an extra) which is not there.

    Parameters
    ----------
    what : str
        The thing that was asked for.
    extra : str
        The extra to install, as `musicgenre._install.install_advice` takes it.
    """

    def __init__(self, what: str, extra: str) -> None:
        from musicgenre._install import install_advice

        self.what = what
        self.extra = extra
        super().__init__(f"{what} needs packages that are not installed", next_step=install_advice(extra))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling."""
        return (MissingExtraError, (self.what, self.extra))


def escaped(text: str) -> str:
    r"""Write what cannot be printed as ``\n``, ``\x1b``, ..., and leave the rest as it is."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Turn an absent third-party package, imported in the block, into a `MissingExtraError`.

    Parameters
    ----------
    what, extra : str
        As `MissingExtraError` takes them.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "musicgenre":
            raise  # a fault of ours, which no install mends
        raise MissingExtraError(what, extra) from error


def require(what: str, extra: str, *packages: str) -> None:
    """Refuse at once what would fail for want of a package after long work; none is imported.

    Parameters
    ----------
    what, extra : str
        As `MissingExtraError` takes them.
    *packages : str
        Top-level modules that it needs.

    Raises
    ------
    MissingExtraError
        One of them is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(what, extra)


def _rebuild(kind: type[MusicgenreError], problem: str, valid: str, next_step: str) -> MusicgenreError:
    return kind(problem, valid=valid, next_step=next_step)
