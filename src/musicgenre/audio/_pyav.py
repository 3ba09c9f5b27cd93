"""Decoding with PyAV (FFmpeg's libraries): AAC, ALAC, Opus, Vorbis, WMA, WavPack, the sound of video files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from musicgenre.audio._formats import mp3_header
from musicgenre.audio._input import Input
from musicgenre.audio._readers import DecodeFailure, NoSoundError
from musicgenre.audio.sound import AudioInfo, Float32

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

# Only containers of sound and video: no playlists, which would make libav open other files or the network.
_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,webm,mov,mp3,mp4,m4a,mpc,mpc8,mpeg,"
    "mpegts,ogg,oma,rm,tak,tta,w64,wav,wsd,wv,xwma"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
# Containers that promise no length of their own: libav guesses from the bit rate.
_GUESSED_LENGTH = frozenset({"aac", "ac3", "eac3", "dts", "amr", "mpegts", "mpeg", "mp3"})
# Where a jump is known to be exact: (container, codec); "*" is any codec. Elsewhere we decode our way there.
_EXACT_JUMPS = frozenset(
    {
        *(("mov", codec) for codec in ("aac", "alac", "mp3", "opus", "flac", "ac3")),
        *(("matroska", codec) for codec in ("aac", "opus", "flac", "mp3", "ac3")),
        *(("ogg", codec) for codec in ("opus", "vorbis")),
        ("wv", "wavpack"),
        ("aac", "aac"),
    }
)
# How long a codec needs after a jump until it is exact again; Opus predicts from frame to frame and forgets slowly.
_PREROLL_S = {"opus": 1.5}
_PREROLL_DEFAULT_S = 0.3
_SKIP_AHEAD_S = 1.0
_OPUS_RATE_HZ = 48_000
_OPUS_PRESKIP = slice(10, 12)
# A stream with more damaged packets than this is given up: it is not worth the wait.
_MAX_DAMAGED = 1000
_NOTHING: NDArray[np.generic] = np.zeros((0, 1), dtype=np.float32)
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


class PyavReader:
    """A :class:`~musicgenre.audio._decoder.Reader` on FFmpeg's libraries."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self.notes: list[str] = []
        self._damaged = 0
        self._open()
        codec = self._stream.codec_context
        container = self._container.format.name.split(",")[0]
        self._kind = (container, "mp3" if codec.name == "mp3float" else codec.name)
        self._jumps = self._kind in _EXACT_JUMPS
        duration_s = self._duration_s()
        self._fill(1)  # the first frame tells the rate and channels for sure (HE-AAC's header may tell half)
        _, channels, rate = self._layout or ("", self._stream.codec_context.channels, self._stream.rate or 0)
        if not rate or not channels:
            self.close()
            raise DecodeFailure("no sample rate or channels")
        self._rate = rate
        self._preroll = round(_PREROLL_S.get(self._kind[1], _PREROLL_DEFAULT_S) * rate)
        shown = "mp4" if container == "mov" else container
        self.info = AudioInfo(source.name, shown, self._kind[1], rate, channels, duration_s)
        self.declared_frames = None if duration_s is None else round(duration_s * rate)

    def _open(self) -> None:
        import av

        av.logging.set_level(None)
        self._error = av.error.FFmpegError
        target: Any = self._source.stream
        if self._source.stream is not None:
            self._source.stream.seek(0)
        else:  # "file:" keeps names such as "http:x" from being taken for addresses
            target = f"file:{Path(self._source.path or '').absolute()}"
        try:
            self._container: InputContainer = av.open(
                target, "r", container_options=dict(_OPTIONS), metadata_errors="replace"
            )
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise DecodeFailure(str(error)) from error
        if not self._container.streams.audio:
            self._container.close()
            raise NoSoundError("no sound in it")
        self._stream: AudioStream = self._container.streams.audio[0]
        if self._stream.codec_context is None:  # a codec that libav does not know
            self._container.close()
            raise DecodeFailure("unknown codec")
        self._frames = self._decode()
        self._pending: list[NDArray[np.generic]] = []
        self._n_pending = 0
        self.position = 0  # of the first pending frame
        self._layout: tuple[str, int, int] | None = None
        self._origin: Fraction | None = None
        self._first_size = 0
        self._grid = 0

    def _duration_s(self) -> float | None:
        """Length in seconds by the container, without padding where that is known."""
        stream, container = self._stream, self._container
        if self._kind[0] in _GUESSED_LENGTH - {"mp3"} or (self._kind[0] == "mp3" and mp3_header(self._source) is None):
            return self._counted_duration_s()
        tagged = _clock(stream.metadata.get("DURATION") or stream.metadata.get("DURATION-eng") or "")
        if stream.duration and stream.time_base:
            length_s = float(stream.duration * stream.time_base)
        elif tagged is not None:
            length_s = tagged
        elif container.duration:
            length_s = container.duration / 1e6
        else:
            return None
        extradata = stream.codec_context.extradata or b""
        if self._kind[1] == "opus" and self._kind[0] in {"ogg", "matroska"} and extradata[:8] == b"OpusHead":
            length_s -= int.from_bytes(extradata[_OPUS_PRESKIP], "little") / _OPUS_RATE_HZ
        return max(length_s, 0.0)

    def _counted_duration_s(self) -> float | None:
        """Length by counting packets, undecoded; leaves the container at its start."""
        ticks = 0
        try:
            for packet in self._container.demux(self._stream):
                ticks += packet.duration or 0
        except self._error:
            self.notes.append("damaged near the end")
        length_s = float(ticks * (self._stream.time_base or 0))
        self._container.close()
        self._open()
        return length_s or None

    def seek(self, frame: int) -> None:
        """Go to a frame by the container's index where that is exact, else by decoding up to it."""
        ahead = frame - self.position
        if self._jumps and (ahead < 0 or ahead > self._preroll + _SKIP_AHEAD_S * self._rate):
            self._jump(frame)
        if frame < self.position:
            self._reopen()
        while self.position < frame:
            if not len(self._take(min(frame - self.position, 1 << 16))):
                break

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _jump(self, frame: int) -> None:
        """Land some way before a frame and find out where; give jumping up when that fails."""
        target = frame - self._preroll
        if self._origin is None:
            self._fill(1)
        if target <= 0 or self._origin is None or self._stream.time_base is None:
            return
        self._fill(self._first_size + 1)  # two frames show the grid of a codec with constant frames
        seconds = Fraction(target, self._rate) + self._origin
        try:
            self._container.seek(int(seconds / self._stream.time_base), stream=self._stream, backward=True)
        except self._error:
            self._distrust()
            return
        self._frames = self._decode()
        frame_after = next(self._frames, None)
        landed = self._place(frame_after) if frame_after is not None else None
        if frame_after is None or landed is None or landed > target + self._preroll // 2:
            self._distrust()
            return
        self._pending, self._n_pending = [], 0
        self.position = landed
        self._keep(frame_after)

    def _distrust(self) -> None:
        self._jumps = False
        self._reopen()

    def _place(self, frame: AudioFrame) -> int | None:
        """Frame number of what was decoded first after a jump; None where its time stamp does not tell."""
        if frame.pts is None or frame.time_base is None or self._origin is None:
            return None
        raw = (frame.pts * frame.time_base - self._origin) * self._rate
        if frame.time_base * self._rate <= 1:
            return round(raw)
        if not self._grid or self._kind[1] == "vorbis":
            return None
        # The container rounds its times (Matroska: to 1 ms), but the codec's frames all have the same length.
        placed = self._first_size + self._grid * round((raw - self._first_size) / self._grid)
        return placed if abs(placed - raw) <= frame.time_base * self._rate * 2 else None

    def read(self, n_frames: int) -> Float32:
        """Give the next frames, shape (n, channels)."""
        return _as_float(self._take(n_frames))

    def _take(self, n_frames: int) -> NDArray[np.generic]:
        self._fill(n_frames)
        n = min(n_frames, self._n_pending)
        joined = np.concatenate(self._pending) if len(self._pending) > 1 else (self._pending or [_NOTHING])[0]
        self._pending = [joined[n:]] if n < len(joined) else []
        self._n_pending -= n
        self.position += n
        return joined[:n]

    def _fill(self, n_frames: int) -> None:
        while self._n_pending < n_frames:
            frame = next(self._frames, None)
            if frame is None or not self._keep(frame):
                break

    def _keep(self, frame: AudioFrame) -> bool:
        """Append one decoded frame; False when the stream turns into another one."""
        channels = frame.layout.nb_channels
        layout = (frame.format.name, channels, frame.sample_rate)
        if self._layout is None:
            self._layout = layout
            self._first_size = frame.samples
            if frame.pts is not None and frame.time_base is not None:
                self._origin = frame.pts * frame.time_base
        elif layout != self._layout:
            self.notes.append(
                f"changes to {channels} channels at {frame.sample_rate} Hz on the way: heard only up to there"
            )
            self._frames = iter(())
            return False
        elif not self._grid:
            self._grid = frame.samples
        rows = frame.to_ndarray()
        self._pending.append(rows.T if frame.format.is_planar else rows.reshape(-1, channels))
        self._n_pending += frame.samples
        return True

    def _decode(self) -> Iterator[AudioFrame]:
        """Decode on from here, over damaged packets."""
        packets = self._container.demux(self._stream)
        while self._damaged <= _MAX_DAMAGED:
            try:
                packet = next(packets, None)  # after an error of its own, demux has nothing more
                if packet is None:
                    return
                yield from packet.decode()
            except self._error:
                self._damaged += 1

    def close(self) -> None:
        """Close libav's handles."""
        if self._damaged:
            self.notes.append(f"damaged: {self._damaged} packet{'s' * (self._damaged > 1)} left out")
        self._container.close()


def _as_float(block: NDArray[np.generic]) -> Float32:
    """Scale what the decoder gave to float32 with full scale 1."""
    if block.dtype.kind == "f":
        return block.astype(np.float32, copy=False)
    bits = 8 * block.dtype.itemsize
    scaled: NDArray[np.floating] = block.astype(np.float32 if bits <= 16 else np.float64)
    if block.dtype.kind == "u":
        scaled -= 2.0 ** (bits - 1)
    scaled /= 2.0 ** (bits - 1)
    return scaled.astype(np.float32, copy=False)


def _clock(text: str) -> float | None:
    """Seconds of a time such as 00:04:00.023."""
    found = _CLOCK.match(text)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None
