"""WMA (ASF): objects in a header; tags are attributes in two of them.

Structure after Microsoft's Advanced Systems Format specification, revision 1.20.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from musicgenre.filetags.base import GENRE, GROUPING, MOOD, Changes, Span, TagFile, damaged, split_custom
from musicgenre.filetags.splice import Edit

_HEADER = uuid.UUID("75B22630-668E-11CF-A6D9-00AA0062CE6C").bytes_le
_FILE_PROPERTIES = uuid.UUID("8CABDCA1-A947-11CF-8EE4-00C00C205365").bytes_le
_CONTENT = uuid.UUID("75B22633-668E-11CF-A6D9-00AA0062CE6C").bytes_le
_EXTENDED_CONTENT = uuid.UUID("D2D0A440-E307-11D2-97F0-00A0C95EA850").bytes_le
_HEADER_BYTES, _OBJECT_BYTES = 30, 24
_UNICODE = 0
_KEYS = {GENRE: "WM/Genre", MOOD: "WM/Mood", GROUPING: "WM/ContentGroupDescription"}
_TEXTS = {"albumartist": "WM/AlbumArtist", "album": "WM/AlbumTitle"}
_SIZE_LIMIT = 1 << 28


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; places count in the file."""

    name: str
    kind: int
    value: bytes
    start: int
    end: int

    @property
    def text(self) -> str:
        """Its value, where that is text."""
        return self.value.decode("utf-16-le", "replace").rstrip("\0") if self.kind == _UNICODE else ""


