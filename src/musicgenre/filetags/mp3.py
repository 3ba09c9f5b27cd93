"""MP3 and raw AAC: an ID3v2 tag before the sound, an APEv2 and an ID3v1 tag behind it, each of which may be absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from musicgenre.filetags.apev2 import ape_at, ape_end, id3v1
from musicgenre.filetags.base import GENRE, Changes, Span, TagFile
from musicgenre.filetags.id3 import HEADER_BYTES, Id3Tag, genre_names, new_tag, tag_length
from musicgenre.filetags.splice import Edit

ID3_TEXTS = {
    "artist": ("TPE1", "TP1"),
    "albumartist": ("TPE2", "TP2"),
    "album": ("TALB", "TAL"),
    "title": ("TIT2", "TT2"),
}
"""Frames of ID3v2 that `TagFile.text` looks at, by what it is asked for."""

# Fields of an ID3v1 tag: where they lie, and the frame that says the same.
_V1_FIELDS = ((3, 33, "TIT2"), (33, 63, "TPE1"), (63, 93, "TALB"), (93, 97, "TDRC"), (97, 127, "COMM"))
_V1_TRACK_MARK = 125  # a zero here says that the next byte is the number of the track


class Mp3File(TagFile):
    """Tags of an MP3.

    A genre is written into the ID3v2 tag; into the APEv2 tag too where that names one, or where there is no ID3v2 tag.
    An ID3v1 tag stays as it is: one that stands alone gets an ID3v2.4 tag beside it that repeats what it says, since
    players that find a newer tag read no further.
    """

    def __init__(self, stream: BinaryIO, container: str, sound_start: int) -> None:
        super().__init__(stream, container)
        self._sound_start = sound_start
        length = tag_length(self.read(0, HEADER_BYTES))
        self._id3 = Id3Tag(self.read(0, length), 0) if length else None
        self.id3_version = self._id3.version if self._id3 else None

        self._end = ape_end(self)
        self._ape = ape_at(self, self._end)
        self._v1 = id3v1(self)

    def values(self, field: str) -> tuple[str, ...]:
        """What stands in a field: of the ID3v2 tag, else of the APEv2 tag; an ID3v1 genre counts where it is alone."""
        found = self._id3.values(field) if self._id3 else ()
        if not found and self._ape:
            found = self._ape.values(field)
        if not found and field == GENRE and self._v1 and not self._id3 and not self._ape:
            found = tuple(name for name in genre_names([str(self._v1[127])]) if name != "Unknown")
        return found

    def text(self, name: str) -> str:
        """Artist, album artist, album or title, of the first tag that says it."""
        found = self._id3.text(*ID3_TEXTS[name]) if self._id3 else ""
        if not found and self._ape:
            found = self._ape.text({"albumartist": "Album Artist"}.get(name, name))
        if not found and self._v1:
            found = dict(self._v1_texts()).get(ID3_TEXTS[name][0], "")
        return found

    def edits(self, changes: Changes, *, upgrade_id3: bool = False) -> list[Edit]:
        """Say which bytes change."""
        edits = []
        if self._id3 is not None:
            edits += self._id3.edits(changes, upgrade=upgrade_id3)
        if self._ape is not None:
            there = {name: values for name, values in changes.items() if self._id3 is None or self._ape.has(name)}
            edits += self._ape.edits(self, there)
        if self._id3 is None and self._ape is None and any(changes.values()):
            edits.append(Edit(0, b"", new_tag(changes, self._v1_texts())))
        return edits

    def others(self, fields: Sequence[str]) -> list[bytes]:
        """Every other frame and item, and the ID3v1 tag."""
        frames = self._id3.others(fields) if self._id3 else []
        items = self._ape.others(fields) if self._ape else []
        return [*frames, *items, self.read(self._end, self.size - self._end)]

    def tag_spans(self) -> list[Span]:
        """Where the tags lie."""
        start = self._ape.start if self._ape else self._end
        return [(0, self._sound_start), (start, self.size - start)]

    def sound_spans(self) -> list[Span]:
        """Where the sound lies."""
        end = self._ape.start if self._ape else self._end
        return [(self._sound_start, end - self._sound_start)]

    def _v1_texts(self) -> list[tuple[str, str]]:
        """What an ID3v1 tag says, as frames."""
        texts = []
        for begin, end, frame in _V1_FIELDS:
            text = self._v1[begin:end].split(b"\0")[0].decode("latin-1").strip()
            if text:
                texts.append((frame, text))
        if self._v1 and self._v1[_V1_TRACK_MARK] == 0 and self._v1[_V1_TRACK_MARK + 1]:
            texts.append(("TRCK", str(self._v1[_V1_TRACK_MARK + 1])))
        return texts
