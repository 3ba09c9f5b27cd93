"""What the first and last bytes of a file tell: its kind, its promised length, and whether its end is there."""

from __future__ import annotations

from dataclasses import dataclass

from musicgenre.audio._input import Input

_ID3_HEADER_BYTES = 10
_ASF = bytes.fromhex("3026b2758e66cf11")
_SNIFFED_KINDS = {
    b"RIFF": "WAV",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3": "MP3",
    b"FORM": "AIFF",
    b".snd": "AU",
    b"wvpk": "WavPack",
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    _ASF: "WMA",
}
_LIBSNDFILE_STARTS = (
    *(b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"dns.", b"fLaC", b"caff"),
    *(b"NIST_1A", b"Creative Voice", b"PVF1", b" paf", b"fap ", b"2BIT", b"\x64\xa3"),
)
_OGG_TAIL_BYTES = 1 << 16
_OGG_END_OF_STREAM = 0x04
_HAS_FRAMES, _HAS_BYTES = 0x1, 0x2
# More than this between the length in the header and the file's: cut off, or something is glued to it.
_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Mp3Header:
    """The length that an MP3 file promises: MPEG frames, and bytes where it tells them."""

    frames: int
    n_bytes: int | None
    sound_start: int


def suits_libsndfile(source: Input) -> bool:
    """Tell whether libsndfile reads this input, and reads it at least as well and as fast as PyAV.

    What it does not know by its first bytes is kept from it: it would take any file called .mp3 for one, and its
    MP3 decoder complains to the terminal, which nothing can turn off.
    """
    head = source.head
    if head.startswith(b"OggS"):
        return b"OpusHead" not in head[:64] and b"\x01vorbis" not in head[:64]
    if _starts_as_mpeg(head):
        return _is_sound_mp3(source)
    return head.startswith(_LIBSNDFILE_STARTS)


def known_kind(head: bytes) -> str | None:
    """Name the format that the first bytes announce, for messages."""
    if head[4:8] == b"ftyp":
        return "MP4 or M4A"
    return next((kind for start, kind in _SNIFFED_KINDS.items() if head.startswith(start)), None)


def ogg_ends_early(source: Input) -> bool:
    """Tell whether an Ogg file lacks the page that closes its stream."""
    if not source.head.startswith(b"OggS"):
        return False
    tail = source.read_at(max(0, source.size - _OGG_TAIL_BYTES), _OGG_TAIL_BYTES)
    page = tail.rfind(b"OggS")
    return page < 0 or len(tail) < page + 6 or not tail[page + 5] & _OGG_END_OF_STREAM


def mp3_header(source: Input) -> Mp3Header | None:
    """Read the Xing, Info or VBRI header in the first frame; None where there is none."""
    start = _id3_bytes(source.head)
    head = source.head if start == 0 else source.read_at(start, len(source.head) or 1)
    sync = next((i for i in range(len(head) - 1) if head[i] == 0xFF and head[i + 1] & 0xE0 == 0xE0), -1)
    if sync < 0:
        return None
    frame = head[sync : sync + 256]
    for mark in (b"Xing", b"Info"):
        at = frame.find(mark)
        if at >= 0:
            flags = _number(frame, at + 4)
            if not flags & _HAS_FRAMES:
                return None
            n_bytes = _number(frame, at + 12) if flags & _HAS_BYTES else None
            return Mp3Header(_number(frame, at + 8), n_bytes, start + sync)
    at = frame.find(b"VBRI")
    return Mp3Header(_number(frame, at + 14), _number(frame, at + 10), start + sync) if at >= 0 else None


def _starts_as_mpeg(head: bytes) -> bool:
    return head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def _is_sound_mp3(source: Input) -> bool:
    """Tell whether libsndfile is safe: without a header it guesses the length, and it shouts about damage."""
    header = mp3_header(source)
    if header is None:
        return False
    present = source.size - header.sound_start
    return header.n_bytes is None or abs(header.n_bytes - present) <= _SIZE_TOLERANCE * present


def _id3_bytes(head: bytes) -> int:
    if not head.startswith(b"ID3") or len(head) < _ID3_HEADER_BYTES:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return size + _ID3_HEADER_BYTES


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")
