"""Any music file's tags: which container it is, what they say, and the splice that changes a field of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import mutagen

from musicgenre._text import printable
from musicgenre.errors import LibraryError
from musicgenre.filetags.apev2 import ApeFile
from musicgenre.filetags.asf import AsfFile
from musicgenre.filetags.base import GENRE, GROUPING, MOOD, SOUND_KEY, Changes, TagFile, check_field, split_custom
from musicgenre.filetags.chunks import ChunkFile, DsfFile
from musicgenre.filetags.flac import FlacFile
from musicgenre.filetags.id3 import HEADER_BYTES, tag_length
from musicgenre.filetags.mp3 import Mp3File
from musicgenre.filetags.mp4 import Mp4File
from musicgenre.filetags.ogg import OggFile
from musicgenre.filetags.splice import Splice, SplicedView

CONTAINERS = (
    *("mp3", "aac", "flac", "ogg-vorbis", "opus", "speex", "ogg-flac", "mp4", "asf", "wavpack", "ape", "musepack"),
    *("aiff", "wav", "dsf"),
)
"""Containers whose tags can be written."""

_MAX_TAGS_IN_FRONT = 16  # ID3v2 tags that stand one behind the other
_ASF_MAGIC = bytes.fromhex("3026b2758e66cf11")


@dataclass(frozen=True, slots=True)
class FileTags:
    """What a music file's tags say.

    Attributes
    ----------
    container : str
        One of `CONTAINERS`.
    id3_version : str or None
        `2.3`, say, where there is an ID3v2 tag.
    genres, moods, groupings : tuple of str
        Values in order; genres as names.
    artist, album_artist, album, title : str
        Empty where there is none.
    tags_sha256 : str
        Hex SHA-256 of the tags as they stand in the file: another program that writes some changes it.
    sound_sha256 : str
        Hex SHA-256 of the sound alone; empty where it was not asked for.
    """

    container: str
    id3_version: str | None
    genres: tuple[str, ...]
    moods: tuple[str, ...]
    groupings: tuple[str, ...]
    artist: str
    album_artist: str
    album: str
    title: str
    tags_sha256: str
    sound_sha256: str


@contextmanager
def opened(path: Path) -> Iterator[TagFile]:
    """Open a music file's tags for reading.

    Raises
    ------
    LibraryError
        It cannot be read, is no container whose tags can be written, or its tags are damaged.
    """
    try:
        with path.open("rb") as stream:
            try:
                yield tag_file(stream)
            except LibraryError as error:
                problem = f"{printable(path)}: {error.problem}"
                raise LibraryError(problem, valid=error.valid, next_step=error.next_step) from error
    except OSError as error:
        raise LibraryError(
            f"{printable(path)} cannot be read ({error.strerror or error})", next_step="Was it moved? Check the path"
        ) from error


def tag_file(stream: BinaryIO) -> TagFile:
    """Take a file's tags apart; its content tells which container it is, not its name.

    Raises
    ------
    LibraryError
        It is no container whose tags can be written, or its tags are damaged.
    """
    start = 0
    for _ in range(_MAX_TAGS_IN_FRONT):
        stream.seek(start)
        length = tag_length(stream.read(HEADER_BYTES))
        if not length:
            break
        start += length
    stream.seek(start)
    head = stream.read(16)

    if head.startswith(b"fLaC"):
        return FlacFile(stream, "flac", start)
    if head.startswith(b"OggS") and not start:
        return OggFile(stream, "ogg", start)
    if head[4:8] == b"ftyp" and not start:
        return Mp4File(stream, "mp4")
    if head.startswith(_ASF_MAGIC) and not start:
        return AsfFile(stream, "asf")
    if head.startswith((b"wvpk", b"MAC ", b"MPCK", b"MP+")):
        container = {b"wvp": "wavpack", b"MAC": "ape"}.get(head[:3], "musepack")
        return ApeFile(stream, container, start)
    if head.startswith((b"RIFF", b"RF64", b"BW64")) and head[8:12] == b"WAVE":
        return ChunkFile(stream, "wav", start)
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return ChunkFile(stream, "aiff", start)
    if head.startswith(b"DSD ") and not start:
        return DsfFile(stream, "dsf")
    # A frame of MPEG sound: eleven bits, a version that exists; the layer tells ADTS apart. Some begin with zeros.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08:
        return Mp3File(stream, "mp3" if head[1] & 0x06 else "aac", start)
    if start and head.strip(b"\0") == b"":
        return Mp3File(stream, "mp3", start)
    raise LibraryError(
        "its tags cannot be written: it is none of the containers that are known",
        valid=", ".join(CONTAINERS),
        next_step="Leave it out, or convert it",
    )


def read_tags(path: Path, *, with_sound: bool = True) -> FileTags:
    """Read what a music file's tags say, and what identifies them and the sound.

    Parameters
    ----------
    path : Path
        The file.
    with_sound : bool
        Whether to read all of the sound for its checksum.

    Raises
    ------
    LibraryError
        The file cannot be read, or its tags cannot be taken apart.
    """
    with opened(path) as file:
        return FileTags(
            container=file.container,
            id3_version=file.id3_version,
            genres=file.values(GENRE),
            moods=file.values(MOOD),
            groupings=file.values(GROUPING),
            artist=file.text("artist"),
            album_artist=file.text("albumartist"),
            album=file.text("album"),
            title=file.text("title"),
            tags_sha256=tags_sha256(file),
            sound_sha256=sound_sha256(file) if with_sound else "",
        )


def tags_sha256(file: TagFile) -> str:
    """Hex SHA-256 of a file's tags as they stand in it."""
    digest = hashlib.sha256()
    for offset, length in file.tag_spans():
        for piece in file.pieces(offset, length):
            digest.update(piece)
    return digest.hexdigest()


