"""What every container's tags can be asked, whatever the container."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from musicgenre.errors import LibraryError
from musicgenre.filetags.splice import Edit

GENRE, MOOD, GROUPING = "genre", "mood", "grouping"
CUSTOM = "custom:"
"""What a field of one's own begins with: `custom:DECADE`."""

SOUND_KEY = "sound:"
"""What the key of a sound begins with, beside checksums of whole files."""

Changes = Mapping[str, tuple[str, ...]]
"""New values by field; none removes the field."""

Span = tuple[int, int]
"""Where something lies in a file: offset and length in bytes."""

_LONGEST_NAME = 60
# What tags name already, in some container or other, without blanks and hyphens.
_TAKEN = frozenset(
    {
        "album", "albumartist", "arranger", "artist", "artists", "asin", "author", "barcode", "bpm", "catalog",
        "catalognumber", "comment", "comments", "compilation", "composer", "conductor", "copyright", "cover",
        "coverart", "date", "description", "disc", "discnumber", "disctotal", "encodedby", "encoder", "ensemble",
        "file", "genre", "grouping", "initialkey", "isrc", "key", "label", "language", "license", "location",
        "lyricist", "lyrics", "media", "mixer", "mood", "movement", "musicbrainzalbumid", "musicbrainzartistid",
        "musicbrainztrackid", "organization", "originaldate", "originalyear", "performer", "picture", "producer",
        "publisher", "rating", "releasedate", "remixer", "subtitle", "title", "totaldiscs", "totaltracks", "track",
        "tracknumber", "tracktotal", "version", "website", "work", "writer", "year",
    }
)  # fmt: skip
_READ_BYTES = 1 << 20


class TagFile(ABC):
    """The tags of one music file, read once.

    Parameters
    ----------
    stream : binary file
        The file; it stays open while the tags are used.

    Raises
    ------
    LibraryError
        The file is not what it begins like, or is damaged where its tags are.
    """

    id3_version: str | None = None  # "2.3", say, where there is an ID3v2 tag

    def __init__(self, stream: BinaryIO, container: str) -> None:
        self.container = container
        self.stream = stream
        self.size = stream.seek(0, os.SEEK_END)

    @abstractmethod
    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field: `genre`, `mood`, `grouping` or `custom:NAME`; genres as names, not numbers."""

    @abstractmethod
    def text(self, name: str) -> str:
        """First text of `artist`, `albumartist`, `album` or `title`; empty where there is none."""

    @abstractmethod
    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change so that the fields hold the values; `upgrade_id3` makes an ID3v2.3 tag a v2.4 one."""

    @abstractmethod
    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every frame, comment or atom of the tags but those of the fields, as it stands in the file."""

    @abstractmethod
    def tag_spans(self) -> list[Span]:
        """Where the tags lie: what another program changes when it writes some."""

    @abstractmethod
    def sound_spans(self) -> list[Span]:
        """Where the sound lies, apart from every tag."""

    def sound_pieces(self) -> Iterator[bytes]:
        """The sound a piece at a time; what it hashes to stays the same whatever is done to the tags."""
        for offset, length in self.sound_spans():
            yield from self.pieces(offset, length)

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """Read a stretch of the file a piece at a time."""
        while length > 0:
            self.stream.seek(offset)
            piece = self.stream.read(min(length, _READ_BYTES))
            if not piece:
                raise LibraryError("the file is shorter than its header says", next_step="Was it copied whole?")
            yield piece
            offset += len(piece)
            length -= len(piece)

    def read(self, offset: int, length: int) -> bytes:
        """Read a stretch of the file, or what there is of it."""
        if offset < 0 or length < 0:
            return b""
        self.stream.seek(offset)
        return self.stream.read(length)


def check_field(field: str) -> None:
    """Refuse a field that is none of ours: what tags say of a track beside its genre is never replaced.

    Raises
    ------
    LibraryError
        The field is unknown, or a field of one's own has the name of one that tags have already.
    """
    if field in (GENRE, MOOD, GROUPING):
        return
    name = split_custom(field)
    is_plain = name.isascii() and all(character.isalnum() or character in " _-" for character in name)
    if not field.startswith(CUSTOM) or not is_plain or not 2 <= len(name) <= _LONGEST_NAME:
        raise LibraryError(
            f"{field!r} is no field that can be written",
            valid=f"genre, mood, grouping, or custom:NAME with a name of 2 to {_LONGEST_NAME} letters and digits",
        )
    if "".join(filter(str.isalnum, name.lower())) in _TAKEN:
        raise LibraryError(
            f"the field {name!r} says something else already", next_step="Choose a name of your own, such as DECADE"
        )


def split_custom(field: str) -> str:
    """Name of a field of one's own: `DECADE` of `custom:DECADE`."""
    return field.removeprefix(CUSTOM)


def damaged(what: str, reason: str) -> LibraryError:
    """Make the error of tags that cannot be taken apart safely."""
    return LibraryError(
        f"{what} cannot be changed safely ({reason})",
        next_step="Let a tag editor write this file once (Picard, say), then try again",
    )
