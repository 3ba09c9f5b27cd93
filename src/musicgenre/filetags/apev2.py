"""An APEv2 tag (Monkey's Audio, WavPack, Musepack, some MP3s): its items, and the bytes that change when one does.

Structure after the APEv2 specification (Hydrogenaudio's wiki).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from musicgenre.filetags.base import GENRE, GROUPING, MOOD, Changes, Span, TagFile, damaged, split_custom
from musicgenre.filetags.splice import Edit

FOOTER_BYTES = 32
ID3V1_BYTES = 128
_MAGIC = b"APETAGEX"
_HAS_HEADER, _IS_HEADER, _READ_ONLY = 1 << 31, 1 << 29, 1
_KIND = 0b110  # bits of an item's flags: 0 is text
_FOOTER = struct.Struct("<8s4I8x")  # magic, version, size, number of items, flags
_ITEM = struct.Struct("<2I")  # size of the value, flags
_KEYS = {GENRE: "Genre", MOOD: "Mood", GROUPING: "Grouping"}
_LYRICS_END = b"LYRICS200"


@dataclass(frozen=True, slots=True)
class Item:
    """One item; places count in the file."""

    key: str
    start: int
    end: int
    value: bytes
    flags: int


class ApeTag:
    """One APEv2 tag.

    Parameters
    ----------
    file : TagFile
        The file it stands in.
    end : int
        Where it ends: its footer lies before.

    Raises
    ------
    LibraryError
        It cannot be taken apart.
    """

    def __init__(self, file: TagFile, end: int) -> None:
        footer = file.read(end - FOOTER_BYTES, FOOTER_BYTES)
        _, self._version, self._size, self._n_items, self._flags = _FOOTER.unpack(footer)
        self._footer = end - FOOTER_BYTES
        self._items_start = end - self._size
        self._has_header = bool(self._flags & _HAS_HEADER)
        self.start = self._items_start - FOOTER_BYTES * self._has_header
        self.end = end
        if self._size < FOOTER_BYTES or self.start < 0 or self._version not in (1000, 2000):
            raise damaged("the APE tag", "its size is impossible")
        if self._has_header and file.read(self.start, 8) != _MAGIC:
            raise damaged("the APE tag", "its header is missing")

        self.items: list[Item] = []
        data = file.read(self._items_start, self._size - FOOTER_BYTES)
        place = 0
        for _ in range(self._n_items):
            null = data.find(b"\0", place + _ITEM.size)
            if null < 0:
                raise damaged("the APE tag", "an item has no end")
            length, flags = _ITEM.unpack_from(data, place)
            if null + 1 + length > len(data):
                raise damaged("the APE tag", "an item is longer than the tag")
            key = data[place + _ITEM.size : null].decode("latin-1")
            self.items.append(
                Item(
                    key,
                    self._items_start + place,
                    self._items_start + null + 1 + length,
                    data[null + 1 : null + 1 + length],
                    flags,
                )
            )
            place = null + 1 + length
        self._items_end = self._items_start + place

    def has(self, field: str) -> bool:
        """Whether the field has an item."""
        return bool(self._of(field))

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field, in order."""
        texts = [text for item in self._of(field) for text in item.value.decode("utf-8", "replace").split("\0")]
        return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))

    def text(self, *keys: str) -> str:
        """First text of the first of these items that is there; empty if none is."""
        for key in keys:
            for item in self.items:
                if item.key.lower() == key.lower() and not item.flags & _KIND:
                    return item.value.decode("utf-8", "replace").split("\0")[0].strip()
        return ""

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every item but those of the fields."""
        mine = {item.start for field in fields for item in self._of(field)}
        return [item.key.encode() + item.value for item in self.items if item.start not in mine]

    def edits(self, file: TagFile, changes: Changes) -> list[Edit]:
        """Say which bytes change.

        Raises
        ------
        LibraryError
            An item is marked as not to be changed.
        """
        edits, added, n_items = [], b"", self._n_items
        for field, values in changes.items():
            old = self._of(field)
            if values == self.values(field):
                continue
            if any(item.flags & _READ_ONLY for item in old):
                raise damaged("the APE tag", f"its item {old[0].key} is marked read-only")
            key = old[0].key if old else _KEYS.get(field, split_custom(field))
            new = _item(key, values) if values else b""
            edits += [Edit(item.start, file.read(item.start, item.end - item.start), b"") for item in old[1:]]
            n_items += bool(new) - len(old)
            if old:
                edits.append(Edit(old[0].start, file.read(old[0].start, old[0].end - old[0].start), new))
            else:
                added += new
        if added:
            edits.append(Edit(self._items_end, b"", added))

        growth = sum(len(edit.new) - len(edit.old) for edit in edits)
        sizes = struct.pack("<2I", self._size + growth, n_items)
        for place in [self.start] * self._has_header + [self._footer]:
            edits.append(Edit(place + 12, file.read(place + 12, 8), sizes))
        return edits

    def _of(self, field: str) -> list[Item]:
        key = _KEYS.get(field, split_custom(field)).lower()
        return [item for item in self.items if item.key.lower() == key and not item.flags & _KIND]


def new_ape_tag(changes: Changes) -> bytes:
    """Make a tag with these values by field."""
    items = [_item(_KEYS.get(field, split_custom(field)), values) for field, values in changes.items() if values]
    content = b"".join(items)
    size = len(content) + FOOTER_BYTES
    header = _FOOTER.pack(_MAGIC, 2000, size, len(items), _HAS_HEADER | _IS_HEADER)
    return header + content + _FOOTER.pack(_MAGIC, 2000, size, len(items), _HAS_HEADER)


def _item(key: str, values: Sequence[str]) -> bytes:
    """Write an item of text with these values."""
    value = "\0".join(values).encode()
    return _ITEM.pack(len(value), 0) + key.encode("latin-1", "replace") + b"\0" + value


def ape_end(file: TagFile) -> int:
    """Where the APE tag at the end of a file ends, were it there: before an ID3v1 tag and lyrics."""
    end = file.size - len(id3v1(file))
    tail = file.read(max(end - 15, 0), 15)
    if tail.endswith(_LYRICS_END) and tail[:6].isdigit():
        end -= 15 + int(tail[:6])
    return end


def id3v1(file: TagFile) -> bytes:
    """The ID3v1 tag at the end of a file; empty where there is none."""
    begin = file.size - ID3V1_BYTES
    # `TAG` also stands in the middle of `APETAGEX`, the beginning of an APE tag.
    if file.read(begin, 3) != b"TAG" or file.read(begin - 3, 8) == _MAGIC:
        return b""
    return file.read(begin, ID3V1_BYTES)


def ape_at(file: TagFile, end: int) -> ApeTag | None:
    """The APE tag that ends there, if there is one."""
    if end >= FOOTER_BYTES and file.read(end - FOOTER_BYTES, 8) == _MAGIC:
        return ApeTag(file, end)
    return None


class ApeFile(TagFile):
    """Monkey's Audio, WavPack, Musepack: sound, then an APEv2 tag, then perhaps an ID3v1 tag.

    An ID3v2 tag before the sound is left as it is: no reader of these formats looks at it.
    """

    def __init__(self, stream: BinaryIO, container: str, sound_start: int) -> None:
        super().__init__(stream, container)
        self._sound_start = sound_start
        self._end = ape_end(self)
        self._tag = ape_at(self, self._end)

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field."""
        return self._tag.values(field) if self._tag else ()

    def text(self, name: str) -> str:
        """Artist, album artist, album or title."""
        keys = {"albumartist": ("Album Artist", "AlbumArtist")}.get(name, (name,))
        return self._tag.text(*keys) if self._tag else ""

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change."""
        if self._tag is not None:
            return self._tag.edits(self, changes)
        if not any(changes.values()):
            return []
        return [Edit(self._end, b"", new_ape_tag(changes))]

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other item, and what stands at either end."""
        items = self._tag.others(fields) if self._tag else []
        return [*items, self.read(0, self._sound_start), self.read(self._end, self.size - self._end)]

    def tag_spans(self) -> list[Span]:
        """Where the tags lie."""
        start = self._tag.start if self._tag else self._end
        return [(0, self._sound_start), (start, self.size - start)]

    def sound_spans(self) -> list[Span]:
        """Where the sound lies."""
        end = self._tag.start if self._tag else self._end
        return [(self._sound_start, end - self._sound_start)]
