"""An ID3v2 tag (2.2, 2.3, 2.4): its frames, and the bytes that change when text in it does.

Structure after the informal standards ID3v2.2.0, 2.3.0 and 2.4.0 (id3.org). One frame changes, beside sizes and
padding; all others stay as they are, unknown and doubled ones too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mutagen.id3 import TCON

from musicgenre.filetags.base import CUSTOM, GENRE, GROUPING, MOOD, Changes, damaged, split_custom
from musicgenre.filetags.splice import Edit

HEADER_BYTES = 10
_SIZE_LIMIT = 1 << 28  # of a tag: 28 bits are kept of it
_UNSYNCHRONISED, _EXTENDED, _FOOTER = 0x80, 0x40, 0x10  # flags of the header
_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")  # by their number in a frame
_LATIN_1, _UTF_16, _UTF_16_BE, _UTF_8 = range(4)
# Frames by field. 2.3 has no frame for a mood: it becomes text of one's own, as Picard names it.
_FRAMES = {
    "2.2": {GENRE: "TCO", GROUPING: "TT1"},
    "2.3": {GENRE: "TCON", GROUPING: "TIT1"},
    "2.4": {GENRE: "TCON", GROUPING: "TIT1", MOOD: "TMOO"},
}
_JOINED_BY = "; "  # several values, where the version has no separator of its own (2.2, 2.3)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a tag: places count from the tag's first byte, as the file has them."""

    name: str
    start: int
    end: int
    body: bytes  # as it stands in the tag, but for the scrambling of the whole
    flags: bytes  # of the frame: none in 2.2
    content: bytes | None  # what it says; None where it is compressed or encrypted


def tag_length(head: bytes) -> int:
    """Length in bytes of the ID3v2 tag that begins with `head` (10 bytes at least); 0 if none does."""
    if len(head) < HEADER_BYTES or head[:3] != b"ID3" or head[3] == 0xFF or any(byte & 0x80 for byte in head[6:10]):
        return 0
    footer = HEADER_BYTES if head[3] >= 4 and head[5] & _FOOTER else 0
    return HEADER_BYTES + from_synchsafe(head[6:10]) + footer


