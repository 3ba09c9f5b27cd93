"""Fields of music files are read and changed in every container, and every other byte stays."""

from __future__ import annotations

import io
import os
import random
import sys
from pathlib import Path
from typing import BinaryIO, cast

import mutagen
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from musicgenre.errors import LibraryError
from musicgenre.filetags import music_file
from musicgenre.filetags.music_file import read_tags, sound_sha256, splice_for, tag_file
from musicgenre.filetags.splice import (
    Edit,
    Splice,
    SplicedView,
    check_replaceable,
    replace_spliced,
    temporary_beside,
)
from tests.tagged_files import MAKERS, tagged

WORDS = st.text(
    st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"), blacklist_characters=";"), min_size=1, max_size=12
).map(str.strip)
GENRES = st.lists(WORDS.filter(lambda word: bool(word) and not word.isdigit() and "(" not in word), max_size=3)


def spliced(content: bytes, splice: Splice) -> bytes:
    return SplicedView(io.BytesIO(content), splice).read()


def changed(content: bytes, changes: dict[str, tuple[str, ...]]) -> tuple[bytes, Splice]:
    splice = Splice.of(tag_file(io.BytesIO(content)).edits(changes))
    return spliced(content, splice), splice


def by_mutagen(content: bytes) -> dict[str, str]:
    try:
        file = mutagen.File(io.BytesIO(content))
    except mutagen.MutagenError:  # of sound that is none
        return {}
    return {} if file is None or not file.tags else {key: str(value) for key, value in file.tags.items()}


@pytest.mark.parametrize("kind", MAKERS)
@given(genres=GENRES)
@example(genres=["Folk, World, & Country", "Hip Hop"])
@example(genres=["Фолк" * 8, "Jazz"])
@example(genres=["x" * 3000])
@example(genres=[])
def test_only_the_genre_changes_and_comes_back(kind: str, genres: list[str]) -> None:
    content = tagged(kind)
    before = tag_file(io.BytesIO(content))
    wanted = tuple(dict.fromkeys(genres))
    new, splice = changed(content, {"genre": wanted})

    after = tag_file(io.BytesIO(new))
    if wanted or kind != "mp3-v1":  # an ID3v1 tag that stands alone stays as it is
        assert after.values("genre") == wanted
    assert sound_sha256(after) == sound_sha256(before)
    kept = iter(after.others(["genre"]))
    assert all(piece in kept for piece in before.others(["genre"]))
    seen, then = by_mutagen(content), by_mutagen(new)
    assert {key: value for key, value in seen.items() if not _is_genre(key)}.items() <= then.items()
    assert spliced(new, splice.inverse()) == content
    assert Splice.from_bytes(splice.to_bytes()) == splice


def _is_genre(key: str) -> bool:
    return key.lower().endswith(("genre", "\xa9gen", "tcon"))


@pytest.mark.parametrize("kind", MAKERS)
def test_what_a_file_says_is_read(kind: str) -> None:
    file = tag_file(io.BytesIO(tagged(kind)))
    if kind.endswith(("bare", "first", "no-genre")):
        assert file.values("genre") == ()
    elif kind == "mp3-doubled":
        assert file.values("genre") == ("Rock", "Metal")
    else:
        assert file.values("genre") == ("Rock",)


@pytest.mark.parametrize("kind", MAKERS)
def test_other_fields_have_a_place_of_their_own(kind: str) -> None:
    fields = {"mood": ("happy",), "grouping": ("1980s",), "custom:DECADE": ("1980s",), "genre": ("Soul", "Pop")}
    content = tagged(kind)
    new, splice = changed(content, fields)
    after = tag_file(io.BytesIO(new))
    for field, values in fields.items():
        assert after.values(field) == values
    assert spliced(new, splice.inverse()) == content
    gone, _ = changed(new, dict.fromkeys(fields, ()))
    assert all(
        tag_file(io.BytesIO(gone)).values(field) == () for field in fields if kind != "mp3-v1" or field != "genre"
    )


