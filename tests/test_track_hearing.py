"""Models that know the whole track hear at classification time what they heard in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicgenre import Classifier, audio
from musicgenre.bundle.load import load_bundle
from musicgenre.errors import AudioError, BundleError, RecipeError, UsageError
from musicgenre.exporting.export import Exported, export_run
from musicgenre.features.base import TrackSound
from musicgenre.features.representations.joined import Joined
from musicgenre.listening import track_hearing
from musicgenre.listening.framing import Coverage, Framing
from musicgenre.listening.hearing import Outputs
from musicgenre.listening.track_hearing import TrackEar
from musicgenre.runs.folder import open_run
from musicgenre.runs.predictions import read_predictions
from musicgenre.training.material import gather_material
from musicgenre.training.recipes import load_recipe
from musicgenre.training.train import train
from tests.labelled_music import LABELS, TAGS, make_collection, make_tagged
from tests.sounds import music, write

pytestmark = pytest.mark.usefixtures("checked_on_short_tracks")

RATE_HZ = 16_000
SETTINGS = [
    "data.labels=[]",
    "training.epochs=2",
    "training.learning_rate=0.01",
    "protocol.options={test_size: 0.34, validation_size: 0.17}",
    "model.options={net: cnn1d, bands: 16, n_embedding: 57, net_options: {channels: [8, 8]}}",
]
PARTS = (
    "representation.options.parts=[{name: melspectrogram, preset: a5, segment_s: 1.0, n_mels: 16}, "
    "{name: table, whole_track: true}]"
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("music"), duration_s=3.4)


@pytest.fixture(scope="module")
def run(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MUSICGENRE_CACHE", str(folder / "cache"))
        return train("fusion-cnn2d-msd-segments", collection, output=folder / "run", overrides=[*SETTINGS, PARTS])


@pytest.fixture(scope="module")
def exported(run: Path) -> Exported:
    return export_run(run)


def test_a_fused_bundle_answers_as_the_run_did(run: Path, exported: Exported, collection: Path) -> None:
    assert exported.largest_difference <= 1e-3 and len(exported.checked_on) == 5
    classifier = Classifier(str(exported.path), coverage="full", threads=1)
    predictions = read_predictions(run / "predictions_test.csv")
    tracks = predictions.by_track()
    assert len(predictions) == 3 * len(tracks), "of 1 s; the rest is heard by the whole-track part alone"
    for track_id, expected in zip(tracks.track_ids, tracks.scores, strict=True):
        path = collection.parent / track_id.split(".")[0] / f"{track_id}.wav"
        answer = classifier.classify(path)
        assert [answer.scores[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-3)
        assert len(answer.timeline) == 3
        samples, rate_hz = soundfile.read(path, dtype="float32")
        again = classifier.classify(samples, sample_rate_hz=rate_hz)
        assert again.scores == pytest.approx(answer.scores, abs=1e-5)


def test_without_a_segment_length_a_short_track_is_heard_at_once(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    parts = "representation.options.parts=[{name: musicnn, output: tags, weights: none}, {name: table}]"
    run = train(
        "musicnn-tags-table-logistic-regression", collection, output=tmp_path / "run", overrides=[SETTINGS[3], parts]
    )
    classifier = Classifier(str(export_run(run).path), coverage="full", threads=1)
    tracks = read_predictions(run / "predictions_test.csv")
    assert len(tracks) == tracks.n_tracks == 6, "3.4 s each, one row"
    for track_id, expected in zip(tracks.track_ids, tracks.scores, strict=True):
        answer = classifier.classify(collection.parent / track_id.split(".")[0] / f"{track_id}.wav")
        assert [answer.scores[label] for label in LABELS] == pytest.approx(expected.tolist(), abs=1e-3)


def test_the_whole_track_counts(exported: Exported, collection: Path) -> None:
    """The same segment in another track gets another answer."""
    bundle = load_bundle(exported.path, threads=1)
    paths = [collection.parent / label / f"{label}.00000.wav" for label in ("jazz", "metal")]
    jazz, metal = (audio.load(path, RATE_HZ).waveform for path in paths)
    alone = bundle.run_track(TrackSound.of_waveform(jazz, RATE_HZ), [0.0], None)["logits"]
    followed = TrackSound.of_waveform(np.concatenate([jazz, metal, metal]), RATE_HZ)
    assert np.abs(bundle.run_track(followed, [0.0], None)["logits"] - alone).max() > 0.01


def test_the_card_says_what_it_needs(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exported.card.extra == "features" and "all that is heard of the track" in exported.card.notes
    bundle = load_bundle(exported.path, threads=1)
    with pytest.raises(UsageError, match="cannot be run on segments alone"):
        bundle.run(np.zeros((1, bundle.card.segment_samples), np.float32))

    def absent(representation: object) -> None:
        raise BundleError("the weights are not here", next_step="Get them with: musicgenre bundles get")

    monkeypatch.setattr(Joined, "make_ready", absent)
    with pytest.raises(BundleError, match="musicgenre bundles get"):
        load_bundle(exported.path)


def test_online_augmentation_of_segments_cannot_know_the_track(collection: Path) -> None:
    settings = [*SETTINGS, PARTS, "augmentation.online.waveform=b2"]
    with pytest.raises(RecipeError, match=r"knows the whole track.*augmentation\.offline"):
        gather_material(load_recipe("fusion-cnn2d-msd-segments", settings), collection)


class Spy:
    """Stands for a network: keeps what it was given."""

    def __init__(self, rates_hz: tuple[int, ...] = (RATE_HZ, 8_000)) -> None:
        self.rates_hz = rates_hz

    def __call__(self, track: TrackSound, starts_s: Sequence[float], segment_s: float | None) -> Outputs:
        self.heard = [track.at(rate_hz) for rate_hz in self.rates_hz]
        self.starts_s, self.segment_s = list(starts_s), segment_s
        return {"logits": np.zeros((len(starts_s), 2), np.float32)}


FRAMING = Framing(RATE_HZ, 2 * RATE_HZ, 2 * RATE_HZ, repeat_short=False)


@pytest.fixture(scope="module")
def long_track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-one seconds: ten segments of two."""
    return write(tmp_path_factory.mktemp("long") / "long.flac", music(21.0, channels=1))


