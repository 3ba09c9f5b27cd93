"""Kinds of files that broke listeners: joined, mis-totalled, disguised, tagged in odd places, many-channelled."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from musicgenre import audio
from musicgenre.audio._formats import musepack_stream
from musicgenre.audio._input import Input
from musicgenre.audio._pyav import _CONTAINERS
from musicgenre.errors import AudioError
from tests.limits import GUARD_S
from tests.sounds import music, write, write_as

RATE_HZ = 16_000
ID3 = b"ID3\x04\x00\x00\x00\x00\x00\x1dTIT2" + bytes(25)
APE_TAG_HEADER = b"APETAGEX" + struct.pack("<4I", 2000, 2000, 1, 0xA0000000) + bytes(8)


def write_many_channels(path: Path, container: str, codec: str, layout: str, sample_format: str) -> Path:
    """Write 2 s of a tone on every channel."""
    with av.open(str(path), "w", format=container) as output:
        options = {"strict": "experimental"}
        stream = output.add_stream(codec, rate=48000, layout=layout, format=sample_format, options=options)
        stream.open()
        spread = av.AudioResampler(sample_format, layout, 48000)  # the tone on all channels
        step = stream.frame_size or 4096
        tone = 0.3 * np.sin(np.arange(96_000, dtype=np.float32) * 0.05)
        for start in range(0, len(tone) - step + 1, step):
            frame = av.AudioFrame.from_ndarray(tone[np.newaxis, start : start + step], format="flt", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            for piece in spread.resample(frame):
                output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def heard_s(path: Path) -> tuple[float | None, float]:
    """Length that is told and length that is heard, in seconds; nothing is found odd."""
    told_s = audio.probe(path).duration_s
    sound = audio.load(path, RATE_HZ)
    assert sound.warnings == ()
    return told_s, len(sound.waveform) / RATE_HZ


def assert_heard_whole(path: Path, length_s: float) -> None:
    told_s, whole_s = heard_s(path)
    assert told_s == pytest.approx(length_s, abs=0.1)
    assert whole_s == pytest.approx(length_s, abs=0.1)


@pytest.mark.parametrize(
    ("container", "codec", "layout", "sample_format"),
    [("ipod", "aac", "7.1", "fltp"), ("ipod", "alac", "7.1(wide)", "s32p"), ("wv", "wavpack", "7.1", "s32p")],
)
def test_eight_planes_are_heard(tmp_path: Path, container: str, codec: str, layout: str, sample_format: str) -> None:
    path = write_many_channels(tmp_path / "a.bin", container, codec, layout, sample_format)
    assert audio.probe(path).channels == 8
    sound = audio.load(path, RATE_HZ)
    assert len(sound.waveform) == pytest.approx(2 * RATE_HZ, abs=2500)
    assert np.abs(sound.waveform).max() > 0.02


def test_plain_samples_in_an_order_of_their_own_are_refused(tmp_path: Path) -> None:
    path = write_many_channels(tmp_path / "a.mov", "mov", "pcm_s16le", "7.1", "s16")
    with pytest.raises(AudioError, match=r"a\.mov holds 8 channels of plain samples in MOV.*Save it as WAV or FLAC"):
        audio.load(path, RATE_HZ)


def test_64_bit_integers_are_heard(tmp_path: Path) -> None:
    samples = (music(1.0, channels=1)[:, 0] * 2.0**62).astype("<i8").tobytes()
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 44100, 8 * 44100, 8, 64)
    content = header + b"data" + struct.pack("<I", len(samples)) + samples
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(content)) + content)
    sound = audio.load(tmp_path / "a.wav", 44100)
    assert np.abs(sound.waveform - music(1.0, channels=1)[:, 0] / 2).max() < 1e-3


def test_whatever_a_library_raises_is_an_audio_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.ogg", music(1.0))

    def fail(*_: object) -> None:
        raise RecursionError("a fault that no list of ours names")

    monkeypatch.setattr("musicgenre.audio._pyav.FrameQueue.add", fail)
    with pytest.raises(AudioError, match=r"a\.ogg looks like Ogg but cannot be decoded"):
        audio.load(path, RATE_HZ)


def mp3(path: Path, length_s: float, seed: int = 7, **options: str) -> bytes:
    return write(path, music(length_s, seed=seed), options=options).read_bytes()


def length_header_at(data: bytes) -> int:
    return max(data.find(b"Xing"), data.find(b"Info"))


def test_a_vbri_header_does_not_shorten_an_mp3(tmp_path: Path) -> None:
    data = bytearray(mp3(tmp_path / "a.mp3", 20.0, qscale="4"))
    at = length_header_at(data)
    n_frames = int.from_bytes(data[at + 8 : at + 12], "big")
    frame_at = data.rfind(b"\xff\xfb", 0, at)
    data[at : at + 140] = bytes(140)
    vbri = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(data) - frame_at, n_frames // 2)
    data[frame_at + 36 : frame_at + 36 + len(vbri)] = vbri
    (tmp_path / "a.mp3").write_bytes(bytes(data))
    assert_heard_whole(tmp_path / "a.mp3", 20.0)


def test_a_length_header_of_no_frames_does_not_shorten_an_mp3(tmp_path: Path) -> None:
    data = bytearray(mp3(tmp_path / "a.mp3", 20.0, qscale="4"))
    at = length_header_at(data)
    data[at + 8 : at + 12] = bytes(4)
    (tmp_path / "a.mp3").write_bytes(bytes(data))
    assert_heard_whole(tmp_path / "a.mp3", 20.0)


def test_joined_mp3s_are_heard_to_the_end(tmp_path: Path) -> None:
    parts = [mp3(tmp_path / f"{seed}.mp3", 4.0, seed) for seed in (1, 2, 3)]
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(parts))
    assert_heard_whole(path, 12.15)
    whole = audio.load(path, RATE_HZ).waveform
    piece = audio.load_spans(path, RATE_HZ, [(10 * RATE_HZ, 8_000)]).waveforms[0]
    assert np.abs(piece - whole[10 * RATE_HZ : 10 * RATE_HZ + 8_000]).max() < 1e-4


def test_mp3s_of_two_rates_in_one_file_are_heard_to_the_end(tmp_path: Path) -> None:
    write(tmp_path / "a.mp3", music(4.0, 44100), 44100)
    write(tmp_path / "b.mp3", music(4.0, 32000), 32000)
    path = tmp_path / "joined.mp3"
    path.write_bytes((tmp_path / "a.mp3").read_bytes() + (tmp_path / "b.mp3").read_bytes())
    assert len(audio.load(path, RATE_HZ).waveform) / RATE_HZ == pytest.approx(8.0, abs=0.3)


def test_an_mp3_whose_channels_change_is_heard_to_the_end(tmp_path: Path) -> None:
    one = write(tmp_path / "one.mp3", music(3.0, channels=1)).read_bytes()
    two = write(tmp_path / "two.mp3", music(3.0, channels=2)).read_bytes()
    (tmp_path / "a.mp3").write_bytes(one + two)
    assert_heard_whole(tmp_path / "a.mp3", 6.1)


@pytest.mark.parametrize(
    "tag",
    [
        b"TAG" + bytes(125),
        APE_TAG_HEADER + b"\xff\xfb\x90" * 600 + bytes(200),
        bytes(999),
        b"LYRICSBEGIN" + b"\xff\xfb\x90" * 300 + b"LYRICS200",
    ],
)
def test_tags_behind_an_mp3_are_no_sound(tmp_path: Path, tag: bytes) -> None:
    data = mp3(tmp_path / "a.mp3", 5.0)
    (tmp_path / "a.mp3").write_bytes(data + tag)
    assert_heard_whole(tmp_path / "a.mp3", 5.0)


def test_two_kinds_of_tags_behind_wavpack_are_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wv", music(2.0))
    tag = b"APETAGEX" + struct.pack("<4I", 2000, 32, 0, 0) + bytes(8)
    path.write_bytes(path.read_bytes() + tag + b"TAG" + bytes(125))
    assert_heard_whole(path, 2.0)


def test_a_flac_whose_total_is_half_is_heard_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", music(6.0))
    for total in (3 * 44100, 0):  # counted wrong, or left open by a writer that streamed
        data = bytearray(path.read_bytes())
        packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | total
        data[18:26] = packed.to_bytes(8, "big")
        (tmp_path / "b.flac").write_bytes(bytes(data))
        assert_heard_whole(tmp_path / "b.flac", 6.0)


def test_dts_written_as_samples_is_refused(tmp_path: Path) -> None:
    frame = b"\xfe\x7f\x01\x80" + np.random.default_rng(1).bytes(1020)
    samples = np.frombuffer(frame * 100, "<i2").reshape(-1, 2)
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, samples, 44100, subtype="PCM_16")
        with pytest.raises(AudioError, match=r"holds DTS or AC-3 written as samples|cannot be decoded"):
            audio.load(tmp_path / name, RATE_HZ)


@pytest.mark.parametrize("told", [0, 0xFFFFFFFF, 1000])
def test_a_wav_that_tells_too_little_is_heard_whole(tmp_path: Path, told: int) -> None:
    path = write(tmp_path / "a.wav", music(3.0) + 0.01)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = told.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    assert_heard_whole(path, 3.0)


def test_an_rf64_from_a_pipe_is_heard(tmp_path: Path) -> None:
    samples = (music(2.0) * 32767).astype("<i2").tobytes()
    path = tmp_path / "a.wav"
    path.write_bytes(
        b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", 28) + bytes(28) + b"fmt "
        + struct.pack("<IHHIIHH", 16, 1, 2, 44100, 4 * 44100, 4, 16) + b"data\xff\xff\xff\xff" + samples
    )  # fmt: skip
    assert_heard_whole(path, 2.0)


def test_a_wav_joined_behind_another_is_named(tmp_path: Path) -> None:
    data = write(tmp_path / "a.wav", music(2.0)).read_bytes()
    (tmp_path / "a.wav").write_bytes(data + data)
    sound = audio.load(tmp_path / "a.wav", RATE_HZ)
    assert sound.warnings == (f"another file is joined behind it: {len(data)} bytes were left unheard",)


def put(data: bytes, at: int, number: bytes) -> bytes:
    return data[:at] + number + data[at + len(number) :]


def tell_a_quarter(data: bytes, container: str) -> bytes:
    """Write a quarter of the size of its sound into a header."""
    at = data.index(b"SSND" if container == "AIFF" else b"data")
    if container == "AIFF":
        return put(data, at + 4, struct.pack(">I", (struct.unpack_from(">I", data, at + 4)[0] - 8) // 4 + 8))
    if container == "W64":
        return put(data, at + 16, struct.pack("<Q", (struct.unpack_from("<Q", data, at + 16)[0] - 24) // 4 + 24))
    return put(data, at + 4, struct.pack("<I", struct.unpack_from("<I", data, at + 4)[0] // 4))


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("W64", "GSM610"), ("AIFF", "GSM610")],
)
def test_whatever_the_samples_are_stored_as_all_are_heard(tmp_path: Path, container: str, subtype: str) -> None:
    path = tmp_path / "a.bin"
    soundfile.write(path, music(8.0, 8000, 1), 8000, format=container, subtype=subtype)
    expected = audio.load(path, RATE_HZ).waveform
    path.write_bytes(tell_a_quarter(path.read_bytes(), container))
    assert audio.probe(path).duration_s == pytest.approx(8.0, abs=0.1)
    assert np.array_equal(audio.load(path, RATE_HZ).waveform, expected)


@pytest.mark.parametrize("n_frames", [0, 400, 16_000])
def test_the_frames_that_an_aiff_of_gsm_tells_do_not_shorten_it(tmp_path: Path, n_frames: int) -> None:
    path = tmp_path / "a.aiff"
    soundfile.write(path, music(8.0, 8000, 1), 8000, format="AIFF", subtype="GSM610")
    expected = audio.load(path, RATE_HZ).waveform
    data = path.read_bytes()
    path.write_bytes(put(data, data.index(b"COMM") + 10, struct.pack(">I", n_frames)))
    assert_heard_whole(path, 8.0)
    assert np.array_equal(audio.load(path, RATE_HZ).waveform, expected)


@pytest.mark.parametrize("suffix", [".aiff", ".au", ".wma", ".wv", ".m4a", ".alac.m4a"])
def test_a_file_joined_behind_another_is_named_or_heard(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", music(2.0))
    alone = audio.load(path, RATE_HZ)
    assert alone.warnings == ()
    data = path.read_bytes()
    path.write_bytes(data + data)
    sound = audio.load(path, RATE_HZ)
    assert sound.warnings == (f"another file is joined behind it: {len(data)} bytes were left unheard",)
    assert np.array_equal(sound.waveform, alone.waveform)


@pytest.mark.parametrize(
    ("container", "codec", "layout"), [("tta", "tta", "s16"), ("flv", "aac", "fltp"), ("caf", "alac", "s16p")]
)
def test_a_file_of_a_rarer_kind_joined_behind_another_is_named(
    tmp_path: Path, container: str, codec: str, layout: str
) -> None:
    data = write_as(tmp_path / "a.bin", music(2.0), 44_100, (container, codec, layout)).read_bytes()
    (tmp_path / "a.bin").write_bytes(data + data)
    sound = audio.load(tmp_path / "a.bin", RATE_HZ)
    assert f"another file is joined behind it: {len(data)} bytes were left unheard" in sound.warnings


@pytest.mark.parametrize(("first_s", "second_s"), [(3.0, 3.0), (4.0, 2.0), (2.0, 4.0)])
def test_joined_flac_is_heard_to_the_end(tmp_path: Path, first_s: float, second_s: float) -> None:
    parts = [write(tmp_path / f"{n}.flac", music(length_s, seed=n)) for n, length_s in ((1, first_s), (2, second_s))]
    path = tmp_path / "joined.flac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert audio.probe(path).duration_s is None  # so whoever spreads segments over it measures it first
    assert audio.measure(path)[0] == pytest.approx(6.0, abs=0.1)
    whole = audio.load(path, RATE_HZ).waveform
    last = audio.load(parts[1], RATE_HZ).waveform
    assert len(whole) == pytest.approx(6 * RATE_HZ, abs=100)
    assert np.abs(whole[-RATE_HZ:] - last[-RATE_HZ:]).max() < 1e-3


def test_a_long_flac_is_one_by_its_numbers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    noise = (0.3 * rng.standard_normal((400_000, 2))).astype(np.float32)
    path = write(tmp_path / "a.flac", noise)

    def search(_: object) -> bool:
        raise AssertionError("the whole file is read")

    monkeypatch.setattr("musicgenre.audio._formats._holds_second_flac", search)
    assert audio.probe(path).duration_s == pytest.approx(400_000 / 44_100)


def test_chained_ogg_is_heard_to_the_end(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{seed}.ogg", music(4.0, seed=seed)).read_bytes() for seed in (1, 2)]
    (tmp_path / "a.ogg").write_bytes(b"".join(parts))
    assert_heard_whole(tmp_path / "a.ogg", 8.0)
    whole = audio.load(tmp_path / "a.ogg", RATE_HZ).waveform
    piece = audio.load_spans(tmp_path / "a.ogg", RATE_HZ, [(6 * RATE_HZ, 8_000)]).waveforms[0]
    assert np.abs(piece - whole[6 * RATE_HZ : 6 * RATE_HZ + 8_000]).max() < 1e-4


@pytest.mark.parametrize("name", [".wav", ".flac", ".ogg", ".m4a", ".aiff", ".wv"])
def test_a_tag_in_front_of_any_format(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / f"a{name}", music(2.0))
    expected = audio.load(path, RATE_HZ).waveform
    path.write_bytes(ID3 + ID3 + path.read_bytes())
    assert np.array_equal(audio.load(path, RATE_HZ).waveform, expected)
    piece = audio.load_spans(path, RATE_HZ, [(16_000, 4_000)]).waveforms[0]
    assert np.corrcoef(piece, expected[16_000:20_000])[0, 1] > 0.99


def test_a_healthy_mp3_of_a_low_rate_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for rate_hz in (16_000, 22_050, 24_000):
        path = write(tmp_path / "a.mp3", music(5.0, rate_hz), rate_hz)
        damaged = bytearray(path.read_bytes())
        damaged[9000:9500] = bytes(range(250)) * 2
        (tmp_path / "b.mp3").write_bytes(bytes(damaged))
        capfd.readouterr()  # what encoders say is not our matter
        audio.load(path, RATE_HZ)
        audio.load(tmp_path / "b.mp3", RATE_HZ)
        assert capfd.readouterr() == ("", "")


def test_every_suffix_that_decodes_is_walked() -> None:
    missing = set()
    for name in _CONTAINERS.split(","):
        try:
            suffixes = {f".{suffix}" for suffix in av.ContainerFormat(name, "r").extensions}
        except ValueError:  # this build of FFmpeg has no such reader
            continue
        missing |= suffixes - audio.AUDIO_SUFFIXES
    # Pictures, subtitles and data that share a container with sound.
    assert missing <= {".aax", ".mj2", ".psp", ".ism", ".isma", ".ismv", ".cpk", ".mks", ".avif", ".heic", ".heif"}, (
        missing
    )
    named = ".dff .spx .weba .m4r .dts .wmv .ts .flv .mpga .m4p .ogv .shn"
    assert set(named.split()) <= audio.AUDIO_SUFFIXES


@pytest.mark.parametrize(
    ("suffix", "container", "codec", "layout"),
    [
        (".weba", "webm", "libopus", "s16"),
        (".m4r", "ipod", "aac", "fltp"),
        (".m4p", "ipod", "aac", "fltp"),
        (".wmv", "asf", "wmav2", "fltp"),
        (".ts", "mpegts", "aac", "fltp"),
        (".flv", "flv", "aac", "fltp"),
        (".ogv", "ogg", "vorbis", "fltp"),
    ],
)
def test_sound_under_a_rarer_name_is_found_and_heard(
    tmp_path: Path, suffix: str, container: str, codec: str, layout: str
) -> None:
    rate_hz = 44_100 if container == "flv" else 48_000
    path = write_as(tmp_path / f"a{suffix}", music(3.0, rate_hz), rate_hz, (container, codec, layout))
    assert list(audio.find_audio_files(tmp_path)) == [path]
    assert_heard_whole(path, 3.0)


def test_an_mp3_named_mpga_is_found_and_heard(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", music(3.0)).rename(tmp_path / "a.mpga")
    assert list(audio.find_audio_files(tmp_path)) == [path]
    assert_heard_whole(path, 3.0)


@pytest.mark.parametrize(("suffix", "codec", "rate_hz"), [(".dts", "dca", 48_000), (".spx", "libspeex", 32_000)])
def test_what_only_the_ffmpeg_command_writes_is_found_and_heard(
    tmp_path: Path, suffix: str, codec: str, rate_hz: int
) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    original, path = write(tmp_path / "a.wav", music(3.0, rate_hz), rate_hz), tmp_path / f"b{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", original, "-c:a", codec, "-strict", "-2", path]
    if subprocess.run(command, capture_output=True, timeout=GUARD_S, check=False).returncode:
        pytest.skip(f"this ffmpeg has no encoder {codec}")
    assert path in audio.find_audio_files(tmp_path)
    assert_heard_whole(path, 3.0)


def test_dsdiff_is_found_and_heard(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(">Q", len(content)) + content + bytes(len(content) % 2)

    rng = np.random.default_rng(3)
    tone = 0.5 + 0.25 * np.sin(np.arange(1_411_200) * 2 * np.pi * 440 / 2_822_400)
    bits = np.packbits(rng.random(len(tone)) < tone).tobytes()  # so many ones as the tone is high
    properties = chunk(b"FS  ", struct.pack(">I", 2_822_400)) + chunk(b"CHNL", struct.pack(">H", 1) + b"SLFT")
    properties += chunk(b"CMPR", b"DSD \x0enot compressed\0")
    inside = chunk(b"FVER", bytes([1, 5, 0, 0])) + chunk(b"PROP", b"SND " + properties) + chunk(b"DSD ", bits)
    path = tmp_path / "a.dff"
    path.write_bytes(chunk(b"FRM8", b"DSD " + inside))
    assert list(audio.find_audio_files(tmp_path)) == [path]
    assert_heard_whole(path, 0.5)


@pytest.mark.parametrize(
    ("container", "codec", "layout"),
    [
        ("matroska", "libmp3lame", "s16p"),
        ("matroska", "vorbis", "fltp"),
        ("matroska", "ac3", "fltp"),
        ("asf", "wmav2", "fltp"),
        ("flv", "aac", "fltp"),
        ("avi", "pcm_s16le", "s16"),
    ],
)
def test_lengths_are_right_where_those_of_packets_are_rounded(
    tmp_path: Path, container: str, codec: str, layout: str
) -> None:
    path = write_as(tmp_path / "a.bin", music(20.0), 44_100, (container, codec, layout))
    content = path.read_bytes()
    length_at = content.find(b"\x44\x89", 0, 1000)
    if container == "matroska":  # as in a pipe: neither the size of the segment is known, nor the length
        content = content.replace(b"DURATION", b"DURABLE_").replace(b"\x44\x89\x88", b"\xec\x89\x88", 1)
        assert length_at > 0
    path.write_bytes(content + b"junk")
    assert_heard_whole(path, 20.0)


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".ogg", ".opus", ".m4a"])
def test_damage_is_told_where_it_is(tmp_path: Path, suffix: str) -> None:
    rate_hz = 48_000 if suffix == ".opus" else 44_100
    rng = np.random.default_rng(5)  # noise: a second takes as many bytes as any other
    path = write(tmp_path / f"a{suffix}", 0.2 * rng.standard_normal((20 * rate_hz, 2)).astype(np.float32), rate_hz)
    whole = audio.load(path, RATE_HZ).waveform
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = bytes((37 * place + 11) % 256 for place in range(600))
    path.write_bytes(content)

    heard = audio.load(path, RATE_HZ)
    n_both = min(len(whole), len(heard.waveform))
    first_s = int(np.argmax(np.abs(whole[:n_both] - heard.waveform[:n_both]) > 0.02)) / RATE_HZ
    assert 8 < first_s < 12
    told = [float(text.split("damaged after ")[1].split(" s")[0]) for text in heard.warnings if "damaged" in text]
    assert told[0] == pytest.approx(first_s, abs=0.16)
    assert not [text for text in heard.warnings if "truncated" in text]


def test_joined_alac_in_matroska_has_no_known_length_and_is_heard_to_the_end(tmp_path: Path) -> None:
    part = write_as(tmp_path / "a.mka", music(3.0), 44_100, ("matroska", "alac", "s16p"))
    path = tmp_path / "joined.mka"
    path.write_bytes(2 * part.read_bytes())
    assert audio.probe(path).duration_s is None  # so whoever spreads segments over it measures it first
    assert len(audio.load(path, RATE_HZ).waveform) == pytest.approx(6 * RATE_HZ, abs=1600)
    assert audio.measure(path)[0] == pytest.approx(6.0, abs=0.1)
    assert audio.probe(part).duration_s == pytest.approx(3.0, abs=0.1)


def musepack_packet(name: bytes, content: bytes) -> bytes:
    return name + bytes([3 + len(content)]) + content


def test_the_length_of_musepack_is_that_of_its_header_and_what_is_joined_behind_is_counted() -> None:
    header = bytes(4) + b"\x08" + bytes([0x95, 0xC4, 0x20]) + b"\x00" + bytes(2)  # 352,800 samples, no silence
    stream = b"MPCK" + musepack_packet(b"SH", header) + musepack_packet(b"AP", bytes(40)) + musepack_packet(b"SE", b"")
    tag = b"APETAGEX" + bytes(24)
    for behind, n_behind in ((b"", 0), (tag, 0), (stream, len(stream)), (tag + stream + tag, len(stream + tag))):
        found = musepack_stream(Input(io.BytesIO(stream + behind)))
        assert found is not None
        assert (found.n_samples, found.n_behind) == (352_800, n_behind)
    assert musepack_stream(Input(io.BytesIO(b"MPCK" + bytes(200)))) is None


def test_whole_musepack_is_not_called_truncated_and_joined_one_says_what_is_unheard(tmp_path: Path) -> None:
    if shutil.which("mpcenc") is None:
        pytest.skip("mpcenc is not installed")
    original, path = write(tmp_path / "a.wav", music(8.0)), tmp_path / "a.mpc"
    subprocess.run(["mpcenc", original, path], capture_output=True, timeout=GUARD_S, check=True)
    assert_heard_whole(path, 8.0)

    joined = tmp_path / "joined.mpc"
    joined.write_bytes(2 * path.read_bytes())
    told = f"another file is joined behind it: {path.stat().st_size} bytes were left unheard"
    assert audio.load(joined, RATE_HZ).warnings == (told,)


CASES_S = {
    "A1_aac_7.1.m4a": 3.0,
    "A3_vorbis_7.1.ogg": 3.0,
    "A4_real_ATL_mp4.m4a": 14.06,
    "A6_wavpack_7.1.wv": 0.5,
    "E1_vbri_AB63.mp3": 63.09,
    "E2_xing0frames_AB60.mp3": 60.03,
    "F1_concat_loud_intro_AB63.mp3": 63.14,
    "G1_flac_total_half_A12.flac": 12.0,
    "H1_dts_in_wav_A2.5.wav": 2.51,
    "I1_wav_data0_A12.wav": 12.0,
    "I2_rf64_ffmpeg_pipe_A12.wav": 12.0,
    "J1_apev2_art_AB60.mp3": 60.0,
    "J3_ogg_chained_AB60.ogg": 60.0,
    "J4_real_mutagen_trailing_id3_ape.mp3": 1.0,
    "K1_flac_ffmpeg_pipe_A12.flac": 12.0,
    "L1_id3_wav_A12.wav": 12.0,
    "L2_real_taglib_id3.ape": 3.55,
    "M1_real_he_mode.mp3": 3.34,
    "V_healthy_16khz_A30.mp3": 30.0,
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", CASES_S)
def test_the_cases_are_heard_whole(shared_data: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = shared_data.parent / "cases" / name
    if not path.exists():
        pytest.skip("the collected cases are not here")
    assert_heard_whole(path, CASES_S[name])
    assert capfd.readouterr() == ("", "")
