"""Make sounds whose headers lie about their length: short for long, long for short, and what is no length at all.

Each maker writes a small real file and then changes the numbers in it that tell how long it is. Everything follows
from the arguments, so a file that shows a fault can be made again from its name, its seconds and its seed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

from tests.sounds import music, write

RATE_HZ = 16_000
DAY_S = 86_400.0
_OPUS_RATE_HZ = 48_000
_U32, _U64 = (1 << 32) - 1, (1 << 64) - 1
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_NINES = "9" * 320
DURATION_TAGS = (f"{_NINES}:00:00.0", f"00:00:{_NINES}", "-1:00:00", "nan", "inf", "00:00:0.0.0", "99999:99:99.9", "")
"""Values of a `DURATION` tag that no player writes."""


@dataclass(frozen=True, slots=True)
class Lie:
    """A kind of file whose header can be made to tell any length.

    Attributes
    ----------
    suffix : str
        What the file is called.
    tell : callable
        Takes the bytes of a true file and the length to tell, in seconds at `RATE_HZ`; gives the bytes of the liar.
    """

    suffix: str
    tell: Callable[[bytes, float], bytes]


def make_liar(folder: Path, kind: str, *, holds_s: float, tells_s: float, seed: int = 7) -> Path:
    """Write a file of a kind in `LIES` that holds some seconds of music and tells another length."""
    lie = LIES[kind]
    path = folder / f"{kind}-holds-{holds_s:g}-tells-{tells_s:g}{lie.suffix}"
    true = write_true(path, music(holds_s, rate_hz=RATE_HZ, channels=1, seed=seed))
    path.write_bytes(lie.tell(true.read_bytes(), tells_s))
    return path


def liars(folder: Path, seed: int, *, holds_s: float = 4.0) -> Iterator[Path]:
    """Write one file of every kind, each with a length that is drawn: none, tiny, near, years, beyond all numbers."""
    rng = np.random.default_rng(seed)
    for kind in LIES:
        drawn = (0.0, 10 ** rng.uniform(-3, 0), holds_s * rng.uniform(0.3, 3), 10 ** rng.uniform(3, 7), 1e15)
        yield make_liar(folder, kind, holds_s=holds_s, tells_s=float(rng.choice(drawn)), seed=seed)


def write_true(path: Path, samples: np.ndarray) -> Path:
    """Write samples (n, 1) at `RATE_HZ` in the format of the name: what `tests.sounds` knows, and a few more."""
    for ending, (container, subtype) in _BY_LIBSNDFILE.items():
        if path.name.endswith(ending):
            soundfile.write(path, samples, RATE_HZ, format=container, subtype=subtype)
            return path
    return write(path, samples, RATE_HZ)


_BY_LIBSNDFILE = {
    ".gsm.w64": ("W64", "GSM610"),
    ".adpcm.w64": ("W64", "IMA_ADPCM"),
    ".gsm.wav": ("WAV", "GSM610"),
    ".adpcm.wav": ("WAV", "MS_ADPCM"),
    ".gsm.aiff": ("AIFF", "GSM610"),
    ".g721.au": ("AU", "G721_32"),
    ".alac.caf": ("CAF", "ALAC_16"),
    ".w64": ("W64", "PCM_16"),
    ".rf64": ("RF64", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
}


def write_long_silence(path: Path, duration_s: float) -> Path:
    """Write hours of silence quickly: one encoded packet, again and again, in the container of the name."""
    container, codec, layout, rate_hz = {
        ".mp3": ("mp3", "libmp3lame", "s16p", RATE_HZ),
        ".mka": ("matroska", "aac", "fltp", RATE_HZ),
        ".ogg": ("ogg", "flac", "s16", RATE_HZ),
        ".opus": ("ogg", "libopus", "s16", _OPUS_RATE_HZ),
        ".aac": ("adts", "aac", "fltp", RATE_HZ),
    }[path.suffix]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout="mono", format=layout)
        stream.bit_rate = 16_000
        stream.open()
        step = stream.frame_size or 4096

        silence = np.zeros((1, step), np.float32 if layout == "fltp" else np.int16)
        packets: list[bytes] = []
        for number in range(10):
            frame = av.AudioFrame.from_ndarray(silence, format=layout, layout="mono")
            frame.sample_rate, frame.pts = rate_hz, number * step
            packets += map(bytes, stream.encode(frame))

        for number in range(round(duration_s * rate_hz / step)):
            packet = av.Packet(packets[min(number, len(packets) - 1)])
            packet.stream, packet.time_base = stream, Fraction(1, rate_hz)
            packet.pts = packet.dts = number * step
            packet.duration = step
            output.mux(packet)
    return path


def tag_duration(path: Path, text: str, seed: int = 7) -> Path:
    """Write a Matroska file of 4 s whose `DURATION` tag says something."""
    samples = np.round(music(4.0, rate_hz=RATE_HZ, channels=1, seed=seed) * 32767).astype(np.int16)
    with av.open(str(path), "w", format="matroska", options={"live": "1"}) as output:
        stream = output.add_stream("flac", rate=RATE_HZ, layout="mono", format="s16")
        stream.metadata["DURATIOM"] = text  # the muxer would put a true one in the place of ours
        stream.open()
        for start in range(0, len(samples), 4096):
            frame = av.AudioFrame.from_ndarray(samples[start : start + 4096].T.copy(), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"DURATIOM", b"DURATION"))
    return path


def _frames(tells_s: float, most: int) -> int:
    """Frames at `RATE_HZ`, as many as the field holds."""
    return min(most, round(tells_s * RATE_HZ))


def _put(data: bytes, at: int, number: bytes) -> bytes:
    """Replace bytes in place."""
    return data[:at] + number + data[at + len(number) :]


def _wav(data: bytes, tells_s: float) -> bytes:
    at = data.index(b"data") + 4
    data = _put(data, at, struct.pack("<I", _frames(tells_s * 2, _U32)))
    if b"fact" in data:
        data = _put(data, data.index(b"fact") + 8, struct.pack("<I", _frames(tells_s, _U32)))
    return data


def _w64(data: bytes, tells_s: float) -> bytes:
    at = data.index(_W64_DATA) + 16
    size = struct.pack("<q", 24 + min(1 << 62, round(tells_s * RATE_HZ * 2)))
    data = _put(data, at, size)
    if tells_s < 0:
        return data
    data = _put(data, 16, size)  # the file's own size as well
    if b"fact" in data:
        data = _put(data, data.index(b"fact") + 24, struct.pack("<q", _frames(tells_s, 1 << 62)))
    return data


def _rf64(data: bytes, tells_s: float) -> bytes:
    at = data.index(b"ds64") + 8
    n_bytes = _frames(tells_s * 2, 1 << 62)
    return _put(data, at, struct.pack("<QQQ", n_bytes + 36, n_bytes, n_bytes // 2))


def _caf(data: bytes, tells_s: float) -> bytes:
    data = _put(data, data.index(b"data") + 4, struct.pack(">q", 4 + _frames(tells_s * 2, 1 << 62)))
    if b"pakt" in data:  # number of packets, valid frames
        at = data.index(b"pakt") + 12
        data = _put(data, at, struct.pack(">qq", _frames(tells_s, 1 << 62) // 4096, _frames(tells_s, 1 << 62)))
    return data


def _aiff(data: bytes, tells_s: float) -> bytes:
    data = _put(data, data.index(b"COMM") + 10, struct.pack(">I", _frames(tells_s, _U32)))
    return _put(data, data.index(b"SSND") + 4, struct.pack(">I", 8 + _frames(tells_s * 2, _U32 - 8)))


def _au(data: bytes, tells_s: float) -> bytes:
    return _put(data, 8, struct.pack(">I", _frames(tells_s * 2, _U32)))


def _flac(data: bytes, tells_s: float) -> bytes:
    kept = data[21] & 0xF0  # the high bits of the byte belong to the sample size
    total = _frames(tells_s, (1 << 36) - 1)
    return _put(data, 21, bytes([kept | total >> 32]) + struct.pack(">I", total & _U32))


def _xing(data: bytes, tells_s: float) -> bytes:
    at = max(data.find(b"Xing"), data.find(b"Info"))
    return _put(data, at + 8, struct.pack(">I", min(_U32, round(tells_s * RATE_HZ / 576))))


def _ogg_at(rate_hz: int) -> Callable[[bytes, float], bytes]:
    def tell(data: bytes, tells_s: float) -> bytes:
        at = data.rindex(b"OggS")
        page = bytearray(data[at:])
        page[6:14] = struct.pack("<Q", min(1 << 62, round(tells_s * rate_hz)))
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _ogg_crc(bytes(page)))
        return data[:at] + bytes(page)

    return tell


def _ogg_crc(page: bytes) -> int:
    """Checksum of an Ogg page (polynomial 0x04c11db7)."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & _U32
    return crc


