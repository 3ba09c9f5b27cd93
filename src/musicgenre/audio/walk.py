"""Find the sound files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

# Every name under which something comes that decodes, whatever else may be in it.
AUDIO_SUFFIXES = frozenset(
    {
        *(
            ".wav",
            ".wave",
            ".bwf",
            ".flac",
            ".mp3",
            ".mpga",
            ".m2a",
            ".mp2",
            ".mp1",
            ".mpa",
            ".ogg",
            ".oga",
            ".opus",
            ".spx",
        ),
        *(".aiff", ".aif", ".aifc", ".afc", ".iff", ".8svx", ".au", ".snd", ".voc", ".sph", ".nist", ".sf", ".caf"),
        *(".m4a", ".m4b", ".m4p", ".m4r", ".aac", ".adts", ".alac", ".wma", ".asf", ".wv", ".w64", ".rf64", ".ape"),
        *(".apl", ".mac", ".tta", ".tak", ".shn", ".mpc", ".mp+", ".mpp", ".dsf", ".dff", ".wsd", ".xwma", ".oma"),
        *(".aa3", ".omg", ".ac3", ".ec3", ".eac3", ".dts", ".dtshd", ".amr", ".awb", ".ra", ".rm", ".mka", ".weba"),
        *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".mk3d", ".webm", ".3gp", ".3g2", ".3ga", ".avi", ".divx", ".wmv"),
        *(".flv", ".f4v", ".f4a", ".ogv", ".ogx", ".mpg", ".mpeg", ".vob", ".ts", ".m2ts", ".mts", ".m2t", ".rmvb"),
    }
)


def find_audio_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], exclude: Sequence[str] = ()
) -> Iterator[Path]:
    """List the sound files that paths name or hold.

    Parameters
    ----------
    paths : path or iterable of paths
        Files come back as they are, whatever they are called and whether or not they exist, so that the caller
        meets (and reports) what is wrong with them. Folders are walked with all below them, sorted by name.
    exclude : sequence of str
        Glob patterns (`*`, `?`, `[...]`). One that matches a file's or folder's name, or its path below the
        named folder (with `/`), leaves it out, with all that is in it.

    Yields
    ------
    Path
        Each file once, by the first name it is met under. In folders: names with a suffix of `AUDIO_SUFFIXES` and
        without a leading dot. Links to folders are followed, but no folder is entered twice. A folder that cannot be
        listed is given out itself, so that opening it tells why.
    """
    named = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    seen: set[tuple[int, int]] = set()  # folders by device and inode: links may lead in circles
    given: set[str] = set()

    for path in map(Path, named):
        found = _walk(path, PurePath(), tuple(exclude), seen) if _is_folder(path) else iter([path])
        for file in found:
            key = os.path.realpath(file)
            if key not in given:
                given.add(key)
                yield file


def is_in_walk(path: PurePath, folder: PurePath, exclude: Sequence[str] = ()) -> bool:
    """Tell whether `find_audio_files` would list a file below a folder: by its names alone, which nobody looks up.

    Parameters
    ----------
    path, folder : PurePath
        A file, and the folder that is walked, both absolute.
    exclude : sequence of str
        As `find_audio_files` takes it.
    """
    if not path.is_relative_to(folder) or path.suffix.lower() not in AUDIO_SUFFIXES:
        return False
    below = path.relative_to(folder)
    steps = [below, *below.parents][:-1]  # the last parent is the folder itself
    return not any(_is_left_out(inner, exclude) for inner in steps)


def _walk(folder: Path, below: PurePath, exclude: tuple[str, ...], seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Walk one folder; `below` is its path under the folder that was named, `seen` holds those entered."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:  # who opens it is told why
        yield folder
        return

    for entry in ordered:
        inner = below / entry.name
        if _is_left_out(inner, exclude):
            continue

        if _is_folder(entry):
            yield from _walk(folder / entry.name, inner, exclude, seen)
        elif PurePath(entry.name).suffix.lower() in AUDIO_SUFFIXES:
            yield folder / entry.name


def _is_left_out(inner: PurePath, exclude: Sequence[str]) -> bool:
    """Tell whether a file or folder, by its path below the walked folder, is hidden or matches a glob."""
    names = (inner.name, inner.as_posix())
    return inner.name.startswith(".") or any(fnmatchcase(name, glob) for glob in exclude for name in names)


def _is_folder(entry: os.DirEntry[str] | Path) -> bool:
    """Tell whether an entry is a folder; one that cannot be looked at is not."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself, a name that is too long, no permission to look
        return False
