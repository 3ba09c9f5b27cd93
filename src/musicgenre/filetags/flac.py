"""FLAC: metadata blocks before the sound, one of which is a Vorbis comment and one perhaps padding.

Structure after RFC 9639.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from musicgenre.filetags.base import Changes, Span, TagFile, damaged
from musicgenre.filetags.splice import Edit
from musicgenre.filetags.vorbis import VorbisComment, new_comment

_HEADER_BYTES = 4  # of a block: kind, whether it is the last, length
_LAST = 0x80
_PADDING, _COMMENT = 1, 4
_SIZE_LIMIT = 1 << 24


class FlacFile(TagFile):
    """Tags of a FLAC file; one that an ID3v2 tag stands before keeps that as it is.

    Parameters
    ----------
    stream, container
        As `TagFile` takes them.
    start : int
        Where `fLaC` stands.
    """

    def __init__(self, stream: BinaryIO, container: str, start: int) -> None:
        super().__init__(stream, container)
        self._start = start
        self._blocks: list[tuple[int, int, int]] = []  # kind, where the header stands, length of the content
        place = start + 4
        is_last = False
        while not is_last:
            header = self.read(place, _HEADER_BYTES)
            if len(header) < _HEADER_BYTES:
                raise damaged("the FLAC file", "its metadata is cut off")
            is_last = bool(header[0] & _LAST)
            length = int.from_bytes(header[1:], "big")
            self._blocks.append((header[0] & ~_LAST, place, length))
            place += _HEADER_BYTES + length
        if place > self.size:
            raise damaged("the FLAC file", "its metadata is cut off")
        self._sound_start = place

        self._comment: VorbisComment | None = None
        self._comment_at = -1
        for kind, header_at, length in self._blocks:
            if kind == _COMMENT:
                self._comment = VorbisComment(self.read(header_at + _HEADER_BYTES, length))
                self._comment_at = header_at
                break

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field."""
        return self._comment.values(field) if self._comment else ()

    def text(self, name: str) -> str:
        """Artist, album artist, album or title."""
        return self._comment.text(name) if self._comment else ""

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change: what grows is taken from the padding, where there is some."""
        if self._comment is None:
            if not any(changes.values()):
                return []
            # Behind the first block, which every reader wants to be STREAMINFO.
            kind, header_at, length = self._blocks[0]
            content = new_comment(changes)
            is_last = len(self._blocks) == 1
            header = bytes([_COMMENT | _LAST * is_last]) + len(content).to_bytes(3, "big")
            edits = [Edit(header_at + _HEADER_BYTES + length, b"", header + content)]
            if is_last:
                edits.append(Edit(header_at, bytes([kind | _LAST]), bytes([kind])))
            growth = len(header) + len(content)
        else:
            edits = self._comment.edits(changes, self._comment_at + _HEADER_BYTES)
            growth = sum(len(edit.new) - len(edit.old) for edit in edits)
            [length] = [length for _, header_at, length in self._blocks if header_at == self._comment_at]
            if length + growth >= _SIZE_LIMIT:
                raise damaged("the FLAC file", "its comments would be larger than a block can be")
            edits.append(self._sized(self._comment_at, length, length + growth))

        for kind, header_at, length in self._blocks:
            if kind == _PADDING and length and 0 <= length - growth < _SIZE_LIMIT and growth:
                content = self.read(header_at + _HEADER_BYTES, length)
                if growth > 0:
                    edits.append(Edit(header_at + _HEADER_BYTES + length - growth, content[-growth:], b""))
                else:
                    edits.append(Edit(header_at + _HEADER_BYTES + length, b"", bytes(-growth)))
                edits.append(self._sized(header_at, length, length - growth))
                break
        return edits

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other comment and block, padding apart."""
        kept = self._comment.others(fields) if self._comment else []
        for kind, header_at, length in self._blocks:
            if kind != _PADDING and header_at != self._comment_at:
                kept.append(bytes([kind]) + self.read(header_at + _HEADER_BYTES, length))
        return kept

    def tag_spans(self) -> list[Span]:
        """Where the metadata lies."""
        return [(0, self._sound_start)]

    def sound_spans(self) -> list[Span]:
        """Where the frames lie, and the block that says what they are."""
        _, header_at, length = self._blocks[0]
        return [(header_at + _HEADER_BYTES, length), (self._sound_start, self.size - self._sound_start)]

    @staticmethod
    def _sized(header_at: int, before: int, after: int) -> Edit:
        """Change the length that a block's header says."""
        return Edit(header_at + 1, before.to_bytes(3, "big"), after.to_bytes(3, "big"))
