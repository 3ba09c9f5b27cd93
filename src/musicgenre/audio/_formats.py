"""What the bytes of a file tell: its kind, and whether the length in its header is true.

Headers are hints: a writer that streamed left them open, a joiner copied the first part's, a tool counted wrong. Each
check here costs a few reads; where one fails, the packets are counted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from musicgenre.audio._input import Input

_MPEG_HEADER_BYTES = 4
ASF = bytes.fromhex("3026b2758e66cf11")
_KINDS = {
    b"RIFF": "WAV",
    b"RF64": "WAV",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3": "MP3",
    b"FORM": "AIFF",
    b".snd": "AU",
    b"wvpk": "WavPack",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    ASF: "WMA",
}
_LIBSNDFILE_STARTS = (
    *(b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"dns.", b"fLaC", b"caff"),
    *(b"NIST_1A", b"Creative Voice", b"PVF1", b" paf", b"fap ", b"2BIT", b"\x64\xa3"),
)
_TAIL_BYTES = 1 << 16

CHUNK_BYTES = 1 << 20
_OGG_HEADER_BYTES = 27
_OGG_LARGEST_HEADER_BYTES = _OGG_HEADER_BYTES + 255 + 64  # with the segment table and what names the codec
_OGG_BEGINS, _OGG_ENDS = 0x02, 0x04
_OGG_NO_TIME = (1 << 64) - 1
_OPUS_RATE_HZ = 48_000
# Ticks from one page to the next, at most: 255 packets of the longest kind, Vorbis' 8192.
_OGG_LARGEST_STEP = 255 * 8192
# A stream recorded on its way begins at a late time; one that begins sooner than this begins at 0.
_OGG_LATE_S = 10

_WAV_OPEN_SIZES = (0, 0xFFFFFFFF)
_LEAST_UNTOLD_BYTES = 4096
_PCM, _EXTENSIBLE = 1, 0xFFFE
_W64_HEADER_BYTES, _W64_CHUNK_BYTES = 40, 24
_W64_GUID_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")
# Where a common chunk of AIFF-C names how its samples are packed, what stands in front of them, and blocks of GSM.
_AIFC_KIND_AT, _SSND_HEADER_BYTES = 18, 8
_AIFC_GSM = (b"GSM ", b"agsm")
_GSM_BLOCK_BYTES, _GSM_BLOCK_FRAMES = 33, 160
# How DTS (four packings) and AC-3 behind an IEC 61937 burst begin, where they are passed off as 16-bit samples.
_DISGUISES = (
    *(b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\x00", b"\xff\x1f\x00\xe8"),
    *(b"\x72\xf8\x1f\x4e", b"\xf8\x72\x4e\x1f"),
)
_BY_CHANCE = 2
_DISGUISE_BYTES = 1 << 18

_FLAC_INFO_BYTES = 26
_FLAC_MARK_BYTES = 8
_FLAC_BLOCK_SAMPLES = {1: 192, 2: 576, 3: 1152, 4: 2304, 5: 4608}
_FLAC_LARGEST_FRAME_BYTES = 1 << 17
_FLAC_LARGEST_HEADER_BYTES = 16
_EBML_SEGMENT, _EBML_DURATION = b"\x18\x53\x80\x67", b"\x44\x89"
_MUSEPACK = b"MPCK"
_MUSEPACK_HEADER_BYTES, _MUSEPACK_NUMBER_BYTES = 64, 10
# Mark, bytes, version, two high bytes, samples in all, first sample, samples here, flags.
_WAVPACK_HEADER = struct.Struct("<4sIHBBIIII")
_WAVPACK_TAIL_BYTES = 1 << 20


def suits_libsndfile(source: Input) -> bool:
    """Tell whether libsndfile reads this input, and reads it at least as well and as fast as PyAV.

    What it does not know by its first bytes is kept from it. So is MP3: its decoder complains to the terminal, which
    nothing can turn off.
    """
    head = source.head
    if head.startswith(b"OggS"):
        known = (b"OpusHead", b"\x01vorbis", b"Speex   ")
        return not any(mark in head[:64] for mark in known) and ogg_chains(source) is not None
    if head.startswith(b"fLaC"):
        return flac_total_is_true(source)
    return head.startswith(_LIBSNDFILE_STARTS) and not holds_coded_sound(source)


def starts_as_mpeg(head: bytes) -> bool:
    """Tell whether the header of a frame of MPEG audio (layer I, II or III) comes first."""
    if len(head) < _MPEG_HEADER_BYTES or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, bit_rate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer != 0 and bit_rate not in (0, 15) and rate != 3


def known_kind(head: bytes) -> str | None:
    """Name the format that the first bytes announce, for messages."""
    if starts_as_mpeg(head):
        return "MP3"
    if head[4:8] == b"ftyp":
        return "MP4 or M4A"
    return next((kind for start, kind in _KINDS.items() if head.startswith(start)), None)


@dataclass(frozen=True, slots=True)
class WavLayout:
    """Where the samples of a WAV file are.

    `data_start` and `data_bytes` are those of the samples as the file has them, `told_bytes` is what its header says,
    `head` is a header that tells the truth (empty where the file's own does), `n_behind` counts bytes of another file
    that was joined behind.
    """

    data_start: int
    data_bytes: int
    told_bytes: int
    head: bytes
    n_behind: int
    is_pcm: bool


def wav_layout(source: Input) -> WavLayout | None:
    """Find the samples of a WAV file (RIFF or RF64, little endian); None where it is another kind of file."""
    head = source.head
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        return None

    present = source.size - source.start
    wide_bytes = 0  # RF64 keeps the size of its data apart
    is_pcm = False
    at = 12
    while at + 8 <= len(head):
        name, n_bytes = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"ds64":
            wide_bytes = int.from_bytes(head[at + 16 : at + 24], "little")
        elif name == b"fmt ":
            form = int.from_bytes(head[at + 8 : at + 10], "little")
            is_pcm = form == _PCM or (form == _EXTENSIBLE and head[at + 32 : at + 34] == b"\x01\x00")
        elif name == b"data":
            break
        at += 8 + n_bytes + n_bytes % 2
    else:
        return None

    data_start = at + 8
    told = wide_bytes if head[:4] == b"RF64" and n_bytes == _WAV_OPEN_SIZES[1] else n_bytes
    rest = present - data_start
    real, n_behind = min(told, rest), 0
    if told in _WAV_OPEN_SIZES and rest:
        real = rest  # a writer that streamed could not come back to fill the size in
    elif told < rest:
        behind = source.read_at(source.start + data_start + told + told % 2, 8)
        if behind[:4] in (b"RIFF", b"RF64"):
            n_behind = rest - told
        elif (is_pcm or rest - told >= _LEAST_UNTOLD_BYTES) and _sound_goes_on(
            source, data_start + told, order="little"
        ):
            real = rest

    new_head = b""
    if real > told or (told == _WAV_OPEN_SIZES[1] and head[:4] == b"RF64"):
        new_head = _wav_head(head[:data_start], real)
    return WavLayout(data_start, real, told, new_head, n_behind, is_pcm)


def _wav_head(head: bytes, data_bytes: int) -> bytes:
    """Write the true size of the data into a header, which keeps its length; an RF64 becomes a WAV where it can."""
    patched = bytearray(head)
    total = len(head) - 8 + data_bytes
    if total < _WAV_OPEN_SIZES[1]:
        patched[:8] = b"RIFF" + total.to_bytes(4, "little")
        patched[-4:] = data_bytes.to_bytes(4, "little")
        if patched[12:16] == b"ds64":
            patched[12:16] = b"JUNK"
    elif patched[12:16] == b"ds64":
        patched[20:36] = total.to_bytes(8, "little") + data_bytes.to_bytes(8, "little")
    return bytes(patched)


def true_head(source: Input) -> bytes:
    """Write a header that tells all the sound of an AIFF, AU, CAF or W64 file; empty where the file's own does.

    A header may say less than is there: where neither a chunk nor another file follows, the sound goes on.
    """
    head = source.head
    if head[:4] in (b".snd", b"dns."):
        return _true_au_head(source)
    if head.startswith(b"caff"):
        return _true_chunk_head(source, 8, 8, b"data")
    if head.startswith(b"riff"):
        return _true_w64_head(source)
    if head.startswith(b"FORM") and head[8:12] in (b"AIFF", b"AIFC"):
        return _true_chunk_head(source, 12, 4, b"SSND")
    return b""


def _true_au_head(source: Input) -> bytes:
    head = source.head
    order: Literal["big", "little"] = "big" if head.startswith(b".snd") else "little"
    data_start, told = int.from_bytes(head[4:8], order), int.from_bytes(head[8:12], order)
    if not 24 <= data_start <= len(head) or not _left_behind(source, data_start + told):
        return b""
    if source.read_at(source.start + data_start + told, 4) == head[:4]:  # joined: another one
        return b""
    return head[:8] + (source.size - source.start - data_start).to_bytes(4, order) + head[12:data_start]


def _true_w64_head(source: Input) -> bytes:
    """Look through chunks, each named by a GUID, for the one with the sound; sizes count their own header."""
    head, at = source.head, _W64_HEADER_BYTES
    while at + _W64_CHUNK_BYTES <= len(head):
        n_bytes = int.from_bytes(head[at + 16 : at + 24], "little")
        if head[at : at + 4] == b"data":
            break
        at += max(_W64_CHUNK_BYTES, -(-n_bytes // 8) * 8)
    else:
        return b""

    if not _left_behind(source, at + n_bytes):
        return b""
    behind = source.read_at(source.start + at + n_bytes, _TAIL_BYTES)
    is_chunk = _W64_GUID_END in (behind[4:16], behind[-n_bytes % 8 + 4 : -n_bytes % 8 + 16])
    if is_chunk or not behind.strip(b"\0"):
        return b""
    patched = bytearray(head[: at + _W64_CHUNK_BYTES])
    patched[16:24] = (source.size - source.start).to_bytes(8, "little")
    patched[at + 16 : at + 24] = (source.size - source.start - at).to_bytes(8, "little")
    return bytes(patched)


def _true_chunk_head(source: Input, at: int, n_size_bytes: int, wanted: bytes) -> bytes:
    """Look through chunks from `at` on for the one with the sound; sizes are big endian."""
    head, common = source.head, 0
    while at + 4 + n_size_bytes <= len(head):
        start = at + 4 + n_size_bytes
        n_bytes = int.from_bytes(head[at + 4 : start], "big")
        if head[at : at + 4] == wanted:
            break
        if head[at : at + 4] == b"COMM":
            common = start
        at = start + n_bytes + n_bytes % 2 * (n_size_bytes == 4)  # of AIFF's, each begins at an even place
    else:
        return b""

    patched = bytearray(head[:start])
    is_longer = _left_behind(source, start + n_bytes) and _sound_goes_on(source, start + n_bytes, n_size_bytes)
    if is_longer:
        n_bytes = source.size - source.start - start
        patched[at + 4 : start] = n_bytes.to_bytes(n_size_bytes, "big")
        if wanted == b"SSND":
            patched[4:8] = (source.size - source.start - 8).to_bytes(4, "big")
    if not common:
        return bytes(patched) if is_longer else b""

    # The number of frames is a hint too; of GSM, libsndfile believes it.
    n_channels, told, n_bits = struct.unpack_from(">HIH", head, common)
    n_bytes = min(n_bytes, source.size - source.start - start) - _SSND_HEADER_BYTES
    is_gsm = head[common + _AIFC_KIND_AT : common + _AIFC_KIND_AT + 4] in _AIFC_GSM
    if is_gsm:
        n_frames = n_bytes // _GSM_BLOCK_BYTES * _GSM_BLOCK_FRAMES
    elif not n_channels or not n_bits:  # packed: only its decoder could count
        return b""
    else:
        n_frames = n_bytes // (n_channels * -(-n_bits // 8))
    if not is_longer and not (is_gsm and told + _GSM_BLOCK_FRAMES <= n_frames):
        return b""
    patched[common + 2 : common + 6] = n_frames.to_bytes(4, "big")
    return bytes(patched)


def _sound_goes_on(source: Input, end: int, n_size_bytes: int = 4, order: Literal["big", "little"] = "big") -> bool:
    """Tell whether sound stands behind the end that a header tells: no chunk, no other file and no padding."""
    behind = source.read_at(source.start + end, _TAIL_BYTES)
    left = source.size - source.start - end
    for chunk in (behind, behind[1:]) if end % 2 else (behind,):
        # Samples may look like a name by chance, but hardly like one with a size.
        name, n_bytes = chunk[:4], int.from_bytes(chunk[4 : 4 + n_size_bytes], order)
        is_printable = all(0x20 <= byte < 0x7F for byte in name)
        if name.replace(b" ", b"").isalnum() or (is_printable and n_bytes <= left):
            return False
    return bool(behind.strip(b"\0"))


def _left_behind(source: Input, end: int) -> bool:
    """Whether more stands behind a sound than padding, or somebody's tag, and sizes of four bytes can tell it."""
    return source.size - source.start - end >= _LEAST_UNTOLD_BYTES and source.size < _WAV_OPEN_SIZES[1]


def holds_coded_sound(source: Input) -> bool:
    """Tell whether the samples of a WAV file are DTS or AC-3 in disguise: noise to who takes them for samples."""
    layout = wav_layout(source)
    if layout is None or not layout.is_pcm:
        return False
    return is_coded_sound(source.read_at(source.start + layout.data_start, _DISGUISE_BYTES))


def is_coded_sound(samples: bytes) -> bool:
    """Tell whether 16-bit samples are DTS or AC-3 in disguise, by what stands first in them or soon repeats."""
    sound = samples.lstrip(b"\0")
    # Once may be chance where it does not stand first; a coded stream repeats its mark with every frame.
    return any(sound.startswith(mark) or sound.count(mark) > _BY_CHANCE for mark in _DISGUISES)


def ogg_ends_early(source: Input) -> bool:
    """Tell whether an Ogg file lacks the page that closes its stream."""
    if not source.head.startswith(b"OggS"):
        return False
    tail = source.read_at(max(0, source.size - _TAIL_BYTES), _TAIL_BYTES)
    page = tail.rfind(b"OggS")
    return page < 0 or len(tail) < page + 6 or not tail[page + 5] & _OGG_ENDS


def ogg_chains(source: Input) -> float | None:
    """Add up the chained streams of an Ogg file.

    Returns
    -------
    float or None
        0 for a single stream, whose length its own reader tells well; the length in seconds of several together;
        None where they cannot be told apart (an unknown codec, damage), and where a page's time cannot be true.
    """
    seconds, n_chains = 0.0, 0
    rate_hz, skip, first, last = 0, 0, -1, 0
    is_odd = False
    serial = b""
    at = source.start
    chunk, chunk_at = b"", 0

    while at < source.size:
        if at + _OGG_LARGEST_HEADER_BYTES > chunk_at + len(chunk) < source.size:
            chunk, chunk_at = source.read_at(at, CHUNK_BYTES), at
        page = chunk[at - chunk_at : at - chunk_at + _OGG_LARGEST_HEADER_BYTES]
        if len(page) < _OGG_HEADER_BYTES or not page.startswith(b"OggS"):
            break
        begin = _OGG_HEADER_BYTES + page[26]
        clock = _ogg_clock(page[begin:]) if page[5] & _OGG_BEGINS else None
        ticks = int.from_bytes(page[6:14], "little")

        if clock is not None:  # a chain begins: the one before is complete
            if rate_hz:
                seconds += max(0, last - max(first, 0) - skip) / rate_hz
            rate_hz, skip = clock
            first, last, serial = -1, 0, page[14:18]
            n_chains += 1
        elif page[14:18] == serial and 0 < ticks < _OGG_NO_TIME:
            if first < 0:
                first = ticks if ticks > _OGG_LATE_S * rate_hz else 0
            elif not last <= ticks <= last + _OGG_LARGEST_STEP:
                is_odd = True
            last = ticks
        at += begin + sum(page[_OGG_HEADER_BYTES:begin])

    if n_chains <= 1:
        return 0.0 if n_chains and not is_odd else None
    return seconds + max(0, last - max(first, 0) - skip) / rate_hz


def _ogg_clock(packet: bytes) -> tuple[int, int] | None:
    """Read the ticks a second and those to leave out in front from a stream's first packet; None if it is no sound."""
    rate_hz, skip = 0, 0
    if packet.startswith(b"\x01vorbis"):
        rate_hz = int.from_bytes(packet[12:16], "little")
    elif packet.startswith(b"OpusHead"):
        rate_hz, skip = _OPUS_RATE_HZ, int.from_bytes(packet[10:12], "little")
    elif packet.startswith(b"\x7fFLAC"):
        rate_hz = int.from_bytes(packet[27:30], "big") >> 4
    elif packet.startswith(b"Speex   "):
        rate_hz = int.from_bytes(packet[36:40], "little")
    return (rate_hz, skip) if rate_hz else None


def flac_total_is_true(source: Input) -> bool:
    """Tell whether the total in the header of a FLAC file is that of all that is in it.

    It is where the last frame ends there, and no other file is joined behind, whose last frame may end there too.
    """
    head = source.head
    if len(head) < _FLAC_INFO_BYTES:
        return True
    largest = int.from_bytes(head[15:18], "big") or _FLAC_LARGEST_FRAME_BYTES
    total = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    window_bytes = _TAIL_BYTES + 2 * largest
    end = _flac_end_before(source, source.size, window_bytes)
    if end is None:
        return total > 0
    if end > total:
        return False

    # In one file numbers rise all the way to the total. Where they do not (it may be just cut off), and where looking
    # costs no more than that, the beginning of another one is searched.
    quarter = source.size // 4
    ends = [_flac_end_before(source, n * quarter, window_bytes) or 0 for n in (2, 3)]
    if quarter > window_bytes and 0 < ends[0] < ends[1] < end == total:
        return True
    return not _holds_second_flac(source)


def _flac_end_before(source: Input, stop: int, window_bytes: int) -> int | None:
    """Number of the sample behind the last FLAC frame that begins before a byte; None where none is found near it."""
    start = max(0, stop - window_bytes)
    window = source.read_at(start, stop - start)
    block_samples = int.from_bytes(source.head[8:10], "big")
    at = len(window)
    while (at := window.rfind(b"\xff", 0, at)) >= 0:
        if window[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            end = _flac_frame_end(window[at : at + _FLAC_LARGEST_HEADER_BYTES], block_samples)
            if end is not None:
                return end
    return None


def _holds_second_flac(source: Input) -> bool:
    """Search for the beginning of another FLAC file, all of its properties in front as they are in any."""
    for start in range(source.start, source.size, CHUNK_BYTES):
        source.alive()
        chunk = source.read_at(start, CHUNK_BYTES + _FLAC_MARK_BYTES - 1)
        at = 0 if start == source.start else -1
        while (at := chunk.find(b"fLaC", at + 1)) >= 0:
            if chunk[at + 4 : at + _FLAC_MARK_BYTES] in (b"\0\0\0\x22", b"\x80\0\0\x22"):
                return True
    return False


def _flac_frame_end(frame: bytes, block_samples: int) -> int | None:
    """Number of the sample behind a FLAC frame, by its header; None where these bytes are no header."""
    if len(frame) < _FLAC_LARGEST_HEADER_BYTES // 2:
        return None
    # The number is written as UTF-8 writes a character, with up to seven bytes.
    lead = frame[4]
    n_more = 0
    while lead << n_more & 0x80 and n_more < 8:
        n_more += 1
    n_bytes = max(1, n_more)
    if n_more == 1 or n_more > 7:
        return None
    number = lead & (0x7F >> n_more)
    for byte in frame[5 : 4 + n_bytes]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F

    at = 4 + n_bytes
    code = frame[2] >> 4
    if code == 6:
        n_samples, at = frame[at] + 1, at + 1
    elif code == 7:
        n_samples, at = int.from_bytes(frame[at : at + 2], "big") + 1, at + 2
    else:
        n_samples = _FLAC_BLOCK_SAMPLES.get(code, 256 << code - 8 if code > 7 else 0)
    at += {12: 1, 13: 2, 14: 2}.get(frame[2] & 0x0F, 0)
    if not n_samples or at >= len(frame) or _crc8(frame[:at]) != frame[at]:
        return None
    start = number if frame[1] & 1 else number * block_samples
    return start + n_samples


def _crc8(data: bytes) -> int:
    """Checksum of a FLAC frame's header (polynomial 7)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def matroska_is_one(source: Input) -> bool:
    """Tell whether a Matroska file is one segment that fills it, so that the length it tells is that of all of it."""
    at = source.head.find(_EBML_SEGMENT)
    if at < 0 or at + 12 > len(source.head):
        return False
    lead = source.head[at + 4]
    n_bytes = 9 - lead.bit_length()
    n_content = int.from_bytes(source.head[at + 4 : at + 4 + n_bytes], "big") & (1 << 7 * n_bytes) - 1
    return source.start + at + 4 + n_bytes + n_content == source.size


def matroska_tells_length(source: Input) -> bool:
    """Tell whether a Matroska file has a length in its header, which who writes into a pipe does not know."""
    return _EBML_DURATION in source.head


@dataclass(frozen=True, slots=True)
class MusepackStream:
    """The first stream of a Musepack file (SV8): its length in samples, and bytes of another one joined behind."""

    n_samples: int
    n_behind: int


def musepack_stream(source: Input) -> MusepackStream | None:
    """Read the length in a Musepack file's header, and look where its stream ends; None where there is no header.

    FFmpeg tells the length in blocks of up to 1.7 s and goes no further than the first stream.
    """
    at, n_samples = source.start + len(_MUSEPACK), None
    while at < source.size:
        source.alive()
        packet = source.read_at(at, _MUSEPACK_HEADER_BYTES)
        name, (n_bytes, content) = packet[:2], _musepack_number(packet, 2)
        if not name.isalpha() or n_bytes < content:
            break  # it is cut off, or damaged
        if name == b"SH":
            total, behind = _musepack_number(packet, content + 5)  # a checksum and the version stand in front
            n_samples = total - _musepack_number(packet, behind)[0]
        at += n_bytes
        if name == b"SE":
            break
    if n_samples is None or n_samples <= 0:
        return None
    joined = source.read_at(at, CHUNK_BYTES).find(_MUSEPACK + b"SH")  # tags may stand between
    return MusepackStream(n_samples, source.size - at - joined if joined >= 0 else 0)


def _musepack_number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, and where it ends."""
    number = 0
    for place in range(at, min(len(data), at + _MUSEPACK_NUMBER_BYTES)):
        number = number << 7 | data[place] & 0x7F
        if not data[place] & 0x80:
            return number, place + 1
    return 0, len(data)


def wavpack_is_one(source: Input) -> bool:
    """Tell whether the last block of a WavPack file ends where its first one says."""
    if len(source.head) < _WAVPACK_HEADER.size:
        return False
    total = _WAVPACK_HEADER.unpack_from(source.head)[5]
    tail = source.read_at(max(0, source.size - _WAVPACK_TAIL_BYTES), _WAVPACK_TAIL_BYTES)
    at = tail.rfind(b"wvpk")
    while at >= 0:
        if len(tail) - at >= _WAVPACK_HEADER.size:
            *_, first, n_samples, _ = _WAVPACK_HEADER.unpack_from(tail, at)
            if n_samples:
                return bool(first + n_samples == total)
        at = tail.rfind(b"wvpk", 0, at)
    return False
