"""WAV, AIFF and DSF: chunks, one of which is an ID3v2 tag; a WAV may have a list of texts (INFO) as well.

Structure after Microsoft's RIFF, EBU Tech 3306 (RF64), Apple's AIFF and Sony's DSF specification.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from musicgenre.filetags.base import GENRE, Changes, Span, TagFile, damaged
from musicgenre.filetags.id3 import Id3Tag, new_tag, tag_length
from musicgenre.filetags.mp3 import ID3_TEXTS
from musicgenre.filetags.splice import Edit

_ID3_NAMES = (b"id3 ", b"ID3 ")
_UNKNOWN_SIZE = 0xFFFFFFFF  # of a chunk of RF64: another chunk has it
_INFO_FRAMES = {b"IART": "TPE1", b"IPRD": "TALB", b"INAM": "TIT2", b"ICRD": "TDRC", b"ITRK": "TRCK", b"ICMT": "COMM"}
_INFO_TEXTS = {"artist": b"IART", "album": b"IPRD", "title": b"INAM"}
_DSF_HEAD = struct.Struct("<4sQQQ")  # magic, size of this chunk, size of the file, where the tag stands


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk; `start` is where its name stands in the file, `size` that of its content."""

    name: bytes
    start: int
    size: int

    @property
    def body(self) -> int:
        """Where its content begins."""
        return self.start + 8

    @property
    def end(self) -> int:
        """Where the next one begins: chunks have an even number of bytes."""
        return self.body + self.size + self.size % 2