class AsfFile(TagFile):
    """Tags of a WMA file."""

    def __init__(self, stream: BinaryIO, container: str) -> None:
        super().__init__(stream, container)
        head = self.read(0, _HEADER_BYTES)
        if len(head) < _HEADER_BYTES or head[:16] != _HEADER:
            raise damaged("the WMA file", "its header is cut off")
        self._header_size, self._n_objects = struct.unpack_from("<QI", head, 16)
        if not _HEADER_BYTES <= self._header_size <= min(self.size, _SIZE_LIMIT):
            raise damaged("the WMA file", "its header has an impossible size")

        self._objects: dict[bytes, Span] = {}  # the first of each kind
        place = _HEADER_BYTES
        for _ in range(self._n_objects):
            kind, size = struct.unpack("<16sQ", self.read(place, _OBJECT_BYTES).ljust(_OBJECT_BYTES, b"\0"))
            if size < _OBJECT_BYTES or place + size > self._header_size:
                raise damaged("the WMA file", "an object of its header has an impossible size")
            self._objects.setdefault(kind, (place, size))
            place += size
        self._objects_end = place
        self._attributes = self._read_attributes()

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field, in order."""
        texts = [attribute.text.strip() for attribute in self._of(field)]
        return tuple(dict.fromkeys(text for text in texts if text))

    def text(self, name: str) -> str:
        """Artist, album artist, album or title."""
        if name in _TEXTS:
            return next((found.text for found in self._attributes if found.name == _TEXTS[name]), "")
        start, size = self._objects.get(_CONTENT, (0, 0))
        content = self.read(start, size)[_OBJECT_BYTES:]
        if len(content) < 10:
            return ""
        title, artist = struct.unpack_from("<2H", content)
        piece = content[10 : 10 + title] if name == "title" else content[10 + title : 10 + title + artist]
        return piece.decode("utf-16-le", "replace").rstrip("\0")

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change: attributes, their number, and the sizes of object, header and file."""
        edits: list[Edit] = []
        added, n_attributes = b"", len(self._attributes)
        for name, values in changes.items():
            if values == self.values(name):
                continue
            key = _KEYS.get(name, split_custom(name))
            new = b"".join(_attribute(key, value) for value in values)
            old = self._of(name)
            n_attributes += len(values) - len(old)
            for number, found in enumerate(old):
                content = self.read(found.start, found.end - found.start)
                edits.append(Edit(found.start, content, b"" if number else new))
            if not old:
                added += new
        if not edits and not added:
            return []
        if n_attributes >= 1 << 16:
            raise damaged("the WMA file", "it has more attributes than can be counted")

        head = self.read(0, _HEADER_BYTES)
        n_objects = self._n_objects
        if _EXTENDED_CONTENT in self._objects:
            start, size = self._objects[_EXTENDED_CONTENT]
            end = self._attributes[-1].end if self._attributes else start + _OBJECT_BYTES + 2
            edits.append(Edit(end, b"", added))
            growth = sum(len(edit.new) - len(edit.old) for edit in edits)
            edits.append(Edit(start + 16, struct.pack("<Q", size), struct.pack("<Q", size + growth)))
            place = start + _OBJECT_BYTES
            edits.append(Edit(place, self.read(place, 2), struct.pack("<H", n_attributes)))
        else:
            content = struct.pack("<H", n_attributes) + added
            whole = _EXTENDED_CONTENT + struct.pack("<Q", _OBJECT_BYTES + len(content)) + content
            edits.append(Edit(self._objects_end, b"", whole))
            growth = len(whole)
            n_objects += 1
        sizes = struct.pack("<QI", self._header_size + growth, n_objects)
        edits.append(Edit(16, head[16:28], sizes))

        # The header also says how long the file is.
        if _FILE_PROPERTIES in self._objects:
            place = self._objects[_FILE_PROPERTIES][0] + _OBJECT_BYTES + 16
            old_size = self.read(place, 8)
            if int.from_bytes(old_size, "little") == self.size:
                edits.append(Edit(place, old_size, struct.pack("<Q", self.size + growth)))
        return [edit for edit in edits if edit.old != edit.new]

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other attribute and object of the header, but for the length of the file."""
        mine = {found.start for name in fields for found in self._of(name)}
        kept = []
        for found in self._attributes:
            if found.start not in mine:
                kept.append(self.read(found.start, found.end - found.start))
        for kind, (start, size) in self._objects.items():
            content = self.read(start, size)
            if kind == _FILE_PROPERTIES:
                content = content[: _OBJECT_BYTES + 16] + content[_OBJECT_BYTES + 24 :]
            if kind != _EXTENDED_CONTENT:
                kept.append(content)
        return kept

    def tag_spans(self) -> list[Span]:
        """Where the header lies."""
        return [(0, self._header_size)]

    def sound_spans(self) -> list[Span]:
        """Where the sound lies."""
        return [(self._header_size, self.size - self._header_size)]

    def _of(self, field: str) -> list[Attribute]:
        key = _KEYS.get(field, split_custom(field)).lower()
        return [found for found in self._attributes if found.name.lower() == key and found.kind == _UNICODE]

    def _read_attributes(self) -> list[Attribute]:
        """Attributes of the extended content description."""
        if _EXTENDED_CONTENT not in self._objects:
            return []
        start, size = self._objects[_EXTENDED_CONTENT]
        data = self.read(start, size)
        attributes = []
        place = _OBJECT_BYTES + 2
        try:
            (n_attributes,) = struct.unpack_from("<H", data, _OBJECT_BYTES)
            for _ in range(n_attributes):
                begin = place
                (name_bytes,) = struct.unpack_from("<H", data, place)
                name = data[place + 2 : place + 2 + name_bytes].decode("utf-16-le", "replace").rstrip("\0")
                kind, value_bytes = struct.unpack_from("<2H", data, place + 2 + name_bytes)
                place += 6 + name_bytes + value_bytes
                if place > size:
                    raise damaged("the WMA file", "an attribute is longer than its object")
                attributes.append(
                    Attribute(name, kind, data[place - value_bytes : place], start + begin, start + place)
                )
        except struct.error as error:
            raise damaged("the WMA file", "its attributes are cut off") from error
        return attributes


def _attribute(name: str, value: str) -> bytes:
    """Write an attribute of text."""
    spelled = [(text + "\0").encode("utf-16-le") for text in (name, value)]
    if len(spelled[1]) >= 1 << 16:
        raise damaged("the WMA file", "a value would be longer than an attribute can be")
    return struct.pack("<H", len(spelled[0])) + spelled[0] + struct.pack("<2H", _UNICODE, len(spelled[1])) + spelled[1]
