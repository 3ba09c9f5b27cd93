"""Ogg Vorbis, Opus, Speex and FLAC in Ogg: a stream of pages whose second packet is a Vorbis comment.

Structure after RFC 3533 (pages), RFC 5334, RFC 7845 (Opus) and the mapping of FLAC into Ogg.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from musicgenre.filetags.base import Changes, Span, TagFile, damaged
from musicgenre.filetags.splice import Edit
from musicgenre.filetags.vorbis import VorbisComment

_MAGIC = b"OggS"
_HEAD = struct.Struct("<4sBBqIIIB")  # magic, version, flags, granule, serial, sequence, checksum, number of segments
_CHECKSUM_AT, _SEQUENCE_AT = 22, 18
_CONTINUED = 1
_FULL = 255  # a segment that another one follows
_NO_GRANULE = -1  # of a page on which no packet ends
# What the first packet begins with; the second one's prefix; how many packets make the headers.
_CODECS = {
    b"\x01vorbis": ("ogg-vorbis", b"\x03vorbis", 3),
    b"OpusHead": ("opus", b"OpusTags", 2),
    b"Speex   ": ("speex", b"", 2),
    b"\x7fFLAC": ("ogg-flac", b"", 2),
}
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_MAX_HEADER_PAGES = 1 << 12


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `start` counts in the file."""

    start: int
    flags: int
    granule: int
    serial: int
    sequence: int
    lacing: bytes
    content: bytes

    @property
    def n_bytes(self) -> int:
        """Length of the whole page."""
        return _HEAD.size + len(self.lacing) + len(self.content)

    def to_bytes(self) -> bytes:
        """The page as a file has it."""
        head = _HEAD.pack(
            _MAGIC, 0, self.flags, self.granule, self.serial, self.sequence, 0, len(self.lacing)
        )  # fmt: skip
        whole = head + self.lacing + self.content
        checksum = _checksum(whole)
        return whole[:_CHECKSUM_AT] + checksum + whole[_CHECKSUM_AT + 4 :]