class ChunkFile(TagFile):
    """Tags of a WAV (RIFF, RF64, BW64) or an AIFF.

    A genre is written into the ID3v2 chunk, and into INFO too where that names one; where there is INFO alone, there.

    Parameters
    ----------
    stream, container
        As `TagFile` takes them.
    start : int
        Where the file proper begins: behind an ID3v2 tag that stands before it and is left as it is.
    """

    def __init__(self, stream: BinaryIO, container: str, start: int) -> None:
        super().__init__(stream, container)
        self._start = start
        self._form = ">I" if container == "aiff" else "<I"
        self._magic = self.read(start, 4)
        size = self._number(start + 4)
        self._ds64_at: int | None = None
        if self._magic in (b"RF64", b"BW64"):
            self._ds64_at = start + 20
            size = int.from_bytes(self.read(start + 20, 8), "little")
        if start + 8 + size > self.size + 1 or size < 4:
            raise damaged(f"the {container.upper()} file", "its header gives a length that it has not")
        self._end = start + 8 + size
        self._chunks = self._read_chunks()

        self._id3_chunk = next((chunk for chunk in self._chunks if chunk.name in _ID3_NAMES), None)
        self._id3: Id3Tag | None = None
        if self._id3_chunk is not None:
            data = self.read(self._id3_chunk.body, self._id3_chunk.size)
            self._id3 = Id3Tag(data[: tag_length(data)], self._id3_chunk.body)
            self.id3_version = self._id3.version
        self._info = next((c for c in self._chunks if c.name == b"LIST" and self.read(c.body, 4) == b"INFO"), None)
        self._info_texts = self._read_info()

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field: of the ID3v2 tag, else of INFO."""
        found = self._id3.values(field) if self._id3 else ()
        if not found and field == GENRE:
            texts = [_decoded(self.read(c.body, c.size)) for c in self._info_texts if c.name == b"IGNR"]
            parts = [part.strip() for text in texts for part in text.split(";")]
            found = tuple(dict.fromkeys(part for part in parts if part))
        return found

    def text(self, name: str) -> str:
        """Artist, album artist, album or title, of the first tag that says it."""
        found = self._id3.text(*ID3_TEXTS[name]) if self._id3 else ""
        for chunk in self._info_texts:
            if not found and chunk.name == _INFO_TEXTS.get(name):
                found = _decoded(self.read(chunk.body, chunk.size))
        return found

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change, sizes of the chunks around them included."""
        edits: list[Edit] = []
        names_genre = any(chunk.name == b"IGNR" for chunk in self._info_texts)
        if self._id3 is not None and self._id3_chunk is not None:
            edits += self._resized(self._id3_chunk, self._id3.edits(changes, upgrade=upgrade_id3))

        is_new = GENRE in changes and self.values(GENRE) != changes[GENRE]
        if self._info is not None and is_new and (names_genre or self._id3 is None):
            edits += self._info_edits(changes[GENRE])
        beside = {name: values for name, values in changes.items() if name != GENRE or self._info is None}
        if self._id3 is None and any(beside.values()):
            edits.append(self._new_chunk(changes))

        growth = sum(len(edit.new) - len(edit.old) for edit in edits)
        if growth:
            edits += self._form_sized(growth)
        return edits

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other frame, text and chunk."""
        kept = self._id3.others(fields) if self._id3 else []
        for chunk in self._info_texts:
            if not (chunk.name == b"IGNR" and GENRE in fields):
                kept.append(chunk.name + self.read(chunk.body, chunk.size))
        for chunk in self._chunks:
            if chunk not in (self._id3_chunk, self._info) and chunk.name not in (b"data", b"SSND", b"ds64"):
                kept.append(chunk.name + self.read(chunk.body, chunk.size))
        return kept

    def tag_spans(self) -> list[Span]:
        """Where everything but the sound lies."""
        sound = self.sound_spans()
        spans, place = [], 0
        for start, length in sound:
            spans.append((place, start - place))
            place = start + length
        return [*spans, (place, self.size - place)]

    def sound_spans(self) -> list[Span]:
        """Where the samples lie, and what says their form."""
        named = (b"fmt ", b"data", b"COMM", b"SSND")
        return [(chunk.body, min(chunk.size, self.size - chunk.body)) for chunk in self._chunks if chunk.name in named]

    def _read_chunks(self) -> list[Chunk]:
        chunks = []
        place = self._start + 12
        while place + 8 <= self._end:
            name, size = self.read(place, 4), self._number(place + 4)
            if size == _UNKNOWN_SIZE and name == b"data" and self._ds64_at is not None:
                size = int.from_bytes(self.read(self._ds64_at + 8, 8), "little")
            chunk = Chunk(name, place, size)
            if chunk.body + size > self._end:
                raise damaged(f"the {self.container.upper()} file", f"its chunk {name!r} is longer than the file")
            chunks.append(chunk)
            place = chunk.end
        return chunks

    def _read_info(self) -> list[Chunk]:
        """Texts of the INFO list."""
        texts = []
        if self._info is not None:
            place, end = self._info.body + 4, self._info.body + self._info.size
            while place + 8 <= end:
                chunk = Chunk(self.read(place, 4), place, self._number(place + 4))
                if chunk.body + chunk.size > end:
                    raise damaged("the WAV file", "a text of its INFO list is longer than the list")
                texts.append(chunk)
                place = chunk.end
        return texts

    def _new_chunk(self, changes: Changes) -> Edit:
        """Add an ID3v2 chunk behind everything else, where nothing that has a place in the file moves.

        It repeats what INFO says, since readers that find it look at nothing else.
        """
        texts = []
        for chunk in self._info_texts:
            if chunk.name in _INFO_FRAMES:
                texts.append((_INFO_FRAMES[chunk.name], _decoded(self.read(chunk.body, chunk.size))))
        if self.values(GENRE):
            changes = {GENRE: self.values(GENRE), **changes}
        tag = new_tag(changes, texts)
        name = b"ID3 " if self.container == "aiff" else b"id3 "
        pad = b"\0" * (self._end % 2 != self._start % 2)
        whole = name + struct.pack(self._form, len(tag)) + tag + b"\0" * (len(tag) % 2)
        return Edit(min(self._end, self.size), b"", pad + whole)

    def _info_edits(self, genres: Sequence[str]) -> list[Edit]:
        """Write genres into INFO, as one text."""
        assert self._info is not None
        value = "; ".join(genres).encode("utf-8") + b"\0"
        new = b"IGNR" + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2) if genres else b""
        old = [chunk for chunk in self._info_texts if chunk.name == b"IGNR"]
        edits = []
        for number, chunk in enumerate(old):
            end = min(chunk.end, self._info.body + self._info.size + self._info.size % 2)
            edits.append(Edit(chunk.start, self.read(chunk.start, end - chunk.start), b"" if number else new))
        if not old:
            end = self._info_texts[-1].end if self._info_texts else self._info.body + 4
            edits.append(Edit(end, b"", new))
        return self._resized(self._info, edits)

    def _resized(self, chunk: Chunk, inner: list[Edit]) -> list[Edit]:
        """Add the chunk's own size to changes within it, and what makes it even."""
        growth = sum(len(edit.new) - len(edit.old) for edit in inner)
        if not growth:
            return inner
        size = chunk.size + growth
        inner = [*inner, Edit(chunk.start + 4, self.read(chunk.start + 4, 4), struct.pack(self._form, size))]
        if chunk.size % 2 and not size % 2:
            inner.append(Edit(chunk.body + chunk.size, self.read(chunk.body + chunk.size, 1), b""))
        elif not chunk.size % 2 and size % 2:
            inner.append(Edit(chunk.body + chunk.size, b"", b"\0"))
        return inner

    def _form_sized(self, growth: int) -> list[Edit]:
        """Change the size that the file's first chunk says."""
        if self._ds64_at is not None:
            old = self.read(self._ds64_at, 8)
            return [Edit(self._ds64_at, old, struct.pack("<Q", int.from_bytes(old, "little") + growth))]
        place = self._start + 4
        size = self._number(place) + growth
        if size >= 1 << 32:
            raise damaged(f"the {self.container.upper()} file", "it would be larger than 4 GB")
        return [Edit(place, self.read(place, 4), struct.pack(self._form, size))]

    def _number(self, place: int) -> int:
        data = self.read(place, 4)
        number: int = struct.unpack(self._form, data)[0] if len(data) == 4 else 0
        return number


