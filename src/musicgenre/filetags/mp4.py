"""MP4, M4A, M4B, ALAC in MP4: atoms in atoms; tags are the atoms of `moov.udta.meta.ilst`.

Structure after ISO/IEC 14496-12 and Apple's QuickTime file format specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from musicgenre.filetags.base import GENRE, GROUPING, MOOD, Changes, Span, TagFile, damaged, split_custom
from musicgenre.filetags.id3 import genre_names
from musicgenre.filetags.splice import Edit

_GENRE_NUMBER = b"gnre"  # of an ID3v1 genre, one more than there
_NAMES = {GENRE: b"\xa9gen", GROUPING: b"\xa9grp"}
_TEXTS = {"artist": b"\xa9ART", "albumartist": b"aART", "album": b"\xa9alb", "title": b"\xa9nam"}
_FREE_FORM, _MEAN = b"----", b"com.apple.iTunes"
_TEXT, _IMPLICIT = 1, 0  # kinds of data
_PARENTS = {b"moov", b"udta", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mfra", b"ilst", b"meta"}
_HAS_BASE_OFFSET = 1  # flag of a fragment's track
_MAX_MOOV_BYTES = 1 << 28


@dataclass(slots=True)
class Atom:
    """One atom; places count in the file."""

    name: bytes
    start: int
    head_bytes: int
    size: int
    children: list[Atom] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + self.size

    @property
    def body(self) -> int:
        """Where its content begins."""
        return self.start + self.head_bytes

    def child(self, *path: bytes) -> Atom | None:
        """The first atom down a path of names."""
        found: Atom | None = self
        for name in path:
            found = next((atom for atom in found.children if atom.name == name), None) if found else None
        return found


class Mp4File(TagFile):
    """Tags of an MP4 file."""

    def __init__(self, stream: BinaryIO, container: str) -> None:
        super().__init__(stream, container)
        self._top = list(self._atoms(0, self.size))
        moov = next((atom for atom in self._top if atom.name == b"moov"), None)
        if moov is None or moov.size > _MAX_MOOV_BYTES:
            raise damaged("the MP4 file", "it has no moov atom, or an absurd one")
        self._moov = moov
        self._ilst = self._moov.child(b"udta", b"meta", b"ilst")

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field, in order."""
        texts = [text for atom in self._of(field) for text in self._data(atom)]
        if field == GENRE and not texts:
            texts = self._numbered()
        return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))

    def text(self, name: str) -> str:
        """Artist, album artist, album or title."""
        for atom in self._ilst.children if self._ilst else ():
            if atom.name == _TEXTS[name]:
                return next(iter(self._data(atom)), "")
        return ""

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change: the field's atom, the sizes of those around it, and offsets of the sound."""
        edits: list[Edit] = []
        added = b""
        for name, values in changes.items():
            if values == self.values(name):
                continue
            new = _atom_of(name, values) if values else b""
            old = self._of(name)
            if name == GENRE and self._ilst is not None:
                old += [atom for atom in self._ilst.children if atom.name == _GENRE_NUMBER]
            for number, atom in enumerate(old):
                edits.append(Edit(atom.start, self.read(atom.start, atom.size), b"" if number else new))
            if not old:
                added += new
        if not edits and not added:
            return []

        # The way to the tags, as far as it is there; what is missing is made around the new entries.
        way, missing = [self._moov], [b"udta", b"meta", b"ilst"]
        while missing and (following := way[-1].child(missing[0])) is not None:
            way.append(following)
            missing.pop(0)
        if added:
            for parent in reversed(missing):
                added = _wrapped(parent, added)
            # Behind the last child: zeros may end the list.
            place = way[-1].children[-1].end if way[-1].children else way[-1].body
            edits.append(Edit(place, b"", added))

        growth = sum(len(edit.new) - len(edit.old) for edit in edits)
        if not growth:
            return edits
        taken = self._from_free(growth, way)
        if taken is not None:
            return edits + taken
        return edits + [self._sized(atom, growth) for atom in way] + self._moved(growth)

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other atom of the tags, and the other atoms of `moov` but for their offsets."""
        mine = {atom.start for name in fields for atom in self._of(name)}
        kept = []
        for atom in self._ilst.children if self._ilst else ():
            if atom.start not in mine and not (GENRE in fields and atom.name == _GENRE_NUMBER):
                kept.append(self.read(atom.start, atom.size))
        for atom in self._moov.children:
            if atom.name not in (b"udta", b"free", b"trak"):
                kept.append(self.read(atom.start, atom.size))
        return kept

    def tag_spans(self) -> list[Span]:
        """Where the tags lie: `udta`, or where it would be."""
        udta = self._moov.child(b"udta")
        return [(udta.start, udta.size)] if udta else [(self._moov.end, 0)]

    def sound_spans(self) -> list[Span]:
        """Where the sound lies."""
        return [(atom.body, atom.size - atom.head_bytes) for atom in self._top if atom.name == b"mdat"]

    def _atoms(self, start: int, end: int, depth: int = 0) -> Iterator[Atom]:
        """Atoms from `start` to `end`, those that hold others with them."""
        place = start
        while place + 8 <= end:
            head = self.read(place, 16)
            size, name = struct.unpack_from(">I4s", head)
            head_bytes = 8
            if size == 1 and len(head) == 16:
                size, head_bytes = struct.unpack_from(">Q", head, 8)[0], 16
            elif size == 0 and depth == 0:
                size = end - place  # to the end of the file
            if size < head_bytes or place + size > end:
                if depth == 0 and name in (b"mdat", b"free", b"skip"):
                    size = end - place  # cut off in the sound: the tags are whole
                elif depth and self.read(place, end - place).strip(b"\0") == b"":
                    return  # QuickTime ends some lists with zeros
                else:
                    raise damaged("the MP4 file", f"its atom {name!r} has an impossible size")
            atom = Atom(name, place, head_bytes, size)
            if name in _PARENTS and depth < 8:
                inner = atom.body
                if name == b"meta" and self.read(inner, 8)[4:8] != b"hdlr":
                    inner += 4  # version and flags, which QuickTime leaves out
                atom.children = list(self._atoms(inner, atom.end, depth + 1))
            yield atom
            place += size

    def _of(self, field: str) -> list[Atom]:
        """Atoms that hold a field."""
        found = []
        for atom in self._ilst.children if self._ilst else ():
            if atom.name == _NAMES.get(field):
                found.append(atom)
            elif atom.name == _FREE_FORM and field not in _NAMES:
                wanted = "MOOD" if field == MOOD else split_custom(field).upper()
                parts = dict(self._parts(atom))
                if parts.get(b"name", b"")[4:].decode("utf-8", "replace").upper() == wanted:
                    found.append(atom)
        return found

    def _parts(self, atom: Atom) -> Iterator[tuple[bytes, bytes]]:
        """Names and contents of the atoms in an entry of the list."""
        content = self.read(atom.body, atom.size - atom.head_bytes)
        place = 0
        while place + 8 <= len(content):
            size, name = struct.unpack_from(">I4s", content, place)
            if size < 8 or place + size > len(content):
                raise damaged("the MP4 file", f"an entry {atom.name!r} of its tags is cut off")
            yield name, content[place + 8 : place + size]
            place += size

    def _data(self, atom: Atom) -> list[str]:
        """Texts of an entry."""
        texts = []
        for name, content in self._parts(atom):
            if name == b"data" and len(content) >= 8 and content[3] in (_TEXT, _IMPLICIT):
                texts.append(content[8:].decode("utf-8", "replace"))
        return texts

    def _numbered(self) -> list[str]:
        """Names of genres that are kept as numbers."""
        names = []
        for atom in self._ilst.children if self._ilst else ():
            if atom.name == _GENRE_NUMBER:
                for name, content in self._parts(atom):
                    if name == b"data":
                        names += genre_names([str(int.from_bytes(content[8:10], "big") - 1)])
        return names

    def _from_free(self, growth: int, way: Sequence[Atom]) -> list[Edit] | None:
        """Take what grows from free space right behind the tags, so that nothing else moves; None: there is none."""
        for level in range(len(way) - 1, -1, -1):
            siblings = way[level - 1].children if level else self._top
            for atom in siblings:
                left = atom.size - growth
                if atom.name != b"free" or atom.start != way[level].end or atom.head_bytes != 8 or left < 8:
                    continue
                content = self.read(atom.body, atom.size - 8)
                edits = [Edit(atom.start, self.read(atom.start, 4), struct.pack(">I", left))]
                if growth > 0:
                    edits.append(Edit(atom.end - growth, content[-growth:], b""))
                else:
                    edits.append(Edit(atom.end, b"", bytes(-growth)))
                return edits + [self._sized(parent, growth) for parent in way[level:]]
        return None

    def _sized(self, atom: Atom, growth: int) -> Edit:
        """Change the size that an atom says."""
        if atom.head_bytes == 16:
            return Edit(atom.start + 8, self.read(atom.start + 8, 8), struct.pack(">Q", atom.size + growth))
        old = self.read(atom.start, 4)
        if old == b"\0\0\0\0":
            return Edit(atom.start, old, old)  # to the end of the file, however long that is
        return Edit(atom.start, old, struct.pack(">I", atom.size + growth))

    def _moved(self, growth: int) -> list[Edit]:
        """Offsets of the sound that lies behind the tags, moved by `growth`."""
        behind = {atom.name for atom in self._top if atom.start >= self._moov.end}
        if not behind & {b"mdat", b"moof"}:
            return []
        edits = self._moved_fragments(growth)
        for trak in (atom for atom in self._moov.children if atom.name == b"trak"):
            tables = trak.child(b"mdia", b"minf", b"stbl")
            for table in tables.children if tables else ():
                if table.name not in (b"stco", b"co64"):
                    continue
                form = ">I" if table.name == b"stco" else ">Q"
                width = struct.calcsize(form)
                content = self.read(table.body, table.size - table.head_bytes)
                n_entries = int.from_bytes(content[4:8], "big")
                if 8 + n_entries * width > len(content):
                    raise damaged("the MP4 file", "its table of offsets is cut off")
                old = content[8 : 8 + n_entries * width]
                offsets = []
                for (offset,) in struct.iter_unpack(form, old):
                    offsets.append(offset + growth if offset >= self._moov.end else offset)
                if offsets and max(offsets) >= 1 << 8 * width:
                    raise damaged("the MP4 file", "an offset of its sound would not fit any more")
                new = struct.pack(f">{n_entries}{form[1]}", *offsets)
                edits.append(Edit(table.body + 8, old, new))
        return edits

    def _moved_fragments(self, growth: int) -> list[Edit]:
        """Offsets of a fragmented file that count from its beginning; others count from their fragment, and stay."""
        edits = []
        for moof in (atom for atom in self._top if atom.name == b"moof"):
            for traf in (atom for atom in moof.children if atom.name == b"traf"):
                head = traf.child(b"tfhd")
                # After version, flags and the track's number stands where its sound begins, if the flags say so.
                if head is None or not self._whole(head.body + 3, 1)[0] & _HAS_BASE_OFFSET:
                    continue
                if head.body + 16 > head.end:
                    raise damaged("the MP4 file", "a fragment's head is cut off")
                edits.append(self._moved_offset(head.body + 8, 8, growth))

        tables = [table for atom in self._top if atom.name == b"mfra" for table in atom.children]
        for table in (table for table in tables if table.name == b"tfra"):
            version, lengths, n_entries = struct.unpack(">B3x4xII", self._whole(table.body, 16))
            width = 8 if version == 1 else 4
            entry = 2 * width + sum((lengths >> shift & 3) + 1 for shift in (4, 2, 0))
            if table.body + 16 + n_entries * entry > table.end:
                raise damaged("the MP4 file", "its table of fragments is cut off")
            for number in range(n_entries):  # a time, then where its fragment begins
                edits.append(self._moved_offset(table.body + 16 + number * entry + width, width, growth))
        return edits

    def _moved_offset(self, place: int, width: int, growth: int) -> Edit:
        """Move one offset of `width` bytes, if it points behind the tags."""
        old = self._whole(place, width)
        offset = int.from_bytes(old, "big")
        if offset < self._moov.end:
            return Edit(place, old, old)
        if offset + growth >= 1 << 8 * width:
            raise damaged("the MP4 file", "an offset of its sound would not fit any more")
        return Edit(place, old, (offset + growth).to_bytes(width, "big"))

    def _whole(self, place: int, length: int) -> bytes:
        """Read bytes that must be there."""
        content = self.read(place, length)
        if len(content) < length:
            raise damaged("the MP4 file", "it is cut off")
        return content


def _atom(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content


def _atom_of(field: str, values: Sequence[str]) -> bytes:
    """Write an entry of the list with these values."""
    data = b"".join(_atom(b"data", struct.pack(">2I", _TEXT, 0) + value.encode()) for value in values)
    if field in _NAMES:
        return _atom(_NAMES[field], data)
    name = "MOOD" if field == MOOD else split_custom(field)
    return _atom(_FREE_FORM, _atom(b"mean", bytes(4) + _MEAN) + _atom(b"name", bytes(4) + name.encode()) + data)


def _wrapped(name: bytes, content: bytes) -> bytes:
    """Put content into a new atom of the way to the tags."""
    if name == b"meta":
        handler = _atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
        return _atom(name, bytes(4) + handler + content)
    return _atom(name, content)
