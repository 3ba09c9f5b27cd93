"""MP3 and its elder brothers, frame by frame: the length is counted, and a jump to any frame is exact.

No header of the file is believed: files are joined, cut and tagged at either end and inside, and their Xing and VBRI
headers go along. So the header of every frame is read (1 ms a minute), and FFmpeg's decoder gets the frames.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np

from musicgenre._text import how_many
from musicgenre.audio._formats import CHUNK_BYTES
from musicgenre.audio._input import Input, id3_bytes
from musicgenre.audio._pyav import FrameQueue, set_log
from musicgenre.audio._readers import DecodeFailure
from musicgenre.audio.sound import AudioInfo, Float32

if TYPE_CHECKING:
    from av import AudioCodecContext

# kbit/s by layer, for MPEG 1 and for MPEG 2 and 2.5.
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = (44_100, 48_000, 32_000)
_SAMPLES = {(1, 1): 384, (1, 2): 1152, (1, 3): 1152, (2, 1): 384, (2, 2): 1152, (2, 3): 576}
_CODECS = {1: "mp1", 2: "mp2", 3: "mp3"}
_HEADER_BYTES = 4
# So many frames in a row of one kind are sound: bytes that look like one header are common in pictures.
_CERTAIN = 3
_CERTAIN_OF_ANOTHER_KIND = 8
# A search needs this much ahead: the longest frames there are.
_LOOKAHEAD_BYTES = _CERTAIN_OF_ANOTHER_KIND * 3_000
_SEARCH_BYTES = 1 << 18
_ID3V1_BYTES = 128
_APE_HEADER_BYTES = 32
_HAS_FRAMES, _HAS_BYTES = 0x1, 0x2
# Where LAME's tag is behind the word Xing, and its delay and padding in that; the decoder's own delay comes on top.
_LAME_AT, _LAME_PADDING_AT = 120, 141
_DECODER_DELAY = 529
# After a jump the decoder needs the bits that earlier frames kept for later ones, and the overlap of the last two.
_PREROLL_FRAMES, _PREROLL_BYTES = 10, 4096
_READ_BYTES = 1 << 17

Kind = tuple[int, int, int]
"""MPEG version (1, or 2 for 2 and 2.5), layer and rate in Hz: what stays the same within one stream."""


@dataclass(slots=True)
class FrameTable:
    """Where the frames of a file are: offset and length in bytes of each, and what the first one says.

    `is_mixed` tells of frames of another kind behind, which one decoder cannot go on with. `n_lost_bytes` are no
    sound, the first of them behind `n_before_loss` frames. `told_frames` and `told_bytes` are what the length header
    says; `delay` and `padding` are samples to leave out at either end.
    """

    kind: Kind = (0, 0, 0)
    channels: int = 0
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("H"))
    is_mixed: bool = False
    n_lost_bytes: int = 0
    n_before_loss: int = 0
    told_frames: int = 0
    told_bytes: int = 0
    delay: int = 0
    padding: int = 0


@cache
def _frame_kinds() -> dict[int, tuple[int, Kind]]:
    """Length in bytes and kind by the second and third byte of a frame's header."""
    kinds = {}
    for version_bits, version, divisor in ((3, 1, 1), (2, 2, 2), (0, 2, 4)):
        for layer in (1, 2, 3):
            n_samples = _SAMPLES[version, layer]
            slot = 4 if layer == 1 else 1  # layer I counts in words
            for bit_index, bit_rate in enumerate(_BIT_RATES[version, layer], 1):
                for rate_index, top_hz in enumerate(_RATES_HZ):
                    rate_hz = top_hz // divisor
                    plain = n_samples // 8 // slot * bit_rate * 1000 // rate_hz
                    for rest in range(8):  # protected or not, padded or not, private or not
                        second = 0xE0 | version_bits << 3 | (4 - layer) << 1 | rest & 1
                        third = bit_index << 4 | rate_index << 2 | rest >> 1
                        n_bytes = (plain + (rest >> 2 & 1)) * slot
                        kinds[second << 8 | third] = (n_bytes, (version, layer, rate_hz))
    return kinds


