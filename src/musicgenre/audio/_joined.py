"""Another file joined behind the first, where decoders stop: its bytes are counted, so that somebody says so.

MP3, Ogg, FLAC, raw AAC and the like are heard to the end wherever they are joined, and are not looked at here; WAV and
Musepack are counted where their headers are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from musicgenre.audio._formats import ASF, CHUNK_BYTES
from musicgenre.audio._input import Input

_MOST_BLOCKS = 100_000  # that are looked at: 14 hours of WavPack
_BLOCK_HEAD_BYTES, _LEAST_BLOCK_BYTES = 24, 8
_TTA_MARK_BYTES, _FLV_MARK_BYTES = 10, 13  # of a head, up to what differs from file to file


def joined_bytes(source: Input) -> int:
    """Count the bytes of another file of the same kind that begins behind this one; 0 where there is none."""
    head, at = source.head, 0
    if head.startswith(b"FORM"):
        n_bytes = int.from_bytes(head[4:8], "big")
        at = _end_before_same(source, 8 + n_bytes + n_bytes % 2)
    elif head.startswith(b".snd"):
        at = _end_before_same(source, int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big"))
    elif head.startswith(b"TTA1"):
        at = _place_of(source, head[:_TTA_MARK_BYTES])
    elif head.startswith(b"FLV"):
        at = _place_of(source, head[:_FLV_MARK_BYTES])
    elif head.startswith(b"caff"):
        at = next((at for at, name in _blocks(source, _caf_block, 8) if name == b"caff"), 0)
    elif head.startswith(ASF):
        at = next((at for at, name in _blocks(source, _asf_block) if at and name.startswith(ASF)), 0)
    elif head.startswith(b"wvpk"):
        at = _second_wavpack(source)
    elif head[4:8] == b"ftyp":
        at = _second_mp4(source)
    return source.size - source.start - at if at else 0


def _end_before_same(source: Input, end: int) -> int:
    """Give the end of a file back where another one begins there as this one does; else 0."""
    return end if source.read_at(source.start + end, 4) == source.head[:4] else 0


def _place_of(source: Input, mark: bytes) -> int:
    """Search all of a file for its own beginning; 0 where it is not repeated. For kinds that are read whole anyway."""
    for start in range(0, source.size - source.start, CHUNK_BYTES):
        source.alive()
        chunk = source.read_at(source.start + start, CHUNK_BYTES + len(mark) - 1)
        found = chunk.find(mark, 0 if start else 1)
        if found >= 0:
            return start + found
    return 0


def _blocks(source: Input, read: Callable[[bytes], tuple[bytes, int]], at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Walk over the blocks of a file, each by the size that its head tells: (place, name)."""
    for _ in range(_MOST_BLOCKS):
        if at >= source.size:
            return
        head = source.read_at(source.start + at, _BLOCK_HEAD_BYTES)
        if len(head) < _LEAST_BLOCK_BYTES:
            return
        name, n_bytes = read(head)
        yield at, name
        if n_bytes < _LEAST_BLOCK_BYTES:
            return
        source.alive()
        at += n_bytes


# What the head of a block tells: its name, and how many bytes it has with its head.


def _caf_block(head: bytes) -> tuple[bytes, int]:
    return head[:4], 12 + int.from_bytes(head[4:12], "big", signed=True)  # -1: up to the end of the file


def _asf_block(head: bytes) -> tuple[bytes, int]:
    return head[:16], int.from_bytes(head[16:24], "little")


def _mp4_block(head: bytes) -> tuple[bytes, int]:
    n_bytes = int.from_bytes(head[:4], "big")
    return head[4:8], int.from_bytes(head[8:16], "big") if n_bytes == 1 else n_bytes


def _wavpack_block(head: bytes) -> tuple[bytes, int]:
    return head[:4] + head[16:20], 8 + int.from_bytes(head[4:8], "little")  # named with its first sample


def _second_mp4(source: Input) -> int:
    """Where a second MP4 begins; 0 where none does. What comes in fragments may repeat its head, and is heard."""
    begins = 0
    for at, name in _blocks(source, _mp4_block):
        if name == b"moof":
            return 0
        if at and name == b"ftyp":
            begins = begins or at
    return begins


def _second_wavpack(source: Input) -> int:
    """Where sample 0 comes again in a WavPack file; 0 where it does not. Several blocks may share a sample."""
    is_behind_first = False
    for at, name in _blocks(source, _wavpack_block):
        if not name.startswith(b"wvpk"):  # tags may stand between
            joined = source.read_at(source.start + at, CHUNK_BYTES).find(b"wvpk")
            return at + joined if joined >= 0 else 0
        if is_behind_first and name == b"wvpk" + bytes(4):
            return at
        is_behind_first |= name != b"wvpk" + bytes(4)
    return 0