def test_everything_heard_is_the_whole_track(long_track: Path) -> None:
    spy = Spy()
    heard = TrackEar(FRAMING, Coverage(None), spy).hear(long_track)
    assert heard.indices == list(range(10)) and spy.starts_s == [2.0 * k for k in range(10)]
    for sound, rate_hz in zip(spy.heard, spy.rates_hz, strict=True):
        assert np.array_equal(sound, audio.load(long_track, rate_hz).waveform), "each rate once, from the file"
    assert spy.segment_s == 2.0 and heard.duration_s == pytest.approx(21.0)


def test_with_less_the_heard_pieces_are_the_track(long_track: Path) -> None:
    spy = Spy()
    heard = TrackEar(FRAMING, Coverage(8.0), spy).hear(long_track)
    assert heard.indices == [1, 3, 6, 8] and spy.starts_s == [0.0, 2.0, 4.0, 6.0]
    for sound, rate_hz in zip(spy.heard, spy.rates_hz, strict=True):
        whole = audio.load(long_track, rate_hz).waveform
        n = 2 * rate_hz
        assert np.allclose(sound, np.concatenate([whole[k * n : (k + 1) * n] for k in heard.indices]), atol=1e-4)
    samples, rate_hz = soundfile.read(long_track, dtype="float32")
    again = Spy()
    TrackEar(FRAMING, Coverage(8.0), again).hear(samples, sample_rate_hz=rate_hz)
    assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(spy.heard, again.heard, strict=True))