def find_frames(source: Input) -> FrameTable:
    """Find all frames of a file, over tags, damage and the borders of files that were joined."""
    table = FrameTable()
    kinds = _frame_kinds()
    at, lost_from = source.start, -1

    while at + _HEADER_BYTES <= source.size:
        source.alive()
        chunk, base = source.read_at(at, CHUNK_BYTES), at
        # Whoever searches looks ahead, so the last bytes of a chunk are left to the next one.
        usable = len(chunk) - _HEADER_BYTES if base + len(chunk) >= source.size else len(chunk) - _LOOKAHEAD_BYTES
        inside = 0
        while inside <= usable:
            n_bytes, kind = 0, table.kind
            if chunk[inside] == 0xFF:
                n_bytes, kind = kinds.get(chunk[inside + 1] << 8 | chunk[inside + 2], (0, kind))
            if n_bytes and (kind == table.kind or not table.offsets) and base + inside + n_bytes <= source.size:
                if not table.offsets:
                    table.kind = kind
                    table.channels = 1 if chunk[inside + 3] >> 6 == 3 else 2
                    if not table.told_frames and _read_length_header(table, chunk[inside : inside + n_bytes]):
                        inside += n_bytes  # it holds no sound
                        continue
                table.offsets.append(base + inside)
                table.lengths.append(n_bytes)
                inside += n_bytes
                continue

            skipped = _tag_bytes(chunk, inside)
            if skipped:
                inside += skipped
                continue
            lost_from = inside
            inside = _next_frame(chunk, inside + 1, table)
            if table.is_mixed:
                return table
            # What is lost at the end is a tag of a kind that we do not know, or a frame that was cut off.
            if inside + _HEADER_BYTES < len(chunk):
                if not table.n_lost_bytes:
                    table.n_before_loss = len(table.offsets)
                table.n_lost_bytes += inside - lost_from
        at = base + max(inside, 1)
        if table.offsets:  # before more of them stand in memory
            version, layer, rate_hz = table.kind
            source.check_duration(len(table.offsets) * _SAMPLES[version, layer] / rate_hz)
    return table


def _next_frame(chunk: bytes, start: int, table: FrameTable) -> int:
    """Find where frames go on; some way ahead where they do not in the next bytes."""
    kinds = _frame_kinds()
    end = min(len(chunk), start + _SEARCH_BYTES)
    at = start
    while 0 <= (at := chunk.find(b"\xff", at, end)) <= len(chunk) - _HEADER_BYTES:
        n_bytes, kind = kinds.get(chunk[at + 1] << 8 | chunk[at + 2], (0, table.kind))
        wanted = _CERTAIN if kind == table.kind or not table.offsets else _CERTAIN_OF_ANOTHER_KIND
        behind, n_found = at, 0
        while n_bytes and n_found < wanted:
            n_found += 1
            behind += n_bytes
            if behind + _HEADER_BYTES > len(chunk):
                n_found = wanted if kind == table.kind else 0  # the end of the file: nothing more to ask
                break
            found = kinds.get(chunk[behind + 1] << 8 | chunk[behind + 2], (0, kind))
            if chunk[behind] != 0xFF or found[1] != kind:
                break
            n_bytes = found[0]
        if n_found >= wanted:
            table.is_mixed = wanted == _CERTAIN_OF_ANOTHER_KIND
            return at
        at += 1
    return end


def _tag_bytes(chunk: bytes, at: int) -> int:
    """Length of the tag that stands between or behind frames; 0 where none does."""
    if chunk.startswith(b"ID3", at):
        return id3_bytes(chunk[at : at + 10])
    if chunk.startswith(b"TAG", at):
        return _ID3V1_BYTES
    if chunk.startswith(b"APETAGEX", at):
        is_header = len(chunk) > at + 23 and chunk[at + 23] & 0x20
        size = int.from_bytes(chunk[at + 12 : at + 16], "little")
        return size + _APE_HEADER_BYTES if is_header else _APE_HEADER_BYTES
    if chunk.startswith(b"LYRICSBEGIN", at):  # Lyrics3: it ends with its version, which nine bytes hold
        end = max(chunk.find(b"LYRICS200", at), chunk.find(b"LYRICSEND", at))
        return end + 9 - at if end > at else 0
    return 0


def _read_length_header(table: FrameTable, frame: bytes) -> bool:
    """Read the Xing, Info or VBRI header in the first frame; False where there is none."""

    def number(at: int) -> int:
        return int.from_bytes(frame[at : at + 4], "big")

    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at >= 0:
        flags = number(at + 4)
        if flags & _HAS_FRAMES:
            table.told_frames = number(at + 8)
        if flags & _HAS_FRAMES and flags & _HAS_BYTES:
            table.told_bytes = number(at + 12)
        if frame[at + _LAME_AT : at + _LAME_AT + 4] in (b"LAME", b"Lavf", b"Lavc"):
            both = int.from_bytes(frame[at + _LAME_PADDING_AT : at + _LAME_PADDING_AT + 3], "big")
            table.delay = (both >> 12) + _DECODER_DELAY
            table.padding = max(0, (both & 0xFFF) - _DECODER_DELAY)
        return True
    at = frame.find(b"VBRI", 0, 64)
    if at >= 0:
        table.told_frames, table.told_bytes = number(at + 14), number(at + 10)
    return at >= 0