class OggFile(TagFile):
    """Tags of an Ogg file. Of a chained file those of its first stream are meant, as players show them."""

    def __init__(self, stream: BinaryIO, container: str, start: int) -> None:
        first = _page_at(stream, start)
        if first is None:
            raise damaged("the Ogg file", "its first page is damaged")
        for magic, (name, prefix, n_headers) in _CODECS.items():
            if first.content.startswith(magic):
                container, self._prefix, self._n_headers = name, prefix, n_headers
                break
        else:
            raise damaged("the Ogg file", "its first stream is none of Vorbis, Opus, Speex, FLAC")
        super().__init__(stream, container)
        self._start = start
        self._serial = first.serial

        # The pages from the comment on, as long as they carry headers.
        self._pages: list[Page] = []
        packets: list[bytes] = [first.content]
        place, pending = start + first.n_bytes, b""
        while len(packets) < self._n_headers or pending:
            page = _page_at(stream, place)
            if page is None or page.serial != self._serial or len(self._pages) > _MAX_HEADER_PAGES:
                raise damaged("the Ogg file", "pages of another stream stand between its headers, or they are damaged")
            self._pages.append(page)
            place += page.n_bytes
            for segments, content in _pieces(page):
                pending += content
                if segments[-1] != _FULL:
                    packets.append(pending)
                    pending = b""
        self._sound_start = place
        self._packets = packets[1:]
        if not self._packets[0].startswith(self._prefix):
            raise damaged("the Ogg file", "its second packet is no comment")
        self._comment_offset = len(self._prefix) + 4 * (container == "ogg-flac")
        self._comment = VorbisComment(self._packets[0][self._comment_offset :])

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field."""
        return self._comment.values(field)

    def text(self, name: str) -> str:
        """Artist, album artist, album or title."""
        return self._comment.text(name)

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change: pages of the headers, and numbers of later pages where there are more now."""
        packet = self._packets[0]
        splice = self._comment.edits(changes, self._comment_offset)
        if not splice:
            return []
        changed, place = b"", 0
        for edit in sorted(splice, key=lambda edit: edit.offset):
            changed += packet[place : edit.offset] + edit.new
            place = edit.offset + len(edit.old)
        rest = packet[place:]

        # Room that a tag editor left behind the comments is used up, or given back.
        growth = len(changed) + len(rest) - len(packet)
        mark = rest[: 1 if self.container == "ogg-vorbis" else 0]  # the framing bit
        room = rest[len(mark) :]
        if room and not room.strip(b"\0") and growth <= len(room):
            rest = mark + bytes(len(room) - growth)
        if self.container == "ogg-flac":
            length = len(changed) + len(rest) - 4
            changed = changed[:1] + length.to_bytes(3, "big") + changed[4:]

        pages = self._paged([changed + rest, *self._packets[1:]])
        return self._edits_of(pages)

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other comment, and the other headers."""
        return [*self._comment.others(fields), *self._packets[1:]]

    def tag_spans(self) -> list[Span]:
        """Where the comment lies, with the headers on its pages."""
        begin = self._pages[0].start
        return [(begin, self._sound_start - begin)]

    def sound_spans(self) -> list[Span]:
        """Where the pages of sound lie; `sound_pieces` leaves out their numbers and checksums."""
        return [(self._start, self._pages[0].start - self._start), (self._sound_start, self.size - self._sound_start)]

    def sound_pieces(self) -> Iterator[bytes]:
        """The first header and the sound, without the pages' numbers, which may change with the comment's length."""
        for begin, length in self.sound_spans():
            place = begin
            while place < begin + length:
                page = _page_at(self.stream, place)
                if page is None:
                    yield from self.pieces(place, begin + length - place)
                    break
                yield struct.pack("<Bq", page.flags, page.granule) + page.lacing + page.content
                place += page.n_bytes

    def _paged(self, packets: Sequence[bytes]) -> list[Page]:
        """Put packets on pages: a packet that began a page begins one again, pages are filled otherwise."""
        begins_page = self._begin_of_packets()
        pages: list[Page] = []
        lacing, content, flags, ends = bytearray(), bytearray(), 0, False

        def close() -> None:
            granule = 0 if ends else _NO_GRANULE
            sequence = self._pages[0].sequence + len(pages)
            pages.append(Page(0, flags, granule, self._serial, sequence, bytes(lacing), bytes(content)))

        for number, packet in enumerate(packets):
            if number in begins_page and lacing:
                close()
                lacing, content, flags, ends = bytearray(), bytearray(), 0, False
            segments = [_FULL] * (len(packet) // _FULL) + [len(packet) % _FULL]
            place = 0
            for segment_number, segment in enumerate(segments):
                if len(lacing) == _FULL:
                    close()
                    lacing, content, ends = bytearray(), bytearray(), False
                    flags = _CONTINUED if segment_number else 0
                lacing.append(segment)
                content += packet[place : place + segment]
                place += segment
            ends = True
        close()
        return pages

    def _begin_of_packets(self) -> set[int]:
        """Numbers of the header packets (the comment is 0) that began a page of their own."""
        begins, number = set(), 0
        for page in self._pages:
            if not page.flags & _CONTINUED:
                begins.add(number)
            number += sum(segments[-1] != _FULL for segments, _ in _pieces(page))
        return begins

    def _edits_of(self, pages: list[Page]) -> list[Edit]:
        """Compare the new pages with the old ones; renumber what follows where their number changed."""
        shift = len(pages) - len(self._pages)
        if not shift:
            edits = []
            for old, new in zip(self._pages, pages, strict=True):
                granule = new.granule if _NO_GRANULE in (new.granule, old.granule) else old.granule
                whole = replace(new, granule=granule).to_bytes()
                edits += _differing(old.start, self.read(old.start, old.n_bytes), whole)
            return edits

        begin = self._pages[0].start
        edits = [Edit(begin, self.read(begin, self._sound_start - begin), b"".join(page.to_bytes() for page in pages))]
        place = self._sound_start
        while place < self.size:
            page = _page_at(self.stream, place)
            if page is None:
                break  # what follows the stream is nobody's page
            if page.serial == self._serial:
                old_head = self.read(place + _SEQUENCE_AT, 8)
                renumbered = replace(page, sequence=(page.sequence + shift) & 0xFFFFFFFF).to_bytes()
                edits.append(Edit(place + _SEQUENCE_AT, old_head, renumbered[_SEQUENCE_AT : _SEQUENCE_AT + 8]))
                if page.flags & 4:  # the last of its stream: another may follow under the same number
                    break
            place += page.n_bytes
        return edits


def _page_at(stream: BinaryIO, place: int) -> Page | None:
    """The page that begins at a place; None where none does, or it is cut off."""
    stream.seek(place)
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        return None
    _, _version, flags, granule, serial, sequence, _old_checksum, n_segments = _HEAD.unpack(head)
    lacing = stream.read(n_segments)
    content = stream.read(sum(lacing))
    if len(lacing) < n_segments or len(content) < sum(lacing):
        return None
    return Page(place, flags, granule, serial, sequence, lacing, content)


def _pieces(page: Page) -> Iterator[tuple[bytes, bytes]]:
    """Take a page apart into its packets, or the parts of them that stand on it: segments and content."""
    begin = place = content_at = 0
    while place < len(page.lacing):
        place += 1
        if page.lacing[place - 1] != _FULL or place == len(page.lacing):
            segments = page.lacing[begin:place]
            yield segments, page.content[content_at : content_at + sum(segments)]
            content_at += sum(segments)
            begin = place


def _checksum(page: bytes) -> bytes:
    """Checksum of a page whose own field is zero: CRC-32 with the bits of a byte the other way round than zlib's."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return mirrored.to_bytes(4, "little").translate(_MIRRORED)[::-1]


def _differing(offset: int, old: bytes, new: bytes) -> list[Edit]:
    """Edit a page: what it has in common with the old one at either end is left out."""
    front = 0
    while front < min(len(old), len(new)) and old[front] == new[front]:
        front += 1
    back = 0
    while back < min(len(old), len(new)) - front and old[-1 - back] == new[-1 - back]:
        back += 1
    if front == len(old) == len(new):
        return []
    return [Edit(offset + front, old[front : len(old) - back], new[front : len(new) - back])]