def test_overlapping_segments_are_heard_once(long_track: Path) -> None:
    spy = Spy()
    framing = Framing(RATE_HZ, 2 * RATE_HZ, RATE_HZ, repeat_short=False)  # a segment every second
    heard = TrackEar(framing, Coverage(12.0), spy).hear(long_track)
    whole = audio.load(long_track, RATE_HZ).waveform
    seconds = sorted({second for index in heard.indices for second in (index, index + 1)})
    assert len(seconds) < 2 * len(heard.indices)
    expected = np.concatenate([whole[second * RATE_HZ : (second + 1) * RATE_HZ] for second in seconds])
    assert np.allclose(spy.heard[0], expected, atol=1e-4)
    for index, start_s in zip(heard.indices, spy.starts_s, strict=True):
        first = round(start_s * RATE_HZ)
        segment = whole[index * RATE_HZ : (index + 2) * RATE_HZ]
        assert np.allclose(spy.heard[0][first : first + 2 * RATE_HZ], segment, atol=1e-4)


def test_short_long_and_broken_tracks(long_track: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy()
    short = write(tmp_path / "short.wav", music(0.7, channels=1))
    heard = TrackEar(FRAMING, Coverage(None), spy).hear(short)
    assert heard.indices == [0] and spy.segment_s is None and "only 0.70 s long" in heard.warnings[0]
    monkeypatch.setattr(track_hearing, "LONGEST_S", 12.0)
    heard = TrackEar(FRAMING, Coverage(None), spy).hear(long_track)
    assert len(heard.indices) == 6 and "21 s long: 12 s of it were heard" in heard.warnings[-1]
    endless = write(tmp_path / "endless.aac", music(5.0, channels=1))
    heard = TrackEar(FRAMING, Coverage(None), spy).hear(endless)
    assert heard.indices[:2] == [0, 1] and heard.duration_s == pytest.approx(5.0, abs=0.2)
    cut_off = tmp_path / "cut.wav"
    whole = write(tmp_path / "whole.wav", music(21.0, channels=1)).read_bytes()
    cut_off.write_bytes(whole[: len(whole) // 2])
    heard = TrackEar(FRAMING, Coverage(6.0), spy).hear(cut_off)
    assert heard.indices and max(heard.indices) < 5
    with pytest.raises(AudioError, match="without its sample rate"):
        TrackEar(FRAMING, Coverage(None), spy).hear(np.zeros(10, np.float32))
    with pytest.raises(AudioError, match="was given for a"):
        TrackEar(FRAMING, Coverage(None), spy).hear(long_track, sample_rate_hz=8_000)
    with pytest.raises(AudioError):
        TrackEar(FRAMING, Coverage(None), spy).hear(tmp_path / "absent.wav")


def test_a_fused_tagger_hears_the_whole_track_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGENRE_CACHE", str(tmp_path / "cache"))
    manifest = make_tagged(tmp_path, duration_s=3.4)
    settings = [setting for setting in SETTINGS if not setting.startswith("data.labels")]
    settings += [PARTS, "task=multi_label", "training.monitor=validation_loss", "data.labels=[bright, dark, loud]"]
    made = train("fusion-cnn2d-msd-segments", manifest, output=tmp_path / "run", overrides=settings)
    exported = export_run(made)
    assert exported.largest_difference <= 1e-3
    classifier = Classifier(str(exported.path), coverage="full", threads=1)
    expected = open_run(made).tag_predictions("test").by_track()
    for track_id, scores in zip(expected.track_ids, expected.scores, strict=True):
        answer = classifier.classify(tmp_path / "tagged" / f"{track_id}.wav")
        calibrated = exported.card.tag_scales
        assert answer.names_tags and not answer.genre and set(answer.tags) == set(TAGS)
        if not calibrated:  # too few validation tracks to calibrate: the run's own probabilities
            assert [answer.tags[tag] for tag in expected.labels] == pytest.approx(scores.tolist(), abs=1e-3)
