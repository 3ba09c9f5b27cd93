"""A map in TOML from a model's labels to one's own tree of genres."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any, Literal

from musicgenre._text import did_you_mean, did_you_mean_path, printable, short_repr
from musicgenre.errors import UsageError
from musicgenre.models.wide import load_wide

Casing = Literal["as-is", "title", "lower"]

_CASINGS = ("as-is", "title", "lower")
_KEYS = ("casing", "write_parents", "whitelist", "labels", "parents", "ignore")
_MOST_PARENTS = 16
_WIDE_MAP = "If the map was made with --genres wide, plan with --genres wide, too"
# What players split a genre at, as docs/players.md tells with its sources; some that are not named there split at "&".
_SEPARATORS = (";", "/", ",", "&")
_SPLIT_AT = {"Navidrome": (";", "/", ","), "Jellyfin if its library is set so": (";", "/"), "Plex": (";",)}


@dataclass(frozen=True, slots=True)
class GenreMap:
    """How labels become genres in files.

    Attributes
    ----------
    labels : mapping of str to tuple of str
        One's own names by label of the model; none drops the label. What is not named stays as it is.
    parents : mapping of str to str
        The broader genre of a name of one's own.
    write_parents : bool
        Whether broader genres are written behind.
    casing : {"as-is", "title", "lower"}
        How names are spelled.
    whitelist : tuple of str
        Names that may be written, in any case; empty: all.
    ignored_artists, ignored_folders : mapping of str to tuple of str
        Names never written for an artist, or below a folder (both by shell patterns, without regard to case).
    """

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    write_parents: bool = False
    casing: Casing = "as-is"
    whitelist: tuple[str, ...] = ()
    ignored_artists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignored_folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names(self, labels: Iterable[str], *, artist: str = "", path: str = "") -> tuple[str, ...]:
        """Genres to write for labels, most important first, none twice.

        Parameters
        ----------
        labels : iterable of str
            What the model says.
        artist, path : str
            Of the track, for what is ignored there.
        """
        names: list[str] = []
        for label in labels:
            for own in self.labels.get(label, (label,)):
                names.append(own)
                parent, steps = self.parents.get(own, ""), 0
                while self.write_parents and parent and steps < _MOST_PARENTS:
                    names.append(parent)
                    parent, steps = self.parents.get(parent, ""), steps + 1

        ignored = [name for pattern, drops in self.ignored_artists.items() if _fits(artist, pattern) for name in drops]
        for pattern, drops in self.ignored_folders.items():
            if any(_fits(str(folder), pattern) or _fits(folder.name, pattern) for folder in PurePath(path).parents):
                ignored += drops
        allowed = {name.casefold() for name in self.whitelist}

        kept: dict[str, str] = {}
        for name in names:
            key = name.casefold()
            if (allowed and key not in allowed) or any(_fits(name, pattern) for pattern in ignored):
                continue
            kept.setdefault(key, self._spelled(name))
        return tuple(kept.values())

    def _spelled(self, name: str) -> str:
        if self.casing == "lower":
            return name.lower()
        if self.casing == "title":
            return " ".join(word[:1].upper() + word[1:] for word in name.split(" "))
        return name


def read_map(path: Path, labels: Sequence[str]) -> GenreMap:
    """Read a map.

    Parameters
    ----------
    path : Path
        The TOML file.
    labels : sequence of str
        What the model can say: a label of the map that is none of them is a mistake.

    Raises
    ------
    UsageError
        The file cannot be read, or holds a key, a label or a value that is not known.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        meant = did_you_mean_path(path) if isinstance(error, FileNotFoundError) else ""
        raise UsageError(
            f"the map {printable(path)} cannot be read ({getattr(error, 'strerror', None) or error})",
            next_step=f"{meant}`musicgenre library map init` writes one",
        ) from error

    for key in content:
        if key not in _KEYS:
            raise UsageError(
                f"the map {path} has a key {key!r}", valid=f"{did_you_mean(key, _KEYS)}{', '.join(_KEYS)}"
            )
    casing = content.get("casing", "as-is")
    if casing not in _CASINGS:
        raise UsageError(f"casing = {short_repr(casing)} in the map {path}", valid=", ".join(_CASINGS))
    write_parents = content.get("write_parents", False)
    if not isinstance(write_parents, bool):
        raise UsageError(f"write_parents = {short_repr(write_parents)} in the map {path}", valid="true, false")

    named = _table(path, "labels", content.get("labels", {}))
    for label in named:
        if label not in labels:
            raise UsageError(
                f"the map {path} names a label {label!r} that the model cannot say",
                valid=f"{did_you_mean(label, labels)}Labels: {', '.join(sorted(labels))}",
                next_step=_WIDE_MAP if label in load_wide().names else "",
            )
    broader = content.get("parents", {})
    if not isinstance(broader, dict):
        raise UsageError(f"[parents] in the map {path} is {short_repr(broader)}", valid="A table: name = broader name")
    parents = {}
    for name, parent in broader.items():
        if not isinstance(parent, str):
            raise UsageError(
                f"parents.{name} = {short_repr(parent)} in the map {path}", valid="The name of one broader genre"
            )
        parents[name] = parent
    ignore = content.get("ignore", {})
    if not isinstance(ignore, dict) or set(ignore) - {"artists", "folders"}:
        raise UsageError(f"[ignore] in the map {path}", valid="Tables [ignore.artists] and [ignore.folders]")

    return GenreMap(
        labels=named,
        parents=parents,
        write_parents=write_parents,
        casing=casing,
        whitelist=_names(path, "whitelist", content.get("whitelist", [])),
        ignored_artists=_table(path, "ignore.artists", ignore.get("artists", {})),
        ignored_folders=_table(path, "ignore.folders", ignore.get("folders", {})),
    )


