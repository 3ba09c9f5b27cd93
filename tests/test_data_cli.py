"""The data commands as a person runs them: exit codes, messages, files."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from musicgenre.cli import app
from musicgenre.data.manifest import read_manifest
from musicgenre.errors import DataError, MusicgenreError, UsageError
from musicgenre.training.recipes import load_recipe
from musicgenre.training.tracks import split_tracks
from tests import cli
from tests.sounds import music
from tests.test_data_archives import make_zip

LABELS = ("blues", "jazz", "rock")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three genres of ten short tracks each."""
    for i, label in enumerate(LABELS):
        (tmp_path / "music" / label).mkdir(parents=True)
        for n in range(10):
            path = tmp_path / "music" / label / f"{label}.{n:05d}.wav"
            soundfile.write(path, music(0.05, 8000, 1, seed=10 * i + n), 8000)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if isinstance(result.exception, MusicgenreError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_from_a_folder_to_a_split(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    result = run("index", folder / "music", "-o", manifest)
    assert result.exit_code == 0
    assert "30 tracks (blues 10, jazz 10, rock 10)" in result.stdout
    with pytest.raises(UsageError, match="exists already"):
        run("index", folder / "music", "-o", manifest)
    assert run("index", folder / "music", "-o", manifest, "--overwrite", "--labels", "jazz,rock").exit_code == 0
    assert read_manifest(manifest).labels == ("jazz", "rock")
    result = run("split", manifest, "--protocol", "track", "--seed", "3", "--validation-per-class", "2")
    assert result.exit_code == 0
    assert "all           12          4          4\n" in result.stdout
    before = manifest.read_bytes()
    run("split", manifest, "--protocol", "track", "--seed", "3", "--validation-per-class", "2")
    assert manifest.read_bytes() == before
    assert run("validate", manifest).exit_code == 0
    assert run("audit", manifest).exit_code == 0
    run("split", manifest, "--protocol", "kfold", "--folds", "2", "-o", folder / "folds.csv")
    assert manifest.read_bytes() == before
    assert {track.fold for track in read_manifest(folder / "folds.csv").tracks} == {0, 1}


def test_a_split_that_can_be_trained_on_has_no_note(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    run("index", folder / "music", "-o", manifest)
    assert "no track validates" not in run("split", manifest, "--protocol", "track").stderr
    assert "no track validates" not in run("split", manifest, "--protocol", "kfold").stderr
    told = run("split", manifest, "--protocol", "track", "--validation-size", "0").stderr
    assert "no track validates: 'musicgenre train' takes 12.5% of the training tracks for it" in told
    assert "--validation-size 0.1 takes them here" in told

    # and so it does
    trained = split_tracks(load_recipe("mfcc-cnn", ["data.labels=[]"]), manifest)
    counts = Counter(track.split for track in trained.tracks)
    assert counts["validation"] == round(0.125 * (counts["validation"] + counts["train"])) > 0

    told = run("split", manifest, "--protocol", "track", "--test-size", "0").stderr
    assert "no track tests, and 'musicgenre train' wants a test part" in told
    with pytest.raises(DataError, match="the split has no test part"):
        split_tracks(load_recipe("mfcc-cnn", ["data.labels=[]"]), manifest)


def test_a_refused_split_leaves_the_manifest_alone(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    run("index", folder / "music", "-o", manifest)
    before = manifest.read_bytes()
    for options, error in ((["--test-size", "0.99"], DataError), (["--folds", "3"], UsageError)):
        with pytest.raises(error):
            run("split", manifest, "--protocol", "track", *options)
    with pytest.raises(UsageError, match="Did you mean 'artist'"):
        run("split", manifest, "--protocol", "artst")
    assert manifest.read_bytes() == before


def test_the_leaky_protocol_warns(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    run("index", folder / "music", "-o", manifest)
    result = run("split", manifest, "--protocol", "segment-leaky", "--seed", "1")
    assert "WARNING: A KNOWN MISTAKE" in result.stderr
    assert {track.columns["protocol"] for track in read_manifest(manifest).tracks} == {"segment-leaky"}


def test_faults_are_named_and_exit_with_1(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    run("index", folder / "music", "-o", manifest)
    rock = folder / "music" / "rock"
    (rock / "rock.00000.wav").unlink()
    (rock / "rock.00001.wav").write_bytes(b"not music")
    shutil.copy(rock / "rock.00002.wav", rock / "extra.wav")
    result = run("validate", manifest)
    assert result.exit_code == 1
    kinds = [line.split("\t")[:2] for line in result.stdout.splitlines()]
    assert kinds == [["missing", "rock.00000"], ["corrupt", "rock.00001"], ["extra", "-"]]
    assert "30 tracks checked, 30 against a checksum: 1 missing, 0 changed, 1 corrupt, 1 extra" in result.stderr
    audited = run("audit", folder / "music")
    assert audited.exit_code == 0, "copies that are not split apart are no leak"
    assert "same content: extra, rock.00002" in audited.stdout
    assert "no group (artist)" in audited.stdout
    assert audited.stdout.splitlines()[0].split() == ["no", "part"]


def test_audit_names_artists_on_both_sides(folder: Path) -> None:
    artists = folder / "artists.csv"
    rows = [f"{label}.{n:05d},{label} band" for label in LABELS for n in range(10)]
    artists.write_text("track_id,artist_group\n" + "\n".join(rows) + "\n")
    manifest = folder / "manifest.csv"
    run("index", folder / "music", "-o", manifest, "--artists", artists)
    run("split", manifest, "--protocol", "track")
    result = run("audit", manifest)
    assert result.exit_code == 1
    assert "group on several sides: jazz band (test, train, validation)" in result.stdout
    assert "6 of 6 test tracks (100%) have their group in train" in result.stdout


def test_index_of_csv_table_and_pictures(folder: Path) -> None:
    csv = folder / "mine.csv"
    csv.write_text("file,genre\nmusic/rock/rock.00000.wav,rock\nmusic/jazz/jazz.00000.wav,jazz\nnone.wav,jazz\n")
    result = run("index", csv, "-o", folder / "a.csv", "--path-column", "file", "--label-column", "genre")
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr
    assert len(read_manifest(folder / "a.csv")) == 2
    table = folder / "features.csv"
    table.write_text("filename,tempo,label\nrock.00000.wav,1,rock\njazz.00000.wav,2,jazz\n")
    assert run("index", table, "--table", "-o", folder / "b.csv").exit_code == 0
    assert read_manifest(folder / "b.csv").tracks[0].path == table
    with pytest.raises(UsageError, match="--table goes with a CSV"):
        run("index", folder, "--table", "-o", folder / "c.csv")
    (folder / "music" / "rock" / "rock.png").write_bytes(b"png")
    assert run("index", folder / "music", "--pictures", "-o", folder / "d.csv").exit_code == 0
    assert len(read_manifest(folder / "d.csv")) == 1


def test_a_table_of_features_and_a_table_of_artists_say_what_they_need(folder: Path) -> None:
    table = folder / "features.csv"
    table.write_text("filename,tempo,rms,label\nrock.00000.wav,1,2,rock\n")
    with pytest.raises(DataError, match=r"no column 'path'.*holds the features of a track, add --table"):
        run("index", table, "-o", folder / "a.csv")
    artists = folder / "artists.csv"
    artists.write_text("file,band\nrock.00000.wav,x\n")
    with pytest.raises(
        DataError, match=r"columns are file, band.*Call the columns .* track_id and artist_group"
    ) as told:
        run("index", folder / "music", "--artists", artists, "-o", folder / "a.csv")
    assert "--path-column" not in str(told.value)


def test_a_broken_file_is_left_out_of_an_index_with_its_reason(folder: Path) -> None:
    rock = folder / "music" / "rock"
    (rock / "rock.00001.wav").write_bytes(b"not music")
    (rock / "rock.00002.wav").write_bytes((rock / "rock.00002.wav").read_bytes()[:20])
    for more in ((), ("--no-checksums",)):
        result = run("index", folder / "music", "-o", folder / "m.csv", "--overwrite", *more)
        assert result.exit_code == 1 and len(read_manifest(folder / "m.csv")) == 28
        assert "rock.00001.wav: cannot be heard: " in result.stderr and "left out: 2 in all" in result.stderr
    for path in (folder / "music").rglob("*.wav"):
        path.write_bytes(b"not music")
    with pytest.raises(DataError, match=r"none of the 30 sound files can be heard: .*rock.*wav"):
        run("index", folder / "music", "-o", folder / "m.csv", "--overwrite")


def test_get_from_a_copy_prints_licence_and_names_missing_tracks(folder: Path) -> None:
    files = {f"genres/{path.parent.name}/{path.name}": path.read_bytes() for path in folder.rglob("*.wav")}
    copy = make_zip(folder / "copy.zip", files)
    result = run("get", "gtzan-mini", "--from", copy, "--folder", folder / "set", "--labels", "jazz,rock")
    assert result.exit_code == 1
    assert "licence   none stated" in result.stdout
    assert "citation  G. Tzanetakis" in result.stdout
    assert "missing: classical.00000" in result.stderr
    assert "missing: 52 more" in result.stderr
    assert len(read_manifest(folder / "set" / "manifest.csv")) == 20
    with pytest.raises(UsageError, match="exists already"):
        run("get", "gtzan-mini", "--from", copy, "--folder", folder / "set")


def test_validate_a_set(folder: Path) -> None:
    index = folder / "md5.csv"
    index.write_text("track_id,md5\njazz.00000,00\n")
    result = run("validate", "--set", "gtzan-mini", folder / "music", "--index", index)
    assert result.exit_code == 1
    assert "changed\tjazz.00000" in result.stdout
    assert "missing\tpop.00000" in result.stdout


def test_info() -> None:
    everything = run("info").stdout
    for name in ("fma-small", "gtzan-mini", "fault-filtered", "segment-leaky"):
        assert name in everything
    assert "4.6 points" in run("info", "fault-filtered").stdout
    assert "jazz.00054" in run("info", "gtzan").stdout
    with pytest.raises(UsageError, match="no data set or protocol 'x'"):
        run("info", "x")


def test_labels_from_a_file_and_given_several_times(folder: Path) -> None:
    (folder / "music" / "rock").rename(folder / "music" / "Rock, Roll")
    names = folder / "names.txt"
    names.write_text("Rock, Roll\n\njazz\n")
    for given in (["--labels", f"@{names}"], ["--labels", "Rock, Roll", "--labels", "jazz"]):
        assert run("index", folder / "music", "-o", folder / "m.csv", "--overwrite", *given).exit_code == 0
        assert read_manifest(folder / "m.csv").labels == ("Rock, Roll", "jazz")
    both = ("--labels", "blues,jazz", "--labels", f"@{names}", "--overwrite")
    assert run("index", folder / "music", "-o", folder / "m.csv", *both).exit_code == 0
    assert len(read_manifest(folder / "m.csv")) == 30
    with pytest.raises(UsageError, match=r"none\.txt cannot be read.*a label a line"):
        run("index", folder / "music", "-o", folder / "m.csv", "--overwrite", "--labels", f"@{folder / 'none.txt'}")


def test_labels_with_commas_are_told_apart(folder: Path) -> None:
    (folder / "music" / "rock").rename(folder / "music" / "Rock, Roll")
    given = ("index", folder / "music", "-o", folder / "m.csv", "--labels")
    assert "(Rock, Roll 10; jazz 10)" in run(*given, "Rock, Roll", "--labels", "jazz").stdout
    with pytest.raises(DataError, match=r"Labels are Rock, Roll; blues; jazz\..*Did you mean 'jazz'\?"):
        run(*given, "jaz", "--overwrite")


def test_labels_that_are_none(folder: Path) -> None:
    with pytest.raises(UsageError, match="names no label"):
        run("index", folder / "music", "-o", folder / "m.csv", "--labels", " , ")


def test_errors_are_one_line_and_exit_with_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("path,track_id,label\na.wav,a,rock\nb.wav,a,\n")
    done = cli.run("data", "split", bad, "--protocol", "track")
    assert done.returncode == 2
    message = done.stderr.decode()
    assert "line 3, column track_id: 'a'" in message
    assert "line 3, column label: ''" in message
    assert message.count("\n") == 1


ANNOTATIONS = """"clip_id"\t"guitar"\t"weird"\t"strange"\t"mp3_path"
"2"\t"1"\t"0"\t"1"\t"f/ann-first-01-song-0-29.mp3"
"6"\t"1"\t"0"\t"0"\t"f/ann-first-01-song-29-58.mp3"
"10"\t"0"\t"0"\t"0"\t"c/ann-second-01-tune-0-29.mp3"
"11"\t"0"\t"1"\t"0"\t"0/bob-third-02-other-0-29.mp3"
"12"\t"0"\t"1"\t"0"\t"0/bob-third-03-absent-0-29.mp3"
"""


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with MagnaTagATune's table of five clips, four of them at hand."""
    table = tmp_path / "annotations_final.csv"
    table.write_text(ANNOTATIONS)
    for seed, line in enumerate(ANNOTATIONS.splitlines()[1:5]):
        path = tmp_path / line.split("\t")[-1].strip('"')
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, music(0.2, 16000, 1, seed=seed), 16000, format="MP3")
    return tmp_path


def test_from_a_table_of_tags_to_a_split(clips: Path) -> None:
    manifest = clips / "manifest.csv"
    result = run("index", clips / "annotations_final.csv", "--tags", "all", "-o", manifest)
    assert result.exit_code == 1, "a clip is absent"
    assert "4 tracks (guitar 2, strange 1, weird 1)" in result.stdout
    assert "Creative Commons" in result.stderr
    assert "cite: E. Law" in result.stderr
    assert "bob-third-03-absent-0-29.mp3: there is no such file" in result.stderr
    assert "note: 1 of 4 tracks have none of the 3 tags and are kept" in result.stderr
    result = run("split", manifest, "--protocol", "mtat-folders")
    assert result.exit_code == 0
    assert "(untagged)          0          1          0\n" in result.stdout
    assert "WARNING: 3 labels have no track in validation: guitar, strange, weird" in result.stderr
    assert "comparable with: Results on the 12:1:3 split" in result.stdout
    result = run("audit", manifest)
    assert result.exit_code == 1
    assert "group on several sides: ann (test, validation)" in result.stdout
    assert "3 tags have no track in validation" in result.stdout
    songs = run("split", manifest, "--protocol", "song", "--test-size", "0.5")
    assert songs.exit_code == 0 and "no track validates" in songs.stderr
    assert "song on several sides" not in run("audit", manifest).stdout
    assert run("validate", manifest).exit_code == 0
    options = ("--merge-synonyms", "--drop-untagged", "--group-by", "album", "--no-files", "--overwrite")
    merged = run("index", clips / "annotations_final.csv", *options, "-o", manifest)
    assert merged.exit_code == 0
    assert "4 tracks (guitar 2, weird 3)" in merged.stdout
    assert {track.group for track in read_manifest(manifest).tracks} == {"ann-first", "bob-third"}
    result = run("get", "magnatagatune", "--from", clips, "--folder", clips / "set", "--tags", "weird,guitar")
    assert result.exit_code == 1
    assert "25863 in 188 tags: no voice, singer" in result.stdout
    assert "4 tracks (guitar 2, weird 1)" in result.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [("a\tb".encode("utf-16"), "is UTF-16"), ("a\tb".encode("utf-16-le"), "is UTF-16"), (b"\n", "is empty")],
)
def test_a_list_of_tags_that_cannot_be_read_is_told_before_its_options(
    tmp_path: Path, content: bytes, message: str
) -> None:
    table = tmp_path / "annotations.csv"
    table.write_bytes(content)
    with pytest.raises(DataError, match=message):
        run("index", table, "--tags", "top50", "-o", tmp_path / "m.csv")


def test_options_of_tables_of_tags_go_with_them_alone(clips: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"a folder of genres or a CSV of one's own takes no --tags"):
        run("index", folder / "music", "--tags", "all", "-o", folder / "m.csv")
    with pytest.raises(UsageError, match="takes no --no-files"):
        run("index", folder / "music", "--no-files", "-o", folder / "m.csv")
    with pytest.raises(UsageError, match="mtg-jamendo takes no --merge-synonyms"):
        run("get", "mtg-jamendo", "--merge-synonyms", "--from", folder, "--folder", folder / "set")
    with pytest.raises(UsageError, match="gtzan takes no --group-by"):
        run("get", "gtzan", "--group-by", "album", "--from", folder, "--folder", folder / "set")
    with pytest.raises(UsageError, match="--labels goes with genres"):
        run("index", clips / "annotations_final.csv", "--labels", "guitar", "-o", clips / "m.csv")
    with pytest.raises(UsageError, match="takes no --number"):
        run("index", folder / "music", "-o", folder / "m.csv")
        run("split", folder / "m.csv", "--protocol", "track", "--number", "1")


def test_no_terminal_obeys_what_a_manifest_says(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    (tmp_path / "b.wav").write_bytes(b"no sound")
    rows = [
        "a.wav,a\x1b[31m,x,gr\x1b[2Jp,train",
        "b.wav,b\x1b[31m,y,gr\x1b[2Jp,test",
    ]
    (tmp_path / "m.csv").write_text("\n".join(["path,track_id,label,group,split", *rows, ""]))
    for command in ("audit", "validate"):
        done = cli.run("data", command, tmp_path / "m.csv")
        assert done.returncode == 1 and rb"\x1b[" in done.stdout and b"\x1b" not in done.stdout + done.stderr
