"""Make small sound files in every format that the tests need; nothing is read from elsewhere."""

from __future__ import annotations

import functools
from pathlib import Path

import av
import numpy as np
import soundfile

# suffix -> (libsndfile container, its sample layout)
_SOUNDFILE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".aiff": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
}
# suffix -> (container, codec, sample layout of the codec) for PyAV
_PYAV_FORMATS = {
    ".mp3": ("mp3", "libmp3lame", "s16p"),
    ".opus": ("ogg", "libopus", "s16"),
    ".m4a": ("ipod", "aac", "fltp"),
    ".alac.m4a": ("ipod", "alac", "s16p"),
    ".aac": ("adts", "aac", "fltp"),
    ".wma": ("asf", "wmav2", "fltp"),
    ".wv": ("wv", "wavpack", "s16p"),
    ".mp4": ("mp4", "aac", "fltp"),
    ".mkv": ("matroska", "aac", "fltp"),
    ".webm": ("webm", "libopus", "s16"),
    ".vorbis.webm": ("webm", "vorbis", "fltp"),
}
# What makes encoders quick (Vorbis: what lets it work at all); how well it sounds is no matter here.
_QUICK = {
    "libmp3lame": {"compression_level": "9"},
    "libopus": {"compression_level": "0"},
    "aac": {"aac_coder": "fast"},
    "vorbis": {"strict": "experimental"},
}
_BLOCK = 1 << 16
_KEPT_S = 10.0  # sounds up to this length are made once
FORMATS = (*_SOUNDFILE_FORMATS, *_PYAV_FORMATS)
LOSSLESS = (".wav", ".flac", ".aiff", ".au", ".alac.m4a", ".wv")


def music(duration_s: float, rate_hz: int = 44100, channels: int = 2, seed: int = 7) -> np.ndarray:
    """Return tones, a sweep and soft noise: float32 (n, channels), peak near 0.5, different everywhere."""
    if duration_s > _KEPT_S:
        return _music.__wrapped__(duration_s, rate_hz, channels, seed)
    return _music(duration_s, rate_hz, channels, seed).copy()


@functools.lru_cache(maxsize=32)
def _music(duration_s: float, rate_hz: int, channels: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    top_hz = min(3000.0, rate_hz / 5)
    sweep = np.sin(2 * np.pi * (top_hz / 20 * time_s + top_hz / 20 * np.sin(0.7 * time_s)))
    beat = np.sin(2 * np.pi * (top_hz / 10) * time_s) * (np.sin(2 * np.pi * 1.3 * time_s + 0.3) > 0)
    rows = [
        0.2 * sweep + 0.15 * beat + 0.02 * rng.standard_normal(len(time_s)) + 0.1 * np.sin((50 + 7 * k) * time_s)
        for k in range(channels)
    ]
    return np.stack(rows, axis=1).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate_hz: int = 44100, options: dict[str, str] | None = None) -> Path:
    """Write ``samples`` (n, channels) in the format that the file's name asks for; ``options`` are the codec's."""
    key = next(key for key in sorted(FORMATS, key=len, reverse=True) if path.name.endswith(key))
    if key in _SOUNDFILE_FORMATS:
        container, subtype = _SOUNDFILE_FORMATS[key]
        with soundfile.SoundFile(
            path, "w", samplerate=rate_hz, channels=samples.shape[1], format=container, subtype=subtype
        ) as output:
            for start in range(0, len(samples), _BLOCK):  # libsndfile's Vorbis writer overflows its stack otherwise
                output.write(samples[start : start + _BLOCK])
    else:
        write_as(path, samples, rate_hz, _PYAV_FORMATS[key], options)
    return path


def write_as(
    path: Path,
    samples: np.ndarray,
    rate_hz: int,
    kind: tuple[str, str, str],
    options: dict[str, str] | None = None,
) -> Path:
    """Write ``samples`` (n, channels) as (container, codec, sample layout), whatever the file's name is."""
    container, codec, layout = kind
    channels = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=channels, format=layout)
        stream.codec_context.options = _QUICK.get(codec, {}) | (options or {})
        stream.bit_rate = 128_000
        stream.open()
        step = stream.frame_size or 4096
        for start in range(0, len(samples), step):
            frame = _frame(samples[start : start + step], layout, channels)
            frame.sample_rate = rate_hz
            frame.pts = start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def _frame(piece: np.ndarray, layout: str, channels: str) -> av.AudioFrame:
    if layout.startswith("s16"):
        piece = np.round(piece * 32767).astype(np.int16)
    rows = piece.T if layout.endswith("p") else piece.reshape(1, -1)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(rows), format=layout, layout=channels)


def rate_of(name: str) -> int:
    """Return the sample rate that the tests write a format with (Opus knows 48 kHz only)."""
    return 48000 if name.endswith((".opus", ".webm")) and "vorbis" not in name else 44100


def write_silent_video(path: Path) -> Path:
    """Write an MP4 file with a few grey pictures and no sound track."""
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * number, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
