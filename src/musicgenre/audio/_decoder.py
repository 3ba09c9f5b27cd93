"""One open source: picks the decoder, changes it when it fails, gives mono samples at the source's own rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType

import numpy as np

from musicgenre.audio._convert import MAX_RATE_HZ, MIN_RATE_HZ, Resampler, Tally, plan
from musicgenre.audio._formats import is_coded_sound, known_kind, ogg_ends_early, starts_as_mpeg, suits_libsndfile
from musicgenre.audio._input import Input
from musicgenre.audio._joined import joined_bytes
from musicgenre.audio._readers import (
    DecodeFailure,
    EndedReader,
    NoSoundError,
    Reader,
    SoundfileReader,
    as_decode_failure,
)
from musicgenre.audio.sound import MAX_DURATION_S, AudioInfo, Float32, Source
from musicgenre.errors import AudioError

# A file that ends this much before its promise is called truncated; codec padding stays below.
_MISSING_S = 0.1
_LOW_RATE_HZ = 8_000
# One that goes on this much behind its promise has a header that is wrong; rounded times stay below.
_UNTOLD_S = 1.0
_DISGUISE_CHANNELS = 2
_INT16_SCALE = 32_768.0
# Frames of one read where damage is looked for.
_SMALL_STEP = 1024
# Bytes of float32 that one read may hold, all channels together.
_READ_BYTES = 1 << 20


class Decoder:
    """Decodes one source as mono float32 at its own rate; use it in a `with` block.

    Parameters
    ----------
    source : str, path-like or BinaryIO
        What to decode.
    alive : callable, optional
        Called again and again while it works, so that who waits in another process knows.
    max_duration_s : float
        Seconds that may be decoded.

    Raises
    ------
    AudioError
        When it cannot be opened, no decoder makes sense of it, or it is longer than it may be.
    """

    def __init__(
        self, source: Source, *, alive: Callable[[], None] | None = None, max_duration_s: float = MAX_DURATION_S
    ) -> None:
        self.source = source
        self.max_duration_s = max_duration_s
        self._input = Input(source)
        self._input.alive = alive or self._input.alive
        self._input.max_duration_s = max_duration_s
        self._notes: list[str] = []
        self._tally = Tally()
        self.is_closed = False
        self._ended = False
        self._is_first_block = True
        self._reader = self._choose()
        self.name = self._input.name
        self.info: AudioInfo = self._reader.info
        self._block = max(1 << 10, _READ_BYTES // (4 * self.info.channels))
        self._check_rate()
        self._check_told_length()
        self._n_joined = joined_bytes(self._input)
        if self._n_joined:
            self._notes.append(f"another file is joined behind it: {self._n_joined} bytes were left unheard")
        if ogg_ends_early(self._input):
            self._notes.append("truncated: the page that ends an Ogg stream is missing")

    def _choose(self) -> Reader:
        openers = [_pyav]
        if starts_as_mpeg(self._input.head):
            openers = [_mpeg, _pyav]
        elif suits_libsndfile(self._input):
            openers = [SoundfileReader, _pyav]

        problem = "is not audio that can be decoded"
        if kind := known_kind(self._input.head):
            problem = f"looks like {kind} but cannot be decoded: damaged or cut off"
        for opener in openers:
            try:
                with as_decode_failure():
                    return opener(self._input)
            except NoSoundError:
                problem = "has no sound in it, only pictures or text"
            except DecodeFailure:
                continue
        self._input.restore()
        raise AudioError(
            f"{self._input.name} {problem}",
            valid="WAV, FLAC, MP3, Ogg, Opus, AIFF, AU, M4A, WMA, WavPack, or a video with sound",
            next_step="Play it to see whether it is whole; an unfinished download or a locked (DRM) file fails too",
        )

    def _check_rate(self) -> None:
        rate = self.info.sample_rate_hz
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            self.close()
            raise AudioError(
                f"{self._input.name} has a sample rate of {rate} Hz",
                valid=f"Rates from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
                next_step="Its header is damaged or it is no music: save it again with its real rate",
            )
        if rate < _LOW_RATE_HZ:
            self._notes.append(f"sample rate of only {rate} Hz: little of the music is left in it")

    def _check_told_length(self) -> None:
        """Refuse what is too long; where a header alone says so, its length counts as not known."""
        told_s = self.info.duration_s
        if told_s is None or told_s <= self.max_duration_s:
            return

        found = False
        try:
            with as_decode_failure():
                self._reader.seek(int(self.max_duration_s * self.rate_hz))
                found = len(self._reader.read(1)) > 0
        except DecodeFailure:
            pass
        self._reader.close()
        if found:
            self.is_closed = True
            self._input.restore()
            self._input.check_duration(told_s, is_all=True)
        self._reader = self._choose()
        self.info = replace(self.info, duration_s=None)

    def pieces(self, rate_hz: int, spans: Sequence[tuple[int, int | None]]) -> list[Float32]:
        """Decode pieces, each (first sample, number of samples; None: to the end) at `rate_hz`; shape (n,) each."""
        pieces: list[Float32] = [np.zeros(0, dtype=np.float32) for _ in spans]
        for stretch in plan(spans, self.rate_hz, rate_hz):
            self.seek(stretch.first)
            waveform = np.concatenate(list(self.resampled(rate_hz, stretch.stop)))
            for member in stretch.members:
                start, length = spans[member]
                first = start - stretch.offset
                piece = waveform[first:] if length is None else waveform[first : first + length]
                # A copy, so that a short piece does not keep the whole stretch in memory.
                pieces[member] = piece if len(stretch.members) == 1 and first == 0 else piece.copy()
        return pieces

    def resampled(self, rate_hz: int, stop: int | None = None) -> Iterator[Float32]:
        """Decode from here to frame `stop` of the source, as blocks (n,) at `rate_hz`."""
        resampler = Resampler(self.rate_hz, rate_hz)
        while len(block := self.read(stop)):
            yield resampler.push(block)
        yield resampler.push(np.zeros(0, dtype=np.float32), last=True)

    def measure(self) -> tuple[float, tuple[str, ...]]:
        """Decode from here to the end and keep nothing: the true length in seconds, and what was odd on the way.

        How it sounds is left to those who hear it. The source is closed then.
        """
        n_frames = 0
        while len(block := self.read()):
            n_frames += len(block)
        self._tally = Tally()
        return n_frames / self.rate_hz, self.finish()

    @property
    def rate_hz(self) -> int:
        """The source's own sample rate."""
        return self.info.sample_rate_hz

    def seek(self, frame: int) -> None:
        """Go to a frame of the source; beyond its end nothing is left to read."""
        try:
            with as_decode_failure():
                self._reader.seek(frame)
        except DecodeFailure:
            self._change_reader(frame)

    def read(self, stop: int | None = None) -> Float32:
        """Give the next mono samples (n,), up to frame `stop`; none are left when n is 0."""
        wanted = self._block if stop is None else min(self._block, stop - self._reader.position)
        if wanted <= 0:
            return np.zeros(0, dtype=np.float32)

        self._input.alive()
        block = self._read_block(wanted)
        self._input.check_duration(self._reader.position / self.rate_hz - _MISSING_S)
        if not len(block):
            self._note_end()
        elif self._is_first_block:
            self._is_first_block = False
            self._check_disguise(block)
        return self._tally.take(block)

    def _read_block(self, n_frames: int) -> Float32:
        """Read from this reader, or where it fails from the other one, which may go on after damage."""
        try:
            with as_decode_failure():
                return self._reader.read(n_frames)
        except DecodeFailure:
            self._change_reader(self._reader.position)
        try:
            with as_decode_failure():
                return self._reader.read(n_frames)
        except DecodeFailure:  # both fail here: the rest is lost
            self._change_reader(self._reader.position)
            return self._reader.read(n_frames)

    def _check_disguise(self, block: Float32) -> None:
        """Refuse a DTS or AC-3 stream that was packed losslessly as if it were samples: it sounds like noise."""
        if self.info.codec != "pcm_16" or block.shape[1] != _DISGUISE_CHANNELS:
            return
        samples = np.round(block * _INT16_SCALE).clip(-_INT16_SCALE, _INT16_SCALE - 1)
        if is_coded_sound(samples.astype("<i2").tobytes()):
            raise AudioError(
                f"{self.name} holds DTS or AC-3 written as samples: heard as they are, they are noise",
                valid="Samples, or the stream in a file of its own (.dts, .ac3)",
                next_step="Decode it to WAV or FLAC first",
            )

    def _change_reader(self, frame: int) -> None:
        """Go on with the other decoder, which is better with damage; with nothing where that fails too."""
        failed = self._reader
        failed.close()
        self._reader = EndedReader(failed)
        if not isinstance(failed, SoundfileReader):
            self._notes += [*failed.notes, f"damaged after {failed.position / self.rate_hz:.1f} s"]
            return

        damaged = _find_damage(self._input, failed.position)
        self._notes += [*failed.notes, f"damaged after {damaged / self.rate_hz:.1f} s"]
        try:
            with as_decode_failure():
                other = _pyav(self._input)
                if (other.info.sample_rate_hz, other.info.channels) == (self.rate_hz, self.info.channels):
                    other.seek(frame)
                    self._reader = other
        except DecodeFailure:
            return

    def _note_end(self) -> None:
        if self._ended:
            return
        self._ended = True
        declared = self._reader.declared_frames
        if declared is None or self._n_joined:  # with another one behind it, containers promise too much
            return

        heard_s, promised_s = self._reader.position / self.rate_hz, declared / self.rate_hz
        if heard_s < promised_s - _MISSING_S:
            self._notes.append(f"truncated: it ends after {heard_s:.1f} s of the {promised_s:.1f} s it promises")
        elif heard_s > promised_s + _UNTOLD_S:
            self._notes.append(f"its header is wrong: {heard_s:.1f} s are in it, not {promised_s:.1f} s")

    def finish(self) -> tuple[str, ...]:
        """Close the source and tell what was odd.

        Raises
        ------
        AudioError
            When not one sample that was read is a number.
        """
        self.close()
        self._notes += self._reader.notes
        if self._input.changed():
            self._notes.append("the file changed while it was read")
        if self._tally.nothing_valid:
            raise AudioError(
                f"{self.name} holds only NaN or infinite samples",
                valid="Numbers, full scale is 1",
                next_step="Export it again from where it was made",
            )
        return tuple(dict.fromkeys([*self._notes, *self._tally.notes()]))

    def close(self) -> None:
        """Let go of the source."""
        if not self.is_closed:
            self.is_closed = True
            self._reader.close()
            self._input.restore()

    def __enter__(self) -> Decoder:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _pyav(source: Input) -> Reader:
    from musicgenre.audio._pyav import PyavReader  # PyAV's modules and fractions cost time that WAV and FLAC can save

    return PyavReader(source)


def _mpeg(source: Input) -> Reader:
    from musicgenre.audio._mpeg import MpegReader  # it needs PyAV

    return MpegReader(source)


def _find_damage(source: Input, position: int) -> int:
    """Frame where libsndfile fails, in small steps from the block in which it did."""
    try:
        with as_decode_failure():
            reader = SoundfileReader(source)
            reader.seek(position)
            while len(reader.read(_SMALL_STEP)):
                position = reader.position
            reader.close()
    except DecodeFailure:
        pass
    return position
