"""Decoding with PyAV (FFmpeg's libraries): AAC, ALAC, Opus, Vorbis, WMA, WavPack, the sound of video files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from musicgenre import _debug
from musicgenre._text import how_many
from musicgenre.audio._formats import (
    holds_coded_sound,
    matroska_is_one,
    matroska_tells_length,
    musepack_stream,
    ogg_chains,
    wavpack_is_one,
)
from musicgenre.audio._input import Input
from musicgenre.audio._readers import DecodeFailure, NoSoundError
from musicgenre.audio.sound import AudioInfo, Float32
from musicgenre.errors import AudioError

if TYPE_CHECKING:
    from av import AudioFrame, AudioResampler, AudioStream
    from av.container import InputContainer

# Only containers of sound and video: no playlists, which would make libav open other files or the network.
_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,webm,mov,mp3,mp4,m4a,mpc,mpc8,mpeg,"
    "mpegts,ogg,oma,rm,shn,tak,tta,w64,wav,wsd,wv,xwma"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
# Containers that promise no length of their own (libav guesses from the bit rate), or one that is off by some blocks.
_GUESSED_LENGTH = frozenset({"aac", "ac3", "eac3", "dts", "amr", "avi", "mpegts", "mpeg", "mp3"})
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
# Planes that a frame of PyAV holds; samples that it gives as arrays.
_MOST_PLANES = 8
_PLAIN_FORMATS = frozenset(f"{name}{planes}" for name in ("u8", "s16", "s32", "flt", "dbl") for planes in ("", "p"))
# Channels in an order of their own break PyAV's memory as soon as a frame is decoded: such are these.
_UNSAFE_CHANNELS = 7
_UNSAFE_CONTAINERS = frozenset({"mov", "caf"})
_CLOCK = re.compile(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d{1,9})?)")
# Containers whose times leap where a part was damaged and left out, and by how much they do at least.
_TELL_GAPS = frozenset({"ogg", "flac"})
_GAP_S = 0.02
# A packet that lasts longer has its length from a time that is wrong.
_LONGEST_PACKET_S = 60
# Packets this much behind the end that a container tells show that it tells wrong; so many are looked at.
_UNTOLD_S = 1.0
_LOOKED_AT = 1000


class FrameQueue:
    """Decoded frames as float32 of one rate and one number of channels, whatever comes on the way.

    Parameters
    ----------
    rate_hz, channels : int, optional
        What comes out; by default what the first frame has.
    """

    def __init__(self, rate_hz: int = 0, channels: int = 0) -> None:
        self.rate_hz = rate_hz
        self.channels = channels
        self.n_frames = 0
        self._blocks: list[Float32] = []
        self._resampler: AudioResampler | None = None
        self._resampled_kind: tuple[str, int, int] | None = None

    def add(self, frame: AudioFrame) -> None:
        """Append a frame."""
        n_channels = frame.layout.nb_channels
        if not self.rate_hz:
            self.rate_hz, self.channels = frame.sample_rate, n_channels

        # PyAV counts planes past its array where there are eight and more, which no process survives; and it knows no
        # 64-bit integers. FFmpeg's resampler packs the first and turns the second into floats.
        is_unsafe = frame.format.is_planar and n_channels >= _MOST_PLANES
        if is_unsafe or frame.sample_rate != self.rate_hz or frame.format.name not in _PLAIN_FORMATS:
            for packed in self._packed(frame):
                self.add_block(_as_float(packed.to_ndarray().reshape(-1, n_channels)))
            return
        rows = frame.to_ndarray()
        self.add_block(_as_float(rows.T if frame.format.is_planar else rows.reshape(-1, n_channels)))

    def _packed(self, frame: AudioFrame) -> list[AudioFrame]:
        """Turn a frame into packed floats at our rate."""
        from av import AudioResampler

        kind = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
        if kind != self._resampled_kind or self._resampler is None:
            self._resampler = AudioResampler(format="flt", layout=frame.layout, rate=self.rate_hz)
            self._resampled_kind = kind
        frame.pts = None  # times of a damaged file may run backwards, which the resampler refuses
        return self._resampler.resample(frame)

    def add_block(self, block: Float32) -> None:
        """Append samples (n, channels); another number of channels is mixed to one first, which keeps the mean."""
        if block.shape[1] != self.channels:
            mean = block.mean(axis=1, keepdims=True, dtype=np.float32)
            block = np.repeat(mean, self.channels, axis=1)
        self._blocks.append(block)
        self.n_frames += len(block)

    def take(self, n_frames: int) -> Float32:
        """Take the first frames out: (n, channels), fewer where there are not so many."""
        n = min(n_frames, self.n_frames)
        if not n:
            return np.zeros((0, max(1, self.channels)), dtype=np.float32)
        joined = self._blocks[0] if len(self._blocks) == 1 else np.concatenate(self._blocks)
        self._blocks = [joined[n:]] if n < len(joined) else []
        self.n_frames -= n
        return joined[:n]

    def clear(self) -> None:
        """Throw away what is in it."""
        self._blocks, self.n_frames = [], 0


class PyavReader:
    """A `Reader` on FFmpeg's libraries."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self._view: BinaryIO | None = None
        self._rate = 0
        self._queue = FrameQueue()
        self.notes: list[str] = []
        self.declared_frames: int | None = None
        self._damaged, self._damaged_from_s = 0, inf
        self._open()
        codec = self._stream.codec_context
        container = self._container.format.name.split(",")[0]
        self._kind = (container, "mp3" if codec.name == "mp3float" else codec.name)
        if container in _UNSAFE_CONTAINERS and codec.name.startswith("pcm") and codec.channels >= _UNSAFE_CHANNELS:
            self.close()
            raise AudioError(
                f"{source.name} holds {codec.channels} channels of plain samples in {container.upper()}",
                valid="Up to 6 channels in this kind of file",
                next_step="Save it as WAV or FLAC, which may have any number",
            )
        if codec.name.startswith("pcm") and holds_coded_sound(source):
            self.close()
            raise AudioError(
                f"{source.name} holds DTS or AC-3 written as samples: heard as they are, they are noise",
                valid="Samples, or the stream in a file of its own (.dts, .ac3)",
                next_step="Decode it to WAV or FLAC first",
            )

        self._chains_s = ogg_chains(source) if container == "ogg" else 0.0
        self._jumps = self._kind in _EXACT_JUMPS and self._chains_s == 0
        told_s, duration_s = self._lengths_s()
        self._fill(1)  # the first frame tells the rate and channels for sure (HE-AAC's header may tell half)
        rate = self._queue.rate_hz or self._stream.rate or 0
        channels = self._queue.channels or self._stream.codec_context.channels
        if not rate or not channels:
            self.close()
            raise DecodeFailure("no sample rate or channels")

        self._rate = rate
        self._preroll = round(_PREROLL_S.get(self._kind[1], _PREROLL_DEFAULT_S) * rate)
        shown = "mp4" if container == "mov" else container
        self.info = AudioInfo(source.name, shown, self._kind[1], rate, channels, duration_s)
        self.declared_frames = None if told_s is None else round(told_s * rate)

    def _open(self) -> None:
        import av

        set_log()
        self._error = av.error.FFmpegError
        target: Any
        if self._source.start or self._source.stream is not None:
            target = self._view = self._source.view()
        else:  # "file:" keeps names such as "http:x" from being taken for addresses
            target = f"file:{Path(self._source.path or '').absolute()}"
        self._container: InputContainer = av.open(
            target, "r", container_options=dict(_OPTIONS), metadata_errors="replace"
        )
        if not self._container.streams.audio:
            self._close()
            raise NoSoundError("no sound in it")
        self._stream: AudioStream = self._container.streams.audio[0]
        self._tick_s = float(self._stream.time_base or 0)
        if self._stream.codec_context is None:  # a codec that libav does not know
            self._close()
            raise DecodeFailure("unknown codec")
        self._frames = self._decode()
        self._queue = FrameQueue(self._rate, self.info.channels if self._rate else 0)
        self.position = 0  # of the first frame in the queue
        self._is_first = True
        self._origin: Fraction | None = None
        self._first_size = 0
        self._grid = 0
        self._expected_s: float | None = None  # time of the next frame, where none is missing

    def _lengths_s(self) -> tuple[float | None, float | None]:
        """Length in seconds that the file promises, and that it has as far as is known without decoding."""
        told_s = self._told_s()
        container = self._kind[0]
        if container == "mpc8" and (musepack := musepack_stream(self._source)) and self._stream.rate:
            if musepack.n_behind:
                self.notes.append(f"another file is joined behind it: {musepack.n_behind} bytes were left unheard")
            length_s = musepack.n_samples / self._stream.rate
            return length_s, length_s
        if self._chains_s:
            return self._chains_s, self._chains_s
        goes_on = container == "matroska" and told_s is not None and self._goes_on_behind(told_s)
        is_true = container == "mov" or (container == "ogg" and self._chains_s is not None)
        is_true |= container == "matroska" and matroska_is_one(self._source) and not goes_on
        is_true |= container == "wv" and wavpack_is_one(self._source)
        if told_s is not None and is_true:
            return told_s, told_s

        counted_s = self._counted_s()
        if counted_s is None:  # what was refuted is no length
            return told_s, None if container in ("ogg", "matroska", "flac") else told_s
        is_guess = container in _GUESSED_LENGTH or (
            container == "matroska" and not matroska_tells_length(self._source)
        )
        if told_s is None or is_guess or counted_s > told_s:
            told_s = counted_s
        return told_s, counted_s

    def _goes_on_behind(self, told_s: float) -> bool:
        """Tell whether packets come behind the end that the container tells. Leaves the container at its start."""
        clock = self._stream.time_base or Fraction(1)
        start = self._stream.start_time or 0
        end = int((told_s + _UNTOLD_S) / clock) + start
        found = False
        try:
            self._container.seek(end, stream=self._stream, backward=True)
            for packet in islice(self._container.demux(self._stream), _LOOKED_AT):
                if packet.pts is not None and packet.pts > end:
                    found = True
                    break
        except (self._error, OverflowError):  # nothing is there to go to
            pass
        self._reopen()
        return found

    def _told_s(self) -> float | None:
        """Length in seconds by the container, without padding where that is known."""
        stream, container = self._stream, self._container
        tagged = _clock(stream.metadata.get("DURATION") or stream.metadata.get("DURATION-eng") or "")
        length_s = 0.0
        if stream.duration and stream.time_base:
            length_s = float(stream.duration * stream.time_base)
        elif tagged:
            length_s = tagged
        elif container.duration:
            length_s = container.duration / 1e6
        extradata = stream.codec_context.extradata or b""
        if self._kind[1] == "opus" and self._kind[0] in {"ogg", "matroska"} and extradata[:8] == b"OpusHead":
            length_s -= int.from_bytes(extradata[_OPUS_PRESKIP], "little") / _OPUS_RATE_HZ
        return length_s if length_s > 0 else None

    def _counted_s(self) -> float | None:
        """Length by counting packets, undecoded; None where some tell none. Leaves the container at its start."""
        ticks, is_known = 0, True
        longest = _LONGEST_PACKET_S / (self._stream.time_base or 1)
        before: int | None = None
        told = 0  # by the packet before
        try:
            for packet in self._container.demux(self._stream):
                self._source.alive()
                # Lengths are rounded, so that many are off by much; from time to time they are not.
                if packet.pts is not None and before is not None and abs(packet.pts - before - told) == 1:
                    ticks += packet.pts - before - told
                before, told = packet.pts, packet.duration or 0
                ticks += told
                is_known &= 0 < told < longest or not packet.size
        except self._error:
            self.notes.append("damaged near the end")
        length_s = float(ticks * (self._stream.time_base or 0))
        self._reopen()
        return length_s if length_s > 0 and is_known else None

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
        self._close()
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
        self._queue.clear()
        self.position = landed
        self._expected_s = None
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
        return self._take(n_frames)

    def _take(self, n_frames: int) -> Float32:
        self._fill(n_frames)
        block = self._queue.take(n_frames)
        self.position += len(block)
        return block

    def _fill(self, n_frames: int) -> None:
        self._source.alive()
        while self._queue.n_frames < n_frames and (frame := next(self._frames, None)) is not None:
            self._keep(frame)

    def _keep(self, frame: AudioFrame) -> None:
        """Append one decoded frame; the first two tell where the stream begins and how long its frames are."""
        if self._is_first:
            self._is_first = False
            self._first_size = frame.samples
            if frame.pts is not None and frame.time_base is not None:
                self._origin = frame.pts * frame.time_base
        elif not self._grid:
            self._grid = frame.samples
        self._note_gap(frame)
        self._queue.add(frame)

    def _note_gap(self, frame: AudioFrame) -> None:
        """Say where time is missing in front of a frame: a damaged page of Ogg is left out without an error."""
        if self._kind[0] not in _TELL_GAPS or self._chains_s != 0 or frame.pts is None or not frame.sample_rate:
            return
        begin_s = frame.pts * self._tick_s
        if self._expected_s is not None and begin_s > self._expected_s + _GAP_S:
            self.notes.append(f"damaged after {self._heard_s():.1f} s")
            if self.declared_frames is not None:  # it is not the end that is missing
                self.declared_frames -= round((begin_s - self._expected_s) * frame.sample_rate)
        self._expected_s = begin_s + frame.samples / frame.sample_rate

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
                if self._lacks_sound():  # else it stumbled over what stands behind the sound, such as tags
                    self._damaged += 1
                    self._damaged_from_s = min(self._damaged_from_s, self._heard_s())

    def _lacks_sound(self) -> bool:
        """Tell whether less was decoded than the file promises, as far as that is known."""
        return self.declared_frames is None or self._heard_s() + _GAP_S < self.declared_frames / self._rate

    def _heard_s(self) -> float:
        """Time up to which all is decoded."""
        return (self.position + self._queue.n_frames) / (self._rate or self._queue.rate_hz or 1)

    def close(self) -> None:
        """Close libav's handles."""
        if self._damaged:
            after = f"damaged after {self._damaged_from_s:.1f} s"
            self.notes.append(f"{after}: {how_many(self._damaged, 'packet')} left out")
            self._damaged = 0
        self._close()

    def _close(self) -> None:
        self._container.close()
        if self._view is not None:
            self._view.close()
            self._view = None


def set_log() -> None:
    """Let FFmpeg say nothing, or all to the terminal where faults are looked for."""
    import av

    if _debug.is_wanted():
        av.logging.restore_default_callback()
    else:
        av.logging.set_level(None)


def _as_float(block: NDArray[Any]) -> Float32:
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
    """Seconds of a time such as 00:04:00.023; None where the text is none, or has more digits than any time."""
    found = _CLOCK.match(text)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None
