"""The commands prepare and augment, as a person runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre.audio import load
from musicgenre.augment.offline import replay
from musicgenre.cli._options import parse_settings
from musicgenre.data.manifest import Manifest, Track, read_manifest, write_manifest
from musicgenre.data.store import open_store
from musicgenre.errors import DataError, UsageError
from musicgenre.features.prepare import prepare
from musicgenre.features.registry import create_representation, representation_from_settings
from musicgenre.features.representations.columns import Columns
from musicgenre.features.representations.table import COLUMNS
from tests.cli import run

RATE_HZ = 22_050


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    tracks = []
    for index in range(8):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.2 * rng.standard_normal(RATE_HZ * (index % 2 + 1)), RATE_HZ)
        split = ("train", "train", "validation", "test")[index % 4]
        tracks.append(Track(f"t{index}", path, "ab"[index // 4], split=split))
    write_manifest(Manifest(None, tuple(tracks)), tmp_path / "m.csv")
    return tmp_path


def prepared(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = run("prepare", "m.csv", "--jobs", "1", *arguments, cwd=folder, env={"MUSICGENRE_CACHE": str(folder / "c")})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_prepare_says_what_it_computed_and_reused(folder: Path) -> None:
    options = ("--representation", "mfcc", "--segment", "0.5", "--hop", "0.25", "--set", "n_mfcc=5")
    code, out, _ = prepared(folder, *options)
    assert code == 0
    assert "8 tracks, 40 rows in m-mfcc (8 computed, 0 reused, 0 skipped" in out
    assert "0 computed, 8 reused" in prepared(folder, *options)[1]
    store = open_store(folder / "m-mfcc")
    assert (store.shape, store.segment_s, store.hop_s) == ((22, 5), 0.5, 0.25)
    assert representation_from_settings(store.representation).shape() == store.shape
    times = store.of_tracks(["t1"]).starts_s
    np.testing.assert_allclose(times, np.arange(7) * 0.25, atol=1e-4)


def test_clips_shorter_than_a_segment_are_named_each_time(folder: Path) -> None:
    soundfile.write(folder / "3.wav", np.zeros(1102), RATE_HZ)
    options = ("--representation", "mfcc", "--segment", "0.5")
    for _ in range(2):  # the second time it comes from the cache
        code, _, err = prepared(folder, *options)
        assert code == 0
        assert "t3: " in err and "is 0.05 s long, shorter than a segment of 0.5 s" in err
        assert "t2: " not in err


def test_rows_are_the_representation_of_their_segment(folder: Path) -> None:
    manifest = read_manifest(folder / "m.csv")
    mfcc = create_representation("mfcc", segment_s=0.5)
    view = prepare(manifest, mfcc, folder / "s", cache=folder / "c").open().of_tracks(["t1"])
    waveform = load(folder / "1.wav", RATE_HZ).waveform
    for row, start_s in enumerate(view.starts_s):
        start = round(start_s * RATE_HZ)
        np.testing.assert_array_equal(view.features[row], mfcc.compute(waveform[start : start + RATE_HZ // 2]))
    with pytest.raises(UsageError, match=r"segments of 0\.5 s"):
        prepare(manifest, mfcc, folder / "s", segment_s=3.0, cache=folder / "c")


def test_a_corrupt_track_is_skipped_listed_and_the_exit_code_says_so(folder: Path) -> None:
    (folder / "3.wav").write_bytes(b"RIFF....WAVEnot really")
    code, out, err = prepared(folder, "--representation", "melspectrogram", "--segment", "0.5")
    assert code == 1
    assert "7 tracks" in out
    assert "1 skipped" in out
    assert "t3: " in err
    assert err.count("3.wav") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--representation", "mfccs"), "Nearest: 'mfcc'"),
        (("--representation", "mfcc", "--set", "n_mfc=5"), "n_mfc"),
        (("--representation", "mfcc", "--set", "n_mfcc"), "--set key=value"),
        (("--representation", "mfcc", "--set", "segment_s=long"), "cannot be made with segment_s='long'"),
        (("--representation", "transformer"), "needs the option model"),
        (("--representation", "mfcc", "--dtype", "float64"), "float16"),
        (("--representation", "columns"), "the representations 'table' and 'musicnn' compute theirs"),
    ],
)
def test_misuse_is_named(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = prepared(folder, *arguments)
    assert code == 2
    assert words.lower() in err.lower()


def test_augment_then_prepare(folder: Path) -> None:
    done = run("augment", "m.csv", "--chain", "A3", "--only", "Shift", "--seed", "5", "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    written = folder / "m-a3[Shift]" / "manifest.csv"
    assert b"12 rows (4 written, 0 there before, 0 skipped" in done.stdout
    manifest = read_manifest(written)
    copy = next(track for track in manifest.tracks if track.augmented)
    np.testing.assert_array_equal(replay(copy, folder / "0.wav"), load(copy.path, RATE_HZ).waveform)
    options = ("--representation", "mfcc", "--segment", "0.5", "--jobs", "1", "--output", "s", "--cache", "c")
    assert run("prepare", written, *options, cwd=folder).returncode == 0
    store = open_store(folder / "s")
    assert store.part("train").augmented.mean() == 0.5
    assert not store.part("test").augmented.any()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0.5", 0.5),
        ("[1, 2]", [1, 2]),
        ("true", True),
        ("None", None),
        ("null", None),
        ("none", "none"),
        ("reflect", "reflect"),
        ("a=b", "a=b"),
        ("{[]: 1}", "{[]: 1}"),
        ("[" * 5_000, "[" * 5_000),
    ],
)
def test_settings_become_values(text: str, value: object) -> None:
    assert parse_settings([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize("text", ["{1, 2}", "b'x'", "...", "1j", f"0x{'f' * 9_000}", "[{5: 6}]", "'\\ud800'"])
def test_settings_that_no_option_takes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--set key has the value .* Valid: text, a number up to 2\^64"):
        parse_settings([f"key={text}"])


def test_columns_read_the_manifest(tmp_path: Path) -> None:
    values = {name: str(index / 2) for index, name in enumerate(COLUMNS)}
    manifest = Manifest(None, (Track("x", tmp_path / "t.csv", "a", columns=values),))
    view = prepare(manifest, Columns(), tmp_path / "s").open().part("all")
    assert view.features[0].tolist() == [index / 2 for index in range(57)]
    some = Columns(names="tempo, rms_var")
    assert some.compute_columns(values).tolist() == [float(values["tempo"]), float(values["rms_var"])]
    for bad in ("", "fast", "nan", "inf"):
        with pytest.raises(DataError, match="tempo holds"):
            some.compute_columns({**values, "tempo": bad})
    with pytest.raises(UsageError, match="twice"):
        Columns(names=["tempo", "tempo"])


def test_columns_can_be_computed_from_sound(rng: np.random.Generator) -> None:
    waveform = (0.1 * rng.standard_normal(RATE_HZ * 2)).astype(np.float32)
    table = create_representation("table").compute(waveform)
    picked = create_representation("columns", names=["tempo", "rms_mean"]).compute(waveform)
    assert picked.tolist() == [table[COLUMNS.index("tempo")], table[COLUMNS.index("rms_mean")]]
    with pytest.raises(UsageError, match="danceability"):
        Columns(names=["danceability"]).compute(waveform)


@pytest.mark.real_data
def test_real_tracks_pictures_and_columns(shared_data: Path, tmp_path: Path) -> None:
    sounds = sorted(shared_data.glob("gtzan-mini/genres/*/*.wav"))[::25]
    tracks = tuple(Track(path.stem, path, path.parent.name, split="train") for path in sounds)
    mfcc = prepare(Manifest(None, tracks), create_representation("mfcc"), tmp_path / "s", cache=tmp_path / "c")
    assert mfcc.open().part("train").features.shape == (mfcc.n_rows, 130, 13)
    assert 9 * len(tracks) <= mfcc.n_rows <= 10 * len(tracks)
    pictures = sorted(shared_data.glob("gtzan-spectrogram-png/*/*.png"))[::200]
    tracks = tuple(Track(path.stem, path, path.parent.name) for path in pictures)
    front_end = create_representation("picture", source="file", crop=[10, 9, 506, 379], size=64)
    view = prepare(Manifest(None, tracks), front_end, tmp_path / "p", cache=tmp_path / "c").open().part("all")
    assert view.features.shape == (len(pictures), 3, 64, 64)
