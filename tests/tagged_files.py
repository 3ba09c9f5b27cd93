"""Music files of every container with the tags that people have: pictures, lyrics, frames of one's own, odd ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import mutagen
from mutagen.apev2 import APEv2
from mutagen.flac import Picture
from mutagen.id3 import APIC, COMM, ID3, RVAD, TALB, TCON, TIT2, TPE1, TSIZ, TXXX, USLT

from tests.sounds import music, write

PICTURE = bytes(range(256)) * 40  # as large as a small cover, and with every byte


def _encoded(suffix: str) -> bytes:
    with TemporaryDirectory() as folder:
        rate_hz = 48_000 if suffix == ".opus" else 44_100
        path = write(Path(folder) / f"sound{suffix}", music(0.4, rate_hz), rate_hz)
        return path.read_bytes()


def _changed(content: bytes, suffix: str, change: Callable[[Path], None]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"sound{suffix}"
        path.write_bytes(content)
        change(path)
        return path.read_bytes()


def _id3(version: int, *, genre: bool = True) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tags = ID3()
        tags.add(TIT2(encoding=1, text="Täitle"))
        tags.add(TPE1(encoding=0, text="An Artist"))
        tags.add(TALB(encoding=0, text="An Album"))
        tags.add(TXXX(encoding=0, desc="own", text="mine"))
        tags.add(TXXX(encoding=0, desc="Own", text="mine too"))
        tags.add(USLT(encoding=1, lang="eng", desc="", text="la\nla"))
        tags.add(COMM(encoding=0, lang="deu", desc="x", text="Kommentar"))
        tags.add(APIC(encoding=0, mime="image/png", type=3, desc="", data=PICTURE))
        if version == 3:
            tags.add(TSIZ(encoding=0, text="1234"))
            tags.add(RVAD(adjustments=[0, 0]))
        if genre:
            tags.add(TCON(encoding=0, text="Rock"))
        tags.save(path, v2_version=version, v23_sep="/")

    return change


def _vorbis(path: Path) -> None:
    file = mutagen.File(path)
    file["title"], file["artist"], file["album"] = ["Täitle"], ["An Artist", "Another"], ["An Album"]
    file["genre"], file["own"] = ["Rock"], ["mine", "mine too"]
    if hasattr(file, "add_picture"):
        picture = Picture()
        picture.data, picture.mime, picture.type = PICTURE, "image/png", 3
        file.add_picture(picture)
    file.save()


def _mp4(path: Path) -> None:
    file = mutagen.File(path)
    file["\xa9nam"], file["\xa9ART"], file["\xa9alb"], file["\xa9gen"] = "Täitle", "An Artist", "An Album", "Rock"
    file["----:own:thing"] = [b"mine"]
    file["covr"] = [mutagen.mp4.MP4Cover(PICTURE, 14)]
    file.save()


def _asf(path: Path) -> None:
    file = mutagen.File(path)
    file["Title"], file["Author"], file["WM/AlbumTitle"], file["WM/Genre"] = "Täitle", "An Artist", "An Album", "Rock"
    file["own"] = ["mine", "mine too"]
    file.save()


def _ape(path: Path) -> None:
    tags = APEv2()
    tags["Title"], tags["Artist"], tags["Album"], tags["Genre"], tags["Own"] = (
        "Täitle",
        "An Artist",
        "An Album",
        "Rock",
        "x",
    )
    tags["Cover Art (Front)"] = mutagen.apev2.APEValue(b"cover.png\0" + PICTURE, mutagen.apev2.BINARY)
    tags.save(path)


def _v1(title: bytes = b"Old title", artist: bytes = b"Old artist", genre: int = 17) -> bytes:
    head = b"TAG" + title.ljust(30, b"\0") + artist.ljust(30, b"\0") + b"Old album".ljust(30, b"\0") + b"1984"
    return head + b"a comment".ljust(28, b"\0") + b"\0\x07" + bytes([genre])


def _frame(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">I", len(body)) + b"\0\0" + body


def _by_hand(frames: bytes, *, version: int = 3, flags: int = 0, padding: int = 0) -> bytes:
    size = len(frames) + padding
    packed = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, flags]) + packed + frames + bytes(padding)


def _unsynchronised() -> bytes:
    frames = (
        _frame(b"TIT2", b"\x01\xff\xfeT\0")
        + _frame(b"PRIV", b"own\0\xff\x00\xff\xe0\xff")
        + _frame(b"TCON", b"\0Rock")
    )
    return _by_hand(frames.replace(b"\xff", b"\xff\0"), flags=0x80, padding=10)


def _dsf() -> bytes:
    sound = (
        b"fmt "
        + struct.pack("<Q6IQ2I", 52, 1, 0, 2, 2, 2822400, 1, 8, 4096, 0)
        + b"data"
        + struct.pack("<Q", 12 + 8192)
    )
    sound += bytes(range(256)) * 32
    tag = _by_hand(_frame(b"TIT2", b"\0Title") + _frame(b"TCON", b"\0Rock"), padding=3)
    head = b"DSD " + struct.pack("<3Q", 28, 28 + len(sound) + len(tag), 28 + len(sound))
    return head + sound + tag


def _info_wav() -> bytes:
    wav = _encoded(".wav")
    texts = b""
    for name, text in ((b"IART", b"An Artist"), (b"INAM", b"Title"), (b"IGNR", b"Rock")):
        value = text + b"\0"
        texts += name + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2)
    chunk = b"LIST" + struct.pack("<I", len(texts) + 4) + b"INFO" + texts
    return wav[:4] + struct.pack("<I", len(wav) - 8 + len(chunk)) + wav[8:] + chunk


def _moov_first(movflags: str = "+faststart") -> bytes:
    """An M4A whose sound stands behind its tags, so that it moves when they grow; no free space is left."""
    import av

    with TemporaryDirectory() as folder:
        path = Path(folder) / "fast.m4a"
        with av.open(str(path), "w", format="ipod", options={"movflags": movflags}) as output:
            stream = output.add_stream("aac", rate=44100, layout="stereo")
            frame = av.AudioFrame.from_ndarray(music(0.4).T.copy(), format="fltp", layout="stereo")
            frame.rate = 44100
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            output.metadata["title"] = "Title"
        return path.read_bytes()


@lru_cache(maxsize=1)
def _mpeg() -> bytes:
    """An MP3 without any tag."""
    return _changed(_encoded(".mp3"), ".mp3", lambda path: ID3(path).delete(path))


MAKERS: dict[str, Callable[[], bytes]] = {
    "mp3-bare": _mpeg,
    "mp3-2.3": lambda: _changed(_mpeg(), ".mp3", _id3(3)),
    "mp3-2.3-no-genre": lambda: _changed(_mpeg(), ".mp3", _id3(3, genre=False)),
    "mp3-2.4": lambda: _changed(_mpeg(), ".mp3", _id3(4)),
    "mp3-2.4-footer": lambda: _footed() + _mpeg(),
    "mp3-2.2": lambda: b"ID3\x02\0\0\0\0\0\x18" + b"TT2\0\0\6\0Title" + b"TCO\0\0\5\0Rock" + b"\0" + _mpeg(),
    "mp3-unsynchronised": lambda: _unsynchronised() + _mpeg(),
    "mp3-doubled": lambda: (
        _by_hand(_frame(b"TCON", b"\0(17)") + _frame(b"TIT2", b"\0T") + _frame(b"TCON", b"\0(9)")) + _mpeg()
    ),
    "mp3-unknown": lambda: (
        _by_hand(_frame(b"XABC", b"\1\2") + _frame(b"TCON", b"\0Rock") + _frame(b"NCON", b"z")) + _mpeg()
    ),
    "mp3-v1": lambda: _mpeg() + _v1(),
    "mp3-both": lambda: _changed(_mpeg(), ".mp3", _id3(3)) + _v1(),
    "mp3-ape": lambda: _changed(_mpeg(), ".mp3", _ape),
    "mp3-ape-and-id3": lambda: _changed(_changed(_mpeg(), ".mp3", _ape), ".mp3", _id3(3)),
    "flac": lambda: _changed(_encoded(".flac"), ".flac", _vorbis),
    "flac-bare": lambda: _encoded(".flac"),
    "ogg": lambda: _changed(_encoded(".ogg"), ".ogg", _vorbis),
    "opus": lambda: _changed(_encoded(".opus"), ".opus", _vorbis),
    "m4a": lambda: _changed(_encoded(".m4a"), ".m4a", _mp4),
    "m4a-bare": lambda: _encoded(".m4a"),
    "m4a-moov-first": _moov_first,
    "m4a-fragmented-first": lambda: _moov_first("+frag_keyframe+empty_moov+default_base_moof"),
    "m4a-fragmented-offsets-first": lambda: _moov_first("+frag_every_frame+empty_moov"),
    "alac": lambda: _changed(_encoded(".alac.m4a"), ".alac.m4a", _mp4),
    "wma": lambda: _changed(_encoded(".wma"), ".wma", _asf),
    "wma-bare": lambda: _encoded(".wma"),
    "wavpack": lambda: _changed(_encoded(".wv"), ".wv", _ape),
    "wavpack-bare": lambda: _encoded(".wv"),
    "ape": lambda: _changed(b"MAC " + bytes(range(200)), ".ape", _ape),
    "musepack": lambda: _changed(b"MPCK" + bytes(range(200)), ".mpc", _ape),
    "aiff": lambda: _changed(_encoded(".aiff"), ".aiff", _tagged_chunks),
    "aiff-bare": lambda: _encoded(".aiff"),
    "wav": lambda: _changed(_encoded(".wav"), ".wav", _tagged_chunks),
    "wav-bare": lambda: _encoded(".wav"),
    "wav-info": _info_wav,
    "dsf": _dsf,
}
"""A maker for each kind of file."""


def _tagged_chunks(path: Path) -> None:
    file = mutagen.File(path)
    file.add_tags()
    file.tags.add(TIT2(encoding=3, text="Täitle"))
    file.tags.add(TPE1(encoding=3, text="An Artist"))
    file.tags.add(TCON(encoding=3, text="Rock"))
    file.tags.add(APIC(encoding=0, mime="image/png", type=3, desc="", data=PICTURE[:-1]))
    file.save()


def _footed() -> bytes:
    frames = b"".join(
        name + b"\0\0\0" + bytes([len(body)]) + b"\0\0" + body
        for name, body in ((b"TIT2", b"\3T"), (b"TCON", b"\3Rock"))
    )
    head = _by_hand(frames, version=4, flags=0x10)
    return head + b"3DI" + head[3:10]


@cache
def tagged(kind: str) -> bytes:
    """The bytes of a file of a kind."""
    return MAKERS[kind]()