class Id3Tag:
    """One ID3v2 tag.

    Parameters
    ----------
    data : bytes
        The tag, from `ID3` to the end of its padding (and footer).
    offset : int
        Where it begins in the file.

    Raises
    ------
    LibraryError
        It is of an unknown version, cut off, or cannot be taken apart.
    """

    def __init__(self, data: bytes, offset: int) -> None:
        if len(data) < tag_length(data) or not tag_length(data):
            raise damaged("the ID3 tag", "it is cut off")
        self.data = data
        self.offset = offset
        self.version = f"2.{data[3]}"
        if self.version not in _FRAMES:
            raise damaged("the ID3 tag", f"version {self.version} is not known")

        self._flags = data[5]
        self._has_footer = data[3] >= 4 and bool(self._flags & _FOOTER)
        end = len(data) - HEADER_BYTES * self._has_footer
        # 2.4 scrambles frame by frame and counts the bytes as they stand; earlier versions scramble the whole tag.
        self._is_scrambled = data[3] < 4 and bool(self._flags & _UNSYNCHRONISED)
        plain, self._places = _plain(data[:end], scrambled=self._is_scrambled)

        begin = HEADER_BYTES
        if self._flags & _EXTENDED and data[3] > 2:
            begin += self._extended_bytes(plain)
        elif self._flags & _EXTENDED:
            raise damaged("the ID3 tag", "it is compressed")
        if begin > len(plain):
            raise damaged("the ID3 tag", "its extended header is longer than the tag")
        self.frames, stop = self._walk(plain, begin)
        self.body_start = begin
        # Only zeros up to the end are padding; whatever else follows the frames stays where it is.
        rest = plain[stop:]
        self.frames_end = self._places[stop]
        self.n_padding = 0 if rest.strip(b"\0") else len(rest)

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field, in order; genres as names."""
        texts: list[str] = []
        for frame in self._of(field):
            if frame.content is None:
                raise damaged("the ID3 tag", f"its frame {frame.name} is compressed or encrypted")
            text = _text_of(frame)
            texts += text[1:] if frame.name in ("TXXX", "TXX") else text
        if self.version != "2.4":
            texts = [part.strip() for text in texts for part in text.split(_JOINED_BY.strip())]
        if field == GENRE:
            texts = genre_names(texts)
        return tuple(dict.fromkeys(text for text in texts if text))

    def text(self, *names: str) -> str:
        """First text of the first of these frames that is there; empty if none is."""
        for name in names:
            for frame in self.frames:
                if frame.name == name and any(_text_of(frame)):
                    return next(text for text in _text_of(frame) if text)
        return ""

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every frame but those of the fields, as name and content."""
        mine = {frame.start for field in fields for frame in self._of(field)}
        return [frame.name.encode() + frame.flags + frame.body for frame in self.frames if frame.start not in mine]

    def edits(self, changes: Changes, *, upgrade: bool = False) -> list[Edit]:
        """Say which bytes change.

        Parameters
        ----------
        changes : mapping
            Values by field.
        upgrade : bool
            Make a 2.3 tag one of 2.4: sizes are written anew, a date is added beside the old frames, nothing is lost.

        Raises
        ------
        LibraryError
            The tag would grow beyond what one can be, or cannot be upgraded.
        """
        version = "2.4" if upgrade and self.version == "2.3" else self.version
        edits, added = [], []
        if version != self.version:
            changes = {GENRE: self.values(GENRE), **changes}
            edits, added = (
                self._upgrade({frame.start for field in changes for frame in self._of(field)}),
                [self._date()],
            )
        for field, values in changes.items():
            old = self._of(field)
            if values == self.values(field) and version == self.version:
                continue
            new = self._frame(version, field, values, old) if values else b""
            if old:
                # The first frame of the field is replaced where it stands, others of its kind go.
                edits += [Edit(frame.start, self.data[frame.start : frame.end], b"") for frame in old[1:]]
                edits.append(Edit(old[0].start, self.data[old[0].start : old[0].end], new))
            else:
                added.append(new)
        edits += self._fitted(edits, b"".join(added))
        return [Edit(edit.offset + self.offset, edit.old, edit.new) for edit in edits if edit.old != edit.new]

    def _of(self, field: str) -> list[Frame]:
        """Frames that hold a field."""
        name = _FRAMES[self.version].get(field)
        described = split_custom(field).lower()  # also of a mood, where no frame is made for one
        found = [frame for frame in self.frames if name and frame.name == name]
        if field.startswith(CUSTOM) or name is None:
            for frame in self.frames:
                if frame.name in ("TXXX", "TXX") and _text_of(frame)[:1] and _text_of(frame)[0].lower() == described:
                    found.append(frame)
        return found

    def _frame(self, version: str, field: str, values: tuple[str, ...], old: Sequence[Frame]) -> bytes:
        """Write a frame with these values, in the encoding of the old one where that can spell them."""
        name = _FRAMES[version].get(field)
        texts = ["\0".join(values) if version == "2.4" else _JOINED_BY.join(values)]
        if name is None:
            name = "TXX" if version == "2.2" else "TXXX"
            texts.insert(0, "MOOD" if field == MOOD else split_custom(field))

        joined = "\0".join(texts)
        encoding = old[0].content[0] if old and old[0].content else _LATIN_1
        if encoding > (_UTF_8 if version == "2.4" else _UTF_16):
            encoding = _LATIN_1
        if encoding == _LATIN_1 and not _is_latin_1(joined):
            encoding = _UTF_8 if version == "2.4" else _UTF_16
        if encoding == _UTF_16:  # each text begins with its byte order
            body = b"\0\0".join(b"\xff\xfe" + text.encode("utf-16-le") for text in texts)
        else:
            body = joined.encode(_ENCODINGS[encoding])
        body = bytes([encoding]) + body

        if version == "2.2":
            frame = name.encode() + len(body).to_bytes(3, "big") + body
        elif version == "2.3":
            frame = name.encode() + len(body).to_bytes(4, "big") + b"\0\0" + body
        else:
            frame = name.encode() + to_synchsafe(len(body)) + b"\0\0" + body
        return _scrambled(frame) if self._is_scrambled else frame

    def _fitted(self, edits: Sequence[Edit], added: bytes) -> list[Edit]:
        """Add new frames at the end of the others, take what grows from the padding, else change the tag's size."""
        growth = len(added) + sum(len(edit.new) - len(edit.old) for edit in edits)
        taken = min(max(growth, 0), self.n_padding)
        given = -growth if growth < 0 and self.n_padding else 0
        fitted = [Edit(self.frames_end, b"\0" * taken, added + b"\0" * given)]

        growth += given - taken
        if growth:
            size = from_synchsafe(self.data[6:10]) + growth
            if not 0 <= size < _SIZE_LIMIT:
                raise damaged("the ID3 tag", f"it would have {size} bytes, more than a tag can")
            fitted.append(Edit(6, self.data[6:10], to_synchsafe(size)))
            if self._has_footer:
                place = len(self.data) - HEADER_BYTES + 6
                fitted.append(Edit(place, self.data[place : place + 4], to_synchsafe(size)))
        if self._flags & _EXTENDED and self.version == "2.3" and given != taken:
            # 2.3 also writes down how much padding there is.
            place = HEADER_BYTES + 6
            n_padding = int.from_bytes(self.data[place : place + 4], "big") + given - taken
            fitted.append(Edit(place, self.data[place : place + 4], max(n_padding, 0).to_bytes(4, "big")))
        return fitted

    def _upgrade(self, rewritten: set[int]) -> list[Edit]:
        """Say which bytes make a 2.3 tag one of 2.4: version, and sizes of which seven bits a byte count.

        `rewritten` are the places of frames that get their new form anyway.
        """
        if self._is_scrambled or self._flags & _EXTENDED:
            raise damaged("the ID3v2.3 tag", "it is unsynchronised or extended, and was to become 2.4")
        edits = [Edit(3, self.data[3:4], b"\x04")]
        for frame in self.frames:
            if frame.flags.strip(b"\0"):
                raise damaged("the ID3v2.3 tag", f"its frame {frame.name} has flags, and was to become 2.4")
            if frame.start in rewritten:
                continue
            place = frame.start + 4
            edits.append(Edit(place, self.data[place : place + 4], to_synchsafe(len(frame.body))))
        return edits

    def _date(self) -> bytes:
        """The date as 2.4 has it, of the frames for year, day and time; empty where there is none."""
        year, day, time = self.text("TYER"), self.text("TDAT"), self.text("TIME")
        if self.text("TDRC") or not (year.isdigit() and len(year) == 4):
            return b""
        date = year
        if day.isdigit() and len(day) == 4:
            date += f"-{day[2:]}-{day[:2]}"
            if time.isdigit() and len(time) == 4:
                date += f"T{time[:2]}:{time[2:]}"
        body = bytes([_LATIN_1]) + date.encode("ascii")
        return b"TDRC" + to_synchsafe(len(body)) + b"\0\0" + body

    def _extended_bytes(self, plain: bytes) -> int:
        """Length of the extended header."""
        if self.version == "2.4":
            if plain[15:16] and plain[15] & 0x20:
                raise damaged("the ID3 tag", "it carries a checksum of its frames")
            return from_synchsafe(plain[10:14])
        if plain[14:15] and plain[14] & 0x80:
            raise damaged("the ID3 tag", "it carries a checksum of its frames")
        return 4 + int.from_bytes(plain[10:14], "big")

    def _walk(self, plain: bytes, begin: int) -> tuple[list[Frame], int]:
        """Take the frames apart; some programs wrote sizes of 2.4 as 2.3 has them: what comes out even is right."""
        if self.version == "2.2":
            return self._frames(plain, begin, 3, _plain_size)[:2]
        if self.version == "2.3":
            return self._frames(plain, begin, 4, _plain_size)[:2]
        frames, stop, is_even = self._frames(plain, begin, 4, from_synchsafe)
        if is_even:
            return frames, stop
        others, other_stop, other_is_even = self._frames(plain, begin, 4, _plain_size)
        if other_is_even or len(others) > len(frames):
            return others, other_stop
        return frames, stop

    def _frames(
        self, plain: bytes, place: int, name_bytes: int, size_of: Callable[[bytes], int]
    ) -> tuple[list[Frame], int, bool]:
        """Frames from `place` on, where they end, and whether padding or the end of the tag follows them."""
        head = 6 if name_bytes == 3 else 10
        frames: list[Frame] = []
        while place + head <= len(plain):
            name = plain[place : place + name_bytes]
            if not all(0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A for byte in name):
                return frames, place, not name.strip(b"\0")
            end = place + head + size_of(plain[place + name_bytes : place + 2 * name_bytes])
            if end > len(plain):
                return frames, place, False
            body = plain[place + head : end]
            start_byte, end_byte = self._places[place], self._places[end]
            flags = plain[place + 8 : place + head]
            content = self._content(flags, body)
            frames.append(Frame(name.decode("ascii"), start_byte, end_byte, body, flags, content))
            place = end
        return frames, place, True

    def _content(self, flags: bytes, body: bytes) -> bytes | None:
        """What a frame says, without what its flags put before it; None where it is compressed or encrypted."""
        kind = flags[-1] if flags else 0
        if self.version == "2.3":
            return None if kind & 0xC0 else body[bool(kind & 0x20) :]
        if self.version == "2.4":
            if kind & 0x0C:
                return None
            body = body[bool(kind & 0x40) + 4 * bool(kind & 0x01) :]
            if kind & 0x02 or self._flags & _UNSYNCHRONISED:
                body = body.replace(b"\xff\x00", b"\xff")
        return body