class DsfFile(TagFile):
    """Tags of a DSF file: an ID3v2 tag at its end, found by the header."""

    def __init__(self, stream: BinaryIO, container: str) -> None:
        super().__init__(stream, container)
        head = self.read(0, _DSF_HEAD.size)
        if len(head) < _DSF_HEAD.size:
            raise damaged("the DSF file", "its header is cut off")
        _, _, self._said_size, self._tag_at = _DSF_HEAD.unpack(head)
        self._id3: Id3Tag | None = None
        if self._tag_at:
            data = self.read(self._tag_at, self.size - self._tag_at)
            if not tag_length(data):
                raise damaged("the DSF file", "its header gives a place of the tag where none is")
            self._id3 = Id3Tag(data[: tag_length(data)], self._tag_at)
            self.id3_version = self._id3.version

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field."""
        return self._id3.values(field) if self._id3 else ()

    def text(self, name: str) -> str:
        """Artist, album artist, album or title."""
        return self._id3.text(*ID3_TEXTS[name]) if self._id3 else ""

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change, with the sizes that the header gives."""
        tag_at = self._tag_at
        if self._id3 is not None:
            edits = self._id3.edits(changes, upgrade=upgrade_id3)
        elif any(changes.values()):
            tag_at = self.size
            edits = [Edit(self.size, b"", new_tag(changes))]
        else:
            return []
        growth = sum(len(edit.new) - len(edit.old) for edit in edits)
        sizes = struct.pack("<2Q", self._said_size + growth, tag_at)
        return [*edits, Edit(12, self.read(12, 16), sizes)]

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other frame."""
        return self._id3.others(fields) if self._id3 else []

    def tag_spans(self) -> list[Span]:
        """Where the tag lies, and what the header says of it."""
        start = self._tag_at or self.size
        return [(12, 16), (start, self.size - start)]

    def sound_spans(self) -> list[Span]:
        """Where everything between the first chunk and the tag lies."""
        return [(_DSF_HEAD.size, (self._tag_at or self.size) - _DSF_HEAD.size)]


def _decoded(text: bytes) -> str:
    """Read a text of INFO, whose encoding nobody wrote down."""
    text = text.split(b"\0")[0]
    try:
        return text.decode("utf-8").strip()
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace").strip()