def _mp4_boxes(*names: bytes) -> Callable[[bytes, float], bytes]:
    """Change the durations in some boxes of an MP4: mvhd, tkhd, mdhd, elst count time, stts counts samples."""

    def tell(data: bytes, tells_s: float) -> bytes:
        # Where the duration stands behind a box's name (version 0), and by which clock.
        movie_hz = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
        track_hz = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
        places = {b"mvhd": (20, movie_hz), b"tkhd": (24, movie_hz), b"mdhd": (20, track_hz), b"elst": (12, movie_hz)}
        for name in names:
            if name == b"stts":
                at = data.index(b"stts") + 8
                n_samples = struct.unpack_from(">I", data, at + 4)[0]
                delta = min((1 << 31) - 1, round(tells_s * track_hz / max(1, n_samples)))
                data = _put(data, at + 8, struct.pack(">I", delta))
            elif name in data:
                offset, clock_hz = places[name]
                data = _put(data, data.index(name) + offset, struct.pack(">I", min(_U32, round(tells_s * clock_hz))))
        return data

    return tell


def _matroska(data: bytes, tells_s: float) -> bytes:
    """Change the segment's duration (a float in ms) and the track's tag."""
    at = data.index(b"\x44\x89\x88")
    data = _put(data, at + 3, struct.pack(">d", tells_s * 1000))
    tag = data.find(b"DURATION")
    if tag >= 0:
        clock = f"{int(tells_s // 3600):02d}:{int(tells_s // 60 % 60):02d}:{tells_s % 60:012.9f}"[:18].encode()
        start = data.find(b"00:", tag)
        data = _put(data, start, clock[-18:])
    return data


