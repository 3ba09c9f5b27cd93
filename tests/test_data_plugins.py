"""A data set and a protocol of somebody else's: each is one registration, and every command knows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from musicgenre.cli import app
from musicgenre.data.index import Index, Progress, with_artists
from musicgenre.data.manifest import Manifest, Track, read_manifest
from musicgenre.data.sets import registry as sets
from musicgenre.data.splits import registry as protocols
from musicgenre.data.splits import split
from musicgenre.errors import MusicgenreError, UsageError
from musicgenre.evaluation.protocols import SplitCheck, caveats
from tests.sounds import music


def index_whistles(
    source: Path, *, artists: Mapping[str, str] | None = None, progress: Progress | None = None
) -> Index:
    """The documented form, and no more: every file is a track, its first letter the genre."""
    files = sorted(source.glob("*.wav"))
    manifest = Manifest(None, tuple(Track(path.stem, path, path.stem[0]) for path in files))
    if progress:
        progress(len(files), len(files))
    return Index(manifest if artists is None else with_artists(manifest, artists))


def split_by_name(manifest: Manifest, *, seed: int, first: str = "a", size: float = 0.5) -> Manifest:
    """Tracks whose name begins so are tested; the others train."""
    parts = {track.track_id: "test" if track.track_id.startswith(first) else "train" for track in manifest.tracks}
    return manifest.with_tracks(
        Track(track.track_id, track.path, track.label, split=parts[track.track_id]) for track in manifest.tracks
    )


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The two registrations, taken back at the end."""
    sets.list_sets(), protocols.list_protocols()
    monkeypatch.setattr(sets._SETS, "_entries", dict(sets._SETS._entries))
    monkeypatch.setattr(protocols._PROTOCOLS, "_entries", dict(protocols._PROTOCOLS._entries))
    sets.register(
        sets.DataSet(
            name="whistles",
            title="Whistles of the street",
            licence="CC0",
            citation="nobody",
            origin="the street",
            size_bytes=1000,
            n_tracks=4,
            labels=("a", "b"),
            archives=(),
            index=index_whistles,
        )
    )
    protocols.register(
        "by-name", summary="By the first letter.", comparable="Nothing.", caveat="names decide what is tested"
    )(split_by_name)
    yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, name in enumerate(("a1", "a2", "b1", "b2")):
        soundfile.write(tmp_path / f"{name}.wav", music(0.1, 8000, 1, seed=n), 8000)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if isinstance(result.exception, MusicgenreError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_every_command_knows_a_data_set_whose_index_has_the_documented_form(folder: Path) -> None:
    assert "Whistles of the street" in run("info", "whistles").stdout
    got = run("get", "whistles", "--from", folder, "--output", folder / "m.csv", "--labels", "a")
    assert got.exit_code == 0
    assert read_manifest(folder / "m.csv").labels == ("a",)
    with pytest.raises(UsageError, match="whistles takes no --tags"):
        run("get", "whistles", "--from", folder, "--output", folder / "n.csv", "--tags", "all")
    sums = folder / "sums.csv"
    rows = [f"{path.stem},{hashlib.md5(path.read_bytes()).hexdigest()}" for path in sorted(folder.glob("*.wav"))]
    sums.write_text("track_id,md5\n" + "\n".join(rows) + "\n")
    whole = run("validate", "--set", "whistles", folder, "--index", sums)
    assert whole.exit_code == 0
    assert "4 tracks checked, 4 against a checksum" in whole.stderr
    (folder / "b2.wav").unlink()
    assert "missing\tb2" in run("validate", "--set", "whistles", folder, "--index", sums).stdout


def test_options_of_a_data_set_are_the_keywords_of_its_index(folder: Path) -> None:
    own = sets.get_set("whistles")
    assert own.options == ()
    assert len(own.list_tracks(folder).manifest) == 4
    with pytest.raises(UsageError, match="whistles takes no option 'tags'"):
        own.list_tracks(folder, tags="all")
    assert sets.get_set("gtzan").options == ("labels", "pictures", "checksums")


def test_options_of_a_protocol_are_set_by_name(folder: Path) -> None:
    manifest = folder / "m.csv"
    run("get", "whistles", "--from", folder, "--output", manifest)
    assert "--set first=VALUE, --set size=VALUE" in run("info", "by-name").stdout
    done = run("split", manifest, "--protocol", "by-name", "--set", "first=b", "--set", "size=1")
    assert done.exit_code == 0
    assert {track.track_id: track.split for track in read_manifest(manifest).tracks}["b1"] == "test"
    assert read_manifest(manifest).tracks[0].columns["protocol_options"] == "first=b;size=1"
    with pytest.raises(UsageError, match=r"the protocol by-name cannot take first=3.*Valid: text"):
        run("split", manifest, "--protocol", "by-name", "--set", "first=3")
    with pytest.raises(UsageError, match="the protocol by-name takes no --folds"):
        run("split", manifest, "--protocol", "by-name", "--set", "folds=3")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("folds=many", "cannot take folds='many'.*a whole number"),
        ("folds=2.5", "cannot take folds=2.5.*a whole number"),
        ("folds=true", "cannot take folds=True.*a whole number"),
        ("folds=[2]", r"cannot take folds=\[2\].*a whole number"),
        ("folds", "is not a setting"),
    ],
)
def test_settings_that_no_protocol_can_take_are_refused(folder: Path, setting: str, message: str) -> None:
    manifest = folder / "m.csv"
    run("get", "whistles", "--from", folder, "--output", manifest)
    with pytest.raises(UsageError, match=message):
        run("split", manifest, "--protocol", "kfold", "--set", setting)
    with pytest.raises(UsageError, match="--folds and --set folds say the same"):
        run("split", manifest, "--protocol", "kfold", "--set", "folds=2", "--folds", "2")


@pytest.mark.parametrize("size", ["nan", "inf", "-1", "1.5"])
def test_sizes_that_are_none_are_refused(folder: Path, size: str) -> None:
    manifest = folder / "m.csv"
    run("get", "whistles", "--from", folder, "--output", manifest)
    with pytest.raises(UsageError, match="is no size"):
        run("split", manifest, "--protocol", "track", f"--test-size={size}")


def test_reports_print_the_caveat_of_a_protocol() -> None:
    nothing = SplitCheck(n_test=4, n_shared_tracks=0, n_shared_groups=0)
    assert caveats("by-name", nothing) == ["names decide what is tested"]
    protocols.register("bare", summary="", comparable="")(split_by_name)
    assert caveats("bare", nothing) == ["nothing is known about artists on both sides"]
    assert caveats("nobody's", nothing)[0].startswith("the split is none of ours")


def test_names_are_taken_once() -> None:
    with pytest.raises(UsageError, match="two data sets are called 'whistles'"):
        sets.register(sets.get_set("whistles"))
    with pytest.raises(UsageError, match="two protocols are called 'by-name'"):
        protocols.register("by-name", summary="", comparable="")(split_by_name)
    two = Manifest(None, (Track("a", Path("a.wav"), "x"), Track("b", Path("b.wav"), "y")))
    assert [track.split for track in split(two, "by-name").tracks] == ["test", "train"]
