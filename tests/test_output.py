"""Result files: whole lines, resumed by path, size and time first, by the sound on a miss."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
from pathlib import Path

import pytest

from musicgenre._files import sha256_of
from musicgenre.errors import DataError, UsageError
from musicgenre.filetags import music_file
from musicgenre.listening.answer import Answer
from musicgenre.listening.batch import Failure
from musicgenre.listening.paths import gather_paths
from musicgenre.listening.results import Format, ResultFile, format_line, header_line
from tests.tagged_files import tagged

SETTINGS = {"model": "toy", "coverage": "default", "model_sha256": "0123"}


def record(path: Path | str) -> dict:
    return Answer(
        path=str(path), duration_s=2.0, heard_s=2.0, genre="jazz", confidence=0.9, scores={"jazz": 0.9}, model="toy"
    ).as_dict()


def open_file(path: Path, kind: Format = "json", *, resume: bool = True, settings: dict = SETTINGS) -> ResultFile:
    return ResultFile(path, kind, settings, resume=resume, overwrite=False)


@pytest.fixture
def track(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(b"some sound")
    return path


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_resume_knows_unchanged_moved_and_touched_files(tmp_path: Path, track: Path, kind: Format) -> None:
    out = tmp_path / "results"
    with open_file(out, kind) as results:
        assert results.done(str(track)) is None
        results.add(record(track))
    moved = track.rename(tmp_path / "b.wav")
    os.utime(moved, ns=(1, 1))
    with open_file(out, kind) as results:
        assert results.done(str(moved)) is not None
    with open_file(out, kind) as results:
        assert results.done(str(moved)) is not None
        moved.write_bytes(b"other music")
        assert results.done(str(moved)) is None


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_resume_knows_a_sound_whatever_its_tags_and_its_place(tmp_path: Path, kind: Format) -> None:
    out, track = tmp_path / "results", tmp_path / "a.mp3"
    track.write_bytes(tagged("mp3-2.3"))
    with open_file(out, kind) as results:
        results.add(record(track))
    assert "sound:" in out.read_text()

    moved = track.rename(tmp_path / "b.mp3")
    moved.write_bytes(tagged("mp3-ape-and-id3"))  # the same sound, other tags, another size
    other = tmp_path / "other.flac"
    other.write_bytes(tagged("flac"))
    for _ in range(2):
        with open_file(out, kind) as results:
            assert results.done(str(moved)) is not None and results.done(str(other)) is None
    with open_file(out, kind) as results:
        moved.write_bytes(tagged("mp3-bare"))
        assert results.done(str(moved)) is not None
        results.add(record(other))
    open_file(out, kind).close()  # each file has its latest row alone; that of the old name stays, no folder was given
    assert len(out.read_text().splitlines()) == 3 + (kind == "csv")


def test_results_from_before_there_were_sounds_go_on(tmp_path: Path) -> None:
    out, track = tmp_path / "results", tmp_path / "a.mp3"
    track.write_bytes(tagged("mp3-2.3"))
    with open_file(out) as results:
        results.add(record(track))
    line = json.loads(out.read_text())
    out.write_text(json.dumps({**line, "sha256": sha256_of(track)}) + "\n")
    moved = track.rename(tmp_path / "b.mp3")
    with open_file(out) as results:
        assert results.done(str(moved)) is not None


def test_new_sounds_of_other_lengths_are_not_read_to_look_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, track, other = tmp_path / "results", tmp_path / "a.mp3", tmp_path / "b.mp3"
    track.write_bytes(tagged("mp3-2.3"))
    other.write_bytes(tagged("mp3-2.3") + bytes(100))
    with open_file(out) as results:
        results.add(record(track))
    monkeypatch.setattr(music_file, "sound_sha256", lambda _: pytest.fail("it was read"))
    with open_file(out) as results:
        assert results.done(str(other)) is None and results.done(str(track)) is not None


class TestFilesThatAreGone:
    """Rows of files that are gone from a folder are left out, never forgotten, and only where the folder is there."""

    @pytest.fixture
    def music(self, tmp_path: Path) -> Path:
        folder = tmp_path / "music"
        folder.mkdir()
        for name, kind in (("a.mp3", "mp3-2.3"), ("b.flac", "flac"), ("c.ogg", "ogg")):
            (folder / name).write_bytes(tagged(kind))
        return folder

    def names(self, out: Path) -> list[str]:
        text = out.read_text()
        rows = (
            list(csv.DictReader(io.StringIO(text)))
            if text.startswith("path")
            else map(json.loads, text.split("\n")[:-1])
        )
        return [Path(row["path"]).name for row in rows]

    def hear(self, out: Path, kind: Format, folder: Path, *, folders: list[str] | None = None) -> list[str]:
        """Resume; tell which files were heard."""
        heard = []
        searched = [str(folder)] if folders is None else folders
        with ResultFile(out, kind, SETTINGS, resume=True, overwrite=False, folders=searched) as results:
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if results.done(str(path)) is None:
                    results.add(record(path))
                    heard.append(path.name)
        return heard

    @pytest.mark.parametrize("kind", ["json", "csv"])
    def test_they_are_left_out_and_come_back_unheard(self, tmp_path: Path, music: Path, kind: Format) -> None:
        out, gone = tmp_path / "out.txt", tmp_path / "out.txt.gone"
        assert self.hear(out, kind, music) == ["a.mp3", "b.flac", "c.ogg"] and not gone.exists()
        away = (music / "a.mp3").rename(tmp_path / "a.mp3")
        for _ in range(2):
            assert self.hear(out, kind, music) == [] and self.names(out) == ["b.flac", "c.ogg"]
            assert self.names(gone) == ["a.mp3"]
        away.rename(music / "a.mp3")
        assert self.hear(out, kind, music) == [] and self.names(out) == ["b.flac", "c.ogg", "a.mp3"]
        assert self.hear(out, kind, music) == [] and self.names(out) == ["b.flac", "c.ogg", "a.mp3"]

        # moved within the folder: the old row goes, the new one comes
        (music / "a.mp3").rename(music / "z.mp3")
        assert self.hear(out, kind, music) == [] and self.names(out) == ["b.flac", "c.ogg", "z.mp3"]
        assert self.names(gone) == ["a.mp3"]

    @pytest.mark.parametrize("kind", ["json", "csv"])
    def test_nothing_is_dropped_where_the_folder_is_missing_or_empty(
        self, tmp_path: Path, music: Path, kind: Format
    ) -> None:
        out = tmp_path / "out.txt"
        self.hear(out, kind, music)
        before = out.read_bytes()
        music.rename(tmp_path / "elsewhere")
        for make in (lambda: None, music.mkdir):  # a disk that is not mounted: no folder, or an empty one
            make()
            gathered = []
            with contextlib.suppress(UsageError):
                gathered = list(gather_paths([str(music)], [], stdin=io.BytesIO()).folders)
            assert gathered == [] and self.hear(out, kind, music, folders=gathered) == []
            assert out.read_bytes() == before and not (tmp_path / "out.txt.gone").exists()

    def test_rows_of_other_folders_and_of_what_cannot_be_looked_at_stay(
        self, tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out.txt"
        self.hear(out, "json", music)
        (music / "a.mp3").unlink()
        other = tmp_path / "other"
        other.mkdir()
        (other / "d.mp3").write_bytes(tagged("mp3-bare"))
        assert self.names(out) == ["a.mp3", "b.flac", "c.ogg"]
        self.hear(out, "json", other)
        assert self.names(out) == ["a.mp3", "b.flac", "c.ogg", "d.mp3"]

        def fails(path: str) -> None:
            raise OSError(errno.EIO, "a disk that fails", path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", fails)
            ResultFile(out, "json", SETTINGS, resume=True, overwrite=False, folders=[str(music)]).close()
        assert "a.mp3" in self.names(out)

    def test_a_new_beginning_forgets_them_and_a_file_of_somebody_else_stays(self, tmp_path: Path, music: Path) -> None:
        out, gone = tmp_path / "out.txt", tmp_path / "out.txt.gone"
        self.hear(out, "json", music)
        (music / "a.mp3").unlink()
        self.hear(out, "json", music)
        assert gone.exists()
        ResultFile(out, "json", SETTINGS, resume=False, overwrite=True).close()
        assert not gone.exists()
        gone.write_text("mine\n")
        ResultFile(out, "json", SETTINGS, resume=False, overwrite=True).close()
        assert gone.read_text() == "mine\n"
        with pytest.raises(UsageError, match="gone is not a json result"):
            self.hear(out, "json", music)


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, track: Path, kind: Format) -> None:
    out = tmp_path / "results"
    with open_file(out, kind) as results:
        results.add(record(track))
    whole = out.read_bytes()
    out.write_bytes(whole + b'{"path": "half a li')
    with open_file(out, kind) as results:
        assert results.done(str(track)) is not None
    assert out.read_bytes() == whole


def test_failures_are_heard_again(tmp_path: Path, track: Path) -> None:
    out = tmp_path / "results"
    with open_file(out) as results:
        results.add(Failure(str(track), "not audio").as_dict())
    with open_file(out) as results:
        assert results.done(str(track)) is None


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_failure_that_stays_as_it_was_is_written_once(tmp_path: Path, track: Path, kind: Format) -> None:
    out = tmp_path / "results"
    failures = [Failure(str(track), "not audio\nat all"), Failure(str(tmp_path / "caf\udce9.wav"), "caf\udce9: none")]

    def run_again(settings: dict = SETTINGS) -> int:
        with open_file(out, kind, settings=settings) as results:
            for failure in failures:
                assert results.done(failure.path) is None
                results.add(failure.as_dict())
        return len(out.read_text("utf-8").splitlines())

    n_lines = run_again()
    assert run_again() == n_lines
    failures[0] = Failure(str(track), "another reason")
    assert run_again() == n_lines + 1
    track.write_bytes(b"another file")
    assert run_again() == n_lines + 2
    assert run_again({**SETTINGS, "coverage": "full"}) == n_lines + 4


def test_other_settings_do_not_count_as_done(tmp_path: Path, track: Path) -> None:
    out = tmp_path / "results"
    with open_file(out) as results:
        results.add(record(track))
    for changed in ({"coverage": "full"}, {"model": "other"}, {"model_sha256": "taught again"}):
        with open_file(out, settings=SETTINGS | changed) as results:
            assert results.done(str(track)) is None


def test_an_existing_file_is_never_overwritten_unasked(tmp_path: Path, track: Path) -> None:
    out = tmp_path / "results"
    out.write_text("precious")
    with pytest.raises(UsageError, match="--resume"):
        open_file(out, resume=False)
    for kind in ("json", "csv"):
        with pytest.raises(UsageError, match=f"not a {kind} result"):
            open_file(out, kind)
    assert out.read_text() == "precious"
    with ResultFile(out, "json", SETTINGS, resume=False, overwrite=True) as results:
        results.add(record(track))
    assert json.loads(out.read_text())["genre"] == "jazz"
    out.write_text("notes of mine\nmore\n")
    with pytest.raises(UsageError, match="not a json result"):
        open_file(out)
    assert out.read_text() == "notes of mine\nmore\n"


def test_strange_names_stay_one_valid_line(tmp_path: Path) -> None:
    name = os.fsdecode(b'caf\xe9 \xe2\x80\xa8, "x".wav')
    for kind in ("json", "csv"):
        line = format_line(record(name), kind)
        assert line.count("\n") == 1
        line.encode("utf-8")
    assert json.loads(format_line(record(name), "json"))["path"].startswith("caf\\xe9")


@pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX only")
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_strange_names_are_found_again(tmp_path: Path, kind: Format) -> None:
    tracks = [tmp_path / os.fsdecode(name) for name in (b"caf\xe9.wav", b"new\nline.wav", b"cr\rname.wav", b'"q".wav')]
    out = tmp_path / "results"
    with open_file(out, kind) as results:
        for track in tracks:
            track.write_bytes(os.fsencode(track))
            results.add(record(track))
    content = out.read_bytes()
    assert content.count(b"\n") == len(tracks) + (kind == "csv")
    with open_file(out, kind) as results:
        assert all(results.done(str(track)) is not None for track in tracks)
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        '{"path": "x", "size_bytes": 1, "modified_ns": 1}',
        '{"size_bytes": 1, "modified_ns": 1, "error": null, "model": "toy", "coverage": "default"}',
        '{"path": "x", "size_bytes": 1e999, "modified_ns": 1, "error": null}',
        '{"path": 5, "size_bytes": 1, "modified_ns": 1, "error": null}',
        "[" * 100_000,
        "[1]",
    ],
)
def test_json_that_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    out = tmp_path / "results"
    out.write_text(content + "\n")
    with pytest.raises(UsageError, match="not a json result"):
        open_file(out)
    assert out.read_text() == content + "\n"


@pytest.mark.parametrize("content", ["path,size_bytes,modified_ns\nx,1,1\n", "path,error\n" + "x" * 200_000 + ",\n"])
def test_csv_that_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    out = tmp_path / "results"
    out.write_text(content)
    with pytest.raises(UsageError, match="not a csv result"):
        open_file(out, "csv")
    assert out.read_text() == content


@pytest.mark.parametrize("content", [b"", b"path,gen"])
def test_a_csv_without_its_header_gets_one(tmp_path: Path, track: Path, content: bytes) -> None:
    out = tmp_path / "results"
    out.write_bytes(content)
    with open_file(out, "csv") as results:
        results.add(record(track))
    with open_file(out, "csv") as results:
        assert results.done(str(track)) is not None


def test_a_second_run_on_one_file_is_refused_and_told_who_writes_it(tmp_path: Path, track: Path) -> None:
    out = tmp_path / "results"
    with open_file(out) as first:
        with pytest.raises(DataError, match=rf"process {os.getpid()} on .+ since .+ is writing into"):
            open_file(out, resume=True)
        first.add(record(track))
    with open_file(out, resume=True) as second:
        assert second.done(str(track)) is not None
    assert len(out.read_text().splitlines()) == 1 and [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (True, False), (False, True)])
def test_a_pipe_is_refused_at_once(tmp_path: Path, resume: bool, overwrite: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="a device or a pipe"):
        ResultFile(tmp_path / "pipe", "json", SETTINGS, resume=resume, overwrite=overwrite)
    with pytest.raises(UsageError, match="cannot be written"):
        open_file(tmp_path / "pipe" / "results")


def test_csv_columns_match_the_header() -> None:
    line = format_line(record("x.wav"), "csv")
    assert len(line.split(",")) == len(header_line("csv", resumable=False).split(","))


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_no_control_character_of_a_name_reaches_a_cell(kind: Format) -> None:
    held = {**record("a\x1b[31m\x07\x7f\x9b.wav"), "genre": "ja\x1b]0;x\tzz", "error": "no\r\nsound\0"}
    line = format_line(held, kind)
    assert line.endswith("\n") and all(char.isprintable() or char == "\t" for char in line[:-1])
    assert r"a\x1b[31m\x07\x7f\x9b.wav" in line and r"ja\x1b]0;x\tzz" in line and r"no\r\nsound\x00" in line
    assert line.count("\t") == (0 if kind == "csv" else len(header_line("tsv", resumable=False).split("\t")) - 1)


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be written there")
def test_a_name_with_control_characters_is_recognised_when_resumed(tmp_path: Path) -> None:
    track = tmp_path / "a\x1b[31m\tb.wav"
    track.write_bytes(b"sound")
    with open_file(tmp_path / "out", "csv") as results:
        results.add(record(track))
    with open_file(tmp_path / "out", "csv") as results:
        assert results.done(str(track)) is not None


@pytest.mark.parametrize("name", ["=1+1.wav", "+a.wav", "-b.wav", "@c.wav", "'=d.wav", "e.wav", "'f.wav"])
def test_csv_safe_cells_are_no_formulas_and_can_be_resumed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"sound")
    for kind in ("csv", "tsv"):
        plain, safe = (format_line(record(name), kind, csv_safe=csv_safe) for csv_safe in (False, True))
        assert plain.startswith(name) and safe == ("'" if name[0] in "=+-@" or name[:2] == "'=" else "") + plain
    assert format_line(record(name), "json", csv_safe=True) == format_line(record(name), "json")

    # written with or without, resumed with or without; a file that was touched is written again
    for before, after in ((True, True), (True, False), (False, True)):
        out = tmp_path / f"{before}{after}"
        with ResultFile(out, "csv", SETTINGS, resume=True, overwrite=False, csv_safe=before) as results:
            results.add(record(name))
        os.utime(name, (1, 1))
        with ResultFile(out, "csv", SETTINGS, resume=True, overwrite=False, csv_safe=after) as results:
            assert results.done(name) is not None
        *_, first, last = csv.DictReader(io.StringIO(out.read_text()))
        written = [format_line(record(name), "csv", csv_safe=csv_safe).split(",")[0] for csv_safe in (before, after)]
        assert [first["path"], last["path"]] == written
        os.utime(name)