@pytest.mark.parametrize("kind", MAKERS)
def test_the_sound_is_known_again_whatever_the_tags_say(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(tagged(kind))
    before = read_tags(path)
    path.write_bytes(changed(tagged(kind), {"genre": ("y" * 20_000,)})[0])
    after = read_tags(path)
    assert after.sound_sha256 == before.sound_sha256 and after.tags_sha256 != before.tags_sha256
    assert after.genres == ("y" * 20_000,) and after.title == before.title


def test_a_2_3_tag_keeps_its_version_or_becomes_2_4_on_request() -> None:
    content = tagged("mp3-2.3")
    kept, _ = changed(content, {"genre": ("Soul", "Pop")})
    file = tag_file(io.BytesIO(kept))
    assert file.id3_version == "2.3" and b"Soul; Pop" in kept

    splice = Splice.of(tag_file(io.BytesIO(content)).edits({"genre": ("Soul", "Pop")}, upgrade_id3=True))
    new = spliced(content, splice)
    file = tag_file(io.BytesIO(new))
    assert file.id3_version == "2.4" and file.values("genre") == ("Soul", "Pop") and b"Soul\0Pop" in new
    assert by_mutagen(content).keys() <= by_mutagen(new).keys()
    assert spliced(new, splice.inverse()) == content


def test_the_new_tag_beside_an_old_one_repeats_it() -> None:
    new, _ = changed(tagged("mp3-v1"), {"genre": ("Soul",)})
    file = mutagen.File(io.BytesIO(new))
    assert [str(file.tags[name]) for name in ("TIT2", "TPE1", "TALB", "TDRC", "TRCK", "TCON")] == [
        "Old title", "Old artist", "Old album", "1984", "7", "Soul"
    ]  # fmt: skip
    assert new.endswith(tagged("mp3-v1")[-128:])


def test_pages_are_numbered_anew_where_a_comment_needs_more() -> None:
    new, splice = changed(tagged("ogg"), {"genre": ("z" * 200_000,)})
    assert mutagen.File(io.BytesIO(new))["genre"] == ["z" * 200_000]
    assert spliced(new, splice.inverse()) == tagged("ogg")


@pytest.mark.parametrize("kind", ["m4a-moov-first", "m4a-fragmented-first", "m4a-fragmented-offsets-first"])
def test_sound_that_moves_is_found_where_it_lies_then(kind: str) -> None:
    import av

    def decoded(content: bytes) -> bytes:
        with av.open(io.BytesIO(content)) as source:
            return b"".join(frame.to_ndarray().tobytes() for frame in source.decode(audio=0))

    new, _ = changed(tagged(kind), {"genre": ("Soul",)})
    assert len(decoded(new)) > 100_000 and decoded(new) == decoded(tagged(kind))


def test_tables_of_fragments_point_at_fragments() -> None:
    new, _ = changed(tagged("m4a-fragmented-offsets-first"), {"genre": ("Soul" * 100,)})
    table = new.rindex(b"tfra")
    n_entries = int.from_bytes(new[table + 16 : table + 20], "big")
    # of version 1: eight bytes of time, eight of the place, three numbers of a byte each
    places = [table + 20 + number * 19 + 8 for number in range(n_entries)]
    fragments = [int.from_bytes(new[place : place + 8], "big") for place in places]
    assert new[table + 4] == 1 and fragments and all(new[at + 4 : at + 8] == b"moof" for at in fragments)


def test_a_picture_is_not_kept_twice() -> None:
    for kind in ("mp3-2.3", "mp3-2.4", "flac", "m4a", "wavpack", "wav", "aiff"):
        _, splice = changed(tagged(kind), {"genre": ("Soul",)})
        assert len(splice.to_bytes()) < 400, kind


@pytest.mark.parametrize("kind", MAKERS)
def test_damaged_tags_are_refused_in_words(kind: str) -> None:
    """Cut off, or with a byte changed: an answer or our own error, and never a file that was changed otherwise."""
    content = tagged(kind)
    for place in range(0, min(len(content), 4000), 97):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]):
            try:
                file = tag_file(io.BytesIO(damaged))
                splice = Splice.of(file.edits({"genre": ("Soul",)}))
                assert spliced(spliced(damaged, splice), splice.inverse()) == damaged
            except LibraryError as error:
                assert str(error)