def _wavpack(data: bytes, tells_s: float) -> bytes:
    return _put(data, 12, struct.pack("<I", _frames(tells_s, _U32 - 1)))


LIES = {
    "wav": Lie(".wav", _wav),
    "wav-gsm": Lie(".gsm.wav", _wav),
    "wav-adpcm": Lie(".adpcm.wav", _wav),
    "w64": Lie(".w64", _w64),
    "w64-gsm": Lie(".gsm.w64", _w64),
    "w64-adpcm": Lie(".adpcm.w64", _w64),
    "rf64": Lie(".rf64", _rf64),
    "caf": Lie(".caf", _caf),
    "caf-alac": Lie(".alac.caf", _caf),
    "aiff": Lie(".aiff", _aiff),
    "aiff-gsm": Lie(".gsm.aiff", _aiff),
    "au": Lie(".au", _au),
    "au-g721": Lie(".g721.au", _au),
    "flac": Lie(".flac", _flac),
    "mp3-xing": Lie(".mp3", _xing),
    "ogg-vorbis": Lie(".ogg", _ogg_at(RATE_HZ)),
    "ogg-opus": Lie(".opus", _ogg_at(_OPUS_RATE_HZ)),
    "mp4-times": Lie(".m4a", _mp4_boxes(b"mvhd", b"tkhd", b"mdhd", b"elst")),
    "mp4-samples": Lie(".m4a", _mp4_boxes(b"mvhd", b"tkhd", b"mdhd", b"stts")),
    "matroska": Lie(".mkv", _matroska),
    "wavpack": Lie(".wv", _wavpack),
}
"""Kinds of files that can be made to lie, by name."""