def new_tag(changes: Changes, texts: Sequence[tuple[str, str]] = ()) -> bytes:
    """Make a 2.4 tag.

    Parameters
    ----------
    changes : mapping
        Values by field.
    texts : sequence of (str, str)
        Names of text frames (or `COMM`) and what goes into them.
    """
    frames = []
    for name, text in texts:
        encoding = _LATIN_1 if text.isascii() else _UTF_8
        prefix = b"engID3v1 Comment\0" if name == "COMM" else b""  # as tag readers name it that find none but this
        body = bytes([encoding]) + prefix + text.encode(_ENCODINGS[encoding])
        frames.append(name.encode() + to_synchsafe(len(body)) + b"\0\0" + body)
    empty = Id3Tag(b"ID3\x04\0\0\0\0\0\0", 0)
    [added] = [edit.new for edit in empty.edits(changes) if edit.offset == HEADER_BYTES] or [b""]
    frames.append(added)
    content = b"".join(frames)
    return b"ID3\x04\0\0" + to_synchsafe(len(content)) + content


def genre_names(texts: Sequence[str]) -> list[str]:
    """Names of genres that may be written as ID3v1 numbers: `17`, `(17)(9)`, `(4)Eurodisco`."""
    return list(TCON(encoding=_UTF_8, text=list(texts)).genres) if texts else []  # type: ignore[no-untyped-call]