def sound_sha256(file: TagFile) -> str:
    """Hex SHA-256 of a file's sound: the same whatever is done to its tags, and wherever it lies."""
    digest = hashlib.sha256(file.container.encode())
    for piece in file.sound_pieces():
        digest.update(piece)
    return digest.hexdigest()


def sound_key(path: Path, lengths: Container[int] | None = None) -> str:
    """What identifies a file by its sound alone: `sound:`, its bytes, and its hex SHA-256.

    Parameters
    ----------
    path : Path
        The file.
    lengths : container of int, optional
        Bytes of the sounds that are looked for: one of another length is not read, and has an empty key.

    Raises
    ------
    LibraryError
        Its tags cannot be told from its sound.
    """
    with opened(path) as file:
        n_bytes = sum(length for _, length in file.sound_spans())
        if lengths is not None and n_bytes not in lengths:
            return ""
        return f"{SOUND_KEY}{n_bytes}:{sound_sha256(file)}"


def splice_for(path: Path, changes: Changes, *, upgrade_id3: bool = False) -> Splice:
    """Say which bytes of a file change so that fields of its tags hold these values; nothing is written.

    The splice is proved before it is given out: the file as it would be is read again, by our own reader and by
    mutagen, and must hold the values asked for and everything else as it was.

    Parameters
    ----------
    path : Path
        The file.
    changes : mapping of str to tuple of str
        Values by field (`genre`, `mood`, `grouping`, `custom:NAME`); none removes the field.
    upgrade_id3 : bool
        Make an ID3v2.3 tag one of 2.4, which can keep several values apart.

    Returns
    -------
    Splice
        Without edits where the file holds the values already.

    Raises
    ------
    LibraryError
        The file cannot be read or taken apart, the change cannot be made without touching something else, or a field
        is none that may be written.
    """
    for field, values in changes.items():
        check_field(field)
        for value in values:
            if not value.strip() or any(ord(character) < 32 for character in value):
                raise LibraryError(
                    f"{printable(value)!r} cannot be written as {field}", valid="Text without control characters"
                )
    with opened(path) as before:
        splice = Splice.of(before.edits(changes, upgrade_id3=upgrade_id3))
        if splice.edits:
            _prove(before, splice, changes)
    return splice


def _prove(before: TagFile, splice: Splice, changes: Changes) -> None:
    """Read the file as it would be, and compare."""
    view = cast("BinaryIO", SplicedView(before.stream, splice))
    after = tag_file(view)
    for field, values in changes.items():
        if after.values(field) != tuple(dict.fromkeys(values)):
            raise _unproved(f"{field} would read {', '.join(after.values(field)) or 'nothing'}")

    fields = tuple(changes)
    kept = iter(after.others(fields))
    if not all(piece in kept for piece in before.others(fields)):
        raise _unproved("another part of its tags would change")
    lengths = [sum(length for _, length in file.sound_spans()) for file in (before, after)]
    if lengths[0] != lengths[1]:
        raise _unproved("its sound would change")

    view.seek(0)
    seen = [_by_mutagen(stream) for stream in (before.stream, view)]
    if seen[0] is not None and seen[1] is None:
        raise _unproved("another reader would not recognise it")
    if seen[0] and seen[1]:
        own = {key.casefold() for field in fields for key in _keys_of(field)}
        differing = {key for key in seen[0] if key.casefold() not in own and seen[0][key] != seen[1].get(key)}
        if differing:
            raise _unproved(f"another reader would find {min(differing)} changed")


def _keys_of(field: str) -> tuple[str, ...]:
    """What mutagen calls a field, in any container and whatever the case: it may change."""
    if field == GENRE:
        return "TCON", "genre", "\xa9gen", "WM/Genre"
    if field == GROUPING:
        return "TIT1", "grouping", "\xa9grp", "WM/ContentGroupDescription"
    name = "mood" if field == MOOD else split_custom(field)
    own = (name, f"TXXX:{name}", f"----:com.apple.iTunes:{name}")
    return (*own, "TMOO", "WM/Mood") if field == MOOD else own


def _by_mutagen(stream: BinaryIO) -> dict[str, Any] | None:
    """What mutagen reads: values by its own keys; None where it does not know the file."""
    stream.seek(0, os.SEEK_SET)
    try:
        found = mutagen.File(stream)
    except (mutagen.MutagenError, LookupError, ValueError):  # damage that it did not foresee
        return None
    if found is None:
        return None
    pairs: Sequence[tuple[str, Any]] = list(found.tags.items()) if found.tags else []
    return {key: str(value) for key, value in pairs}


def _unproved(reason: str) -> LibraryError:
    return LibraryError(
        f"its genre cannot be changed safely ({reason})",
        next_step="Let a tag editor write this file once (Picard, say), then try again",
    )
