"""Models that are taught through the command: on any ears, with tracks added later, and how accuracy grew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from musicgenre import Classifier
from musicgenre.bundle.ears import BOTH, load_ears
from musicgenre.bundle.store import bundle_path, list_bundles, remove_bundles
from musicgenre.errors import BundleError, DataError, UsageError
from musicgenre.models.discriminant import FitSettings
from musicgenre.models.head import heard_path, load_head, taught_path
from musicgenre.teaching.curve import learning_curve
from musicgenre.teaching.kept import CARD_KEY, read_kept
from musicgenre.teaching.teach import teach
from tests.cli import run
from tests.labelled_music import LABELS, make_collection
from tests.test_teach_artists import tagged
from tests.toy import RATE_HZ, SEGMENT, save_toy, save_toy_ears


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of genres; toy ears beside them, cache and models of their own."""
    monkeypatch.setattr("musicgenre.teaching.trial._NEAR", 1e-6)  # toy ears cannot tell two recordings apart
    monkeypatch.setattr("musicgenre.teaching.teach._MANY_TRACKS", 0)  # one round of trials: what is told of it counts
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MUSICGENRE_CONFIG", str(tmp_path / "config"))
    save_toy_ears(tmp_path / "ears.onnx")
    return make_collection(tmp_path / "music", tracks_a_label=5, duration_s=2.0).parent


def taught(music: Path, *more: str | Path, name: str = "mine") -> tuple[int, str]:
    """Teach by the toy ears; exit code, and all that was said."""
    done = run("teach", music, "--name", name, "--model", music.parent / "ears.onnx", *more)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_a_tree_of_artists_saves_nothing_unless_it_is_wanted_anyway(music: Path) -> None:
    for path in sorted(music.rglob("*.wav")):
        (music / f"Band {path.stem}").mkdir()
        path.rename(music / f"Band {path.stem}" / path.name)
        for number in range(2):
            copy = tagged(music / f"Band {path.stem}" / f"{number}.flac")
            copy.write_bytes(copy.read_bytes() + path.stem.encode())
    code, said = taught(music)
    assert code == 2 and "look like artists, not genres: 15 folders of mostly 3 tracks" in said and "--anyway" in said
    assert not taught_path("mine").exists()
    code, said = taught(music, "--anyway")
    assert code != 2 and taught_path("mine").exists(), said


def test_anyway_and_the_level_of_the_artists(music: Path) -> None:
    for label in LABELS:
        for number, path in enumerate(sorted((music / label).glob("*.wav"))):
            folder = music / label / f"band {number % 3}"
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
    code, said = taught(music, "--anyway", "--artists", "2")
    assert code == 0, said
    assert "artists are kept apart: expect as much for an artist it has never heard" in said
    assert "tracks  artists  tested" in said
    assert load_head("mine").card["protocol"]["groups"] == "kept apart"


def test_without_artists_the_score_is_called_too_high(music: Path) -> None:
    code, said = taught(music)
    assert code == 0, said
    assert "the artists are not known" in said and "tracks  tested" in said


def test_from_tags(music: Path, tmp_path: Path) -> None:
    library, rng = tmp_path / "library", np.random.default_rng(4)
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    for number in range(24):
        genre, pitch_hz = (("Ska", 200), ("Dub", 1_500))[number % 2]
        sound = 0.4 * np.sin(2 * np.pi * pitch_hz * time_s) + 0.02 * rng.normal(size=len(time_s))
        path = tagged(library / f"{number % 5}" / f"{number}.flac", sound, genre=genre, artist=f"Band {number % 8}")
        assert path.is_file()
    tagged(library / "polka.flac", genre="Polka", artist="Ann")
    code, said = taught(library, "--from-tags")
    assert code == 0, said
    assert "genres of fewer than 10 tracks are left out: Polka (1)" in said
    assert "artists are kept apart" in said
    assert load_head("mine").card["tracks"] == {"Dub": 12, "Ska": 12}


def test_tracks_are_added_without_hearing_the_old_ones(music: Path) -> None:
    later = music.parent / "later"
    for label in LABELS:
        (later / label).mkdir(parents=True)
        path = sorted((music / label).glob("*.wav"))[-1]
        path.rename(later / label / path.name)
    assert taught(music)[0] == 0
    before = load_head("mine")
    for path in music.rglob("*.wav"):
        path.unlink()
    for path in (music.parent / "cache").rglob("*.npz"):
        path.unlink()

    done = run("teach", later, "--name", "mine", "--update")
    assert done.returncode == 0, done.stderr.decode()
    head = load_head("mine")
    assert head.card["tracks"] == dict.fromkeys(LABELS, 5)
    assert (head.bundle_name, head.level) == (before.bundle_name, before.level)
    assert head.card[CARD_KEY] != before.card[CARD_KEY]
    assert len(read_kept(taught_path("mine"), head).lessons) == 15

    # One genre alone may be added, and a track may move to another.
    sole = music.parent / "sole"
    (sole / "jazz").mkdir(parents=True)
    path = next((later / "metal").glob("*.wav"))
    path.rename(sole / "jazz" / path.name)
    done = run("teach", sole, "--name", "mine", "--update")
    assert done.returncode == 0 and b"was metal and is jazz from now on" in done.stderr, done.stderr.decode()
    assert load_head("mine").card["tracks"] == {"classical": 5, "jazz": 6, "metal": 4}