def map_to_begin_with(labels: Sequence[str], model: str) -> str:
    """Text of a commented map that leaves every label as it is."""
    lines = [
        f"# From what {model} says to your own genres: musicgenre library plan ... --map THIS_FILE",
        "# Left of = is the model's label, right of it what is written: one name, several in [ ], or [] for nothing.",
        "",
        'casing = "as-is"        # or "title", "lower"',
        "write_parents = false   # true: broader genres from [parents] are written behind",
        "whitelist = []          # only these may be written; empty: all",
        "",
        "[labels]",
    ]
    for label in labels:
        lines.append(f"{_quoted(label)} = {_quoted(label)}")
    lines += [
        "",
        "[parents]               # a name of yours = the broader one",
        '# "Bebop" = "Jazz"',
        "",
        "[ignore.artists]        # names never written for an artist; * stands for anything",
        '# "Nina Simone" = ["Pop"]',
        "",
        "[ignore.folders]        # and below a folder",
        '# "Audiobooks" = ["*"]',
    ]
    return "\n".join(lines) + "\n"


def risky(name: str) -> str:
    """Which separators a name holds that players split a genre at, and who does so; empty if none."""
    marks = [mark for mark in _SEPARATORS if mark in name]
    if not marks:
        return ""
    who = []
    for player, own in _SPLIT_AT.items():
        found = [mark for mark in marks if mark in own]
        if found:
            who.append(f"{player} at {' '.join(found)}")
    told = f": {'; '.join(who)}" if who else ""
    return f"some players split {name!r} at {' '.join(marks)}{told}"


def _fits(text: str, pattern: str) -> bool:
    return fnmatchcase(text.casefold(), pattern.casefold())


def _table(path: Path, key: str, content: Any) -> dict[str, tuple[str, ...]]:
    """Read a table of names."""
    if not isinstance(content, dict):
        raise UsageError(
            f"[{key}] in the map {path} is {short_repr(content)}", valid="A table: name = name, or name = [names]"
        )
    return {name: _names(path, f"{key}.{name}", value) for name, value in content.items()}


def _names(path: Path, key: str, value: Any) -> tuple[str, ...]:
    """Read a name or a list of names; an empty name is none."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(
            f"{key} = {short_repr(value)} in the map {path}", valid='A name, or a list of names: ["Jazz", "Soul"]'
        )
    for text in texts:
        if any(ord(character) < 32 for character in text):
            raise UsageError(
                f"{key} = {short_repr(value)} in the map {path}", valid="Names without control characters"
            )
    return tuple(text.strip() for text in texts if text.strip())


def _quoted(text: str) -> str:
    """Write a text as TOML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