def from_synchsafe(data: bytes) -> int:
    """Read a size of which seven bits a byte count."""
    size = 0
    for byte in data:
        size = size << 7 | byte & 0x7F
    return size


def to_synchsafe(size: int) -> bytes:
    """Write a size below 2**28 with seven bits a byte."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _plain_size(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _plain(data: bytes, *, scrambled: bool) -> tuple[bytes, Sequence[int]]:
    """Undo unsynchronisation (a zero behind every 0xFF); tell where every byte, and the end, stand in `data`."""
    if not scrambled:
        return data, range(len(data) + 1)
    kept = bytearray(data[:HEADER_BYTES])
    places = list(range(HEADER_BYTES))
    for place in range(HEADER_BYTES, len(data)):
        if data[place] == 0 and data[place - 1] == 0xFF and place > HEADER_BYTES:
            continue
        kept.append(data[place])
        places.append(place)
    return bytes(kept), [*places, len(data)]


def _scrambled(frame: bytes) -> bytes:
    """Put a zero behind every 0xFF that a decoder could take for the beginning of sound."""
    out = bytearray()
    for byte, following in pairwise([*frame, 0]):
        out.append(byte)
        if byte == 0xFF and (following >= 0xE0 or following == 0):
            out.append(0)
    return bytes(out)


def _text_of(frame: Frame) -> list[str]:
    """Texts of a text frame; none of one that is empty or of another kind."""
    body = frame.content
    if frame.name[0] != "T" or not body or body[0] >= len(_ENCODINGS):
        return []
    try:
        encoding = _ENCODINGS[body[0]]
        if body[0] != _UTF_16:
            return body[1:].decode(encoding).rstrip("\0").split("\0")
        texts = []
        for piece in _wide_pieces(body[1:]):
            texts.append(piece.decode("utf-16" if piece[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le"))
        while len(texts) > 1 and not texts[-1]:
            texts.pop()
        return texts
    except (UnicodeDecodeError, IndexError):
        return []


def _wide_pieces(content: bytes) -> list[bytes]:
    """Split text of two bytes a character at its nulls."""
    pieces, begin = [], 0
    for place in range(0, len(content) - 1, 2):
        if content[place : place + 2] == b"\0\0":
            pieces.append(content[begin:place])
            begin = place + 2
    return [*pieces, content[begin:]]


def _is_latin_1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