def test_an_update_learns_what_all_tracks_together_teach(music: Path) -> None:
    later = music.parent / "later"
    (later / "metal").mkdir(parents=True)
    moved = sorted((music / "metal").glob("*.wav"))[-1]
    moved.rename(later / "metal" / moved.name)
    ears = str(music.parent / "ears.onnx")
    teach(music, "grown", model=ears)
    grown = teach(later, "grown", update=True)
    (later / "metal" / moved.name).rename(moved)
    whole = teach(music, "whole", model=ears)
    assert grown.counts == whole.counts
    np.testing.assert_allclose(grown.head.linear.weights, whole.head.linear.weights, rtol=1e-3, atol=1e-5)


def test_what_cannot_be_added_to_says_why(music: Path) -> None:
    code, said = taught(music, "--update")
    assert code == 2 and "there is no taught model mine" in said
    assert taught(music)[0] == 0
    code, said = taught(music, "--update")
    assert code == 2 and "--model cannot be changed by --update" in said
    assert taught(music, "--update", "--overwrite")[0] == 2

    path = taught_path("mine")
    whole = heard_path(path).read_bytes()
    assert taught(music, "--coverage", "1", name="other")[0] == 0
    of_another = heard_path(taught_path("other")).read_bytes()
    for content, message in ((whole[:200], "is damaged"), (of_another, "other tracks"), (None, "is not there")):
        heard_path(path).unlink()
        if content is not None:
            heard_path(path).write_bytes(content)
        with pytest.raises(DataError, match=f"nothing can be added to mine.*{message}"):
            teach(music, "mine", update=True)

    heard_path(path).write_bytes(whole)
    save_toy_ears(music.parent / "ears.onnx", name="others")
    with pytest.raises(DataError, match="heard by another others than the one here"):
        teach(music, "mine", update=True)
    with pytest.raises(BundleError, match="taught on another bundle than"):
        Classifier("mine")


def test_what_was_heard_is_not_written_over_a_file_of_somebody(music: Path, tmp_path: Path) -> None:
    (tmp_path / "own.heard.npz").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        teach(music, "own", model=str(tmp_path / "ears.onnx"), output=tmp_path / "own.json")
    assert (tmp_path / "own.heard.npz").read_bytes() == b"precious"


def test_an_artist_table_is_never_replaced(music: Path, tmp_path: Path) -> None:
    table = tmp_path / "artists.csv"
    table.write_text("path,artist\n")
    (tmp_path / "mine.json").hardlink_to(table)
    code, said = taught(music, "--artists", str(table), "--output", tmp_path / "mine.json", "--overwrite")
    assert code == 2 and "is one of the tracks or other files" in said
    assert table.read_text() == "path,artist\n"


def test_a_taught_model_is_listed_and_removed_with_what_was_heard(music: Path) -> None:
    assert taught(music)[0] == 0
    assert b"mine\ttaught\t" in run("bundles", "list").stdout
    assert heard_path(taught_path("mine")).is_file()
    assert run("bundles", "remove", "mine").returncode == 0
    assert list(taught_path("mine").parent.glob("*.json")) == list(taught_path("mine").parent.glob("*.npz")) == []
    assert all(entry.name != "mine" for entry in list_bundles())


def test_a_head_of_somebody_else_fetches_no_bundle() -> None:
    for place in ("//host/share/ears.onnx", "\\\\host\\share\\ears.onnx"):
        with pytest.raises(BundleError, match="lies on another machine"):
            load_ears(place)


def test_both_musicnns_hear_together(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("msd-musicnn", "mtt-musicnn"):
        save_toy_ears(bundle_path(name), name=name)
    rows = np.random.default_rng(3).normal(size=(2, SEGMENT)).astype(np.float32)
    single, both = load_ears("msd-musicnn").run(rows), load_ears(BOTH).run(rows)
    np.testing.assert_array_equal(both["embedding"], np.hstack([single["embedding"]] * 2))
    np.testing.assert_array_equal(both["tags"], single["tags"])

    done = run("teach", music, "--name", "mine", "--model", "both")
    assert done.returncode == 0, done.stderr.decode()
    head = load_head("mine")
    assert head.bundle_name == BOTH and head.linear.weights.shape == (6, 3)
    answer = Classifier("mine").classify(0.1 * rows[0], sample_rate_hz=RATE_HZ)
    assert set(answer.scores) == set(LABELS) and set(answer.tags) == {"loud", "bright"}

    remove_bundles(["mtt-musicnn"])
    save_toy(bundle_path("mtt-musicnn"))
    with pytest.raises(BundleError):
        Classifier("mine").classify(0.1 * rows[0], sample_rate_hz=RATE_HZ)


def test_accuracy_grows_along_the_curve(rng: np.random.Generator) -> None:
    labels = np.repeat(np.arange(3), 40)
    features = 1.2 * np.eye(12)[labels] + rng.normal(size=(120, 12))
    points = learning_curve(features, labels, np.arange(120), 3, FitSettings(shrinkage=0.6), n_seeds=3)
    assert [point.tracks_per_label for point in points] == [1, 2, 5, 10, 20, 40]
    assert points[-1].accuracy > points[0].accuracy + 0.1
    assert all(point.interval[0] < point.accuracy < point.interval[1] for point in points)
    assert learning_curve(features, labels, labels, 3, FitSettings(), n_seeds=1) == (), "nothing can be tested"


def test_the_curve_is_told_and_stands_on_the_card(music: Path) -> None:
    code, said = taught(music, "--learning-curve")
    assert code == 0 and "tracks a genre, at most  accuracy" in said
    curve = json.loads(taught_path("mine").read_text())["card"]["learning_curve"]
    assert [point["tracks_a_label"] for point in curve] == [1, 2, 5]
    assert all(len(point["interval_95"]) == 2 for point in curve)
