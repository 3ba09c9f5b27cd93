"""A Vorbis comment (FLAC, Ogg Vorbis, Opus, Speex): its comments, and the bytes that change when some do.

Structure after the Vorbis I specification, section 5.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from musicgenre.filetags.base import GENRE, GROUPING, MOOD, Changes, damaged, split_custom
from musicgenre.filetags.splice import Edit

_COUNT = struct.Struct("<I")
_KEYS = {GENRE: "GENRE", MOOD: "MOOD", GROUPING: "GROUPING"}


class VorbisComment:
    """One comment block.

    Parameters
    ----------
    data : bytes
        From the length of the vendor string on; more may follow the last comment.

    Raises
    ------
    LibraryError
        It is cut off.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.comments: list[tuple[str, str, int, int]] = []  # key in capitals, value, where it begins and ends
        place = self._length(0) + _COUNT.size
        self._count_at = place
        n_comments = self._length(place)
        place += _COUNT.size
        for _ in range(n_comments):
            end = place + _COUNT.size + self._length(place)
            if end > len(data):
                raise damaged("the Vorbis comment", "a comment is longer than the block")
            key, _, value = data[place + _COUNT.size : end].decode("utf-8", "replace").partition("=")
            self.comments.append((key.upper(), value, place, end))
            place = end
        self.end = place

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field, in order."""
        texts = [value.strip() for key, value, _, _ in self.comments if key == self._key(field)]
        return tuple(dict.fromkeys(text for text in texts if text))

    def text(self, name: str) -> str:
        """First text of `artist`, `albumartist`, `album` or `title`."""
        names = {"albumartist": ("ALBUMARTIST", "ALBUM ARTIST")}.get(name, (name.upper(),))
        return next((value for key, value, _, _ in self.comments if key in names and value), "")

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """The vendor string and every comment but those of the fields."""
        keys = {self._key(field) for field in fields}
        kept = [self._data[start:end] for key, _, start, end in self.comments if key not in keys]
        return [self._data[: self._count_at], *kept]

    def edits(self, changes: Changes, offset: int) -> list[Edit]:
        """Say which bytes change; `offset` is where the block begins in the file."""
        edits, added, n_comments = [], b"", len(self.comments)
        for field, values in changes.items():
            if values == self.values(field):
                continue
            old = [(start, end) for key, _, start, end in self.comments if key == self._key(field)]
            new = b""
            for value in values:
                comment = f"{self._spelled(field)}={value}".encode()
                new += _COUNT.pack(len(comment)) + comment
            n_comments += len(values) - len(old)
            for number, (start, end) in enumerate(old):
                edits.append(Edit(offset + start, self._data[start:end], b"" if number else new))
            if not old:
                added += new
        edits.append(Edit(offset + self.end, b"", added))
        place = self._count_at
        edits.append(Edit(offset + place, self._data[place : place + _COUNT.size], _COUNT.pack(n_comments)))
        return [edit for edit in edits if edit.old != edit.new]

    def _length(self, place: int) -> int:
        if place + _COUNT.size > len(self._data):
            raise damaged("the Vorbis comment", "it is cut off")
        length: int = _COUNT.unpack_from(self._data, place)[0]
        return length

    @staticmethod
    def _key(field: str) -> str:
        return _KEYS.get(field, split_custom(field).upper())

    def _spelled(self, field: str) -> str:
        """The key as the file spells it, where it does."""
        for key, _, start, end in self.comments:
            if key == self._key(field):
                return self._data[start + _COUNT.size : end].split(b"=")[0].decode("utf-8", "replace")
        return self._key(field)


def new_comment(changes: Changes, vendor: str = "musicgenre") -> bytes:
    """Make a comment block with these values by field."""
    comments = b""
    n_comments = 0
    for field, values in changes.items():
        for value in values:
            comment = f"{_KEYS.get(field, split_custom(field).upper())}={value}".encode()
            comments += _COUNT.pack(len(comment)) + comment
            n_comments += 1
    return _COUNT.pack(len(vendor)) + vendor.encode() + _COUNT.pack(n_comments) + comments