class MpegReader:
    """A `Reader` of MPEG audio."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self._table = table = find_frames(source)
        if len(table.offsets) < _CERTAIN or table.is_mixed:
            raise DecodeFailure("not one stream of MPEG frames")
        version, layer, rate_hz = table.kind
        self._frame_samples = _SAMPLES[version, layer]
        self._codec = f"{_CODECS[layer]}float"

        n_samples = len(table.offsets) * self._frame_samples
        # Padding belongs to the end of the first part alone where others were joined behind.
        is_as_told = abs(table.told_frames - len(table.offsets)) <= 1
        self._total = max(0, n_samples - table.delay - (table.padding if is_as_told else 0))
        self.declared_frames: int | None = self._total
        missing = table.told_frames - len(table.offsets)
        if missing > 1 and (not table.told_bytes or table.told_bytes > sum(table.lengths) + 2 * table.lengths[0]):
            self.declared_frames = self._total + missing * self._frame_samples

        name = _CODECS[layer]
        self.info = AudioInfo(source.name, name, name, rate_hz, table.channels, self._total / rate_hz)
        self.notes: list[str] = []
        if table.n_lost_bytes:
            after = f"damaged after {self._time_s(table.n_before_loss):.1f} s"
            self.notes.append(f"{after}: {table.n_lost_bytes} bytes between its frames are no sound")
        self._n_damaged, self._first_damaged = 0, 0
        self._queue = FrameQueue(rate_hz, table.channels)
        self._chunk, self._chunk_at = b"", 0
        self._start_at(0)

    def _time_s(self, number: int) -> float:
        """Time at which a frame begins."""
        return max(0, number * self._frame_samples - self._table.delay) / self._table.kind[2]

    def _start_at(self, number: int) -> None:
        """Begin to decode with one frame, as if it were the first."""
        import av

        set_log()
        self._decoder = cast("AudioCodecContext", av.CodecContext.create(self._codec, "r"))
        self._packet_of = av.Packet
        self._error = av.error.FFmpegError
        self._next = number
        self._queue.clear()
        self.position = number * self._frame_samples - self._table.delay

    def seek(self, frame: int) -> None:
        """Go to a frame; beyond the end means to the end."""
        target = min(frame, self._total)
        number = (target + self._table.delay) // self._frame_samples
        first = max(0, min(number, len(self._table.offsets) - 1) - _PREROLL_FRAMES)
        while first > 0 and self._table.offsets[number - 1] - self._table.offsets[first] < _PREROLL_BYTES:
            first -= 1
        if not first * self._frame_samples - self._table.delay <= self.position <= target:
            self._start_at(first)
        while self.position < target and len(self._take(min(target - self.position, 1 << 16))):
            pass

    def read(self, n_frames: int) -> Float32:
        """Give the next frames, shape (n, channels)."""
        while self.position < 0 and len(self._take(-self.position)):  # what the encoder put in front
            pass
        return self._take(min(n_frames, self._total - self.position))

    def _take(self, n_frames: int) -> Float32:
        while self._queue.n_frames < n_frames and self._next < len(self._table.offsets):
            self._decode_next()
        block = self._queue.take(max(0, n_frames))
        self.position += len(block)
        return block

    def _decode_next(self) -> None:
        """Decode one frame, with silence in the place of one that is damaged: what follows stays where it is."""
        table, before = self._table, self._queue.n_frames
        offset, n_bytes = table.offsets[self._next], table.lengths[self._next]
        inside = offset - self._chunk_at
        if inside < 0 or inside + n_bytes > len(self._chunk):
            self._source.alive()
            self._chunk, self._chunk_at, inside = self._source.read_at(offset, _READ_BYTES), offset, 0

        try:
            for frame in self._decoder.decode(self._packet_of(self._chunk[inside : inside + n_bytes])):
                self._queue.add(frame)
        except self._error:
            self._first_damaged = self._first_damaged if self._n_damaged else self._next
            self._n_damaged += 1
        missing = self._frame_samples - (self._queue.n_frames - before)
        if missing > 0:
            self._queue.add_block(np.zeros((missing, table.channels), dtype=np.float32))
        self._next += 1

    def close(self) -> None:
        """Say what was damaged."""
        if self._n_damaged:
            after = f"damaged after {self._time_s(self._first_damaged):.1f} s"
            self.notes.append(f"{after}: {how_many(self._n_damaged, 'packet')} left out")
            self._n_damaged = 0
