"""One gain a track brings it to the level that its model names, and a model without a level hears it as it is."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from musicgenre import Classifier, audio
from musicgenre.audio import AS_IT_IS, Level, level_db, parse_level
from musicgenre.audio.level import MOST_GAIN_DB, QUIETEST_DB
from musicgenre.bundle.card import BundleCard
from musicgenre.errors import BundleError, UsageError
from musicgenre.features.base import TrackSound
from musicgenre.listening.framing import Coverage, Framing
from musicgenre.listening.hearing import Ear, Outputs
from musicgenre.listening.track_hearing import TrackEar
from musicgenre.models.head import GenreHead
from tests.test_head import small_head
from tests.toy import save_toy

RATE_HZ = 8_000
FRAMING = Framing(RATE_HZ, segment_samples=RATE_HZ, hop_samples=RATE_HZ)
LEVEL = Level(-20.0)


def echo(rows: np.ndarray) -> Outputs:
    """Give back what the network is given."""
    return {"rows": rows.copy()}


def sound(seconds: float = 6.0, seed: int = 1) -> np.ndarray:
    """Make noise that swells, near -20 dBFS."""
    n = round(seconds * RATE_HZ)
    noise = np.random.default_rng(seed).standard_normal(n) * np.linspace(0.05, 0.15, n)
    return noise.astype(np.float32)


@given(gain_db=st.floats(-35, 60), coverage=st.sampled_from([None, 1.0, 2.0, 3.0]))
def test_the_gain_of_a_track_changes_nothing_of_what_is_heard(gain_db: float, coverage: float | None) -> None:
    ear = Ear(FRAMING, Coverage(coverage), echo, level=LEVEL)
    plain = ear.hear(sound(), sample_rate_hz=RATE_HZ)
    turned = ear.hear(sound() * np.float32(10 ** (gain_db / 20)), sample_rate_hz=RATE_HZ)
    np.testing.assert_allclose(turned.outputs["rows"], plain.outputs["rows"], rtol=1e-4, atol=1e-6)
    assert not turned.is_too_quiet
    assert level_db(list(turned.outputs["rows"])) == pytest.approx(LEVEL.target_db, abs=1e-3)


@given(samples=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=200))
def test_the_level_is_that_of_all_pieces_together(samples: list[float]) -> None:
    whole = np.array(samples, np.float32)
    power = np.square(whole, dtype=np.float64).mean()
    expected = 10 * np.log10(power) if power > 0 else -np.inf
    assert level_db([whole]) == pytest.approx(expected)
    assert level_db(iter([whole[:3], whole[3:]])) == pytest.approx(expected)


def test_the_level_of_known_sounds() -> None:
    turns = np.arange(RATE_HZ) / 40 * 2 * np.pi
    assert level_db([np.sin(turns).astype(np.float32)]) == pytest.approx(-3.01, abs=0.01)
    assert level_db([np.full(10, -1, np.float32)]) == 0
    assert level_db([np.full(10, 3e38, np.float32)]) == pytest.approx(769.5, abs=0.1)
    assert level_db([]) == level_db([np.zeros(5, np.float32)]) == -np.inf


@given(measured_db=st.floats(-300, 300), target_db=st.floats(-60, 0), most_gain_db=st.floats(0, 120))
def test_no_track_is_turned_up_by_more_than_the_cap(measured_db: float, target_db: float, most_gain_db: float) -> None:
    steady = np.array([10 ** (measured_db / 20)], np.float32)
    gain = Level(target_db, most_gain_db).gain([steady])
    assert 0 <= gain.factor <= 10 ** (most_gain_db / 20) * (1 + 1e-9)
    assert gain.is_too_quiet == (gain.measured_db < QUIETEST_DB) == bool(gain.warnings)


def test_quiet_tracks_are_turned_up_to_the_cap_only() -> None:
    gain = Level(-10.0, most_gain_db=20.0).gain([np.full(9, 10 ** (-50 / 20), np.float32)])
    assert gain.factor == pytest.approx(10.0)
    assert not gain.is_too_quiet


@pytest.mark.parametrize(("amplitude", "measured"), [(0.0, "silence"), (1e-4, "-80.0 dBFS")])
def test_what_is_too_quiet_is_said(amplitude: float, measured: str) -> None:
    heard = Ear(FRAMING, Coverage(2.0), echo, level=LEVEL).hear(
        np.full(5 * RATE_HZ, amplitude, np.float32), sample_rate_hz=RATE_HZ
    )
    assert heard.is_too_quiet
    warning = f"too quiet to answer: {measured} in what was heard, and -60 dBFS are needed"
    assert warning in heard.warnings
    assert np.isfinite(heard.outputs["rows"]).all()


def test_a_model_without_a_level_hears_the_very_samples() -> None:
    waveform = sound() * np.float32(1e-3)  # -80 dBFS
    assert AS_IT_IS.apply(waveform) is waveform
    heard = Ear(FRAMING, Coverage(None), echo).hear(waveform, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(heard.outputs["rows"].ravel(), waveform)
    assert not heard.is_too_quiet and not heard.warnings


@pytest.mark.parametrize("coverage", [2.0, None])
def test_only_what_is_heard_counts_and_a_file_is_as_its_samples(tmp_path: Path, coverage: float | None) -> None:
    samples = sound()
    samples[: RATE_HZ // 2] = 1.0  # loud where two seconds of six do not hear it
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
    ear = Ear(FRAMING, Coverage(coverage), echo, level=LEVEL)
    of_file = ear.hear(path).outputs["rows"]
    of_array = ear.hear(samples, sample_rate_hz=RATE_HZ).outputs["rows"]
    np.testing.assert_allclose(of_file, of_array, atol=1e-6)
    assert level_db(list(of_file)) == pytest.approx(LEVEL.target_db, abs=1e-3)


def test_a_stream_has_the_gain_of_the_whole_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(10.5), RATE_HZ, subtype="FLOAT")
    ear = Ear(FRAMING, Coverage(None), echo, level=LEVEL)
    at_once = ear.hear(path)
    monkeypatch.setattr("musicgenre.listening.hearing._LOAD_AT_MOST_S", 5.0)
    streamed = ear.hear(path)
    assert streamed.indices == at_once.indices
    np.testing.assert_allclose(streamed.outputs["rows"], at_once.outputs["rows"], rtol=1e-5)


def test_pieces_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(), RATE_HZ)
    calls = []

    def load_spans(*words: object) -> audio.Spans:
        calls.append(words)
        return decode(*words)

    decode = audio.load_spans
    monkeypatch.setattr(audio, "load_spans", load_spans)
    Ear(FRAMING, Coverage(2.0), echo, level=LEVEL).hear(path)
    assert len(calls) == 1


@pytest.mark.parametrize("coverage", [2.0, None])
def test_models_of_whole_tracks_hear_one_gain_at_every_rate(coverage: float | None) -> None:
    def run(track: TrackSound, starts_s: object, segment_s: object) -> Outputs:
        return {"levels": np.array([[level_db([track.at(rate)]) for rate in (RATE_HZ, 4_000)]], np.float32)}

    ear = TrackEar(FRAMING, Coverage(coverage), run, level=LEVEL)
    quiet, loud = (
        ear.hear(sound() * np.float32(factor), sample_rate_hz=RATE_HZ).outputs["levels"] for factor in (0.02, 5)
    )
    np.testing.assert_allclose(quiet, loud, atol=1e-3)
    assert quiet[0, 0] == pytest.approx(LEVEL.target_db, abs=1e-3)
    assert ear.hear(np.zeros(3 * RATE_HZ, np.float32), sample_rate_hz=RATE_HZ).is_too_quiet


def test_the_level_that_is_asked_for() -> None:
    assert parse_level(None) == "model"
    assert parse_level("off") == "off"
    assert parse_level("-18") == parse_level(-18) == Level(-18.0)


@pytest.mark.parametrize("value", ["loud", "3", "-61", "nan", "-inf", ""])
def test_a_level_that_cannot_be_used_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"level {value!r} cannot be used")):
        parse_level(value)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"target_db": "loud"},
        {"target_db": True},
        {"target_db": -20, "most_gain_db": 1e6},
        {"target_db": 3},
        {"target_db": float("nan")},
        {"target_db": -20, "method": "ear"},
        {"target_db": -20, "method": []},
        {"target_db": -20, "window": 3},
        [-20],
        None,
        "rms",
    ],
)
def test_a_damaged_level_is_refused(values: object) -> None:
    with pytest.raises(BundleError, match="level"):
        Level.from_values(values, "song.json")


def test_heads_keep_their_level_and_those_without_one_are_written_as_before() -> None:
    levelled = small_head(level=Level(-17.5))
    assert GenreHead.from_json(levelled.to_json()).level == Level(-17.5, MOST_GAIN_DB, "rms")
    assert json.loads(levelled.to_json())["format_version"] == 2
    plain = json.loads(small_head().to_json())
    assert plain["format_version"] == 1 and "level" not in plain
    assert GenreHead.from_json(json.dumps(plain)).level is None


def test_cards_keep_their_level_and_those_without_one_are_written_as_before() -> None:
    card = BundleCard(
        name="a", kind="classifier", labels=("x", "y"), sample_rate_hz=8_000, segment_samples=800, hop_samples=800
    )
    plain = json.loads(card.to_json())
    assert plain["format_version"] == 1 and "level" not in plain
    assert BundleCard.from_json(card.to_json(), "a").hearing_level is None
    levelled = dataclasses.replace(card, level=LEVEL.as_values())
    assert json.loads(levelled.to_json())["format_version"] == 2
    assert BundleCard.from_json(levelled.to_json(), "a").hearing_level == LEVEL
    with pytest.raises(BundleError, match="level"):
        dataclasses.replace(card, level={"target_db": 5})


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """A classifier that tells loud tracks from quiet ones, and has no level."""
    return str(save_toy(tmp_path / "toy.onnx"))


def test_published_and_exported_models_hear_tracks_as_they_are_unless_asked(toy: str) -> None:
    quiet, loud = sound() * np.float32(0.05), sound() * np.float32(8)
    as_it_is, levelled, off = Classifier(toy), Classifier(toy, level=-20), Classifier(toy, level="off")
    first, second = (as_it_is.classify(samples, sample_rate_hz=RATE_HZ).scores for samples in (quiet, loud))
    assert first != second
    first, second = (levelled.classify(samples, sample_rate_hz=RATE_HZ).scores for samples in (quiet, loud))
    assert first == pytest.approx(second, abs=1e-4)
    assert off.classify(loud, sample_rate_hz=RATE_HZ) == as_it_is.classify(loud, sample_rate_hz=RATE_HZ)

    # Results made at another level are not gone on with.
    assert len({model.model_sha256 for model in (as_it_is, levelled, Classifier(toy, level=-21))}) == 3


def test_a_track_that_is_too_quiet_is_left_unsure(toy: str) -> None:
    answer = Classifier(toy, level=-20).classify(sound() * np.float32(1e-4), sample_rate_hz=RATE_HZ)
    assert answer.genre == "unsure"
    assert sum(answer.scores.values()) == pytest.approx(1)
    assert any("too quiet to answer" in warning for warning in answer.warnings)


def test_the_default_head_gives_one_answer_at_any_gain(default_bundle_cache: Path) -> None:
    assert default_bundle_cache.is_dir()
    classifier = Classifier()
    waveform = sound(20.0)
    answers = [
        classifier.classify(waveform * np.float32(10 ** (gain_db / 20)), sample_rate_hz=RATE_HZ)
        for gain_db in (-30, 0, 10)
    ]
    for answer in answers:
        assert answer.scores == pytest.approx(answers[1].scores, abs=1e-3)
    assert classifier.classify(waveform * np.float32(1e-4), sample_rate_hz=RATE_HZ).genre == "unsure"


@pytest.mark.default_model
@pytest.mark.real_data
@pytest.mark.slow
def test_a_real_track_has_one_answer_at_every_gain(default_bundle_cache: Path, shared_data: Path) -> None:
    classifier = Classifier(threads=1)
    paths = sorted((shared_data / "gtzan-mini" / "genres").rglob("*.wav"))[::4]
    assert len(paths) == 25
    for path in paths:
        samples = audio.load(path, 16_000).waveform
        plain = classifier.classify(samples, sample_rate_hz=16_000)
        for gain_db in (-30, -12, 10):
            turned = classifier.classify(samples * np.float32(10 ** (gain_db / 20)), sample_rate_hz=16_000)
            if turned.reason == "too quiet":
                assert gain_db == -30
            else:
                assert (turned.genre, turned.reason) == (plain.genre, plain.reason), (path.name, gain_db)
                assert turned.scores == pytest.approx(plain.scores, abs=2e-3)