def test_splices_are_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(tagged("flac"))
    from musicgenre.filetags.flac import FlacFile

    honest = FlacFile.edits

    def loses_a_comment(self: FlacFile, changes: object, **more: object) -> list[Edit]:
        return [*honest(self, changes), Edit(self.size - 20, self.read(self.size - 20, 5), b"")]  # type: ignore[arg-type]

    monkeypatch.setattr(FlacFile, "edits", loses_a_comment)
    with pytest.raises(LibraryError, match="its sound would change"):
        splice_for(path, {"genre": ("Soul",)})
    monkeypatch.setattr(FlacFile, "edits", lambda self, changes, **more: [Edit(self.size, b"", b"x")])
    with pytest.raises(LibraryError, match="genre would read Rock"):
        splice_for(path, {"genre": ("Soul",)})
    assert path.read_bytes() == tagged("flac")


@pytest.mark.parametrize("value", ["a\nb", " ", "a\0b"])
def test_values_are_text(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(tagged("flac"))
    with pytest.raises(LibraryError, match="cannot be written as genre"):
        splice_for(path, {"genre": (value,)})


@pytest.mark.parametrize(
    "field", ["date", "custom:Title", "custom:ALBUM ARTIST", "custom:a=b", "custom:", "custom:x\ny"]
)
def test_fields_that_tags_have_already_are_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(tagged("flac"))
    with pytest.raises(LibraryError, match=r"no field that can be written|says something else already"):
        splice_for(path, {field: ("x",)})
    assert path.read_bytes() == tagged("flac")


def test_a_field_of_ones_own_excuses_no_other_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another reader finds changed counts, also where its name holds that of the field."""
    path = tmp_path / "a.mp3"
    path.write_bytes(tagged("mp3-2.3"))
    seen = [{"TXXX:ER": "x", "TPE1:ER": "An Artist"}, {"TXXX:ER": "y", "TPE1:ER": "Another"}]
    monkeypatch.setattr(music_file, "_by_mutagen", lambda _: seen.pop(0))
    with pytest.raises(LibraryError, match="another reader would find TPE1:ER changed"):
        splice_for(path, {"custom:ER": ("y",)})


@pytest.mark.parametrize("kind", MAKERS)
def test_the_proof_survives_damage(kind: str) -> None:
    """What mutagen did not foresee in a damaged file is no traceback of ours."""
    dice = random.Random(kind)
    content = tagged(kind)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[dice.randrange(min(len(damaged), 600))] = dice.randrange(256)
        try:
            file = tag_file(io.BytesIO(damaged))
            changes = {"genre": ("Soul",)}
            splice = Splice.of(file.edits(changes))
            music_file._prove(file, splice, changes)
            assert spliced(spliced(bytes(damaged), splice), splice.inverse()) == bytes(damaged)
        except LibraryError as error:
            assert str(error)


def test_an_extended_header_beyond_the_tag_is_refused() -> None:
    tag = b"ID3\x03\0\x40\0\0\0\x0a" + (5000).to_bytes(4, "big") + bytes(6)
    with pytest.raises(LibraryError, match="extended header is longer than the tag"):
        tag_file(io.BytesIO(tag + tagged("mp3-bare")))


def test_what_is_no_music_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_text("no music")
    with pytest.raises(LibraryError, match=r"a\.mp3: its tags cannot be written.*Valid: mp3, aac, flac"):
        read_tags(tmp_path / "a.mp3")
    with pytest.raises(LibraryError, match="cannot be read"):
        read_tags(tmp_path / "gone.mp3")


def test_edits_do_not_overlap() -> None:
    with pytest.raises(ValueError, match="overlaps"):
        Splice((Edit(0, b"abc", b""), Edit(2, b"c", b"d")))
    with pytest.raises(ValueError, match="cut off"):
        Splice.from_bytes(Splice((Edit(0, b"abc", b"x"),)).to_bytes()[:-1])


def test_a_file_that_changed_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(tagged("flac"))
    splice = splice_for(path, {"genre": ("Soul",)})
    path.write_bytes(tagged("flac")[:100] + bytes(500))
    with pytest.raises(LibraryError, match="not those that were to be replaced"):
        replace_spliced(path, splice, temporary_beside(path), verify=lambda _: None)
    assert [one.name for one in tmp_path.iterdir()] == ["a.flac"]


class TestReplacing:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "a.flac"
        path.write_bytes(tagged("flac"))
        return path

    def replace(self, path: Path, **options: bool) -> None:
        replace_spliced(
            path, splice_for(path, {"genre": ("Soul",)}), temporary_beside(path), verify=lambda _: None, **options
        )

    def test_mode_times_and_attributes_stay(self, path: Path) -> None:
        path.chmod(0o640)
        os.utime(path, ns=(10**18, 10**18 + 5))
        if hasattr(os, "setxattr"):
            os.setxattr(path, "user.colour", b"red")
        self.replace(path)
        found = path.stat()
        assert found.st_mode & 0o777 == 0o640 and found.st_mtime_ns == 10**18 + 5
        if hasattr(os, "getxattr"):
            assert os.getxattr(path, "user.colour") == b"red"
        assert read_tags(path).genres == ("Soul",)
        self.replace(path)
        os.utime(path, ns=(10**18, 10**18))
        replace_spliced(
            path,
            splice_for(path, {"genre": ("Pop",)}),
            temporary_beside(path),
            verify=lambda _: None,
            keep_times=False,
        )
        assert path.stat().st_mtime_ns > 10**18

    def test_of_a_link_the_target_is_written(self, path: Path) -> None:
        link = path.parent / "link.flac"
        link.symlink_to(path.name)
        self.replace(link)
        assert link.is_symlink() and read_tags(path).genres == ("Soul",)

    def test_hard_links_are_named_or_broken(self, path: Path) -> None:
        other = path.parent / "other.flac"
        other.hardlink_to(path)
        with pytest.raises(LibraryError, match=r"has 2 names .*--break-links"):
            self.replace(path)
        self.replace(path, break_links=True)
        assert read_tags(path).genres == ("Soul",) and other.read_bytes() == tagged("flac")

    def test_read_only_files_and_folders_stay(self, path: Path) -> None:
        path.chmod(0o444)
        with pytest.raises(LibraryError, match="is read-only"):
            self.replace(path)
        with pytest.raises(LibraryError, match="is not a regular file"):
            replace_spliced(path.parent, Splice(), path.parent / "x", verify=lambda _: None)

    @pytest.mark.parametrize("number", ["ENOSPC", "EXDEV", "EBUSY", "EROFS", "EIO"])
    def test_what_the_system_refuses_changes_nothing(
        self, path: Path, number: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import errno

        def refuses(*_: object) -> None:
            raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

        monkeypatch.setattr(Path, "replace", refuses)
        with pytest.raises(LibraryError, match=r"a\.flac was not changed"):
            self.replace(path)
        assert path.read_bytes() == tagged("flac") and [one.name for one in path.parent.iterdir()] == ["a.flac"]

    def test_a_name_of_255_bytes(self, path: Path) -> None:
        long = path.rename(path.parent / ("é" * 125 + ".flac"))
        self.replace(long)
        assert read_tags(long).genres == ("Soul",)

    def test_what_does_not_verify_stays(self, path: Path) -> None:
        def refuse(_: Path) -> None:
            raise LibraryError("no")

        with pytest.raises(LibraryError, match="no"):
            replace_spliced(path, splice_for(path, {"genre": ("Soul",)}), temporary_beside(path), verify=refuse)
        assert path.read_bytes() == tagged("flac")

    def test_a_change_meanwhile_is_met(self, path: Path) -> None:
        with pytest.raises(LibraryError, match="changed while it was copied"):
            replace_spliced(
                path,
                splice_for(path, {"genre": ("Soul",)}),
                temporary_beside(path),
                verify=lambda _: os.utime(path, ns=(1, 1)),
            )


def test_a_view_is_a_file(tmp_path: Path) -> None:
    content = bytes(range(100))
    splice = Splice((Edit(10, content[10:20], b"xyz"), Edit(50, b"", b"new"), Edit(90, content[90:], b"")))
    view = SplicedView(io.BytesIO(content), splice)
    whole = content[:10] + b"xyz" + content[20:50] + b"new" + content[50:90]
    assert view.read() == whole and view.seek(0, os.SEEK_END) == len(whole)
    for place in range(len(whole)):
        assert view.seek(place) == place and cast("BinaryIO", view).read(7) == whole[place : place + 7]
    with pytest.raises(OSError, match="Invalid"):
        view.seek(-1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who writes to a file")
def test_a_file_that_another_program_writes_to_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(tagged("flac"))
    with path.open("rb"):  # who only reads is in nobody's way
        check_replaceable(path)
    with path.open("ab"), pytest.raises(LibraryError, match="is open in another program that writes to it"):
        check_replaceable(path)
    check_replaceable(path)
